//! Components by code: those inside the program (`data/dictionary.cif`, heavy atoms), and those of files in the format of the wwPDB
//! chemical component dictionary, from one component to the whole `components.cif`.
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::io::cif::{Cif, CifFault};

/// Symbols of the elements 1..118.
const ELEMENTS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb \
    Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At \
    Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og";

/// What a component can be linked into, by its `_chem_comp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An amino acid.
    Peptide,
    /// A deoxyribonucleotide.
    Dna,
    /// A ribonucleotide.
    Rna,
    /// No polymer.
    None,
}

/// A component, without its hydrogens.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Code, such as SEP.
    pub code: String,
    /// What it can be linked into.
    pub link: Link,
    /// Letter of the standard residue that it was made of, if it has a single one.
    pub letter: Option<u8>,
    /// Heavy atoms in the dictionary's order.
    pub atoms: Vec<EntryAtom>,
    /// Bonded pairs of `atoms`.
    pub bonds: Vec<(usize, usize)>,
}

/// An atom of a component.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryAtom {
    /// Name, such as CA.
    pub name: String,
    /// Symbol as in the periodic table, such as Zn.
    pub element: String,
    /// Atomic number; 0: none (X).
    pub number: u8,
    /// Formal charge.
    pub charge: i8,
    /// Does it leave when the component is bound to another?
    pub leaving: bool,
    /// Å in the reference conformer.
    pub position: Option<[f32; 3]>,
}

/// Why a component cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// The file cannot be opened or mapped.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has no data block with `_chem_comp`.
    #[error("{}: no chemical component dictionary (it has no data block data_<code>)", path.display())]
    NotOne {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with one component's block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("component {code}: {message}")]
pub struct EntryFault {
    /// The component.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

/// Files of components, later ones and then those inside the program asked last.
#[derive(Debug, Default)]
pub struct Dictionary {
    files: Vec<Source>,
}

/// A mapped file and where its blocks begin.
#[derive(Debug)]
struct Source {
    bytes: Mmap,
    blocks: HashMap<String, (usize, usize)>,
}

const BUILT_IN: &str = include_str!("data/dictionary.cif");

impl Dictionary {
    /// The components inside the program.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// Adds a file; it is asked before those inside the program, and after files that were added before it.
    ///
    /// # Errors
    /// If it cannot be read or is no dictionary.
    pub fn add(&mut self, path: &Path) -> Result<(), DictionaryError> {
        let read = |source| DictionaryError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        // SAFETY: the file is read only; that it is not changed meanwhile is asked of the user, as for weights.
        let bytes = unsafe { Mmap::map(&file) }.map_err(read)?;
        let blocks = blocks(&bytes);
        if blocks.is_empty() {
            return Err(DictionaryError::NotOne { path: path.to_owned() });
        }
        self.files.push(Source { bytes, blocks });
        Ok(())
    }

    /// A component by its code; `None`: it is in no file.
    ///
    /// # Errors
    /// If its block is wrong.
    pub fn get(&self, code: &str) -> Result<Option<Entry>, EntryFault> {
        let fault = |message: String| EntryFault { code: code.to_owned(), message };
        for source in &self.files {
            if let Some(&(start, end)) = source.blocks.get(code) {
                let text = std::str::from_utf8(&source.bytes[start..end]);
                let text = text.map_err(|_| fault("is not UTF-8 text".to_owned()))?;
                return entry(code, text).map(Some).map_err(|e| fault(e.to_string()));
            }
        }
        let start = BUILT_IN.find(&format!("data_{code}\n"));
        let Some(start) = start else { return Ok(None) };
        let end = BUILT_IN[start + 1..].find("\ndata_").map_or(BUILT_IN.len(), |i| start + i + 2);
        entry(code, &BUILT_IN[start..end]).map(Some).map_err(|e| fault(e.to_string()))
    }
}

/// Where each `data_<code>` line and what follows it are.
fn blocks(bytes: &[u8]) -> HashMap<String, (usize, usize)> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        if let Some(code) = line.strip_prefix(b"data_")
            && let Ok(code) = std::str::from_utf8(code)
        {
            // Files of a single component say data_comp_<code> now and then.
            let code = code.trim();
            starts.push((code.strip_prefix("comp_").unwrap_or(code).to_owned(), at));
        }
        at += line.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(_, at)| *at).chain([bytes.len()]).collect();
    starts.into_iter().zip(ends).map(|((code, start), end)| (code, (start, end))).collect()
}

