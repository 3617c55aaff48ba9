//! Alignment features of the multimer models, drawn anew for each pass: `sample_msa`, `make_masked_msa` and `nearest_neighbor_clusters` of
//! `alphafold/model/modules_multimer.py`. Masked rows that the official arrays are padded with are left out: nothing depends on them.
use rayon::prelude::*;

use super::clusters::{Clusters, RowsRef};
use super::monomer::{Alignment, GAP, MASK_FRACTION, N_ALIGNED, Sampling, mask_probability};
use super::threefry::Key;
use super::{ExtraMsa, Msa, N_LETTER, introsort};

/// Added to probabilities before their logarithm, and inside Gumbel noise.
const EPSILON: f32 = 1e-6;
/// What lifts the query's row above all others, and lowers those of padding below them.
const ROW_BIAS: f32 = 1e6;
/// Rows that ColabFold asks for without `--max-msa`, and has at least beyond those it asks for.
const MAX_MSA: usize = 508;
const MORE: usize = 4;

/// Features of pass `pass` of the prediction with the seed of `sampling`.
pub(super) fn pass(alignment: &Alignment, sampling: &Sampling, pass: usize) -> (Msa, ExtraMsa) {
    let n = alignment.n_res;
    let (sample_key, mask_key) = Key::of_pass(sampling.seed, pass);
    let n_row = alignment.n_row();
    let asked = if sampling.max_msa < n_row { sampling.max_msa } else { MAX_MSA };
    let order = order(sample_key, n_row, n_row.max(asked + MORE));
    let (centres, extra) = order.split_at(sampling.max_msa.min(order.len()));
    let gather = |rows: &[usize]| -> (Vec<u8>, Vec<f32>) {
        let all = |i: &usize| i * n..(i + 1) * n;
        (
            rows.iter().flat_map(|i| alignment.rows[all(i)].iter().copied()).collect(),
            rows.iter().flat_map(|i| alignment.deletions[all(i)].iter().copied()).collect(),
        )
    };
    let (mut letters, deletions) = gather(centres);
    mask(alignment, &mut letters, mask_key);
    let (extra_letters, extra_deletions) = gather(extra);
    let members = shares(&letters, &extra_letters, n);
    let centre_rows = RowsRef { letters: &letters, deletions: &deletions };
    let extra_rows = RowsRef { letters: &extra_letters, deletions: &extra_deletions };
    let clusters = Clusters::new(centre_rows, extra_rows, &members, 1., n);
    let rows_mask = vec![1.; letters.len()];
    let msa = Msa::new(&letters, &deletions, &clusters.profile, &clusters.deletion_mean, rows_mask);
    if extra.is_empty() {
        return (msa, ExtraMsa::masked(n));
    }
    let (rows, deletions) = gather(&extra[..sampling.max_extra_msa.min(extra.len())]);
    let rows_mask = vec![1.; rows.len()];
    (msa, ExtraMsa::new(rows, &deletions, rows_mask))
}

/// Noise of the Gumbel distribution.
fn gumbel(key: Key) -> f32 {
    -(-(key.uniform() + EPSILON).ln() + EPSILON).ln()
}

/// The rows in random order, the query first. Rows with the same noise stand as the official sort of `n_sorted` rows, those of padding
/// included, leaves them.
fn order(key: Key, n_row: usize, n_sorted: usize) -> Vec<usize> {
    let bias = |i: usize| match i {
        0 => ROW_BIAS,
        i if i < n_row => 0.,
        _ => -ROW_BIAS,
    };
    let noise: Vec<f32> = (0..n_sorted).map(|i| bias(i) + gumbel(key.fold_in(i as u32))).collect();
    introsort::order(&noise).into_iter().rev().filter(|i| *i < n_row).collect()
}

/// Replaces letters of the cluster centres.
fn mask(alignment: &Alignment, letters: &mut [u8], key: Key) {
    let n = alignment.n_res;
    let profile = alignment.profile();
    let [_, positions, replacements] = key.split();
    letters.par_chunks_mut(n).enumerate().for_each(|(s, row)| {
        let (positions, replacements) = (positions.fold_in(s as u32), replacements.fold_in(s as u32));
        for (i, letter) in row.iter_mut().enumerate() {
            if positions.fold_in(i as u32).uniform() >= MASK_FRACTION {
                continue;
            }
            let key = replacements.fold_in(i as u32);
            let logit = |k: usize| {
                let p = mask_probability(k, *letter, &profile[i * N_ALIGNED..][..N_ALIGNED]);
                (p + EPSILON).ln() + gumbel(key.fold_in(k as u32))
            };
            let mut best = (0, logit(0));
            for k in 1..N_LETTER {
                let value = logit(k);
                if value > best.1 {
                    best = (k, value);
                }
            }
            *letter = best.0 as u8;
        }
    });
}

/// The clusters each other row belongs to, in equal parts: those whose centre agrees with it at most positions; gaps and masked letters
/// never agree. A row weighs as much as it has residues, the centre of a cluster 1: so it is in the official code.
fn shares(centres: &[u8], extra: &[u8], n: usize) -> Vec<(Vec<usize>, f32)> {
    let of = |row: &[u8]| {
        let agreement = |centre: &[u8]| row.iter().zip(centre).filter(|(a, b)| a == b && **a < GAP).count();
        let counts: Vec<usize> = centres.chunks(n).map(agreement).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        let nearest: Vec<usize> = (0..counts.len()).filter(|i| counts[*i] == most).collect();
        let weight = n as f32 / nearest.len() as f32;
        (nearest, weight)
    };
    extra.par_chunks(n).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_stays_first_and_all_rows_are_there() {
        for n_row in [1, 2, 9] {
            let mut order = order(Key::new(3), n_row, 20);
            assert_eq!(order[0], 0);
            order.sort_unstable();
            assert_eq!(order, (0..n_row).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_row_that_two_centres_agree_with_is_shared() {
        let centres = [0, 1, 0, 2, GAP, GAP];
        let members = shares(&centres, &[0, 5, 0, 2, GAP, GAP], 2);
        assert_eq!(members, [(vec![0, 1], 1.), (vec![1], 2.), (vec![0, 1, 2], 2. / 3.)]);
        let centres = RowsRef { letters: &centres, deletions: &[0.; 6] };
        let c = Clusters::new(centres, RowsRef { letters: &[0, 5], deletions: &[3., 0.] }, &members[..1], 1., 2);
        assert_eq!((c.profile[0], c.profile[N_LETTER + 5], c.deletion_mean[0]), (1., 0.5, 1.5));
    }
}
