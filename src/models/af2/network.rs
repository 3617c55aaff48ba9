//! What monomer and multimer have in common: the same layers, of the same sizes, put together in two orders.
use candle_core::{Device, Result, Tensor};

use super::columns::pairs;
use super::config::Config;
use super::embed::{ExtraMsaEmbedder, InputEmbedder};
use super::evoformer::{EvoformerBlock, ExtraMsaBlock, stack};
use super::heads::Heads;
use super::ipa::PointLength;
use super::recycle::{Recycled, RecyclingEmbedder};
use crate::features::af2::Af2Features;
use crate::ops::Linear;
use crate::weights::Weights;

/// The layers of both kinds.
#[derive(Debug)]
pub struct Network {
    /// Sizes.
    pub config: Config,
    /// Residues and alignment to the first representations.
    pub input: InputEmbedder,
    /// From one pass to the next.
    pub recycling: RecyclingEmbedder,
    /// Rows without a cluster.
    pub extra_msa_embedder: ExtraMsaEmbedder,
    /// Their stack.
    pub extra_msa: Vec<ExtraMsaBlock>,
    /// The stack of the trunk.
    pub evoformer: Vec<EvoformerBlock>,
    /// First row of the alignment to the single representation.
    pub single: Linear,
    /// Structure and confidence.
    pub heads: Heads,
    /// Where it is computed, but for the structure module.
    pub device: Device,
}

/// What has just been done in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Embedders and templates.
    Embedders,
    /// One block of the extra MSA.
    ExtraBlock,
    /// One block of the Evoformer.
    Block,
    /// Structure module and confidence.
    Heads,
}

impl Network {
    /// The layers of `config`, with `n_relpos` features of relative positions.
    pub fn load(config: &Config, n_relpos: usize, length: PointLength, w: &Weights) -> Result<Self> {
        let c = *config;
        Ok(Self {
            input: InputEmbedder::load(&c, n_relpos, &w.at("input"))?,
            recycling: RecyclingEmbedder::load(&c, &w.at("recycle"))?,
            extra_msa_embedder: ExtraMsaEmbedder::load(&c, &w.at("extra_msa.embed"))?,
            extra_msa: stack(c.c_e, c.c_z, &c.extra_msa, &w.at("extra_msa"))?,
            evoformer: stack(c.c_m, c.c_z, &c.evoformer, &w.at("evoformer"))?,
            single: Linear::load(c.c_m, c.c_s, &w.at("single"))?,
            heads: Heads::load(&c, length, w)?,
            device: w.device().clone(),
            config: c,
        })
    }

    /// The representations before templates: MSA `[1, n_seq, n, c_m]` and pair `[1, n, n, c_z]`. `relative` says which
    /// features of a pair's relative position are 1, and how many.
    pub fn embed(
        &self,
        features: &Af2Features,
        recycled: &Recycled,
        relative: impl Fn(usize, usize) -> ([usize; 3], usize) + Send + Sync,
    ) -> Result<(Tensor, Tensor)> {
        let m = self.input.msa(features, &self.device)?;
        let (input, distances) = (self.input.pair()?, self.recycling.distances(features, recycled)?);
        let z = pairs(features.n_res(), self.config.c_z, &self.device, |i, j, out| {
            let (columns, n) = relative(i, j);
            input.add(features, (i, j), &columns[..n], out);
            distances.add((i, j), out);
        })?;
        self.recycling.add_to(&m, &z, recycled)?;
        Ok((m, z))
    }
}
