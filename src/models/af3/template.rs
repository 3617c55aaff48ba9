//! Template embedder: AF3 SI Alg. 16, as OpenFold3 0.5.0 has it: a sum of one linear layer a feature, and a mean over all
//! slots, empty ones included.
use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::batch::Batch;
use super::config::Config;
use super::embed::for_row_blocks;
use super::pairformer::PairBlock;
use crate::features::af3::{N_RESTYPE, N_TEMPLATE_BIN, Templates};
use crate::ops::{BiasOrder, Linear, Norm, add_in_place, norm_linear, relu, settle};
use crate::weights::{Param, Weights};

/// Restype index of a gap: what an empty template shows at every token.
const GAP: u8 = 31;

/// Embeds templates, given or empty, into an update of the pair representation.
#[derive(Debug)]
pub struct TemplateEmbedder {
    distogram: Param,
    restype_i: Param,
    restype_j: Param,
    pseudo_beta_mask: Param,
    backbone_mask: Param,
    unit_vector: [Param; 3],
    norm_z: Norm,
    z: Linear,
    blocks: Vec<PairBlock>,
    norm: Norm,
    out: Linear,
    c_t: usize,
    n_template: usize,
}

impl TemplateEmbedder {
    /// The embedder of `config`.
    pub fn load(config: &Config, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let (c_t, c_z) = (config.c_t, config.c_z);
        let matrix = |name: &str, k| w.at(name).param("weight", &[c_t, k]);
        let block = |i| PairBlock::load(c_t, config.template.pair, ending_bias, &w.at(format_args!("blocks.{i}")));
        Ok(Self {
            distogram: matrix("distogram", N_TEMPLATE_BIN)?,
            restype_i: matrix("restype_i", N_RESTYPE)?,
            restype_j: matrix("restype_j", N_RESTYPE)?,
            pseudo_beta_mask: matrix("pseudo_beta_mask", 1)?,
            backbone_mask: matrix("backbone_mask", 1)?,
            unit_vector: [matrix("x", 1)?, matrix("y", 1)?, matrix("z_axis", 1)?],
            norm_z: Norm::load(c_z, &w.at("norm_z"))?,
            z: Linear::load(c_z, c_t, &w.at("z"))?,
            blocks: (0..config.template.n_block).map(block).collect::<Result<_>>()?,
            norm: Norm::load(c_t, &w.at("norm"))?,
            out: Linear::load(c_t, c_z, &w.at("out"))?,
            c_t,
            n_template: config.template.n_template,
        })
    }

    /// Adds the update to `z` `[1, n, n, c_z]` in place.
    ///
    /// Empty templates give equal embeddings: one is computed and counted as often as there are empty slots.
    pub fn add_to(&self, z: &Tensor, batch: &Batch) -> Result<()> {
        let given = batch.templates.as_ref().map_or(0, |t| t.n);
        let n_empty = self.n_template.saturating_sub(given);
        let mut sum: Option<Tensor> = None;
        for k in 0..given {
            let t = self.embed(z, batch, batch.templates.as_ref().map(|t| (t, k)))?;
            match &sum {
                Some(sum) => add_in_place(sum, &t)?,
                None => sum = Some(t),
            }
        }
        let empty = if n_empty > 0 { Some(self.embed(z, batch, None)?) } else { None };
        for_row_blocks(z, |block, rows| {
            let some = |t: &Tensor| t.narrow(1, rows.start, rows.len());
            let of_empty = empty.as_ref().map(|t| some(t)? * n_empty as f64).transpose()?;
            let total = match (&sum, of_empty) {
                (Some(sum), Some(empty)) => (some(sum)? + empty)?,
                (Some(sum), None) => some(sum)?,
                (None, Some(empty)) => empty,
                (None, None) => return Ok(()),
            };
            self.out.add_to(block, &relu(&(total / (given + n_empty) as f64)?)?)
        })
    }

    /// One template through the pair stack: `[1, n, n, c_t]`.
    fn embed(&self, z: &Tensor, batch: &Batch, template: Option<(&Templates, usize)>) -> Result<Tensor> {
        let t = self.features(batch, template)?;
        for_row_blocks(&t, |block, rows| add_in_place(block, &self.project(&z.narrow(1, rows.start, rows.len())?)?))?;
        self.stack(&t, &batch.pair_mask)?;
        Ok(t)
    }

    /// Alg. 16 line 8, the part of `z`: `[b, n, n, c_z]` -> `[b, n, n, c_t]`, the same for every template.
    pub fn project(&self, z: &Tensor) -> Result<Tensor> {
        norm_linear(z, &self.norm_z, &self.z)
    }

    /// Alg. 16 lines 9-10: the pair blocks and the norm after them, on `t` `[b, n, n, c_t]` in place.
    pub fn stack(&self, t: &Tensor, pair_mask: &Tensor) -> Result<()> {
        for block in &self.blocks {
            block.update(t, pair_mask)?;
            settle(t)?;
        }
        self.norm.in_place(t)
    }

    /// Alg. 16 line 8, the part of one template, `None` being an empty slot: `[1, n, n, c_t]`.
    pub fn features(&self, batch: &Batch, template: Option<(&Templates, usize)>) -> Result<Tensor> {
        let (n, c) = (batch.n_token, self.c_t);
        let (restype_i, restype_j) = (self.restype_i.columns()?, self.restype_j.columns()?);
        let (distogram, beta) = (self.distogram.columns()?, self.pseudo_beta_mask.columns()?);
        let backbone = self.backbone_mask.columns()?;
        let axes = self.unit_vector.iter().map(Param::columns).collect::<Result<Vec<_>>>()?;
        let mut out = vec![0f32; n * n * c];
        out.par_chunks_mut(c).enumerate().for_each(|(pair, out)| {
            let (i, j) = (pair / n, pair % n);
            let mut add = |weight: &[f32], factor: f32| {
                out.iter_mut().zip(weight).for_each(|(o, w)| *o += factor * w);
            };
            let restype = |token: usize| template.map_or(GAP, |(t, k)| t.restype[k * n + token]);
            add(&restype_i[usize::from(restype(i)) * c..][..c], 1.0);
            add(&restype_j[usize::from(restype(j)) * c..][..c], 1.0);
            let Some((t, k)) = template else { return };
            let bins = &t.distogram[(k * n * n + pair) * N_TEMPLATE_BIN..][..N_TEMPLATE_BIN];
            for (bin, &value) in bins.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                add(&distogram[bin * c..][..c], value);
            }
            for (axis, weight) in axes.iter().enumerate() {
                add(weight, t.unit_vector[(k * n * n + pair) * 3 + axis]);
            }
            if batch.asym_id[i] == batch.asym_id[j] {
                let both = |mask: &[f32]| mask[k * n + i] * mask[k * n + j];
                add(&beta, both(&t.pseudo_beta_mask));
                add(&backbone, both(&t.backbone_frame_mask));
            }
        });
        Tensor::from_vec(out, (1, n, n, c), &batch.device)
    }
}
