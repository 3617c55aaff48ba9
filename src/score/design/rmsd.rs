//! How far structures are apart: CA atoms of complexes laid on each other (PXDesignBench `metrics/Kalign.py`), and of complexes whose
//! chains may have changed places, laid on one chain (`permutation.py`).
use crate::geometry::{Rigid, Vec3, dot, minus, plus, superpose, times};

/// A chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChainCas {
    /// One letter each.
    pub sequence: String,
    /// CA atoms, Å.
    pub cas: Vec<Vec3>,
}

/// Where the chains of a prediction are in the design, and how far off the whole is.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchored {
    /// Of each predicted chain, the design's.
    pub chains: Vec<usize>,
    /// Å, over all CA atoms.
    pub rmsd: f64,
}

/// Of points that belong to each other, best laid on each other, Å; NaN if they are not as many, or none.
pub fn superposed(a: &[Vec3], b: &[Vec3]) -> f64 {
    if a.len() != b.len() || a.is_empty() {
        return f64::NAN;
    }
    let rigid = superpose(a, b, &vec![1.; a.len()]);
    let sum: f64 = a.iter().zip(b).map(|(a, b)| square(minus(rigid.apply(*a), *b))).sum();
    (sum / a.len() as f64).sqrt()
}

/// The prediction laid on the design by one chain that both have: of the chains of one sequence each place is tried, and the rest follow by
/// which is nearest. `None` if no sequences agree or chains are missing: the official program reports 0 where no sequences agree, which
/// passes every filter; here it is a failure.
pub fn anchored(predicted: &[ChainCas], design: &[ChainCas]) -> Option<Anchored> {
    if predicted.len() != design.len() {
        return None;
    }
    let mut best: Option<Anchored> = None;
    for (i, chain) in predicted.iter().enumerate() {
        let is_first = predicted[..i].iter().all(|c| c.sequence != chain.sequence);
        for (j, _) in design.iter().enumerate().filter(|(_, c)| is_first && c.sequence == chain.sequence) {
            let Some(tried) = by_anchor(predicted, design, (i, j)) else { continue };
            if best.as_ref().is_none_or(|best| tried.rmsd < best.rmsd) {
                best = Some(tried);
            }
        }
    }
    best
}

/// Atoms that a chain must have to be laid on another.
const LEAST: usize = 3;

/// Chain `i` of the prediction laid on chain `j` of the design.
fn by_anchor(predicted: &[ChainCas], design: &[ChainCas], (i, j): (usize, usize)) -> Option<Anchored> {
    let n = predicted[i].cas.len().min(design[j].cas.len());
    if n < LEAST {
        return None;
    }
    let rigid = superpose(&predicted[i].cas[..n], &design[j].cas[..n], &vec![1.; n]);
    let costs: Vec<Vec<f64>> = predicted
        .iter()
        .enumerate()
        .map(|(a, chain)| {
            design.iter().enumerate().map(|(b, other)| cost(&rigid, (a, chain), (b, other), (i, j))).collect()
        })
        .collect();
    let chains = assignment(&costs);
    let (mut sum, mut n) = (0., 0);
    for (a, b) in chains.iter().enumerate() {
        let pairs = || predicted[a].cas.iter().zip(&design[*b].cas);
        sum += pairs().map(|(x, y)| square(minus(rigid.apply(*x), *y))).sum::<f64>();
        n += pairs().count();
    }
    Some(Anchored { chains, rmsd: (sum / n as f64).sqrt() })
}

/// Of pairs of chains that do not go together.
const NEVER: f64 = 1e9;

fn cost(rigid: &Rigid, (a, chain): (usize, &ChainCas), (b, other): (usize, &ChainCas), anchor: (usize, usize)) -> f64 {
    match (a == anchor.0, b == anchor.1) {
        (true, true) => return 0.,
        (true, false) | (false, true) => return NEVER,
        (false, false) => {}
    }
    let n = chain.cas.len().min(other.cas.len());
    if chain.sequence != other.sequence || n == 0 {
        return NEVER;
    }
    let sum: f64 = chain.cas.iter().zip(&other.cas).map(|(x, y)| square(minus(rigid.apply(*x), *y))).sum();
    (sum / n as f64).sqrt()
}

