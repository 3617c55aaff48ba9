//! Files of settings in the formats of the official program: one JSON object a line, by the names of the structures.
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::MpnnError;
use crate::io::fasta;

/// What such files say; empty where none was given.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// `{name: [[designed chains], [fixed chains]]}`
    pub chains: Map<String, Value>,
    /// `{name: {chain: [place]}}`
    pub fixed: Map<String, Value>,
    /// `{name: {chain: [[[place], letters]]}}`
    pub omit: Map<String, Value>,
    /// `{letter: bias}`
    pub bias: Map<String, Value>,
    /// `{name: {chain: [[bias]]}}`, rows of 21
    pub bias_by_residue: Map<String, Value>,
    /// `{name: [{chain: [place] or [[place], [weight]]}]}`
    pub tied: Map<String, Value>,
    /// `{name: {chain: {pssm_coef, pssm_bias, pssm_log_odds}}}`
    pub pssm: Map<String, Value>,
}

/// Where they are.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// See [`Tables::chains`].
    pub chains: Option<PathBuf>,
    /// See [`Tables::fixed`].
    pub fixed: Option<PathBuf>,
    /// See [`Tables::omit`].
    pub omit: Option<PathBuf>,
    /// See [`Tables::bias`].
    pub bias: Option<PathBuf>,
    /// See [`Tables::bias_by_residue`].
    pub bias_by_residue: Option<PathBuf>,
    /// See [`Tables::tied`].
    pub tied: Option<PathBuf>,
    /// See [`Tables::pssm`].
    pub pssm: Option<PathBuf>,
}

impl Tables {
    /// Reads all that are named.
    ///
    /// # Errors
    /// A file that cannot be read, or a line that is no JSON object.
    pub fn read(paths: &Paths) -> Result<Self, MpnnError> {
        let of = |path: &Option<PathBuf>| path.as_deref().map_or_else(|| Ok(Map::new()), read);
        Ok(Self {
            chains: of(&paths.chains)?,
            fixed: of(&paths.fixed)?,
            omit: of(&paths.omit)?,
            bias: of(&paths.bias)?,
            bias_by_residue: of(&paths.bias_by_residue)?,
            tied: of(&paths.tied)?,
            pssm: of(&paths.pssm)?,
        })
    }
}

/// Names and sequences of a FASTA file.
///
/// # Errors
/// A file that cannot be read, or a sequence without a name.
pub fn sequences(path: &Path) -> Result<Vec<(String, String)>, MpnnError> {
    let text = std::fs::read_to_string(path).map_err(|source| MpnnError::Read { path: path.to_owned(), source })?;
    let problem = "a sequence before the first line that begins with >".to_owned();
    let records = fasta::parse(&text).map_err(|line| MpnnError::Table { path: path.to_owned(), line, problem })?;
    Ok(records.into_iter().map(|r| (r.header.to_owned(), r.sequence)).collect())
}

fn read(path: &Path) -> Result<Map<String, Value>, MpnnError> {
    let text = std::fs::read_to_string(path).map_err(|source| MpnnError::Read { path: path.to_owned(), source })?;
    let mut all = Map::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |problem: String| MpnnError::Table { path: path.to_owned(), line: i + 1, problem };
        match serde_json::from_str(line) {
            Ok(Value::Object(object)) => all.extend(object),
            Ok(_) => return Err(wrong("is no JSON object".to_owned())),
            Err(e) => return Err(wrong(e.to_string())),
        }
    }
    Ok(all)
}
