//! Noise levels and sampling: `InferenceNoiseScheduler` and `sample_diffusion` of `protenix/model/generator.py`.
use candle_core::Result;

use crate::features::noise::NoiseSource;
use crate::models::af3::config::SamplingConfig;
use crate::models::af3::sample::{Denoise, Step, sample_at};

/// Noise levels in Å, highest first: `n_step + 1` values, of which the last is 0.
pub fn noise_levels(config: &SamplingConfig, n_step: usize) -> Vec<f32> {
    let exponent = 1.0 / f64::from(config.p);
    let (high, low) = (config.s_max.powf(exponent), config.s_min.powf(exponent));
    let step = 1.0 / n_step as f64;
    let level = |k: usize| {
        let root = high as f32 + (k as f32 * step as f32) * (low - high) as f32;
        config.sigma_data * root.powi(config.p)
    };
    (0..n_step).map(level).chain([0.0]).collect()
}

/// Draws one structure after the other, `[n_sample, n_atom, 3]` in Å; `after_step` sees each step of each.
pub fn sample(
    model: &dyn Denoise,
    config: &SamplingConfig,
    n_step: usize,
    n_sample: usize,
    noise: &mut dyn NoiseSource,
    after_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Vec<f32>> {
    let levels = noise_levels(config, n_step);
    let mut structures = Vec::with_capacity(n_sample * model.n_atom() * 3);
    for _ in 0..n_sample {
        structures.extend(sample_at(model, config, &levels, 1, noise, after_step)?);
    }
    Ok(structures)
}
