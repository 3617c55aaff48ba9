//! Jobs with ESM3: prompts in, proteins, representations or tokens out.
pub mod document;
pub mod generate;
mod memory;
pub mod models;
pub mod output;
pub mod prompts;
pub mod represent;
mod results;
pub mod score;
pub mod settings;

use std::path::PathBuf;

use super::store::StoreError;
use crate::device::DeviceError;
use crate::features::array::ArrayFileError;
use crate::features::esm3::function::AnnotationError;
use crate::features::esm3::vocabulary::VocabularyError;
use crate::features::esm3::{Track, TrackError};
use crate::io::pdb::PdbError;
use crate::models::esm3::generate::GenerateError;
use crate::weights::WeightsError;

/// Why a job with ESM3 cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Esm3Error {
    /// A part of the model has not been converted.
    #[error("no {}weights of {part} in {}; {}", format.map_or(String::new(), |f| format!("{f} ")), looked.display(), remedy(*format))]
    NoWeights {
        /// The part, as its file is called.
        part: &'static str,
        /// The number format that was asked for.
        format: Option<&'static str>,
        /// Where they were looked for.
        looked: PathBuf,
    },
    /// A prompt file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A prompt file does not hold prompts.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A prompt cannot be used.
    #[error("{name}: {problem}")]
    Prompt {
        /// The prompt.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A protein would not fit the memory.
    #[error("{name}: needs about {needed:.1} GB, {available:.1} GB may be used; {remedy}")]
    Memory {
        /// The prompt.
        name: String,
        /// Estimated peak, in GB.
        needed: f64,
        /// What is free or allowed, in GB.
        available: f64,
        /// What to do about it.
        remedy: String,
    },
    /// Weights could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tables of the function track could not be read.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file of the results.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of arrays.
    #[error(transparent)]
    Arrays(#[from] ArrayFileError),
    /// A structure does not fit the PDB format.
    #[error(transparent)]
    Pdb(#[from] PdbError),
    /// The network failed.
    #[error("the network failed")]
    Network(#[from] candle_core::Error),
}

/// What makes weights of a number format.
fn remedy(format: Option<&str>) -> String {
    match format {
        Some("int8") => "make them with `fold weights quantise esm3 --bits 8`".to_owned(),
        Some("int4") => "make them with `fold weights quantise esm3 --bits 4`".to_owned(),
        Some(format) => format!("convert the official files with `fold weights convert esm3 DIR --dtype {format}`"),
        None => "convert the official files with `fold weights convert esm3 DIR`".to_owned(),
    }
}

impl Esm3Error {
    fn prompt(name: &str, problem: impl ToString) -> Self {
        Self::Prompt { name: name.to_owned(), problem: problem.to_string() }
    }

    fn track(name: &str) -> impl Fn(TrackError) -> Self + '_ {
        move |e| Self::prompt(name, e)
    }

    fn annotation(name: &str) -> impl Fn(AnnotationError) -> Self + '_ {
        move |e| Self::prompt(name, e)
    }

    fn generate(name: &str, track: Track) -> impl Fn(GenerateError) -> Self + '_ {
        move |e| Self::prompt(name, format!("{}: {e}", document::track_name(track)))
    }

    /// Does what went wrong concern every prompt?
    pub fn stops_all(&self) -> bool {
        let own = matches!(
            self,
            Self::Read { .. } | Self::File { .. } | Self::Prompt { .. } | Self::Memory { .. } | Self::Pdb(_)
        );
        !own
    }
}
