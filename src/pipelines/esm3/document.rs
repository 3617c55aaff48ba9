//! A protein as one JSON document: what a prompt gives and what a result is, so that one can be the other.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::TrackSettings;
use crate::features::esm3::{Backbone, Token, Tokens, Track, sequence};
use crate::models::esm3::tracks::{N_FUNCTION, N_RESIDUE, N_SASA, N_SS8, N_STRUCTURE};

/// A range of residues with a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// A keyword, or an InterPro entry by its id.
    pub label: String,
    /// First residue, from 1.
    pub start: usize,
    /// Last residue, from 1.
    pub end: usize,
}

/// Tokens by track, ends included.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenLists {
    /// One id a residue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Vec<u16>>,
    /// One id a residue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure: Option<Vec<u16>>,
    /// One id a residue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_structure: Option<Vec<u16>>,
    /// One id a residue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasa: Option<Vec<u16>>,
    /// Eight ids a residue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Vec<Token>>,
    /// Sixteen ids a residue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residue_annotations: Option<Vec<Token>>,
}

/// A range of residues with an annotated site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// A description of ESM3's list of sites.
    pub label: String,
    /// First residue, from 1.
    pub start: usize,
    /// Last residue, from 1.
    pub end: usize,
    /// The amino acids that must be there; the sequence's, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residues: Option<String>,
}

/// Residues to be hidden, as ranges such as `3,10-20,55-`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Masks {
    /// Whose amino acids are to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Whose coordinates are taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure: Option<String>,
}

/// A protein.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// What the files of its results are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of a result: which of the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// Of a result: what its random numbers follow from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Letters; `_` where unknown, `|` between chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Letters of GHITEBSC; `_` where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_structure: Option<String>,
    /// Å²; null where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasa: Option<Vec<Option<f32>>>,
    /// Functions of ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<Vec<Function>>,
    /// Annotated sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residue_annotations: Option<Vec<Site>>,
    /// Of a prompt: a PDB or mmCIF file with its structure (and sequence, if that is not given), beside the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure_file: Option<PathBuf>,
    /// Of a prompt: chains of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// Of a prompt: what is to be hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Masks>,
    /// Of a prompt: the tracks to generate, in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<Vec<TrackSettings>>,
    /// N, CA and C of each residue in Å; null where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<Vec<Option<Backbone>>>,
    /// Of a result: of each residue, 0-100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plddt: Option<Vec<f32>>,
    /// Of a result, 0-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptm: Option<f32>,
    /// Of a result: `[n, n]` in Å, row i is the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pae: Option<Vec<Vec<f32>>>,
    /// Of a result: by generated track, of each residue when it was written, in nats; null where it was given.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub entropy: serde_json::Map<String, Value>,
    /// Tokens; a track that is here is not read from the fields above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenLists>,
}

/// A prompt: its document, and of a structure file what the document does not hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompt {
    /// What is given.
    pub document: Document,
    /// Backbones with single atoms missing (NaN), and which residues have any atom.
    pub atoms: Option<(Vec<Backbone>, Vec<bool>)>,
}

/// What the tracks that can be generated are called in files and options.
pub const TRACKS: [(Track, &str); 5] = [
    (Track::Sequence, "sequence"),
    (Track::Structure, "structure"),
    (Track::SecondaryStructure, "secondary_structure"),
    (Track::Sasa, "sasa"),
    (Track::Function, "function"),
];

/// What a track is called.
pub fn track_name(track: Track) -> &'static str {
    TRACKS.iter().find(|(t, _)| *t == track).map_or("residue_annotations", |(_, name)| name)
}

/// The track that is called so, among those that can be generated.
pub fn track_of(name: &str) -> Option<Track> {
    let name = if name == "ss8" { "secondary_structure" } else { name };
    TRACKS.iter().find(|(_, n)| *n == name).map(|(track, _)| *track)
}

impl TokenLists {
    /// The tracks that are given.
    pub fn new(tokens: &Tokens) -> Self {
        Self {
            sequence: tokens.sequence.clone(),
            structure: tokens.structure.clone(),
            secondary_structure: tokens.secondary_structure.clone(),
            sasa: tokens.sasa.clone(),
            function: tokens.track(Track::Function),
            residue_annotations: tokens.track(Track::ResidueAnnotations),
        }
    }

