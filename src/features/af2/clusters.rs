//! Clusters of alignment rows: what they have in the mean.
use super::N_LETTER;

/// Letters `[n_row, n]` and deletions of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowsRef<'a> {
    pub letters: &'a [u8],
    pub deletions: &'a [f32],
}

/// Weighted mean of letters and deletions of each cluster, its centre included.
pub(super) struct Clusters {
    /// `[n_cluster, n, 23]`.
    pub profile: Vec<f32>,
    /// `[n_cluster, n]`.
    pub deletion_mean: Vec<f32>,
}

impl Clusters {
    /// Of rows of `n` columns. `members`: for each extra row its clusters, and its weight in each; `own`: the weight of a centre in the
    /// sum of weights, where it may be a little more than the 1 it counts.
    pub fn new(centres: RowsRef<'_>, extra: RowsRef<'_>, members: &[(Vec<usize>, f32)], own: f32, n: usize) -> Self {
        let mut profile = vec![0f32; centres.letters.len() * N_LETTER];
        let mut deletion_mean = vec![0f32; centres.letters.len()];
        let mut count = vec![0f32; centres.letters.len() / n];
        for ((row, deletions), (clusters, weight)) in
            extra.letters.chunks(n).zip(extra.deletions.chunks(n)).zip(members)
        {
            for &cluster in clusters {
                count[cluster] += weight;
                for (i, (letter, deletion)) in row.iter().zip(deletions).enumerate() {
                    profile[(cluster * n + i) * N_LETTER + usize::from(*letter)] += weight;
                    deletion_mean[cluster * n + i] += weight * deletion;
                }
            }
        }
        for (at, (letter, deletion)) in centres.letters.iter().zip(centres.deletions).enumerate() {
            let total = own + count[at / n];
            profile[at * N_LETTER + usize::from(*letter)] += 1.;
            profile[at * N_LETTER..][..N_LETTER].iter_mut().for_each(|p| *p /= total);
            deletion_mean[at] = (deletion_mean[at] + deletion) / total;
        }
        Self { profile, deletion_mean }
    }
}
