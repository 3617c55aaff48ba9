//! The output head that all parts of ESM3 share: `esm/layers/regression_head.py`.
use candle_core::{Result, Tensor};

use crate::ops::{Linear, Norm, gelu, norm_linear};
use crate::weights::Weights;

/// `out(norm(gelu(a(x))))`.
#[derive(Debug)]
pub struct Head {
    a: Linear,
    norm: Norm,
    out: Linear,
}

impl Head {
    /// Reads `a`, `norm` and `out`: from `c` through `c_hidden` to `n` channels.
    pub fn load(c: usize, c_hidden: usize, n: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            a: Linear::load(c, c_hidden, &w.at("a"))?,
            norm: Norm::load(c_hidden, &w.at("norm"))?,
            out: Linear::load(c_hidden, n, &w.at("out"))?,
        })
    }

    /// `x` `[.., c]` -> `[.., n]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        norm_linear(&gelu(&self.a.forward(x)?)?, &self.norm, &self.out)
    }
}
