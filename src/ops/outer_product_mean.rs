//! Outer product mean: AF2 SI Alg. 10, AF3 SI Alg. 9.
use candle_core::{D, Result, Tensor};

use super::elementwise::add_in_place_reference;
use super::{Linear, Norm};
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
        self.add_to_reference(z, m, mask)
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
