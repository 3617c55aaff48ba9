//! Files of a prediction: names and layout of AlphaFold 3, one folder a sample.
//!
//! `<name>/seed-<s>_sample-<k>/<name>_seed-<s>_sample-<k>_{model.cif,confidences.json,summary_confidences.json}`, the best
//! sample once more as `<name>/<name>_{..}`, `<name>/<name>_ranking_scores.csv`, and `<name>/run.json`.
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::store::{self, StoreError};

/// A structure file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// mmCIF.
    Cif,
    /// PDB.
    Pdb,
}

impl Format {
    /// File name extension.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Cif => "cif",
            Self::Pdb => "pdb",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cif" => Ok(Self::Cif),
            "pdb" => Ok(Self::Pdb),
            _ => Err("the formats are cif and pdb".to_owned()),
        }
    }
}

/// Settings in `run.json` that do not change a finished sample.
pub const FREE_SETTINGS: &[&str] = &["seeds", "threads", "formats"];

/// Where a sample's files are.
#[derive(Debug, Clone, Copy)]
pub struct SampleFiles<'a> {
    /// Folder of the query.
    pub folder: &'a Path,
    /// Name of the query, safe as a file name.
    pub name: &'a str,
    /// Seed.
    pub seed: u32,
    /// Sample, from 0.
    pub sample: usize,
}

impl SampleFiles<'_> {
    /// Path of the file that ends in `_{what}`.
    pub fn path(&self, what: &str) -> PathBuf {
        let sample = format!("seed-{}_sample-{}", self.seed, self.sample);
        self.folder.join(&sample).join(format!("{}_{sample}_{what}", self.name))
    }

    /// Are all files of the sample there? The summary is written last.
    pub fn done(&self, formats: &[Format]) -> bool {
        let structures = formats.iter().map(|f| format!("model.{}", f.extension()));
        let others = [CONFIDENCES, SUMMARY].map(str::to_owned);
        structures.chain(others).all(|what| self.path(&what).is_file())
    }
}

/// Why results cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file of the run.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// JSON with one space of indentation, ended by a newline.
pub fn pretty(value: &serde_json::Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}

/// Per-atom and per-pair confidences.
const CONFIDENCES: &str = "confidences.json";
/// Scores of the structure and its chains.
const SUMMARY: &str = "summary_confidences.json";
