//! Prompts from files: FASTA, PDB, mmCIF and JSON; what is wrong with one of them is kept with it.
use std::collections::HashMap;
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::Esm3Error;
use super::document::{Document, Masks, Prompt};
use crate::features::esm3::structure::Structure;
use crate::features::esm3::{Backbone, sequence};
use crate::io::{coordinates, fasta};
use crate::pipelines::store;

/// A prompt of a file, or what is wrong with it.
#[derive(Debug)]
pub struct Named {
    /// What messages and files call it; each name of a file is another.
    pub name: String,
    /// The prompt.
    pub prompt: Result<Prompt, Esm3Error>,
}

/// Backbones, and which residues have any atom.
type Atoms = (Vec<Backbone>, Vec<bool>);

/// Reads the prompts of a file: FASTA (a prompt a record; `:` and `|` separate chains), PDB or mmCIF (`chain`, several with commas
/// between, or `all`; else the first), JSON (a document or a list of them).
///
/// # Errors
/// If the file cannot be read or holds no prompts.
pub fn read(path: &Path, chain: Option<&str>) -> Result<Vec<Named>, Esm3Error> {
    let text = text(path)?;
    let fault = |problem: String| Esm3Error::File { path: path.to_owned(), problem };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let prompts: Vec<(Option<String>, Result<Prompt, Esm3Error>)> = match extension.as_str() {
        "fasta" | "fa" | "faa" => {
            of_fasta(&text).map_err(fault)?.into_iter().map(|p| (p.document.name.clone(), Ok(p))).collect()
        }
        "pdb" | "ent" | "cif" | "mmcif" => vec![(None, Ok(of_structure(&text, chain).map_err(fault)?))],
        "json" => of_json(&text, path).map_err(fault)?,
        _ => return Err(fault("is no .fasta, .pdb, .cif or .json file".to_owned())),
    };
    let n = prompts.len();
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut named = Vec::with_capacity(n);
    for (i, (name, mut prompt)) in prompts.into_iter().enumerate() {
        let default = || if n == 1 { stem.clone() } else { format!("{stem}_{}", i + 1) };
        let name = name.filter(|name| !name.trim().is_empty()).unwrap_or_else(default);
        if let Some(first) = first.get(&store::file_name(&name)) {
            let problem =
                format!("prompt {} has the name of prompt {first}, whose files it would overwrite: rename it", i + 1);
            prompt = Err(Esm3Error::prompt(&name, problem));
        }
        first.entry(store::file_name(&name)).or_insert(i + 1);
        if let Ok(prompt) = &mut prompt {
            prompt.document.name = Some(name.clone());
        }
        named.push(Named { name, prompt });
    }
    Ok(named)
}

/// Reads a single document, whose tracks are to be added to prompts.
///
/// # Errors
/// If the file is not one.
pub fn read_document(path: &Path) -> Result<Prompt, Esm3Error> {
    let fault = |problem: String| Esm3Error::File { path: path.to_owned(), problem };
    let mut prompts = of_json(&text(path)?, path).map_err(fault)?;
    match (prompts.pop(), prompts.is_empty()) {
        (Some((_, prompt)), true) => prompt,
        _ => Err(fault("holds several documents; one is needed here".to_owned())),
    }
}

fn text(path: &Path) -> Result<String, Esm3Error> {
    let bytes = std::fs::read(path).map_err(|source| Esm3Error::Read { path: path.to_owned(), source })?;
    String::from_utf8(bytes)
        .map_err(|_| Esm3Error::File { path: path.to_owned(), problem: "is not UTF-8 text".to_owned() })
}

impl Prompt {
    /// Puts what `other` gives in place of what is there.
    pub fn add(&mut self, other: &Self) {
        fn put<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        let (to, from) = (&mut self.document, &other.document);
        put(&mut to.sequence, &from.sequence);
        put(&mut to.secondary_structure, &from.secondary_structure);
        put(&mut to.sasa, &from.sasa);
        put(&mut to.function, &from.function);
        put(&mut to.residue_annotations, &from.residue_annotations);
        put(&mut to.tokens, &from.tokens);
        put(&mut to.mask, &from.mask);
        put(&mut to.generate, &from.generate);
        if other.atoms.is_some() {
            to.coordinates.clone_from(&from.coordinates);
            self.atoms.clone_from(&other.atoms);
        }
    }

