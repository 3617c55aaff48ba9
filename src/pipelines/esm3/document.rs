//! A protein as one JSON document: what a prompt gives and what a result is, so that one can be the other. FASTA files and
//! structures are prompts too.
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Esm3Error;
use crate::features::esm3::structure::Structure;
use crate::features::esm3::{Backbone, Token, Tokens, Track};
use crate::io::{coordinates, fasta};

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

/// What tracks are called in files and options.
pub const TRACKS: [(Track, &str); 5] = [
    (Track::Sequence, "sequence"),
    (Track::Structure, "structure"),
    (Track::SecondaryStructure, "secondary_structure"),
    (Track::Sasa, "sasa"),
    (Track::Function, "function"),
];

impl TokenLists {
    /// The tracks that are given.
    pub fn new(tokens: &Tokens) -> Self {
        Self {
            sequence: tokens.sequence.clone(),
            structure: tokens.structure.clone(),
            secondary_structure: tokens.secondary_structure.clone(),
            sasa: tokens.sasa.clone(),
            function: tokens.track(Track::Function),
        }
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

/// Reads the prompts of a file: FASTA (a prompt a record; `:` and `|` separate chains), PDB or mmCIF (`chain`, else the first),
/// JSON (a document or a list of them).
pub fn read(path: &Path, chain: Option<&str>) -> Result<Vec<Prompt>, Esm3Error> {
    let bytes = std::fs::read(path).map_err(|source| Esm3Error::Read { path: path.to_owned(), source })?;
    let fault = |problem: String| Esm3Error::File { path: path.to_owned(), problem };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let text = || std::str::from_utf8(&bytes).map_err(|_| fault("is not UTF-8 text".to_owned()));
    let mut prompts = match extension.as_str() {
        "fasta" | "fa" | "faa" => of_fasta(text()?).map_err(fault)?,
        "pdb" | "ent" | "cif" | "mmcif" => vec![of_structure(text()?, chain).map_err(fault)?],
        "json" => of_json(text()?).map_err(fault)?,
        _ => return Err(fault("is no .fasta, .pdb, .cif or .json file".to_owned())),
    };
    let n = prompts.len();
    for (i, prompt) in prompts.iter_mut().enumerate() {
        let default = if n == 1 { stem.clone() } else { format!("{stem}_{}", i + 1) };
        prompt.document.name.get_or_insert(default);
    }
    Ok(prompts)
}

fn of_fasta(text: &str) -> Result<Vec<Prompt>, String> {
    let records =
        fasta::parse(text).map_err(|line| format!("line {line}: a sequence without a line of > before it"))?;
    if records.is_empty() {
        return Err("has no sequences".to_owned());
    }
    let prompt = |record: &fasta::Record<'_>| {
        let name = record.header.split_whitespace().next().map(str::to_owned);
        let document = Document { name, sequence: Some(record.sequence.replace(':', "|")), ..Document::default() };
        Prompt { document, atoms: None }
    };
    Ok(records.iter().map(prompt).collect())
}

fn of_structure(text: &str, id: Option<&str>) -> Result<Prompt, String> {
    let chains = coordinates::parse(text).map_err(|e| e.to_string())?;
    let mut chains = chains.iter().filter(|chain| chain.residues.iter().any(|r| !r.hetero));
    let ids = || chains.clone().map(|c| c.id.as_str()).collect::<Vec<_>>().join(", ");
    let fault = format!("has no chain {}: it has {}", id.unwrap_or("of a polymer"), ids());
    let chosen = chains.find(|c| id.is_none_or(|id| c.id == id)).ok_or(fault)?;
    let Structure { sequence, backbone, has_atom } = Structure::new(chosen);
    let document = Document { sequence: Some(sequence), ..Document::default() };
    Ok(Prompt { document, atoms: Some((backbone, has_atom)) })
}

fn of_json(text: &str) -> Result<Vec<Prompt>, String> {
    let wrong = |e: serde_json::Error| format!("is no ESM3 document: {e}");
    let documents: Vec<Document> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text).map_err(wrong)?,
        false => vec![serde_json::from_str(text).map_err(wrong)?],
    };
    if documents.is_empty() {
        return Err("has no documents".to_owned());
    }
    let prompt = |document: Document| {
        let missing = [[f32::NAN; 3]; 3];
        let atoms = document.coordinates.as_ref().map(|residues| {
            let backbones = residues.iter().map(|residue| residue.unwrap_or(missing)).collect();
            (backbones, residues.iter().map(Option::is_some).collect())
        });
        Prompt { document, atoms }
    };
    Ok(documents.into_iter().map(prompt).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_a_prompt() {
        let text = r#"{"sequence": "M_", "coordinates": [null, [[0,0,1],[0,0,2],[0,1.5,0]]], "plddt": [50, 60],
            "ptm": 0.5, "entropy": {"structure": [0.5, null]}, "sample": 1, "seed": 4}"#;
        let prompts = of_json(text).unwrap();
        let (backbone, has_atom) = prompts[0].atoms.as_ref().unwrap();
        assert!(backbone[0][0][0].is_nan() && backbone[1][2][1] == 1.5 && *has_atom == [false, true]);
        let again = serde_json::to_string(&prompts[0].document).unwrap();
        assert_eq!(of_json(&again).unwrap()[0].document, prompts[0].document);
        assert_eq!(of_json(&format!("[{text}, {text}]")).unwrap().len(), 2);
        assert!(of_json(r#"{"sequense": "M"}"#).unwrap_err().contains("sequense"));
    }

    #[test]
    fn sequences_of_a_fasta_file() {
        let prompts = of_fasta(">a b\nMK_\n>c\nA:C\n").unwrap();
        assert_eq!((prompts[0].name(), prompts[1].document.sequence.as_deref()), ("a", Some("A|C")));
        assert!(of_fasta("MK").unwrap_err().contains("line 1"));
    }
}
