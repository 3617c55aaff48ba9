//! TM-align (Zhang and Skolnick 2005): which residues of two chains belong to each other, so that the TM-score is largest. Alignments begin
//! with gapless shifts, secondary structure, both together, and fragments laid on each other; each is refined by dynamic programming.
use super::tm_score::{Search, laid, within};
use crate::geometry::{Rigid, Vec3, dot, minus};

/// Scores of an alignment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TmAlign {
    /// By the length of the first chain.
    pub by_first: f64,
    /// By the length of the second.
    pub by_second: f64,
    /// Residues that belong to each other.
    pub n_aligned: usize,
}

/// For each residue of the second chain, that of the first.
type Alignment = Vec<Option<usize>>;

/// What opening a gap costs in the rounds of an alignment's refinement.
const GAPS: [f64; 2] = [-0.6, 0.];
/// Rounds of a refinement at most.
const N_ROUND: usize = 30;

/// Aligns two chains of CA atoms; `None` if one has fewer than three.
pub fn tm_align(x: &[Vec3], y: &[Vec3]) -> Option<TmAlign> {
    let n = x.len().min(y.len());
    if n < 3 {
        return None;
    }
    let pair = Pair::new(x, y);
    let mut best = Best { score: 0., alignment: vec![None; y.len()], rigid: Rigid::IDENTITY };
    let begun = pair.shifted().into_iter().chain([pair.by_elements()]).chain(pair.by_fragments());
    begun.for_each(|alignment| pair.refine(alignment, &mut best));
    let with_elements = pair.by_elements_and(&best.rigid);
    pair.refine(with_elements, &mut best);
    // The pairs that are far apart are no part of the alignment.
    let cutoff = pair.cutoff;
    let pairs = pair.pairs(&best.alignment);
    let (_, rigid) = Search { d0: pair.d0, n, step: 1, cutoff }.run(&pairs);
    let near: Vec<(Vec3, Vec3)> = pairs
        .into_iter()
        .filter(|(x, y)| {
            let d = minus(rigid.apply(*x), *y);
            dot(d, d) <= cutoff * cutoff
        })
        .collect();
    let by = |n: usize| Search::last(n).run(&near).0;
    Some(TmAlign { by_first: by(x.len()), by_second: by(y.len()), n_aligned: near.len() })
}

struct Best {
    score: f64,
    alignment: Alignment,
    rigid: Rigid,
}

struct Pair<'a> {
    x: &'a [Vec3],
    y: &'a [Vec3],
    /// Secondary structure of each residue.
    elements: (Vec<u8>, Vec<u8>),
    /// Of the search, larger than that of the score, Å.
    d0: f64,
    /// Pairs farther than this count nothing, Å.
    cutoff: f64,
}

impl<'a> Pair<'a> {
    fn new(x: &'a [Vec3], y: &'a [Vec3]) -> Self {
        let n = x.len().min(y.len());
        let shorter = if n > 19 { 1.24 * (n as f64 - 15.).cbrt() - 1.8 } else { 0.168 };
        let cutoff = 1.5 * (n as f64).powf(0.3) + 3.5;
        Self { x, y, elements: (elements(x), elements(y)), d0: shorter + 0.8, cutoff }
    }

    fn search(&self) -> Search {
        Search { d0: self.d0, n: self.x.len().min(self.y.len()), step: 40, cutoff: self.cutoff }
    }

    fn pairs(&self, alignment: &Alignment) -> Vec<(Vec3, Vec3)> {
        alignment.iter().enumerate().filter_map(|(j, i)| Some((self.x[(*i)?], self.y[j]))).collect()
    }

    /// Takes an alignment if it is the best so far, and what dynamic programming makes of it.
    fn refine(&self, alignment: Alignment, best: &mut Best) {
        let (score, rigid) = self.search().run(&self.pairs(&alignment));
        if score > best.score {
            *best = Best { score, alignment, rigid };
        } else if score < 0.2 * best.score {
            return;
        }
        for gap in GAPS {
            let (mut rigid, mut last) = (rigid, 0.);
            for _ in 0..N_ROUND {
                let alignment = dynamic(self.x.len(), self.y.len(), gap, &self.nearness(&rigid));
                let (score, next) = self.search().run(&self.pairs(&alignment));
                rigid = next;
                if score > best.score {
                    *best = Best { score, alignment, rigid };
                }
                if (score - last).abs() < 1e-6 {
                    break;
                }
                last = score;
            }
        }
    }

