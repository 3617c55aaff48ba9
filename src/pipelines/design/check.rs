//! What a design task will be, before anything is computed: a table of its chains, and the target with crop and hotspots marked, as
//! mmCIF with a PyMOL script.
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::features::noise::TorchGenerator;
use crate::features::pxdesign::featurise;
use crate::io::complex::{Site, format};
use crate::models::pxdesign::config::release_0_1;
use crate::pipelines::design::network::peak;
use crate::pipelines::store::{self, StoreError};
use crate::query::pxdesign::{Molecule, Numbering, TargetChain, TargetResidue, Task};

/// B factor of a residue in the marked structure: outside the crop, in it, a hotspot.
const MARKS: [f32; 3] = [0., 50., 100.];

/// The published weights in float32.
const WEIGHT_BYTES: u64 = 556_000_000;

/// A task in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the task.
    pub task: String,
    /// The structure file.
    pub structure: PathBuf,
    /// The target's chains.
    pub chains: Vec<ChainSummary>,
    /// Residues to design.
    pub binder_length: usize,
    /// Tokens of the whole complex.
    pub tokens: usize,
    /// Atoms of the whole complex.
    pub atoms: usize,
    /// Memory that one sample at a time takes, with the weights, in bytes.
    pub memory_bytes: u64,
    /// What was read otherwise than it is written, and what may be meant otherwise.
    pub notes: Vec<String>,
}

/// A chain of the target in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainSummary {
    /// The id that the task gives.
    pub id: String,
    /// The authors' id.
    pub author: String,
    /// Id in the files of samples.
    pub output: String,
    /// protein, dna, rna or ligand.
    pub molecule: &'static str,
    /// Residues of the whole sequence; those that were seen, of ligands.
    pub length: usize,
    /// Residues with coordinates.
    pub seen: usize,
    /// Those of them in the crop.
    pub kept: usize,
    /// The kept residues' numbers in the sequence, as ranges.
    pub crop: String,
    /// The authors' numbers of the same.
    pub crop_author: String,
    /// Hotspots by their numbers in the sequence.
    pub hotspots: Vec<i32>,
    /// The authors' numbers of the same.
    pub hotspots_author: Vec<String>,
    /// Tokens of the kept residues.
    pub tokens: usize,
    /// Atoms of the kept residues.
    pub atoms: usize,
    /// Those of them that the structure has no coordinates of; they are made.
    pub atoms_unseen: usize,
}

/// The figures of a task.
pub fn summary(task: &Task) -> Summary {
    let (features, structure) = featurise(task, &mut TorchGenerator::new(0));
    let chains: Vec<ChainSummary> =
        task.chains.iter().zip(&structure.chains).map(|(chain, made)| chain_summary(chain, &made.id)).collect();
    let mut notes = task.notes.clone();
    notes.extend(chains.iter().filter_map(|chain| missing(task, chain)));
    if chains.iter().all(|chain| chain.hotspots.is_empty()) {
        notes.push("no hotspot is given: the binder may lie anywhere on the target".to_owned());
    }
    let (tokens, atoms) = (features.n_token(), features.n_atom());
    let (name, path, binder_length) = (task.name.clone(), task.structure.clone(), task.binder_length);
    let memory_bytes = peak(&release_0_1(), &features, WEIGHT_BYTES, 1);
    Summary { task: name, structure: path, chains, binder_length, tokens, atoms, memory_bytes, notes }
}

fn chain_summary(chain: &TargetChain, output: &str) -> ChainSummary {
    let kept: Vec<&TargetResidue> = chain.residues.iter().filter(|r| r.kept).collect();
    let hotspots: Vec<&&TargetResidue> = kept.iter().filter(|r| r.hotspot).collect();
    let atoms = || kept.iter().flat_map(|r| &r.atoms);
    ChainSummary {
        id: chain.id.clone(),
        author: chain.author.clone(),
        output: format!("{output}0"),
        molecule: match chain.molecule {
            Molecule::Protein => "protein",
            Molecule::Dna => "dna",
            Molecule::Rna => "rna",
            Molecule::Ligand => "ligand",
        },
        length: if chain.sequence.is_empty() { chain.residues.len() } else { chain.sequence.len() },
        seen: chain.residues.len(),
        kept: kept.len(),
        crop: ranges(kept.iter().map(|r| (r.number.to_string(), Some(r.number)))),
        crop_author: ranges(kept.iter().map(|r| (r.author.clone(), r.author.parse().ok()))),
        hotspots: hotspots.iter().map(|r| r.number).collect(),
        hotspots_author: hotspots.iter().map(|r| r.author.clone()).collect(),
        tokens: kept.iter().map(|r| if r.one_token { 1 } else { r.atoms.len() }).sum(),
        atoms: atoms().count(),
        atoms_unseen: atoms().filter(|a| a.position.is_none()).count(),
    }
}

/// A gap between kept residues that the sequence has and the structure has not.
fn missing(task: &Task, summary: &ChainSummary) -> Option<String> {
    let chain = task.chains.iter().find(|chain| chain.id == summary.id)?;
    let numbers: Vec<i32> = chain.residues.iter().map(|r| r.number).collect();
    let pairs = chain.residues.windows(2).filter(|pair| pair[0].kept && pair[1].kept);
    let absent = pairs.flat_map(|pair| pair[0].number + 1..pair[1].number).filter(|n| !numbers.contains(n));
    let absent: Vec<i32> = absent.collect();
    (!absent.is_empty()).then(|| {
        let n = absent.len();
        let numbers = ranges(absent.into_iter().map(|n| (n.to_string(), Some(n))));
        format!("chain {}: {n} residues within the crop have no coordinates and are left out ({numbers})", chain.id)
    })
}

