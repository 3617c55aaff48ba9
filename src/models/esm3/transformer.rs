//! Blocks of attention and transition, and the geometric layer: `UnifiedTransformerBlock` (`esm/layers/blocks.py`) and
//! `GeometricReasoningOriginalImpl` (`esm/layers/geom_attention.py`).
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::frames::Frames;
use crate::ops::{GeometricAttention, Linear, Norm, Rope, RopeAttention, SwiGluTransition, gate_add, norm_linear};
use crate::weights::{Param, Weights};

/// A block of attention and transition.
#[derive(Debug)]
pub struct Block {
    /// Self-attention.
    pub attention: RopeAttention,
    /// The transition.
    pub transition: SwiGluTransition,
}

/// What every update is multiplied by before it is added.
#[derive(Debug)]
pub struct UpdateScale {
    channels: Tensor, // [c]
    rows: Tensor,     // [b, n]
}

/// What all blocks of a pass share.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Rotary positions.
    pub rope: &'a Rope,
    /// Hides sequences from each other; see [`crate::ops::same_sequence_bias`].
    pub bias: Option<&'a Tensor>,
    /// Of updates.
    pub scale: &'a UpdateScale,
}

impl UpdateScale {
    /// `scale` for updates of `x` `[b, n, c]`.
    pub fn new(scale: f32, x: &Tensor) -> Result<Self> {
        let (b, n, c) = x.dims3()?;
        let device = x.device();
        Ok(Self { channels: Tensor::full(scale, c, device)?, rows: Tensor::full(scale, (b, n), device)? })
    }

    /// `x += scale * update` in place.
    pub fn add(&self, x: &Tensor, update: &Tensor) -> Result<()> {
        gate_add(x, &self.channels, update)
    }

    /// The scale of each row, as a transition takes it.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }
}

impl Block {
    /// Reads `attention` and `transition`.
    pub fn load(c: usize, n_head: usize, c_transition: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            attention: RopeAttention::load(c, n_head, &w.at("attention"))?,
            transition: SwiGluTransition::load(c, c_transition, &w.at("transition"))?,
        })
    }

    /// Adds the attention to `x` `[b, n, c]` in place.
    pub fn attend(&self, x: &Tensor, pass: &Pass<'_>) -> Result<()> {
        pass.scale.add(x, &self.attention.forward(x, pass.rope, pass.bias)?)
    }

    /// Adds the transition to `x` `[b, n, c]` in place.
    pub fn transit(&self, x: &Tensor, pass: &Pass<'_>) -> Result<()> {
        self.transition.add_to(x, Some(pass.scale.rows()))
    }
}

/// Attention by directions and distances in the frames of the residues.
#[derive(Debug)]
pub struct GeometricLayer {
    norm: Norm,
    proj: Linear, // c -> 15 * n_head
    out: Linear,  // 3 * n_head -> c
    rotation_scale: Param,
    distance_scale: Param,
    n_head: usize,
}

/// Which residues see each other, `[b, n]` each.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    /// Lengths of sequences one behind the other in a single row, each of which sees itself alone; without it a row sees itself.
    pub packed: Option<&'a [usize]>,
    /// Residues of one sequence have a higher logit.
    pub sequence_id: &'a [i64],
    /// Residues of other chains are hidden.
    pub chain_id: &'a [i64],
}

impl GeometricLayer {
    /// Reads `norm`, `proj`, `out`, `rotation_scale` and `distance_scale`.
    pub fn load(c: usize, n_head: usize, w: &Weights) -> Result<Self> {
        let host = w.on(&Device::Cpu);
        Ok(Self {
            norm: Norm::load(c, &w.at("norm"))?,
            proj: Linear::load(c, 15 * n_head, &w.at("proj"))?,
            out: Linear::load(3 * n_head, c, &w.at("out"))?,
            rotation_scale: host.param("rotation_scale", &[n_head])?,
            distance_scale: host.param("distance_scale", &[n_head])?,
            n_head,
        })
    }

    /// The update of `x` `[b, n, c]`, `frames` of its `b * n` residues; `kept` says which rows of attended values are not zeroed.
    pub fn forward(&self, x: &Tensor, frames: &Frames, groups: Groups<'_>, kept: Kept) -> Result<Tensor> {
        let (b, n, _) = x.dims3()?;
        let vectors = norm_linear(x, &self.norm, &self.proj)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let mut values = match groups.packed {
            None => self.attend(&vectors, frames, groups, 0..b * n, b)?,
            Some(lengths) => {
                let mut values = Vec::with_capacity(b * n * 3 * self.n_head);
                for len in lengths {
                    let start = values.len() / (3 * self.n_head);
                    values.extend(self.attend(&vectors, frames, groups, start..start + len, 1)?);
                }
                values
            }
        };
        if let Kept::Framed = kept {
            let rows = values.chunks_exact_mut(3 * self.n_head).zip(&frames.has_frame);
            rows.filter(|(_, has_frame)| !**has_frame).for_each(|(row, _)| row.fill(0.));
        }
        let values = Tensor::from_vec(values, (b, n, 3 * self.n_head), &Device::Cpu)?;
        self.out.forward(&values.to_device(x.device())?.to_dtype(x.dtype())?)
    }

    /// What the residues in `range`, `batch` rows of them, attend to.
    fn attend(
        &self,
        vectors: &[f32],
        frames: &Frames,
        groups: Groups<'_>,
        range: Range<usize>,
        batch: usize,
    ) -> Result<Vec<f32>> {
        let width = 15 * self.n_head;
        if range.end > frames.has_frame.len() {
            candle_core::bail!("residues {range:?} of {}", frames.has_frame.len())
        }
        let attention = GeometricAttention {
            vectors: &vectors[range.start * width..range.end * width],
            rotations: &frames.rotations[range.clone()],
            translations: &frames.translations[range.clone()],
            has_frame: &frames.has_frame[range.clone()],
            sequence_id: &groups.sequence_id[range.clone()],
            chain_id: &groups.chain_id[range],
            rotation_scale: self.rotation_scale.as_slice()?,
            distance_scale: self.distance_scale.as_slice()?,
            batch,
        };
        attention.run()
    }
}

/// Whose attended values count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All residues'.
    All,
    /// Those with a frame.
    Framed,
}
