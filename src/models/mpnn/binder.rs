//! The sequence of a designed binder, by the rules of ColabDesign with the settings of PXDesign: the target's letters are kept, cysteine is
//! never chosen.
use candle_core::Result;

use super::decoder::{Logits, Prepared};
use super::{ProteinMpnn, log_softmax, score};
use crate::chem::restype::MPNN_LETTERS;
use crate::features::af2::threefry::Key;
use crate::features::mpnn::{Backbone, Chain, N_LETTER, Rules, UNKNOWN, letter};

/// How letters are chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    /// `[n_res]`: keeps its letter?
    pub fixed: Vec<bool>,
    /// Letters that are not chosen.
    pub removed: [bool; N_LETTER],
    /// `[n_res]`: added to the logits; empty for nothing.
    pub bias: Vec<[f32; N_LETTER]>,
    /// By which logits are divided.
    pub temperature: f32,
}

/// A sequence, with what it was chosen from.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// `[n_res]`.
    pub letters: Vec<u8>,
    /// `[n_res]`: before biases and temperature.
    pub logits: Vec<Logits>,
    /// Mean negative log-probability of the letters that were chosen.
    pub score: f32,
    /// How many of these are those of the backbone, 0-1.
    pub recovery: f32,
}

/// The sequence of a binder.
#[derive(Debug, Clone, PartialEq)]
pub struct Binder {
    /// Letters.
    pub sequence: String,
    /// Mean negative log-probability.
    pub score: f32,
}

/// PXDesign's temperature: the most probable letter, practically.
pub const TEMPERATURE: f32 = 1e-4;
/// Added to the logits of letters that are removed, and of those that are kept.
const REMOVED: f32 = -1e6;
const KEPT: f32 = 1e7;

impl ProteinMpnn {
    /// The sequence of the last of `chains`, the binder, beside the others, the target. Its random numbers follow from `seed` and `index`
    /// alone.
    ///
    /// # Errors
    /// Weights of CA atoms.
    pub fn binder(&self, chains: &[Chain], seed: u32, index: u32) -> Result<Binder> {
        let backbone = Backbone::new(&chains.iter().collect::<Vec<_>>(), Rules::ColabDesign);
        let target = chains.len().saturating_sub(1);
        let mut removed = [false; N_LETTER];
        removed[usize::from(letter(b'C').unwrap_or(UNKNOWN))] = true;
        let fixed = backbone.chain.iter().map(|c| *c < target).collect();
        let choice = Choice { fixed, removed, bias: Vec::new(), temperature: TEMPERATURE };
        let key = Key::new(seed).fold_in(index);
        let (of_order, of_letters) = (key.fold_in(0), key.fold_in(1));
        let uniform: Vec<f32> = (0..backbone.n_res()).map(|i| of_order.fold_in(i as u32).uniform()).collect();
        let mut step = 0;
        let mut draw = || {
            step += 1;
            let of_step = of_letters.fold_in(step);
            std::array::from_fn(|l| gumbel(of_step.fold_in(l as u32).uniform()))
        };
        let encoded = self.encode(&backbone)?;
        let prepared = self.decoder.prepare(&encoded);
        let chosen =
            self.choose(&prepared, &backbone, &choice, &random_order(&backbone, &choice, &uniform), &mut draw)?;
        let of_binder = chosen.letters.iter().zip(&backbone.chain).filter(|(_, c)| **c == target);
        let sequence = of_binder.map(|(l, _)| char::from(MPNN_LETTERS[usize::from(*l)])).collect();
        Ok(Binder { sequence, score: chosen.score })
    }

    /// Chooses letters in this order; `gumbel` gives 21 numbers of a Gumbel distribution for each.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn choose(
        &self,
        x: &Prepared,
        backbone: &Backbone,
        choice: &Choice,
        order: &[usize],
        gumbel: &mut dyn FnMut() -> [f32; N_LETTER],
    ) -> Result<Chosen> {
        let n = backbone.n_res();
        let (mut letters, mut logits) = (vec![UNKNOWN; n], vec![[0f32; N_LETTER]; n]);
        let mut state = self.decoder.start(x);
        for &i in order {
            logits[i] = self.decoder.step(x, &mut state, i)?;
            let noise = gumbel();
            let value =
                |l: usize| (logits[i][l] + choice.bias(i, l, backbone.letters[i])) / choice.temperature + noise[l];
            let values: [f32; N_LETTER - 1] = std::array::from_fn(value);
            let first = |best: usize, l: usize| if values[l] > values[best] { l } else { best };
            letters[i] = (1..values.len()).fold(0, first) as u8;
            self.decoder.show(x, &mut state, i, Some(letters[i]));
        }
        let log_probs: Vec<Logits> = logits.iter().copied().map(log_softmax).collect();
        let counts: Vec<bool> = choice.fixed.iter().zip(&backbone.mask).map(|(fixed, mask)| !fixed && *mask).collect();
        let same =
            letters.iter().zip(&backbone.letters).zip(&counts).filter(|((a, b), counts)| **counts && a == b).count();
        let recovery = same as f32 / counts.iter().filter(|c| **c).count() as f32;
        Ok(Chosen { score: score(&log_probs, &letters, &counts), letters, logits, recovery })
    }
}

impl Choice {
    /// What is added to a logit of residue `i`, whose letter is `own`. An unknown letter is not kept, and then nothing is removed there.
    fn bias(&self, i: usize, l: usize, own: u8) -> f32 {
        if self.fixed[i] {
            return if own != UNKNOWN && usize::from(own) == l { KEPT } else { 0. };
        }
        let removed = if self.removed[l] { REMOVED } else { 0. };
        removed + self.bias.get(i).map_or(0., |row| row[l])
    }
}

/// ColabDesign's order: by uniform numbers, kept letters first, residues that are not known last.
pub fn random_order(backbone: &Backbone, choice: &Choice, uniform: &[f32]) -> Vec<usize> {
    let key = |i: usize| uniform[i] + f32::from(!backbone.mask[i]) - f32::from(choice.fixed[i]);
    let mut order: Vec<usize> = (0..uniform.len()).collect();
    order.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
    order
}

/// A number of a Gumbel distribution from a uniform one.
fn gumbel(uniform: f32) -> f32 {
    -(-uniform.max(f32::MIN_POSITIVE).ln()).ln()
}
