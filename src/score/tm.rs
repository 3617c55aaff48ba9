//! Predicted TM scores: AF3 SI 5.9.1 and 5.9.3.
use super::Chains;
use super::bins::{Bins, dot};
use crate::features::af3::Af3Features;

/// TM score of a distance error, per bin, for sets of tokens of different sizes.
#[derive(Debug)]
pub(super) struct TmWeights {
    n_chain: usize,
    all: Vec<f32>,
    /// `[n_chain, n_chain]`: for the tokens of both chains; on the diagonal of one.
    pair: Vec<Vec<f32>>,
}

impl TmWeights {
    /// `n_token` of each chain.
    pub fn new(bins: &Bins, n_token: &[usize]) -> Self {
        let of_size = |n: usize| {
            let d0 = 1.24 * (n.max(19) as f64 - 15.0).cbrt() - 1.8;
            bins.centres().iter().map(|&c| (1.0 / (1.0 + (f64::from(c) / d0).powi(2))) as f32).collect::<Vec<_>>()
        };
        let n_chain = n_token.len();
        let size = |(i, j): (usize, usize)| if i == j { n_token[i] } else { n_token[i] + n_token[j] };
        let pairs = (0..n_chain * n_chain).map(|k| (k / n_chain, k % n_chain));
        Self { n_chain, all: of_size(n_token.iter().sum()), pair: pairs.map(|p| of_size(size(p))).collect() }
    }
}

/// Sums over the tokens j of one row of the alignment errors.
#[derive(Debug)]
pub(super) struct TmSums {
    all: f64,
    other_chains: f64,
    /// `[n_chain]` over the tokens of one chain, with the weights of the pair of chains.
    chain: Vec<f64>,
}

impl TmSums {
    pub fn new(n_chain: usize) -> Self {
        Self { all: 0.0, other_chains: 0.0, chain: vec![0.0; n_chain] }
    }

    /// Adds a token of chain `b` to the row of a token of chain `a`.
    pub fn add(&mut self, weights: &TmWeights, a: usize, b: usize, probs: &[f32]) {
        let all = f64::from(dot(&weights.all, probs));
        self.all += all;
        if a != b {
            self.other_chains += all;
        }
        self.chain[b] += f64::from(dot(&weights.pair[a * weights.n_chain + b], probs));
    }
}

/// Scores of the complex, its chains, and their pairs.
#[derive(Debug)]
pub(super) struct TmScores {
    pub ptm: f32,
    pub iptm: f32,
    pub chain_ptm: Vec<f32>,
    pub chain_iptm: Vec<f32>,
    pub chain_pair_iptm: Vec<f32>,
    pub bespoke_iptm: Vec<f32>,
}

impl TmScores {
    /// Each score is the best row among the tokens that have a frame. `sums` and `has_frame` `[n_token]`, `is_ligand`
    /// `[n_chain]`.
    pub fn new(sums: &[TmSums], chains: &Chains, has_frame: &[bool], is_ligand: &[bool]) -> Self {
        let n = chains.len();
        let n_all: usize = chains.n_token.iter().sum();
        let (mut ptm, mut iptm) = (0f64, 0f64);
        let (mut chain_ptm, mut pair) = (vec![0f64; n], vec![0f64; n * n]);
        let mut chain_has_frame = vec![false; n];
        let mean = |sum: f64, n: usize| if n == 0 { 0.0 } else { sum / n as f64 };
        for ((sums, &a), _) in sums.iter().zip(&chains.of_token).zip(has_frame).filter(|(_, has_frame)| **has_frame) {
            chain_has_frame[a] = true;
            ptm = ptm.max(mean(sums.all, n_all));
            iptm = iptm.max(mean(sums.other_chains, n_all - chains.n_token[a]));
            for b in 0..n {
                let mean = mean(sums.chain[b], chains.n_token[b]);
                if a == b {
                    chain_ptm[a] = chain_ptm[a].max(mean);
                } else {
                    let best = pair[a * n + b].max(mean);
                    (pair[a * n + b], pair[b * n + a]) = (best, best);
                }
            }
        }
        let chain_mean = |a: usize| {
            let others = (0..n).filter(|&b| b != a);
            let weighted = others.map(|b| {
                let weight = f64::from(u8::from(chain_has_frame[a]) + u8::from(chain_has_frame[b]));
                (weight * pair[a * n + b], weight)
            });
            let (sum, weight) = weighted.fold((0.0, 0.0), |(s, w), (x, y)| (s + x, w + y));
            sum / weight.max(1.0)
        };
        let chain_iptm: Vec<f64> = (0..n).map(chain_mean).collect();
        let bespoke = |k: usize| match (k / n, k % n) {
            (a, b) if a == b => 0.0,
            (a, _) if is_ligand[a] => chain_iptm[a],
            (_, b) if is_ligand[b] => chain_iptm[b],
            (a, b) => 0.5 * (chain_iptm[a] + chain_iptm[b]),
        };
        let bespoke_iptm = (0..n * n).map(|k| bespoke(k) as f32).collect();
        let single = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        Self {
            ptm: ptm as f32,
            iptm: iptm as f32,
            chain_ptm: single(chain_ptm),
            chain_iptm: single(chain_iptm),
            chain_pair_iptm: single(pair),
            bespoke_iptm,
        }
    }
}

/// `[n_chain]`: at least half of the tokens are of a ligand.
pub(super) fn ligand_chains(features: &Af3Features, chains: &Chains) -> Vec<bool> {
    let mut n_ligand = vec![0; chains.len()];
    let tokens = chains.of_token.iter().zip(&features.is_ligand).zip(&features.token_mask);
    for ((&chain, &is_ligand), &mask) in tokens {
        n_ligand[chain] += usize::from(is_ligand && mask > 0.0);
    }
    n_ligand.iter().zip(&chains.n_token).map(|(ligand, all)| 2 * ligand >= *all).collect()
}
