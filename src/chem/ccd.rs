//! Components by code: the standard amino acids, from the wwPDB chemical component dictionary (`data/regen.py`).
use std::sync::LazyLock;

use super::restype::CODES;

/// An atom of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Atom {
    /// Name in the dictionary, such as CA.
    pub name: &'static str,
    /// Element symbol, such as C.
    pub element: &'static str,
    /// Atomic number.
    pub number: u8,
    /// Formal charge in the dictionary's protonation: Arg NH2, His ND1 and Lys NZ have +1.
    pub charge: i8,
}

/// What one residue consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Dictionary code, such as ALA.
    pub code: &'static str,
    /// Heavy atoms in the dictionary's order, without OXT, which leaves when the chain is made.
    pub atoms: Vec<Atom>,
}

static STANDARD: LazyLock<Vec<Component>> = LazyLock::new(|| {
    let mut components: Vec<_> = CODES.iter().map(|&code| Component { code, atoms: Vec::new() }).collect();
    for line in include_str!("data/components.tsv").lines().skip(1) {
        let mut fields = line.split('\t');
        let mut next = || fields.next().expect("components.tsv has four columns");
        let (code, name, element) = (next(), next(), next());
        let charge = next().parse().expect("components.tsv has whole charges");
        let number = match element {
            "C" => 6,
            "N" => 7,
            "O" => 8,
            "S" => 16,
            _ => unreachable!("standard residues have no other elements"),
        };
        let component = components.iter_mut().find(|c| c.code == code).expect("components.tsv has standard residues");
        component.atoms.push(Atom { name, element, number, charge });
    }
    components
});

impl Component {
    /// The component of an amino-acid restype, 0-20.
    ///
    /// # Panics
    /// If `restype` is above 20.
    pub fn amino_acid(restype: u8) -> &'static Self {
        &STANDARD[usize::from(restype)]
    }

    /// Index of the atom of this name.
    pub fn position(&self, atom: &str) -> Option<usize> {
        self.atoms.iter().position(|a| a.name == atom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_residues_are_whole() {
        let n: Vec<_> = (0..21).map(|i| Component::amino_acid(i).atoms.len()).collect();
        assert_eq!(n, [5, 11, 8, 8, 6, 9, 9, 4, 10, 8, 8, 9, 8, 11, 7, 6, 7, 14, 12, 7, 6]);
        for i in 0..21 {
            let names: Vec<_> = Component::amino_acid(i).atoms.iter().take(4).map(|a| a.name).collect();
            assert_eq!(names, ["N", "CA", "C", "O"]);
        }
        let charged: Vec<_> = (0..21)
            .flat_map(|i| &Component::amino_acid(i).atoms)
            .filter(|a| a.charge != 0)
            .map(|a| (a.name, a.charge))
            .collect();
        assert_eq!(charged, [("NH2", 1), ("ND1", 1), ("NZ", 1)]);
    }
}
