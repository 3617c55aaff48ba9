//! The sampler of `pxdesign/model/generator.py`: AF3 SI Alg. 18 with a step scale that may change on the way, several samples
//! side by side, each with random numbers of its own.
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use candle_core::Result;

use crate::features::noise::NoiseSource;
use crate::models::af3::config::SamplingConfig;
use crate::models::af3::sample::{Denoise, Step};

/// How the step scale η goes from one value to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// The same in all steps: the first value.
    Const,
    /// In proportion to the step.
    Linear,
    /// In proportion to the square of the step.
    Poly,
    /// Along half a wave of the cosine.
    Cos,
    /// The first value in one half of the steps, then the other.
    Piecewise,
    /// The first value in 65 % of the steps, then the other.
    Piecewise65,
    /// The first value in 70 % of the steps, then the other.
    Piecewise70,
}

impl Course {
    /// All, with the names that the official configuration has for them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("const", Self::Const),
        ("linear", Self::Linear),
        ("poly", Self::Poly),
        ("cos", Self::Cos),
        ("piecewise", Self::Piecewise),
        ("piecewise_65", Self::Piecewise65),
        ("piecewise_70", Self::Piecewise70),
    ];
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, course)| course == self).map_or("", |(name, _)| name);
        f.pad(name)
    }
}

impl FromStr for Course {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, course)| *course);
        let names = Self::ALL.map(|(name, _)| name).join(", ");
        found.ok_or_else(|| format!("{text:?} is none of {names}"))
    }
}

/// The step scale η of each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepScale {
    /// How it changes.
    pub course: Course,
    /// Where it begins.
    pub min: f64,
    /// Where it ends.
    pub max: f64,
}

impl StepScale {
    /// What the official command line uses.
    pub const COMMAND_LINE: Self = Self { course: Course::Const, min: 2.5, max: 2.5 };
    /// What the official configuration has, and its command line writes over.
    pub const CONFIGURATION: Self = Self { course: Course::Piecewise65, min: 1.0, max: 2.5 };

    /// η of step `index` of `n_step`. The way is measured in noise levels, one more than steps, as the official program does.
    pub fn at(&self, index: usize, n_step: usize) -> f64 {
        let way = index as f64 / (n_step + 1) as f64;
        let two = |until: f64| if way < until { self.min } else { self.max };
        let between = |share: f64| self.min + (self.max - self.min) * share;
        match self.course {
            Course::Const => self.min,
            Course::Linear => between(way),
            Course::Poly => between(way * way),
            Course::Cos => between(0.5 * (1.0 - (std::f64::consts::PI * way).cos())),
            Course::Piecewise => two(0.5),
            Course::Piecewise65 => two(0.65),
            Course::Piecewise70 => two(0.70),
        }
    }
}

/// Noise levels and step scales of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Constants of the noise levels and of the noise that is added back; its step scale is not used.
    pub levels: SamplingConfig,
    /// Denoising steps.
    pub n_step: usize,
    /// η.
    pub step_scale: StepScale,
}

impl Schedule {
    /// Noise levels in Å, highest first: `n_step + 1` values, of which the last is 0. `InferenceNoiseScheduler`.
    pub fn noise_levels(&self) -> Vec<f32> {
        let config = &self.levels;
        let exponent = 1.0 / f64::from(config.p);
        let (high, low) = (config.s_max.powf(exponent), config.s_min.powf(exponent));
        let part = (1.0 / self.n_step as f64) as f32;
        let root = |k: usize| high as f32 + k as f32 * part * (low - high) as f32;
        (0..self.n_step).map(|k| config.sigma_data * root(k).powi(config.p)).chain([0.0]).collect()
    }
}

/// Coordinates of each sample, `[n_atom]` in Å; or the news that the run was broken off.
pub type Sampled = ControlFlow<(), Vec<Vec<[f32; 3]>>>;

