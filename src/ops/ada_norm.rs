//! Adaptive layer norm and the conditioned transition of the diffusion module: AF3 SI Alg. 25 and 26.
//!
//! What depends on the conditioning alone is computed by `condition`, once for all samples or all steps that share it.
use candle_core::{Result, Tensor};
use candle_nn::ops::sigmoid;

use super::elementwise::{gate_add_reference, silu_gate_reference};
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

/// The part of [`AdaNorm`] that depends on `s` alone.
#[derive(Debug, Clone)]
pub struct AdaCondition {
    /// `[b or 1, n, c_a]`, after the sigmoid.
    pub gain: Tensor,
    /// `[b or 1, n, c_a]`.
    pub shift: Tensor,
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
        self.apply(a, &self.condition(s)?)
    }

    /// `s` `[b or 1, n, c_s]` -> its gain and shift.
    pub fn condition(&self, s: &Tensor) -> Result<AdaCondition> {
        self.condition_reference(s)
    }

    /// `a` `[b, n, c_a]` -> `gain * norm(a) + shift`.
    pub fn apply(&self, a: &Tensor, condition: &AdaCondition) -> Result<Tensor> {
        self.apply_reference(a, condition)
    }

    /// `condition` in plain tensor operations.
    pub fn condition_reference(&self, s: &Tensor) -> Result<AdaCondition> {
        let s = self.norm_s.forward_reference(s)?;
        let gain = sigmoid(&self.gain.forward_reference(&s)?)?;
        Ok(AdaCondition { gain, shift: self.shift.forward_reference(&s)? })
    }

    /// `apply` in plain tensor operations.
    pub fn apply_reference(&self, a: &Tensor, condition: &AdaCondition) -> Result<Tensor> {
        let a = self.norm_a.forward_reference(a)?;
        a.broadcast_mul(&condition.gain)?.broadcast_add(&condition.shift)
    }
}

/// AF3 SI Alg. 25: `a += sigmoid(gate(s)) * out(silu(a n) * b n)`, `n = ada_norm(a, s)`.
#[derive(Debug, Clone)]
pub struct ConditionedTransition {
    ada_norm: AdaNorm,
    a: Linear,    // c_a -> n_hidden
    b: Linear,    // c_a -> n_hidden
    gate: Linear, // c_s -> c_a
    out: Linear,  // n_hidden -> c_a
}

/// The part of [`ConditionedTransition`] that depends on `s` alone.
#[derive(Debug, Clone)]
pub struct TransitionCondition {
    /// Of its adaptive norm.
    pub norm: AdaCondition,
    /// `[b or 1, n, c_a]`, after the sigmoid.
    pub gate: Tensor,
}

impl ConditionedTransition {
    /// `n_hidden` channels inside: the paper's n times `c_a`.
    pub fn load(c_a: usize, c_s: usize, n_hidden: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            ada_norm: AdaNorm::load(c_a, c_s, &w.at("ada_norm"))?,
            a: Linear::load(c_a, n_hidden, &w.at("a"))?,
            b: Linear::load(c_a, n_hidden, &w.at("b"))?,
            gate: Linear::load(c_s, c_a, &w.at("gate"))?,
            out: Linear::load(n_hidden, c_a, &w.at("out"))?,
        })
    }

    /// Updates `a` `[b, n, c_a]` in place; `s` `[b or 1, n, c_s]`.
    pub fn add_to(&self, a: &Tensor, s: &Tensor) -> Result<()> {
        self.add_with(a, &self.condition(s)?)
    }

    /// `s` `[b or 1, n, c_s]` -> what it contributes.
    pub fn condition(&self, s: &Tensor) -> Result<TransitionCondition> {
        self.condition_reference(s)
    }

    /// Updates `a` `[b, n, c_a]` in place.
    pub fn add_with(&self, a: &Tensor, condition: &TransitionCondition) -> Result<()> {
        self.add_with_reference(a, condition)
    }

    /// `condition` in plain tensor operations.
    pub fn condition_reference(&self, s: &Tensor) -> Result<TransitionCondition> {
        let gate = sigmoid(&self.gate.forward_reference(s)?)?;
        Ok(TransitionCondition { norm: self.ada_norm.condition_reference(s)?, gate })
    }

    /// `add_with` in plain tensor operations.
    pub fn add_with_reference(&self, a: &Tensor, condition: &TransitionCondition) -> Result<()> {
        let n = self.ada_norm.apply_reference(a, &condition.norm)?;
        let h = silu_gate_reference(&self.a.forward_reference(&n)?, &self.b.forward_reference(&n)?)?;
        gate_add_reference(a, &condition.gate, &self.out.forward_reference(&h)?)
    }
}
