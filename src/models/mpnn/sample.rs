//! Sampling by the rules of the official program: `sample` and `tied_sample` of `protein_mpnn_utils.py`.
use candle_core::Result;

use super::decoder::{Logits, Prepared};
use super::{ProteinMpnn, decoding_order};
use crate::features::mpnn::N_LETTER;

/// What a sequence has to keep to, residue by residue in the order of the backbone.
#[derive(Debug, Clone, Default)]
pub struct Constraints {
    /// `[n_res]`: may the letter be chosen? The others keep theirs.
    pub designed: Vec<bool>,
    /// Letters that are chosen nowhere.
    pub omit: [bool; N_LETTER],
    /// Added to the logits everywhere, before the temperature.
    pub bias: [f64; N_LETTER],
    /// `[n_res]`: letters that are not chosen there; empty for none.
    pub omit_at: Vec<[bool; N_LETTER]>,
    /// `[n_res]`: added to the logits there; empty for none.
    pub bias_at: Vec<[f32; N_LETTER]>,
    /// Residues that have one letter, with the weights of their logits. The group is decoded where its first residue would be; bias and
    /// omitted letters are those of its last.
    pub tied: Vec<Vec<(usize, f32)>>,
    /// What is known of each residue from an alignment.
    pub pssm: Option<Pssm>,
}

/// Position-specific scores, by which probabilities are changed.
#[derive(Debug, Clone, Default)]
pub struct Pssm {
    /// `[n_res]`: trust, 0-1.
    pub trust: Vec<f32>,
    /// `[n_res]`: probabilities.
    pub probabilities: Vec<[f32; N_LETTER]>,
    /// `[n_res]`: letters above the threshold of the log odds; the others become a thousand times less probable.
    pub likely: Vec<[bool; N_LETTER]>,
    /// How much of the trusted probabilities is mixed in, 0-1; `None` for not at all.
    pub mixed: Option<f32>,
    /// Are unlikely letters suppressed?
    pub suppressed: bool,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// `[n_res]`.
    pub letters: Vec<u8>,
    /// `[n_res]`: what each letter was drawn from; zero where none was.
    pub probabilities: Vec<Logits>,
    /// Order of decoding.
    pub order: Vec<usize>,
}

impl ProteinMpnn {
    /// A sequence at a temperature. `letters` `[n_res]` are those of the backbone, `mask` says which residues are known, `keys` `[n_res]`
    /// are the normal random numbers of the order, `draw` gives 21 numbers of an exponential distribution for each choice.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn sample(
        &self,
        x: &Prepared,
        (letters, mask): (&[u8], &[bool]),
        constraints: &Constraints,
        temperature: f64,
        keys: &[f32],
        draw: &mut dyn FnMut() -> [f64; N_LETTER],
    ) -> Result<Sampled> {
        let free: Vec<bool> = constraints.designed.iter().zip(mask).map(|(d, m)| *d && *m).collect();
        let groups = constraints.groups(&decoding_order(&free, keys));
        let mut state = self.decoder.start(x);
        let mut made = Sampled {
            letters: letters.to_vec(),
            probabilities: vec![[0.; N_LETTER]; letters.len()],
            order: groups.iter().flatten().map(|(i, _)| *i).collect(),
        };
        for group in &groups {
            let mut sum = [0f32; N_LETTER];
            let mut kept = None;
            for &(i, weight) in group {
                if !mask[i] {
                    kept = Some(letters[i]);
                    break;
                }
                let logits = self.decoder.step(x, &mut state, i)?;
                let share = |l: f32| weight * (l / temperature as f32) / group.len() as f32;
                sum.iter_mut().zip(logits).for_each(|(sum, l)| *sum += share(l));
                if group.len() > 1 {
                    // The others of the group see that it is decoded, not its letter.
                    self.decoder.show(x, &mut state, i, None);
                }
            }
            let last = group[group.len() - 1].0;
            let letter = match kept {
                Some(letter) => letter,
                None => {
                    let probabilities = constraints.probabilities(&sum, last, temperature);
                    let drawn = choose(&probabilities, &draw());
                    for &(i, _) in group.iter().filter(|(i, _)| group.len() > 1 || free[*i]) {
                        made.probabilities[i] = probabilities.map(|p| p as f32);
                    }
                    if free[last] { drawn } else { letters[last] }
                }
            };
            for &(i, _) in group {
                made.letters[i] = letter;
                self.decoder.show(x, &mut state, i, Some(letter));
            }
        }
        Ok(made)
    }
}

