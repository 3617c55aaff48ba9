//! Alignment features of the monomer models: AF2 SI 1.2.6 and 1.2.7, `alphafold/model/tf/data_transforms.py`.
use rayon::prelude::*;

use super::clusters::{Clusters, RowsRef};
use super::philox::Philox;
use super::{ExtraMsa, Msa, N_LETTER};

/// Letters of an alignment: 20 amino acids, unknown, gap.
pub(super) const N_ALIGNED: usize = 22;
/// The first letter that does not count as agreement: gap.
pub const GAP: u8 = 21;

/// Positions that are masked.
pub(super) const MASK_FRACTION: f32 = 0.15;
/// Of these, replaced by any amino acid, by one of the profile's, by itself, or by the mask.
const UNIFORM: f32 = 0.1;
const PROFILE: f32 = 0.1;
const SAME: f32 = 0.1;
const MASK: f32 = 0.7;

/// Rows of an alignment, the query first.
#[derive(Debug, Clone, Default)]
pub struct Alignment {
    /// Residues.
    pub n_res: usize,
    /// `[n_row, n_res]`, 0-21.
    pub rows: Vec<u8>,
    /// `[n_row, n_res]`: letters left out to the left of each position.
    pub deletions: Vec<f32>,
}

impl Alignment {
    /// Rows.
    pub fn n_row(&self) -> usize {
        self.rows.len() / self.n_res.max(1)
    }

    /// The first `n_row` rows.
    #[must_use]
    pub fn first(mut self, n_row: usize) -> Self {
        self.rows.truncate(n_row * self.n_res);
        self.deletions.truncate(n_row * self.n_res);
        self
    }
}

/// How many rows a pass sees, and which pass of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Most cluster centres.
    pub max_msa: usize,
    /// Most rows without a cluster.
    pub max_extra_msa: usize,
    /// Seed.
    pub seed: u32,
    /// Passes of the prediction; monomer models draw otherwise if it is one.
    pub n_pass: usize,
}

/// The letter of a character of an alignment, in the order of [`crate::chem::restype`]: B, Z and U count as D, E and C, J and O as
/// unknown; none for what is no letter of an alignment.
pub fn letter(character: u8) -> Option<u8> {
    Some(match character {
        b'B' => 3,
        b'Z' => 6,
        b'U' => 4,
        b'J' | b'O' | b'X' => 20,
        b'-' => GAP,
        other => crate::chem::restype::amino_acid(other)?,
    })
}

impl Alignment {
    /// How often each letter stands at each position: `[n_res, 22]`.
    pub(super) fn profile(&self) -> Vec<f32> {
        let mut profile = vec![0f32; self.n_res * N_ALIGNED];
        for row in self.rows.chunks(self.n_res) {
            row.iter().enumerate().for_each(|(i, letter)| profile[i * N_ALIGNED + usize::from(*letter)] += 1.);
        }
        let n_row = (self.rows.len() / self.n_res) as f32;
        profile.iter_mut().for_each(|p| *p /= n_row);
        profile
    }

