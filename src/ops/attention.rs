//! Gated multi-head attention with additive biases: the inner part of AF3 SI Alg. 14, 15 and 24, AF2 SI Alg. 7 and 8.
use candle_core::{Result, Tensor};

use super::cpu;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, served};
use super::elementwise::{sigmoid_gate_reference, softmax_reference};
use super::layer_norm::norm_linear_reference;
use super::linear::{expect_channels, project};
use super::{Linear, Norm, metal};
use crate::weights::Weights;

/// Projections to queries, keys and values, attention, optional gate, output projection.
#[derive(Debug, Clone)]
pub struct Attention {
    /// To queries, `c_q -> n_head * c_head`.
    pub q: Linear,
    /// To keys, `c_kv -> n_head * c_head`.
    pub k: Linear,
    /// To values, `c_kv -> n_head * c_head`.
    pub v: Linear,
    /// To the gate before its sigmoid, `c_q -> n_head * c_head`.
    pub gate: Option<Linear>,
    /// From the heads side by side, `n_head * c_head -> c_q`.
    pub out: Linear,
    /// Heads.
    pub n_head: usize,
}

impl Attention {
    /// Reads `q`, `k`, `v`, `out`, and `gate` if the file has one.
    pub fn load(c_q: usize, c_kv: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        let c = c_head * n_head;
        let gate = w.at("gate");
        Ok(Self {
            q: Linear::load(c_q, c, &w.at("q"))?,
            k: Linear::load(c_kv, c, &w.at("k"))?,
            v: Linear::load(c_kv, c, &w.at("v"))?,
            gate: gate.has("weight").then(|| Linear::load(c_q, c, &gate)).transpose()?,
            out: Linear::load(c, c_q, &w.at("out"))?,
            n_head,
        })
    }

    /// `q_x` `[b, n, c_q]`, `kv_x` `[b, m, c_kv]`, each of `biases` broadcastable to `[b, h, n, m]` -> `[b, n, c_q]`.
    pub fn forward(&self, q_x: &Tensor, kv_x: &Tensor, biases: &[&Tensor]) -> Result<Tensor> {
        self.out.forward(&self.heads(q_x, kv_x, biases)?)
    }

    /// As `forward`, but what comes before the output projection: the gated heads `[b, n, h * c_head]`.
    pub fn heads(&self, q_x: &Tensor, kv_x: &Tensor, biases: &[&Tensor]) -> Result<Tensor> {
        let (q, k, v, gate) = match &self.gate {
            Some(gate) if q_x.id() == kv_x.id() => {
                let [q, k, v, gate] = project(q_x, None, [&self.q, &self.k, &self.v, gate])?;
                (q, k, v, Some(gate))
            }
            gate => {
                let [k, v] = project(kv_x, None, [&self.k, &self.v])?;
                (self.q.forward(q_x)?, k, v, gate.as_ref().map(|g| g.forward(q_x)).transpose()?)
            }
        };
        attention(&q, &k, &v, biases, gate.as_ref(), self.n_head)
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, q_x: &Tensor, kv_x: &Tensor, biases: &[&Tensor]) -> Result<Tensor> {
        let q = self.q.forward_reference(q_x)?;
        let (k, v) = (self.k.forward_reference(kv_x)?, self.v.forward_reference(kv_x)?);
        let gate = self.gate.as_ref().map(|g| g.forward_reference(q_x)).transpose()?;
        self.out.forward_reference(&attention_reference(&q, &k, &v, biases, gate.as_ref(), self.n_head)?)
    }
}

/// `softmax(q k^T / sqrt(d) + biases) v`, head by head, times `sigmoid(gate)`.
///
/// `q` and `gate` `[b, n, h * d]`, `k` and `v` `[b, m, h * d]`, each of `biases` broadcastable to `[b, h, n, m]` (a
/// broadcast view costs nothing) -> `[b, n, h * d]`. A row whose biases are -1e9 throughout gives the mean of `v`.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    biases: &[&Tensor],
    gate: Option<&Tensor>,
    n_head: usize,
) -> Result<Tensor> {
    if metal::served(q) {
        let core = metal::Attention { q, k, v, gate, n_head };
        return match core.served(biases.len()) {
            true => core.to_all(biases)?.run(),
            false => attention_reference(q, k, v, biases, gate, n_head),
        };
    }
    if !served(q) {
        return attention_reference(q, k, v, biases, gate, n_head);
    }
    let ((b, n, c), (_, m, _)) = (q.dims3()?, k.dims3()?);
    if k.dims() != [b, m, c] || v.dims() != k.dims() || gate.is_some_and(|g| g.dims() != q.dims()) || m == 0 {
        candle_core::bail!("attention of {:?} to {:?} and {:?}", q.dims(), k.dims(), v.dims())
    }
    if c == 0 || !c.is_multiple_of(n_head) {
        candle_core::bail!("{c} channels in {n_head} heads")
    }
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let gate = gate.map(Tensor::contiguous).transpose()?;
    let mut heads = vec![0.; b * n * c];
    {
        let values = (Values::of(&q)?, Values::of(&k)?, Values::of(&v)?);
        let gate = gate.as_ref().map(Values::of).transpose()?;
        let sizes = [b, n, m, n_head, c / n_head];
        attend([&values.0, &values.1, &values.2], gate.as_deref(), biases, sizes, &mut heads)?;
    }
    Tensor::from_vec(heads, (b, n, c), q.device())
}

