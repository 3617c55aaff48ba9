//! A binder to design: PXDesign's task file and the target that it names, as plain data.
//!
//! [`read`] gives tasks in which every number, chain and file has been checked, or all faults of the file at once. The official
//! program passes over most of them in silence: docs/models/pxdesign.md lists what.
#[cfg(test)]
mod faults;
mod marks;
mod numbers;
mod structure;
mod target;
mod task;
mod tree;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::msa::Loader;
use super::{Fault, FaultKind, QueryErrors, folder_of};
use crate::chem::dictionary::Dictionary;
use crate::io::a3m::Alignment;
use structure::Structure;
use task::Draft;
use tree::Node;

/// A binder of so many residues against some chains of a structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Name for files and folders; unique in its file.
    pub name: String,
    /// The structure that the target was read from.
    pub structure: PathBuf,
    /// How the task counts the residues of the structure.
    pub numbering: Numbering,
    /// Chains of the target in the order of the task, which is that of the results; at least one.
    pub chains: Vec<TargetChain>,
    /// Residues of the binder; at least one.
    pub binder_length: usize,
    /// Atoms of glycine, OXT too: a residue to design has the reference conformer of its backbone.
    pub glycine: Vec<TargetAtom>,
    /// What was read otherwise than it is written, one sentence each.
    pub notes: Vec<String>,
}

/// Which numbers of residues a task gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Those of the sequence: `label_seq_id` of mmCIF.
    Sequence,
    /// The authors', of a PDB file.
    Author,
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
    /// Numbers of the residues of the sequence that are in the crop, with coordinates or not, ascending; empty for ligands.
    pub within: Vec<usize>,
    /// Alignments of the whole sequence, which only the second filter reads.
    pub msa: Option<TargetAlignments>,
}

/// Alignments of a chain of the target, its sequence first.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetAlignments {
    /// The folder of both files.
    pub folder: PathBuf,
    /// `non_pairing.a3m`: homologues of this chain.
    pub main: Arc<Alignment>,
    /// `pairing.a3m`: rows whose names tell their species, to be paired with those of other chains.
    pub pairing: Arc<Alignment>,
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

/// Reads a task file: PXDesign's YAML, or the list of tasks in JSON that it makes of it.
///
/// Paths in it are relative to its folder, or else to the working directory, where the official program looks.
///
/// # Errors
/// Everything that is wrong with the file, the structure and the alignments that it names.
pub fn read(path: &Path, dictionary: &Dictionary) -> Result<Vec<Task>, QueryErrors> {
    let fail = |kind, message: String| {
        Err(QueryErrors { file: path.to_owned(), faults: vec![Fault { kind, line: 0, place: String::new(), message }] })
    };
    if path.is_dir() {
        return fail(FaultKind::Data, "is a folder: name a task file (.yaml or .json)".to_owned());
    }
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes, dictionary),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => fail(FaultKind::Missing, "no such file".to_owned()),
        Err(e) => fail(FaultKind::Io, format!("cannot be read: {e}")),
    }
}

/// As [`read`], of bytes already read; `path` tells the form and where relative paths start.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8], dictionary: &Dictionary) -> Result<Vec<Task>, QueryErrors> {
    let mut errors = QueryErrors { file: path.to_owned(), faults: Vec::new() };
    let tasks = super::text(bytes, &mut errors).map(|text| tasks(text, path, dictionary, &mut errors));
    match tasks {
        Some(tasks) if errors.faults.is_empty() => Ok(tasks),
        _ => {
            errors.faults.sort_by_key(|fault| fault.line);
            Err(errors)
        }
    }
}

fn tasks(text: &str, path: &Path, dictionary: &Dictionary, errors: &mut QueryErrors) -> Vec<Task> {
    let is_json =
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) || text.trim_start().starts_with('[');
    let root = if is_json { tree::json(text, errors) } else { tree::yaml(text, errors) };
    let Some(root) = root else { return Vec::new() };
    let mut loader = Loader::new(folder_of(path));
    let drafts = match &root.value {
        tree::Value::List(_) => task::json(&root, errors, &mut loader),
        _ => task::yaml(&root, path, errors, &mut loader).into_iter().collect(),
    };
    let mut structures = HashMap::new();
    drafts.iter().filter_map(|draft| resolve(draft, dictionary, &mut structures, errors)).collect()
}

/// The structures that were read, by path; `None`: it has a fault.
type Structures = HashMap<PathBuf, Option<Rc<Structure>>>;

/// A task with its target; `None`: there are faults.
fn resolve(
    draft: &Draft<'_>,
    dictionary: &Dictionary,
    structures: &mut Structures,
    errors: &mut QueryErrors,
) -> Option<Task> {
    let (path, node) = draft.file.as_ref()?;
    let read = || {
        let structure = structure_of(path, node, dictionary, errors);
        structure.map(Rc::new)
    };
    let structure = structures.entry(path.clone()).or_insert_with(read).clone()?;
    let mut chains = Vec::new();
    for chain in &draft.chains {
        chains.extend(marks::chain(chain, &structure, dictionary, errors));
    }
    let notes = structure.notes.clone();
    let binder_length = draft.binder_length?;
    let numbering = if structure.is_mmcif { Numbering::Sequence } else { Numbering::Author };
    let glycine = target::glycine(dictionary).map_err(|message| errors.data(0, "", message)).ok()?;
    Some(Task { name: draft.name.clone(), structure: path.clone(), numbering, chains, binder_length, glycine, notes })
}

fn structure_of(path: &Path, node: &Node, dictionary: &Dictionary, errors: &mut QueryErrors) -> Option<Structure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            errors.of(FaultKind::Io, node, format!("{}: cannot be read: {e}", path.display()));
            return None;
        }
    };
    let structure = Structure::read(&String::from_utf8_lossy(&bytes), dictionary);
    structure.map_err(|fault| errors.at(node, format!("{}: {fault}", path.display()))).ok()
}