    /// That each list begins and ends as its track does, and holds ids of it alone.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), String> {
        let single = |ids: &Option<Vec<u16>>| Some(ids.as_ref()?.iter().map(|id| vec![*id]).collect::<Vec<_>>());
        let lists = [
            (Track::Sequence, single(&self.sequence), sequence::SEQUENCE.len()),
            (Track::Structure, single(&self.structure), N_STRUCTURE),
            (Track::SecondaryStructure, single(&self.secondary_structure), N_SS8),
            (Track::Sasa, single(&self.sasa), N_SASA),
            (Track::Function, self.function.clone(), N_FUNCTION),
            (Track::ResidueAnnotations, self.residue_annotations.clone(), N_RESIDUE),
        ];
        for (track, list, n_id) in lists {
            let Some(list) = list else { continue };
            let name = track_name(track);
            let [first, last] = track.ends();
            let is = |token: Option<&Token>, end: u16| token.is_some_and(|t| t.iter().all(|id| *id == end));
            if list.len() < 3 || !is(list.first(), first) || !is(list.last(), last) {
                return Err(format!(
                    "tokens.{name}: a list begins with {first} and ends with {last}, with the residues between them"
                ));
            }
            for (i, token) in list.iter().enumerate() {
                if token.len() > track.depth() {
                    return Err(format!(
                        "tokens.{name}: entry {} has {} ids, a residue has {}",
                        i + 1,
                        token.len(),
                        track.depth()
                    ));
                }
                if let Some(id) = token.iter().find(|id| usize::from(**id) >= n_id) {
                    return Err(format!("tokens.{name}: {id} in entry {} is no id: they are below {n_id}", i + 1));
                }
            }
        }
        Ok(())
    }

    /// Puts the tracks that are given in place of those of `tokens`.
    pub fn put(&self, tokens: &mut Tokens) {
        let of = |ids: &Option<Vec<u16>>, old: Option<Vec<u16>>| ids.clone().or(old);
        tokens.sequence = of(&self.sequence, tokens.sequence.take());
        tokens.structure = of(&self.structure, tokens.structure.take());
        tokens.secondary_structure = of(&self.secondary_structure, tokens.secondary_structure.take());
        tokens.sasa = of(&self.sasa, tokens.sasa.take());
        if let Some(function) = &self.function {
            tokens.set_track(Track::Function, function);
        }
        if let Some(sites) = &self.residue_annotations {
            tokens.set_track(Track::ResidueAnnotations, sites);
        }
    }
}

impl Prompt {
    /// What messages call it.
    pub fn name(&self) -> &str {
        self.document.name.as_deref().unwrap_or("prompt")
    }
}

/// Backbones as a document has them: those of which no atom is missing.
pub fn whole(backbones: &[Backbone]) -> Vec<Option<Backbone>> {
    let is_whole = |atoms: &Backbone| atoms.as_flattened().iter().all(|x| x.is_finite());
    backbones.iter().map(|atoms| is_whole(atoms).then_some(*atoms)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_none_are_named() {
        for (text, expected) in [
            (r#"{"sequence": [0, 5, 40, 2]}"#, "tokens.sequence: 40 in entry 3"),
            (r#"{"structure": [4098, 4095, 2]}"#, "ends with 4097"),
            (r#"{"sasa": []}"#, "tokens.sasa: a list begins with 0"),
            (r#"{"function": [[0], [4, 4, 4, 4, 4, 4, 4, 4, 4], [0]]}"#, "entry 2 has 9 ids"),
        ] {
            let error = serde_json::from_str::<TokenLists>(text).unwrap().check().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let fine = r#"{"sequence": [0, 5, 32, 2], "structure": [4098, 1, 4096, 4097], "sasa": [0, 3, 18, 0]}"#;
        assert_eq!(serde_json::from_str::<TokenLists>(fine).unwrap().check(), Ok(()));
        assert_eq!([track_of("ss8"), track_of("residue_annotations")], [Some(Track::SecondaryStructure), None]);
    }
}
