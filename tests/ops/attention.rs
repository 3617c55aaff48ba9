//! Attention to all keys and in windows, and its biases.
use candle_core::{DType, Device, Tensor};
use fold::ops::{
    ConditionedAttention, Linear, LocalAttention, Norm, Rope, RopeAttention, attention, attention_reference,
    norm_rotate, norm_rotate_reference, pair_bias, pair_bias_reference, same_sequence_bias,
};
use proptest::prelude::*;

use crate::support::{
    Layout, Numbers, Part, Spread, channels, close, layout, precision, property, same_change, size, spread,
};

/// Channels of a head, those of the models among them.
fn head() -> impl Strategy<Value = usize> + Clone {
    prop::sample::select(vec![1, 4, 5, 8, 16, 24, 32, 48])
}

/// What is added to logits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bias {
    /// `[1, h, n, m]`.
    Pair,
    /// `[b, h, m, n]`, transposed.
    Turned,
    /// `[1, 1, n, 1]`.
    Query,
    /// `[b, 1, 1, m]`: zero or -1e9.
    HiddenKeys,
    /// `[1, h, n, m]`: -1e9 for whole rows, too.
    HiddenRows,
    /// `[1, h, n, m]`: up to 1e4, the keys of a query at least 64 apart, as f32 cannot tell closer ones well enough.
    Huge,
}

fn biases() -> impl Strategy<Value = Vec<Bias>> + Clone {
    let one = prop::sample::select(vec![
        Bias::Pair,
        Bias::Turned,
        Bias::Query,
        Bias::HiddenKeys,
        Bias::HiddenRows,
        Bias::Huge,
    ]);
    prop::collection::vec(one, 0..3)
}

impl Bias {
    fn tensor(self, numbers: &mut Numbers, [b, h, n, m]: [usize; 4]) -> candle_core::Result<Tensor> {
        match self {
            Self::Pair => numbers.tensor(&[1, h, n, m])? * 5.,
            Self::Turned => numbers.tensor(&[b, h, m, n])?.t(),
            Self::Query => numbers.tensor(&[1, 1, n, 1]),
            Self::HiddenKeys => (numbers.mask(&[b, 1, 1, m], 40)? - 1.)? * 1e9,
            Self::HiddenRows => {
                let rows = numbers.mask(&[1, h, n, 1], 30)?.broadcast_as((1, h, n, m))?;
                ((rows * numbers.mask(&[1, h, n, m], 30)?)? - 1.)? * 1e9
            }
            Self::Huge => {
                let value = |i: usize| (((i % m + i / m) * 7919 % 313) as f32 - 156.) * 64.;
                Tensor::from_vec((0..h * n * m).map(value).collect(), (1, h, n, m), &Device::Cpu)
            }
        }
    }

    fn hides(self) -> bool {
        matches!(self, Self::HiddenKeys | Self::HiddenRows)
    }
}

#[test]
fn attention_to_all() {
    let shape = (1..4usize, size(), size(), 1..4usize, head());
    property(64, (shape, biases(), any::<bool>(), layout(), any::<u64>()), |case| {
        let &((b, n, m, h, d), ref biases, gated, lie, seed) = case;
        let mut numbers = Numbers::new(seed);
        let q = lie.of(&numbers.tensor(&[b, n, h * d])?)?;
        let (k, v) = (lie.of(&numbers.tensor(&[b, m, h * d])?)?, numbers.tensor(&[b, m, h * d])?);
        let gate = if gated { Some(lie.of(&numbers.tensor(&[b, n, h * d])?)?) } else { None };
        // Two of a kind would hide what the other shows, or bring huge values together again.
        let distinct: Vec<Bias> =
            biases.iter().enumerate().filter(|(i, x)| !biases[..*i].contains(x)).map(|x| *x.1).collect();
        let arrays = distinct.iter().map(|x| x.tensor(&mut numbers, [b, h, n, m])).collect::<Result<Vec<_>, _>>()?;
        let hidden = distinct.iter().any(|x| x.hides());
        if hidden && distinct.contains(&Bias::Huge) {
            return Ok(()); // -1e9 and 1e4 is another -1e9: nothing that f32 defines
        }
        let wide = |x: &Tensor| x.to_dtype(precision(hidden));
        let wide_arrays = arrays.iter().map(wide).collect::<Result<Vec<_>, _>>()?;
        let got = attention(&q, &k, &v, &arrays.iter().collect::<Vec<_>>(), gate.as_ref(), h)?;
        let gate = gate.as_ref().map(wide).transpose()?;
        let biases: Vec<_> = wide_arrays.iter().collect();
        close(&got, &attention_reference(&wide(&q)?, &wide(&k)?, &wide(&v)?, &biases, gate.as_ref(), h)?)
    });
}

