//! Disordered residues: AF3 SI 5.9.2, as OpenFold3 0.5.0 `core/metrics/rasa.py` (after AlphaFold-disorder, Piovesan 2022).
use super::sasa::{atom_radius, solvent_accessible_area};
use crate::chem::restype::CODES;
use crate::features::af3::Af3Features;

/// Residues over which the accessibility is averaged.
const WINDOW: usize = 25;
/// A residue is disordered if the average relative accessibility is above this.
const THRESHOLD: f64 = 0.581;
/// Largest accessible area of each amino acid in Å^2, in the order of restypes: Rost and Sander 1994, and 113 for UNK.
const MAX_AREA: [f64; 21] = [
    106.0, 248.0, 157.0, 163.0, 135.0, 198.0, 194.0, 84.0, 184.0, 169.0, 164.0, 205.0, 188.0, 197.0, 136.0, 130.0,
    142.0, 227.0, 222.0, 142.0, 113.0,
];

/// Fraction of the residues of all protein chains that are disordered, each chain taken alone. 0 without protein chains;
/// NaN if no chain can be computed: a position is not finite, or residues are modified, so that their radii are not known.
///
/// `x` `[n_atom]` in Å.
pub fn disorder(features: &Af3Features, x: &[[f32; 3]]) -> f32 {
    let chains = protein_chains(features);
    if chains.is_empty() {
        return 0.0;
    }
    let smooth: Vec<f64> = chains.iter().filter_map(|tokens| accessibility(features, x, tokens)).flatten().collect();
    let n = smooth.iter().filter(|&&a| a > THRESHOLD).count();
    (n as f64 / smooth.len() as f64) as f32
}

/// Runs of tokens of one protein chain.
fn protein_chains(features: &Af3Features) -> Vec<Vec<usize>> {
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for token in (0..features.n_token()).filter(|&t| features.is_protein[t]) {
        let goes_on = |last: usize| {
            features.asym_id[last] == features.asym_id[token]
                && features.residue_index[last] <= features.residue_index[token]
        };
        match chains.last_mut() {
            Some(chain) if chain.last().is_some_and(|&last| goes_on(last)) => chain.push(token),
            _ => chains.push(vec![token]),
        }
    }
    chains
}

/// Relative accessibility of each residue of a chain, averaged along the chain.
fn accessibility(features: &Af3Features, x: &[[f32; 3]], tokens: &[usize]) -> Option<Vec<f64>> {
    let mut in_chain = vec![None; features.n_token()];
    tokens.iter().enumerate().for_each(|(i, &t)| in_chain[t] = Some(i));
    let atoms: Vec<usize> = (0..x.len()).filter(|&a| in_chain[features.atom_to_token[a]].is_some()).collect();
    let positions: Vec<[f32; 3]> = atoms.iter().map(|&a| x[a]).collect();
    if tokens.iter().any(|&t| features.is_atomized[t]) || !positions.as_flattened().iter().all(|v| v.is_finite()) {
        return None;
    }
    let restype = |token: usize| usize::from(features.restype[token]).min(20);
    let radius = |&atom: &usize| {
        let name: String = features.ref_atom_name[atom].iter().map(|c| char::from(c + 32)).collect();
        atom_radius(CODES[restype(features.atom_to_token[atom])], name.trim_end())
    };
    let area = solvent_accessible_area(&positions, &atoms.iter().map(radius).collect::<Vec<_>>());
    let relative = tokens.iter().map(|&token| {
        let of_token = atoms.iter().zip(&area).filter(|(a, _)| features.atom_to_token[**a] == token);
        let sum = numpy_sum(&of_token.map(|(_, &area)| area).collect::<Vec<_>>());
        (f64::from(sum) / MAX_AREA[restype(token)]).clamp(0.0, 1.0)
    });
    Some(smooth(&relative.collect::<Vec<_>>()))
}

/// Sum in the order of numpy, which adds eight partial sums pairwise. At most 128 values.
fn numpy_sum(x: &[f32]) -> f32 {
    let (blocks, rest) = x.as_chunks::<8>();
    let Some((first, others)) = blocks.split_first() else { return x.iter().sum() };
    let mut r = *first;
    others.iter().for_each(|block| r.iter_mut().zip(block).for_each(|(r, x)| *r += x));
    let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    rest.iter().fold(sum, |sum, x| sum + x)
}

/// Moving average; beyond its ends the chain is reflected, as often as needed.
fn smooth(x: &[f64]) -> Vec<f64> {
    let last = x.len() as isize - 1;
    let at = |i: isize| {
        let period = (2 * last).max(1);
        let i = i.rem_euclid(period);
        x[i.min((2 * last - i).abs()) as usize]
    };
    let half = WINDOW as isize / 2;
    let mean = |i: isize| (i - half..=i + half).map(at).sum::<f64>() / WINDOW as f64;
    (0..=last).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.pad(x, 12, mode="reflect")` for short chains.
    #[test]
    fn short_chains_are_reflected_again_and_again() {
        assert_eq!(smooth(&[0.5]), [0.5]);
        let two = smooth(&[0.0, 1.0]);
        assert!((two[0] - 12.0 / 25.0).abs() < 1e-12 && (two[1] - 13.0 / 25.0).abs() < 1e-12);
        let three = smooth(&[0.0, 1.0, 2.0]); // 0 1 2 1 0 1 2 1 0 1 2 1 | 0 1 2 | 1 0 1 2 1 0 1 2 1 0 1 2
        assert!((three[0] - 24.0 / 25.0).abs() < 1e-12 && (three[2] - 26.0 / 25.0).abs() < 1e-12, "{three:?}");
    }

    #[test]
    fn sums_are_numpys() {
        let x: Vec<f32> = (0..19).map(|i| 0.1 * i as f32 + 1e3).collect();
        assert_eq!(numpy_sum(&x[..5]), x[..5].iter().sum::<f32>());
        assert!((numpy_sum(&x) - 19017.1).abs() < 4e-3);
    }
}
