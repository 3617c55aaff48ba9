//! The multimer models, version 3: `modules_multimer.py` of the official package.
use candle_core::{Result, Tensor};

use super::config::Config;
use super::dropout::Dropout;
use super::evoformer::Masks;
use super::heads::Trunk;
use super::ipa::PointLength;
use super::multimer_template::MultimerTemplateEmbedder;
use super::network::{Network, Part};
use super::recycle::Recycled;
use crate::features::af2::Af2Features;
use crate::weights::Weights;

/// Clip of relative chain offsets.
const S_MAX: i32 = 2;

/// A multimer model.
#[derive(Debug)]
pub struct Multimer {
    /// The layers that the monomer models have as well.
    pub network: Network,
    /// Templates.
    pub template: MultimerTemplateEmbedder,
}

impl Multimer {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let Some(template) = config.template else { candle_core::bail!("a multimer model has templates") };
        let n_relpos = (2 * config.r_max + 2) + 1 + (2 * S_MAX as usize + 2);
        let model = Self {
            network: Network::load(config, n_relpos, PointLength::Floor, w)?,
            template: MultimerTemplateEmbedder::load(config, &template, &w.at("template"))?,
        };
        w.finish()?;
        Ok(model)
    }

    /// The representations before templates: MSA `[1, n_seq, n, c_m]` and pair `[1, n, n, c_z]`.
    pub fn embed(&self, features: &Af2Features, recycled: &Recycled) -> Result<(Tensor, Tensor)> {
        self.network.embed(features, recycled, |i, j| self.relative(features, i, j))
    }

    /// Which features of a relative position are 1, and how many: residue, chain, and same entity where it holds.
    fn relative(&self, f: &Af2Features, i: usize, j: usize) -> ([usize; 3], usize) {
        let r = self.network.config.r_max as i32;
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

    /// Embedders and stacks; `watch` is told of each part that is done.
    pub fn trunk(
        &self,
        features: &Af2Features,
        recycled: Recycled,
        dropout: &Dropout,
        watch: &mut dyn FnMut(Part),
    ) -> Result<Trunk> {
        let network = &self.network;
        let (m, z) = self.embed(features, &recycled)?;
        drop(recycled);
        let masks = Masks::new(features, &network.device)?;
        self.template.add_to(&z, features, &masks.pair, dropout)?;
        watch(Part::Embedders);
        {
            let extra = network.extra_msa_embedder.forward(features, &network.device)?;
            let masks = Masks::of_extra(features, &masks.pair)?;
            for block in &network.extra_msa {
                block.update_product_first(&extra, &z, &masks, dropout)?;
                watch(Part::ExtraBlock);
            }
        }
        let rows = self.template.rows(features, &network.device)?;
        let (m, masks) = masks.with_rows(m, Some(rows))?;
        for block in &network.evoformer {
            block.update_product_first(&m, &z, &masks, dropout)?;
            watch(Part::Block);
        }
        Trunk::new(&m, z, features.n_seq(), &network.single)
    }
}
