//! Triangle multiplicative update: AF2 SI Alg. 11-12, AF3 SI Alg. 12-13.
use candle_core::{D, Result, Tensor};

use super::cpu::pair;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::elementwise::{add_sigmoid_gate, add_sigmoid_gate_reference, sigmoid_gate_reference, write_back};
use super::{Linear, Norm, metal};
use crate::weights::Weights;

/// Which two edges of the triangle i-j-k update edge ij: out of i and j, or in from k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// `x_ij = sum_k a_ik b_jk`.
    Outgoing,
    /// `x_ij = sum_k a_ki b_kj`.
    Incoming,
}

/// `z += sigmoid(out_gate(n)) * out(norm_out(x))`, `n = norm_in(z)`, `x` the sum over the third edge of a triangle.
#[derive(Debug, Clone)]
pub struct TriangleMultiplication {
    norm_in: Norm,
    ab: Linear, // c_z -> 2c: a above b, stacked by the converter
    ab_gate: Linear,
    norm_out: Norm,
    out: Linear,      // c -> c_z
    out_gate: Linear, // c_z -> c_z
    edges: Edges,
}

impl TriangleMultiplication {
    /// Reads `norm_in`, `ab`, `ab_gate`, `norm_out`, `out`, `out_gate`; `c` is the width of a and of b.
    pub fn load(c_z: usize, c: usize, edges: Edges, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm_in: Norm::load(c_z, &w.at("norm_in"))?,
            ab: Linear::load(c_z, 2 * c, &w.at("ab"))?, // has a bias if the file has one: AF2 yes, OpenFold3 no
            ab_gate: Linear::load(c_z, 2 * c, &w.at("ab_gate"))?,
            norm_out: Norm::load(c, &w.at("norm_out"))?,
            out: Linear::load(c, c_z, &w.at("out"))?,
            out_gate: Linear::load(c_z, c_z, &w.at("out_gate"))?,
            edges,
        })
    }

    /// Updates `z` `[b, n, n, c_z]` in place; `mask` `[b, n, n]` (1 = real).
    pub fn add_to(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        if metal::served(z) && self.out.k() <= metal::MAX_PLANES {
            return self.add_to_on_metal(z, mask);
        }
        if !served(z) {
            return self.add_to_reference(z, mask);
        }
        let n = pair_size(z, mask, self.out.n())?;
        let mask = apart(mask, z)?;
        let mask = Values::of(&mask)?;
        let layer = pair::TriangleMultiplication {
            norm_in: self.norm_in.affine()?,
            ab: self.ab.dense()?,
            ab_gate: self.ab_gate.dense()?,
            norm_out: self.norm_out.affine()?,
            out: self.out.dense()?,
            out_gate: self.out_gate.dense()?,
            outgoing: self.edges == Edges::Outgoing,
            n,
        };
        update(z, "triangle_multiplication", |z| {
            let size = n * n * layer.out.n;
            let samples = z.chunks_mut(size.max(1)).zip(mask.chunks((n * n).max(1)));
            samples.for_each(|(z, mask)| layer.run(Isa::best(), Shared::new(z), mask));
            Ok(())
        })
    }

    /// `add_to` in blocks of rows around the products of the planes. One buffer of `c n^2` values holds a, then the product.
    ///
    /// It cannot be smaller: the norm of a position needs all channels of its product, and z may not change before every
    /// row of b has been made from it.
    fn add_to_on_metal(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        let (n, c, c_z) = (pair_size(z, mask, self.out.n())?, self.out.k(), self.out.n());
        // z is read and normalised again for each chunk of b: the chunks are no smaller than an eighth.
        let chunk = metal::rows(c, n * n).max(c.div_ceil(8));
        for sample in 0..z.dim(0)? {
            let (z, mask) = (z.get(sample)?, mask.get(sample)?.contiguous()?.reshape(n * n)?);
            let x = Tensor::zeros((c, n * n), z.dtype(), z.device())?;
            self.operand(&z, &mask, 0, &x)?;
            {
                let b = Tensor::zeros((chunk, n * n), z.dtype(), z.device())?;
                for (first, len) in metal::ranges(c, chunk) {
                    let (a, b) = (x.narrow(0, first, len)?, b.narrow(0, 0, len)?);
                    self.operand(&z, &mask, c + first, &b)?;
                    let (left, right) = (a.reshape((len, n, n))?, b.reshape((len, n, n))?);
                    let product = match self.edges {
                        Edges::Outgoing => left.matmul(&right.t()?)?,
                        Edges::Incoming => left.t()?.matmul(&right)?,
                    };
                    write_back(&a, &product.reshape((len, n * n))?)?;
                }
            }
            let [scale, shift] = self.norm_out.tensors(&x)?;
            for (start, len) in metal::blocks(n, n * (c + 3 * c_z)) {
                let rows = z.narrow(0, start, len)?;
                let x = x.narrow(1, start * n, len * n)?;
                let x = metal::planes_norm(&x, scale.as_ref(), shift.as_ref())?.run()?;
                let x = self.out.forward(&x)?.reshape((len, n, c_z))?;
                add_sigmoid_gate(&rows, &x, &self.out_gate.forward(&self.norm_in.forward(&rows)?)?)?;
            }
        }
        Ok(())
    }

    /// `mask * sigmoid(ab_gate) * ab` of `z` `[n, n, c_z]`, channels `first` and on, into the planes `dst` `[len, n * n]`.
    fn operand(&self, z: &Tensor, mask: &Tensor, first: usize, dst: &Tensor) -> Result<()> {
        let ((n, _, c_z), c) = (z.dims3()?, dst.dim(0)?);
        for (start, len) in metal::blocks(n, n * (c_z + 2 * c)) {
            let (at, pairs) = (start * n, len * n);
            let x = self.norm_in.forward(&z.narrow(0, start, len)?)?.reshape((pairs, c_z))?;
            let (gate, x) = (self.ab_gate.part_reference(&x, first, c)?, self.ab.part_reference(&x, first, c)?);
            metal::planes(&dst.narrow(1, at, pairs)?, &x, Some(&gate), Some(&mask.narrow(0, at, pairs)?))?.run()?;
        }
        Ok(())
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        let n = self.norm_in.forward_reference(z)?;
        let ab = sigmoid_gate_reference(&self.ab.forward_reference(&n)?, &self.ab_gate.forward_reference(&n)?)?;
        let ab = ab.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?; // [b, n, n, 2c]
        let (b, n_token, _, c2) = ab.dims4()?;
        let c = c2 / 2;
        let part = |i: usize| -> Result<Tensor> {
            ab.narrow(3, i * c, c)?.permute((0, 3, 1, 2))?.contiguous()?.reshape((b * c, n_token, n_token))
        };
        let (left, right) = (part(0)?, part(1)?); // [b * c, n, n] each
        let x = match self.edges {
            Edges::Outgoing => left.matmul(&right.t()?)?,
            Edges::Incoming => left.t()?.matmul(&right)?,
        };
        let x = x.reshape((b, c, n_token, n_token))?.permute((0, 2, 3, 1))?.contiguous()?; // [b, n, n, c]
        let x = self.out.forward_reference(&self.norm_out.forward_reference(&x)?)?;
        add_sigmoid_gate_reference(z, &x, &self.out_gate.forward_reference(&n)?)
    }
}

