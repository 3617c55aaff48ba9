//! PXDesign: backbones of binders on a target. The family's diffusion module, conditioned on a design and on the distances in
//! its target instead of on a trunk. As PXDesign (main, f788441) on Protenix 0.5.0+pxd.
pub mod config;
pub mod embedder;
pub mod sample;

use candle_core::{Device, Result, Tensor};

use crate::features::pxdesign::DesignFeatures;
use crate::models::af3::batch::Batch;
use crate::models::af3::diffusion::{ConditionedDiffusion, DiffusionModule};
use crate::weights::Weights;
use config::Config;
use embedder::ConditionEmbedder;

/// The whole network, release 0.1.0.
#[derive(Debug)]
pub struct PxDesign {
    /// Sizes.
    pub config: Config,
    /// The design to the first representations.
    pub embedder: ConditionEmbedder,
    /// Structures.
    pub diffusion: DiffusionModule,
}

impl PxDesign {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let family = config.family();
        let model = Self {
            config: *config,
            embedder: ConditionEmbedder::load(&family, &w.at("embedder"))?,
            diffusion: DiffusionModule::load(&family, &w.at("diffusion"))?,
        };
        w.finish()?;
        Ok(model)
    }

    /// The features of a task on `device`.
    pub fn batch(&self, features: &DesignFeatures, device: &Device) -> Result<Batch> {
        embedder::batch(features, &self.config.family(), device)
    }

    /// All that depends neither on the noise level nor on the sample, once for a task: pair conditioning, the atoms'
    /// conditioning, gates, and the bias of every attention. `batch` is [`batch`](Self::batch) of the same features; the result
    /// is what [`sample::sample`] draws from.
    pub fn condition<'a>(&'a self, features: &DesignFeatures, batch: &'a Batch) -> Result<ConditionedDiffusion<'a>> {
        let s_input = self.embedder.input(batch)?;
        let z = self.embedder.pair(features, &batch.device)?;
        let pair = self.diffusion.condition_pair(batch, &z)?;
        drop(z);
        // In place of the trunk's single representation: the official network has zeros.
        let s = Tensor::zeros((1, batch.n_token, self.config.c_s), s_input.dtype(), &batch.device)?;
        self.diffusion.condition(batch, &s_input, &s, pair)
    }
}
