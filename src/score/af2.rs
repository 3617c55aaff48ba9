//! Confidence of AF2's predictions: AF2 SI 1.9.6 and 1.9.7, multimer's ranking, and how far a pass has moved the structure, as
//! `alphafold/common/confidence.py` of `alphafold-colabfold` 2.3.27.
use rayon::prelude::*;

use super::bins::{Bins, dot, softmax};
use crate::chem::atom_layout::CA;
use crate::features::af2::N_ATOM37;

/// Largest aligned error, in Å.
const MAX_ERROR: f32 = 32.0;

/// Confidence in a prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Af2Confidence {
    /// `[n]`, 0-100.
    pub plddt: Vec<f32>,
    /// Over residues that are not masked, 0-100.
    pub mean_plddt: f32,
    /// Of parameter sets that have the head.
    pub errors: Option<AlignedErrors>,
}

/// What the head of the aligned error gives.
#[derive(Debug, Clone, PartialEq)]
pub struct AlignedErrors {
    /// `[n, n]` in Å: error of residue j when aligned on residue i.
    pub pae: Vec<f32>,
    /// 0-1.
    pub ptm: f32,
    /// 0-1, over pairs of different chains; 0 for a single chain.
    pub iptm: f32,
}

/// By what predictions are ranked, 0-100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranking {
    /// Mean pLDDT: monomers.
    Plddt,
    /// 80 ipTM + 20 pTM: complexes.
    Interface,
}

impl Af2Confidence {
    /// From logits of pLDDT `[n, n_plddt]` and of the aligned error `[n, n, n_pae]`; chains `asym_id` `[n]`, `mask` `[n]`, 1 = real.
    pub fn new(plddt: &[f32], pae: Option<&[f32]>, asym_id: &[i32], mask: &[f32]) -> Self {
        let n = mask.len();
        let expected = Bins::new(0.0, 1.0, plddt.len() / n).expect(plddt);
        let plddt: Vec<f32> = expected.into_iter().map(|p| 100. * p).collect();
        let n_real: f32 = mask.iter().sum();
        let mean_plddt = dot(&plddt, mask) / n_real;
        let errors = pae.map(|logits| AlignedErrors::new(logits, asym_id, mask));
        Self { plddt, mean_plddt, errors }
    }

    /// 0-100; nothing to rank by if a head is missing.
    pub fn ranking(&self, by: Ranking) -> Option<f32> {
        match by {
            Ranking::Plddt => Some(self.mean_plddt),
            Ranking::Interface => self.errors.as_ref().map(|e| 80. * e.iptm + 20. * e.ptm),
        }
    }
}

impl AlignedErrors {
    fn new(logits: &[f32], asym_id: &[i32], mask: &[f32]) -> Self {
        let n = mask.len();
        let bins = Bins::new(0.0, MAX_ERROR, logits.len() / (n * n));
        let n_real: f32 = mask.iter().sum();
        let d0 = 1.24 * (f64::from(n_real.max(19.)) - 15.).cbrt() - 1.8;
        let tm: Vec<f32> = bins.centres().iter().map(|c| (1. / (1. + (f64::from(*c) / d0).powi(2))) as f32).collect();
        let rows: Vec<(Vec<f32>, f64, f64)> = logits
            .par_chunks(n * bins.len())
            .enumerate()
            .map(|(i, row)| {
                let mut probs = vec![0.; bins.len()];
                let mut pae = Vec::with_capacity(n);
                // Of all residues, and of those of other chains: sum of TM scores, sum of weights.
                let (mut all, mut others) = ([0f64; 2], [0f64; 2]);
                for (j, logits) in row.chunks(bins.len()).enumerate() {
                    softmax(logits, &mut probs);
                    pae.push(bins.mean(&probs));
                    let (weight, score) = (f64::from(mask[i] * mask[j]), f64::from(dot(&tm, &probs)));
                    let sums = if asym_id[i] == asym_id[j] {
                        [Some(&mut all), None]
                    } else {
                        [Some(&mut all), Some(&mut others)]
                    };
                    for sum in sums.into_iter().flatten() {
                        sum[0] += weight * score;
                        sum[1] += weight;
                    }
                }
                let mean = |sum: [f64; 2]| f64::from(mask[i]) * sum[0] / (1e-8 + sum[1]);
                (pae, mean(all), mean(others))
            })
            .collect();
        let best = |of: fn(&(Vec<f32>, f64, f64)) -> f64| rows.iter().map(of).fold(0., f64::max) as f32;
        let (ptm, iptm) = (best(|row| row.1), best(|row| row.2));
        Self { pae: rows.into_iter().flat_map(|row| row.0).collect(), ptm, iptm }
    }
}

