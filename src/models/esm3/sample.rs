//! One step of iterative sampling: logits of a protein's track to tokens at some of its masked positions. `esm/utils/sampling.py`
//! and `_get_iterative_sampling_mask_for_prompt_and_step` (`esm/utils/generation.py`) of esm 3.2.1.
use super::tracks::N_FUNCTION;
use crate::features::esm3::{FIRST_CLASS, FUNCTION_DEPTH, NONE, Token, Track};
use crate::features::noise::{NoiseSource, TorchGenerator};

/// In what order masked positions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// At random.
    Random,
    /// Those first whose distribution has the lowest entropy.
    Entropy,
}

/// How many positions are still masked after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// A quarter of a cosine: few first, many at the end.
    Cosine,
    /// As many in each step.
    Linear,
}

/// How a track is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The track.
    pub track: Track,
    /// Steps; no more are made than there are masked positions.
    pub n_step: usize,
    /// Positions by step.
    pub schedule: Schedule,
    /// Which positions.
    pub strategy: Strategy,
    /// Of the first step; 0 takes the likeliest token.
    pub temperature: f64,
    /// Does the temperature fall to almost 0 with the steps?
    pub is_annealed: bool,
    /// Tokens are drawn from the likeliest that have this probability together.
    pub top_p: f64,
    /// Ids that are never drawn, beside those without a meaning.
    pub invalid_ids: Vec<u16>,
}

impl Settings {
    /// The official defaults.
    pub fn new(track: Track) -> Self {
        Self {
            track,
            n_step: 20,
            schedule: Schedule::Cosine,
            strategy: Strategy::Random,
            temperature: 1.,
            is_annealed: true,
            top_p: 1.,
            invalid_ids: Vec::new(),
        }
    }

    /// That there is something to draw from.
    pub fn check(&self) -> Result<(), SampleError> {
        match self.track {
            Track::ResidueAnnotations => Err(SampleError::Track),
            Track::Function if self.temperature_at(0) <= 0. => Err(SampleError::Temperature),
            Track::Function => Ok(()),
            _ if self.ids().next().is_none() => Err(SampleError::NoId),
            _ => Ok(()),
        }
    }

    /// Ids that may be drawn.
    fn ids(&self) -> impl Iterator<Item = usize> {
        valid_ids(self.track).filter(|id| !self.invalid_ids.contains(id)).map(usize::from)
    }

    /// Of a step, from 0: `max(T - step / (n_step - 1), 0.001)²` where it is annealed.
    pub fn temperature_at(&self, step: usize) -> f64 {
        if !self.is_annealed {
            return self.temperature;
        }
        let passed = step as f64 / self.n_step.saturating_sub(1).max(1) as f64;
        (self.temperature - passed).max(0.001).powi(2)
    }

    /// Of `n_total` positions, those that are still masked after a step.
    pub fn n_masked_after(&self, step: usize, n_total: usize) -> usize {
        let passed = ((step + 1) as f64 / self.n_step as f64) as f32;
        let share = match self.schedule {
            Schedule::Cosine => (passed * std::f32::consts::PI * 0.5).cos(),
            Schedule::Linear => 1. - passed,
        };
        (share * n_total as f32 + 0.1).max(0.) as usize
    }
}

/// Random numbers of a step: first one for each position, then an order of the masked ones.
pub trait Draws {
    /// `n` numbers in 0..1.
    fn uniform(&mut self, n: usize) -> Vec<f64>;
    /// An order of `0..n`.
    fn permutation(&mut self, n: usize) -> Vec<usize>;
}

impl Draws for TorchGenerator {
    fn uniform(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64).collect()
    }

    fn permutation(&mut self, n: usize) -> Vec<usize> {
        self.randperm(n)
    }
}

/// What a step would write at each position, and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Of each position, whether it is masked or not.
    pub tokens: Vec<Token>,
    /// Of each position, in nats: of the distribution without invalid ids at temperature 1; of the function track at that of the step.
    pub entropy: Vec<f64>,
}

/// Why a track cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Nothing to draw.
    #[error("nothing is masked on the track")]
    NoMask,
    /// All ids are excluded.
    #[error("no id is left that may be drawn")]
    NoId,
    /// The function track divides by the temperature.
    #[error("the function track needs a temperature above 0")]
    Temperature,
    /// Tokens of this track do not come from iterative sampling.
    #[error("residue annotations cannot be generated")]
    Track,
}

