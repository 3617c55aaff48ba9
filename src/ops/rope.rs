//! Self-attention with rotary positions, as ESM3 has it: `esm/layers/attention.py` (`MultiHeadAttention`) and `rotary.py`
//! (`RotaryEmbedding`) of esm 3.2.1; the rotation is that of RoFormer (Su et al. 2021, eq. 34) in halves.
use candle_core::{DType, Device, Result, Tensor};

use super::attention::{attention, attention_reference};
use super::cpu::pointwise::norm_rows;
use super::cpu::rope::rotate_rows;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, served};
use super::cpu::{BAND, by_bands};
use super::layer_norm::norm_linear_reference;
use super::linear::{expect_channels, project};
use super::{Linear, Norm, metal};
use crate::weights::Weights;

/// Angles shrink from one radian a position to this part of it.
const BASE: f64 = 10_000.;

/// Cosine and sine of the angle of each position and pair of channels; made once for a model and its lengths.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor, // [n, d / 2]
    sin: Tensor, // [n, d / 2]
    /// Of the sequences that are packed one behind the other.
    packed: Option<Vec<usize>>,
}

impl Rope {
    /// For positions `0..n` and heads of `d` channels (even): the angle of pair i is `position * 10000^(-2 i / d)`.
    ///
    /// Rounded to f32 where the official code does: the exponent, the power, its inverse and the angle.
    pub fn new(n: usize, d: usize, device: &Device) -> Result<Self> {
        Self::of(0..n, n, d, device)
    }

    /// For sequences of these lengths, one behind the other in a single row: each has positions from 0, and attends to itself alone.
    pub fn packed(lengths: &[usize], d: usize, device: &Device) -> Result<Self> {
        let rope = Self::of(lengths.iter().flat_map(|n| 0..*n), lengths.iter().sum(), d, device)?;
        Ok(Self { packed: Some(lengths.to_vec()), ..rope })
    }

    fn of(positions: impl Iterator<Item = usize>, n: usize, d: usize, device: &Device) -> Result<Self> {
        if d == 0 || !d.is_multiple_of(2) {
            candle_core::bail!("rotary positions in heads of {d} channels: the number must be even")
        }
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / d as f32;
            1. / BASE.powf(f64::from(exponent)) as f32
        };
        let frequencies: Vec<f32> = (0..d / 2).map(frequency).collect();
        let angles = positions.flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
        let table = |values| Tensor::from_vec(values, (n, d / 2), device);
        Ok(Self { cos: table(cos)?, sin: table(sin)?, packed: None })
    }

    /// The first `n` positions for `c` channels in heads.
    fn part(&self, n: usize, c: usize, n_head: usize) -> Result<[Tensor; 2]> {
        let (most, half) = self.cos.dims2()?;
        if n > most || c != 2 * half * n_head {
            candle_core::bail!(
                "rotary positions of {most} x {half} for {n} positions of {c} channels in {n_head} heads"
            )
        }
        Ok([self.cos.narrow(0, 0, n)?, self.sin.narrow(0, 0, n)?])
    }
}

/// Normalises `x` `[b, n, h * d]` over its whole width, if there is a norm, then turns channels i and i + d / 2 of each
/// head by the angle of their position (of the second dimension, from 0).
pub fn norm_rotate(x: &Tensor, norm: Option<&Norm>, rope: &Rope, n_head: usize) -> Result<Tensor> {
    let (_, n, c) = x.dims3()?;
    let [cos, sin] = rope.part(n, c, n_head)?;
    if let Some(norm) = norm {
        expect_channels(x, norm.c(), "layer norm")?;
    }
    if metal::served(x) {
        let affine = norm.map(|norm| norm.tensors(x)).transpose()?;
        return metal::norm_rotate(x, affine.as_ref(), &cos, &sin)?.run();
    }
    if !served(x) {
        return norm_rotate_reference(x, norm, rope, n_head);
    }
    let (x, isa) = (x.contiguous()?, Isa::best());
    let (cos, sin) = (Values::of(&cos)?, Values::of(&sin)?);
    let affine = norm.map(Norm::affine).transpose()?;
    let mut turned = vec![0.; x.elem_count()];
    {
        let values = Values::of(&x)?;
        let rows = (BAND / c).max(1);
        by_bands(&mut turned, rows * c, |i, turned| {
            let values = &values[i * rows * c..][..turned.len()];
            match affine {
                Some(affine) => norm_rows(isa, values, c, affine, turned),
                None => turned.copy_from_slice(values),
            }
            rotate_rows(isa, turned, c, (&cos, &sin), c / n_head, (i * rows, n));
        });
    }
    Tensor::from_vec(turned, x.dims(), x.device())
}

