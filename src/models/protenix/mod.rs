//! Protenix v0.5.0: which parts of the AF3 family it has, in what order, and what is its own.
pub mod config;
mod distances;
pub mod heads;
pub mod sample;

use candle_core::{Device, Result, Tensor};

use crate::features::af3::Af3Features;
use crate::features::noise::NoiseSource;
use crate::models::af3::atom_attention::WindowEnds;
use crate::models::af3::batch::Batch;
use crate::models::af3::confidence::DistogramHead;
use crate::models::af3::config::Config;
use crate::models::af3::diffusion::DiffusionModule;
use crate::models::af3::embed::{InputEmbedder, PairSource, Recycling};
use crate::models::af3::msa_module::{MsaEmbedder, MsaModule};
use crate::models::af3::pairformer::{Pairformer, Trunk};
use crate::ops::{BiasOrder, settle};
use crate::weights::Weights;
use heads::{ConfidenceHead, GivenPositions, StructureEmbedder};

/// Bias of the ending node's triangle attention: key first, as the papers have it.
const ENDING_BIAS: BiasOrder = BiasOrder::KeyQuery;

/// The whole network: base, mini, or mini_tmpl, which has an embedder of known positions.
#[derive(Debug)]
pub struct Protenix {
    /// Sizes.
    pub config: Config,
    /// Atoms and tokens to the first representations.
    pub input: InputEmbedder,
    /// From one cycle to the next.
    pub recycling: Recycling,
    /// Known positions; mini_tmpl alone.
    pub structure: Option<StructureEmbedder>,
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

/// How many rows of an alignment a cycle takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLimits {
    /// At least as many, if there are so many (`data.msa.min_size.test`).
    pub least: usize,
    /// No more (`data.msa.sample_cutoff.test`).
    pub most: usize,
}

impl RowLimits {
    /// What Protenix predicts with.
    pub const DEFAULT: Self = Self { least: 1, most: 16384 };
    /// What PXDesign filters with.
    pub const FILTER: Self = Self { least: 2000, most: 2000 };

    /// The rows of one cycle out of `n`: how many, then which, as `sample_msa_feature_dict_random_without_replacement`.
    pub fn choose(self, n: usize, noise: &mut dyn NoiseSource) -> Vec<usize> {
        let size = noise.randint(self.least.min(n) as u32, n as u32 + 1) as usize;
        let mut rows = noise.randperm(n);
        rows.truncate(size.min(self.most));
        rows
    }
}

impl Protenix {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c = *config;
        let structure = w.has("structure.z.weight").then(|| StructureEmbedder::load(c.c_z, &w.at("structure")));
        let model = Self {
            input: InputEmbedder::load(&c, PairSource::Single, &w.at("input"))?,
            recycling: Recycling::load(&c, &w.at("recycle"))?,
            structure: structure.transpose()?,
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

    /// Trunk with recycling: `get_pairformer_output`. `given` are known positions, for a model that takes them; `after_cycle`
    /// sees the representations of each cycle and may end the run with an error.
    pub fn trunk(
        &self,
        batch: &Batch,
        given: Option<&GivenPositions>,
        n_cycle: usize,
        rows: RowLimits,
        noise: &mut dyn NoiseSource,
        after_cycle: &mut dyn FnMut(usize, &Tensor, &Tensor) -> Result<()>,
    ) -> Result<Trunk> {
        let initial = self.input.forward(batch)?;
        settle(&initial.s)?;
        let (mut s, mut z) = (None, None);
        for cycle in 0..n_cycle {
            let pair = self.recycling.pair(&initial, batch, z.take())?;
            if let (Some(embedder), Some(given)) = (&self.structure, given) {
                embedder.add_to(&pair, given)?;
            }
            let chosen = rows.choose(batch.msa.n_seq, noise);
            let (m, msa_mask) = self.msa_embedder.forward(batch, &chosen, &initial.s_input)?;
            self.msa.update(&m, &pair, &msa_mask, &batch.pair_mask)?;
            drop(m);
            let single = self.recycling.single(&initial, s.take())?;
            self.pairformer.update(&single, &pair, &batch.token_mask, &batch.pair_mask, &mut || Ok(()))?;
            after_cycle(cycle, &single, &pair)?;
            (s, z) = (Some(single), Some(pair));
        }
        let (Some(s), Some(z)) = (s, z) else { candle_core::bail!("the trunk needs at least one cycle") };
        Ok(Trunk { s_input: initial.s_input, s, z })
    }

    /// The features on a device.
    pub fn batch(&self, features: &Af3Features, device: &Device) -> Result<Batch> {
        Batch::new(features, &self.config, WindowEnds::Cut, device)
    }
}
