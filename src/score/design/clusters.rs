//! Clusters of designs that are alike in structure, to choose a diverse set. The official pipeline has none.
use rayon::prelude::*;

use super::tm_align::{by_longer, tm_align};
use super::tm_score::residue_by_residue;
use crate::geometry::Vec3;

/// TM-score above which chains are of one fold.
pub const THRESHOLD: f64 = 0.6;

/// What a design belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Number of the cluster from 1, in the order of its best designs.
    pub cluster: usize,
    /// Is it the best of its cluster?
    pub representative: bool,
}

/// Clusters of `binders`, CA atoms of the best design first: a design joins the cluster whose representative it is most like, if their
/// TM-score by the longer chain is `threshold` or more, else it begins one of its own.
pub fn clusters(binders: &[Vec<Vec3>], threshold: f64) -> Vec<Member> {
    let mut representatives: Vec<usize> = Vec::new();
    let mut made = Vec::with_capacity(binders.len());
    for (i, binder) in binders.iter().enumerate() {
        let scores: Vec<f64> = representatives.par_iter().map(|r| likeness(binder, &binders[*r], threshold)).collect();
        let like = (0..scores.len())
            .filter(|c| scores[*c] >= threshold)
            .reduce(|a, b| if scores[b] > scores[a] { b } else { a });
        made.push(match like {
            Some(c) => Member { cluster: c + 1, representative: false },
            None => {
                representatives.push(i);
                Member { cluster: representatives.len(), representative: true }
            }
        });
    }
    made
}

/// TM-score of two chains. Chains of one length are compared residue by residue first, and aligned only if they are not alike so.
pub fn likeness(a: &[Vec3], b: &[Vec3], enough: f64) -> f64 {
    let direct = if a.len() == b.len() { residue_by_residue(a, b) } else { 0. };
    if direct >= enough {
        return direct;
    }
    tm_align(a, b).map_or(direct, |found| by_longer(&found).max(direct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_a_fold_stands_for_it() {
        let turn = 100f64.to_radians();
        let helix: Vec<Vec3> =
            (0..40).map(f64::from).map(|i| [2.3 * (turn * i).cos(), 2.3 * (turn * i).sin(), 1.5 * i]).collect();
        let strand: Vec<Vec3> =
            (0..40).map(f64::from).map(|i| [3.3 * i, if i % 2. == 0. { 1. } else { -1. }, 0.]).collect();
        let bent: Vec<Vec3> = helix.iter().map(|[x, y, z]| [*x + 0.002 * z * z, *y, *z]).collect();
        let found = clusters(&[strand.clone(), helix.clone(), bent, strand, helix[..34].to_vec()], THRESHOLD);
        let plain: Vec<_> = found.iter().map(|m| (m.cluster, m.representative)).collect();
        assert_eq!(plain, [(1, true), (2, true), (2, false), (1, false), (2, false)]);
        assert!(clusters(&[], THRESHOLD).is_empty());
    }
}
