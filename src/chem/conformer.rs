//! Reference conformers of the standard amino acids: RDKit ETKDGv3 embeddings made in advance (`data/regen.py`).
//!
//! OpenFold3 embeds each residue anew for each prediction; here one of a fixed set is taken. All are L-amino acids, as
//! those the network was trained on (`core/data/primitives/structure/component.py:529` of 0.5.0); at inference the official
//! program assigns no stereochemistry to residues (`query.py:214`), so that half of its conformers are mirror images.
use std::sync::LazyLock;

use super::ccd::Component;
use super::restype::CODES;

/// Conformers of each residue.
pub const N_CONFORMER: usize = 8;

static CONFORMERS: LazyLock<Vec<Vec<Vec<[f32; 3]>>>> = LazyLock::new(|| {
    let mut all = vec![vec![Vec::new(); N_CONFORMER]; CODES.len()];
    for line in include_str!("data/conformers.tsv").lines().skip(1) {
        let fields: Vec<_> = line.split('\t').collect();
        let [code, k, _, x, y, z] = fields[..] else { unreachable!("conformers.tsv has six columns") };
        let number = |s: &str| s.parse().expect("conformers.tsv has numbers");
        let restype = CODES.iter().position(|&c| c == code).expect("conformers.tsv has standard residues");
        let k: usize = k.parse().expect("conformers.tsv has numbers");
        all[restype][k].push([number(x), number(y), number(z)]);
    }
    all
});

/// Positions in Å of the atoms of `Component::amino_acid(restype)`, conformer `k` of [`N_CONFORMER`].
///
/// # Panics
/// If `restype` is above 20 or `k` beyond the set.
pub fn conformer(restype: u8, k: usize) -> &'static [[f32; 3]] {
    let positions = &CONFORMERS[usize::from(restype)][k];
    debug_assert_eq!(positions.len(), Component::amino_acid(restype).atoms.len());
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minus(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
    }

    fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
        a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    }

    #[test]
    fn conformers_are_left_handed_amino_acids_with_peptide_bond_lengths() {
        for restype in 0..21 {
            for k in 0..N_CONFORMER {
                let x = conformer(restype, k);
                assert_eq!(x.len(), Component::amino_acid(restype).atoms.len());
                let (n, c) = (minus(x[0], x[1]), minus(x[2], x[1]));
                let code = CODES[usize::from(restype)];
                assert!((dot(n, n).sqrt() - 1.45).abs() < 0.06, "{code} {k}: N-CA {}", dot(n, n).sqrt());
                assert!((dot(c, c).sqrt() - 1.52).abs() < 0.08, "{code} {k}: CA-C {}", dot(c, c).sqrt());
                if let Some(cb) = Component::amino_acid(restype).position("CB") {
                    let cross = [n[1] * c[2] - n[2] * c[1], n[2] * c[0] - n[0] * c[2], n[0] * c[1] - n[1] * c[0]];
                    assert!(dot(cross, minus(x[cb], x[1])) > 1., "{code} {k} is not an L-amino acid");
                }
            }
        }
    }
}