/// Names in their order, runs of consecutive numbers as `first-last`.
fn ranges(names: impl Iterator<Item = (String, Option<i32>)>) -> String {
    let mut runs: Vec<(String, String, Option<i32>)> = Vec::new();
    for (name, number) in names {
        match runs.last_mut() {
            Some((_, last, at)) if at.is_some() && at.map(|n| n + 1) == number => (*last, *at) = (name, number),
            _ => runs.push((name.clone(), name, number)),
        }
    }
    let shown = |(from, to, _): &(String, String, Option<i32>)| match from == to {
        true => from.clone(),
        false => format!("{from}-{to}"),
    };
    runs.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Writes `<task>_target.cif` and `<task>_target.pml` into a folder, which is made if it is not there.
///
/// # Errors
/// If they cannot be written.
pub fn write(task: &Task, folder: &Path) -> Result<[PathBuf; 2], StoreError> {
    let stem = format!("{}_target", store::file_name(&task.name));
    let (cif, script) = (folder.join(format!("{stem}.cif")), folder.join(format!("{stem}.pml")));
    store::write(&cif, target_cif(task).as_bytes())?;
    store::write(&script, pymol(task, &format!("{stem}.cif")).as_bytes())?;
    Ok([cif, script])
}

/// The number by which a residue goes in the marked structure: as the task counts, unless insertion codes forbid it.
fn shown(task: &Task, chain: &TargetChain, residue: &TargetResidue) -> i32 {
    let authors = || chain.residues.iter().all(|r| r.author.parse::<i32>().is_ok());
    match residue.author.parse() {
        Ok(number) if task.numbering == Numbering::Author && authors() => number,
        _ => residue.number,
    }
}

/// All residues of the target's chains with the atoms that were seen; the B factor tells whether they are kept, and hotspots.
fn target_cif(task: &Task) -> String {
    let mut sites = Vec::new();
    for (i, chain) in task.chains.iter().enumerate() {
        let polymer = match chain.molecule {
            Molecule::Protein => Some("polypeptide(L)"),
            Molecule::Dna => Some("polydeoxyribonucleotide"),
            Molecule::Rna => Some("polyribonucleotide"),
            Molecule::Ligand => None,
        };
        for residue in &chain.residues {
            let mark = usize::from(residue.kept) + usize::from(residue.hotspot);
            for atom in &residue.atoms {
                let Some(position) = atom.position else { continue };
                sites.push(Site {
                    chain: &chain.id,
                    strand: &chain.id,
                    entity: i + 1,
                    polymer,
                    number: shown(task, chain, residue),
                    code: &residue.name,
                    is_hetero: !residue.one_token,
                    name: &atom.name,
                    element: &atom.element,
                    position,
                    b_factor: MARKS[mark],
                });
            }
        }
    }
    format(&task.name, &task.name, &sites)
}

/// A script that shows the structure beside it: what is left out grey, the crop blue, hotspots as orange sticks.
fn pymol(task: &Task, file: &str) -> String {
    let select = |wanted: &dyn Fn(&TargetResidue) -> bool| -> Option<String> {
        let of_chain = |chain: &TargetChain| {
            let numbers = chain.residues.iter().filter(|r| wanted(r)).map(|r| shown(task, chain, r));
            // PyMOL takes a dash for a range unless it is escaped.
            let number = |n: &str| n.strip_prefix('-').map_or(n.to_owned(), |digits| format!("\\-{digits}"));
            let runs = runs(numbers).into_iter().map(|(a, b)| match a == b {
                true => number(&a.to_string()),
                false => format!("{}-{}", number(&a.to_string()), number(&b.to_string())),
            });
            let runs: Vec<String> = runs.collect();
            (!runs.is_empty()).then(|| format!("(chain {} and resi {})", chain.id, runs.join("+")))
        };
        let parts: Vec<String> = task.chains.iter().filter_map(of_chain).collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    };
    let mut lines = vec![format!("cmd.load({file:?})"), "hide everything".to_owned(), "show cartoon".to_owned()];
    lines.push("show sticks, not polymer".to_owned());
    lines.push("color grey70, elem C".to_owned());
    if let Some(crop) = select(&|r| r.kept) {
        lines.push(format!("select crop, {crop}"));
        lines.push("color marine, crop and elem C".to_owned());
    }
    if let Some(hotspots) = select(&|r| r.hotspot) {
        lines.push(format!("select hotspots, {hotspots}"));
        lines.push("show sticks, hotspots".to_owned());
        lines.push("color orange, hotspots and elem C".to_owned());
    }
    lines.extend(["deselect".to_owned(), "orient".to_owned(), String::new()]);
    lines.join("\n")
}

/// First and last of each run of consecutive numbers.
fn runs(numbers: impl Iterator<Item = i32>) -> Vec<(i32, i32)> {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => runs.push((n, n)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_names() {
        let names = |names: &[&str]| ranges(names.iter().map(|n| ((*n).to_owned(), n.parse().ok())));
        assert_eq!(names(&["1", "2", "3", "7", "9", "10"]), "1-3, 7, 9-10");
        assert_eq!(names(&["-1", "0", "52", "52A", "53"]), "-1-0, 52, 52A, 53");
        assert_eq!(runs([-2, -1, 4].into_iter()), [(-2, -1), (4, 4)]);
    }
}