/// Draws one structure from each of `noise`, all in one batch; a structure depends on its own random numbers alone. `after_step`
/// sees each step and says whether to go on.
///
/// Of each source are drawn: `3 n_atom` values, the first positions; then in each step 4 (a quaternion x, y, z, w of any length),
/// 3 (a shift) and `3 n_atom` (noise, also where its factor is 0).
pub fn sample(
    model: &dyn Denoise,
    schedule: &Schedule,
    noise: &mut [Box<dyn NoiseSource + '_>],
    after_step: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Sampled> {
    let (levels, n_step) = (schedule.noise_levels(), schedule.n_step);
    let (n, config) = (3 * model.n_atom(), &schedule.levels);
    let mut x: Vec<f32> = noise.iter_mut().flat_map(|noise| noise.randn(n)).map(|v| levels[0] * v).collect();
    for (index, pair) in levels.windows(2).enumerate() {
        let (level, next) = (pair[0], pair[1]);
        let gamma = if next > config.gamma_min { config.gamma_0 } else { 0.0 };
        let t = level * (gamma + 1.0);
        let scale = config.noise_scale * (t * t - level * level).sqrt();
        for (x, noise) in x.chunks_exact_mut(n).zip(noise.iter_mut()) {
            augment(x, noise.as_mut());
            x.iter_mut().zip(noise.randn(n)).for_each(|(x, v)| *x += scale * v);
        }
        let denoised = model.denoise(&x, noise.len(), t)?;
        if after_step(&Step { index, n_step, t, noisy: &x, denoised: &denoised }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let dt = schedule.step_scale.at(index, n_step) as f32 * (next - t);
        x.iter_mut().zip(&denoised).for_each(|(x, d)| *x += dt * ((*x - d) / t));
    }
    let positions = |x: &[f32]| x.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
    Ok(ControlFlow::Continue(x.chunks_exact(n).map(positions).collect()))
}

/// Centres the atoms `x`, turns them at random and moves them by a normal shift: AF3 SI Alg. 19.
fn augment(x: &mut [f32], noise: &mut dyn NoiseSource) {
    let (quaternion, shift) = (noise.randn(4), noise.randn(3));
    let rotation = rotation([0, 1, 2, 3].map(|i| f64::from(quaternion[i])));
    let mut centre = [0f64; 3];
    for atom in x.chunks_exact(3) {
        centre.iter_mut().zip(atom).for_each(|(c, &x)| *c += f64::from(x));
    }
    let n = (x.len() / 3) as f64;
    let centre = centre.map(|c| (c / n) as f32);
    for atom in x.chunks_exact_mut(3) {
        let d = [0, 1, 2].map(|axis| atom[axis] - centre[axis]);
        for (axis, row) in rotation.iter().enumerate() {
            atom[axis] = row[0] * d[0] + row[1] * d[1] + row[2] * d[2] + shift[axis];
        }
    }
}

/// Rotation matrix of a quaternion (x, y, z, w) of any length, as SciPy makes it.
fn rotation(q: [f64; 4]) -> [[f32; 3]; 3] {
    let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    let [x, y, z, w] = q.map(|v| v / norm);
    let matrix = [
        [x * x - y * y - z * z + w * w, 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), -x * x - y * y + z * z + w * w],
    ];
    matrix.map(|row| row.map(|v| v as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courses_have_their_official_names() {
        for (name, course) in Course::ALL {
            assert_eq!(name.parse(), Ok(course));
            assert_eq!(course.to_string(), name);
        }
        assert!("steps".parse::<Course>().is_err_and(|e| e.contains("piecewise_70")));
    }

    /// At 20 steps there are 21 levels: step 13 is at 0.619 of the way, step 14 at 0.667, step 15 at 0.714.
    #[test]
    fn pieces_end_at_their_share_of_the_levels() {
        let at = |course, index| StepScale { course, min: 1.0, max: 2.5 }.at(index, 20);
        assert_eq!([13, 14].map(|i| at(Course::Piecewise65, i)), [1.0, 2.5]);
        assert_eq!([14, 15].map(|i| at(Course::Piecewise70, i)), [1.0, 2.5]);
        assert_eq!([10, 11].map(|i| at(Course::Piecewise, i)), [1.0, 2.5]);
        assert_eq!(at(Course::Linear, 7), 1.5);
    }
}