impl Constraints {
    /// All residues in the order in which they are decoded, tied ones together.
    fn groups(&self, order: &[usize]) -> Vec<Vec<(usize, f32)>> {
        let mut done = vec![false; order.len()];
        let mut groups = Vec::new();
        for &i in order {
            if done[i] {
                continue;
            }
            let tied = self.tied.iter().find(|group| group.iter().any(|(j, _)| *j == i));
            let group = tied.cloned().unwrap_or_else(|| vec![(i, 1.)]);
            group.iter().for_each(|(j, _)| done[*j] = true);
            groups.push(group);
        }
        groups
    }

    /// What a letter is drawn from: `logits` are divided by the temperature already.
    fn probabilities(&self, logits: &[f32; N_LETTER], i: usize, temperature: f64) -> [f64; N_LETTER] {
        let at = self.bias_at.get(i);
        let logit = |l: usize| {
            let omitted = if self.omit[l] { 1e8 } else { 0. };
            let by_residue = at.map_or(0., |row| row[l] / temperature as f32);
            f64::from(logits[l] - omitted) + self.bias[l] / temperature + f64::from(by_residue)
        };
        let mut p: [f64; N_LETTER] = std::array::from_fn(logit);
        let most = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        p = p.map(|l| (l - most).exp());
        normalise(&mut p);
        if let Some(pssm) = &self.pssm {
            if let Some(mixed) = pssm.mixed {
                let share = f64::from(mixed * pssm.trust[i]);
                let known = &pssm.probabilities[i];
                p.iter_mut().zip(known).for_each(|(p, known)| *p = (1. - share) * *p + share * f64::from(*known));
            }
            if pssm.suppressed {
                let likely = &pssm.likely[i];
                p.iter_mut()
                    .zip(likely)
                    .for_each(|(p, likely)| *p = if *likely { *p + *p * 0.001 } else { *p * 0.001 });
                normalise(&mut p);
            }
        }
        if let Some(omit) = self.omit_at.get(i) {
            p.iter_mut().zip(omit).filter(|(_, omit)| **omit).for_each(|(p, _)| *p = 0.);
            normalise(&mut p);
        }
        p
    }
}

fn normalise(p: &mut [f64; N_LETTER]) {
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
}

/// A draw with these probabilities: the largest quotient with numbers of an exponential distribution.
fn choose(probabilities: &[f64; N_LETTER], exponential: &[f64; N_LETTER]) -> u8 {
    let mut best = 0;
    for l in 1..N_LETTER {
        if probabilities[l] / exponential[l] > probabilities[best] / exponential[best] {
            best = l;
        }
    }
    best as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tied_residues_are_decoded_together() {
        let constraints = Constraints { tied: vec![vec![(3, 0.5), (1, 0.5)]], ..Constraints::default() };
        let order: Vec<usize> = constraints.groups(&[2, 1, 0, 3]).iter().flatten().map(|(i, _)| *i).collect();
        assert_eq!(order, [2, 3, 1, 0]);
    }

    #[test]
    fn omitted_letters_have_no_probability() {
        let mut constraints = Constraints { omit_at: vec![[false; N_LETTER]; 2], ..Constraints::default() };
        constraints.omit[20] = true;
        constraints.omit_at[1][4] = true;
        let p = constraints.probabilities(&[1.; N_LETTER], 1, 0.5);
        assert_eq!((p[20], p[4]), (0., 0.));
        assert!((p.iter().sum::<f64>() - 1.).abs() < 1e-12 && (p[0] - 1. / 19.).abs() < 1e-12);
    }

    #[test]
    fn a_bias_is_divided_by_the_temperature() {
        let mut constraints = Constraints::default();
        constraints.bias[2] = 1.5;
        let p = constraints.probabilities(&[0.; N_LETTER], 0, 0.5);
        assert!((p[2] / p[0] - (3f64).exp()).abs() < 1e-9);
    }
}
