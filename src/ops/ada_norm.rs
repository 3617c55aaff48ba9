//! Adaptive layer norm and the conditioned transition of the diffusion module: AF3 SI Alg. 25 and 26; and what its conditioned
//! layers share.
//!
//! What depends on the conditioning alone is computed by `condition`, once for all samples or all steps that share it.
use candle_core::{D, Result, Tensor};
use candle_nn::ops::sigmoid;

use super::cpu::columns::Write;
use super::cpu::dense::{self, Rows, Target};
use super::cpu::pointwise::{Affine, norm_rows};
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::cpu::{BAND, by_bands};
use super::elementwise::{gate_add_reference, silu_gate_reference};
use super::linear::{expect_channels, project};
use super::{Linear, Norm, elementwise, metal};
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

impl AdaCondition {
    /// Rows of gain and of shift, which must divide the rows of `len` values in `c` channels.
    fn rows(&self, len: usize, c: usize) -> Result<usize> {
        let n = self.gain.elem_count() / c;
        if self.shift.dims() != self.gain.dims() || n == 0 || !(len / c).is_multiple_of(n) {
            candle_core::bail!("{} values of {c} channels, conditioned by {:?}", len, self.gain.dims())
        }
        Ok(n)
    }
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
        let [gain, shift] = project(s, Some(&self.norm_s), [&self.gain, &self.shift])?;
        Ok(AdaCondition { gain: elementwise::sigmoid(&gain)?, shift })
    }

    /// `a` `[b, n, c_a]` -> `gain * norm(a) + shift`.
    pub fn apply(&self, a: &Tensor, condition: &AdaCondition) -> Result<Tensor> {
        let c = self.norm_a.c();
        expect_channels(a, c, "adaptive norm")?;
        if metal::served(a) {
            return metal::layer_norm(a, Some(&condition.gain), Some(&condition.shift))?.run();
        }
        if !served(a) {
            return self.apply_reference(a, condition);
        }
        let (a, isa) = (a.contiguous()?, Isa::best());
        let values = Values::of(&a)?;
        let gain = condition.gain.contiguous()?;
        let shift = condition.shift.contiguous()?;
        let (gain, shift) = (Values::of(&gain)?, Values::of(&shift)?);
        let n = condition.rows(values.len(), c)?;
        let mut normed = vec![0.; values.len()];
        let rows = (1..=n).rev().find(|rows| n % rows == 0 && rows * c <= BAND).unwrap_or(1);
        let band = rows * c; // bands that do not cross the end of a sample
        by_bands(&mut normed, band, |i, normed| {
            let at = i * band % (n * c);
            let affine = Affine { weight: Some(&gain[at..]), bias: Some(&shift[at..]), step: c };
            norm_rows(isa, &values[i * band..][..normed.len()], c, affine, normed);
        });
        Tensor::from_vec(normed, a.dims(), a.device())
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

/// The part of a conditioned layer, `a += sigmoid(gate(s)) * layer(ada_norm(a, s))`, that depends on `s` alone.
#[derive(Debug, Clone)]
pub struct LayerCondition {
    /// Of its adaptive norm.
    pub norm: AdaCondition,
    /// `[b or 1, n, c_a]`, after the sigmoid.
    pub gate: Tensor,
}

/// The values of a [`LayerCondition`]: those for row `r` of `a` are of the `r % period`-th.
pub(super) struct ConditionRows<'a> {
    /// Gain and shift.
    pub norm: Affine<'a>,
    /// After the sigmoid.
    pub gate: &'a [f32],
    /// Rows.
    pub period: usize,
}

impl LayerCondition {
    /// Of `s` `[b or 1, n, c_s]`.
    pub(super) fn new(norm: &AdaNorm, gate: &Linear, s: &Tensor) -> Result<Self> {
        let [gate] = project(s, None, [gate])?;
        Ok(Self { norm: norm.condition(s)?, gate: elementwise::sigmoid(&gate)? })
    }

    /// `new` in plain tensor operations.
    pub(super) fn new_reference(norm: &AdaNorm, gate: &Linear, s: &Tensor) -> Result<Self> {
        Ok(Self { norm: norm.condition_reference(s)?, gate: sigmoid(&gate.forward_reference(s)?)? })
    }