/// Draws a token for each of the positions from `logits` `[n, tokens]`.
pub fn draw(logits: &[f32], n: usize, step: usize, s: &Settings, draws: &mut dyn Draws) -> Result<Drawn, SampleError> {
    s.check()?;
    let temperature = s.temperature_at(step);
    match s.track {
        Track::Function => Ok(draw_functions(logits, n, temperature, s.top_p)),
        _ => {
            let width = logits.len() / n.max(1);
            let valid: Vec<usize> = s.ids().collect();
            let uniform = if temperature > 0. { draws.uniform(n) } else { vec![0.; n] };
            let mut drawn = Drawn { tokens: Vec::with_capacity(n), entropy: Vec::with_capacity(n) };
            for (row, u) in logits.chunks_exact(width).zip(uniform) {
                let kept = likeliest(row, s.top_p);
                let mut ids: Vec<usize> = valid.iter().copied().filter(|id| kept[*id]).collect();
                if ids.is_empty() {
                    ids.clone_from(&valid); // the likeliest tokens are all invalid: the official program fails here
                }
                let row: Vec<f64> = ids.iter().map(|id| f64::from(row[*id])).collect();
                drawn.entropy.push(entropy(&probabilities(&row, 1.)));
                let place = if temperature > 0. { pick(&probabilities(&row, temperature), u) } else { largest(&row) };
                drawn.tokens.push(vec![ids[place] as u16]);
            }
            Ok(drawn)
        }
    }
}

/// Ids of a track that mean something.
fn valid_ids(track: Track) -> std::ops::Range<u16> {
    match track {
        Track::Sequence => 4..31,
        Track::Structure => 0..4096,
        Track::SecondaryStructure => FIRST_CLASS..11,
        Track::Sasa => FIRST_CLASS..19,
        Track::Function | Track::ResidueAnnotations => 0..0,
    }
}

/// Which tokens are among the likeliest that have the probability `top_p` together; the first always.
fn likeliest(row: &[f32], top_p: f64) -> Vec<bool> {
    if top_p >= 1. {
        return vec![true; row.len()];
    }
    let p = probabilities(&row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), 1.);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let (mut kept, mut sum) = (vec![false; p.len()], 0.);
    for (rank, id) in order.into_iter().enumerate() {
        sum += p[id];
        kept[id] = rank == 0 || sum <= top_p;
    }
    kept
}

fn probabilities(logits: &[f64], temperature: f64) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::MIN, f64::max);
    let mut p: Vec<f64> = logits.iter().map(|v| ((v - top) / temperature).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}

fn entropy(p: &[f64]) -> f64 {
    -p.iter().filter(|p| **p > 0.).map(|p| p * p.ln()).sum::<f64>()
}

/// The first place whose cumulative probability exceeds `u`.
fn pick(p: &[f64], u: f64) -> usize {
    let mut sum = 0.;
    let found = p.iter().position(|p| {
        sum += p;
        sum > u
    });
    // Rounding may leave the sum below u: the last place that can be drawn.
    found.or_else(|| p.iter().rposition(|p| *p > 0.)).unwrap_or(0)
}

/// The first place of the largest value.
fn largest(values: &[f64]) -> usize {
    (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0)
}

/// Share of `<none>` in a residue's tables from which it has no function.
const NONE_SHARE: f64 = 0.05;

/// Functions: no randomness. A residue has none, or the likeliest hash of each table.
fn draw_functions(logits: &[f32], n: usize, temperature: f64, top_p: f64) -> Drawn {
    let mut drawn = Drawn { tokens: Vec::with_capacity(n), entropy: Vec::with_capacity(n) };
    let none = usize::from(NONE);
    for residue in logits.chunks_exact(FUNCTION_DEPTH * N_FUNCTION) {
        let table = |row: &[f32]| {
            let kept = likeliest(row, top_p);
            let row: Vec<f64> =
                row.iter().zip(kept).map(|(v, kept)| if kept { f64::from(*v) } else { f64::NEG_INFINITY }).collect();
            probabilities(&row, temperature)
        };
        let mut tables: Vec<Vec<f64>> = residue.chunks_exact(N_FUNCTION).map(table).collect();
        let share = tables.iter().map(|p| p[none]).sum::<f64>() / FUNCTION_DEPTH as f64;
        let token = if share > NONE_SHARE {
            vec![NONE; FUNCTION_DEPTH]
        } else {
            tables.iter_mut().for_each(|p| {
                let left = 1. - std::mem::take(&mut p[none]);
                p.iter_mut().for_each(|p| *p /= left);
            });
            tables.iter().map(|p| largest(p) as u16).collect()
        };
        drawn.tokens.push(token);
        drawn.entropy.push(tables.iter().map(|p| entropy(p)).sum());
    }
    drawn
}