    /// Masks what `masks` names, and what the document itself does.
    ///
    /// # Errors
    /// If a range is none, or is not in the protein.
    pub fn mask(&mut self, masks: &Masks) -> Result<(), Esm3Error> {
        let name = self.name().to_owned();
        let fault = |e: String| Esm3Error::prompt(&name, e);
        for masks in [Some(masks.clone()), self.document.mask.take()].into_iter().flatten() {
            if let Some(text) = &masks.sequence {
                self.mask_sequence(text).map_err(fault)?;
            }
            if let Some(text) = &masks.structure {
                self.mask_structure(text).map_err(fault)?;
            }
        }
        Ok(())
    }

    fn mask_sequence(&mut self, text: &str) -> Result<(), String> {
        let Some(given) = &self.document.sequence else { return Err("has no sequence to mask".to_owned()) };
        let mut parts: Vec<&str> = sequence::letters(given).into_iter().map(|(_, part)| part).collect();
        for i in positions(text, parts.len())? {
            if parts[i] != "|" {
                parts[i] = "_";
            }
        }
        self.document.sequence = Some(parts.concat());
        if let Some(tokens) = &mut self.document.tokens {
            tokens.sequence = None;
        }
        Ok(())
    }

    fn mask_structure(&mut self, text: &str) -> Result<(), String> {
        let Some((atoms, has_atom)) = &mut self.atoms else { return Err("has no structure to mask".to_owned()) };
        for i in positions(text, atoms.len())? {
            (atoms[i], has_atom[i]) = ([[f32::NAN; 3]; 3], false);
            if let Some(coordinates) = &mut self.document.coordinates {
                coordinates[i] = None;
            }
        }
        // Tokens of the whole structure would tell what is hidden.
        if let Some(tokens) = &mut self.document.tokens {
            tokens.structure = None;
        }
        Ok(())
    }
}

/// Places, from 0, of residues in ranges such as `3,10-20,55-` or `all`, which count from 1.
fn positions(text: &str, n: usize) -> Result<Vec<usize>, String> {
    let wrong = |part: &str| format!("{part:?} is no range of residues: give ranges such as 3,10-20,55- or all");
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim) {
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong(part));
        let (start, end) = match part.split_once('-') {
            None if part == "all" => (1, n),
            None => (number(part)?, number(part)?),
            Some((start, "")) => (number(start)?, n),
            Some((start, end)) => (number(start)?, number(end)?),
        };
        if !(1 <= start && start <= end && end <= n) {
            return Err(format!("residues {part} are not in the protein, which has {n}, counted from 1"));
        }
        found.extend(start - 1..end);
    }
    Ok(found)
}

fn of_fasta(text: &str) -> Result<Vec<Prompt>, String> {
    let records =
        fasta::parse(text).map_err(|line| format!("line {line}: a sequence without a line of > before it"))?;
    if records.is_empty() {
        return Err("has no sequences".to_owned());
    }
    let prompt = |record: &fasta::Record<'_>| {
        let name = record.header.split_whitespace().next().map(str::to_owned);
        // Names of tokens in angle brackets are lower case.
        let upper = |s: &str| if s.contains('<') { s.to_owned() } else { s.to_ascii_uppercase() };
        let sequence = Some(upper(&record.sequence.replace(':', "|")));
        Prompt { document: Document { name, sequence, ..Document::default() }, atoms: None }
    };
    Ok(records.iter().map(prompt).collect())
}

fn of_structure(text: &str, ids: Option<&str>) -> Result<Prompt, String> {
    let chains = coordinates::parse(text).map_err(|e| e.to_string())?;
    let polymers: Vec<_> = chains.iter().filter(|chain| chain.residues.iter().any(|r| !r.hetero)).collect();
    let all = || polymers.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join(", ");
    let find = |id: &str| {
        let found = polymers.iter().find(|c| c.id == id);
        found.copied().ok_or_else(|| format!("has no chain {id}: it has {}", all()))
    };
    let chosen = match ids {
        None => vec![*polymers.first().ok_or("has no chain of a polymer")?],
        Some("all") => polymers.clone(),
        Some(ids) => ids.split(',').map(|id| find(id.trim())).collect::<Result<_, _>>()?,
    };
    let mut whole = Structure::default();
    for chain in chosen {
        let Structure { sequence, backbone, has_atom } = Structure::new(chain);
        if !whole.sequence.is_empty() {
            whole.sequence.push('|');
            whole.backbone.push([[f32::NAN; 3]; 3]);
            whole.has_atom.push(false);
        }
        whole.sequence.push_str(&sequence);
        whole.backbone.extend(backbone);
        whole.has_atom.extend(has_atom);
    }
    let document = Document { sequence: Some(whole.sequence), ..Document::default() };
    Ok(Prompt { document, atoms: Some((whole.backbone, whole.has_atom)) })
}

