//! `fold design`: backbones of binders, sample by sample. Each sample has a random stream of its own, so that what comes of it depends
//! on nothing but the task, the settings, the seed and its number.
pub mod af2;
pub mod backbones;
pub mod check;
pub mod complex;
mod job;
pub mod merge;
pub mod network;
pub mod place;
pub mod report;
pub mod run;
pub mod second;
pub mod sequences;
pub mod settings;
pub mod stage;
pub mod survey;

use std::path::PathBuf;

use super::predict::PredictError;
use super::store::StoreError;
use crate::device::DeviceError;
use crate::weights::WeightsError;

/// Why designs cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DesignError {
    /// The folder holds samples of other settings.
    #[error("{}: holds samples of other settings ({difference}); give another folder with --out, or the settings it was begun with", path.display())]
    OtherSettings {
        /// The settings that are there.
        path: PathBuf,
        /// The first setting that differs.
        difference: String,
    },
    /// A task that no sample can be made of.
    #[error("{task}: {problem}")]
    Task {
        /// Its name.
        task: String,
        /// What is wrong.
        problem: String,
    },
    /// Not even one sample fits the memory.
    #[error(
        "{task}: {stage} of one sample of {n_token} tokens and {n_atom} atoms need about {needed:.1} GB, {available:.1} GB are free; \
         crop the target, free memory, or use a larger machine"
    )]
    Memory {
        /// The task.
        task: String,
        /// What takes as much: backbones, or the predictions of a filter.
        stage: String,
        /// Tokens.
        n_token: usize,
        /// Atoms.
        n_atom: usize,
        /// Estimated peak, in GB.
        needed: f64,
        /// Free memory, in GB.
        available: f64,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Usage(String),
    /// There are no weights of a model that is needed.
    #[error("no weights of {model} found ({}): {remedy}", looked.display())]
    NoWeights {
        /// The model.
        model: &'static str,
        /// Where they were looked for.
        looked: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Nothing to merge.
    #[error("{}: holds no run of fold design (no <task>/run.json)", .0.display())]
    NoRun(PathBuf),
    /// Weights that are not there, and what else a prediction can fail with.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// Weights could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file of the run.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A network failed.
    #[error("the network failed")]
    Network(#[from] candle_core::Error),
}

/// Text of a file that an earlier stage has written; what is wrong in words, since it is wrong with one sample.
fn read_text(path: &std::path::Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// JSON that an earlier stage has written.
fn read_record(path: &std::path::Path) -> Result<serde_json::Value, String> {
    serde_json::from_str(&read_text(path)?).map_err(|_| not_ours(path))
}

fn not_ours(path: &std::path::Path) -> String {
    format!("{}: is not a file of this program; remove it and run again", path.display())
}

/// An error with its causes, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