/// Which of the `masked` positions are written in a step; `n_total` is how many there were to write in all.
pub fn choose(
    masked: &[usize],
    entropy: &[f64],
    n_total: usize,
    step: usize,
    s: &Settings,
    draws: &mut dyn Draws,
) -> Result<Vec<usize>, SampleError> {
    if masked.is_empty() {
        return Err(SampleError::NoMask);
    }
    let n = masked.len().saturating_sub(s.n_masked_after(step, n_total));
    let mut order: Vec<usize> = match s.strategy {
        Strategy::Random => draws.permutation(masked.len()).into_iter().map(|i| masked[i]).collect(),
        Strategy::Entropy => {
            let mut order = masked.to_vec();
            order.sort_by(|a, b| entropy[*a].total_cmp(&entropy[*b]));
            order
        }
    };
    order.truncate(n);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(temperature: f64, top_p: f64) -> Settings {
        Settings { temperature, top_p, is_annealed: false, ..Settings::new(Track::Sequence) }
    }

    /// 10,000 tokens at temperature 0.8 against the distribution they are drawn from: chi-square, 1 in 1,000.
    #[test]
    fn tokens_have_the_distribution_of_the_logits() {
        let mut generator = TorchGenerator::new(7);
        let row: Vec<f32> = (0..64).map(|i| ((i * 37 % 11) as f32) / 4.).collect();
        let n = 10_000;
        let logits = row.repeat(n);
        for (top_p, critical) in [(1., 54.05), (0.6, 29.59)] {
            let drawn = draw(&logits, n, 0, &sequence(0.8, top_p), &mut generator).unwrap();
            let kept = likeliest(&row, top_p);
            let ids: Vec<usize> = (4..31).filter(|id| kept[*id]).collect();
            let p = probabilities(&ids.iter().map(|id| f64::from(row[*id])).collect::<Vec<_>>(), 0.8);
            let mut counts = vec![0.; 64];
            drawn.tokens.iter().for_each(|token| counts[usize::from(token[0])] += 1.);
            assert_eq!(ids.iter().map(|id| counts[*id]).sum::<f64>(), n as f64);
            let chi: f64 =
                ids.iter().zip(&p).map(|(id, p)| (counts[*id] - p * n as f64).powi(2) / (p * n as f64)).sum();
            // Quantile 0.999 for 26 degrees of freedom; for 10 where top-p leaves fewer.
            assert!(chi < critical && ids.len() > 5, "{chi} of {} ids", ids.len());
        }
    }

    #[test]
    fn zero_temperature_takes_the_likeliest_valid_token() {
        let mut row = vec![0f32; 64];
        (row[2], row[9], row[33]) = (9., 3., 8.);
        let mut generator = TorchGenerator::new(1);
        let drawn = draw(&row, 1, 0, &sequence(0., 1.), &mut generator).unwrap();
        assert_eq!(drawn.tokens, [[9]]);
        let s = Settings { invalid_ids: (4..31).collect(), ..sequence(1., 1.) };
        assert_eq!(draw(&row, 1, 0, &s, &mut generator), Err(SampleError::NoId));
        // The likeliest tokens are invalid: top-p leaves nothing and is not applied.
        let drawn = draw(&row, 1, 0, &sequence(0., 0.5), &mut generator).unwrap();
        assert_eq!(drawn.tokens, [[9]]);
    }

    #[test]
    fn schedules_end_with_nothing_masked() {
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            let s = Settings { n_step: 7, schedule, ..Settings::new(Track::Structure) };
            let left: Vec<usize> = (0..7).map(|step| s.n_masked_after(step, 50)).collect();
            assert!(left.is_sorted_by(|a, b| a >= b) && left[6] == 0 && left[0] > 40, "{left:?}");
        }
    }

    #[test]
    fn temperatures_fall() {
        let s = Settings { n_step: 3, ..Settings::new(Track::Sequence) };
        assert_eq!([0, 1, 2].map(|step| s.temperature_at(step)), [1., 0.25, 1e-6]);
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!((largest(&[1., 3., 3.]), pick(&[0.5, 0.5, 0.], 1.), pick(&[0., 1.], 0.)), (1, 1, 1));
    }
}
