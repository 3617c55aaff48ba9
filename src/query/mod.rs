//! What was asked: plain data and its dialects.
//!
//! [`read`] takes a file and gives queries in which every sequence and every alignment has been checked, or all faults of
//! the file at once. No weight is needed for it.
mod a3m;
mod fasta;
mod fault;
mod json;
mod msa;
mod openfold3;
pub mod pxdesign;
mod template;

use std::path::{Path, PathBuf};

pub use fault::{Fault, FaultKind, QueryErrors};
pub use msa::{MAIN_ORDER, MsaFile, PAIRED_NAME, PAIRING_NAME, Representative, species};
pub use template::{Template, TemplateChain, template_chains};

use crate::chem::restype;
use openfold3::bad_name;

/// The queries of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySet {
    /// Seeds that the file asks for; the official program reads and ignores them.
    pub seeds: Option<Vec<u32>>,
    /// At least one.
    pub queries: Vec<Query>,
}

/// A complex to predict.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Name for files and folders; unique in its file.
    pub name: String,
    /// Chains in the order of the file.
    pub chains: Vec<Chain>,
    /// False: no alignment at all, not even the query's own sequence; one row of gaps.
    pub use_msas: bool,
    /// False: alignments are not paired between chains.
    pub use_paired_msas: bool,
    /// False: main rows are the query's own sequence.
    pub use_main_msas: bool,
}

/// A protein chain, once for each of its ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Ids of the copies, at least one; unique in the query.
    pub ids: Vec<String>,
    /// Letters of the 20 amino acids and X.
    pub sequence: String,
    /// The last residue is bound to the first.
    pub cyclic: bool,
    /// Free text.
    pub description: Option<String>,
    /// Alignments of this chain's own homologues.
    pub main_msas: Vec<MsaFile>,
    /// Alignments whose rows belong to those of the other chains, row by row.
    pub paired_msas: Vec<MsaFile>,
    /// Structures to lay on it.
    pub templates: Vec<Template>,
}

impl Chain {
    /// A chain without alignments.
    pub fn new(ids: Vec<String>, sequence: String) -> Self {
        let (main_msas, paired_msas, templates) = (Vec::new(), Vec::new(), Vec::new());
        Self { ids, sequence, cyclic: false, description: None, main_msas, paired_msas, templates }
    }
}

impl Query {
    /// A query that uses all alignments its chains have.
    pub fn new(name: String, chains: Vec<Chain>) -> Self {
        Self { name, chains, use_msas: true, use_paired_msas: true, use_main_msas: true }
    }
}

/// Reads a query file: OpenFold3's JSON, FASTA, or an a3m whose first row is the query.
///
/// # Errors
/// Everything that is wrong with the file and with the files it names.
pub fn read(path: &Path) -> Result<QuerySet, QueryErrors> {
    let fail = |kind, message: String| {
        Err(QueryErrors { file: path.to_owned(), faults: vec![Fault { kind, line: 0, place: String::new(), message }] })
    };
    if path.is_dir() {
        return fail(FaultKind::Data, "is a folder: name a query file (.json, .fasta or .a3m)".to_owned());
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return fail(FaultKind::Missing, "no such file".to_owned());
        }
        Err(e) => return fail(FaultKind::Io, format!("cannot be read: {e}")),
    };
    parse(path, &bytes)
}

/// As [`read`], of bytes already read; `path` tells the dialect and where relative paths start.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<QuerySet, QueryErrors> {
    let mut errors = QueryErrors { file: path.to_owned(), faults: Vec::new() };
    let Some(text) = text(bytes, &mut errors) else { return Err(errors) };
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let first = text.trim_start().chars().next();
    let set = match (extension.as_str(), first) {
        (_, None) => {
            errors.data(0, "", "is empty");
            None
        }
        ("a3m", _) => a3m::read(text, path, &mut errors),
        ("json", _) => openfold3::read(text, path, &mut errors),
        ("fasta" | "fa" | "faa" | "fas", _) => fasta::read(text, path, &mut errors),
        (_, Some('{' | '[')) => openfold3::read(text, path, &mut errors),
        (_, Some('#')) => a3m::read(text, path, &mut errors),
        (_, Some('>' | ';')) => fasta::read(text, path, &mut errors),
        _ => {
            errors.data(1, "", "is no query: fold reads OpenFold3's .json, .fasta and .a3m");
            None
        }
    };
    match set {
        Some(set) if errors.faults.is_empty() => Ok(set),
        _ => Err(errors),
    }
}

