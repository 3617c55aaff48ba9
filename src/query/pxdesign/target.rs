//! A chain of a structure with the atoms that its residues should have: `add_missing_atoms_and_residues` of Protenix 0.5.0+pxd, and
//! what `build_polymer_from_bioassombly_dict` of PXDesign keeps of it.
use std::collections::{BTreeSet, HashMap};

use super::structure::{Structure, joint, link_of};
use super::{Molecule, TargetAtom, TargetChain, TargetResidue};
use crate::chem::dictionary::{Dictionary, Entry, EntryAtom, Link};
use crate::chem::restype;

/// Codes that are one token: AF3 SI Table 13.
const STANDARD_NUCLEOTIDES: [&str; 10] = ["A", "G", "C", "U", "N", "DA", "DG", "DC", "DT", "DN"];

/// Components of the residues, read once.
struct Components<'d> {
    dictionary: &'d Dictionary,
    entries: HashMap<String, Option<Entry>>,
}

impl Components<'_> {
    fn get(&mut self, code: &str) -> Option<Entry> {
        if !self.entries.contains_key(code) {
            self.entries.insert(code.to_owned(), self.dictionary.get(code).ok().flatten());
        }
        self.entries[code].clone()
    }
}

/// Chain `index` of a structure, all residues kept and none a hotspot.
///
/// # Errors
/// What is wrong with its residues: components that nobody told, with the remedy.
pub(super) fn target_chain(
    structure: &Structure,
    index: usize,
    dictionary: &Dictionary,
) -> Result<TargetChain, Vec<String>> {
    let chain = &structure.chains[index];
    let polymer = structure.polymers.get(&chain.entity);
    let molecule = match polymer.and_then(|codes| codes.first()).map(|code| link_of(dictionary, code)) {
        Some(Link::Peptide) => Molecule::Protein,
        Some(Link::Dna) => Molecule::Dna,
        Some(Link::Rna) => Molecule::Rna,
        Some(Link::None) | None => Molecule::Ligand,
    };
    let mut components = Components { dictionary, entries: HashMap::new() };
    let missing = unknown(structure, index, polymer, dictionary);
    if !missing.is_empty() {
        return Err(missing);
    }
    let bound = polymer.map(|codes| bound_atoms(structure, &chain.entity, codes, &mut components));
    let mut residues = Vec::new();
    for r in chain.start..chain.end {
        let seen = &structure.residues[r];
        let at = usize::try_from(seen.number - 1).ok();
        let code = match polymer {
            Some(codes) => at.and_then(|i| codes.get(i)).unwrap_or(&seen.code),
            None => &seen.code,
        };
        let Some(entry) = components.get(code) else { continue };
        let names = match &bound {
            Some(bound) => polymer_atoms(structure, &chain.entity, seen.number, &entry, bound),
            None => ligand_atoms(structure, r, &entry),
        };
        residues.extend(residue(structure, r, &entry, names.as_deref(), molecule));
    }
    let letter = |code: &String| components.get(code).and_then(|e| e.letter).map_or('X', char::from);
    let sequence = match (molecule, polymer) {
        (Molecule::Ligand, _) | (_, None) => String::new(),
        (_, Some(codes)) => codes.iter().map(letter).collect(),
    };
    if residues.is_empty() {
        return Err(vec!["none of its atoms is one that its components have".to_owned()]);
    }
    let (id, author) = (chain.id.clone(), chain.author.clone());
    let within = (1..=sequence.len()).collect();
    Ok(TargetChain { id, author, molecule, sequence, residues, within, msa: None })
}

/// Codes of the chain that no dictionary has.
fn unknown(structure: &Structure, index: usize, polymer: Option<&Vec<String>>, dictionary: &Dictionary) -> Vec<String> {
    let chain = &structure.chains[index];
    let mut codes: BTreeSet<&str> =
        structure.residues[chain.start..chain.end].iter().map(|r| r.code.as_str()).collect();
    if let Some(first) = polymer.and_then(|codes| codes.first()) {
        codes.insert(first);
    }
    let message = |code: &str| match dictionary.get(code) {
        Ok(Some(entry)) if entry.atoms.is_empty() => Some(format!("component {code} has no atoms in the dictionary")),
        Ok(Some(_)) => None,
        Ok(None) => Some(format!(
            "component {code} is not inside the program: give its file from the chemical component dictionary with --components {code}.cif"
        )),
        Err(fault) => Some(fault.to_string()),
    };
    codes.into_iter().filter_map(message).collect()
}