    /// Lets `f` change the values of `a` `[b, n, c]`, on the CPU.
    pub(super) fn update(
        &self,
        a: &Tensor,
        name: &'static str,
        f: impl Fn(&mut [f32], ConditionRows) -> Result<()>,
    ) -> Result<()> {
        let c = a.dim(D::Minus1)?;
        let [gain, shift, gate] = [&self.norm.gain, &self.norm.shift, &self.gate].map(|x| apart(x, a));
        let (gain, shift, gate) = (gain?, shift?, gate?);
        let (gain, shift, gate) = (Values::of(&gain)?, Values::of(&shift)?, Values::of(&gate)?);
        update(a, name, |a| {
            let period = self.norm.rows(a.len(), c)?;
            if gate.len() != period * c {
                candle_core::bail!("a gate of {} values for {period} rows of {c}", gate.len())
            }
            let norm = Affine { weight: Some(&gain), bias: Some(&shift), step: c };
            f(a, ConditionRows { norm, gate: &gate, period })
        })
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
    pub fn condition(&self, s: &Tensor) -> Result<LayerCondition> {
        LayerCondition::new(&self.ada_norm, &self.gate, s)
    }

    /// Updates `a` `[b, n, c_a]` in place.
    pub fn add_with(&self, a: &Tensor, condition: &LayerCondition) -> Result<()> {
        if metal::served(a) {
            let n = self.ada_norm.apply(a, &condition.norm)?;
            let h = elementwise::silu_gate(&self.a.forward(&n)?, &self.b.forward(&n)?)?;
            return elementwise::gate_add(a, &condition.gate, &self.out.forward(&h)?);
        }
        if !served(a) {
            return self.add_with_reference(a, condition);
        }
        let c = self.out.n();
        expect_channels(a, c, "conditioned transition")?;
        let layers = dense::SwiGlu { a: self.a.layer()?, b: self.b.layer()?, out: self.out.layer()? };
        condition.update(a, "conditioned_transition", |a, ConditionRows { norm, gate, period }| {
            let m = a.len() / c;
            let shared = Shared::new(a);
            // SAFETY: `swiglu` writes a row after it has read it, in the same task or when all are read.
            let rows = unsafe { Rows::in_place(shared, c, Some((norm, period))) };
            let target = Target { dst: shared, n: c, write: Write::Add, gate: Some((gate, period)), mask: None };
            dense::swiglu(Isa::best(), rows, m, layers, target);
            Ok(())
        })
    }

    /// `condition` in plain tensor operations.
    pub fn condition_reference(&self, s: &Tensor) -> Result<LayerCondition> {
        LayerCondition::new_reference(&self.ada_norm, &self.gate, s)
    }

    /// `add_with` in plain tensor operations.
    pub fn add_with_reference(&self, a: &Tensor, condition: &LayerCondition) -> Result<()> {
        let n = self.ada_norm.apply_reference(a, &condition.norm)?;
        let h = silu_gate_reference(&self.a.forward_reference(&n)?, &self.b.forward_reference(&n)?)?;
        gate_add_reference(a, &condition.gate, &self.out.forward_reference(&h)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa, same_change};

    pub fn ada_norm(noise: &mut Noise, c_a: usize, c_s: usize) -> AdaNorm {
        let norm_s = noise.norm(c_s);
        AdaNorm {
            norm_a: Norm::plain(c_a),
            norm_s,
            gain: noise.linear(c_s, c_a),
            shift: noise.linear_without_bias(c_s, c_a),
        }
    }

    #[test]
    fn conditioned_layers_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, c_a, c_s) in
                [(1, 1, 4, 8), (2, 17, 24, 16), (3, 33, 48, 5), (5, 76, 128, 64), (1, 31, 768, 384), (3, 400, 128, 16)]
            {
                let layer = ConditionedTransition {
                    ada_norm: ada_norm(&mut noise, c_a, c_s),
                    a: noise.linear_without_bias(c_a, 2 * c_a),
                    b: noise.linear(c_a, 2 * c_a),
                    gate: noise.linear(c_s, c_a),
                    out: noise.linear(2 * c_a, c_a),
                };
                let a = noise.tensor(&[b, n, c_a]);
                let what = format!("{b} x {n} x {c_a}");
                for s in [noise.tensor(&[1, n, c_s]), noise.tensor(&[b, n, c_s])] {
                    let norm = &layer.ada_norm;
                    close(
                        &what,
                        &norm.forward(&a, &s)?,
                        &norm.apply_reference(&a, &norm.condition_reference(&s)?)?,
                        3e-6,
                    )?;
                    let reference = |a: &Tensor| layer.add_with_reference(a, &layer.condition_reference(&s)?);
                    same_change(&what, &a, |a| layer.add_to(a, &s), reference, 4e-6)?;
                }
            }
            Ok(())
        })
    }
}
