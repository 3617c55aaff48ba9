//! Layer normalisation, two-pass, and its product with a linear layer.
use candle_core::{D, Result, Tensor};

use super::Linear;
use super::linear::expect_channels;
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
        self.forward_reference(x)
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
    norm_linear_reference(x, norm, lin)
}

/// `norm_linear` in plain tensor operations.
pub fn norm_linear_reference(x: &Tensor, norm: &Norm, lin: &Linear) -> Result<Tensor> {
    lin.forward_reference(&norm.forward_reference(x)?)
}