/// How often atoms of an entity's residues are bound to other residues: the largest number in any of its chains, by residue number
/// and atom name; of polymer bonds only the side that has something to lose (C, P) counts where no chain tells.
fn bound_atoms(
    structure: &Structure,
    entity: &str,
    codes: &[String],
    components: &mut Components<'_>,
) -> HashMap<(i32, String), usize> {
    let mut counts: HashMap<(i32, String), usize> = HashMap::new();
    let residues = || structure.residues.iter().enumerate().filter(|(_, r)| structure.chains[r.chain].entity == entity);
    let mut by_number: HashMap<i32, Vec<usize>> = HashMap::new();
    for (i, r) in residues() {
        by_number.entry(r.number).or_default().push(i);
    }
    let none = Vec::new();
    for (i, pair) in codes.windows(2).enumerate() {
        let (Some(a), Some(b)) = (components.get(&pair[0]), components.get(&pair[1])) else { continue };
        let Some((from, to)) = joint(a.link, b.link) else { continue };
        if a.position(from).is_none() || b.position(to).is_none() {
            continue;
        }
        let number = i as i32 + 1;
        let seen = |number: i32| by_number.get(&number).unwrap_or(&none);
        let broken = seen(number).iter().any(|&r| {
            seen(number + 1).iter().any(|&next| {
                let same = structure.residues[r].chain == structure.residues[next].chain;
                match (structure.atom(r, from), structure.atom(next, to)) {
                    (Some(a), Some(b)) => same && !structure.bonds[a].contains(&b),
                    _ => false,
                }
            })
        });
        if !broken {
            let key = if from == "C" { (number, "C") } else { (number + 1, "P") };
            counts.insert((key.0, key.1.to_owned()), 1);
        }
    }
    for (_, r) in residues() {
        for i in r.start..r.end {
            if !structure.bonds[i].is_empty() {
                let count = counts.entry((r.number, structure.atoms[i].name.clone())).or_insert(0);
                *count = structure.bonds[i].len().max(*count);
            }
        }
    }
    counts
}

/// Atoms that a polymer's residue has, by their index in its component; `None`: those that were seen.
fn polymer_atoms(
    structure: &Structure,
    entity: &str,
    number: i32,
    entry: &Entry,
    bound: &HashMap<(i32, String), usize>,
) -> Option<Vec<usize>> {
    let groups = entry.leaving_groups()?;
    let copies: Vec<usize> = (0..structure.residues.len())
        .filter(|&r| {
            let residue = &structure.residues[r];
            residue.number == number && structure.chains[residue.chain].entity == entity
        })
        .collect();
    let seen = |name: &str| copies.iter().any(|&r| structure.atom(r, name).is_some());
    let mut gone = BTreeSet::new();
    for (centre, atom) in entry.atoms.iter().enumerate() {
        let count = bound.get(&(number, atom.name.clone())).copied().unwrap_or(0);
        if count == 0 {
            continue;
        }
        if groups[centre].is_empty() {
            let first = copies.iter().find_map(|&r| structure.atom(r, &atom.name));
            gone.extend(first.into_iter().flat_map(|i| unlisted_leaving(structure, i, entry, centre)));
        } else {
            gone.extend(leaving(&groups[centre], count, entry, &seen));
        }
    }
    Some((0..entry.atoms.len()).filter(|i| !gone.contains(i)).collect())
}

/// Atoms that a ligand's residue has, by their index in its component; `None`: those that were seen.
fn ligand_atoms(structure: &Structure, r: usize, entry: &Entry) -> Option<Vec<usize>> {
    let groups = entry.leaving_groups()?;
    let residue = &structure.residues[r];
    let seen = |name: &str| structure.atom(r, name).is_some();
    let mut gone = BTreeSet::new();
    for i in residue.start..residue.end {
        let Some(centre) = entry.position(&structure.atoms[i].name) else { continue };
        // Neighbours count by their numbers, whatever their chains, as the official code has it.
        let number = |&&other: &&usize| structure.residues[structure.atoms[other].residue].number != residue.number;
        let count = structure.bonds[i].iter().filter(number).count();
        if count == 0 {
            continue;
        }
        if groups[centre].is_empty() {
            gone.extend(unlisted_leaving(structure, i, entry, centre));
        } else {
            let is_metal = matches!(entry.atoms[centre].name.as_str(), "B" | "BE");
            let all_seen = groups[centre].iter().all(|group| group.iter().any(|&a| seen(&entry.atoms[a].name)));
            if !(is_metal && all_seen && count < groups[centre].len()) {
                gone.extend(leaving(&groups[centre], count, entry, &seen));
            }
        }
    }
    Some((0..entry.atoms.len()).filter(|i| !gone.contains(i)).collect())
}

