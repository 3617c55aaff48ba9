//! Attention of atoms in windows along the sequence: the inner part of AF3 SI Alg. 7.
use candle_core::{D, Result, Tensor};

use super::elementwise::{sigmoid_gate_reference, softmax_reference};

/// The tensors of a windowed attention over atoms.
#[derive(Debug, Clone, Copy)]
pub struct LocalAttention<'a> {
    /// Queries `[b, n_atom, h * d]`.
    pub q: &'a Tensor,
    /// Keys, as the queries.
    pub k: &'a Tensor,
    /// Values, as the queries.
    pub v: &'a Tensor,
    /// The gate before its sigmoid, as the queries.
    pub gate: Option<&'a Tensor>,
    /// Added to the logits, masks included: `[b or 1, n_block, h, n_query, n_key]`.
    pub bias: &'a Tensor,
    /// For each block the first of its `n_key` keys; keys at `n_atom` and beyond have no weight.
    pub starts: &'a [usize],
}

impl LocalAttention<'_> {
    /// Block `b` holds queries `b * n_query ..`; the result is `[b, n_atom, h * d]`.
    pub fn forward(&self) -> Result<Tensor> {
        self.forward_reference()
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self) -> Result<Tensor> {
        let (b, n_atom, c) = self.q.dims3()?;
        let (_, n_block, n_head, n_query, n_key) = self.bias.dims5()?;
        self.check(n_atom, n_block, n_query)?;
        let device = self.q.device();
        let d = c / n_head;
        let keys = |s: &usize| (*s..s + n_key).collect::<Vec<_>>();
        let index: Vec<u32> = self.starts.iter().flat_map(keys).map(|k| k.min(n_atom - 1) as u32).collect();
        let outside: Vec<f32> = self.starts.iter().flat_map(keys).map(|k| if k < n_atom { 0. } else { -1e9 }).collect();
        let index = Tensor::from_vec(index, n_block * n_key, device)?;
        let outside = Tensor::from_vec(outside, (1, n_block, 1, 1, n_key), device)?;
        let heads = |x: Tensor, n: usize| {
            x.reshape((b * n_block, n, n_head, d))?.transpose(1, 2)?.contiguous() // [b * n_block, h, n, d]
        };
        let q = heads(self.q.pad_with_zeros(1, 0, n_block * n_query - n_atom)?.contiguous()?, n_query)?;
        let k = heads(self.k.contiguous()?.index_select(&index, 1)?, n_key)?;
        let v = heads(self.v.contiguous()?.index_select(&index, 1)?, n_key)?;
        let logits = (q * (1. / (d as f64).sqrt()))?.matmul(&k.t()?)?;
        let logits = logits.reshape((b, n_block, n_head, n_query, n_key))?;
        let logits = logits.broadcast_add(self.bias)?.broadcast_add(&outside)?;
        let weights = softmax_reference(&logits)?.reshape((b * n_block, n_head, n_query, n_key))?;
        let o = weights.matmul(&v)?.transpose(1, 2)?.contiguous()?; // [b * n_block, n_query, h, d]
        let o = o.reshape((b, n_block * n_query, c))?.narrow(1, 0, n_atom)?.contiguous()?;
        match self.gate {
            Some(g) => sigmoid_gate_reference(&o, g),
            None => Ok(o),
        }
    }

    fn check(&self, n_atom: usize, n_block: usize, n_query: usize) -> Result<()> {
        if self.starts.len() != n_block || n_block != n_atom.div_ceil(n_query) || self.bias.dim(D::Minus1)? == 0 {
            let (starts, bias) = (self.starts.len(), self.bias.dims());
            candle_core::bail!("windows of {n_query} over {n_atom} atoms: {starts} key starts, bias {bias:?}")
        }
        Ok(())
    }
}