fn square(v: Vec3) -> f64 {
    dot(v, v)
}

/// The column of each row of a square matrix, such that the sum is least (Kuhn and Munkres, by shortest augmenting paths).
fn assignment(costs: &[Vec<f64>]) -> Vec<usize> {
    let n = costs.len();
    let (mut of_row, mut of_column) = (vec![0.; n + 1], vec![0.; n + 1]);
    let mut row_of = vec![n; n + 1]; // of each column; n: of none
    for row in 0..n {
        row_of[n] = row;
        let (mut column, mut least, mut from, mut done) = (n, vec![f64::INFINITY; n], vec![n; n], vec![false; n + 1]);
        while row_of[column] != n {
            done[column] = true;
            let r = row_of[column];
            let (mut step, mut next) = (f64::INFINITY, n);
            for c in 0..n {
                if done[c] {
                    continue;
                }
                let reduced = costs[r][c] - of_row[r] - of_column[c];
                if reduced < least[c] {
                    (least[c], from[c]) = (reduced, column);
                }
                if least[c] < step {
                    (step, next) = (least[c], c);
                }
            }
            for c in 0..=n {
                if done[c] {
                    of_row[row_of[c]] += step;
                    of_column[c] -= step;
                } else {
                    least[c] -= step;
                }
            }
            column = next;
        }
        while column != n {
            let before = from[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut found = vec![0; n];
    (0..n).for_each(|c| found[row_of[c]] = c);
    found
}

/// Root mean square distance of points from their mean, Å: the radius of gyration; NaN of none.
pub fn radius_of_gyration(points: &[Vec3]) -> f64 {
    let n = points.len() as f64;
    let mean = times(points.iter().fold([0.; 3], |sum, x| plus(sum, *x)), 1. / n);
    (points.iter().map(|x| square(minus(*x, mean))).sum::<f64>() / n).sqrt()
}

/// The radius of gyration of a chain of so many residues as globular proteins have it, Å.
pub fn expected_radius(n_res: usize) -> f64 {
    2.38 * (n_res as f64).powf(0.365)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(sequence: &str, shift: f64) -> ChainCas {
        let cas = (0..5).map(f64::from).map(|i| [shift + (1.3 * i).sin() * 4., i, (2.1 * i).cos() * 3.]).collect();
        ChainCas { sequence: sequence.to_owned(), cas }
    }

    #[test]
    fn chains_that_changed_places_are_found() {
        let design = [chain("AAAAA", 0.), chain("AAAAA", 30.), chain("GGGGG", 60.)];
        let predicted = [chain("AAAAA", 30.), chain("AAAAA", 0.), chain("MKTVR", 60.)];
        let found = anchored(&predicted, &design).unwrap();
        assert_eq!(found.chains, [1, 0, 2]);
        assert!(found.rmsd < 1e-9, "{}", found.rmsd);
    }

    #[test]
    fn no_sequence_that_agrees_is_a_failure() {
        assert_eq!(anchored(&[chain("MK", 0.), chain("VV", 9.)], &[chain("GG", 0.), chain("AA", 9.)]), None);
        assert_eq!(anchored(&[chain("MK", 0.)], &[]), None);
    }

    #[test]
    fn assignments_are_the_cheapest() {
        assert_eq!(assignment(&[vec![4., 1., 3.], vec![2., 0., 5.], vec![3., 2., 2.]]), [1, 0, 2]);
        assert_eq!(assignment(&[vec![1., 2.], vec![1., 9.]]), [1, 0]);
        assert!(assignment(&[]).is_empty());
    }

    #[test]
    fn structures_of_other_sizes_have_no_distance() {
        assert!(superposed(&[[0.; 3]], &[]).is_nan() && superposed(&[], &[]).is_nan());
    }
}
