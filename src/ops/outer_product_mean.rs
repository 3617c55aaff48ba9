//! Outer product mean: AF2 SI Alg. 10, AF3 SI Alg. 9.
use candle_core::{D, Result, Tensor};

use super::cpu::msa;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::elementwise::{add_in_place_reference, gate_add};
use super::{Linear, Norm, metal};
use crate::weights::Weights;

/// Added to the number of sequences both residues are in.
const EPS: f64 = 1e-3;

/// `z_ij += out(sum_r a_ri x b_rj) / (sum_r mask_ri mask_rj + 1e-3)`; the bias of `out` is divided too.
#[derive(Debug, Clone)]
pub struct OuterProductMean {
    norm: Norm,
    a: Linear,   // c_m -> c
    b: Linear,   // c_m -> c
    out: Linear, // c * c -> c_z, a's channel the slower index
}

impl OuterProductMean {
    /// Reads `norm`, `a`, `b` and `out`; `c` is the width of a and of b.
    pub fn load(c_m: usize, c: usize, c_z: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c_m, &w.at("norm"))?,
            a: Linear::load(c_m, c, &w.at("a"))?,
            b: Linear::load(c_m, c, &w.at("b"))?,
            out: Linear::load(c * c, c_z, &w.at("out"))?,
        })
    }

    /// Updates `z` `[b, n, n, c_z]` in place from `m` `[b, r, n, c_m]`; `mask` `[b, r, n]` (1 = real).
    pub fn add_to(&self, z: &Tensor, m: &Tensor, mask: &Tensor) -> Result<()> {
        let (b, r, n, c_m) = m.dims4()?;
        if z.dims() != [b, n, n, self.out.n()] || mask.dims() != [b, r, n] || c_m != self.a.k() {
            candle_core::bail!("outer product mean of {:?}, mask {:?}, to {:?}", m.dims(), mask.dims(), z.dims())
        }
        if metal::served(z) && r * n > 0 {
            return self.add_to_on_metal(z, m, mask);
        }
        if !served(z) || r * n == 0 {
            return self.add_to_reference(z, m, mask);
        }
        let (m, mask) = (apart(m, z)?, apart(mask, z)?);
        let (m, mask) = (Values::of(&m)?, Values::of(&mask)?);
        let layer = msa::OuterProductMean {
            norm: self.norm.affine()?,
            a: self.a.dense()?,
            b: self.b.dense()?,
            out: self.out.dense()?,
            eps: EPS as f32,
            n,
        };
        update(z, "outer_product_mean", |z| {
            let samples = z.chunks_mut(n * n * layer.out.n).zip(m.chunks(r * n * c_m)).zip(mask.chunks(r * n));
            samples.for_each(|((z, m), mask)| layer.run(Isa::best(), Shared::new(z), m, mask));
            Ok(())
        })
    }

    /// `add_to` in blocks of the first residue; a and b, `r n c` values each, are whole.
    fn add_to_on_metal(&self, z: &Tensor, m: &Tensor, mask: &Tensor) -> Result<()> {
        let ((b, r, n, _), c) = (m.dims4()?, self.a.n());
        for sample in 0..b {
            let (z, mask) = (z.get(sample)?, mask.get(sample)?);
            let [left, right] = self.operands(&m.get(sample)?, &mask)?;
            let count = (mask.t()?.contiguous()?.matmul(&mask.contiguous()?)? + EPS)?.recip()?; // [n, n]
            for (start, len) in metal::blocks(n, n * (2 * c * c + self.out.n()) + c * r) {
                let left = left.narrow(1, start * c, len * c)?.t()?.contiguous()?; // [(i c), r]
                let outer = left.matmul(&right)?.reshape((len, c, n, c))?;
                let outer = outer.transpose(1, 2)?.contiguous()?.reshape((len, n, c * c))?;
                let inverse = count.narrow(0, start, len)?.unsqueeze(D::Minus1)?;
                gate_add(&z.narrow(0, start, len)?, &inverse, &self.out.forward(&outer)?)?;
            }
        }
        Ok(())
    }

    /// a and b of `m` `[r, n, c_m]`, times `mask` `[r, n]`, in blocks of sequences: `[r, n * c]` each.
    fn operands(&self, m: &Tensor, mask: &Tensor) -> Result<[Tensor; 2]> {
        let ((r, n, c_m), c) = (m.dims3()?, self.a.n());
        let whole = || Tensor::zeros((r, n * c), m.dtype(), m.device());
        let made = [whole()?, whole()?];
        for (start, len) in metal::blocks(r, n * (c_m + 2 * c)) {
            let rows = self.norm.forward(&m.narrow(0, start, len)?)?;
            let mask = mask.narrow(0, start, len)?.unsqueeze(D::Minus1)?;
            for (lin, made) in [&self.a, &self.b].into_iter().zip(&made) {
                let masked = lin.forward(&rows)?.broadcast_mul(&mask)?.reshape((len, n * c))?;
                made.slice_set(&masked, 0, start)?;
            }
        }
        Ok(made)
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, z: &Tensor, m: &Tensor, mask: &Tensor) -> Result<()> {
        let (b, r, n, _) = m.dims4()?;
        let c = self.a.n();
        let m = self.norm.forward_reference(m)?;
        let masked = |lin: &Linear| lin.forward_reference(&m)?.broadcast_mul(&mask.unsqueeze(D::Minus1)?);
        let left = masked(&self.a)?.reshape((b, r, n * c))?.transpose(1, 2)?.contiguous()?; // [b, (i c), r]
        let right = masked(&self.b)?.reshape((b, r, n * c))?; // [b, r, (j e)]
        let outer = left.matmul(&right)?.reshape((b, n, c, n * c))?;
        let outer = outer.reshape((b * n, c, n, c))?.transpose(1, 2)?.contiguous()?; // [(b i), j, c, e]
        let update = self.out.forward_reference(&outer.reshape((b, n, n, c * c))?)?;
        let count = (mask.transpose(1, 2)?.contiguous()?.matmul(&mask.contiguous()?)? + EPS)?; // [b, n, n]
        add_in_place_reference(z, &update.broadcast_div(&count.unsqueeze(D::Minus1)?)?)
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
            for (b, r, n, c_m, c, c_z) in [
                (1, 1, 1, 4, 4, 8),
                (2, 3, 5, 16, 5, 24),
                (1, 2, 33, 64, 32, 128),
                (2, 17, 31, 24, 9, 16),
                (1, 65, 100, 8, 4, 4),
            ] {
                let layer = OuterProductMean {
                    norm: noise.norm(c_m),
                    a: noise.linear_without_bias(c_m, c),
                    b: noise.linear(c_m, c),
                    out: noise.linear(c * c, c_z),
                };
                let (z, m, mask) =
                    (noise.tensor(&[b, n, n, c_z]), noise.tensor(&[b, r, n, c_m]), noise.mask(&[b, r, n]));
                let (fast, reference) =
                    (|z: &Tensor| layer.add_to(z, &m, &mask), |z: &Tensor| layer.add_to_reference(z, &m, &mask));
                same_change(&format!("{b} x {r} x {n}, {c_m} {c} {c_z}"), &z, fast, reference, 1e-5)?;
            }
            Ok(())
        })
    }
}