/// Tokens of a pair representation `z` `[b, n, n, c]` with `mask` `[b, n, n]`.
pub(super) fn pair_size(z: &Tensor, mask: &Tensor, c: usize) -> Result<usize> {
    let (b, n, m, c_z) = z.dims4()?;
    if n != m || c_z != c || mask.dims() != [b, n, n] {
        candle_core::bail!("a pair representation of {c} channels: {:?}, mask {:?}", z.dims(), mask.dims())
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, on_each_isa, same_change};

    #[test]
    fn updates_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, c_z, c) in
                [(1, 1, 4, 4), (2, 2, 8, 5), (1, 5, 16, 24), (1, 17, 24, 16), (2, 33, 48, 100), (1, 100, 128, 128)]
            {
                let (z, mask) = (noise.tensor(&[b, n, n, c_z]), noise.mask(&[b, n, n]));
                for edges in [Edges::Outgoing, Edges::Incoming] {
                    let layer = TriangleMultiplication {
                        norm_in: noise.norm(c_z),
                        ab: noise.linear(c_z, 2 * c),
                        ab_gate: noise.linear_without_bias(c_z, 2 * c),
                        norm_out: noise.norm(c),
                        out: noise.linear(c, c_z),
                        out_gate: noise.linear_without_bias(c_z, c_z),
                        edges,
                    };
                    let (fast, reference) =
                        (|z: &Tensor| layer.add_to(z, &mask), |z: &Tensor| layer.add_to_reference(z, &mask));
                    same_change(&format!("{b} x {n} x {c_z}, {edges:?}"), &z, fast, reference, 1e-5)?;
                }
            }
            Ok(())
        })
    }
}
