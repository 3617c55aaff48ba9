//! The parts of ESM3, each loaded when it is first needed; prompts to tokens and tokens to proteins.
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::{Value, json};

use super::Esm3Error;
use super::document::{Document, Function, Prompt, Site, TokenLists};
use super::memory::Estimate;
use crate::features::esm3::function::{Annotation, Site as AnnotatedSite, function_tokens, residue_tokens};
use crate::features::esm3::vocabulary::Vocabulary;
use crate::features::esm3::{
    Backbone, Coordinates, FUNCTION_DEPTH, Tokens, Track, sequence, sequence_id, structure_id,
};
use crate::models::esm3::frames::normalised;
use crate::models::esm3::function_decoder::FunctionDecoder;
use crate::models::esm3::structure_decoder::{Decoded, StructureDecoder};
use crate::models::esm3::structure_encoder::StructureEncoder;
use crate::models::esm3::trunk::Trunk;
use crate::weights::{Weights, default_file};

/// Places of the parts in the converter's list of releases.
pub(in crate::pipelines) const TRUNK: usize = 0;
pub(in crate::pipelines) const STRUCTURE_ENCODER: usize = 1;
pub(in crate::pipelines) const STRUCTURE_DECODER: usize = 2;
const FUNCTION_DECODER: usize = 3;

/// Number formats of weights files, the first that is there being taken.
pub const FORMATS: [&str; 5] = ["f32", "bf16", "f16", "int8", "int4"];

/// Parts that a job needs beside the trunk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// Structures to tokens.
    pub structure_encoder: bool,
    /// Tokens to structures.
    pub structure_decoder: bool,
    /// Tokens to functions.
    pub function_decoder: bool,
}

/// What has been loaded.
#[derive(Debug)]
pub struct Models {
    folder: PathBuf,
    device: Device,
    format: Option<&'static str>,
    max_memory: Option<u64>,
    trunk: Option<Trunk>,
    structure_encoder: Option<StructureEncoder>,
    structure_decoder: Option<StructureDecoder>,
    function_decoder: Option<FunctionDecoder>,
    vocabulary: Option<Vocabulary>,
}

