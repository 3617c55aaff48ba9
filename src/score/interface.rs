//! Scores of the interfaces between chains, as ColabFold 1.6.3 adds them to its score files (`colabfold/alphafold/ipsae.py`): ipSAE
//! (Dunbrack 2025), pDockQ (Bryant et al. 2022) and pDockQ2 (Zhu et al. 2023).
use crate::chem::atom_layout::pseudo_beta;
use crate::features::af2::N_ATOM37;

/// Pairs with a larger error are not part of an interface, in Å.
const PAE_CUTOFF: f64 = 15.;
/// Residues whose side chains are farther apart do not touch, in Å.
const CONTACT: f64 = 8.;

/// Scores of the first chain's residues towards the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interface {
    /// Index of a chain.
    pub first: usize,
    /// Index of another.
    pub second: usize,
    /// 0-1, aligned on residues of the first.
    pub ipsae: f64,
    /// 0-1; the same in both directions.
    pub pdockq: f64,
    /// 0-1.
    pub pdockq2: f64,
}

/// What the scores are made from, for `n` residues.
#[derive(Debug, Clone, Copy)]
pub struct Complex<'a> {
    /// `[n, n]` in Å: error of residue j when aligned on residue i.
    pub pae: &'a [f32],
    /// `[n]` 0-100.
    pub plddt: &'a [f32],
    /// `[n]`: the chain, from 0.
    pub asym_id: &'a [i32],
    /// `[n]`, 0-20.
    pub restype: &'a [u8],
    /// Atom37, `[n * 37]` in Å.
    pub positions: &'a [[f32; 3]],
}

/// Scores of each chain towards each other one, in order; none of a single chain.
pub fn interfaces(c: &Complex<'_>) -> Vec<Interface> {
    let n_chain = c.asym_id.iter().max().map_or(0, |last| *last as usize + 1);
    let pairs = (0..n_chain).flat_map(|a| (0..n_chain).map(move |b| (a, b))).filter(|(a, b)| a != b);
    pairs.map(|(a, b)| interface(c, a, b)).collect()
}

fn interface(c: &Complex<'_>, first: usize, second: usize) -> Interface {
    let n = c.asym_id.len();
    let of = |chain: usize| (0..n).filter(move |&i| c.asym_id[i] as usize == chain);
    let pae = |i: usize, j: usize| f64::from(c.pae[i * n + j]);
    let mut ipsae = 0f64;
    for i in of(first) {
        let near: Vec<f64> = of(second).map(|j| pae(i, j)).filter(|error| *error < PAE_CUTOFF).collect();
        if !near.is_empty() {
            let d0 = (1.24 * ((near.len() as f64).max(26.) - 15.).cbrt() - 1.8).max(1.);
            ipsae = ipsae.max(near.iter().map(|error| tm(*error, d0)).sum::<f64>() / near.len() as f64);
        }
    }
    let touching: Vec<(usize, usize)> =
        of(first).flat_map(|i| of(second).map(move |j| (i, j))).filter(|&(i, j)| c.touch(i, j)).collect();
    if touching.is_empty() {
        return Interface { first, second, ipsae, pdockq: 0., pdockq2: 0. };
    }
    let residues: std::collections::BTreeSet<usize> = touching.iter().flat_map(|&(i, j)| [i, j]).collect();
    let plddt = residues.iter().map(|&i| f64::from(c.plddt[i])).sum::<f64>() / residues.len() as f64;
    let n_contact = touching.len() as f64;
    let mean_tm = touching.iter().map(|&(i, j)| tm(pae(i, j), 10.)).sum::<f64>() / n_contact;
    let logistic = |x: f64, slope: f64, middle: f64| 1. / (1. + (-slope * (x - middle)).exp());
    let pdockq = 0.724 * logistic(plddt * n_contact.log10(), 0.052, 152.611) + 0.018;
    let pdockq2 = 1.31 * logistic(plddt * mean_tm, 0.075, 84.733) + 0.005;
    Interface { first, second, ipsae, pdockq, pdockq2 }
}

fn tm(error: f64, d0: f64) -> f64 {
    1. / (1. + (error / d0).powi(2))
}

impl Complex<'_> {
    /// Are the side chains of two residues near? Unknown residues have none.
    fn touch(&self, i: usize, j: usize) -> bool {
        const UNKNOWN: u8 = crate::chem::restype::UNKNOWN;
        if self.restype[i] == UNKNOWN || self.restype[j] == UNKNOWN {
            return false;
        }
        let point = |i: usize| self.positions[i * N_ATOM37 + pseudo_beta(self.restype[i])].map(f64::from);
        let (a, b) = (point(i), point(j));
        (0..3).map(|k| (a[k] - b[k]).powi(2)).sum::<f64>().sqrt() <= CONTACT
    }
}