/// The documents of a JSON text with their names; faults name line and column.
#[expect(clippy::type_complexity, reason = "a name and a prompt, each of which may be missing")]
fn of_json(text: &str, path: &Path) -> Result<Vec<(Option<String>, Result<Prompt, Esm3Error>)>, String> {
    let parts = documents(text)?;
    if parts.is_empty() {
        return Err("has no documents".to_owned());
    }
    let n = parts.len();
    let of = |(i, start): (usize, &(usize, usize))| {
        let (start, end) = *start;
        let fault = |problem: String| {
            let which = if n > 1 { format!("document {}: ", i + 1) } else { String::new() };
            Esm3Error::File { path: path.to_owned(), problem: format!("{which}{problem}") }
        };
        let part = &text[start..end];
        let name =
            serde_json::from_str::<serde_json::Value>(part).ok().and_then(|v| Some(v["name"].as_str()?.to_owned()));
        let document: Result<Document, _> =
            serde_json::from_str(part).map_err(|e| fault(json_fault(&e, &text[..start])));
        (name, document.and_then(|document| of_document(document, path).map_err(fault)))
    };
    Ok(parts.iter().enumerate().map(of).collect())
}

/// What is wrong with a JSON text that follows the text `before` it.
fn json_fault(e: &serde_json::Error, before: &str) -> String {
    let text = e.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let line = before.matches('\n').count() + e.line();
    let beside = if e.line() == 1 { before.rsplit('\n').next().unwrap_or_default().chars().count() } else { 0 };
    format!("line {line}, column {}: {what}", e.column() + beside)
}

/// Where the documents of a text begin and end: one object, or those of a list.
fn documents(text: &str) -> Result<Vec<(usize, usize)>, String> {
    let fault = |at: usize, e: &serde_json::Error| format!("is not JSON: {}", json_fault(e, &text[..at]));
    let space = |at: usize| at + text[at..].len() - text[at..].trim_start().len();
    let mut at = space(0);
    if !text[at..].starts_with('[') {
        serde_json::from_str::<IgnoredAny>(text).map_err(|e| fault(0, &e))?;
        return Ok(vec![(at, text.len())]);
    }
    at = space(at + 1);
    let mut found = Vec::new();
    while !text[at..].starts_with(']') {
        let mut values = Deserializer::from_str(&text[at..]).into_iter::<IgnoredAny>();
        values.next().unwrap_or(Ok(IgnoredAny)).map_err(|e| fault(at, &e))?;
        let end = at + values.byte_offset();
        found.push((at, end));
        at = space(end);
        match text[at..].chars().next() {
            Some(',') => at = space(at + 1),
            Some(']') => {}
            _ => return Err(format!("line {}: the list does not end", text[..at].matches('\n').count() + 1)),
        }
    }
    Ok(found)
}