/// `attention` on the CPU, of the values of queries, keys and values; `sizes` are b, n, m, h and d.
pub(super) fn attend(
    [q, k, v]: [&[f32]; 3],
    gate: Option<&[f32]>,
    biases: &[&Tensor],
    sizes: [usize; 5],
    dst: &mut [f32],
) -> Result<()> {
    let [b, n, m, n_head, _] = sizes;
    let mut views = Vec::with_capacity(biases.len());
    for bias in biases {
        let view = bias.broadcast_as((b, n_head, n, m))?;
        let strides = view.stride();
        views.push(if strides[2] == 0 || strides[3] == 1 { view } else { view.contiguous()? });
    }
    let arrays = views.iter().map(Values::strided).collect::<Result<Vec<_>>>()?;
    let views = views.iter().zip(&arrays);
    let biases: Vec<_> = views
        .map(|(view, values)| cpu::attention::Bias { values, strides: [0, 1, 2, 3].map(|i| view.stride()[i]) })
        .collect();
    cpu::attention::Attention { q, k, v, biases: &biases, gate, sizes }.run(Isa::best(), Shared::new(dst));
    Ok(())
}

/// `attention` in plain tensor operations.
pub fn attention_reference(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    biases: &[&Tensor],
    gate: Option<&Tensor>,
    n_head: usize,
) -> Result<Tensor> {
    let (b, n, c) = q.dims3()?;
    let heads = |x: &Tensor| {
        let (b, m, _) = x.dims3()?;
        x.reshape((b, m, n_head, c / n_head))?.transpose(1, 2)?.contiguous() // [b, h, m, d]
    };
    let scale = 1. / ((c / n_head) as f64).sqrt();
    let mut logits = (heads(q)? * scale)?.matmul(&heads(k)?.t()?)?; // [b, h, n, m]
    for bias in biases {
        logits = logits.broadcast_add(bias)?;
    }
    let o = softmax_reference(&logits)?.matmul(&heads(v)?)?; // [b, h, n, d]
    let o = o.transpose(1, 2)?.contiguous()?.reshape((b, n, c))?;
    match gate {
        Some(g) => sigmoid_gate_reference(&o, g),
        None => Ok(o),
    }
}

/// What is added to attention logits for a pair representation: `lin(norm(z))`, heads first.
///
/// `z` `[n, m, c]` or `[b, n, m, c]` -> `[h, n, m]` or `[b, h, n, m]`; the norm may be done already.
pub fn pair_bias(z: &Tensor, norm: Option<&Norm>, lin: &Linear) -> Result<Tensor> {
    expect_channels(z, lin.k(), "pair bias")?;
    if metal::served(z) && matches!(z.rank(), 3 | 4) {
        return pair_bias_on_metal(z, norm, lin);
    }
    let (&[.., n, m, _], true) = (z.dims(), served(z) && matches!(z.rank(), 3 | 4)) else {
        return pair_bias_reference(z, norm, lin);
    };
    let mut dims = z.dims().to_vec();
    let rank = dims.len();
    dims.splice(rank - 3.., [lin.n(), n, m]);
    let z = z.contiguous()?;
    let mut bias = vec![0.; z.elem_count() / lin.k() * lin.n()];
    {
        let values = Values::of(&z)?;
        let norm = norm.map(Norm::affine).transpose()?;
        cpu::pair::bias(Isa::best(), &values, norm, lin.dense()?, n * m, Shared::new(&mut bias));
    }
    Tensor::from_vec(bias, dims, z.device())
}

