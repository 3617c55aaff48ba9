//! Gated multi-head attention with additive biases: the inner part of AF3 SI Alg. 14, 15 and 24, AF2 SI Alg. 7 and 8.
use candle_core::{Result, Tensor};

use super::elementwise::{sigmoid_gate_reference, softmax_reference};
use super::layer_norm::norm_linear_reference;
use super::{Linear, Norm};
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
        let (q, k, v) = (self.q.forward(q_x)?, self.k.forward(kv_x)?, self.v.forward(kv_x)?);
        let gate = self.gate.as_ref().map(|g| g.forward(q_x)).transpose()?;
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
    attention_reference(q, k, v, biases, gate, n_head)
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
    pair_bias_reference(z, norm, lin)
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
