//! Layer normalisation, two-pass, and its product with a linear layer.
use candle_core::{D, Result, Tensor};

use super::cpu::columns::Write;
use super::cpu::dense::{Rows, Target, dense};
use super::cpu::pointwise::{Affine, norm_rows};
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, served, update};
use super::cpu::{BAND, by_bands};
use super::elementwise::write_back;
use super::linear::{expect_channels, project};
use super::{Linear, metal};
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
        expect_channels(x, self.c, "layer norm")?;
        if metal::served(x) {
            let [weight, bias] = self.tensors(x)?;
            return metal::layer_norm(x, weight.as_ref(), bias.as_ref())?.run();
        }
        if !served(x) {
            return self.forward_reference(x);
        }
        let (x, affine, isa) = (x.contiguous()?, self.affine()?, Isa::best());
        let values = Values::of(&x)?;
        let mut normed = vec![0.; values.len()];
        let band = (BAND / self.c).max(1) * self.c;
        by_bands(&mut normed, band, |i, normed| {
            norm_rows(isa, &values[i * band..][..normed.len()], self.c, affine, normed)
        });
        Tensor::from_vec(normed, x.dims(), x.device())
    }

    /// Normalises `x` `[.., c]` in place.
    pub fn in_place(&self, x: &Tensor) -> Result<()> {
        expect_channels(x, self.c, "layer norm")?;
        if metal::served(x) {
            return by_blocks(x, |rows| self.forward(rows));
        }
        if !served(x) {
            return write_back(x, &self.forward_reference(x)?);
        }
        let (affine, isa) = (self.affine()?, Isa::best());
        let band = (BAND / self.c).max(1) * self.c;
        update(x, "norm_in_place", |values| {
            by_bands(values, band, |_, rows| {
                let old = rows.to_vec();
                norm_rows(isa, &old, self.c, affine, rows);
            });
            Ok(())
        })
    }

    /// Its parameters where they lie; for the CPU.
    pub(super) fn affine<'a>(&'a self) -> Result<Affine<'a>> {
        let values = |p: &'a Option<Param>| p.as_ref().map(Param::as_slice).transpose();
        Ok(Affine { weight: values(&self.weight)?, bias: values(&self.bias)?, step: 0 })
    }

    /// Its parameters where `x` is and as it is.
    pub(super) fn tensors(&self, x: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let tensor = |p: &Option<Param>| p.as_ref().map(|p| p.tensor(x.device())?.to_dtype(x.dtype())).transpose();
        Ok([tensor(&self.weight)?, tensor(&self.bias)?])
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, x: &Tensor) -> Result<Tensor> {
        expect_channels(x, self.c, "layer norm")?;
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        let mut x = x.broadcast_div(&(variance + EPS)?.sqrt()?)?;
        let [weight, bias] = self.tensors(&x)?;
        if let Some(w) = weight {
            x = x.broadcast_mul(&w)?;
        }
        if let Some(b) = bias {
            x = x.broadcast_add(&b)?;
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

/// Overwrites `x` `[.., c]` with `lin(norm(x))`, `lin` from `c` to `c` channels, in place.
pub fn norm_linear_in_place(x: &Tensor, norm: &Norm, lin: &Linear) -> Result<()> {
    expect_channels(x, lin.k(), "linear layer")?;
    expect_channels(x, lin.n(), "linear layer in place")?;
    if metal::served(x) {
        return by_blocks(x, |rows| lin.forward(&norm.forward(rows)?));
    }
    if !served(x) {
        return write_back(x, &norm_linear_reference(x, norm, lin)?);
    }
    let (layer, affine) = (lin.layer()?, norm.affine()?);
    update(x, "norm_linear_in_place", |values| {
        let m = values.len() / layer.n;
        let dst = Shared::new(values);
        // SAFETY: `dense` reads a row in the task that writes it, or reads all rows before it writes any.
        let rows = unsafe { Rows::in_place(dst, layer.k, Some((affine, 1))) };
        let target = Target { dst, n: layer.n, write: Write::Set, gate: None, mask: None };
        dense(Isa::best(), rows, m, &[(layer, target)]);
        Ok(())
    })
}

/// Overwrites the contiguous `x` `[.., c]` with what `f` makes of blocks of its rows, of the same shape.
fn by_blocks(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    if !x.is_contiguous() {
        candle_core::bail!("in place: {:?} is not contiguous", x.layout())
    }
    let c = x.dim(D::Minus1)?;
    let x = x.reshape(((), c))?;
    metal::blocks(x.dim(0)?, 2 * c).try_for_each(|(start, len)| {
        let rows = x.narrow(0, start, len)?;
        write_back(&rows, &f(&rows)?)
    })
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
                    let want = norm.forward_reference(&x)?;
                    close(&format!("{rows} x {c}"), &norm.forward(&x)?, &want, 2e-6)?;
                    let changed = x.force_contiguous()?;
                    norm.in_place(&changed)?;
                    close(&format!("{rows} x {c} in place"), &changed, &want, 2e-6)?;
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
    fn norm_and_layer_in_place() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(4);
            for (rows, c) in [(1, 4), (31, 48), (33, 128), (1300, 32), (5, 600)] {
                let (x, norm, lin) = (noise.tensor(&[1, rows, c]), noise.norm(c), noise.linear(c, c));
                let want = norm_linear_reference(&x, &norm, &lin)?;
                norm_linear_in_place(&x, &norm, &lin)?;
                close(&format!("{rows} x {c}"), &x, &want, 2e-6)?;
            }
            Ok(())
        })
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
