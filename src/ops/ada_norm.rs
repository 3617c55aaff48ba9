//! Adaptive layer norm and the conditioned transition of the diffusion module: AF3 SI Alg. 25 and 26.
use candle_core::{Result, Tensor};
use candle_nn::ops::sigmoid;

use super::elementwise::{add_sigmoid_gate_reference, silu_gate_reference};
use super::{Linear, Norm};
use crate::weights::Weights;

/// AF3 SI Alg. 26: `sigmoid(gain(norm_s(s))) * norm(a) + shift(norm_s(s))`; the norm of `a` has no parameters.
#[derive(Debug, Clone)]
pub struct AdaNorm {
    norm_a: Norm,
    norm_s: Norm,
    gain: Linear,  // c_s -> c_a
    shift: Linear, // c_s -> c_a
}

impl AdaNorm {
    /// Reads `norm_s`, `gain` and `shift`.
    pub fn load(c_a: usize, c_s: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm_a: Norm::plain(c_a),
            norm_s: Norm::load(c_s, &w.at("norm_s"))?,
            gain: Linear::load(c_s, c_a, &w.at("gain"))?,
            shift: Linear::load(c_s, c_a, &w.at("shift"))?,
        })
    }

    /// `a` `[b, n, c_a]`, `s` `[b or 1, n, c_s]` -> `[b, n, c_a]`.
    pub fn forward(&self, a: &Tensor, s: &Tensor) -> Result<Tensor> {
        self.forward_reference(a, s)
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, a: &Tensor, s: &Tensor) -> Result<Tensor> {
        let s = self.norm_s.forward_reference(s)?;
        let a = self.norm_a.forward_reference(a)?;
        let gain = sigmoid(&self.gain.forward_reference(&s)?)?;
        a.broadcast_mul(&gain)?.broadcast_add(&self.shift.forward_reference(&s)?)
    }
}

/// AF3 SI Alg. 25: `a += sigmoid(gate(s)) * out(silu(a n) * b n)`, `n = ada_norm(a, s)`.
#[derive(Debug, Clone)]
pub struct ConditionedTransition {
    ada_norm: AdaNorm,
    a: Linear,    // c_a -> factor * c_a
    b: Linear,    // c_a -> factor * c_a
    gate: Linear, // c_s -> c_a
    out: Linear,  // factor * c_a -> c_a
}

impl ConditionedTransition {
    /// `factor` is the paper's n: how much wider than `c_a` the hidden layer is.
    pub fn load(c_a: usize, c_s: usize, factor: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            ada_norm: AdaNorm::load(c_a, c_s, &w.at("ada_norm"))?,
            a: Linear::load(c_a, factor * c_a, &w.at("a"))?,
            b: Linear::load(c_a, factor * c_a, &w.at("b"))?,
            gate: Linear::load(c_s, c_a, &w.at("gate"))?,
            out: Linear::load(factor * c_a, c_a, &w.at("out"))?,
        })
    }

    /// Updates `a` `[b, n, c_a]` in place; `s` `[b or 1, n, c_s]`.
    pub fn add_to(&self, a: &Tensor, s: &Tensor) -> Result<()> {
        self.add_to_reference(a, s)
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, a: &Tensor, s: &Tensor) -> Result<()> {
        let n = self.ada_norm.forward_reference(a, s)?;
        let h = silu_gate_reference(&self.a.forward_reference(&n)?, &self.b.forward_reference(&n)?)?;
        add_sigmoid_gate_reference(a, &self.out.forward_reference(&h)?, &self.gate.forward_reference(s)?)
    }
}