#[test]
fn conditioned_attention() {
    let biases = prop::sample::subsequence(vec![Bias::Pair, Bias::Turned, Bias::Query, Bias::HiddenKeys], 0..=4);
    let shape = (1..4usize, any::<bool>(), size(), channels(), channels(), 1..4usize, head());
    property(40, (shape, biases, any::<bool>(), layout(), any::<u64>()), |case| {
        let &((b, shared, n, c, c_s, h, d), ref biases, gated, lie, seed) = case;
        let mut numbers = Numbers::new(seed);
        let (to_heads, of_s) = (Part::Linear(c, h * d), Part::Linear(c_s, c));
        let mut parts = vec![
            ("ada_norm.norm_s", Part::Scale(c_s)),
            ("ada_norm.gain", of_s),
            ("ada_norm.shift", of_s),
            ("attention.q", to_heads),
            ("attention.k", to_heads),
            ("attention.v", to_heads),
            ("attention.out", Part::Linear(h * d, c)),
            ("out_gate", of_s),
        ];
        if gated {
            parts.push(("attention.gate", to_heads));
        }
        let layer = ConditionedAttention::load(c, c_s, d, h, &numbers.weights(&parts)?)?;
        let a = numbers.tensor(&[b, n, c])?;
        let s = lie.of(&numbers.tensor(&[if shared { 1 } else { b }, n, c_s])?)?;
        let arrays = biases.iter().map(|x| x.tensor(&mut numbers, [b, h, n, n])).collect::<Result<Vec<_>, _>>()?;
        let wide = precision(biases.iter().any(|x| x.hides()));
        let wide_arrays = arrays.iter().map(|x| x.to_dtype(wide)).collect::<Result<Vec<_>, _>>()?;
        let (biases, wide_biases): (Vec<_>, Vec<_>) = arrays.iter().zip(&wide_arrays).unzip();
        let condition = layer.condition_reference(&s.to_dtype(wide)?)?;
        let reference = |a: &Tensor| layer.add_with_reference(a, &condition, &wide_biases);
        same_change(&a, wide, |a| layer.add_to(a, &s, &biases), reference)
    });
}

/// A query that sees nothing gets the mean of the values.
#[test]
fn attention_to_nothing() {
    property(24, (size(), size(), head(), any::<u64>()), |&(n, m, d, seed)| {
        let mut numbers = Numbers::new(seed);
        let (q, k) = (numbers.tensor(&[1, n, d])?, numbers.tensor(&[1, m, d])?);
        let v = numbers.tensor(&[1, m, d])?;
        let hidden = Tensor::full(-1e9f32, (1, 1, 1, m), &Device::Cpu)?;
        let mean = v.to_dtype(DType::F64)?.mean_keepdim(1)?.broadcast_as((1, n, d))?;
        close(&attention(&q, &k, &v, &[&hidden], None, 1)?, &mean)
    });
}

