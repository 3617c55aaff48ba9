//! A designed binder beside its target, and alone, as ColabDesign 1.1.1 gives them to AlphaFold2's monomer models: protocols `binder`
//! with a binder chain (`af/prep.py`, `_prep_binder` and `prep_pdb`; `af/inputs.py`) and `hallucination`.
use super::atom37::{atom37, beta};
use super::{Af2Features, ExtraMsa, Msa, N_ATOM37, N_LETTER, Template};
use crate::chem::atom_layout::{C, CA, CB, N};
use crate::chem::restype::UNKNOWN;
use crate::query::TemplateChain;

/// Residue type of a template that does not show it: a gap.
const GAP: u8 = 21;
/// What separates the numbers of two chains.
const CHAIN_GAP: i32 = 50;

/// A chain of a structure, residue by residue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KnownChain {
    /// `[n]`, 0-20.
    pub restype: Vec<u8>,
    /// `[n]`: the numbers of the file.
    pub residue_index: Vec<i32>,
    /// `[n * 37]`, Å; atoms that are not there are at the origin.
    pub positions: Vec<[f32; 3]>,
    /// `[n * 37]`, 1 = there.
    pub mask: Vec<f32>,
}

/// What the template shows of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: `rm_template`.
    Nothing,
    /// Backbone and CB: `rm_template_seq`.
    Backbone,
    /// Backbone, CB and residue types: `rm_template_sc`.
    Letters,
    /// All atoms and residue types.
    Everything,
}

/// Which structure is known of a complex, and which sequence is to take the binder's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// The target's chains.
    pub target: Vec<KnownChain>,
    /// The binder as it was designed; its residue types are not looked at.
    pub binder: KnownChain,
    /// `[n]`, 0-19: a letter for each residue of the binder that has its N.
    pub sequence: Vec<u8>,
    /// Of the target.
    pub target_shown: Shown,
    /// Of the binder.
    pub binder_shown: Shown,
    /// Does the template say how they lie to each other? Not if `rm_template_ic`.
    pub shows_interface: bool,
}

/// Why there are no features.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DesignError {
    /// A chain whose arrays have different lengths.
    #[error("a chain of {0} residues has arrays of other lengths")]
    Shape(usize),
    /// A residue that is no amino acid of the twenty.
    #[error("residue {0} of the target is not one of the twenty amino acids; the network has no letter for it")]
    Letter(i32),
    /// The sequence is not of the binder's length.
    #[error(
        "the binder has {residues} residues with an N atom, its sequence {letters} letters; give one letter for each"
    )]
    Length {
        /// Residues of the structure.
        residues: usize,
        /// Letters of the sequence.
        letters: usize,
    },
    /// A letter of the sequence that is not one of the twenty.
    #[error("letter {0} of the binder's sequence is not one of the twenty amino acids")]
    Sequence(usize),
    /// Nothing to fold, or nothing to fold it on.
    #[error("the {0} has no residue with an N atom")]
    Empty(&'static str),
}

/// What the network is given of a complex.
#[derive(Debug, Clone)]
pub struct DesignFeatures {
    /// Target, then binder. `asym_id` is 0 throughout: the numbers alone say how far residues are apart.
    pub features: Af2Features,
    /// `[n * 37]`: where the first pass begins.
    pub guess: Vec<[f32; 3]>,
    /// `[n * 37]`: which atoms the structure has, put-in CB included.
    pub known: Vec<f32>,
    /// Residues of the target, which come first.
    pub n_target: usize,
}

impl Design {
    /// Features of the complex with the new sequence.
    ///
    /// # Errors
    /// Chains that are not of one length in all arrays, and letters that the protocol has no features for.
    pub fn features(&self) -> Result<DesignFeatures, DesignError> {
        let target = self.target.iter().map(KnownChain::completed).collect::<Result<Vec<_>, _>>()?;
        let binder = self.binder.completed()?;
        let n_target = target.iter().map(|chain| chain.restype.len()).sum();
        let (n_binder, letters) = (binder.restype.len(), self.sequence.len());
        if n_binder != letters {
            return Err(DesignError::Length { residues: n_binder, letters });
        }
        for (n, what) in [(n_target, "target"), (n_binder, "binder")] {
            if n == 0 {
                return Err(DesignError::Empty(what));
            }
        }
        let unknown =
            target.iter().find_map(|c| c.restype.iter().position(|r| *r >= UNKNOWN).map(|i| c.residue_index[i]));
        if let Some(number) = unknown {
            return Err(DesignError::Letter(number));
        }
        let chains = || target.iter().chain([&binder]);
        let restype: Vec<u8> = target.iter().flat_map(|c| &c.restype).chain(&self.sequence).copied().collect();
        let guess: Vec<[f32; 3]> = chains().flat_map(|c| &c.positions).copied().collect();
        let known: Vec<f32> = chains().flat_map(|c| &c.mask).copied().collect();
        let mut features = single_sequence(&restype)?;
        features.residue_index = numbers(chains());
        // The binder shows its own residue types, if any, not those of the sequence.
        let shown = chains().flat_map(|c| &c.restype).copied();
        features.templates = vec![self.template(n_target, shown.collect(), &guess, &known)];
        if !self.shows_interface {
            features.template_group = (0..restype.len()).map(|i| i32::from(i >= n_target)).collect();
        }
        Ok(DesignFeatures { features, guess, known, n_target })
    }

