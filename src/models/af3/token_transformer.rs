//! Diffusion transformer over tokens: AF3 SI Alg. 23-25; attention and transition follow each other. The pair representation
//! is normalised once for all blocks (OpenFold3 0.5.0) or by each block (Protenix, PXDesign): the weights file says.
use candle_core::{Result, Tensor};

use super::config::{Config, TransformerConfig};
use crate::ops::{ConditionedAttention, ConditionedTransition, Linear, Norm, pair_bias};
use crate::weights::Weights;

/// Where a transformer normalises the pair representation: which it is, its weights file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairNorm {
    /// Before all blocks.
    Shared,
    /// In each block.
    PerBlock,
}

impl PairNorm {
    /// Which one the transformer at `w` has, and the norm before all blocks.
    pub fn load(c: usize, w: &Weights) -> Result<(Option<Norm>, Self)> {
        match w.has("norm_z.weight") {
            true => Ok((Some(Norm::load(c, &w.at("norm_z"))?), Self::Shared)),
            false => Ok((None, Self::PerBlock)),
        }
    }

    /// The norm of the block whose attention is at `w`.
    pub fn of_block(self, c: usize, w: &Weights) -> Result<Option<Norm>> {
        match self {
            Self::Shared => Ok(None),
            Self::PerBlock => Norm::load(c, &w.at("norm_z")).map(Some),
        }
    }
}

/// One block: Alg. 23 lines 2-3.
#[derive(Debug)]
pub struct TokenBlock {
    norm_z: Option<Norm>,
    bias: Linear,
    attention: ConditionedAttention,
    transition: ConditionedTransition,
}

impl TokenBlock {
    /// A block of `sizes`.
    pub fn load(config: &Config, sizes: TransformerConfig, pair_norm: PairNorm, w: &Weights) -> Result<Self> {
        let (c, c_s) = (config.c_token, config.c_s);
        let a = w.at("attention_pair_bias");
        Ok(Self {
            norm_z: pair_norm.of_block(config.c_z, &a)?,
            bias: Linear::load(config.c_z, sizes.n_head, &a.at("bias"))?,
            attention: ConditionedAttention::load(c, c_s, sizes.c_hidden, sizes.n_head, &a)?,
            transition: ConditionedTransition::load(c, c_s, sizes.n_transition * c, &w.at("transition"))?,
        })
    }

    /// What the pair representation `[b, n, n, c_z]`, normalised unless the block does it, adds to the logits:
    /// `[b, n_head, n, n]`.
    pub fn bias(&self, z: &Tensor) -> Result<Tensor> {
        pair_bias(z, self.norm_z.as_ref(), &self.bias)
    }

    /// Updates `a` `[b, n, c_token]` in place; each of `biases` broadcastable to `[b, n_head, n, n]`.
    pub fn update(&self, a: &Tensor, s: &Tensor, biases: &[&Tensor]) -> Result<()> {
        self.attend(a, s, biases)?;
        self.transition.add_to(a, s)
    }

    /// Alg. 24: the attention half of `update`.
    pub fn attend(&self, a: &Tensor, s: &Tensor, biases: &[&Tensor]) -> Result<()> {
        self.attention.add_to(a, s, biases)
    }
}

/// The stack of blocks.
#[derive(Debug)]
pub struct TokenTransformer {
    /// Before all blocks, or in each.
    norm_z: Option<Norm>,
    blocks: Vec<TokenBlock>,
}

/// Attention biases of the pair representation, which are the same in every denoising step.
#[derive(Debug)]
pub struct PairBiases {
    /// `[1, n_head, n, n]` of the first blocks: as many as are worth their memory.
    kept: Vec<Tensor>,
    /// The pair representation `[1, n, n, c_z]`, normalised if one norm is for all blocks, from which every other block makes its bias when it needs it;
    /// `None` if there is no other.
    z: Option<Tensor>,
}

/// The biases of all blocks are kept if they take no more than this: at full size, up to 261 tokens. Beyond, they may take half as
/// much memory as the pair representation.
const ALL_KEPT_BYTES: usize = 100 << 20;

/// How many of `n_block` blocks keep their biases, each of `bias` bytes, beside a pair representation of `z` bytes.
fn n_kept(n_block: usize, bias: usize, z: usize) -> usize {
    if n_block * bias <= ALL_KEPT_BYTES { n_block } else { (z / 2 / bias).min(n_block) }
}

/// Bytes of the biases that are kept, for a pair of tokens among `n`; without the pair representation beside them.
pub fn kept_bias_bytes(config: &Config, n: usize) -> usize {
    let sizes = config.token_transformer;
    let (bias, z) = (sizes.n_head * size_of::<f32>(), config.c_z * size_of::<f32>());
    n_kept(sizes.n_block, n * n * bias, n * n * z) * bias
}

impl TokenTransformer {
    /// The transformer of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let sizes = config.token_transformer;
        let (norm_z, pair_norm) = PairNorm::load(config.c_z, w)?;
        let block = |i| TokenBlock::load(config, sizes, pair_norm, &w.at(format_args!("blocks.{i}")));
        Ok(Self { norm_z, blocks: (0..sizes.n_block).map(block).collect::<Result<_>>()? })
    }

    /// What depends on the conditioned pair representation `z` `[1, n, n, c_z]` alone; one norm for all blocks works where it lies.
    pub fn condition(&self, z: Tensor) -> Result<PairBiases> {
        if let Some(norm) = &self.norm_z {
            norm.in_place(&z)?;
        }
        let (_, n, _, c) = z.dims4()?;
        let heads = self.blocks.first().map_or(0, |block| block.bias.n());
        let float = size_of::<f32>();
        let n_kept = n_kept(self.blocks.len(), n * n * heads * float, n * n * c * float);
        let kept = self.blocks[..n_kept].iter().map(|block| block.bias(&z)).collect::<Result<_>>()?;
        Ok(PairBiases { kept, z: (n_kept < self.blocks.len()).then_some(z) })
    }

    /// Updates `a` `[b, n, c_token]` in place; `s` `[1, n, c_s]` is the conditioning of the noise level, `mask_bias`
    /// `[1, 1, 1, n]`.
    pub fn update(&self, a: &Tensor, s: &Tensor, pair: &PairBiases, mask_bias: &Tensor) -> Result<()> {
        for (i, block) in self.blocks.iter().enumerate() {
            match (pair.kept.get(i), &pair.z) {
                (Some(bias), _) => block.update(a, s, &[mask_bias, bias])?,
                (None, Some(z)) => block.update(a, s, &[mask_bias, &block.bias(z)?])?,
                (None, None) => candle_core::bail!("the biases are of a transformer with fewer blocks"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::openfold3::config::release_0_5;

    #[test]
    fn biases_of_long_chains_take_half_a_pair_representation() {
        let pair = |n: usize| n * n * 128 * 4;
        for (n, kept) in [(76, 24), (261, 24), (262, 4), (512, 4), (1024, 4), (4096, 4)] {
            assert_eq!(n_kept(24, n * n * 16 * 4, pair(n)), kept, "{n} tokens");
        }
        assert_eq!(kept_bias_bytes(&release_0_5(), 256), 24 * 16 * 4);
        assert_eq!(kept_bias_bytes(&release_0_5(), 1024), 128 * 4 / 2);
    }
}
