//! `fold design sequences`: ProteinMPNN by the rules of the official program, file by file.
mod output;
pub mod problem;
mod run;
pub mod tables;
pub mod variant;

pub use run::{Ask, Plan, Probabilities, run};

use std::path::PathBuf;

use super::store::StoreError;
use crate::features::array::ArrayFileError;
use crate::weights::WeightsError;

/// Why sequences cannot be designed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MpnnError {
    /// A file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a file of settings.
    #[error("{}: line {line}: {problem}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A structure, or what was asked of it.
    #[error("{}: {problem}", path.display())]
    Structure {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Weights that are not there.
    #[error(
        "{}: is not there; get ProteinMPNN's checkpoints (github.com/dauparas/ProteinMPNN) and convert them: \
         fold weights convert mpnn vanilla_model_weights/v_48_020.pt",
        .0.display()
    )]
    NoWeights(PathBuf),
    /// What was asked does not make sense.
    #[error("{0}")]
    Usage(String),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of the results.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of arrays.
    #[error(transparent)]
    Arrays(#[from] ArrayFileError),
    /// The network failed.
    #[error("the network failed")]
    Network(#[from] candle_core::Error),
}
