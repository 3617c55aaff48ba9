//! Overlapping chains: AF3 SI 5.9.2, as OpenFold3 0.5.0 `core/metrics/sample_ranking.py`.
use rayon::prelude::*;

use crate::features::af3::Af3Features;

/// Atoms of two chains that are nearer than this clash, in Å.
const CLASH: f32 = 1.1;
/// More clashes than this are an overlap,
const MAX_CLASHES: usize = 100;
/// or more than this part of the smaller chain's atoms.
const MAX_PART: f64 = 0.5;

/// Do two polymer chains overlap?
pub(super) fn has_clash(features: &Af3Features, x: &[[f32; 3]]) -> bool {
    let is_polymer = |t: usize| features.is_protein[t] || features.is_rna[t] || features.is_dna[t];
    let mut asym_ids = features.asym_id.clone();
    asym_ids.sort_unstable();
    asym_ids.dedup();
    let tokens = |id: i32| (0..features.n_token()).filter(move |&t| features.asym_id[t] == id);
    asym_ids.retain(|&id| tokens(id).all(is_polymer));
    let atoms = |id: i32| {
        let of_chain = |atom: &usize| features.asym_id[features.atom_to_token[*atom]] == id;
        let real = |atom: &usize| features.atom_mask[*atom] > 0.0;
        (0..x.len()).filter(of_chain).filter(real).map(|atom| x[atom]).collect::<Vec<_>>()
    };
    let chains: Vec<Vec<[f32; 3]>> = asym_ids.into_iter().map(atoms).filter(|atoms| !atoms.is_empty()).collect();
    let pairs = (0..chains.len()).flat_map(|i| (i + 1..chains.len()).map(move |j| (i, j)));
    pairs.into_iter().any(|(i, j)| overlap(&chains[i], &chains[j]))
}

fn overlap(a: &[[f32; 3]], b: &[[f32; 3]]) -> bool {
    let near = |p: &[f32; 3], q: &[f32; 3]| (0..3).map(|k| (p[k] - q[k]).powi(2)).sum::<f32>() < CLASH * CLASH;
    let n: usize = a.par_iter().map(|p| b.iter().filter(|q| near(p, q)).count()).sum();
    n > MAX_CLASHES || n as f64 / a.len().min(b.len()) as f64 > MAX_PART
}