impl Models {
    /// From the converted files in `folder`; nothing is read yet. No more than `max_memory` bytes are to be used.
    pub fn new(folder: &Path, device: Device, max_memory: Option<u64>) -> Self {
        Self {
            folder: folder.to_owned(),
            device,
            format: None,
            max_memory,
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

    /// The file of a network.
    fn path(&self, part: usize) -> Result<PathBuf, Esm3Error> {
        let release = &weights_convert::ESM3[part];
        let file = |format| self.file(release.model, release.version, format);
        match file(self.format) {
            Err(_) if part == STRUCTURE_ENCODER => file(None), // it is not quantised
            path => path,
        }
    }

    /// The weights file of a part.
    pub(in crate::pipelines) fn weights(&self, part: usize) -> Result<Weights, Esm3Error> {
        Ok(Weights::open(&self.path(part)?, &self.device)?)
    }

    /// What a job with these parts takes; that they are all there.
    pub fn estimate(&self, parts: &Parts) -> Result<Estimate, Esm3Error> {
        let wanted = [true, parts.structure_encoder, parts.structure_decoder, parts.function_decoder];
        let (mut always, mut largest) = (0, 0);
        for part in (0..wanted.len()).filter(|part| wanted[*part]) {
            let file = self.path(part)?;
            let on_disk =
                std::fs::metadata(&file).map_err(|source| Esm3Error::Read { path: file.clone(), source })?.len();
            // The CPU reads them where they are mapped; elsewhere halves are widened.
            let is_half = file.to_string_lossy().ends_with("16.safetensors");
            let held = if is_half && !self.device.is_cpu() { 2 * on_disk } else { on_disk };
            // On the CPU a large network rests while another works.
            if part == STRUCTURE_ENCODER || !self.device.is_cpu() {
                always += held;
            } else {
                largest = held.max(largest);
            }
        }
        let free = crate::device::memory().map(|memory| memory.available);
        let available = self.max_memory.into_iter().chain(free).min();
        Ok(Estimate::new(&self.weights(TRUNK)?.config()?, &self.device, always + largest, available))
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
        // One network works at a time, so that its weights alone need be in memory.
        self.structure_decoder.iter().for_each(StructureDecoder::rest);
        self.function_decoder.iter().for_each(FunctionDecoder::rest);
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
        self.trunk.iter().for_each(Trunk::rest);
        self.function_decoder.iter().for_each(FunctionDecoder::rest);
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
        let fault = |problem: String| Esm3Error::prompt(name, problem);
        let mut tokens = text_tokens(document).map_err(fault)?;
        if let Some((atoms, has_atom)) = &prompt.atoms {
            let residues = normalised(atoms);
            let has_tokens = document.tokens.as_ref().is_some_and(|lists| lists.structure.is_some());
            if with_structure && !has_tokens {
                let index: Vec<i64> = (1..=residues.len() as i64).collect();
                let codes = self.structure_encoder()?.forward(&residues, &index)?.tokens;
                // What has no atoms is not known, and may be generated.
                let code = |(code, has): (u16, &bool)| if *has { code } else { structure_id::MASK };
                let codes = codes.into_iter().zip(has_atom).map(code);
                let ends = [structure_id::BOS, structure_id::EOS];
                tokens.structure = Some(std::iter::once(ends[0]).chain(codes).chain([ends[1]]).collect());
            }
            tokens.coordinates = Some(with_ends(&residues, has_atom));
        }
        if let Some(lists) = &document.tokens {
            lists.check().map_err(fault)?;
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
        if let (Some(sites), None) = (&document.residue_annotations, &tokens.residue_annotations) {
            let letters = letters(&tokens, n_token - 2);
            let sites = sites.iter().map(|site| self.site(site, &letters)).collect::<Result<Vec<_>, _>>()?;
            let sites = sites.into_iter().collect::<Result<Vec<_>, _>>().map_err(fault)?;
            let text: String = letters.iter().collect();
            tokens.residue_annotations = Some(residue_tokens(&sites, &text, self.vocabulary()?));
        }
        Ok(tokens)
    }

    /// A site as the tokeniser takes it, or what is wrong with it.
    fn site(&mut self, site: &Site, letters: &[char]) -> Result<Result<AnnotatedSite, String>, Esm3Error> {
        let Site { label, start, end, residues } = site;
        if self.vocabulary()?.residue_label(label).is_none() {
            return Ok(Err(format!("residue annotation {label:?} is no label of ESM3's sites")));
        }
        let n = letters.len();
        if !(1 <= *start && start <= end && *end <= n) {
            return Ok(Err(format!(
                "residue annotation {label:?} at residues {start} to {end}: the protein has {n}, counted from 1"
            )));
        }
        let here: String = letters[start - 1..*end].iter().collect();
        if let Some(wanted) = residues.as_ref().filter(|wanted| **wanted != here) {
            return Ok(Err(format!(
                "residue annotation {label:?} at residues {start} to {end}: the sequence has {here} there, not {wanted}"
            )));
        }
        Ok(Ok(AnnotatedSite { description: label.clone(), start: *start, end: *end, residues: here }))
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
        self.trunk.iter().for_each(Trunk::rest);
        self.structure_decoder.iter().for_each(StructureDecoder::rest);
        let (Some(decoder), Some(vocabulary)) = (&self.function_decoder, &self.vocabulary) else {
            unreachable!("both are loaded")
        };
        let found = decoder.annotations(tokens, vocabulary)?;
        Ok(found.into_iter().map(|a| Function { label: a.label, start: a.start, end: a.end }).collect())
    }
}

/// The tracks that a document has as text or values.
fn text_tokens(document: &Document) -> Result<Tokens, String> {
    let mut tokens = Tokens::default();
    if let Some(text) = &document.sequence {
        let letters = sequence::letters(text);
        let is_unknown = |(id, part): &(u16, &str)| *id == sequence_id::UNKNOWN && !part.starts_with('<');
        if let Some(place) = letters.iter().position(is_unknown) {
            let letter = letters[place].1;
            return Err(format!(
                "sequence: {letter:?} at position {} is no amino acid; write _ for what is to be found, X for another",
                place + 1
            ));
        }
        if letters.split(|(_, part)| *part == "|").any(<[_]>::is_empty) && !letters.is_empty() {
            return Err("sequence: a chain is empty; | stands between two chains".to_owned());
        }
        tokens.sequence = Some(sequence::sequence(text));
    }
    if let Some(text) = &document.secondary_structure {
        let ids = sequence::secondary_structure(text).map_err(|(letter, place)| {
            format!("secondary structure: {letter:?} at position {place} is none of {} and _", sequence::SS8)
        });
        tokens.secondary_structure = Some(ids?);
    }
    if let Some(values) = &document.sasa {
        if let Some(place) = values.iter().position(|v| v.is_some_and(|v| v < 0.)) {
            let value = values[place].unwrap_or_default();
            return Err(format!("sasa: {value} at position {} is no surface; it is 0 or more, or null", place + 1));
        }
        tokens.sasa = Some(sequence::sasa(values));
    }
    Ok(tokens)
}

/// A letter for each residue; `_` where it is not known.
fn letters(tokens: &Tokens, n: usize) -> Vec<char> {
    let letter = |id: &u16| {
        let mut name = sequence::SEQUENCE.get(usize::from(*id)).copied().unwrap_or_default().chars();
        name.next().filter(|_| name.next().is_none()).unwrap_or('_')
    };
    tokens.sequence.as_ref().map_or(vec!['_'; n], |ids| ids[1..=n].iter().map(letter).collect())
}

/// Coordinates with an empty row at each end.
fn with_ends(residues: &[Backbone], has_atom: &[bool]) -> Coordinates {
    let nothing = [[f32::NAN; 3]; 3];
    Coordinates {
        backbone: [&[nothing], residues, &[nothing]].concat(),
        has_atom: [&[false], has_atom, &[false]].concat(),
    }
}

/// Coordinates and confidences without the ends; pLDDT in percent and errors to two decimals, pTM to four.
fn put_structure(document: &mut Document, decoded: &Decoded) {
    let n = decoded.plddt.len();
    document.coordinates = Some(decoded.backbone[1..n - 1].iter().copied().map(Some).collect());
    let hundredth = |v: &f32| (v * 100.).round() / 100.;
    document.plddt = Some(decoded.plddt[1..n - 1].iter().map(|p| hundredth(&(100. * p))).collect());
    document.ptm = Some((decoded.ptm * 1e4).round() / 1e4);
    let inner = decoded.pae.chunks(n).skip(1).take(n - 2);
    document.pae = Some(inner.map(|row| row[1..n - 1].iter().map(hundredth).collect()).collect());
}
