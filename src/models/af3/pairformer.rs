//! Pairformer stack: AF3 SI Alg. 17, with the pair block that the MSA module and the template embedder share.
use candle_core::{Result, Tensor};

use super::config::{PairConfig, PairformerConfig};
use crate::models::triangles::Triangles;
use crate::ops::{Attention, BiasOrder, Linear, Norm, SwiGluTransition, add_in_place, pair_bias, settle};
use crate::weights::Weights;

/// What a trunk of Pairformer blocks makes for the modules after it.
#[derive(Debug, Clone)]
pub struct Trunk {
    /// `[1, n, c_s_input]`.
    pub s_input: Tensor,
    /// `[1, n, c_s]`.
    pub s: Tensor,
    /// `[1, n, n, c_z]`.
    pub z: Tensor,
}

/// Triangle updates and transition of the pair representation: Alg. 17 lines 2-6.
#[derive(Debug)]
pub struct PairBlock {
    triangles: Triangles,
    transition: SwiGluTransition,
}

impl PairBlock {
    /// A block on `c_z` channels; the ending node's bias has the order of `ending_bias`.
    pub fn load(c_z: usize, config: PairConfig, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        Ok(Self {
            triangles: Triangles::load(c_z, config, ending_bias, w)?,
            transition: SwiGluTransition::load(c_z, config.n_transition * c_z, &w.at("transition"))?,
        })
    }

    /// Updates `z` `[b, n, n, c_z]` in place; `mask` `[b, n, n]`, 1 = real.
    pub fn update(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        self.triangles.multiply(z, mask)?;
        self.triangles.attend(z, mask)?;
        self.transition.add_to(z, Some(mask))
    }
}

/// Attention over tokens with a bias from the pair representation: Alg. 24 as the trunk has it (`AttentionPairBias`).
#[derive(Debug)]
pub struct AttentionPairBias {
    norm: Norm,
    norm_z: Norm,
    bias: Linear,
    attention: Attention,
}

impl AttentionPairBias {
    /// Attention on `c_s` channels, biased by `c_z`.
    pub fn load(c_s: usize, c_z: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c_s, &w.at("norm"))?,
            norm_z: Norm::load(c_z, &w.at("norm_z"))?,
            bias: Linear::load(c_z, n_head, &w.at("bias"))?,
            attention: Attention::load(c_s, c_s, c_head, n_head, &w.at("attention"))?,
        })
    }

    /// The update `[b, n, c_s]` of `s`; `mask` `[b, n]`, 1 = real.
    pub fn forward(&self, s: &Tensor, z: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let a = self.norm.forward(s)?;
        let bias = pair_bias(z, Some(&self.norm_z), &self.bias)?;
        self.attention.forward(&a, &a, &[&mask_bias(mask)?, &bias])
    }
}

/// What a mask adds to logits: 0 where real, -1e9 where not; `[b, n]` -> `[b, 1, 1, n]`, over keys.
pub fn mask_bias(mask: &Tensor) -> Result<Tensor> {
    mask.affine(1e9, -1e9)?.unsqueeze(1)?.unsqueeze(1)
}

/// One block: Alg. 17 lines 2-8.
#[derive(Debug)]
pub struct PairformerBlock {
    pair: PairBlock,
    attention_pair_bias: AttentionPairBias,
    single_transition: SwiGluTransition,
}

impl PairformerBlock {
    /// A block on `c_s` and `c_z` channels.
    pub fn load(c_s: usize, c_z: usize, config: PairformerConfig, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let c = config;
        Ok(Self {
            pair: PairBlock::load(c_z, c.pair, ending_bias, &w.at("pair"))?,
            attention_pair_bias: AttentionPairBias::load(c_s, c_z, c.c_hidden, c.n_head, &w.at("attention_pair_bias"))?,
            single_transition: SwiGluTransition::load(c_s, c.n_transition * c_s, &w.at("single_transition"))?,
        })
    }

    /// Updates `s` `[b, n, c_s]` and `z` `[b, n, n, c_z]` in place.
    pub fn update(&self, s: &Tensor, z: &Tensor, mask: &Tensor, pair_mask: &Tensor) -> Result<()> {
        self.pair.update(z, pair_mask)?;
        add_in_place(s, &self.attention_pair_bias.forward(s, z, mask)?)?;
        self.single_transition.add_to(s, Some(mask))
    }
}

/// The stack of blocks.
#[derive(Debug)]
pub struct Pairformer {
    blocks: Vec<PairformerBlock>,
}

impl Pairformer {
    /// `config.n_block` blocks.
    pub fn load(c_s: usize, c_z: usize, config: PairformerConfig, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let block = |i| PairformerBlock::load(c_s, c_z, config, ending_bias, &w.at(format_args!("blocks.{i}")));
        Ok(Self { blocks: (0..config.n_block).map(block).collect::<Result<_>>()? })
    }

    /// Updates `s` and `z` in place; `after_block` is called when a block is done, and may end it with an error.
    pub fn update(
        &self,
        s: &Tensor,
        z: &Tensor,
        mask: &Tensor,
        pair_mask: &Tensor,
        after_block: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for block in &self.blocks {
            block.update(s, z, mask, pair_mask)?;
            settle(z)?;
            after_block()?;
        }
        Ok(())
    }
}