fn entry(code: &str, text: &str) -> Result<Entry, CifFault> {
    let cif = Cif::parse(text)?;
    let fault = |message: &str| CifFault { line: 1, message: message.to_owned() };
    let single = |name: &str| cif.column(&format!("_chem_comp.{name}")).first().copied().unwrap_or("?");
    let names = ["atom_id", "type_symbol"].map(|name| format!("_chem_comp_atom.{name}"));
    let Some(rows) = cif.rows([&names[0], &names[1]]) else {
        return Err(fault("has no _chem_comp_atom.atom_id and type_symbol"));
    };
    let column = |name: &str| cif.column(&format!("_chem_comp_atom.{name}"));
    let (charges, leaving) = (column("charge"), column("pdbx_leaving_atom_flag"));
    let coordinates = |name: &str| ["x", "y", "z"].map(|d| column(&name.replace('?', d)));
    let ideal = coordinates("pdbx_model_cartn_?_ideal");
    let model = coordinates("model_cartn_?");
    let mut atoms = Vec::new();
    let mut indices = HashMap::new();
    for (i, [name, element]) in rows.enumerate() {
        if matches!(element, "H" | "D") {
            continue;
        }
        let at = |columns: &[&[&str]; 3]| {
            let values = columns.map(|c| c.get(i).and_then(|v| v.parse::<f32>().ok()).filter(|v| v.is_finite()));
            let [Some(x), Some(y), Some(z)] = values else { return None };
            Some([x, y, z])
        };
        let number = ELEMENTS.split_ascii_whitespace().position(|e| e.eq_ignore_ascii_case(element));
        indices.insert(name, atoms.len());
        atoms.push(EntryAtom {
            name: name.to_owned(),
            element: number.map_or(element, |n| ELEMENTS.split_ascii_whitespace().nth(n).unwrap_or(element)).to_owned(),
            number: number.map_or(0, |n| n as u8 + 1),
            charge: charges.get(i).and_then(|c| c.parse().ok()).unwrap_or(0),
            leaving: leaving.get(i) == Some(&"Y"),
            position: at(&ideal).or_else(|| at(&model)),
        });
    }
    let pairs = cif.rows(["_chem_comp_bond.atom_id_1", "_chem_comp_bond.atom_id_2"]).into_iter().flatten();
    let bonds = pairs.filter_map(|[a, b]| Some((*indices.get(a)?, *indices.get(b)?))).collect();
    let letter = single("one_letter_code");
    let letter = (letter.len() == 1 && letter != "?").then(|| letter.as_bytes()[0]);
    Ok(Entry { code: code.to_owned(), link: link(single("type")), letter, atoms, bonds })
}

/// As `get_mol_type` of Protenix.
fn link(kind: &str) -> Link {
    let kind = kind.to_ascii_uppercase();
    if kind.contains("PEPTIDE") && kind != "PEPTIDE-LIKE" {
        Link::Peptide
    } else if kind.contains("DNA") {
        Link::Dna
    } else if kind.contains("RNA") {
        Link::Rna
    } else {
        Link::None
    }
}

impl Entry {
    /// Index of the atom of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.atoms.iter().position(|a| a.name == name)
    }

    /// Atoms bonded to one.
    pub fn neighbours(&self, atom: usize) -> impl Iterator<Item = usize> + '_ {
        self.bonds.iter().filter_map(move |&(a, b)| match atom {
            _ if a == atom => Some(b),
            _ if b == atom => Some(a),
            _ => None,
        })
    }

    /// For each atom that stays the groups of atoms that leave when it is bound to another component, in the order of its bonds;
    /// `None`: a group hangs on two atoms that stay, so that nobody knows which of its atoms leave.
    ///
    /// As `_map_central_to_leaving_groups` of Protenix 0.5.0, after the hydrogens were taken out.
    pub fn leaving_groups(&self) -> Option<Vec<Vec<Vec<usize>>>> {
        let n = self.atoms.len();
        let mut bonds = vec![Vec::new(); n];
        for &(a, b) in &self.bonds {
            bonds[a].push(b);
            bonds[b].push(a);
        }
        let mut groups = vec![Vec::new(); n];
        for centre in (0..n).filter(|&i| !self.atoms[i].leaving) {
            for first in bonds[centre].clone() {
                if !self.atoms[first].leaving {
                    continue;
                }
                bonds[centre].retain(|&i| i != first);
                bonds[first].retain(|&i| i != centre);
                let mut group = vec![first];
                let mut next = 0;
                while next < group.len() {
                    let more: Vec<usize> = bonds[group[next]].iter().copied().filter(|i| !group.contains(i)).collect();
                    group.extend(more);
                    next += 1;
                }
                if group.iter().any(|&i| !self.atoms[i].leaving) {
                    return None;
                }
                groups[centre].push(group);
            }
        }
        Some(groups)
    }
}
