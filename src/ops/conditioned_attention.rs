//! Attention with a pair bias and conditioning, the first half of a block of the diffusion transformer: AF3 SI Alg. 24.
use candle_core::{Result, Tensor};

use super::ada_norm::ConditionRows;
use super::attention::attend;
use super::cpu::columns::Write;
use super::cpu::dense::{Rows, Target, dense};
use super::cpu::scratch::{Scratch, Shared};
use super::cpu::simd::Isa;
use super::cpu::tensors::{apart_as_is, served};
use super::elementwise::{gate_add, gate_add_reference};
use super::linear::expect_channels;
use super::{AdaNorm, Attention, LayerCondition, Linear, metal};
use crate::weights::Weights;

/// AF3 SI Alg. 24: `a += sigmoid(out_gate(s)) * attention(ada_norm(a, s))`, of queries, keys and values of one sequence.
#[derive(Debug, Clone)]
pub struct ConditionedAttention {
    ada_norm: AdaNorm,
    attention: Attention,
    out_gate: Linear, // c_s -> c_a
}

impl ConditionedAttention {
    /// Reads `ada_norm`, `attention` and `out_gate`; `n_head` heads of `c_head` channels.
    pub fn load(c_a: usize, c_s: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            ada_norm: AdaNorm::load(c_a, c_s, &w.at("ada_norm"))?,
            attention: Attention::load(c_a, c_a, c_head, n_head, &w.at("attention"))?,
            out_gate: Linear::load(c_s, c_a, &w.at("out_gate"))?,
        })
    }

    /// `s` `[b or 1, n, c_s]` -> what it contributes.
    pub fn condition(&self, s: &Tensor) -> Result<LayerCondition> {
        LayerCondition::new(&self.ada_norm, &self.out_gate, s)
    }

    /// Updates `a` `[b, n, c_a]` in place; `s` `[b or 1, n, c_s]`, each of `biases` broadcastable to `[b, n_head, n, n]`.
    pub fn add_to(&self, a: &Tensor, s: &Tensor, biases: &[&Tensor]) -> Result<()> {
        self.add_with(a, &self.condition(s)?, biases)
    }

    /// `add_to` with what `s` contributes.
    pub fn add_with(&self, a: &Tensor, condition: &LayerCondition, biases: &[&Tensor]) -> Result<()> {
        if metal::served(a) {
            let normed = self.ada_norm.apply(a, &condition.norm)?;
            return gate_add(a, &condition.gate, &self.attention.forward(&normed, &normed, biases)?);
        }
        if !served(a) {
            return self.add_with_reference(a, condition, biases);
        }
        let Attention { q, k, v, gate, out, n_head } = &self.attention;
        let (b, n, c) = a.dims3()?;
        expect_channels(a, q.k(), "conditioned attention")?;
        let (isa, m, inner, n_head) = (Isa::best(), b * n, q.n(), *n_head);
        let layers = [Some(q), Some(k), Some(v), gate.as_ref()];
        let layers = layers.into_iter().flatten().map(Linear::layer).collect::<Result<Vec<_>>>()?;
        let out = out.layer()?;
        let biases = biases.iter().map(|bias| apart_as_is(bias, a)).collect::<Result<Vec<_>>>()?;
        let biases: Vec<&Tensor> = biases.iter().collect();
        condition.update(a, "conditioned_attention", |a, ConditionRows { norm, gate, period }| {
            let mut heads = Scratch::new(m * inner);
            {
                let mut made: Vec<Scratch> = layers.iter().map(|layer| Scratch::new(m * layer.n)).collect();
                let jobs = layers.iter().zip(&mut made).map(|(layer, made)| (*layer, plain(made, layer.n)));
                dense(isa, Rows::new(a, c, Some((norm, period))), m, &jobs.collect::<Vec<_>>());
                let sizes = [b, n, n, n_head, inner / n_head];
                attend([&made[0], &made[1], &made[2]], made.get(3).map(|gate| &**gate), &biases, sizes, &mut heads)?;
            }
            let target = Target { gate: Some((gate, period)), write: Write::Add, ..plain(a, c) };
            dense(isa, Rows::new(&heads, inner, None), m, &[(out, target)]);
            Ok(())
        })
    }

    /// `condition` in plain tensor operations.
    pub fn condition_reference(&self, s: &Tensor) -> Result<LayerCondition> {
        LayerCondition::new_reference(&self.ada_norm, &self.out_gate, s)
    }

    /// `add_with` in plain tensor operations.
    pub fn add_with_reference(&self, a: &Tensor, condition: &LayerCondition, biases: &[&Tensor]) -> Result<()> {
        let normed = self.ada_norm.apply_reference(a, &condition.norm)?;
        gate_add_reference(a, &condition.gate, &self.attention.forward_reference(&normed, &normed, biases)?)
    }
}

/// Results of `n` channels as they are, to `dst`.
fn plain(dst: &mut [f32], n: usize) -> Target<'_> {
    Target { dst: Shared::new(dst), n, write: Write::Set, gate: None, mask: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::ada_norm::tests::ada_norm;
    use crate::ops::testing::{Noise, on_each_isa, same_change};

    fn layer(noise: &mut Noise, c: usize, c_s: usize, n_head: usize, gated: bool) -> ConditionedAttention {
        ConditionedAttention {
            ada_norm: ada_norm(noise, c, c_s),
            attention: Attention {
                q: noise.linear(c, c),
                k: noise.linear_without_bias(c, c),
                v: noise.linear_without_bias(c, c),
                gate: gated.then(|| noise.linear_without_bias(c, c)),
                out: noise.linear_without_bias(c, c),
                n_head,
            },
            out_gate: noise.linear(c_s, c),
        }
    }

    #[test]
    fn sizes_and_biases() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, n, c, c_s, h) in [(1, 1, 8, 4, 1), (3, 17, 24, 16, 3), (4, 70, 96, 5, 2), (2, 216, 768, 384, 16)] {
                for gated in [true, false] {
                    let layer = layer(&mut noise, c, c_s, h, gated);
                    let a = noise.tensor(&[b, n, c]);
                    let hidden = noise.mask(&[1, 1, 1, n]).affine(1e9, -1e9)?;
                    let (shared, own) = (noise.tensor(&[1, h, n, n]), noise.tensor(&[b, h, n, n]));
                    for s in [noise.tensor(&[1, n, c_s]), noise.tensor(&[b, n, c_s])] {
                        for biases in [&[][..], &[&hidden, &shared], &[&shared, &own]] {
                            let what = format!("{b} x {n} x {c}, {} biases", biases.len());
                            let reference =
                                |a: &Tensor| layer.add_with_reference(a, &layer.condition_reference(&s)?, biases);
                            same_change(&what, &a, |a| layer.add_to(a, &s, biases), reference, 4e-6)?;
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// A bias that lies in the storage that is changed.
    #[test]
    fn bias_of_the_same_storage() -> Result<()> {
        let mut noise = Noise::new(2);
        let (n, c) = (6, 12);
        let layer = layer(&mut noise, c, 4, 2, false);
        let (a, s) = (noise.tensor(&[1, n, c]), noise.tensor(&[1, n, 4]));
        let bias = |a: &Tensor| a.reshape((1, 2, n, n));
        let condition = layer.condition(&s)?;
        let reference = |a: &Tensor| layer.add_with_reference(a, &condition, &[&bias(a)?]);
        same_change("itself", &a, |a| layer.add_with(a, &condition, &[&bias(a)?]), reference, 4e-6)
    }
}