/// `pair_bias` in blocks of rows, each turned into planes as soon as it is made.
fn pair_bias_on_metal(z: &Tensor, norm: Option<&Norm>, lin: &Linear) -> Result<Tensor> {
    if z.rank() == 4 {
        let samples = (0..z.dim(0)?).map(|i| pair_bias_on_metal(&z.get(i)?, norm, lin));
        return Tensor::stack(&samples.collect::<Result<Vec<_>>>()?, 0);
    }
    let ((n, m, c), h) = (z.dims3()?, lin.n());
    let bias = Tensor::zeros((h, n * m), z.dtype(), z.device())?;
    for (start, len) in metal::blocks(n, m * (c + h)) {
        let rows = z.narrow(0, start, len)?;
        let rows = norm.map_or(Ok(rows.clone()), |norm| norm.forward(&rows))?;
        let rows = lin.forward(&rows)?.reshape((len * m, h))?;
        metal::planes(&bias.narrow(1, start * m, len * m)?, &rows, None, None)?.run()?;
    }
    bias.reshape((h, n, m))
}

/// `pair_bias` in plain tensor operations.
pub fn pair_bias_reference(z: &Tensor, norm: Option<&Norm>, lin: &Linear) -> Result<Tensor> {
    let bias = match norm {
        Some(norm) => norm_linear_reference(z, norm, lin)?,
        None => lin.forward_reference(z)?,
    };
    match bias.rank() {
        3 => bias.permute((2, 0, 1))?.contiguous(),
        _ => bias.permute((0, 3, 1, 2))?.contiguous(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa};

    #[test]
    fn attention_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, m, h, d) in [
                (1, 1, 1, 1, 4),
                (2, 5, 17, 3, 8),
                (1, 33, 31, 2, 24),
                (2, 65, 65, 1, 48),
                (3, 76, 76, 4, 32),
                (1, 2, 300, 16, 16),
            ] {
                let (q, gate) = (noise.tensor(&[b, n, h * d]), noise.tensor(&[b, n, h * d]));
                let (k, v) = (noise.tensor(&[b, m, h * d]), noise.tensor(&[b, m, h * d]));
                let hidden = noise.mask(&[b, 1, 1, m]).affine(1e9, -1e9)?;
                let pair = (noise.tensor(&[1, h, n, m]) * 5.)?;
                let turned = noise.tensor(&[b, h, m, n]).t()?;
                for biases in [vec![], vec![&hidden], vec![&pair], vec![&hidden, &pair, &turned]] {
                    let what = format!("{b} x {n} x {m}, {h} heads of {d}, {} biases", biases.len());
                    for gate in [None, Some(&gate)] {
                        let got = attention(&q, &k, &v, &biases, gate, h)?;
                        close(&what, &got, &attention_reference(&q, &k, &v, &biases, gate, h)?, 3e-6)?;
                    }
                }
            }
            Ok(())
        })
    }

    #[test]
    fn large_logits_and_hidden_rows() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(2);
            let (q, k, v) = (noise.tensor(&[1, 18, 16]), noise.tensor(&[1, 21, 16]), noise.tensor(&[1, 21, 16]));
            let large = (noise.tensor(&[1, 2, 18, 21]) * 1e4)?;
            let nothing = Tensor::full(-1e9f32, (1, 1, 1, 21), q.device())?;
            for bias in [&large, &nothing] {
                let got = attention(&q, &k, &v, &[bias], None, 2)?;
                close("attention", &got, &attention_reference(&q, &k, &v, &[bias], None, 2)?, 1e-3)?;
            }
            Ok(())
        })
    }

    #[test]
    fn biases_of_pairs() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(4);
            for (dims, c, h) in
                [(vec![1, 1], 4, 1), (vec![5, 7], 16, 4), (vec![2, 33, 31], 128, 16), (vec![2, 90, 90], 24, 3)]
            {
                let z = noise.tensor(&[&dims[..], &[c]].concat());
                let (norm, lin) = (noise.norm(c), noise.linear(c, h));
                for norm in [None, Some(&norm)] {
                    close("bias", &pair_bias(&z, norm, &lin)?, &pair_bias_reference(&z, norm, &lin)?, 3e-6)?;
                }
            }
            Ok(())
        })
    }

    #[test]
    fn layer() -> Result<()> {
        let mut noise = Noise::new(3);
        let layer = Attention {
            q: noise.linear(24, 32),
            k: noise.linear_without_bias(24, 32),
            v: noise.linear_without_bias(24, 32),
            gate: Some(noise.linear_without_bias(24, 32)),
            out: noise.linear_without_bias(32, 24),
            n_head: 4,
        };
        let (x, y) = (noise.tensor(&[2, 19, 24]), noise.tensor(&[2, 7, 24]));
        close("to itself", &layer.forward(&x, &x, &[])?, &layer.forward_reference(&x, &x, &[])?, 3e-6)?;
        close("to others", &layer.forward(&x, &y, &[])?, &layer.forward_reference(&x, &y, &[])?, 3e-6)
    }
}
