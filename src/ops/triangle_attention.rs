//! Triangle attention: AF2 SI Alg. 13-14, AF3 SI Alg. 14-15.
use candle_core::{Result, Tensor};

use super::attention::{pair_bias, pair_bias_reference};
use super::cpu::pair;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::elementwise::{add_in_place, add_in_place_reference};
use super::triangle_multiplication::pair_size;
use super::{Attention, Linear, Norm, metal};
use crate::weights::Weights;

/// The node that the edges of one attention share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Edge ij attends to the edges ik: a row of z.
    Starting,
    /// Edge ij attends to the edges kj: a column of z.
    Ending,
}

/// Which pair biases the logit of query q and key k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasOrder {
    /// `z[q, k]`: every starting node; the ending node of OpenFold3 0.5 (and of AlphaFold 3's code).
    QueryKey,
    /// `z[k, q]`: the ending node as the papers have it, and of OpenFold3 0.4 and earlier.
    KeyQuery,
}

/// `z += attention(norm(z))` along rows or columns, with a bias from the third edge.
#[derive(Debug, Clone)]
pub struct TriangleAttention {
    norm: Norm,
    bias: Linear, // c_z -> n_head
    attention: Attention,
    node: Node,
    bias_order: BiasOrder,
}

impl TriangleAttention {
    /// Reads `norm`, `bias` and `attention`.
    pub fn load(
        c_z: usize,
        c_head: usize,
        n_head: usize,
        node: Node,
        bias_order: BiasOrder,
        w: &Weights,
    ) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c_z, &w.at("norm"))?,
            bias: Linear::load(c_z, n_head, &w.at("bias"))?,
            attention: Attention::load(c_z, c_z, c_head, n_head, &w.at("attention"))?,
            node,
            bias_order,
        })
    }

    /// Updates `z` `[b, n, n, c_z]` in place; `mask` `[b, n, n]` (1 = real) hides keys.
    pub fn add_to(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        if metal::served(z) {
            return self.add_to_on_metal(z, mask);
        }
        if !served(z) {
            return self.add_to_reference(z, mask);
        }
        let n = pair_size(z, mask, self.norm.c())?;
        let mask = apart(mask, z)?;
        let mask = Values::of(&mask)?;
        let layer = pair::TriangleAttention {
            norm: self.norm.affine()?,
            bias: self.bias.dense()?,
            q: self.attention.q.dense()?,
            k: self.attention.k.dense()?,
            v: self.attention.v.dense()?,
            gate: self.attention.gate.as_ref().map(Linear::dense).transpose()?,
            out: self.attention.out.dense()?,
            starting: self.node == Node::Starting,
            query_key: self.bias_order == BiasOrder::QueryKey,
            n,
        };
        update(z, "triangle_attention", |z| {
            let size = n * n * layer.out.n;
            let samples = z.chunks_mut(size.max(1)).zip(mask.chunks((n * n).max(1)));
            samples.for_each(|(z, mask)| layer.run(Isa::best(), Shared::new(z), mask));
            Ok(())
        })
    }

    /// `add_to` in blocks of rows, or of columns, which are read and changed where they lie.
    fn add_to_on_metal(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        let n = pair_size(z, mask, self.norm.c())?;
        let hidden = ((mask - 1.)? * 1e9)?;
        let c = 5 * self.attention.q.n() + 2 * self.norm.c();
        for sample in 0..z.dim(0)? {
            let (z, hidden) = (z.get(sample)?, hidden.get(sample)?);
            let bias = pair_bias(&z, Some(&self.norm), &self.bias)?; // of z before any update
            let bias = match self.bias_order {
                BiasOrder::QueryKey => bias,
                BiasOrder::KeyQuery => bias.t()?,
            };
            let (z, hidden) = match self.node {
                Node::Starting => (z, hidden),
                Node::Ending => (z.transpose(0, 1)?, hidden.t()?),
            };
            for (start, len) in metal::blocks(n, n * c) {
                let rows = z.narrow(0, start, len)?;
                let x = self.norm.forward(&rows)?; // [len, n, c_z]: the row is the batch
                let hidden = hidden.narrow(0, start, len)?.unsqueeze(1)?.unsqueeze(1)?;
                add_in_place(&rows, &self.attention.forward(&x, &x, &[&hidden, &bias])?)?;
            }
        }
        Ok(())
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        let (_, n, _, c) = z.dims4()?;
        let x = self.norm.forward_reference(z)?; // [b, n, n, c_z]
        let bias = pair_bias_reference(&x, None, &self.bias)?; // [b, h, n, n]
        let bias = match self.bias_order {
            BiasOrder::QueryKey => bias,
            BiasOrder::KeyQuery => bias.t()?,
        };
        let (x, mask) = match self.node {
            Node::Starting => (x, mask.clone()),
            Node::Ending => (x.transpose(1, 2)?.contiguous()?, mask.t()?.contiguous()?),
        };
        let hidden = ((mask - 1.)? * 1e9)?;
        let mut updates = vec![];
        for b in 0..z.dim(0)? {
            let hidden = hidden.get(b)?.reshape((n, 1, 1, n))?; // row, head, query, key
            let bias = bias.get(b)?.unsqueeze(0)?;
            let x = x.get(b)?; // [n, n, c_z]: the row is the batch
            updates.push(self.attention.forward_reference(&x, &x, &[&hidden, &bias])?);
        }
        let update = Tensor::stack(&updates, 0)?.reshape(((), n, n, c))?;
        match self.node {
            Node::Starting => add_in_place_reference(z, &update),
            Node::Ending => add_in_place_reference(z, &update.transpose(1, 2)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, on_each_isa, same_change};

    #[test]
    fn updates_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, c_z, h, d) in [
                (1, 1, 4, 1, 4),
                (2, 2, 8, 2, 4),
                (1, 5, 16, 3, 8),
                (1, 31, 24, 2, 16),
                (2, 33, 48, 4, 8),
                (1, 100, 128, 4, 32),
            ] {
                let (z, mask) = (noise.tensor(&[b, n, n, c_z]), noise.mask(&[b, n, n]));
                let orders = [
                    (Node::Starting, BiasOrder::QueryKey),
                    (Node::Ending, BiasOrder::QueryKey),
                    (Node::Ending, BiasOrder::KeyQuery),
                ];
                for (node, bias_order) in orders {
                    let layer = TriangleAttention {
                        norm: noise.norm(c_z),
                        bias: noise.linear_without_bias(c_z, h),
                        attention: Attention {
                            q: noise.linear_without_bias(c_z, h * d),
                            k: noise.linear_without_bias(c_z, h * d),
                            v: noise.linear(c_z, h * d),
                            gate: Some(noise.linear(c_z, h * d)),
                            out: noise.linear(h * d, c_z),
                            n_head: h,
                        },
                        node,
                        bias_order,
                    };
                    let (fast, reference) =
                        (|z: &Tensor| layer.add_to(z, &mask), |z: &Tensor| layer.add_to_reference(z, &mask));
                    same_change(&format!("{b} x {n} x {c_z}, {node:?}, {bias_order:?}"), &z, fast, reference, 1e-5)?;
                }
            }
            Ok(())
        })
    }
}
