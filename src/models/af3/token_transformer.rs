//! Diffusion transformer over tokens: AF3 SI Alg. 23-25, as OpenFold3 0.5.0: attention and transition follow each other,
//! and the pair representation is normalised once for all blocks.
use candle_core::{Result, Tensor};

use super::config::{Config, TransformerConfig};
use crate::ops::{AdaNorm, Attention, ConditionedTransition, Linear, Norm, gate_add, pair_bias, sigmoid};
use crate::weights::Weights;

/// One block: Alg. 23 lines 2-3.
#[derive(Debug)]
pub struct TokenBlock {
    ada_norm: AdaNorm,
    out_gate: Linear,
    bias: Linear,
    attention: Attention,
    transition: ConditionedTransition,
}

impl TokenBlock {
    /// A block of `sizes`.
    pub fn load(config: &Config, sizes: TransformerConfig, w: &Weights) -> Result<Self> {
        let (c, c_s) = (config.c_token, config.c_s);
        let a = w.at("attention_pair_bias");
        Ok(Self {
            ada_norm: AdaNorm::load(c, c_s, &a.at("ada_norm"))?,
            out_gate: Linear::load(c_s, c, &a.at("out_gate"))?,
            bias: Linear::load(config.c_z, sizes.n_head, &a.at("bias"))?,
            attention: Attention::load(c, c, sizes.c_hidden, sizes.n_head, &a.at("attention"))?,
            transition: ConditionedTransition::load(c, c_s, sizes.n_transition * c, &w.at("transition"))?,
        })
    }

    /// What the normalised pair representation `[b, n, n, c_z]` adds to the logits: `[b, n_head, n, n]`.
    pub fn bias(&self, z: &Tensor) -> Result<Tensor> {
        pair_bias(z, None, &self.bias)
    }

    /// Updates `a` `[b, n, c_token]` in place; each of `biases` broadcastable to `[b, n_head, n, n]`.
    pub fn update(&self, a: &Tensor, s: &Tensor, biases: &[&Tensor]) -> Result<()> {
        self.attend(a, s, biases)?;
        self.transition.add_to(a, s)
    }

    /// Alg. 24: the attention half of `update`.
    pub fn attend(&self, a: &Tensor, s: &Tensor, biases: &[&Tensor]) -> Result<()> {
        let n = self.ada_norm.forward(a, s)?;
        let gate = sigmoid(&self.out_gate.forward(s)?)?;
        gate_add(a, &gate, &self.attention.forward(&n, &n, biases)?)
    }
}

/// The stack of blocks.
#[derive(Debug)]
pub struct TokenTransformer {
    norm_z: Norm,
    blocks: Vec<TokenBlock>,
}

/// Attention biases of the pair representation, which are the same in every denoising step.
#[derive(Debug)]
pub enum PairBiases {
    /// One `[1, n_head, n, n]` a block: while they take less memory than the pair representation would save.
    Kept(Vec<Tensor>),
    /// The normalised pair representation `[1, n, n, c_z]`: each block makes its bias when it needs it.
    Made(Tensor),
}

/// Above this many bytes the biases of all blocks are not kept: at full size 384 values a token pair, 660 tokens.
pub const KEEP_BYTES: usize = 640 << 20;

impl TokenTransformer {
    /// The transformer of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let sizes = config.token_transformer;
        let block = |i| TokenBlock::load(config, sizes, &w.at(format_args!("blocks.{i}")));
        Ok(Self {
            norm_z: Norm::load(config.c_z, &w.at("norm_z"))?,
            blocks: (0..sizes.n_block).map(block).collect::<Result<_>>()?,
        })
    }

    /// What depends on the conditioned pair representation `z` `[1, n, n, c_z]` alone; it is normalised where it lies.
    pub fn condition(&self, z: Tensor) -> Result<PairBiases> {
        self.norm_z.in_place(&z)?;
        let heads: usize = self.blocks.iter().map(|block| block.bias.n()).sum();
        if z.dim(1)? * z.dim(2)? * heads * size_of::<f32>() > KEEP_BYTES {
            return Ok(PairBiases::Made(z));
        }
        let biases = self.blocks.iter().map(|block| block.bias(&z));
        Ok(PairBiases::Kept(biases.collect::<Result<_>>()?))
    }

    /// Updates `a` `[b, n, c_token]` in place; `s` `[1, n, c_s]` is the conditioning of the noise level, `mask_bias`
    /// `[1, 1, 1, n]`.
    pub fn update(&self, a: &Tensor, s: &Tensor, pair: &PairBiases, mask_bias: &Tensor) -> Result<()> {
        for (i, block) in self.blocks.iter().enumerate() {
            match pair {
                PairBiases::Kept(biases) => block.update(a, s, &[mask_bias, &biases[i]])?,
                PairBiases::Made(z) => block.update(a, s, &[mask_bias, &block.bias(z)?])?,
            }
        }
        Ok(())
    }
}
