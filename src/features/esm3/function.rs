//! Annotations of ranges to tokens and back: `InterProQuantizedTokenizer`, `ResidueAnnotationsTokenizer`, `encode_decode.py` and
//! the ranges of `FunctionTokenDecoder.decode` of esm 3.2.1.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::vocabulary::{N_BIT, Vocabulary};
use super::{FIRST_LABEL, FUNCTION_DEPTH, NONE, PAD, RESIDUE_DEPTH, UNKNOWN};

/// What is known about a range of residues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// A keyword, an InterPro id or a text with one.
    pub label: String,
    /// First residue, from 1.
    pub start: usize,
    /// Last residue, from 1.
    pub end: usize,
}

/// A site, as InterPro gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What it is.
    pub description: String,
    /// First residue, from 1.
    pub start: usize,
    /// Last residue, from 1.
    pub end: usize,
    /// The amino acids that are there.
    pub residues: String,
}

/// An annotation that has no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// Neither a keyword nor an InterPro entry.
    #[error("{label:?} is no keyword and names no InterPro entry of ESM3's vocabulary")]
    Unknown {
        /// The label.
        label: String,
    },
    /// A range that is not in the protein.
    #[error("{label:?} at residues {start} to {end}: the protein has {n_res}, counted from 1")]
    Range {
        /// The label.
        label: String,
        /// First residue.
        start: usize,
        /// Last residue.
        end: usize,
        /// Residues of the protein.
        n_res: usize,
    },
}

/// Weights of terms, by number of the keyword.
type Terms = BTreeMap<usize, f64>;

/// Tokens of a protein of `n_res` residues, ends included. Without annotations nothing is known; with some, the residues that
/// have none are known to have none.
pub fn function_tokens(
    annotations: &[Annotation],
    n_res: usize,
    vocabulary: &Vocabulary,
) -> Result<Vec<[u16; FUNCTION_DEPTH]>, AnnotationError> {
    if annotations.is_empty() {
        return Ok(vec![[PAD; FUNCTION_DEPTH]; n_res + 2]);
    }
    let mut labels: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); n_res];
    for Annotation { label, start, end } in annotations {
        if !(1 <= *start && start <= end && *end <= n_res) {
            return Err(AnnotationError::Range { label: label.clone(), start: *start, end: *end, n_res });
        }
        labels[start - 1..*end].iter_mut().for_each(|set| {
            set.insert(label);
        });
    }
    let mut known: HashMap<&BTreeSet<&str>, [u16; FUNCTION_DEPTH]> = HashMap::new();
    let mut tokens = vec![[PAD; FUNCTION_DEPTH]];
    for set in &labels {
        let token = match known.get(set) {
            Some(token) => *token,
            None => hash(set, vocabulary)?,
        };
        known.insert(set, token);
        tokens.push(token);
    }
    tokens.push([PAD; FUNCTION_DEPTH]);
    Ok(tokens)
}

/// Tokens of the labels of one residue: eight bits each, on which side of a hyperplane the terms are.
fn hash(labels: &BTreeSet<&str>, vocabulary: &Vocabulary) -> Result<[u16; FUNCTION_DEPTH], AnnotationError> {
    if labels.is_empty() {
        return Ok([NONE; FUNCTION_DEPTH]);
    }
    let (mut keywords, mut entries) = (Vec::new(), Vec::new());
    for label in labels {
        match interpro_id(label).and_then(|id| vocabulary.interpro(id)) {
            Some(terms) => entries.push(terms),
            None if vocabulary.keyword(label).is_some() => keywords.push(*label),
            None => return Err(AnnotationError::Unknown { label: (*label).to_owned() }),
        }
    }
    let mut terms = weights(keywords.into_iter(), vocabulary);
    for entry in entries {
        for (keyword, weight) in weights(entry.iter().map(String::as_str), vocabulary) {
            let largest = terms.entry(keyword).or_insert(weight);
            *largest = largest.max(weight);
        }
    }
    if terms.is_empty() {
        return Ok([UNKNOWN; FUNCTION_DEPTH]);
    }
    let side = |table: usize, bit: usize| {
        let normal = vocabulary.hyperplane(table, bit);
        terms.iter().map(|(keyword, weight)| normal[*keyword] * weight).sum::<f64>() >= 0.
    };
    let value = |table: usize| (0..N_BIT).map(|bit| u16::from(side(table, bit)) << bit).sum::<u16>();
    Ok(std::array::from_fn(|table| FIRST_LABEL + value(table)))
}

