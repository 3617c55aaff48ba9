//! Which atoms stand for a token: the representative atom, and the three of its frame.
//!
//! As OpenFold3 0.5.0 `core/utils/atomize_utils.py`: offsets come from the residue type and fixed atom lists
//! (`core/data/resources/token_atom_constants.py`), not from the atoms' names.
use super::Af3Features;
use crate::chem::restype::{GLY, UNKNOWN};

/// The three atoms of a token's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameAtoms {
    /// Atom indices a, b (origin) and c: N, CA, C of an amino acid; C3', C1', C4' of a nucleotide.
    Fixed([usize; 3]),
    /// An atomized token: its atom is b; a and c are the two nearest atoms of the same chain.
    Nearest(usize),
    /// The residue type has no such atoms.
    None,
}

/// Offsets in the fixed lists that start P OP1 OP2 O5' C5' C4' O4' C3' O3' C2' and go on with O2' in RNA, then C1', base.
const C4_PRIME: usize = 5;
const C3_PRIME: usize = 7;
const C1_PRIME_RNA: usize = 11;
const C1_PRIME_DNA: usize = 10;

/// Per token the index of its representative atom and a mask (1 = it is there): CB, CA of glycine, C4 of purines, C2 of
/// pyrimidines, an atomized token's own atom. Tokens without one (N, DN) point to atom 0 with mask 0.
pub fn representative_atoms(features: &Af3Features) -> (Vec<usize>, Vec<f32>) {
    let atoms = (0..features.n_token()).map(|i| {
        let start = features.start_atom_index[i];
        let base = |c1_prime: usize, restype: u8, first: u8| match restype.checked_sub(first) {
            Some(0) => Some(c1_prime + 10),    // A: C4
            Some(1) => Some(c1_prime + 11),    // G: C4
            Some(2 | 3) => Some(c1_prime + 2), // C, U, T: C2
            _ => None,
        };
        let offset = match features.restype[i] {
            _ if features.is_atomized[i] => Some(0),
            GLY if features.is_protein[i] => Some(1),
            0..=UNKNOWN if features.is_protein[i] => Some(4),
            restype if features.is_rna[i] => base(C1_PRIME_RNA, restype, 21),
            restype if features.is_dna[i] => base(C1_PRIME_DNA, restype, 26),
            _ => None,
        };
        // A features file may have fewer atoms than the residue type says; such a token has no representative.
        let index = offset.map(|offset| start + offset).filter(|&index| index < features.n_atom());
        index.map_or((0, 0.), |index| (index, features.atom_mask[index] * features.token_mask[i]))
    });
    atoms.unzip()
}

/// Per token the atoms of its frame.
pub fn frame_atoms(features: &Af3Features) -> Vec<FrameAtoms> {
    let frame = |i: usize| {
        let start = features.start_atom_index[i];
        let offsets = match features.restype[i] {
            _ if features.is_atomized[i] => return FrameAtoms::Nearest(start),
            0..=UNKNOWN if features.is_protein[i] => [0, 1, 2],
            21..=25 if features.is_rna[i] => [C3_PRIME, C1_PRIME_RNA, C4_PRIME],
            26..=30 if features.is_dna[i] => [C3_PRIME, C1_PRIME_DNA, C4_PRIME],
            _ => return FrameAtoms::None,
        };
        let atoms = offsets.map(|offset| start + offset);
        if atoms.iter().all(|&atom| atom < features.n_atom()) { FrameAtoms::Fixed(atoms) } else { FrameAtoms::None }
    };
    (0..features.n_token()).map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token of each residue type with 24 atoms each, then an atomized one.
    fn every_type() -> Af3Features {
        let n = 32;
        let of = |range: std::ops::RangeInclusive<usize>| (0..n).map(|i| range.contains(&i)).collect::<Vec<_>>();
        Af3Features {
            token_index: (0..n as i32).collect(),
            restype: (0..31).chain([UNKNOWN]).collect(),
            is_protein: of(0..=20),
            is_rna: of(21..=25),
            is_dna: of(26..=30),
            is_ligand: of(31..=31),
            is_atomized: of(31..=31),
            token_mask: vec![1.; n],
            start_atom_index: (0..n).map(|i| 24 * i).collect(),
            atom_mask: vec![1.; 24 * n],
            atom_to_token: (0..24 * n).map(|i| i / 24).collect(),
            ..Af3Features::default()
        }
    }

    #[test]
    fn representative_atoms_are_the_official_ones() {
        let (index, mask) = representative_atoms(&every_type());
        let offset: Vec<_> = index.iter().enumerate().map(|(i, x)| x.saturating_sub(24 * i)).collect();
        let mut want = vec![4; 21];
        want[7] = 1;
        want.extend([21, 22, 13, 13, 0, 20, 21, 12, 12, 0, 0]); // A G C U N DA DG DC DT DN atomized
        assert_eq!(offset, want);
        assert_eq!((index[25], mask[25], index[30], mask[30]), (0, 0., 0, 0.));
        assert!(mask.iter().enumerate().all(|(i, &m)| (m == 1.) == (i != 25 && i != 30)));
    }

    #[test]
    fn frame_atoms_are_the_official_ones() {
        let frames = frame_atoms(&every_type());
        assert_eq!(frames[3], FrameAtoms::Fixed([72, 73, 74]));
        assert_eq!(frames[21], FrameAtoms::Fixed([504 + 7, 504 + 11, 504 + 5]));
        assert_eq!(frames[30], FrameAtoms::Fixed([720 + 7, 720 + 10, 720 + 5]));
        assert_eq!(frames[31], FrameAtoms::Nearest(744));
    }
}