/// A document with the structure that it has or names.
fn of_document(mut document: Document, path: &Path) -> Result<Prompt, String> {
    let missing = [[f32::NAN; 3]; 3];
    let atoms: Option<Atoms> = document.coordinates.as_ref().map(|residues| {
        let backbones = residues.iter().map(|residue| residue.unwrap_or(missing)).collect();
        (backbones, residues.iter().map(Option::is_some).collect())
    });
    let Some(file) = document.structure_file.take() else {
        if document.chain.is_some() {
            return Err("chain is of a structure_file, which is not given".to_owned());
        }
        return Ok(Prompt { document, atoms });
    };
    if atoms.is_some() {
        return Err("has both coordinates and a structure_file: one of them is needed".to_owned());
    }
    let file = path.parent().unwrap_or(Path::new("")).join(file);
    let text = text(&file).map_err(|e| match e {
        Esm3Error::Read { path, source } => format!("structure_file {}: cannot be read: {source}", path.display()),
        e => e.to_string(),
    })?;
    let chain = document.chain.take();
    let found = of_structure(&text, chain.as_deref()).map_err(|e| format!("{}: {e}", file.display()))?;
    let sequence = document.sequence.or(found.document.sequence);
    Ok(Prompt { document: Document { sequence, ..document }, atoms: found.atoms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Vec<Result<Prompt, String>>, String> {
        let of = |(_, prompt): (_, Result<Prompt, Esm3Error>)| prompt.map_err(|e| e.to_string());
        of_json(text, Path::new("p.json")).map(|prompts| prompts.into_iter().map(of).collect())
    }

    #[test]
    fn a_result_is_a_prompt() {
        let text = r#"{"sequence": "M_", "coordinates": [null, [[0,0,1],[0,0,2],[0,1.5,0]]], "plddt": [50, 60],
            "ptm": 0.5, "entropy": {"structure": [0.5, null]}, "sample": 1, "seed": 4}"#;
        let prompt = json(text).unwrap().remove(0).unwrap();
        let (backbone, has_atom) = prompt.atoms.as_ref().unwrap();
        assert!(backbone[0][0][0].is_nan() && backbone[1][2][1] == 1.5 && *has_atom == [false, true]);
        let again = serde_json::to_string(&prompt.document).unwrap();
        assert_eq!(json(&again).unwrap().remove(0).unwrap().document, prompt.document);
    }

    #[test]
    fn a_wrong_document_of_a_list_is_named_with_its_line() {
        let text = "[{\"sequence\": \"M\"},\n {\"sequense\": \"M\"} ,\n\n{\"sequence\": 5},{\"sequence\": \"K\"}]";
        let found = json(text).unwrap();
        assert!(found[0].is_ok() && found[3].is_ok() && found.len() == 4);
        let faults: Vec<&String> = found.iter().filter_map(|p| p.as_ref().err()).collect();
        assert!(
            faults[0].starts_with("p.json: document 2: line 2, column 12: unknown field `sequense`"),
            "{}",
            faults[0]
        );
        assert!(faults[1].contains("document 3: line 4, column 14: invalid type: integer `5`"), "{}", faults[1]);
        for (text, expected) in [
            ("[{} {}]", "does not end"),
            ("[{},\n{\"a\": tru}]", "line 2"),
            ("[]", "no documents"),
            ("{\"a\": 1,}", "line 1"),
        ] {
            let fault = json(text).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn sequences_of_a_fasta_file() {
        let prompts = of_fasta(">a b\nmk_\n>c\nA:C\n").unwrap();
        assert_eq!((prompts[0].name(), prompts[0].document.sequence.as_deref()), ("a", Some("MK_")));
        assert_eq!(prompts[1].document.sequence.as_deref(), Some("A|C"));
        assert!(of_fasta("MK").unwrap_err().contains("line 1"));
    }

    #[test]
    fn ranges_of_residues() {
        assert_eq!(positions("2, 4-5,7-", 8).unwrap(), [1, 3, 4, 6, 7]);
        assert_eq!(positions("all", 2).unwrap(), [0, 1]);
        for (text, expected) in
            [("0-2", "counted from 1"), ("3-2", "not in the protein"), ("9", "has 8"), ("x", "no range")]
        {
            assert!(positions(text, 8).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn masks_hide_sequence_and_structure() {
        let place = |i: usize| [[i as f32, 0., 0.], [i as f32, 1., 0.], [i as f32, 0., 2.]];
        let document = Document { sequence: Some("MK|<unk>A".into()), ..Document::default() };
        let atoms = Some(((0..5).map(place).collect(), vec![true; 5]));
        let mut prompt = Prompt { document, atoms };
        let masks = Masks { sequence: Some("2-4".into()), structure: Some("5".into()) };
        prompt.mask(&masks).unwrap();
        assert_eq!(prompt.document.sequence.as_deref(), Some("M_|_A"));
        let (atoms, has_atom) = prompt.atoms.unwrap();
        assert!(atoms[4][0][0].is_nan() && has_atom == [true, true, true, true, false]);
    }
}