/// `norm_rotate` in plain tensor operations.
pub fn norm_rotate_reference(x: &Tensor, norm: Option<&Norm>, rope: &Rope, n_head: usize) -> Result<Tensor> {
    let (b, n, c) = x.dims3()?;
    let (half, [cos, sin]) = (c / n_head / 2, rope.part(n, c, n_head)?);
    let x = norm.map_or(Ok(x.clone()), |norm| norm.forward_reference(x))?;
    let x = x.reshape((b, n, n_head, 2 * half))?;
    let (left, right) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let [cos, sin] = [cos, sin].map(|table| table.unsqueeze(1)?.to_dtype(x.dtype())); // [n, 1, d / 2]
    let (cos, sin) = (cos?, sin?);
    let turned = [
        (left.broadcast_mul(&cos)? - right.broadcast_mul(&sin)?)?,
        (right.broadcast_mul(&cos)? + left.broadcast_mul(&sin)?)?,
    ];
    Tensor::cat(&turned, 3)?.reshape((b, n, c))
}

/// What hides from each other the positions of different sequences packed in one row.
///
/// `sequence_id` `[b, n]`, u32 or i64 -> `[b, 1, n, n]`: 0 where the numbers are equal, else -1e9.
pub fn same_sequence_bias(sequence_id: &Tensor) -> Result<Tensor> {
    let same = sequence_id.unsqueeze(2)?.broadcast_eq(&sequence_id.unsqueeze(1)?)?;
    same.to_dtype(DType::F32)?.affine(1e9, -1e9)?.unsqueeze(1)
}

/// `out(attention(rotate(q_norm(q)), rotate(k_norm(k)), v))`, `q`, `k` and `v` dense layers of `norm(x)`.
#[derive(Debug, Clone)]
pub struct RopeAttention {
    norm: Norm,
    q: Linear, // c -> c, as all here
    k: Linear,
    v: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    out: Linear,
    n_head: usize,
}

impl RopeAttention {
    /// Reads `norm`, `q`, `k`, `v` and `out`, and `q_norm` and `k_norm` if the file has them.
    pub fn load(c: usize, n_head: usize, w: &Weights) -> Result<Self> {
        let linear = |name: &str| Linear::load(c, c, &w.at(name));
        let norm = |name: &str| w.at(name).has("weight").then(|| Norm::load(c, &w.at(name))).transpose();
        Ok(Self {
            norm: Norm::load(c, &w.at("norm"))?,
            q: linear("q")?,
            k: linear("k")?,
            v: linear("v")?,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            out: linear("out")?,
            n_head,
        })
    }

