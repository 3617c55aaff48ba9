//! The monomer models: AF2 SI Alg. 2. Complexes are run as ColabFold runs them: chains differ in `asym_id`, and residues of different
//! chains are as far apart as relative positions go.
use candle_core::{Device, Result, Tensor};

use super::columns::pairs;
use super::config::Config;
use super::embed::{ExtraMsaEmbedder, InputEmbedder};
use super::evoformer::{EvoformerBlock, ExtraMsaBlock, Masks, stack};
use super::heads::{Heads, Prediction, Trunk};
use super::ipa::PointLength;
use super::recycle::{Recycled, RecyclingEmbedder};
use super::template::TemplateEmbedder;
use crate::features::af2::Af2Features;
use crate::ops::Linear;
use crate::weights::Weights;

/// A monomer model.
#[derive(Debug)]
pub struct Monomer {
    /// Sizes.
    pub config: Config,
    /// Residues and alignment to the first representations.
    pub input: InputEmbedder,
    /// From one pass to the next.
    pub recycling: RecyclingEmbedder,
    /// Templates, in models 1 and 2.
    pub template: Option<TemplateEmbedder>,
    /// Rows without a cluster.
    pub extra_msa_embedder: ExtraMsaEmbedder,
    /// Their stack.
    pub extra_msa: Vec<ExtraMsaBlock>,
    /// The stack of the trunk.
    pub evoformer: Vec<EvoformerBlock>,
    single: Linear,
    /// Structure and confidence.
    pub heads: Heads,
    device: Device,
}

impl Monomer {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c = *config;
        let template = c.template.map(|t| TemplateEmbedder::load(&c, &t, &w.at("template"))).transpose()?;
        let model = Self {
            input: InputEmbedder::load(&c, 2 * c.r_max + 1, &w.at("input"))?,
            recycling: RecyclingEmbedder::load(&c, &w.at("recycle"))?,
            template,
            extra_msa_embedder: ExtraMsaEmbedder::load(&c, &w.at("extra_msa.embed"))?,
            extra_msa: stack(c.c_e, c.c_z, &c.extra_msa, &w.at("extra_msa"))?,
            evoformer: stack(c.c_m, c.c_z, &c.evoformer, &w.at("evoformer"))?,
            single: Linear::load(c.c_m, c.c_s, &w.at("single"))?,
            heads: Heads::load(&c, PointLength::Added, w)?,
            device: w.device().clone(),
            config: c,
        };
        w.finish()?;
        Ok(model)
    }

    /// One pass.
    pub fn forward(&self, features: &Af2Features, recycled: &Recycled) -> Result<Prediction> {
        self.heads.forward(self.trunk(features, recycled)?, features)
    }

    /// The representations before templates: MSA `[1, n_seq, n, c_m]` and pair `[1, n, n, c_z]`.
    pub fn embed(&self, features: &Af2Features, recycled: &Recycled) -> Result<(Tensor, Tensor)> {
        let m = self.input.msa(features, &self.device)?;
        let (input, distances) = (self.input.pair()?, self.recycling.distances(features, recycled)?);
        let z = pairs(features.n_res(), self.config.c_z, &self.device, |i, j, out| {
            input.add(features, (i, j), &[self.relative(features, i, j)], out);
            distances.add((i, j), out);
        })?;
        self.recycling.add_to(&m, &z, recycled)?;
        Ok((m, z))
    }

    /// Alg. 4: which feature of a relative position is 1.
    fn relative(&self, f: &Af2Features, i: usize, j: usize) -> usize {
        let r = self.config.r_max as i32;
        let offset = match f.asym_id[i].cmp(&f.asym_id[j]) {
            std::cmp::Ordering::Equal => (f.residue_index[i] - f.residue_index[j] + r).clamp(0, 2 * r),
            std::cmp::Ordering::Greater => 2 * r,
            std::cmp::Ordering::Less => 0,
        };
        offset as usize
    }

    /// Embedders and stacks.
    pub fn trunk(&self, features: &Af2Features, recycled: &Recycled) -> Result<Trunk> {
        let (m, z) = self.embed(features, recycled)?;
        let masks = Masks::new(features, &self.device)?;
        if let Some(template) = &self.template {
            template.add_to(&z, features, &masks.pair)?;
        }
        {
            let extra = self.extra_msa_embedder.forward(features, &self.device)?;
            let masks = Masks::of_extra(features, &masks.pair)?;
            self.extra_msa.iter().try_for_each(|block| block.update(&extra, &z, &masks))?;
        }
        let rows = self.template.as_ref().map(|template| template.rows(features, &self.device));
        let (m, masks) = masks.with_rows(m, rows.transpose()?)?;
        self.evoformer.iter().try_for_each(|block| block.update(&m, &z, &masks))?;
        Trunk::new(&m, z, features.n_seq(), &self.single)
    }
}