    fn template(&self, n_target: usize, mut restype: Vec<u8>, positions: &[[f32; 3]], known: &[f32]) -> Template {
        let mut mask = known.to_vec();
        for (i, (restype, mask)) in restype.iter_mut().zip(mask.chunks_mut(N_ATOM37)).enumerate() {
            let shown = if i < n_target { self.target_shown } else { self.binder_shown };
            if matches!(shown, Shown::Nothing | Shown::Backbone) {
                *restype = GAP;
            }
            let from = match shown {
                Shown::Nothing => 0,
                Shown::Backbone | Shown::Letters => CB + 2, // N, CA, C, CB, O
                Shown::Everything => N_ATOM37,
            };
            mask[from..].fill(0.);
        }
        Template { restype, positions: positions.to_vec(), mask, is_real: true }
    }
}

/// Features of a sequence of letters 0-19 alone: one row, which is its own profile, and no letter of it is masked.
///
/// # Errors
/// A letter beyond the twenty, by its place from 1.
pub fn single_sequence(sequence: &[u8]) -> Result<Af2Features, DesignError> {
    if let Some(i) = sequence.iter().position(|letter| *letter >= UNKNOWN) {
        return Err(DesignError::Sequence(i + 1));
    }
    let n = sequence.len();
    let (zeros, ones) = (vec![0.; n], vec![1.; n]);
    let mut profile = vec![0.; n * N_LETTER];
    sequence.iter().enumerate().for_each(|(i, letter)| profile[i * N_LETTER + usize::from(*letter)] = 1.);
    Ok(Af2Features {
        restype: sequence.to_vec(),
        residue_index: (0..n as i32).collect(),
        asym_id: vec![0; n],
        mask: ones.clone(),
        msa: Msa::new(sequence, &zeros, &profile, &zeros, ones),
        // The stack of the extra MSA acts without any row, by the bias of its outer product mean.
        extra_msa: ExtraMsa::new(vec![0; n], &zeros, zeros.clone()),
        ..Af2Features::default()
    })
}

/// Numbers of all residues: each chain's own, moved behind the last of the chain before.
fn numbers<'a>(chains: impl Iterator<Item = &'a KnownChain>) -> Vec<i32> {
    let mut out: Vec<i32> = Vec::new();
    for chain in chains {
        let last = out.last().map_or(0, |last| last + CHAIN_GAP);
        out.extend(chain.residue_index.iter().map(|number| number + last));
    }
    out
}

impl KnownChain {
    /// The residues that have their N, each with a CB.
    fn completed(&self) -> Result<Self, DesignError> {
        let n = self.restype.len();
        let atoms = n * N_ATOM37;
        if self.residue_index.len() != n || self.positions.len() != atoms || self.mask.len() != atoms {
            return Err(DesignError::Shape(n));
        }
        let mut out = Self::default();
        for i in 0..n {
            let all = i * N_ATOM37..(i + 1) * N_ATOM37;
            let (mut x, mut mask) = (self.positions[all.clone()].to_vec(), self.mask[all].to_vec());
            if mask[N] != 1. {
                continue;
            }
            if mask[CB] == 0. {
                x[CB] = beta([N, CA, C].map(|atom| x[atom].map(f64::from))).map(|v| v as f32);
                mask[CB] = mask[N] * mask[CA] * mask[C];
            }
            out.restype.push(self.restype[i]);
            out.residue_index.push(self.residue_index[i]);
            out.positions.extend(x);
            out.mask.extend(mask);
        }
        Ok(out)
    }
}

impl From<&TemplateChain> for KnownChain {
    /// A chain of a structure file, residues without atoms left out.
    fn from(chain: &TemplateChain) -> Self {
        let mut known = Self::default();
        for (residue, restype) in chain.residues.iter().zip(&chain.restype) {
            let (positions, mask) = atom37(residue);
            if mask.contains(&1.) {
                known.restype.push(*restype);
                known.residue_index.push(residue.number.unwrap_or_default());
                known.positions.extend(positions);
                known.mask.extend(mask);
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: usize) -> KnownChain {
        let mut mask = vec![0.; n * N_ATOM37];
        mask.chunks_mut(N_ATOM37).for_each(|mask| mask[..5].fill(1.));
        KnownChain {
            restype: vec![0; n],
            residue_index: (1..=n as i32).collect(),
            positions: vec![[1.; 3]; n * N_ATOM37],
            mask,
        }
    }

    fn design() -> Design {
        Design {
            target: vec![chain(3)],
            binder: chain(2),
            sequence: vec![4, 5],
            target_shown: Shown::Backbone,
            binder_shown: Shown::Backbone,
            shows_interface: false,
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |change: fn(&mut Design)| {
            let mut design = design();
            change(&mut design);
            design.features().expect_err("an error").to_string()
        };
        assert!(error(|d| d.sequence.push(0)).contains("2 residues with an N atom, its sequence 3 letters"));
        assert!(error(|d| d.sequence[1] = 20).contains("binder's sequence"));
        assert!(error(|d| d.target[0].restype[2] = 20).contains("residue 3 of the target"));
        assert!(error(|d| d.target[0].mask.fill(0.)).contains("target has no residue"));
        assert!(error(|d| d.binder.positions.truncate(5)).contains("2 residues"));
        assert!(design().features().is_ok());
    }
}