    /// `x` `[b, n, c]`, `bias` broadcastable to `[b, h, n, n]` (see [`same_sequence_bias`]) -> what the caller adds to `x`. With
    /// [`Rope::packed`], b is 1, there is no bias, and what a sequence gets does not depend on those beside it.
    pub fn forward(&self, x: &Tensor, rope: &Rope, bias: Option<&Tensor>) -> Result<Tensor> {
        let [q, k, v] = project(x, Some(&self.norm), [&self.q, &self.k, &self.v])?;
        let q = norm_rotate(&q, self.q_norm.as_ref(), rope, self.n_head)?;
        let k = norm_rotate(&k, self.k_norm.as_ref(), rope, self.n_head)?;
        let Some(lengths) = &rope.packed else {
            return self.out.forward(&attention(&q, &k, &v, bias.as_slice(), None, self.n_head)?);
        };
        if bias.is_some() || q.dim(0)? != 1 || q.dim(1)? != lengths.iter().sum::<usize>() {
            candle_core::bail!("attention of {:?} to packed sequences of {lengths:?} rows", q.dims())
        }
        let c = q.dim(2)?;
        let mut attended = Vec::new();
        let mut start = 0;
        // Sequences of one length that follow each other are a batch.
        for run in lengths.chunk_by(|a, b| a == b) {
            let rows = run.len() * run[0];
            let of = |x: &Tensor| x.narrow(1, start, rows)?.reshape((run.len(), run[0], c));
            attended.push(attention(&of(&q)?, &of(&k)?, &of(&v)?, &[], None, self.n_head)?.reshape((1, rows, c))?);
            start += rows;
        }
        self.out.forward(&Tensor::cat(&attended, 1)?)
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, x: &Tensor, rope: &Rope, bias: Option<&Tensor>) -> Result<Tensor> {
        let part = |lin: &Linear| norm_linear_reference(x, &self.norm, lin);
        let turned = |x: Tensor, norm: &Option<Norm>| norm_rotate_reference(&x, norm.as_ref(), rope, self.n_head);
        let (q, k) = (turned(part(&self.q)?, &self.q_norm)?, turned(part(&self.k)?, &self.k_norm)?);
        let hidden = rope.packed.as_ref().map(|lengths| {
            let ids = lengths.iter().zip(0u32..).flat_map(|(n, id)| std::iter::repeat_n(id, *n)).collect::<Vec<_>>();
            same_sequence_bias(&Tensor::from_vec(ids, x.dims3().map(|(b, n, _)| (b, n))?, x.device())?)
        });
        let hidden = hidden.transpose()?;
        let bias: Vec<&Tensor> = bias.into_iter().chain(&hidden).collect();
        let o = attention_reference(&q, &k, &part(&self.v)?, &bias, None, self.n_head)?;
        self.out.forward_reference(&o)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa};
    use crate::weights::Param;

    const CPU: Device = Device::Cpu;

    #[rustfmt::skip]
    const OFFICIAL: [[f32; 12]; 5] = [
        [-2.71739, 2.13559, -0.75828, -1.13582, 2.44102, -2.69811, 1.14863, -0.739, -1.11655, 2.46029, -2.67884, 1.1679],
        [0.02148, -0.26618, -2.18064, 3.61752, -4.41746, 0.05255, 3.64724, -2.14956, 3.6486, -4.38638, 0.08363, 3.67832],
        [2.0256, -1.97697, 1.47925, -0.06512, 0.03713, 2.00624, -2.2828, 1.45989, -0.08448, 0.01777, 1.98688, -2.30216],
        [-2.52613, 2.21563, -1.21339, 0.57988, 0.22883, -2.43839, 2.38082, -1.12565, 0.66762, 0.31656, -2.35066, 2.46856],
        [2.58117, -2.49904, 1.43438, 0.27781, -1.1054, 2.55623, -2.26954, 1.40943, 0.25286, -1.13035, 2.53128, -2.29448],
    ];

