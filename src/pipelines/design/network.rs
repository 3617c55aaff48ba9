//! PXDesign's network as the source of backbones: conditioned once for a task and a seed, then drawn from sample by sample.
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use serde_json::{Value, json};

use super::DesignError;
use super::backbones::Backbones;
use crate::features::noise::{NoiseSource, TorchGenerator};
use crate::features::pxdesign::{DesignFeatures, DesignStructure};
use crate::models::af3::diffusion::ConditionedDiffusion;
use crate::models::pxdesign::PxDesign;
use crate::models::pxdesign::config::Config;
use crate::models::pxdesign::sample::{Sampled, Schedule, StepScale, sample};
use crate::weights::Weights;

/// A loaded network.
#[derive(Debug)]
pub struct Network {
    /// The network.
    pub model: PxDesign,
    /// Where it computes.
    pub device: Device,
    /// Release and checksums of its weights.
    pub identity: Value,
    /// Bytes of its file.
    pub weight_bytes: u64,
}

impl Network {
    /// Opens a converted file.
    ///
    /// # Errors
    /// A file that is not there or of another model.
    pub fn open(path: &Path, device: &Device) -> Result<Self, DesignError> {
        let weights = Weights::open(path, device)?;
        let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
        if entry("model") != "pxdesign" {
            let (path, model) = (path.display(), entry("model"));
            return Err(DesignError::Usage(format!("{path}: is of {model}, not of pxdesign: give other --weights")));
        }
        let config: Config = weights.config()?;
        Ok(Self {
            identity: json!({
                "release": entry("release"),
                "weights_sha256": {"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")},
            }),
            model: PxDesign::load(&config, &weights)?,
            device: device.clone(),
            weight_bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        })
    }

    /// Noise levels and step scales of so many steps.
    pub fn schedule(&self, n_step: usize, step_scale: StepScale) -> Schedule {
        Schedule { levels: self.model.config.sampling, n_step, step_scale }
    }
}

/// A network that knows its task.
pub struct Conditioned<'a> {
    /// What the samples have in common.
    pub diffusion: ConditionedDiffusion<'a>,
    /// Names of all atoms.
    pub structure: &'a DesignStructure,
    /// Noise levels and step scales.
    pub schedule: Schedule,
    /// Seed of the streams.
    pub seed: u32,
}

impl Backbones for Conditioned<'_> {
    fn structure(&self) -> &DesignStructure {
        self.structure
    }

    fn n_step(&self) -> usize {
        self.schedule.n_step
    }

    fn sample(&self, samples: &[usize], tick: &mut dyn FnMut(u64) -> ControlFlow<()>) -> candle_core::Result<Sampled> {
        let stream = |&sample: &usize| Box::new(TorchGenerator::of_sample(self.seed, sample)) as Box<dyn NoiseSource>;
        let mut noise: Vec<_> = samples.iter().map(stream).collect();
        sample(&self.diffusion, &self.schedule, &mut noise, &mut |_| tick(samples.len() as u64))
    }
}

/// How many samples are worked on together where the memory is no limit: beyond, products are no faster.
const LARGEST_BATCH: usize = 8;

/// Samples at a time that fit in `available` bytes; 0 if not even one does.
pub fn batch(config: &Config, features: &DesignFeatures, weight_bytes: u64, available: u64) -> usize {
    (0..=LARGEST_BATCH).rev().find(|&n| n == 0 || peak(config, features, weight_bytes, n) <= available).unwrap_or(0)
}

/// The most bytes that are held for `n_sample` samples at a time.
pub fn peak(config: &Config, features: &DesignFeatures, weight_bytes: u64, n_sample: usize) -> u64 {
    const FLOAT: u64 = size_of::<f32>() as u64;
    const BASE: u64 = 96 << 20;
    let c = config;
    let (n, n_atom, n_sample) = (features.n_token() as u64, features.n_atom() as u64, n_sample as u64);
    // The conditioned pair representation while it is made, then the bias of every head of every block.
    let conditioning = 4 * n * n * c.c_z as u64;
    let biases = n * n * (c.token_transformer.n_block * c.token_transformer.n_head) as u64;
    // Of each atom the pairs of its window, in each block of each head, and the conditioning of each block.
    let blocks = (c.atom_encoder.n_block + c.atom_decoder.n_block) as u64;
    let windows = n_atom * (c.n_key as u64 * (blocks * c.atom_encoder.n_head as u64 + 2 * c.c_atompair as u64));
    let atoms = n_atom * blocks * 8 * c.c_atom as u64;
    let sample = n_atom * 16 * c.c_atom as u64 + n * 12 * c.c_token as u64 + n * n * c.token_transformer.n_head as u64;
    weight_bytes + BASE + FLOAT * (conditioning.max(biases) + windows + atoms + n_sample * sample)
}
