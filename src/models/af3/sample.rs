//! Sampling of structures: AF3 SI Alg. 18 and 19, on the host, over anything that denoises.
use candle_core::Result;

use super::config::SamplingConfig;
use crate::features::noise::NoiseSource;

/// A denoiser of atom positions.
pub trait Denoise {
    /// Atoms of the structure.
    fn n_atom(&self) -> usize;
    /// 1 for real atoms.
    fn atom_mask(&self) -> &[f32];
    /// Denoised positions from `noisy` ones, both `[n_sample, n_atom, 3]` in Å, at noise level `t` in Å.
    fn denoise(&self, noisy: &[f32], n_sample: usize, t: f32) -> Result<Vec<f32>>;
}

/// Noise levels in Å, highest first: `n_step + 1` values of the schedule of AF3 SI section 3.7.
pub fn noise_schedule(config: &SamplingConfig, n_step: usize) -> Vec<f32> {
    let exponent = 1.0 / f64::from(config.p);
    let (high, low) = (config.s_max.powf(exponent), config.s_min.powf(exponent));
    let level = |step: usize| {
        let tau = step as f32 / n_step as f32;
        config.sigma_data * (high as f32 + tau * (low - high) as f32).powi(config.p)
    };
    (0..=n_step).map(level).collect()
}

/// One step of the sampler as it is reported: the input of the denoiser and what it made of it.
#[derive(Debug)]
pub struct Step<'a> {
    /// Steps done before this one.
    pub index: usize,
    /// Steps in all.
    pub n_step: usize,
    /// Noise level in Å.
    pub t: f32,
    /// `[n_sample, n_atom, 3]`.
    pub noisy: &'a [f32],
    /// `[n_sample, n_atom, 3]`.
    pub denoised: &'a [f32],
}

/// Draws `n_sample` structures, `[n_sample, n_atom, 3]` in Å. All samples share one stream, as in the official program;
/// `after_step` sees each step and may end the run with an error.
pub fn sample(
    model: &dyn Denoise,
    config: &SamplingConfig,
    n_step: usize,
    n_sample: usize,
    noise: &mut dyn NoiseSource,
    after_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Vec<f32>> {
    sample_at(model, config, &noise_schedule(config, n_step), n_sample, noise, after_step)
}

/// As [`sample`], at noise `levels` in Å, highest first: one step between each two.
pub fn sample_at(
    model: &dyn Denoise,
    config: &SamplingConfig,
    levels: &[f32],
    n_sample: usize,
    noise: &mut dyn NoiseSource,
    after_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Vec<f32>> {
    let n_step = levels.len() - 1;
    let n = n_sample * model.n_atom() * 3;
    let mut x: Vec<f32> = noise.randn(n).into_iter().map(|v| levels[0] * v).collect();
    for (index, pair) in levels.windows(2).enumerate() {
        let (level, next) = (pair[0], pair[1]);
        augment(&mut x, n_sample, model.atom_mask(), noise);
        let gamma = if next > config.gamma_min { config.gamma_0 } else { 0.0 };
        let t = level * (gamma + 1.0);
        // Drawn even where its factor is 0, as the official program does.
        let scale = config.noise_scale * (t * t - level * level).sqrt();
        let noisy: Vec<f32> = x.iter().zip(noise.randn(n)).map(|(x, v)| x + scale * v).collect();
        let denoised = model.denoise(&noisy, n_sample, t)?;
        after_step(&Step { index, n_step, t, noisy: &noisy, denoised: &denoised })?;
        let dt = config.step_scale * (next - t);
        x = noisy.iter().zip(&denoised).map(|(x, d)| x + dt * ((x - d) / t)).collect();
    }
    Ok(x)
}

/// Centres each sample, turns it at random and moves it by a unit normal shift: Alg. 19. Four and three numbers a sample
/// are drawn: all quaternions, then all shifts.
pub fn augment(x: &mut [f32], n_sample: usize, mask: &[f32], noise: &mut dyn NoiseSource) {
    let quaternions = noise.randn(4 * n_sample);
    let shifts = noise.randn(3 * n_sample);
    let n_real = mask.iter().map(|&m| f64::from(m)).sum::<f64>().max(1.0);
    for (k, sample) in x.chunks_exact_mut(3 * mask.len()).enumerate() {
        let rotation = rotation([0, 1, 2, 3].map(|i| quaternions[4 * k + i]));
        let mut centre = [0f64; 3];
        for (atom, &m) in sample.chunks_exact(3).zip(mask) {
            centre.iter_mut().zip(atom).for_each(|(c, &x)| *c += f64::from(x * m));
        }
        let centre = centre.map(|c| (c / n_real) as f32);
        for (atom, &m) in sample.chunks_exact_mut(3).zip(mask) {
            let d = [atom[0] - centre[0], atom[1] - centre[1], atom[2] - centre[2]];
            for (axis, row) in rotation.iter().enumerate() {
                let turned = row[0] * d[0] + row[1] * d[1] + row[2] * d[2];
                atom[axis] = (turned + shifts[3 * k + axis]) * m;
            }
        }
    }
}

/// Rotation matrix of a quaternion (w, x, y, z) of any length.
fn rotation(q: [f32; 4]) -> [[f32; 3]; 3] {
    let norm = q.iter().map(|v| v * v).sum::<f32>().sqrt();
    let [w, x, y, z] = q.map(|v| v / norm);
    [
        [w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
}