    /// Sizes that fill no vector; a length shorter than the table.
    #[test]
    fn rotations_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, h, d) in [(1, 1, 1, 2), (2, 5, 3, 6), (1, 33, 2, 24), (3, 17, 1, 64), (2, 260, 4, 34)] {
                let (x, rope) = (noise.tensor(&[b, n, h * d]), Rope::new(n + 3, d, &CPU)?);
                for norm in [None, Some(noise.norm(h * d))] {
                    let norm = norm.as_ref();
                    let want = norm_rotate_reference(&x, norm, &rope, h)?;
                    close(&format!("{b} x {n}, {h} x {d}"), &norm_rotate(&x, norm, &rope, h)?, &want, 2e-6)?;
                }
            }
            Ok(())
        })
    }

    /// Products of a turned query and a turned key depend on how far they are apart, not on where they are.
    #[test]
    fn only_distances_matter() -> Result<()> {
        let (n, d) = (40, 16);
        let mut noise = Noise::new(2);
        let [q, k] = [(); 2].map(|()| noise.tensor(&[1, 1, d]).broadcast_as((1, n, d)));
        let rope = Rope::new(n, d, &CPU)?;
        let (q, k) = (norm_rotate(&q?, None, &rope, 1)?, norm_rotate(&k?, None, &rope, 1)?);
        let logits = q.matmul(&k.t()?)?.squeeze(0)?.to_vec2::<f32>()?;
        for (i, row) in logits.iter().enumerate() {
            for (j, v) in row.iter().enumerate().skip(i) {
                assert!((v - logits[0][j - i]).abs() < 2e-4, "{i} {j}: {v}, {}", logits[0][j - i]);
            }
        }
        assert!((logits[0][1] - logits[1][0]).abs() > 1e-2, "the direction matters");
        Ok(())
    }

    /// The first pair of a head turns by one radian a position, the last by almost 10000^-1.
    #[test]
    fn angles_of_the_first_and_the_last_pair() -> Result<()> {
        let rope = Rope::new(1001, 64, &CPU)?;
        let at = |t: &Tensor, p: usize, i: usize| t.get(p)?.get(i)?.to_scalar::<f32>();
        for p in [0usize, 1, 37, 1000] {
            assert_eq!(at(&rope.cos, p, 0)?, (p as f64).cos() as f32);
            let slow = p as f64 * 1e4f64.powf(-62. / 64.);
            assert!((f64::from(at(&rope.sin, p, 31)?) - slow.sin()).abs() < 1e-7);
        }
        assert!(Rope::new(4, 7, &CPU).is_err());
        Ok(())
    }

    #[test]
    fn attention_with_and_without_norms_and_bias() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(3);
            for (b, n, h, d) in [(1, 1, 1, 2), (2, 9, 3, 8), (1, 66, 2, 64), (3, 40, 4, 16)] {
                let c = h * d;
                let (x, rope) = (noise.tensor(&[b, n, c]), Rope::new(n, d, &CPU)?);
                let id: Vec<i64> = (0..b * n).map(|i| if i % n < n / 3 { -1 } else { (i / n) as i64 }).collect();
                let bias = same_sequence_bias(&Tensor::from_vec(id, (b, n), &CPU)?)?;
                for normed in [true, false] {
                    let layer = RopeAttention {
                        norm: noise.norm(c),
                        q: noise.linear_without_bias(c, c),
                        k: noise.linear_without_bias(c, c),
                        v: noise.linear(c, c),
                        q_norm: normed.then(|| noise.norm(c)),
                        k_norm: normed.then(|| noise.norm(c)),
                        out: noise.linear(c, c),
                        n_head: h,
                    };
                    for bias in [None, Some(&bias)] {
                        let want = layer.forward_reference(&x, &rope, bias)?;
                        close(&format!("{b} x {n}, {h} x {d}"), &layer.forward(&x, &rope, bias)?, &want, 3e-6)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// A packed row gives what its sequences give alone, when each starts at the position it has there.
    #[test]
    fn packed_sequences_do_not_see_each_other() -> Result<()> {
        let mut noise = Noise::new(4);
        let (n, first, h, d) = (23, 9, 2, 8);
        let layer = RopeAttention {
            norm: noise.norm(h * d),
            q: noise.linear(h * d, h * d),
            k: noise.linear(h * d, h * d),
            v: noise.linear(h * d, h * d),
            q_norm: None,
            k_norm: None,
            out: noise.linear(h * d, h * d),
            n_head: h,
        };
        let (x, rope) = (noise.tensor(&[1, n, h * d]), Rope::new(n, d, &CPU)?);
        let id: Vec<u32> = (0..n).map(|i| u32::from(i >= first)).collect();
        let packed = layer.forward(&x, &rope, Some(&same_sequence_bias(&Tensor::from_vec(id, (1, n), &CPU)?)?))?;
        let alone = layer.forward(&x.narrow(1, 0, first)?, &rope, None)?;
        close("first", &packed.narrow(1, 0, first)?, &alone, 2e-6)?;
        // Distances alone matter, so the second may start at 0.
        let alone = layer.forward(&x.narrow(1, first, n - first)?, &rope, None)?;
        close("second", &packed.narrow(1, first, n - first)?, &alone, 1e-5)
    }

    /// Sequences one behind the other, some of one length: to the bit what each gives alone, and what the reference gives.
    #[test]
    fn packed_sequences_give_what_they_give_alone() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(6);
            let (lengths, h, d) = ([5, 9, 9, 1, 33, 17], 3, 8);
            let c = h * d;
            let layer = RopeAttention {
                norm: noise.norm(c),
                q: noise.linear_without_bias(c, c),
                k: noise.linear(c, c),
                v: noise.linear(c, c),
                q_norm: Some(noise.norm(c)),
                k_norm: None,
                out: noise.linear(c, c),
                n_head: h,
            };
            let x = noise.tensor(&[1, lengths.iter().sum::<usize>(), c]);
            let rope = Rope::packed(&lengths, d, &CPU)?;
            let packed = layer.forward(&x, &rope, None)?;
            close("packed", &packed, &layer.forward_reference(&x, &rope, None)?, 3e-6)?;
            let mut start = 0;
            for n in lengths {
                let alone = layer.forward(&x.narrow(1, start, n)?.contiguous()?, &Rope::new(n, d, &CPU)?, None)?;
                let beside = packed.narrow(1, start, n)?.flatten_all()?.to_vec1::<f32>()?;
                assert!(beside == alone.flatten_all()?.to_vec1::<f32>()?, "{n} at {start}");
                start += n;
            }
            assert!(layer.forward(&x.narrow(1, 1, 40)?, &rope, None).is_err());
            Ok(())
        })
    }

    /// esm 3.2.1.post1 `MultiHeadAttention(12, 2)` in torch 2.15 on the same made-up numbers, sequence ids 0 0 1 1 1.
    #[test]
    fn as_the_official_attention() -> Result<()> {
        let made = |seed: usize, dims: &[usize], scale: f32, offset: f32| {
            let value = |i: usize| (((i * 37 + seed * 11) % 101) as f32 / 101. - 0.5) * scale + offset;
            (0..dims.iter().product()).map(value).collect::<Vec<f32>>()
        };
        let param = |seed, dims: &[usize], offset| Param::from_vec(made(seed, dims, 1., offset), dims);
        let linear = |seed| Linear::new(param(seed, &[12, 12], 0.)?, None);
        let layer = RopeAttention {
            norm: Norm::new(Some(param(1, &[12], 1.)?), Some(param(2, &[12], 0.)?), 12),
            q: linear(3)?,
            k: linear(4)?,
            v: linear(5)?,
            q_norm: Some(Norm::new(Some(param(6, &[12], 1.)?), None, 12)),
            k_norm: Some(Norm::new(Some(param(7, &[12], 1.)?), None, 12)),
            out: linear(8)?,
            n_head: 2,
        };
        let x = Tensor::from_vec(made(9, &[5, 12], 4., 0.), (1, 5, 12), &CPU)?;
        let bias = same_sequence_bias(&Tensor::new(&[[0u32, 0, 1, 1, 1]], &CPU)?)?;
        let got = layer.forward(&x, &Rope::new(5, 6, &CPU)?, Some(&bias))?;
        close("official", &got.squeeze(0)?, &Tensor::new(&OFFICIAL, &CPU)?, 3e-6)
    }

    #[test]
    fn another_width_or_length_is_refused() -> Result<()> {
        let (x, rope) = (Noise::new(5).tensor(&[1, 4, 16]), Rope::new(3, 8, &CPU)?);
        assert!(norm_rotate(&x, None, &rope, 2).is_err());
        let short = x.narrow(1, 0, 3)?;
        assert!(norm_rotate(&short, None, &rope, 1).is_err());
        assert!(norm_rotate(&short, Some(&Norm::plain(8)), &rope, 2).is_err());
        assert_eq!(norm_rotate(&short, None, &rope, 2)?.dim(2)?, 16);
        Ok(())
    }
}
