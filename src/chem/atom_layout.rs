//! Atoms of a residue as AF2 numbers them: atom37 (every name has a place), atom14 (the atoms of the residue, packed), rigid groups and
//! chi angles (AF2 SI 1.8.4, Table 2). Residue types are those of [`super::restype`], 20 unknown: it has no atoms here.
use std::sync::LazyLock;

use super::restype::{CODES, GLY, UNKNOWN};

/// Names of atom37.
pub const ATOM37: [&str; 37] = [
    "N", "CA", "C", "CB", "O", "CG", "CG1", "CG2", "OG", "OG1", "SG", "CD", "CD1", "CD2", "ND1", "ND2", "OD1", "OD2",
    "SD", "CE", "CE1", "CE2", "CE3", "NE", "NE1", "NE2", "OE1", "OE2", "CH2", "NH1", "NH2", "OH", "CZ", "CZ2", "CZ3",
    "NZ", "OXT",
];
/// Places in atom37.
pub const N: usize = 0;
/// Place in atom37.
pub const CA: usize = 1;
/// Place in atom37.
pub const C: usize = 2;
/// Place in atom37.
pub const CB: usize = 3;
/// Place in atom37.
pub const O: usize = 4;
/// Places in atom14.
pub const N_ATOM14: usize = 14;
/// Rigid groups: backbone, pre-omega, phi, psi, chi1 to chi4.
pub const N_GROUP: usize = 8;
/// The rigid group of chi1.
pub const CHI1: usize = 4;

/// An atom of a residue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Atom {
    /// Place in atom37.
    pub atom37: usize,
    /// The rigid group it moves with.
    pub group: usize,
    /// Å, in the frame of the group.
    pub position: [f64; 3],
}

/// A torsion of a side chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chi {
    /// Places in atom37.
    pub atoms: [usize; 4],
    /// Half a turn gives the same residue, but for the names.
    pub periodic: bool,
}

/// Geometry of a residue type.
#[derive(Debug, Clone, Default)]
pub struct Residue {
    /// In atom14 order.
    pub atoms: Vec<Atom>,
    /// chi1 and on.
    pub chis: Vec<Chi>,
}

static RESIDUES: LazyLock<Vec<Residue>> = LazyLock::new(|| {
    let mut all = vec![Residue::default(); CODES.len()];
    let restype = |code: &str| CODES.iter().position(|c| *c == code).expect("the tables have standard residues");
    for line in include_str!("data/rigid_groups.tsv").lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [code, atom, group, x, y, z] = fields[..] else { unreachable!("rigid_groups.tsv has six columns") };
        let number = |text: &str| text.parse::<f64>().expect("rigid_groups.tsv has numbers");
        let group = group.parse().expect("rigid_groups.tsv has numbers");
        let position = [number(x), number(y), number(z)];
        all[restype(code)].atoms.push(Atom { atom37: place(atom), group, position });
    }
    for line in include_str!("data/chi_angles.tsv").lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [code, _, a, b, c, d, periodic] = fields[..] else { unreachable!("chi_angles.tsv has seven columns") };
        all[restype(code)].chis.push(Chi { atoms: [a, b, c, d].map(place), periodic: periodic == "1" });
    }
    all
});

fn place(name: &str) -> usize {
    ATOM37.iter().position(|n| *n == name).expect("the tables have names of atom37")
}

/// Geometry of `restype`; anything above 20 is as 20.
pub fn residue(restype: u8) -> &'static Residue {
    &RESIDUES[usize::from(restype.min(UNKNOWN))]
}

/// The atom that stands for a side chain: CB, or CA of glycine. A place in atom37.
pub fn pseudo_beta(restype: u8) -> usize {
    if restype == GLY { CA } else { CB }
}

impl Residue {
    /// Where the atom of a place in atom37 is in atom14, if the residue has it.
    pub fn atom14(&self, atom37: usize) -> Option<usize> {
        self.atoms.iter().position(|atom| atom.atom37 == atom37)
    }

    /// Position of the atom of a place in atom37 in its group's frame, in Å.
    pub fn position(&self, atom37: usize) -> Option<[f64; 3]> {
        self.atom14(atom37).map(|i| self.atoms[i].position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residues_have_their_atoms() {
        let count = |code: &str| residue(CODES.iter().position(|c| *c == code).unwrap() as u8).atoms.len();
        assert_eq!([count("GLY"), count("ALA"), count("TRP"), count("UNK")], [4, 5, 14, 0]);
        assert_eq!((0..20).map(|r| residue(r).atoms.len()).sum::<usize>(), 167);
        for restype in 0..20 {
            let r = residue(restype);
            let names: Vec<_> = r.atoms[..4].iter().map(|a| ATOM37[a.atom37]).collect();
            assert_eq!(names, ["N", "CA", "C", "O"], "{}", CODES[usize::from(restype)]);
            assert_eq!(r.position(CA), Some([0.; 3]));
            for (k, chi) in r.chis.iter().enumerate() {
                let last = r.atom14(chi.atoms[3]).unwrap();
                assert_eq!(r.atoms[last].group, CHI1 + k, "the last atom of a chi angle moves with it");
            }
        }
        assert_eq!(residue(21).atoms.len(), 0);
    }

    #[test]
    fn pseudo_beta_of_glycine_is_its_alpha() {
        assert_eq!((pseudo_beta(GLY), pseudo_beta(0)), (CA, CB));
    }
}