/// TF-IDF of the keywords among `terms`, of length 1: a term counts `1 + ln` of how often it is there.
fn weights<'a>(terms: impl Iterator<Item = &'a str>, vocabulary: &Vocabulary) -> Terms {
    let mut weights = Terms::new();
    for keyword in terms.filter_map(|term| vocabulary.keyword(term)) {
        *weights.entry(keyword).or_default() += 1.;
    }
    weights.iter_mut().for_each(|(keyword, weight)| *weight = (1. + weight.ln()) * vocabulary.idf(*keyword));
    let length = weights.values().map(|w| w * w).sum::<f64>().sqrt();
    weights.values_mut().for_each(|weight| *weight /= length);
    weights
}

/// The first `IPR` with digits behind it.
fn interpro_id(label: &str) -> Option<&str> {
    label.match_indices("IPR").find_map(|(at, _)| {
        let digits = label[at + 3..].bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then(|| &label[at..at + 3 + digits])
    })
}

/// Tokens of annotated sites, ends included; a residue has each label once, 16 at most. If the amino acids at any site are
/// others, nothing is known. A site that is not in the protein, or as long as its amino acids, is passed over.
pub fn residue_tokens(sites: &[Site], sequence: &str, vocabulary: &Vocabulary) -> Vec<[u16; RESIDUE_DEPTH]> {
    let letters: Vec<char> = sequence.chars().collect();
    let nothing = || vec![[PAD; RESIDUE_DEPTH]; letters.len() + 2];
    let mut labels: Vec<BTreeSet<u16>> = vec![BTreeSet::new(); letters.len()];
    for site in sites {
        let residues: Vec<char> = site.residues.chars().collect();
        let inside = 1 <= site.start && site.start <= site.end && site.end <= letters.len();
        if !inside || residues.len() != site.end + 1 - site.start {
            continue;
        }
        if letters[site.start - 1..site.end] != residues {
            return nothing();
        }
        let id = vocabulary.residue_label(&site.description).map_or(UNKNOWN, |label| FIRST_LABEL + label as u16);
        labels[site.start - 1..site.end].iter_mut().for_each(|set| {
            set.insert(id);
        });
    }
    let mut tokens = nothing();
    for (token, set) in tokens[1..].iter_mut().zip(&labels) {
        token.iter_mut().zip(set).for_each(|(token, id)| *token = *id);
        if set.is_empty() {
            token[0] = NONE;
        }
    }
    tokens
}

/// Longest gap that two ranges of one label are joined over.
const LARGEST_GAP: usize = 3;
/// Shorter ranges are dropped.
const SHORTEST: usize = 5;

/// Ranges of residues that have the same label, from (residue, label) in order of residues; labels in order of appearance.
pub fn ranges(found: impl IntoIterator<Item = (usize, usize)>) -> Vec<(usize, usize, usize)> {
    let mut order: Vec<usize> = Vec::new();
    let mut of_label: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
    for (residue, label) in found {
        let ranges = of_label.entry(label).or_insert_with(|| {
            order.push(label);
            Vec::new()
        });
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 + LARGEST_GAP >= residue => *end = residue,
            _ => ranges.push((residue, residue)),
        }
    }
    let of = |label: usize| of_label[&label].iter().map(move |(start, end)| (label, *start, *end));
    order.into_iter().flat_map(of).filter(|(_, start, end)| end + 1 - start >= SHORTEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_labels() {
        assert_eq!(interpro_id("Some name (IPR000123)"), Some("IPR000123"));
        assert_eq!(interpro_id("IPR or IPR7x IPR8"), Some("IPR7"));
        assert_eq!(interpro_id("IPR"), None);
    }

    #[test]
    fn ranges_are_joined_over_small_gaps() {
        let found = [3, 4, 5, 9, 14, 20, 21, 22, 23, 24].map(|residue| (residue, 7));
        assert_eq!(ranges(found), [(7, 3, 9), (7, 20, 24)]);
        assert_eq!(ranges((1..6).flat_map(|i| [(i, 2), (i, 1)])), [(2, 1, 5), (1, 1, 5)]);
        assert_eq!(ranges((1..5).map(|i| (i, 0))), []);
    }
}