    /// `1 / (1 + (d / d0)^2)` of all pairs.
    fn nearness(&self, rigid: &Rigid) -> Vec<f64> {
        let x: Vec<Vec3> = self.x.iter().map(|x| rigid.apply(*x)).collect();
        let scale = self.d0 * self.d0;
        let near = |x: &Vec3, y: &Vec3| {
            let d = minus(*x, *y);
            1. / (1. + dot(d, d) / scale)
        };
        x.iter().flat_map(|x| self.y.iter().map(move |y| near(x, y))).collect()
    }

    /// The best without gaps.
    fn shifted(&self) -> Vec<Alignment> {
        let (n, m) = (self.x.len() as isize, self.y.len() as isize);
        let least = (n.min(m) / 2).max(5).min(n.min(m));
        let alignment = |shift: isize| -> Alignment {
            (0..m).map(|j| Some(j + shift).filter(|i| (0..n).contains(i)).map(|i| i as usize)).collect()
        };
        best_of((least - m..=n - least).map(|shift| (self.quick(&alignment(shift)), alignment(shift))))
    }

    /// A score near that of the best superposition: by all pairs, then twice by those that have come near.
    fn quick(&self, alignment: &Alignment) -> f64 {
        let pairs = self.pairs(alignment);
        if pairs.len() < 3 {
            return 0.;
        }
        let search = self.search();
        let mut rigid = laid(&pairs, &(0..pairs.len()).collect::<Vec<_>>());
        let mut best = search.score(&rigid, &pairs);
        for near in [self.d0, (self.d0 * self.d0 + 1.).sqrt()] {
            rigid = laid(&pairs, &within(&rigid, &pairs, near));
            best = best.max(search.score(&rigid, &pairs));
        }
        best
    }

    fn by_elements(&self) -> Alignment {
        let (a, b) = &self.elements;
        let scores: Vec<f64> = a.iter().flat_map(|a| b.iter().map(move |b| f64::from(a == b))).collect();
        dynamic(a.len(), b.len(), -1., &scores)
    }

    fn by_elements_and(&self, rigid: &Rigid) -> Alignment {
        let (a, b) = &self.elements;
        let mut scores = self.nearness(rigid);
        let same = a.iter().flat_map(|a| b.iter().map(move |b| if a == b { 0.5 } else { 0. }));
        scores.iter_mut().zip(same).for_each(|(score, same)| *score += same);
        dynamic(a.len(), b.len(), -1., &scores)
    }

    /// From the fragments of both chains whose superposition brings most of the rest near.
    fn by_fragments(&self) -> Vec<Alignment> {
        let (n, m) = (self.x.len(), self.y.len());
        let shorter = n.min(m);
        let step = |n: usize| if n > 250 { 45 } else { (n / 10).clamp(1, 15) };
        let mut made = Vec::new();
        for length in [20.min(shorter / 3).max(3), 100.min(shorter / 2).max(3)] {
            for i in (0..=n - length).step_by(step(n)) {
                for j in (0..=m - length).step_by(step(m)) {
                    let pairs: Vec<(Vec3, Vec3)> = (0..length).map(|k| (self.x[i + k], self.y[j + k])).collect();
                    let all: Vec<usize> = (0..length).collect();
                    let alignment = dynamic(n, m, 0., &self.nearness(&laid(&pairs, &all)));
                    made.push((self.quick(&alignment), alignment));
                }
            }
        }
        best_of(made.into_iter())
    }
}

/// Alignments of a kind that are refined.
const N_BEST: usize = 3;

