//! Chains of a structure file as ESM3 reads them: `ProteinChain.from_pdb` of esm 3.2.1.
use super::Backbone;
use crate::chem::atom_layout::{ATOM37, C, CA, N};
use crate::chem::restype::{CODES, LETTERS, UNKNOWN};
use crate::io::coordinates::Chain;

/// A chain: letters, and positions in Å.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Structure {
    /// One letter for each residue; X where it is none of the twenty.
    pub sequence: String,
    /// N, CA and C; NaN where an atom is missing.
    pub backbone: Vec<Backbone>,
    /// Has the residue any atom that ESM3 knows?
    pub has_atom: Vec<bool>,
}

impl Structure {
    /// The residues of a chain that have coordinates, without those that are no part of the polymer.
    pub fn new(chain: &Chain) -> Self {
        let mut structure = Self::default();
        for residue in chain.residues.iter().filter(|r| !r.hetero && !r.atoms.is_empty()) {
            let at = |name: &str| residue.atoms.iter().find(|a| a.name == name).map_or([f32::NAN; 3], |a| a.position);
            structure.sequence.push(letter(&residue.code));
            structure.backbone.push([N, CA, C].map(|place| at(ATOM37[place])));
            structure.has_atom.push(residue.atoms.iter().any(|a| ATOM37.contains(&a.name.as_str())));
        }
        structure
    }
}

/// The letter of a component.
fn letter(code: &str) -> char {
    let place = CODES.iter().position(|c| *c == code).unwrap_or(usize::from(UNKNOWN));
    char::from(LETTERS[place])
}

/// The component of a letter; UNK for all but the twenty.
pub fn code(letter: char) -> &'static str {
    let place = LETTERS.iter().position(|l| char::from(*l) == letter).unwrap_or(usize::from(UNKNOWN));
    CODES[place]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::coordinates::parse;

    #[test]
    fn missing_atoms_and_strange_residues() {
        let line = |record: &str, name: &str, code: &str, number: usize, x: f32| {
            format!(
                "{record:<6}{number:>5}  {name:<3} {code} A{number:>4}    {x:8.3}{:8.3}{:8.3}  1.00  0.00\n",
                0., 0.
            )
        };
        let text = [
            line("ATOM", "N", "GLY", 1, 1.),
            line("ATOM", "CA", "GLY", 1, 2.),
            line("ATOM", "C", "GLY", 1, 3.),
            line("ATOM", "SE", "MSE", 2, 4.),
            line("ATOM", "CB", "TRP", 3, 5.),
            line("HETATM", "O", "HOH", 4, 6.),
        ];
        let s = Structure::new(&parse(&text.concat()).unwrap()[0]);
        assert_eq!((s.sequence.as_str(), s.has_atom), ("GXW", vec![true, false, true]));
        assert!(s.backbone[0][2][0] == 3. && s.backbone[2][0][0].is_nan());
        assert_eq!((code('W'), code('B')), ("TRP", "UNK"));
    }
}
