//! Features of ProteinMPNN (Dauparas et al. 2022): a backbone as a graph of nearest neighbours, and what is known of each edge.
//! As the official program (8907e66, `protein_mpnn_utils.py`) and as ColabDesign 1.1.1 (`mpnn/modules.py`, `af/prep.py`) have them.
mod ca_only;
mod geometry;
pub mod read;

pub use geometry::{Edges, Neighbour};

use crate::chem::restype::{CODES, LETTERS, MPNN_LETTERS};

/// Letters of the alphabet, the unknown one included.
pub const N_LETTER: usize = MPNN_LETTERS.len();
/// The letter that stands for unknown.
pub const UNKNOWN: u8 = 20;
/// Classes of the distance in sequence: -32..=32, and another chain.
pub const N_SEPARATION: usize = 66;

/// A residue of a backbone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residue {
    /// N, CA, C and O in Å, where there are such.
    pub atoms: [Option<[f32; 3]>; 4],
    /// Index in [`MPNN_LETTERS`].
    pub letter: u8,
    /// Number in the file.
    pub number: i32,
}

impl Residue {
    /// A place without atoms, such as a gap in the numbering.
    pub const MISSING: Self = Self { atoms: [None; 4], letter: UNKNOWN, number: 0 };
}

/// A chain of a backbone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    /// Id in the file.
    pub id: String,
    /// In order.
    pub residues: Vec<Residue>,
}

/// What is read of a residue and how missing atoms are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// The official program: a residue counts if its four atoms are there; chains are numbered through.
    Official,
    /// The official program with weights for CA atoms.
    CaOnly,
    /// ColabDesign, which PXDesign calls: residues without N are left out, one counts if its CA is there; chains are 50 apart.
    ColabDesign,
}

/// Chains one after the other, as the network takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Backbone {
    /// `[n_res]`: N, CA, C, O in Å; zero where missing.
    pub atoms: Vec<[[f32; 3]; 4]>,
    /// `[n_res]`: is the residue known?
    pub mask: Vec<bool>,
    /// `[n_res]`: letters of [`MPNN_LETTERS`].
    pub letters: Vec<u8>,
    /// `[n_res]`.
    pub residue_index: Vec<i32>,
    /// `[n_res]`: which of the chains.
    pub chain: Vec<usize>,
    /// How it was made.
    pub rules: Rules,
}

impl Backbone {
    /// Chains in this order. Under the official rules that is: designed chains by their ids, then the others by theirs.
    pub fn new(chains: &[&Chain], rules: Rules) -> Self {
        let (atoms, mask, letters) = (Vec::new(), Vec::new(), Vec::new());
        let mut made = Self { atoms, mask, letters, residue_index: Vec::new(), chain: Vec::new(), rules };
        let mut last = 0;
        for (c, chain) in chains.iter().enumerate() {
            let kept = chain.residues.iter().filter(|r| rules != Rules::ColabDesign || r.atoms[0].is_some());
            for residue in kept {
                let known = match rules {
                    Rules::Official => residue.atoms.iter().all(Option::is_some),
                    Rules::CaOnly | Rules::ColabDesign => residue.atoms[1].is_some(),
                };
                made.residue_index.push(match rules {
                    Rules::ColabDesign => residue.number + last,
                    _ => 100 * c as i32 + made.letters.len() as i32,
                });
                made.atoms.push(residue.atoms.map(Option::unwrap_or_default));
                made.mask.push(known);
                made.letters.push(residue.letter);
                made.chain.push(c);
            }
            last = made.residue_index.last().map_or(last, |i| i + CHAIN_GAP);
        }
        made
    }

    /// Residues.
    pub fn n_res(&self) -> usize {
        self.mask.len()
    }

    /// Class of the distance in sequence from residue `j` to residue `i`: 0..[`N_SEPARATION`].
    pub fn separation(&self, i: usize, j: usize) -> usize {
        if self.chain[i] != self.chain[j] {
            return N_SEPARATION - 1;
        }
        (self.residue_index[i] - self.residue_index[j] + 32).clamp(0, 64) as usize
    }
}

/// Between the numbers of two chains in ColabDesign.
const CHAIN_GAP: i32 = 50;

/// Letter of a component code: one of the twenty, or unknown.
pub fn letter_of_code(code: &str) -> u8 {
    CODES[..20].iter().position(|c| *c == code).map_or(UNKNOWN, |i| letter_of_restype(i as u8))
}

/// Letter of a restype 0-20.
pub fn letter_of_restype(restype: u8) -> u8 {
    letter(LETTERS[usize::from(restype)]).unwrap_or(UNKNOWN)
}

/// Index of an upper-case character in [`MPNN_LETTERS`].
pub fn letter(character: u8) -> Option<u8> {
    MPNN_LETTERS.iter().position(|l| *l == character).map(|i| i as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(id: &str, numbers: &[i32]) -> Chain {
        let residue = |number: &i32| Residue { atoms: [Some([*number as f32; 3]); 4], letter: 3, number: *number };
        Chain { id: id.to_owned(), residues: numbers.iter().map(residue).collect() }
    }

    #[test]
    fn chains_are_numbered_by_the_rules() {
        let (mut a, b) = (chain("A", &[5, 6, 9]), chain("B", &[1, 2]));
        a.residues[1].atoms[3] = None;
        let made = Backbone::new(&[&a, &b], Rules::Official);
        assert_eq!(made.residue_index, [0, 1, 2, 103, 104]);
        assert_eq!(made.mask, [true, false, true, true, true]);
        assert_eq!((made.separation(2, 0), made.separation(0, 4)), (34, 65));
        a.residues[0].atoms[0] = None;
        let made = Backbone::new(&[&b, &a], Rules::ColabDesign);
        assert_eq!(made.residue_index, [1, 2, 58, 61], "52 of the last residue, and 50");
        assert_eq!(made.mask, [true; 4]);
    }

    #[test]
    fn letters_of_codes() {
        let letters: Vec<u8> = ["ALA", "CYS", "TYR", "UNK", "MSE"].map(letter_of_code).to_vec();
        assert_eq!(letters, [0, 1, 19, UNKNOWN, UNKNOWN]);
        assert_eq!((letter_of_restype(1), letter_of_restype(20)), (14, UNKNOWN));
    }
}
