//! A structure file as PXDesign reads it: chains, residues, which of their atoms were seen, and the bonds between residues.
//!
//! mmCIF as `DistillationMMCIFParser` of Protenix 0.5.0+pxd, PDB as `pdb_to_cif` of PXDesign before it. What those do with files
//! that break their assumptions is not repeated: see docs/models/pxdesign.md.
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::chem::dictionary::{Dictionary, Entry, Link};
use crate::io::cif::{Cif, CifFault};
use crate::io::sites::{self, Site};

/// Inter-residue bonds of the file that are longer are not believed; Å.
const MAX_BOND: f32 = 2.4;
/// Kinds of `struct_conn` that are bonds.
const COVALENT: [&str; 7] =
    ["covale", "covale_base", "covale_phosphate", "covale_sugar", "disulf", "modres", "modres_link"];

/// A file.
#[derive(Debug, Default)]
pub(super) struct Structure {
    /// Is it mmCIF, whose numbers are those of the sequence? Otherwise they are the authors'.
    pub is_mmcif: bool,
    pub chains: Vec<Chain>,
    pub residues: Vec<Residue>,
    pub atoms: Vec<Atom>,
    /// Codes of each polymer's sequence by entity.
    pub polymers: HashMap<String, Vec<String>>,
    /// Atoms of other residues that an atom is bound to.
    pub bonds: Vec<Vec<usize>>,
    /// What was read otherwise than it is written.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chain {
    /// The id that a task calls it by.
    pub id: String,
    /// The authors' id.
    pub author: String,
    pub entity: String,
    /// Its residues.
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Residue {
    pub chain: usize,
    pub number: i32,
    /// The authors' number with the insertion code.
    pub author: String,
    pub code: String,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Atom {
    pub residue: usize,
    pub name: String,
    pub position: [f32; 3],
}

impl Structure {
    /// Reads a file's text.
    pub fn read(text: &str, dictionary: &Dictionary) -> Result<Self, CifFault> {
        let mut structure = if sites::is_mmcif(text) { Self::mmcif(text)? } else { Self::pdb(text)? };
        if structure.atoms.is_empty() {
            return Err(CifFault { line: 1, message: "no atom: an mmCIF or PDB file is needed".to_owned() });
        }
        structure.join_polymers(dictionary);
        Ok(structure)
    }

    fn mmcif(text: &str) -> Result<Self, CifFault> {
        let cif = Cif::parse(text)?;
        let all = sites::from_mmcif(&cif)?;
        let links = links(&cif, &all);
        // Of all marks of alternatives in the file the first in the alphabet is kept, and what has no mark.
        let first = all.iter().map(|s| s.alternative).filter(|a| !is_blank(a)).min();
        let kept = |s: &Site<'_>| (is_blank(s.alternative) || Some(s.alternative) == first) && !is_left_out(s);
        let chosen: Vec<usize> = (0..all.len()).filter(|&i| kept(&all[i])).collect();
        let mut structure = Self { is_mmcif: true, ..Self::default() };
        let entities: HashMap<&str, &str> = cif
            .rows(["_struct_asym.id", "_struct_asym.entity_id"])
            .into_iter()
            .flatten()
            .map(|[a, e]| (a, e))
            .collect();
        let entity = |s: &Site<'_>| match s.entity {
            "" | "." | "?" => entities.get(s.label).map_or(s.label, |e| e).to_owned(),
            entity => entity.to_owned(),
        };
        let rows: Vec<(Site<'_>, String)> = chosen.iter().map(|&i| (all[i], entity(&all[i]))).collect();
        structure.fill(&rows, &sequence_numbers(&rows));
        structure.polymers = sequences(&cif, &structure);
        if cif.column("_entity_poly.entity_id").is_empty() {
            structure.guess_polymers();
        }
        structure.link(&chosen, &links);
        Ok(structure)
    }

    fn pdb(text: &str) -> Result<Self, CifFault> {
        let all = sites::from_pdb(text)?;
        let chosen = first_alternatives(&all);
        let chosen: Vec<usize> = chosen.into_iter().filter(|&i| !is_left_out(&all[i])).collect();
        let mut structure = Self::default();
        let mut order: Vec<usize> = Vec::with_capacity(chosen.len());
        let mut ids: Vec<&str> = Vec::new();
        for &i in &chosen {
            if !ids.contains(&all[i].chain) {
                ids.push(all[i].chain);
            }
        }
        for id in ids {
            let own: Vec<usize> = chosen.iter().copied().filter(|&i| all[i].chain == id).collect();
            // The polymer ends with its last ATOM record; HETATM records after it are ligands on the same letter.
            let end = own.iter().rposition(|&i| all[i].is_atom).map_or(own.len(), |last| last + 1);
            if end < own.len() {
                let mut codes: Vec<&str> = own[end..].iter().map(|&i| all[i].code).collect();
                codes.dedup();
                let codes = codes.join(", ");
                structure.notes.push(format!("chain {id}: {codes} after its end (HETATM) are left out"));
            }
            order.extend(&own[..end]);
        }
        let rows: Vec<(Site<'_>, String)> = order.iter().map(|&i| (all[i], all[i].chain.to_owned())).collect();
        let mut numbers = Vec::with_capacity(rows.len());
        let mut number = 0;
        for (i, (site, _)) in rows.iter().enumerate() {
            number = match i.checked_sub(1).map(|i| &rows[i].0) {
                Some(last) if last.chain == site.chain => number + i32::from(!same_residue(last, site)),
                _ => 1,
            };
            numbers.push(number);
        }
        structure.fill(&rows, &numbers);
        // Chains of the same residues are one entity.
        let codes = |c: &Chain, residues: &[Residue]| -> Vec<String> {
            residues[c.start..c.end].iter().map(|r| r.code.clone()).collect()
        };
        let sequences: Vec<Vec<String>> = structure.chains.iter().map(|c| codes(c, &structure.residues)).collect();
        for i in 0..sequences.len() {
            let first = (0..=i).find(|&j| sequences[j] == sequences[i]).unwrap_or(i);
            structure.chains[i].entity = first.to_string();
        }
        structure.guess_polymers();
        let serials: HashMap<i32, usize> = order.iter().map(|&i| (all[i].serial, i)).collect();
        structure.link(&order, &conect(text, &serials));
        Ok(structure)
    }

    /// Chains, residues and atoms of rows that are numbered.
    fn fill(&mut self, rows: &[(Site<'_>, String)], numbers: &[i32]) {
        for (i, (site, entity)) in rows.iter().enumerate() {
            let last = i.checked_sub(1).map(|i| (&rows[i].0, numbers[i]));
            let new_chain = last.is_none_or(|(last, _)| last.label != site.label);
            if new_chain {
                let (start, end) = (self.residues.len(), self.residues.len());
                let (id, author) = (site.label.to_owned(), site.chain.to_owned());
                self.chains.push(Chain { id, author, entity: entity.clone(), start, end });
            }
            if new_chain || last.is_none_or(|(last, number)| number != numbers[i] || !same_residue(last, site)) {
                let insertion = if is_blank(site.number.1) { "" } else { site.number.1 };
                self.residues.push(Residue {
                    chain: self.chains.len() - 1,
                    number: numbers[i],
                    author: format!("{}{insertion}", site.number.0),
                    code: if site.code == "MSE" { "MET" } else { site.code }.to_owned(),
                    start: self.atoms.len(),
                    end: self.atoms.len(),
                });
            }
            let residue = self.residues.len() - 1;
            let name = if site.code == "MSE" && site.name == "SE" { "SD" } else { site.name };
            self.atoms.push(Atom { residue, name: name.to_owned(), position: site.position });
            self.residues[residue].end = self.atoms.len();
            let chain = self.residues[residue].chain;
            self.chains[chain].end = self.residues.len();
        }
        self.bonds = vec![Vec::new(); self.atoms.len()];
        self.fix_arginine();
    }

    /// NH1 is the one that is nearer to CD (AF3 SI 2.1).
    fn fix_arginine(&mut self) {
        for residue in self.residues.iter().filter(|r| r.code == "ARG") {
            let find = |name: &str| (residue.start..residue.end).rev().find(|&i| self.atoms[i].name == name);
            let (Some(cd), Some(first), Some(second)) = (find("CD"), find("NH1"), find("NH2")) else { continue };
            let distance = |i: usize| squared_distance(self.atoms[cd].position, self.atoms[i].position);
            if distance(second) < distance(first) {
                let position = self.atoms[first].position;
                self.atoms[first].position = self.atoms[second].position;
                self.atoms[second].position = position;
            }
        }
    }

    /// Chains with at least two standard residues of one kind are polymers, as `pdb_to_cif` has it.
    fn guess_polymers(&mut self) {
        for chain in &self.chains {
            let codes: Vec<String> = self.residues[chain.start..chain.end].iter().map(|r| r.code.clone()).collect();
            let count = |of: &dyn Fn(&str) -> bool| codes.iter().filter(|c| of(c)).count();
            let protein = count(&|c| crate::chem::restype::CODES.contains(&c));
            let dna = count(&|c| DNA.contains(&c));
            let rna = count(&|c| RNA.contains(&c));
            let kinds = [protein, dna, rna].into_iter().filter(|n| *n > 0).count();
            if kinds == 1 && protein + dna + rna >= 2 {
                // Numbers of a sequence that is not told are those of its residues.
                let last = self.residues[chain.start..chain.end].iter().map(|r| r.number).max().unwrap_or(0);
                let mut sequence = vec!["UNK".to_owned(); usize::try_from(last).unwrap_or(0)];
                for residue in &self.residues[chain.start..chain.end] {
                    if let Some(code) = usize::try_from(residue.number - 1).ok().and_then(|i| sequence.get_mut(i)) {
                        residue.code.clone_into(code);
                    }
                }
                self.polymers.insert(chain.entity.clone(), sequence);
            }
        }
    }

    /// Bonds that the file tells, between rows by their index in it; `chosen` are the rows that were taken.
    fn link(&mut self, chosen: &[usize], links: &[(usize, usize)]) {
        let places: HashMap<usize, usize> = chosen.iter().enumerate().map(|(atom, &row)| (row, atom)).collect();
        for (a, b) in links {
            if let (Some(&a), Some(&b)) = (places.get(a), places.get(b))
                && self.atoms[a].residue != self.atoms[b].residue
                && squared_distance(self.atoms[a].position, self.atoms[b].position) < MAX_BOND * MAX_BOND
            {
                self.bind(a, b);
            }
        }
    }

    fn bind(&mut self, a: usize, b: usize) {
        if !self.bonds[a].contains(&b) {
            self.bonds[a].push(b);
            self.bonds[b].push(a);
        }
    }

    /// The bonds of polymers: each residue to the next in its chain, unless the next one's N or O3' is bound otherwise beside it.
    fn join_polymers(&mut self, dictionary: &Dictionary) {
        let mut kinds: HashMap<String, Link> = HashMap::new();
        let codes: HashSet<&str> = self.residues.iter().map(|r| r.code.as_str()).collect();
        for code in codes {
            kinds.insert(code.to_owned(), link_of(dictionary, code));
        }
        let mut bonds = Vec::new();
        for i in 0..self.residues.len().saturating_sub(1) {
            let (r, next) = (&self.residues[i], &self.residues[i + 1]);
            if r.chain != next.chain || next.number - r.number > 1 {
                continue;
            }
            let Some((from, to)) = joint(kinds[&r.code], kinds[&next.code]) else { continue };
            let (Some(a), Some(b)) = (self.atom(i, from), self.atom(i + 1, to)) else { continue };
            // The amine or the 3' oxygen tells whether it is free.
            let end = if from == "C" { b } else { a };
            let other = |&&x: &&usize| {
                let beside = self.atoms[x].residue.abs_diff(self.atoms[end].residue) == 1;
                let same_chain = self.residues[self.atoms[x].residue].chain == r.chain;
                beside && same_chain && !matches!(self.atoms[x].name.as_str(), "C" | "P")
            };
            if self.bonds[end].iter().find(other).is_none() {
                bonds.push((a, b));
            } else {
                self.bonds[a].retain(|&x| x != b);
                self.bonds[b].retain(|&x| x != a);
            }
        }
        for (a, b) in bonds {
            self.bind(a, b);
        }
    }

    /// The first atom of this name in a residue.
    pub fn atom(&self, residue: usize, name: &str) -> Option<usize> {
        let r = &self.residues[residue];
        (r.start..r.end).find(|&i| self.atoms[i].name == name)
    }
}

const DNA: [&str; 5] = ["DA", "DG", "DC", "DT", "DN"];
const RNA: [&str; 5] = ["A", "G", "C", "U", "N"];

pub(super) fn link_of(dictionary: &Dictionary, code: &str) -> Link {
    dictionary.get(code).ok().flatten().map_or(Link::None, |entry: Entry| entry.link)
}

/// The atoms that join a residue to the next, if their kinds can be joined.
pub(super) fn joint(a: Link, b: Link) -> Option<(&'static str, &'static str)> {
    match (a, b) {
        (Link::Peptide, Link::Peptide) => Some(("C", "N")),
        (Link::Dna | Link::Rna, Link::Dna | Link::Rna) => Some(("O3'", "P")),
        _ => None,
    }
}

fn is_blank(word: &str) -> bool {
    matches!(word, "" | "." | "?")
}

/// Waters and hydrogens.
fn is_left_out(site: &Site<'_>) -> bool {
    let hydrogen = match site.element {
        "" | "?" | "." => site.name.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(['H', 'D']),
        element => matches!(element, "H" | "D"),
    };
    hydrogen || matches!(site.code, "HOH" | "DOD")
}

fn same_residue(a: &Site<'_>, b: &Site<'_>) -> bool {
    a.chain == b.chain && a.number == b.number && a.code == b.code
}

fn squared_distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    (0..3).map(|d| (a[d] - b[d]).powi(2)).sum()
}

/// Numbers in the sequence; chains that are in none count their residues, anew where the authors' numbers fall.
fn sequence_numbers(rows: &[(Site<'_>, String)]) -> Vec<i32> {
    let mut numbers = Vec::with_capacity(rows.len());
    let author = |s: &Site<'_>| s.number.0.parse::<i32>().unwrap_or(-1);
    let mut counted = 0;
    let mut in_sequence = true;
    for (i, (site, _)) in rows.iter().enumerate() {
        let last = i.checked_sub(1).map(|i| &rows[i].0);
        let new_chain = last.is_none_or(|last| last.label != site.label || author(site) < author(last));
        if new_chain {
            in_sequence = site.seq.parse::<i32>().is_ok();
            counted = 1;
        } else if last.is_some_and(|last| !same_residue(last, site)) {
            counted += 1;
        }
        numbers.push(if in_sequence { site.seq.parse().unwrap_or(counted) } else { counted });
    }
    numbers
}

/// Codes of the polymers' sequences. Where a number has two residues, the one that was seen, or the first.
fn sequences(cif: &Cif<'_>, structure: &Structure) -> HashMap<String, Vec<String>> {
    let seen: HashMap<(&str, i32), &str> = structure
        .residues
        .iter()
        .map(|r| ((structure.chains[r.chain].entity.as_str(), r.number), r.code.as_str()))
        .collect();
    let kinds: HashSet<&str> = cif.column("_entity_poly.entity_id").iter().copied().collect();
    let mut all: HashMap<String, BTreeMap<i32, String>> = HashMap::new();
    let names = ["_entity_poly_seq.entity_id", "_entity_poly_seq.num", "_entity_poly_seq.mon_id"];
    for [entity, number, code] in cif.rows(names).into_iter().flatten() {
        let Ok(number) = number.parse::<i32>() else { continue };
        if !kinds.contains(entity) || number < 1 {
            continue;
        }
        let code = if code == "MSE" { "MET" } else { code };
        let sequence = all.entry(entity.to_owned()).or_default();
        let taken = sequence.entry(number).or_insert_with(|| code.to_owned());
        if seen.get(&(entity, number)) == Some(&code) {
            code.clone_into(taken);
        }
    }
    all.into_iter().map(|(entity, sequence)| (entity, sequence.into_values().collect())).collect()
}

/// Pairs of rows that `struct_conn` binds.
fn links(cif: &Cif<'_>, sites: &[Site<'_>]) -> Vec<(usize, usize)> {
    let column = |name: &str| cif.column(&format!("_struct_conn.{name}"));
    let kinds = column("conn_type_id");
    let plain = |word: &str| if word == "?" { ".".to_owned() } else { word.to_owned() };
    let n_model = sites.len();
    // The columns of both tables that must agree; those that either lacks tell nothing.
    let atom_columns = [
        ("label_asym_id", "label_asym_id"),
        ("label_comp_id", "label_comp_id"),
        ("label_seq_id", "label_seq_id"),
        ("label_atom_id", "label_atom_id"),
        ("label_alt_id", "label_alt_id"),
        ("auth_asym_id", "auth_asym_id"),
        ("auth_comp_id", "auth_comp_id"),
        ("auth_seq_id", "auth_seq_id"),
        ("pdbx_pdb_ins_code", "pdb_ins_code"),
    ];
    let end = |k: usize| -> Vec<Option<usize>> {
        let tables: Vec<(&[&str], &[&str])> = atom_columns
            .iter()
            .map(|(atom, link)| {
                let own = match *link {
                    "label_alt_id" | "pdb_ins_code" => format!("pdbx_ptnr{k}_{link}"),
                    link => format!("ptnr{k}_{link}"),
                };
                (cif.column(&format!("_atom_site.{atom}")), cif.column(&format!("_struct_conn.{own}")))
            })
            .filter(|(a, b)| !a.is_empty() && !b.is_empty())
            .collect();
        let mut places: HashMap<Vec<String>, usize> = HashMap::new();
        for i in 0..n_model {
            places.entry(tables.iter().map(|(atoms, _)| plain(atoms[i])).collect()).or_insert(i);
        }
        let find = |row: usize| places.get(&tables.iter().map(|(_, l)| plain(l[row])).collect::<Vec<_>>()).copied();
        (0..kinds.len()).map(find).collect()
    };
    let symmetric = |row: usize| {
        (1..=2).all(|k| {
            let word = column(&format!("ptnr{k}_symmetry")).get(row).copied().unwrap_or("1_555");
            is_blank(word) || word == "1_555"
        })
    };
    let (first, second) = (end(1), end(2));
    let bound = |&row: &usize| COVALENT.contains(&kinds[row]) && symmetric(row);
    (0..kinds.len()).filter(bound).filter_map(|row| Some((first[row]?, second[row]?))).collect()
}

/// Rows that have no mark, or the first mark of their residue.
fn first_alternatives(sites: &[Site<'_>]) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(sites.len());
    let mut start = 0;
    while start < sites.len() {
        let end = (start..sites.len()).find(|&i| !same_residue(&sites[start], &sites[i])).unwrap_or(sites.len());
        let first = sites[start..end].iter().map(|s| s.alternative).find(|a| !is_blank(a));
        chosen.extend((start..end).filter(|&i| is_blank(sites[i].alternative) || Some(sites[i].alternative) == first));
        start = end;
    }
    chosen
}

/// Pairs of rows that CONECT records bind.
fn conect(text: &str, serials: &HashMap<i32, usize>) -> Vec<(usize, usize)> {
    let mut links = Vec::new();
    for line in text.lines().filter(|l| l.starts_with("CONECT")) {
        let number = |k: usize| {
            let (from, to) = (6 + 5 * k, 11 + 5 * k);
            serials.get(&line.get(from..to.min(line.len()))?.trim().parse().ok()?).copied()
        };
        let Some(centre) = number(0) else { continue };
        links.extend((1..5).filter_map(number).map(|other| (centre, other)));
    }
    links
}
