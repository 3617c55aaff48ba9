//! A binder to design: PXDesign's task file and the target that it names, as plain data.
use std::path::PathBuf;

/// A binder of so many residues against some chains of a structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Name for files and folders; unique in its file.
    pub name: String,
    /// The structure that the target was read from.
    pub structure: PathBuf,
    /// Chains of the target in the order of the task, which is that of the results; at least one.
    pub chains: Vec<TargetChain>,
    /// Residues of the binder; at least one.
    pub binder_length: usize,
}

/// What the residues of a chain are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Molecule {
    /// A chain of amino acids.
    Protein,
    /// A chain of deoxyribonucleotides.
    Dna,
    /// A chain of ribonucleotides.
    Rna,
    /// Anything else: a small molecule, an ion, a sugar, or a peptide whose first residue is none (PXDesign decides by it).
    Ligand,
}

/// A chain of the target, whole: the crop is a mark on its residues.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetChain {
    /// The id that the task gives: mmCIF's own (`label_asym_id`), or that of a PDB file.
    pub id: String,
    /// The authors' id: `auth_asym_id` of mmCIF, the same as `id` of a PDB file.
    pub author: String,
    /// By its first residue.
    pub molecule: Molecule,
    /// One letter for each residue of the whole sequence, those without coordinates too; X for what has no letter; empty for
    /// ligands. Residue `number` has letter `number - 1`.
    pub sequence: String,
    /// Residues with coordinates, in the order of the file; at least one of them is [`TargetResidue::kept`].
    pub residues: Vec<TargetResidue>,
    /// Folder with `pairing.a3m` and `non_pairing.a3m`, alignments of the whole sequence.
    pub msa: Option<PathBuf>,
}

/// A residue with coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetResidue {
    /// Number in the chain's sequence: `label_seq_id`; of PDB files and ligands 1, 2, 3, ... in the order of the file.
    pub number: i32,
    /// The authors' number with its insertion code, such as 52A.
    pub author: String,
    /// Component code; MSE has become MET.
    pub name: String,
    /// AF3 restype 0-30 ([`crate::chem::restype`]); 20 for what is no residue of a polymer.
    pub restype: u8,
    /// One token for the residue; otherwise it has one for each atom.
    pub one_token: bool,
    /// Is it in the crop? All residues are where the task gives none.
    pub kept: bool,
    /// The binder is to touch it. Hotspots are always kept.
    pub hotspot: bool,
    /// All heavy atoms that the component has in its chain, in the dictionary's order, seen or not; at least one was seen.
    pub atoms: Vec<TargetAtom>,
}

/// A heavy atom of the target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetAtom {
    /// Name in the dictionary, such as CA.
    pub name: String,
    /// Element symbol as in the periodic table, such as Zn.
    pub element: String,
    /// Atomic number.
    pub number: u8,
    /// Formal charge in the dictionary's protonation.
    pub charge: i8,
    /// Å in the component's reference conformer.
    pub reference: [f32; 3],
    /// Does the reference conformer have it?
    pub has_reference: bool,
    /// Å in the structure; `None`: not seen there.
    pub position: Option<[f32; 3]>,
}
