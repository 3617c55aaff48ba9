//! Crop and hotspots of a chain, laid on its residues; what does not fit is said with the numbers that would.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::numbers::{Number, Range, compressed};
use super::structure::Structure;
use super::target::target_chain;
use super::task::{DraftChain, MAIN_MSA, PAIRING_MSA};
use super::tree::Node;
use super::{Molecule, TargetChain, TargetResidue};
use crate::chem::dictionary::Dictionary;
use crate::io::a3m::{self, Alignment};
use crate::query::msa::not_the_query;
use crate::query::{FaultKind, QueryErrors};

/// The chain of a task; `None`: there are faults.
pub(super) fn chain(
    draft: &DraftChain<'_>,
    structure: &Structure,
    dictionary: &Dictionary,
    errors: &mut QueryErrors,
) -> Option<TargetChain> {
    let Some(index) = structure.chains.iter().position(|c| c.id == draft.id) else {
        errors.at(draft.node, no_chain(&draft.id, structure));
        return None;
    };
    let mut chain = match target_chain(structure, index, dictionary) {
        Ok(chain) => chain,
        Err(messages) => {
            for message in messages {
                errors.at(draft.node, message);
            }
            return None;
        }
    };
    if let Some(folder) = &draft.msa {
        chain.msa = alignments(folder, &chain, draft.node, errors);
    }
    if chain.molecule == Molecule::Ligand {
        let marked = draft.crop.as_ref().and_then(|c| c.first()).map(|(_, node)| ("crop", node));
        let marked = marked.or_else(|| draft.hotspots.first().map(|(_, node)| ("hotspots", node)));
        if let Some((what, node)) = marked {
            let message = format!("chain {} is no polymer: PXDesign takes it whole and passes over {what}", chain.id);
            errors.at(node, message);
        }
        return Some(chain);
    }
    let numbering = Numbering { is_sequence: structure.is_mmcif, length: chain.sequence.len() };
    if let Some(ranges) = &draft.crop {
        crop(&mut chain, ranges, numbering, errors);
    }
    for (number, node) in &draft.hotspots {
        hotspot(&mut chain, number, node, numbering, errors);
    }
    chain.residues.iter().any(|r| r.kept).then_some(chain)
}

/// The alignments of a chain, which must be of its whole sequence.
fn alignments(
    folder: &Path,
    chain: &TargetChain,
    node: &Node,
    errors: &mut QueryErrors,
) -> Option<super::TargetAlignments> {
    let mut read = |name: &str| -> Option<Arc<Alignment>> {
        let path = folder.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) => {
                errors.of(FaultKind::Io, node, format!("msa: {}: cannot be read: {e}", path.display()));
                return None;
            }
        };
        let fault = match a3m::parse(&String::from_utf8_lossy(&bytes), usize::MAX) {
            Ok(alignment) => match not_the_query(&alignment, &chain.sequence) {
                None => return Some(Arc::new(alignment)),
                Some(message) => message,
            },
            Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        errors.at(node, format!("msa: {}: {fault}", path.display()));
        None
    };
    let (main, pairing) = (read(MAIN_MSA), read(PAIRING_MSA));
    Some(super::TargetAlignments { folder: folder.to_owned(), main: main?, pairing: pairing? })
}

fn no_chain(id: &str, structure: &Structure) -> String {
    let by_author: Vec<&str> = structure.chains.iter().filter(|c| c.author == id).map(|c| c.id.as_str()).collect();
    let known: Vec<String> = structure
        .chains
        .iter()
        .map(|c| {
            let polymer = structure.polymers.contains_key(&c.entity);
            let n = c.end - c.start;
            let what = if polymer { format!("{n} residues") } else { structure.residues[c.start].code.clone() };
            let other = if c.author == c.id { String::new() } else { format!(", author's {}", c.author) };
            format!("{} ({what}{other})", c.id)
        })
        .collect();
    let hint = match &by_author[..] {
        [] => String::new(),
        ids => format!("; the authors' chain {id} is {} here (label_asym_id)", ids.join(", ")),
    };
    format!("chain {id:?} is not in the structure{hint}; it has {}", known.join(", "))
}

/// How a task counts residues.
#[derive(Clone, Copy)]
struct Numbering {
    /// By the sequence (mmCIF), or else by the authors (PDB).
    is_sequence: bool,
    /// Residues of the whole sequence.
    length: usize,
}

impl Numbering {
    fn is(self, residue: &TargetResidue, number: &Number) -> bool {
        if self.is_sequence {
            number.insertion.is_empty() && residue.number == number.value
        } else {
            residue.author == number.to_string()
        }
    }

