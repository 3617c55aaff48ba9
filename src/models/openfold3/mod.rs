//! OpenFold3: which parts of the AF3 family it has, in what order.
pub mod config;

use candle_core::{Device, Result, Tensor};

use crate::features::noise::NoiseSource;
use crate::models::af3::atom_attention::WindowEnds;
use crate::models::af3::batch::Batch;
use crate::models::af3::confidence::{ConfidenceHead, DistogramHead};
use crate::models::af3::config::Config;
use crate::models::af3::diffusion::DiffusionModule;
use crate::models::af3::embed::{InputEmbedder, PairSource, Recycling};
use crate::models::af3::msa_module::{MsaEmbedder, MsaModule};
use crate::models::af3::pairformer::{Pairformer, Trunk};
use crate::models::af3::template::TemplateEmbedder;
use crate::ops::{BiasOrder, settle};
use crate::weights::Weights;

/// Bias of the ending node's triangle attention in version 2.0.0: query first, as AlphaFold 3's code.
const ENDING_BIAS: BiasOrder = BiasOrder::QueryKey;

/// The whole network, release 0.5.0.
#[derive(Debug)]
pub struct OpenFold3 {
    /// Sizes.
    pub config: Config,
    /// Atoms and tokens to the first representations.
    pub input: InputEmbedder,
    /// From one cycle to the next.
    pub recycling: Recycling,
    /// Templates.
    pub template: TemplateEmbedder,
    /// Alignment rows.
    pub msa_embedder: MsaEmbedder,
    /// Alignment to pairs.
    pub msa: MsaModule,
    /// The stack of the trunk.
    pub pairformer: Pairformer,
    /// Structures.
    pub diffusion: DiffusionModule,
    /// Confidence of a structure.
    pub confidence: ConfidenceHead,
    /// Distances from the trunk.
    pub distogram: DistogramHead,
}

/// How far the trunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrunkProgress {
    /// Cycles done before this one.
    pub cycle: usize,
    /// What has just been done in this cycle.
    pub done: TrunkPart,
}

/// The parts of a cycle, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkPart {
    /// Input embedder, before the first cycle.
    Input,
    /// Recycling and template embedder.
    Template,
    /// MSA module.
    Msa,
    /// One block of the Pairformer.
    Block,
}

impl OpenFold3 {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c = *config;
        let model = Self {
            input: InputEmbedder::load(&c, PairSource::Input, &w.at("input"))?,
            recycling: Recycling::load(&c, &w.at("recycle"))?,
            template: TemplateEmbedder::load(&c, ENDING_BIAS, &w.at("template"))?,
            msa_embedder: MsaEmbedder::load(&c, &w.at("msa"))?,
            msa: MsaModule::load(&c, ENDING_BIAS, &w.at("msa"))?,
            pairformer: Pairformer::load(c.c_s, c.c_z, c.pairformer, ENDING_BIAS, &w.at("pairformer"))?,
            diffusion: DiffusionModule::load(&c, &w.at("diffusion"))?,
            confidence: ConfidenceHead::load(&c, ENDING_BIAS, &w.at("confidence"))?,
            distogram: DistogramHead::load(&c, &w.at("distogram"))?,
            config: c,
        };
        w.finish()?;
        Ok(model)
    }

    /// Trunk with recycling: AF3 SI Alg. 1 lines 1-14. `watch` is told of each part that is done, and may end it with an error;
    /// `after_cycle` sees the representations of each cycle.
    pub fn trunk(
        &self,
        batch: &Batch,
        n_cycle: usize,
        noise: &mut dyn NoiseSource,
        watch: &mut dyn FnMut(TrunkProgress) -> Result<()>,
        after_cycle: &mut dyn FnMut(usize, &Tensor, &Tensor) -> Result<()>,
    ) -> Result<Trunk> {
        let initial = self.input.forward(batch)?;
        settle(&initial.s)?;
        watch(TrunkProgress { cycle: 0, done: TrunkPart::Input })?;
        let (mut s, mut z) = (None, None);
        for cycle in 0..n_cycle {
            let pair = self.recycling.pair(&initial, batch, z.take())?;
            self.template.add_to(&pair, batch)?;
            settle(&pair)?;
            watch(TrunkProgress { cycle, done: TrunkPart::Template })?;
            let rows = self.msa_embedder.choose_rows(batch, noise);
            let (m, msa_mask) = self.msa_embedder.forward(batch, &rows, &initial.s_input)?;
            self.msa.update(&m, &pair, &msa_mask, &batch.pair_mask)?;
            drop(m);
            watch(TrunkProgress { cycle, done: TrunkPart::Msa })?;
            let single = self.recycling.single(&initial, s.take())?;
            self.pairformer.update(&single, &pair, &batch.token_mask, &batch.pair_mask, &mut || {
                watch(TrunkProgress { cycle, done: TrunkPart::Block })
            })?;
            after_cycle(cycle, &single, &pair)?;
            (s, z) = (Some(single), Some(pair));
        }
        let (Some(s), Some(z)) = (s, z) else { candle_core::bail!("the trunk needs at least one cycle") };
        Ok(Trunk { s_input: initial.s_input, s, z })
    }

    /// The device of the weights.
    pub fn batch(&self, features: &crate::features::af3::Af3Features, device: &Device) -> Result<Batch> {
        Batch::new(features, &self.config, WindowEnds::Shifted, device)
    }
}