/// How far two passes are apart: root mean square change of the distances between CA atoms, in Å. Positions of atom37, `[n * 37]`.
pub fn change(before: &[[f32; 3]], after: &[[f32; 3]], mask: &[f32]) -> f32 {
    let n = mask.len();
    let distance = |x: &[[f32; 3]], i: usize, j: usize| {
        let (a, b) = (x[i * N_ATOM37 + CA], x[j * N_ATOM37 + CA]);
        (0..3).map(|k| f64::from(a[k] - b[k]).powi(2)).sum::<f64>().sqrt()
    };
    let (mut sum, mut weights) = (0., 0.);
    for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let weight = f64::from(mask[i] * mask[j]);
        sum += weight * (distance(before, i, j) - distance(after, i, j)).powi(2);
        weights += weight;
    }
    (sum / weights + 1e-8).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits that are sure of one bin.
    fn sure(bins: &[usize], n_bin: usize) -> Vec<f32> {
        bins.iter().flat_map(|bin| (0..n_bin).map(move |b| if b == *bin { 200. } else { 0. })).collect()
    }

    #[test]
    fn scores_of_sure_heads() {
        let plddt = sure(&[49, 0], 50);
        let pae = sure(&[0, 63, 63, 0], 64);
        let got = Af2Confidence::new(&plddt, Some(&pae), &[0, 1], &[1., 1.]);
        assert!((got.plddt[0] - 99.).abs() < 1e-4 && (got.mean_plddt - 50.).abs() < 1e-4);
        let errors = got.errors.as_ref().unwrap();
        assert_eq!(errors.pae, [0.25, 31.75, 31.75, 0.25]);
        let d0 = 1.24 * 4f32.cbrt() - 1.8;
        let tm = |c: f32| 1. / (1. + (c / d0).powi(2));
        assert!((errors.ptm - (tm(0.25) + tm(31.75)) / 2.).abs() < 1e-6);
        assert!((errors.iptm - tm(31.75)).abs() < 1e-6);
        assert_eq!(got.ranking(Ranking::Interface), Some(80. * errors.iptm + 20. * errors.ptm));
        let alone = Af2Confidence::new(&plddt, Some(&pae), &[0, 0], &[1., 0.]);
        assert!((alone.mean_plddt - 99.).abs() < 1e-4 && alone.errors.unwrap().iptm == 0.);
        assert_eq!(Af2Confidence::new(&plddt, None, &[0, 0], &[1., 1.]).ranking(Ranking::Interface), None);
    }

    #[test]
    fn a_turned_structure_has_not_changed() {
        let mut a = vec![[0f32; 3]; 3 * N_ATOM37];
        for i in 0..3 {
            a[i * N_ATOM37 + CA] = [i as f32, (i * i) as f32, 1.];
        }
        let turned: Vec<_> = a.iter().map(|[x, y, z]| [*y, -*x, *z]).collect();
        assert!((change(&a, &turned, &[1.; 3]) - 1e-4).abs() < 1e-6);
        let twice: Vec<_> = a.iter().map(|x| x.map(|v| 2. * v)).collect();
        assert!(change(&a, &twice, &[1., 1., 0.]) > 0.9);
    }
}
