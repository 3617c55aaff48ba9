//! The parts of ESM3, each loaded when it is first needed; prompts to tokens and tokens to proteins.
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::{Value, json};

use super::Esm3Error;
use super::document::{Document, Function, Prompt, TokenLists};
use crate::features::esm3::function::{Annotation, function_tokens};
use crate::features::esm3::vocabulary::Vocabulary;
use crate::features::esm3::{Backbone, Coordinates, FUNCTION_DEPTH, Tokens, Track, sequence, structure_id};
use crate::models::esm3::frames::normalised;
use crate::models::esm3::function_decoder::FunctionDecoder;
use crate::models::esm3::structure_decoder::{Decoded, StructureDecoder};
use crate::models::esm3::structure_encoder::StructureEncoder;
use crate::models::esm3::trunk::Trunk;
use crate::weights::{Weights, default_file};

/// Places of the parts in the converter's list of releases.
const TRUNK: usize = 0;
const STRUCTURE_ENCODER: usize = 1;
const STRUCTURE_DECODER: usize = 2;
const FUNCTION_DECODER: usize = 3;

/// Number formats of weights files, the first that is there being taken.
pub const FORMATS: [&str; 5] = ["f32", "bf16", "f16", "int8", "int4"];

/// What has been loaded.
#[derive(Debug)]
pub struct Models {
    folder: PathBuf,
    device: Device,
    format: Option<&'static str>,
    trunk: Option<Trunk>,
    structure_encoder: Option<StructureEncoder>,
    structure_decoder: Option<StructureDecoder>,
    function_decoder: Option<FunctionDecoder>,
    vocabulary: Option<Vocabulary>,
}

impl Models {
    /// From the converted files in `folder`; nothing is read yet.
    pub fn new(folder: &Path, device: Device) -> Self {
        Self {
            folder: folder.to_owned(),
            device,
            format: None,
            trunk: None,
            structure_encoder: None,
            structure_decoder: None,
            function_decoder: None,
            vocabulary: None,
        }
    }

    /// Takes weights of this of [`FORMATS`] only, but for the structure encoder, which is not quantised.
    pub fn of_format(self, format: Option<&'static str>) -> Self {
        Self { format, ..self }
    }

    /// The file of a part, in the format that is wanted.
    fn file(&self, model: &'static str, release: &str, format: Option<&'static str>) -> Result<PathBuf, Esm3Error> {
        let file = |format: &&str| default_file(&self.folder, model, release, format);
        let formats = format.as_ref().map_or(&FORMATS[..], std::slice::from_ref);
        let found = formats.iter().map(file).find(|path| path.is_file());
        found.ok_or_else(|| Esm3Error::NoWeights { part: model, format, looked: self.folder.clone() })
    }

    fn weights(&self, part: usize) -> Result<Weights, Esm3Error> {
        let release = &weights_convert::ESM3[part];
        let file = |format| self.file(release.model, release.version, format);
        let path = match file(self.format) {
            Err(_) if part == STRUCTURE_ENCODER => file(None)?, // it is not quantised
            path => path?,
        };
        Ok(Weights::open(&path, &self.device)?)
    }

