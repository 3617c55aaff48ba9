//! Attention of atoms in windows along the sequence: the inner part of AF3 SI Alg. 7.
use candle_core::{D, Result, Tensor};

use super::cpu;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, served};
use super::elementwise::{sigmoid_gate_reference, softmax_reference};
use super::metal;

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
        if metal::served(self.q) {
            let (_, n_block, n_head, n_query, _) = self.bias.dims5()?;
            self.check(self.q.dim(1)?, n_block, n_query)?;
            let core = metal::Attention { q: self.q, k: self.k, v: self.v, gate: self.gate, n_head };
            return match core.served(1) && n_query <= 32 {
                true => core.in_windows(self.bias, self.starts)?.run(),
                false => self.forward_reference(),
            };
        }
        if !served(self.q) {
            return self.forward_reference();
        }
        let (b, n_atom, c) = self.q.dims3()?;
        let (samples, n_block, n_head, n_query, n_key) = self.bias.dims5()?;
        self.check(n_atom, n_block, n_query)?;
        let like_q = |x: &Tensor| x.dims() == self.q.dims();
        if !(like_q(self.k) && like_q(self.v) && self.gate.is_none_or(like_q)) || (samples != 1 && samples != b) {
            candle_core::bail!("queries {:?}, keys {:?}, bias {:?}", self.q.dims(), self.k.dims(), self.bias.dims())
        }
        let [q, k, v, bias] = [self.q, self.k, self.v, self.bias].map(Tensor::contiguous);
        let (q, k, v, bias) = (q?, k?, v?, bias?);
        let gate = self.gate.map(Tensor::contiguous).transpose()?;
        let mut values = vec![0.; b * n_atom * c];
        {
            let (q, k, v) = (Values::of(&q)?, Values::of(&k)?, Values::of(&v)?);
            let (bias, gate) = (Values::of(&bias)?, gate.as_ref().map(Values::of).transpose()?);
            let (starts, gate) = (self.starts, gate.as_deref());
            let sizes = [b, n_atom, n_head, c / n_head, n_query, n_key];
            let core = cpu::attention::LocalAttention { q: &q, k: &k, v: &v, gate, bias: &bias, starts, sizes };
            core.run(Isa::best(), Shared::new(&mut values));
        }
        Tensor::from_vec(values, (b, n_atom, c), self.q.device())
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
        let outside = Tensor::from_vec(outside, (1, n_block, 1, 1, n_key), device)?.to_dtype(self.q.dtype())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa};

    #[test]
    fn windows_inside_and_past_the_end() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, h, d, n_query, n_key) in
                [(1, 5, 1, 4, 32, 128), (2, 100, 4, 32, 32, 128), (3, 300, 2, 16, 32, 128), (1, 40, 1, 8, 7, 12)]
            {
                let n_block = usize::div_ceil(n, n_query);
                let starts: Vec<usize> = (0..n_block).map(|i| (i * n_query).saturating_sub(n_key / 2)).collect();
                let [q, k, v, gate] = [(); 4].map(|()| noise.tensor(&[b, n, h * d]));
                for samples in [1, b] {
                    let bias = (noise.tensor(&[samples, n_block, h, n_query, n_key]) * 3.)?;
                    for gate in [None, Some(&gate)] {
                        let op = LocalAttention { q: &q, k: &k, v: &v, gate, bias: &bias, starts: &starts };
                        close(&format!("{b} x {n} atoms"), &op.forward()?, &op.forward_reference()?, 3e-6)?;
                    }
                }
            }
            Ok(())
        })
    }
}
