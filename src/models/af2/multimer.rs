//! The multimer models, version 3: `modules_multimer.py` of the official package.
use candle_core::{Device, Result, Tensor};

use super::columns::pairs;
use super::config::Config;
use super::embed::{ExtraMsaEmbedder, InputEmbedder};
use super::evoformer::{EvoformerBlock, ExtraMsaBlock, Masks, stack};
use super::heads::{Heads, Prediction, Trunk};
use super::ipa::PointLength;
use super::multimer_template::MultimerTemplateEmbedder;
use super::recycle::{Recycled, RecyclingEmbedder};
use crate::features::af2::Af2Features;
use crate::ops::Linear;
use crate::weights::Weights;

/// Clip of relative chain offsets.
const S_MAX: i32 = 2;

/// A multimer model.
#[derive(Debug)]
pub struct Multimer {
    /// Sizes.
    pub config: Config,
    /// Residues and alignment to the first representations.
    pub input: InputEmbedder,
    /// From one pass to the next.
    pub recycling: RecyclingEmbedder,
    /// Templates.
    pub template: MultimerTemplateEmbedder,
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

impl Multimer {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c = *config;
        let Some(template) = c.template else { candle_core::bail!("a multimer model has templates") };
        let n_relpos = (2 * c.r_max + 2) + 1 + (2 * S_MAX as usize + 2);
        let model = Self {
            input: InputEmbedder::load(&c, n_relpos, &w.at("input"))?,
            recycling: RecyclingEmbedder::load(&c, &w.at("recycle"))?,
            template: MultimerTemplateEmbedder::load(&c, &template, &w.at("template"))?,
            extra_msa_embedder: ExtraMsaEmbedder::load(&c, &w.at("extra_msa.embed"))?,
            extra_msa: stack(c.c_e, c.c_z, &c.extra_msa, &w.at("extra_msa"))?,
            evoformer: stack(c.c_m, c.c_z, &c.evoformer, &w.at("evoformer"))?,
            single: Linear::load(c.c_m, c.c_s, &w.at("single"))?,
            heads: Heads::load(&c, PointLength::Floor, w)?,
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
            let (columns, n) = self.relative(features, i, j);
            input.add(features, (i, j), &columns[..n], out);
            distances.add((i, j), out);
        })?;
        self.recycling.add_to(&m, &z, recycled)?;
        Ok((m, z))
    }

    /// Which features of a relative position are 1, and how many: residue, chain, and same entity where it holds.
    fn relative(&self, f: &Af2Features, i: usize, j: usize) -> ([usize; 3], usize) {
        let r = self.config.r_max as i32;
        let offset = |same: bool, offset: i32, clip: i32| {
            if same { (offset + clip).clamp(0, 2 * clip) } else { 2 * clip + 1 }
        };
        let same_entity = f.entity_id[i] == f.entity_id[j];
        let residue = offset(f.asym_id[i] == f.asym_id[j], f.residue_index[i] - f.residue_index[j], r);
        let chain = offset(same_entity, f.sym_id[i] - f.sym_id[j], S_MAX);
        let entity = 2 * r + 2;
        let columns = [residue, entity + 1 + chain, entity].map(|column| column as usize);
        (columns, if same_entity { 3 } else { 2 })
    }

    /// Embedders and stacks.
    pub fn trunk(&self, features: &Af2Features, recycled: &Recycled) -> Result<Trunk> {
        let (m, z) = self.embed(features, recycled)?;
        let masks = Masks::new(features, &self.device)?;
        self.template.add_to(&z, features, &masks.pair)?;
        {
            let extra = self.extra_msa_embedder.forward(features, &self.device)?;
            let masks = Masks::of_extra(features, &masks.pair)?;
            self.extra_msa.iter().try_for_each(|block| block.update_product_first(&extra, &z, &masks))?;
        }
        let rows = self.template.rows(features, &self.device)?;
        let (m, masks) = masks.with_rows(m, Some(rows))?;
        self.evoformer.iter().try_for_each(|block| block.update_product_first(&m, &z, &masks))?;
        Trunk::new(&m, z, features.n_seq(), &self.single)
    }
}