    /// Checksums of the trunk's weights, for `run.json`.
    pub fn identity(&self) -> Result<Value, Esm3Error> {
        let weights = self.weights(TRUNK)?;
        let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
        Ok(json!({"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")}))
    }

    /// The trunk.
    pub fn trunk(&mut self) -> Result<&Trunk, Esm3Error> {
        if self.trunk.is_none() {
            let w = self.weights(TRUNK)?;
            self.trunk = Some(Trunk::load(&w.config()?, &w)?);
        }
        Ok(self.trunk.as_ref().expect("loaded above"))
    }

    fn structure_encoder(&mut self) -> Result<&StructureEncoder, Esm3Error> {
        if self.structure_encoder.is_none() {
            let w = self.weights(STRUCTURE_ENCODER)?;
            self.structure_encoder = Some(StructureEncoder::load(&w.config()?, &w)?);
        }
        Ok(self.structure_encoder.as_ref().expect("loaded above"))
    }

    fn structure_decoder(&mut self) -> Result<&StructureDecoder, Esm3Error> {
        if self.structure_decoder.is_none() {
            let w = self.weights(STRUCTURE_DECODER)?;
            self.structure_decoder = Some(StructureDecoder::load(&w.config()?, &w)?);
        }
        Ok(self.structure_decoder.as_ref().expect("loaded above"))
    }

    fn vocabulary(&mut self) -> Result<&Vocabulary, Esm3Error> {
        if self.vocabulary.is_none() {
            let (model, release) = weights_convert::ESM3_DATA;
            self.vocabulary = Some(Vocabulary::read(&self.file(model, release, None)?)?);
        }
        Ok(self.vocabulary.as_ref().expect("loaded above"))
    }

    /// The tokens of a prompt. Where it has coordinates, its structure tokens are its own or made of them if `with_structure`, and
    /// left out if not.
    pub fn encode(&mut self, prompt: &Prompt, with_structure: bool) -> Result<Tokens, Esm3Error> {
        let (name, document) = (prompt.name(), &prompt.document);
        let mut tokens = Tokens {
            sequence: document.sequence.as_deref().map(sequence::sequence),
            sasa: document.sasa.as_deref().map(sequence::sasa),
            ..Tokens::default()
        };
        if let Some(text) = &document.secondary_structure {
            let ids = sequence::secondary_structure(text).map_err(|(letter, place)| {
                let problem =
                    format!("secondary structure: {letter:?} at position {place} is none of {} and _", sequence::SS8);
                Esm3Error::prompt(name, problem)
            });
            tokens.secondary_structure = Some(ids?);
        }
        if let Some((atoms, has_atom)) = &prompt.atoms {
            let residues = normalised(atoms);
            let has_tokens = document.tokens.as_ref().is_some_and(|lists| lists.structure.is_some());
            if with_structure && !has_tokens {
                let index: Vec<i64> = (1..=residues.len() as i64).collect();
                let codes = self.structure_encoder()?.forward(&residues, &index)?.tokens;
                tokens.structure = Some([&[structure_id::BOS], &codes[..], &[structure_id::EOS]].concat());
            }
            tokens.coordinates = Some(with_ends(&residues, has_atom));
        }
        if let Some(lists) = &document.tokens {
            lists.put(&mut tokens);
        }
        if tokens.coordinates.is_some() && !with_structure {
            tokens.structure = None;
        }
        let n_token = tokens.n_token().map_err(Esm3Error::track(name))?;
        if n_token < 3 {
            return Err(Esm3Error::prompt(name, "has no residues"));
        }
        if let (Some(functions), None) = (&document.function, &tokens.function) {
            let annotation = |f: &Function| Annotation { label: f.label.clone(), start: f.start, end: f.end };
            let annotations: Vec<Annotation> = functions.iter().map(annotation).collect();
            let ids =
                function_tokens(&annotations, n_token - 2, self.vocabulary()?).map_err(Esm3Error::annotation(name))?;
            tokens.function = Some(ids);
        }
        Ok(tokens)
    }

    /// What tokens say: texts, functions, and the structure if no structure token is masked. A track without anything is left out.
    pub fn decode(&mut self, tokens: &Tokens) -> Result<Document, Esm3Error> {
        let inner = |ids: &Option<Vec<u16>>, nothing: u16| {
            ids.as_ref().is_some_and(|ids| ids[1..ids.len() - 1].iter().any(|id| *id != nothing))
        };
        let mut document = Document {
            sequence: tokens.sequence.as_deref().map(sequence::sequence_text),
            tokens: Some(TokenLists::new(tokens)),
            ..Document::default()
        };
        if inner(&tokens.secondary_structure, Track::SecondaryStructure.mask()) {
            document.secondary_structure =
                tokens.secondary_structure.as_deref().map(sequence::secondary_structure_text);
        }
        if inner(&tokens.sasa, Track::Sasa.mask()) {
            document.sasa = tokens.sasa.as_deref().map(sequence::sasa_values);
        }
        if let Some(function) = tokens.function.as_ref().filter(|f| f.iter().any(|ids| ids.iter().any(|id| *id != 0))) {
            document.function = Some(self.functions(function)?);
        }
        if let Some(structure) = tokens.structure.as_ref().filter(|ids| !ids.contains(&structure_id::MASK)) {
            put_structure(&mut document, &self.structure_decoder()?.forward(structure)?);
        }
        Ok(document)
    }

    fn functions(&mut self, tokens: &[[u16; FUNCTION_DEPTH]]) -> Result<Vec<Function>, Esm3Error> {
        self.vocabulary()?;
        if self.function_decoder.is_none() {
            let w = self.weights(FUNCTION_DECODER)?;
            self.function_decoder = Some(FunctionDecoder::load(&w.config()?, &w)?);
        }
        let (Some(decoder), Some(vocabulary)) = (&self.function_decoder, &self.vocabulary) else {
            unreachable!("both are loaded")
        };
        let found = decoder.annotations(tokens, vocabulary)?;
        Ok(found.into_iter().map(|a| Function { label: a.label, start: a.start, end: a.end }).collect())
    }
}

/// Coordinates with an empty row at each end.
fn with_ends(residues: &[Backbone], has_atom: &[bool]) -> Coordinates {
    let nothing = [[f32::NAN; 3]; 3];
    Coordinates {
        backbone: [&[nothing], residues, &[nothing]].concat(),
        has_atom: [&[false], has_atom, &[false]].concat(),
    }
}

/// Coordinates and confidences without the ends; pLDDT in percent.
fn put_structure(document: &mut Document, decoded: &Decoded) {
    let n = decoded.plddt.len();
    document.coordinates = Some(decoded.backbone[1..n - 1].iter().copied().map(Some).collect());
    document.plddt = Some(decoded.plddt[1..n - 1].iter().map(|p| 100. * p).collect());
    document.ptm = Some(decoded.ptm);
    document.pae = Some(decoded.pae.chunks(n).skip(1).take(n - 2).map(|row| row[1..n - 1].to_vec()).collect());
}
