//! The SwiGLU transition: AF3 SI Alg. 11.
use candle_core::{D, Result, Tensor};

use super::elementwise::add_in_place_reference;
use super::{Linear, Norm, elementwise};
use crate::weights::Weights;

/// `x += out(silu(a n) * b n)`, `n = norm(x)`.
#[derive(Debug, Clone)]
pub struct SwiGluTransition {
    norm: Norm,
    a: Linear,   // c -> n_hidden
    b: Linear,   // c -> n_hidden
    out: Linear, // n_hidden -> c
}

impl SwiGluTransition {
    /// `n_hidden` channels inside: the paper's n times `c`.
    pub fn load(c: usize, n_hidden: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c, &w.at("norm"))?,
            a: Linear::load(c, n_hidden, &w.at("a"))?,
            b: Linear::load(c, n_hidden, &w.at("b"))?,
            out: Linear::load(n_hidden, c, &w.at("out"))?,
        })
    }

    /// Updates `x` `[.., c]` in place; where `mask` `[..]` is given, the update is multiplied by it.
    pub fn add_to(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        self.add_to_reference(x, mask)
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        let n = self.norm.forward_reference(x)?;
        let h = elementwise::silu_gate_reference(&self.a.forward_reference(&n)?, &self.b.forward_reference(&n)?)?;
        let update = self.out.forward_reference(&h)?;
        match mask {
            Some(mask) => add_in_place_reference(x, &update.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?),
            None => add_in_place_reference(x, &update),
        }
    }
}
