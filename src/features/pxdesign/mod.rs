//! Features of a design: the target's tokens and atoms, then the binder's, as PXDesign's network reads them
//! (`pxdesign/data/json_to_feature.py`, `featurizer.py`), and the names of all atoms for the files that are written.
mod build;
mod distance;

pub use build::featurise;

/// Residue types of the network: AF3's 32, `xpb` (a residue to design), and three that no task uses.
pub const N_RESTYPE: usize = 36;
/// Restype of a residue to design.
pub const DESIGNED: u8 = 32;
/// Component code of a residue to design in files.
pub const DESIGNED_CODE: &str = "xpb";
/// Atomic numbers 1..118, then unknown.
pub const N_ELEMENT: usize = 128;
/// Characters of an atom name and codes of each.
pub const ATOM_NAME: (usize, usize) = (4, 64);
/// Distance bins of the target: between 2 and 22 Å, and beyond.
pub const N_DISTANCE_BIN: usize = 64;

/// All that the network reads of one task; `n_token` and `n_atom` are the lengths of the token and atom vectors. The target's chains
/// come in the order of the task, the binder last.
///
/// What is the same for every task is left out: `plddt` is 0 for each token, `add_feat1` and `add_feat2` are `[1, 0, 0, 0]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DesignFeatures {
    /// `[n_token]` 0, 1, 2, ...
    pub token_index: Vec<i32>,
    /// `[n_token]` residue number in its chain: that of the file's sequence, 1, 2, 3, ... in the binder.
    pub residue_index: Vec<i32>,
    /// `[n_token]` chain, from 0.
    pub asym_id: Vec<i32>,
    /// `[n_token]` from 0; each chain is its own entity, numbered by the sorted decimal numbers 1, 10, 11, 2, ...
    pub entity_id: Vec<i32>,
    /// `[n_token]` 0.
    pub sym_id: Vec<i32>,
    /// `[n_token]` residue type, 0..35.
    pub restype: Vec<u8>,
    /// `[n_token]` 1 = the binder is to touch it.
    pub hotspot: Vec<f32>,
    /// `[n_token, n_token]` distance bin of the representative atoms, 0..63; 0 where the mask is false.
    pub distance_bin: Vec<u8>,
    /// `[n_token, n_token]` both representative atoms are of the target and seen in its structure.
    pub distance_mask: Vec<bool>,
    /// `[n_atom]` token of the atom.
    pub atom_to_token: Vec<usize>,
    /// `[n_atom]` reference conformer in Å, each residue centred, shifted and turned at random.
    pub ref_pos: Vec<[f32; 3]>,
    /// `[n_atom]` the reference conformer has the atom.
    pub ref_mask: Vec<bool>,
    /// `[n_atom]` atomic number - 1.
    pub ref_element: Vec<u8>,
    /// `[n_atom]` formal charge.
    pub ref_charge: Vec<f32>,
    /// `[n_atom]` four characters, each its ASCII code - 32 (0..63), padded with blanks.
    pub ref_atom_name: Vec<[u8; 4]>,
    /// `[n_atom]` index of the atom's residue in the whole complex.
    pub ref_space_uid: Vec<u32>,
}

/// Names of all atoms of the complex, in the order of the features: with coordinates, what a file of it says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DesignStructure {
    /// The target's chains in the order of the task, the binder last.
    pub chains: Vec<DesignChain>,
    /// In the order of the chains.
    pub residues: Vec<DesignResidue>,
    /// `[n_atom]`, in the order of the residues.
    pub atoms: Vec<DesignAtom>,
}

/// A chain of the complex.
#[derive(Debug, Clone, PartialEq)]
pub struct DesignChain {
    /// Letter in the order of the chains, A, B, .., Z, AA, ..; the official files append a 0.
    pub id: String,
    /// Id that the task gives; `None`: the binder.
    pub target: Option<String>,
    /// Is it a small molecule, an ion or a sugar, no polymer?
    pub is_ligand: bool,
    /// mmCIF's kind of polymer, such as `polypeptide(L)`; `None` for ligands.
    pub polymer: Option<&'static str>,
}

/// A residue of the complex.
#[derive(Debug, Clone, PartialEq)]
pub struct DesignResidue {
    /// Index of its chain.
    pub chain: usize,
    /// Number in the chain's sequence: the features' `residue_index`.
    pub number: i32,
    /// Component code; [`DESIGNED_CODE`] in the binder.
    pub name: String,
    /// The authors' number with its insertion code; as `number` in the binder.
    pub author: String,
    /// Residue type, 0..35.
    pub restype: u8,
    /// The binder is to touch it.
    pub hotspot: bool,
}

/// An atom of the complex.
#[derive(Debug, Clone, PartialEq)]
pub struct DesignAtom {
    /// Index of its residue.
    pub residue: usize,
    /// Such as CA.
    pub name: String,
    /// Element symbol as in the periodic table, such as Zn.
    pub element: String,
    /// Å in the target's structure; `None`: not seen there, or of the binder.
    pub position: Option<[f32; 3]>,
}

impl DesignFeatures {
    /// Number of tokens.
    pub fn n_token(&self) -> usize {
        self.token_index.len()
    }

    /// Number of atoms.
    pub fn n_atom(&self) -> usize {
        self.atom_to_token.len()
    }
}

impl DesignStructure {
    /// Index of the binder's chain, the last.
    ///
    /// # Panics
    /// Without chains.
    pub fn binder(&self) -> usize {
        self.chains.len() - 1
    }

    /// The residue of an atom.
    pub fn residue_of(&self, atom: &DesignAtom) -> &DesignResidue {
        &self.residues[atom.residue]
    }
}