/// The atoms of as many groups as there are bonds: first those of which nothing was seen. (The official program draws lots among
/// equal groups; here the first ones leave.)
fn leaving(groups: &[Vec<usize>], count: usize, entry: &Entry, seen: &dyn Fn(&str) -> bool) -> Vec<usize> {
    let is_seen = |group: &&Vec<usize>| group.iter().any(|&a| seen(&entry.atoms[a].name));
    let (there, absent): (Vec<_>, Vec<_>) = groups.iter().partition(is_seen);
    absent.into_iter().chain(there).take(count).flatten().copied().collect()
}

/// Atoms that only hang on one that is bound to another residue, and were not seen there: they left, though the dictionary does not
/// say so.
fn unlisted_leaving(structure: &Structure, atom: usize, entry: &Entry, centre: usize) -> Vec<usize> {
    let residue = structure.atoms[atom].residue;
    let bound_names: Vec<&str> = structure.bonds[atom].iter().map(|&i| structure.atoms[i].name.as_str()).collect();
    entry
        .neighbours(centre)
        .filter(|&i| entry.neighbours(i).count() == 1)
        .filter(|&i| {
            let name = entry.atoms[i].name.as_str();
            structure.atom(residue, name).is_none() && !bound_names.contains(&name)
        })
        .collect()
}

/// A residue with all its atoms; `None`: none of them was seen.
fn residue(
    structure: &Structure,
    r: usize,
    entry: &Entry,
    atoms: Option<&[usize]>,
    molecule: Molecule,
) -> Option<TargetResidue> {
    let seen = &structure.residues[r];
    let names: Vec<usize> = match atoms {
        Some(atoms) => atoms.to_vec(),
        None => (seen.start..seen.end).filter_map(|i| entry.position(&structure.atoms[i].name)).collect(),
    };
    let mut positions: Vec<Option<[f32; 3]>> = vec![None; names.len()];
    let mut strangers = 0;
    let mut matched = 0;
    for i in seen.start..seen.end {
        match names.iter().position(|&n| entry.atoms[n].name == structure.atoms[i].name) {
            Some(at) => {
                positions[at] = Some(structure.atoms[i].position);
                matched += 1;
            }
            None => strangers += 1,
        }
    }
    if matched <= strangers {
        return None;
    }
    let (restype, one_token) = restype_of(entry, molecule);
    Some(TargetResidue {
        number: seen.number,
        author: seen.author.clone(),
        name: entry.code.clone(),
        restype,
        one_token,
        kept: true,
        hotspot: false,
        atoms: names.iter().zip(positions).map(|(&n, position)| target_atom(&entry.atoms[n], position)).collect(),
    })
}

/// Restype of a residue, and whether it is one token: `cano_seq_resname_with_mask` and the tokeniser of PXDesign.
fn restype_of(entry: &Entry, molecule: Molecule) -> (u8, bool) {
    if molecule == Molecule::Ligand {
        return (restype::UNKNOWN, false);
    }
    let code = entry.code.as_str();
    let standard = restype::CODES.contains(&code) || STANDARD_NUCLEOTIDES.contains(&code);
    let base = |first: u8, letters: &[u8; 4]| {
        let at = entry.letter.and_then(|letter| letters.iter().position(|&l| l == letter));
        first + at.map_or(4, |i| i as u8)
    };
    match entry.link {
        Link::Peptide => (entry.letter.and_then(restype::amino_acid).unwrap_or(restype::UNKNOWN), standard),
        Link::Rna => (base(21, b"AGCU"), standard),
        Link::Dna => (base(26, b"AGCT"), standard),
        Link::None => (restype::UNKNOWN, false),
    }
}

fn target_atom(atom: &EntryAtom, position: Option<[f32; 3]>) -> TargetAtom {
    TargetAtom {
        name: atom.name.clone(),
        element: atom.element.clone(),
        number: atom.number,
        charge: atom.charge,
        reference: atom.position.unwrap_or_default(),
        has_reference: atom.position.is_some(),
        position,
    }
}

/// Atoms of glycine without positions.
///
/// # Errors
/// If a file of components has a wrong one.
pub(super) fn glycine(dictionary: &Dictionary) -> Result<Vec<TargetAtom>, String> {
    match dictionary.get("GLY") {
        Ok(Some(entry)) => Ok(entry.atoms.iter().map(|atom| target_atom(atom, None)).collect()),
        Ok(None) => Err("component GLY is in no dictionary".to_owned()),
        Err(fault) => Err(fault.to_string()),
    }
}