#[test]
fn attention_in_windows() {
    let shape = (1..3usize, 1..4usize, 1..40usize, 1..4usize, head(), 1..20usize, 1..40usize);
    property(48, (shape, any::<bool>(), any::<bool>(), layout(), any::<u64>()), |case| {
        let &((b, n_block, last, h, d, n_query, n_key), shared, gated, lie, seed) = case;
        let n = (n_block - 1) * n_query + last.min(n_query);
        let mut numbers = Numbers::new(seed);
        let mut operand = || lie.of(&numbers.tensor(&[b, n, h * d])?);
        let (q, k, v, gate) = (operand()?, operand()?, operand()?, operand()?);
        let gate = gated.then_some(gate);
        let bias = (numbers.tensor(&[if shared { 1 } else { b }, n_block, h, n_query, n_key])? * 3.)?;
        let starts: Vec<usize> = (0..n_block).map(|i| (i * n_query * 3 / 4).min(n - 1)).collect();
        let op = LocalAttention { q: &q, k: &k, v: &v, gate: gate.as_ref(), bias: &bias, starts: &starts };
        let wide = |x: &Tensor| x.to_dtype(precision(false));
        let (q, k, v, bias) = (wide(&q)?, wide(&k)?, wide(&v)?, wide(&bias)?);
        let gate = gate.as_ref().map(wide).transpose()?;
        let plain = LocalAttention { q: &q, k: &k, v: &v, gate: gate.as_ref(), bias: &bias, starts: &starts };
        close(&op.forward()?, &plain.forward_reference()?)
    });
}

#[test]
fn rotary_attention() {
    let shape = (1..3usize, size(), 1..4usize, prop::sample::select(vec![2, 4, 6, 16, 34, 64]));
    let case = (shape, 1..4usize, any::<bool>(), spread(), layout(), any::<u64>());
    property(32, case, |&((b, n, h, d), sequences, normed, spread, lie, seed)| {
        // Of a flat row the norms leave nothing to compare but rounding.
        let spread = if spread == Spread::Flat { Spread::Usual } else { spread };
        let (mut numbers, c) = (Numbers::new(seed), h * d);
        let square = Part::Linear(c, c);
        let mut parts = vec![("norm", Part::Norm(c)), ("q", square), ("k", square), ("v", square), ("out", square)];
        if normed {
            parts.extend([("q_norm", Part::Scale(c)), ("k_norm", Part::Scale(c))]);
        }
        let w = numbers.weights(&parts)?;
        let (layer, norm) = (RopeAttention::load(c, h, &w)?, Norm::load(c, &w.at("norm"))?);
        let rope = Rope::new(n + 3, d, &Device::Cpu)?;
        let x = lie.of(&numbers.spread(&[b, n, c], spread)?)?;
        let wide = x.to_dtype(precision(false))?;
        let ids: Vec<u32> = (0..b * n).map(|i| (i % n * sequences / n) as u32).collect();
        let bias = same_sequence_bias(&Tensor::from_vec(ids, (b, n), &Device::Cpu)?)?;
        let wide_bias = bias.to_dtype(wide.dtype())?;
        for norm in [None, Some(&norm)] {
            close(&norm_rotate(&x, norm, &rope, h)?, &norm_rotate_reference(&wide, norm, &rope, h)?)?;
        }
        for (bias, wide_bias) in [(None, None), (Some(&bias), Some(&wide_bias))] {
            close(&layer.forward(&x, &rope, bias)?, &layer.forward_reference(&wide, &rope, wide_bias)?)?;
        }
        Ok(())
    });
}

#[test]
fn biases_of_pairs() {
    let case = (1..3usize, size(), size(), channels(), 1..17usize, spread(), layout(), any::<u64>());
    property(48, case, |&(b, n, m, c, h, spread, lie, seed)| {
        // The norm of a flat row is zero but for rounding, and without an offset so is its bias.
        let spread = if spread == Spread::Flat { Spread::Usual } else { spread };
        let lie = if lie == Layout::Turned { Layout::Plain } else { lie };
        let mut numbers = Numbers::new(seed);
        let w = numbers.weights(&[("norm", Part::Norm(c)), ("bias", Part::Linear(c, h))])?;
        let (norm, lin) = (Norm::load(c, &w.at("norm"))?, Linear::load(c, h, &w.at("bias"))?);
        let z = lie.of(&numbers.spread(&[b, n, m, c], spread)?)?;
        let wide = z.to_dtype(precision(false))?;
        for norm in [None, Some(&norm)] {
            close(&pair_bias(&z, norm, &lin)?, &pair_bias_reference(&wide, norm, &lin)?)?;
        }
        close(&pair_bias(&z.get(0)?, None, &lin)?, &pair_bias_reference(&wide.get(0)?, None, &lin)?)
    });
}