    /// What to say of a number that is not in the chain.
    fn not_there(self, chain: &TargetChain, number: &Number) -> String {
        let id = &chain.id;
        if self.is_sequence {
            let by_author = chain.residues.iter().find(|r| r.author == number.to_string());
            let hint = by_author.map_or(String::new(), |r| {
                format!("; numbers are those of the sequence (label_seq_id): the authors' {number} is {}", r.number)
            });
            if number.insertion.is_empty() && (1..=self.length as i32).contains(&number.value) {
                return format!("residue {number} of chain {id} has no coordinates in the structure{hint}");
            }
            return format!("chain {id} has no residue {number}: it has 1-{}{hint}", self.length);
        }
        let numbers: Vec<i32> = chain.residues.iter().filter_map(|r| r.author.parse().ok()).collect();
        let with_code: Vec<&str> = chain
            .residues
            .iter()
            .filter(|r| {
                number.insertion.is_empty()
                    && r.author.strip_suffix(char::is_alphabetic).is_some_and(|n| n == number.to_string())
            })
            .map(|r| r.author.as_str())
            .collect();
        let hint =
            if with_code.is_empty() { String::new() } else { format!("; did you mean {}?", with_code.join(", ")) };
        format!("chain {id} has no residue {number} (authors' numbers): it has {}{hint}", compressed(numbers))
    }
}

fn crop(chain: &mut TargetChain, ranges: &[(Range, &Node)], numbering: Numbering, errors: &mut QueryErrors) {
    chain.residues.iter_mut().for_each(|r| r.kept = false);
    let mut inside = BTreeSet::new();
    for (range, node) in ranges {
        let ends = [&range.from, &range.to];
        if numbering.is_sequence {
            let outside =
                ends.iter().find(|n| !n.insertion.is_empty() || !(1..=numbering.length as i32).contains(&n.value));
            if let Some(number) = outside {
                errors.at(node, format!("{range}: {}", numbering.not_there(chain, number)));
                continue;
            }
        }
        let within: Vec<usize> = if numbering.is_sequence {
            let inside = |i: &usize| (range.from.value..=range.to.value).contains(&chain.residues[*i].number);
            (0..chain.residues.len()).filter(inside).collect()
        } else {
            between(chain, range)
        };
        if within.is_empty() {
            let why = if numbering.is_sequence {
                format!("no residue of chain {} there has coordinates", chain.id)
            } else {
                numbering.not_there(chain, &range.from)
            };
            errors.at(node, format!("{range}: {why}"));
        }
        if numbering.is_sequence {
            inside.extend((range.from.value..=range.to.value).filter_map(|number| usize::try_from(number).ok()));
        }
        for i in within {
            chain.residues[i].kept = true;
            inside.extend(usize::try_from(chain.residues[i].number));
        }
    }
    chain.within = inside.into_iter().collect();
}

/// Residues whose authors' number lies in a range; an end with an insertion code is that residue and none beside it of its number.
fn between(chain: &TargetChain, range: &Range) -> Vec<usize> {
    let place = |author: &str| {
        let digits = author.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        Some((digits.parse::<i32>().ok()?, author[digits.len()..].to_owned()))
    };
    let last = if range.to.insertion.is_empty() { "~".to_owned() } else { range.to.insertion.clone() };
    let (from, to) = ((range.from.value, range.from.insertion.clone()), (range.to.value, last));
    let inside = |i: &usize| place(&chain.residues[*i].author).is_some_and(|p| from <= p && p <= to);
    (0..chain.residues.len()).filter(inside).collect()
}

fn hotspot(chain: &mut TargetChain, number: &Number, node: &Node, numbering: Numbering, errors: &mut QueryErrors) {
    let Some(at) = chain.residues.iter().position(|r| numbering.is(r, number)) else {
        errors.at(node, format!("hotspot: {}", numbering.not_there(chain, number)));
        return;
    };
    if !chain.residues[at].kept {
        let name = |r: &TargetResidue| if numbering.is_sequence { Some(r.number) } else { r.author.parse().ok() };
        let kept = compressed(chain.residues.iter().filter(|r| r.kept).filter_map(name));
        let message = format!(
            "hotspot {number} of chain {} is outside the crop ({kept}): add it to the crop or take it out",
            chain.id
        );
        errors.at(node, message);
        return;
    }
    if chain.residues[at].hotspot {
        errors.at(node, format!("hotspot {number} of chain {} is there twice", chain.id));
    }
    chain.residues[at].hotspot = true;
}