/// The best few.
fn best_of(scored: impl Iterator<Item = (f64, Alignment)>) -> Vec<Alignment> {
    let mut all: Vec<(f64, Alignment)> = scored.collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.dedup_by(|a, b| a.1 == b.1);
    all.into_iter().take(N_BEST).map(|(_, alignment)| alignment).collect()
}

/// The alignment whose `scores` `[n, m]` add up to most, where a gap that is opened behind an aligned pair costs `gap`; ends are free.
fn dynamic(n: usize, m: usize, gap: f64, scores: &[f64]) -> Alignment {
    let width = m + 1;
    let (mut sums, mut diagonal) = (vec![0f64; (n + 1) * width], vec![false; (n + 1) * width]);
    for i in 1..=n {
        for j in 1..=m {
            let at = i * width + j;
            let cost = |from: usize| sums[from] + if diagonal[from] { gap } else { 0. };
            let (pair, up, left) = (sums[at - width - 1] + scores[(i - 1) * m + j - 1], cost(at - width), cost(at - 1));
            diagonal[at] = pair >= up && pair >= left;
            sums[at] = if diagonal[at] { pair } else { up.max(left) };
        }
    }
    let mut alignment = vec![None; m];
    let (mut i, mut j) = (n, m);
    while i > 0 && j > 0 {
        let at = i * width + j;
        if diagonal[at] {
            alignment[j - 1] = Some(i - 1);
            (i, j) = (i - 1, j - 1);
            continue;
        }
        let cost = |from: usize| sums[from] + if diagonal[from] { gap } else { 0. };
        if cost(at - 1) >= cost(at - width) { j -= 1 } else { i -= 1 }
    }
    alignment
}

/// TM-align's own assignment: 2 helix, 4 strand, 3 turn, 1 coil, by the distances within five residues.
fn elements(cas: &[Vec3]) -> Vec<u8> {
    const HELIX: [f64; 6] = [5.45, 5.45, 5.45, 5.18, 5.18, 6.37];
    const STRAND: [f64; 6] = [6.1, 6.1, 6.1, 10.4, 10.4, 13.];
    let distance = |i: usize, j: usize| {
        let d = minus(cas[i], cas[j]);
        dot(d, d).sqrt()
    };
    let of = |i: usize| {
        if i < 2 || i + 2 >= cas.len() {
            return 1;
        }
        let found = [(i - 2, i), (i - 1, i + 1), (i, i + 2), (i - 2, i + 1), (i - 1, i + 2), (i - 2, i + 2)]
            .map(|(a, b)| distance(a, b));
        let like = |ideal: [f64; 6], within: f64| found.iter().zip(ideal).all(|(d, ideal)| (d - ideal).abs() < within);
        match () {
            () if like(HELIX, 2.1) => 2,
            () if like(STRAND, 1.42) => 4,
            () if found[5] < 8. => 3,
            () => 1,
        }
    };
    (0..cas.len()).map(of).collect()
}

/// TM-score of two chains by the longer one: of equal chains 1.
pub fn by_longer(scores: &TmAlign) -> f64 {
    scores.by_first.min(scores.by_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helix(n: usize) -> Vec<Vec3> {
        let turn = 100f64.to_radians();
        (0..n).map(|i| i as f64).map(|i| [2.3 * (turn * i).cos(), 2.3 * (turn * i).sin(), 1.5 * i]).collect()
    }

    #[test]
    fn a_part_is_found_in_the_whole() {
        let whole = helix(60);
        let part: Vec<Vec3> = whole[17..47].iter().map(|[a, b, c]| [*c + 5., *a, *b]).collect();
        let found = tm_align(&part, &whole).unwrap();
        assert_eq!(found.n_aligned, 30);
        assert!((found.by_first - 1.).abs() < 1e-6 && (found.by_second - 0.5).abs() < 1e-6, "{found:?}");
        assert_eq!(tm_align(&part[..2], &whole), None);
    }

    #[test]
    fn gaps_are_found() {
        let scores = [1., 0., 0., 0., 0., 1.]; // a residue of the second chain is in a gap
        assert_eq!(dynamic(2, 3, -0.6, &scores), [Some(0), None, Some(1)]);
    }
}
