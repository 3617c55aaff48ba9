//! The monomer models: AF2 SI Alg. 2. Complexes are run as ColabFold runs them: chains differ in `asym_id`, and residues of different
//! chains are as far apart as relative positions go.
use candle_core::{Result, Tensor};

use super::config::Config;
use super::dropout::Dropout;
use super::evoformer::Masks;
use super::heads::Trunk;
use super::ipa::PointLength;
use super::network::{Network, Part};
use super::recycle::Recycled;
use super::template::TemplateEmbedder;
use crate::features::af2::Af2Features;
use crate::weights::Weights;

/// A monomer model.
#[derive(Debug)]
pub struct Monomer {
    /// The layers that multimer has as well.
    pub network: Network,
    /// Templates, in models 1 and 2.
    pub template: Option<TemplateEmbedder>,
}

impl Monomer {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let template = config.template.map(|t| TemplateEmbedder::load(config, &t, &w.at("template"))).transpose()?;
        let model = Self { network: Network::load(config, 2 * config.r_max + 1, PointLength::Added, w)?, template };
        w.finish()?;
        Ok(model)
    }

    /// The representations before templates: MSA `[1, n_seq, n, c_m]` and pair `[1, n, n, c_z]`.
    pub fn embed(&self, features: &Af2Features, recycled: &Recycled) -> Result<(Tensor, Tensor)> {
        self.network.embed(features, recycled, |i, j| ([self.relative(features, i, j), 0, 0], 1))
    }

    /// Alg. 4: which feature of a relative position is 1.
    fn relative(&self, f: &Af2Features, i: usize, j: usize) -> usize {
        let r = self.network.config.r_max as i32;
        let offset = match f.asym_id[i].cmp(&f.asym_id[j]) {
            std::cmp::Ordering::Equal => (f.residue_index[i] - f.residue_index[j] + r).clamp(0, 2 * r),
            std::cmp::Ordering::Greater => 2 * r,
            std::cmp::Ordering::Less => 0,
        };
        offset as usize
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
        if let Some(template) = &self.template {
            template.add_to(&z, features, &masks.pair, dropout)?;
        }
        watch(Part::Embedders);
        {
            let extra = network.extra_msa_embedder.forward(features, &network.device)?;
            let masks = Masks::of_extra(features, &masks.pair)?;
            for block in &network.extra_msa {
                block.update(&extra, &z, &masks, dropout)?;
                watch(Part::ExtraBlock);
            }
        }
        // Without templates the network is that of the parameter sets that have no embedder of them.
        let template = self.template.as_ref().filter(|_| !features.templates.is_empty());
        let rows = template.map(|template| template.rows(features, &network.device));
        let (m, masks) = masks.with_rows(m, rows.transpose()?)?;
        for block in &network.evoformer {
            block.update(&m, &z, &masks, dropout)?;
            watch(Part::Block);
        }
        Trunk::new(&m, z, features.n_seq(), &network.single)
    }
}
