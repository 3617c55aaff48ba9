//! Layer normalisation, two-pass, and its product with a linear layer.
use candle_core::{D, Result, Tensor};

use super::Linear;
use super::cpu::pointwise::{Affine, norm_rows};
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, served};
use super::cpu::{BAND, by_bands};
use super::linear::{expect_channels, project};
use crate::weights::{Param, Weights};

/// Added to the variance in every model of the family.
pub const EPS: f64 = 1e-5;

/// A layer norm over the last dimension, with or without scale and offset.
#[derive(Debug, Clone)]
pub struct Norm {
    weight: Option<Param>,
    bias: Option<Param>,
    c: usize,
}

impl Norm {
    /// Reads `weight` `[c]`, and `bias` `[c]` if the file has one.
    pub fn load(c: usize, w: &Weights) -> Result<Self> {
        Ok(Self { weight: Some(w.param("weight", &[c])?), bias: w.optional("bias", &[c])?, c })
    }

    /// A norm of values made by the program, each `[c]`.
    pub fn new(weight: Option<Param>, bias: Option<Param>, c: usize) -> Self {
        Self { weight, bias, c }
    }

    /// Without parameters.
    pub fn plain(c: usize) -> Self {
        Self { weight: None, bias: None, c }
    }

    /// Channels.
    pub fn c(&self) -> usize {
        self.c
    }

    /// `x` `[.., c]` -> the same shape, each row of mean 0 and variance 1, then scaled and shifted.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !served(x) {
            return self.forward_reference(x);
        }
        expect_channels(x, self.c, "layer norm")?;
        let (x, affine, isa) = (x.contiguous()?, self.affine()?, Isa::best());
        let values = Values::of(&x)?;
        let mut normed = vec![0.; values.len()];
        let band = (BAND / self.c).max(1) * self.c;
        by_bands(&mut normed, band, |i, normed| {
            norm_rows(isa, &values[i * band..][..normed.len()], self.c, affine, normed)
        });
        Tensor::from_vec(normed, x.dims(), x.device())
    }

    /// Its parameters where they lie; for the CPU.
    pub(super) fn affine<'a>(&'a self) -> Result<Affine<'a>> {
        let values = |p: &'a Option<Param>| p.as_ref().map(Param::as_slice).transpose();
        Ok(Affine { weight: values(&self.weight)?, bias: values(&self.bias)?, step: 0 })
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, x: &Tensor) -> Result<Tensor> {
        expect_channels(x, self.c, "layer norm")?;
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        let mut x = x.broadcast_div(&(variance + EPS)?.sqrt()?)?;
        if let Some(w) = &self.weight {
            x = x.broadcast_mul(&w.tensor(x.device())?)?;
        }
        if let Some(b) = &self.bias {
            x = x.broadcast_add(&b.tensor(x.device())?)?;
        }
        Ok(x)
    }
}

/// `lin(norm(x))`: `x` `[.., c]` -> `[.., n]`.
pub fn norm_linear(x: &Tensor, norm: &Norm, lin: &Linear) -> Result<Tensor> {
    let [y] = project(x, Some(norm), [lin])?;
    Ok(y)
}

/// `norm_linear` in plain tensor operations.
pub fn norm_linear_reference(x: &Tensor, norm: &Norm, lin: &Linear) -> Result<Tensor> {
    lin.forward_reference(&norm.forward_reference(x)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa};

    #[test]
    fn norms_of_ragged_rows() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (rows, c) in [(1, 1), (2, 3), (5, 16), (17, 24), (3, 128), (300, 130), (4, 833)] {
                let x = (noise.tensor(&[rows, c]) + 3.)?;
                for norm in [Norm::plain(c), noise.norm(c)] {
                    close(&format!("{rows} x {c}"), &norm.forward(&x)?, &norm.forward_reference(&x)?, 2e-6)?;
                }
            }
            Ok(())
        })
    }

    /// A mean far larger than the deviation, which a one-pass variance loses.
    #[test]
    fn norm_far_from_zero() -> Result<()> {
        let x = (Noise::new(2).tensor(&[3, 128]) + 1000.)?;
        close("norm", &Norm::plain(128).forward(&x)?, &Norm::plain(128).forward_reference(&x)?, 2e-4)
    }

    #[test]
    fn norm_and_layer() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(3);
            for (rows, c, n) in [(1, 4, 1), (31, 48, 5), (33, 128, 16), (700, 8, 4), (65, 267, 128), (1300, 32, 200)] {
                let (x, norm, lin) = (noise.tensor(&[rows, c]), noise.norm(c), noise.linear(c, n));
                let (got, want) = (norm_linear(&x, &norm, &lin)?, norm_linear_reference(&x, &norm, &lin)?);
                close(&format!("{rows} x {c} x {n}"), &got, &want, 2e-6)?;
            }
            Ok(())
        })
    }
}