/// The text of a file, without a byte-order mark.
fn text<'a>(bytes: &'a [u8], errors: &mut QueryErrors) -> Option<&'a str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        errors.data(1, "", "is UTF-16 text: save it as UTF-8");
        return None;
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
            errors.data(line, "", format!("byte {} is not UTF-8 text", e.valid_up_to() + 1));
            None
        }
    }
}

/// Faults of a sequence, one for each character that is no amino acid: its first position and how often it is there.
fn sequence_faults(sequence: &str) -> Vec<String> {
    let mut bad: Vec<(char, usize, usize)> = Vec::new();
    for (i, c) in sequence.chars().enumerate() {
        let known = u8::try_from(c).is_ok_and(|b| restype::amino_acid(b).is_some());
        match bad.iter_mut().find(|(other, ..)| *other == c) {
            _ if known => {}
            Some((_, _, n)) => *n += 1,
            None => bad.push((c, i + 1, 1)),
        }
    }
    let lower = bad.iter().filter(|(c, ..)| c.is_ascii_lowercase()).count();
    if lower > 1 {
        let (_, at, _) = bad.iter().find(|(c, ..)| c.is_ascii_lowercase()).copied().unwrap_or_default();
        bad.retain(|(c, ..)| !c.is_ascii_lowercase());
        let mut faults = vec![format!("lower-case letters from position {at} on: write the sequence in upper case")];
        faults.extend(sequence_faults_of(&bad));
        return faults;
    }
    sequence_faults_of(&bad)
}

fn sequence_faults_of(bad: &[(char, usize, usize)]) -> Vec<String> {
    let fault = |&(c, at, n): &(char, usize, usize)| {
        let more = if n > 1 { format!(" (and {} more)", n - 1) } else { String::new() };
        format!("{c:?} at position {at}{more} is not an amino acid: {}", restype::advice(c))
    };
    const MAX: usize = 5;
    let mut faults: Vec<_> = bad.iter().take(MAX).map(fault).collect();
    if bad.len() > MAX {
        faults.push(format!("{} other characters that are no amino acids", bad.len() - MAX));
    }
    faults
}

/// A name fit for files: other characters than letters, digits, `.`, `-` and `_` become `_`.
fn clean_name(name: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = name.trim_start_matches('.').chars().take(100).map(clean).collect();
    name.trim_matches('_').to_owned()
}

/// The `i`-th chain id: A..Z, AA, BA, ..., ZA, AB, ...
fn chain_id(mut i: usize) -> String {
    let mut id = String::new();
    loop {
        id.push(char::from(b'A' + (i % 26) as u8));
        if i < 26 {
            return id;
        }
        i = i / 26 - 1;
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_go_on_after_z() {
        let ids: Vec<_> = [0, 25, 26, 27, 51, 52, 702].map(chain_id).to_vec();
        assert_eq!(ids, ["A", "Z", "AA", "BA", "ZA", "AB", "AAA"]);
    }

    #[test]
    fn names_are_made_fit_for_files() {
        assert_eq!(clean_name("sp|P0CG48|UBC_HUMAN"), "sp_P0CG48_UBC_HUMAN");
        assert_eq!(clean_name("../a b/"), "a_b");
        assert_eq!(clean_name("§"), "");
    }

    #[test]
    fn each_bad_letter_is_named_once_with_what_to_write() {
        let faults = sequence_faults("MUKUB*");
        assert_eq!(faults.len(), 3);
        assert!(faults[0].starts_with("'U' at position 2 (and 1 more) is not an amino acid: selenocysteine"));
        assert!(faults[1].starts_with("'B' at position 5 is not an amino acid: write D or N"));
        assert_eq!(
            sequence_faults("mKtV"),
            ["lower-case letters from position 1 on: write the sequence in upper case"]
        );
        assert_eq!(sequence_faults("MkV"), ["'k' at position 2 is not an amino acid: write K (upper case)"]);
        assert_eq!(sequence_faults("01234567").len(), 6);
        assert!(sequence_faults("ACDEFGHIKLMNPQRSTVWYX").is_empty());
    }
}
