//! TM-score (Zhang and Skolnick 2004) of residues that belong to each other: the superposition that brings most of them near.
use crate::geometry::{Rigid, Vec3, dot, minus, superpose};

/// Distance at which a pair counts half in chains of `n` residues, Å.
pub fn d0(n: usize) -> f64 {
    if n <= 21 { 0.5 } else { 1.24 * (n as f64 - 15.).cbrt() - 1.8 }
}

/// How superpositions are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// Distance at which a pair counts half, Å.
    pub d0: f64,
    /// Residues that the sum is divided by.
    pub n: usize,
    /// From one fragment to the next, residues.
    pub step: usize,
    /// Pairs farther than this count nothing, Å.
    pub cutoff: f64,
}

/// Rounds of choosing pairs and superposing them.
const N_ROUND: usize = 20;
/// Shortest fragment, and how many lengths there are.
const FRAGMENTS: (usize, usize) = (4, 6);
/// Pairs for a superposition are within the distance that counts half, but this is kept in a range, Å.
const NEAR: (f64, f64) = (4.5, 8.);

impl Search {
    /// For a final score, normalised by `n` residues.
    pub fn last(n: usize) -> Self {
        Self { d0: d0(n), n, step: 1, cutoff: f64::INFINITY }
    }

    /// Score of pairs laid on each other.
    pub fn score(&self, rigid: &Rigid, pairs: &[(Vec3, Vec3)]) -> f64 {
        let cutoff = self.cutoff * self.cutoff;
        let distances = pairs.iter().map(|(x, y)| distance(rigid, *x, *y)).filter(|d| *d <= cutoff);
        distances.map(|d| 1. / (1. + d / (self.d0 * self.d0))).sum::<f64>() / self.n as f64
    }

    /// The best score that is found, and its superposition.
    pub fn run(&self, pairs: &[(Vec3, Vec3)]) -> (f64, Rigid) {
        let mut best = (0., Rigid::IDENTITY);
        let n = pairs.len();
        let shortest = FRAGMENTS.0.min(n);
        if shortest < 3 {
            return best;
        }
        let mut lengths: Vec<usize> = (0..FRAGMENTS.1).map(|i| n >> i).take_while(|l| *l > shortest).collect();
        lengths.truncate(FRAGMENTS.1 - 1);
        lengths.push(shortest);
        for length in lengths {
            let mut starts: Vec<usize> = (0..=n - length).step_by(self.step).collect();
            if starts.last() != Some(&(n - length)) {
                starts.push(n - length);
            }
            for start in starts {
                self.refine(pairs, (start..start + length).collect(), &mut best);
            }
        }
        best
    }

    /// From these pairs on, superposes those that have come near until they stay the same.
    fn refine(&self, pairs: &[(Vec3, Vec3)], mut chosen: Vec<usize>, best: &mut (f64, Rigid)) {
        let near = self.d0.clamp(NEAR.0, NEAR.1);
        for round in 0..=N_ROUND {
            let rigid = laid(pairs, &chosen);
            let score = self.score(&rigid, pairs);
            if score > best.0 {
                *best = (score, rigid);
            }
            let next = within(&rigid, pairs, if round == 0 { near - 1. } else { near + 1. });
            if next == chosen {
                return;
            }
            chosen = next;
        }
    }
}

/// Superposition by some of the pairs.
pub(super) fn laid(pairs: &[(Vec3, Vec3)], chosen: &[usize]) -> Rigid {
    let (x, y): (Vec<Vec3>, Vec<Vec3>) = chosen.iter().map(|i| pairs[*i]).unzip();
    superpose(&x, &y, &vec![1.; x.len()])
}

/// Pairs nearer than `near`, or than a little more until there are three.
pub(super) fn within(rigid: &Rigid, pairs: &[(Vec3, Vec3)], mut near: f64) -> Vec<usize> {
    let distances: Vec<f64> = pairs.iter().map(|(x, y)| distance(rigid, *x, *y)).collect();
    loop {
        let chosen: Vec<usize> = (0..pairs.len()).filter(|i| distances[*i] < near * near).collect();
        if chosen.len() >= 3.min(pairs.len()) {
            return chosen;
        }
        near += 0.5;
    }
}

/// Squared, Å^2.
fn distance(rigid: &Rigid, x: Vec3, y: Vec3) -> f64 {
    let d = minus(rigid.apply(x), y);
    dot(d, d)
}

/// TM-score of chains of equal length, residue by residue; 0 below three residues.
pub fn residue_by_residue(x: &[Vec3], y: &[Vec3]) -> f64 {
    let pairs: Vec<(Vec3, Vec3)> = x.iter().copied().zip(y.iter().copied()).collect();
    Search::last(pairs.len()).run(&pairs).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_turned_is_the_same_chain() {
        let x: Vec<Vec3> =
            (0..40).map(f64::from).map(|i| [(1.3 * i).sin() * 4., 1.1 * i, (0.7 * i).cos() * 3.]).collect();
        let turned: Vec<Vec3> = x.iter().map(|[a, b, c]| [*b + 3., -*a, *c]).collect();
        assert!((residue_by_residue(&x, &turned) - 1.).abs() < 1e-9);
        // Half of it, as if on a hinge.
        let hinged: Vec<Vec3> =
            x.iter().enumerate().map(|(i, [a, b, c])| if i < 20 { [*a, *b, *c] } else { [-*b, *a, *c] }).collect();
        let score = residue_by_residue(&x, &hinged);
        assert!((0.5..0.7).contains(&score), "{score}");
        assert_eq!(residue_by_residue(&x[..2], &x[..2]), 0.);
    }
}
