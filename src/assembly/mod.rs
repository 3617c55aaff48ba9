//! A query with its chemistry looked up: chains of residues of atoms, with the ids that features and files need.
//!
//! Ids are those of OpenFold3 0.5.0 (`core/data/pipelines/featurization/structure.py`): a chain's number follows its id among
//! the sorted ids, an entity's number its sequence among the sorted distinct sequences; chains stay in the query's order.
use std::collections::{BTreeMap, BTreeSet};

use crate::chem::ccd::{Atom, Component};
use crate::chem::restype;
use crate::query::Query;

/// All chains of a query, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembly {
    /// One for each chain id.
    pub chains: Vec<Chain>,
}

/// A protein chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The user's id.
    pub id: String,
    /// Index of the query's chain it is a copy of.
    pub source: usize,
    /// From 1, by the sorted chain ids.
    pub asym_id: u32,
    /// From 1, by the sorted distinct sequences.
    pub entity_id: u32,
    /// From 1, copy of the entity in the order of chains.
    pub sym_id: u32,
    /// The last residue is bound to the first.
    pub cyclic: bool,
    /// Free text of the query.
    pub description: Option<String>,
    /// In order; residue `i` has number `i + 1`.
    pub residues: Vec<Residue>,
}

/// A residue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Residue {
    /// From 1, within the chain.
    pub number: u32,
    /// AF3 index, 0-20.
    pub restype: u8,
    /// Its atoms.
    pub component: &'static Component,
}

/// An atom with all that a structure file says of it but its position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site<'a> {
    /// Its chain.
    pub chain: &'a Chain,
    /// Its residue.
    pub residue: Residue,
    /// Name, element and charge.
    pub atom: Atom,
}

/// Chains of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity<'a> {
    /// From 1.
    pub id: u32,
    /// The chains, in order; at least one.
    pub chains: Vec<&'a Chain>,
}

impl Assembly {
    /// Looks up the chemistry of a query. Letters that are no amino acids, which [`crate::query::read`] refuses, become
    /// unknown residues.
    pub fn new(query: &Query) -> Self {
        let ids: BTreeSet<_> = query.chains.iter().flat_map(|c| &c.ids).collect();
        let sequences: BTreeSet<_> = query.chains.iter().map(|c| &c.sequence).collect();
        let rank = |set: &BTreeSet<&String>, key: &String| 1 + set.iter().take_while(|k| **k < key).count() as u32;
        let mut copies: BTreeMap<u32, u32> = BTreeMap::new();
        let mut chains = Vec::new();
        for (source, chain) in query.chains.iter().enumerate() {
            let entity_id = rank(&sequences, &chain.sequence);
            let residue = |(i, letter): (usize, u8)| {
                let restype = restype::amino_acid(letter).unwrap_or(restype::UNKNOWN);
                Residue { number: i as u32 + 1, restype, component: Component::amino_acid(restype) }
            };
            let residues: Vec<_> = chain.sequence.bytes().enumerate().map(residue).collect();
            for id in &chain.ids {
                let sym_id = *copies.entry(entity_id).and_modify(|n| *n += 1).or_insert(1);
                chains.push(Chain {
                    id: id.clone(),
                    source,
                    asym_id: rank(&ids, id),
                    entity_id,
                    sym_id,
                    cyclic: chain.cyclic,
                    description: chain.description.clone(),
                    residues: residues.clone(),
                });
            }
        }
        Self { chains }
    }

    /// All atoms in the order of features and predictions.
    pub fn sites(&self) -> impl Iterator<Item = Site<'_>> {
        self.chains.iter().flat_map(|chain| {
            let of = move |&residue: &Residue| {
                residue.component.atoms.iter().map(move |&atom| Site { chain, residue, atom })
            };
            chain.residues.iter().flat_map(of)
        })
    }

    /// Entities by their number.
    pub fn entities(&self) -> Vec<Entity<'_>> {
        let mut entities: BTreeMap<u32, Vec<&Chain>> = BTreeMap::new();
        for chain in &self.chains {
            entities.entry(chain.entity_id).or_default().push(chain);
        }
        entities.into_iter().map(|(id, chains)| Entity { id, chains }).collect()
    }

    /// Number of residues.
    pub fn n_residue(&self) -> usize {
        self.chains.iter().map(|c| c.residues.len()).sum()
    }
}

impl Chain {
    /// One letter for each residue.
    pub fn sequence(&self) -> String {
        self.residues.iter().map(|r| char::from(restype::LETTERS[usize::from(r.restype)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Chain as Asked;

    #[test]
    fn ids_follow_sorted_names_and_sequences() {
        let chain = |ids: &[&str], sequence: &str| {
            Asked::new(ids.iter().map(ToString::to_string).collect(), sequence.to_owned())
        };
        let chains = vec![chain(&["C", "B"], "MK"), chain(&["AA"], "GX"), chain(&["A"], "MK")];
        let assembly = Assembly::new(&Query::new("q".to_owned(), chains));
        let ids: Vec<_> =
            assembly.chains.iter().map(|c| (c.id.as_str(), c.asym_id, c.entity_id, c.sym_id, c.source)).collect();
        assert_eq!(ids, [("C", 4, 2, 1, 0), ("B", 3, 2, 2, 0), ("AA", 2, 1, 1, 1), ("A", 1, 2, 3, 2)]);
        assert_eq!(assembly.n_residue(), 8);
        assert_eq!(assembly.entities().iter().map(|e| (e.id, e.chains.len())).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
        let sites: Vec<_> = assembly.sites().collect();
        assert_eq!(sites.len(), 3 * (8 + 9) + 4 + 6);
        let last = sites.last().unwrap();
        assert_eq!((last.chain.id.as_str(), last.residue.number, last.atom.name), ("A", 2, "NZ"));
        assert_eq!(assembly.chains[2].sequence(), "GX");
    }
}