    /// Features of pass `pass`: clusters of rows chosen at random, some of their letters masked, and rows without a cluster.
    pub fn pass(&self, sampling: &Sampling, pass: usize) -> (Msa, ExtraMsa) {
        let (n, n_row) = (self.n_res, self.n_row());
        // With one pass the graph is not built into a loop: its operations have later numbers.
        let first = if sampling.n_pass == 1 { 2 } else { 0 };
        let op = |k: u32| Philox { seed: sampling.seed, operation: first + k };
        let call = pass as u64;

        let order: Vec<usize> =
            std::iter::once(0).chain(op(0).shuffle(n_row - 1, call).iter().map(|i| i + 1)).collect();
        let (centres, extra) = order.split_at(sampling.max_msa.min(n_row));
        let gather = |rows: &[usize]| -> (Vec<u8>, Vec<f32>) {
            let all = |i: &usize| i * n..(i + 1) * n;
            (
                rows.iter().flat_map(|i| self.rows[all(i)].iter().copied()).collect(),
                rows.iter().flat_map(|i| self.deletions[all(i)].iter().copied()).collect(),
            )
        };
        let (mut letters, deletions) = gather(centres);
        self.mask(&mut letters, op(1), op(2), call);

        let (extra_letters, extra_deletions) = gather(extra);
        let members: Vec<_> = extra_letters.par_chunks(n).map(|row| (vec![nearest(row, &letters)], 1.)).collect();
        let centre_rows = RowsRef { letters: &letters, deletions: &deletions };
        let extra_rows = RowsRef { letters: &extra_letters, deletions: &extra_deletions };
        let clusters = Clusters::new(centre_rows, extra_rows, &members, 1e-6 + 1., n);
        let mask = vec![1.; letters.len()];
        let msa = Msa::new(&letters, &deletions, &clusters.profile, &clusters.deletion_mean, mask);

        let kept: Vec<usize> = op(3).shuffle(extra.len(), call).into_iter().take(sampling.max_extra_msa).collect();
        let kept: Vec<usize> = kept.into_iter().map(|i| extra[i]).collect();
        if kept.is_empty() {
            return (msa, ExtraMsa::masked(n));
        }
        let (rows, deletions) = gather(&kept);
        let mask = vec![1.; rows.len()];
        (msa, ExtraMsa::new(rows, &deletions, mask))
    }

    /// Replaces letters of the cluster centres.
    fn mask(&self, letters: &mut [u8], positions: Philox, replacements: Philox, call: u64) {
        let profile = self.profile();
        let mut logits = Vec::with_capacity(letters.len() * N_LETTER);
        for (at, letter) in letters.iter().enumerate() {
            let profile = &profile[at % self.n_res * N_ALIGNED..][..N_ALIGNED];
            logits.extend((0..N_LETTER).map(|k| (mask_probability(k, *letter, profile) + 1e-10).ln()));
        }
        let drawn = positions.uniform(letters.len(), call);
        let new = replacements.categorical(&logits, N_LETTER, call);
        for ((letter, u), new) in letters.iter_mut().zip(drawn).zip(new) {
            if u < MASK_FRACTION {
                *letter = new as u8;
            }
        }
    }
}

/// How probable it is that a masked position gets letter `k`, where `letter` is and the alignment has `profile` `[22]`.
pub(super) fn mask_probability(k: usize, letter: u8, profile: &[f32]) -> f32 {
    let Some(p) = profile.get(k) else { return MASK };
    let uniform = if k < 20 { 0.05 } else { 0. };
    let same = if k == usize::from(letter) { 1. } else { 0. };
    UNIFORM * uniform + PROFILE * p + SAME * same
}

/// The centre that agrees with a row at most positions; gaps and masked letters never agree. Of equal ones the first.
fn nearest(row: &[u8], centres: &[u8]) -> usize {
    let agreement = |centre: &[u8]| row.iter().zip(centre).filter(|(a, b)| a == b && **a < GAP).count();
    let mut best = (0, 0);
    for (i, centre) in centres.chunks(row.len()).enumerate() {
        let count = agreement(centre);
        if count > best.1 {
            best = (i, count);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_joins_the_nearest_centre() {
        let centres = [0, 1, 2, GAP, 0, 1, 22, 3];
        assert_eq!(nearest(&[0, 1, 5, 3], &centres), 1);
        assert_eq!(nearest(&[0, 1, 5, GAP], &centres), 0, "gaps do not agree, the first of equals is taken");
        assert_eq!(nearest(&[9, 9, 9, 9], &centres), 0);
    }

    #[test]
    fn a_query_alone_has_one_masked_extra_row() {
        let alone = Alignment { n_res: 3, rows: vec![0, 1, 2], deletions: vec![0.; 3] };
        let (msa, extra) = alone.pass(&Sampling { max_msa: 4, max_extra_msa: 4, seed: 1, n_pass: 4 }, 2);
        assert_eq!((msa.mask, extra.mask, extra.rows), (vec![1.; 3], vec![0.; 3], vec![0; 3]));
    }

    #[test]
    fn letters_of_alignments() {
        assert_eq!([b'A', b'V', b'X', b'-', b'B', b'O'].map(letter), [0, 19, 20, 21, 3, 20].map(Some));
        assert_eq!([b'.', b'*', b'a'].map(letter), [None; 3]);
    }
}
