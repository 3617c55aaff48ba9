//! Exit codes: 0 all done, 1 some queries failed, 2 usage, and those of sysexits.h for what can be told apart.
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::chem::dictionary::DictionaryError;
use crate::features::array::ArrayFileError;
use crate::pipelines::design::DesignError;
use crate::pipelines::esm3::Esm3Error;
use crate::pipelines::mpnn::MpnnError;
use crate::pipelines::output::OutputError;
use crate::pipelines::predict::PredictError;
use crate::pipelines::store::StoreError;
use crate::query::{FaultKind, QueryErrors};
use crate::weights::WeightsError;
use crate::weights::download::DownloadError;

/// Some inputs failed; the others are done.
pub const SOME_FAILED: u8 = 1;
/// A usage error that the argument parser cannot see.
pub const USAGE: u8 = 2;
/// Input that is there but wrong: query, features, checkpoint, weights.
pub const DATA: u8 = 65;
/// An input file that is not there.
pub const NO_INPUT: u8 = 66;
/// The job does not fit the memory: refused before it began.
pub const MEMORY: u8 = 71;
/// Stopped before it was done, by a signal or at the end of its time: the same command goes on.
pub const STOPPED: u8 = 75;
/// Reading or writing failed: a full disk, a missing right.
pub const IO: u8 = 74;

/// A mistake in how the program was called.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The code of the first cause that has one.
pub fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(error.chain().find_map(of_cause).unwrap_or(SOME_FAILED))
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<Usage>() || cause.is::<crate::device::DeviceError>() {
        return Some(USAGE);
    }
    if let Some(e) = cause.downcast_ref::<PredictError>() {
        match e {
            PredictError::Memory { .. } => return Some(MEMORY),
            PredictError::NoWeights { .. } | PredictError::NoParameters { .. } => return Some(NO_INPUT),
            PredictError::Usage(_) => return Some(USAGE),
            PredictError::Features { .. } | PredictError::Query(..) => return Some(DATA),
            // Transparent errors are not in the chain themselves.
            PredictError::FeatureFile(e) => return of_cause(e),
            PredictError::Weights(e) => return of_cause(e),
            PredictError::Device(e) => return of_cause(e),
            PredictError::Store(e) => return of_cause(e),
            PredictError::Output(e) => return of_cause(e),
            _ => {}
        }
    }
    if let Some(e) = cause.downcast_ref::<Esm3Error>() {
        match e {
            Esm3Error::NoWeights { .. } => return Some(NO_INPUT),
            Esm3Error::Memory { .. } => return Some(MEMORY),
            Esm3Error::File { .. } | Esm3Error::Prompt { .. } | Esm3Error::Vocabulary(_) => return Some(DATA),
            Esm3Error::Pdb(_) => return Some(USAGE),
            Esm3Error::Weights(e) => return of_cause(e),
            Esm3Error::Device(e) => return of_cause(e),
            Esm3Error::Store(e) => return of_cause(e),
            Esm3Error::Arrays(e) => return of_cause(e),
            _ => {}
        }
    }
    if let Some(e) = cause.downcast_ref::<MpnnError>() {
        match e {
            MpnnError::NoWeights(_) => return Some(NO_INPUT),
            MpnnError::Table { .. } | MpnnError::Structure { .. } => return Some(DATA),
            MpnnError::Usage(_) => return Some(USAGE),
            // Transparent errors are not in the chain themselves.
            MpnnError::Weights(e) => return of_cause(e),
            MpnnError::Store(e) => return of_cause(e),
            MpnnError::Arrays(e) => return of_cause(e),
            _ => {}
        }
    }
    if let Some(e) = cause.downcast_ref::<DesignError>() {
        match e {
            DesignError::OtherSettings { .. } | DesignError::Usage(_) => return Some(USAGE),
            DesignError::Task { .. } => return Some(DATA),
            DesignError::Memory { .. } => return Some(MEMORY),
            DesignError::NoRun(_) | DesignError::NoWeights { .. } => return Some(NO_INPUT),
            DesignError::Predict(e) => return of_cause(e),
            DesignError::Weights(e) => return of_cause(e),
            DesignError::Device(e) => return of_cause(e),
            DesignError::Store(e) => return of_cause(e),
            DesignError::Network(_) => {}
        }
    }
    match cause.downcast_ref::<OutputError>() {
        Some(OutputError::Pdb(_)) => return Some(USAGE),
        Some(OutputError::Store(e)) => return of_cause(e),
        _ => {}
    }
    if let Some(e) = cause.downcast_ref::<QueryErrors>() {
        return Some(match e.kind() {
            FaultKind::Missing => NO_INPUT,
            FaultKind::Data => DATA,
            FaultKind::Io => IO,
        });
    }
    if let Some(ArrayFileError::Format { .. } | ArrayFileError::Misfit { .. }) = cause.downcast_ref() {
        return Some(DATA);
    }
    if let Some(DictionaryError::NotOne { .. }) = cause.downcast_ref() {
        return Some(DATA);
    }
    if let Some(e) = cause.downcast_ref::<weights_convert::Error>() {
        return Some(match e.kind() {
            weights_convert::Kind::Missing => NO_INPUT,
            weights_convert::Kind::Io => IO,
            _ => DATA,
        });
    }
    match cause.downcast_ref::<DownloadError>() {
        Some(DownloadError::Refused { .. }) => return Some(NO_INPUT),
        Some(_) => return Some(IO),
        None => {}
    }
    if let Some(StoreError::OtherSettings { .. }) = cause.downcast_ref() {
        return Some(USAGE);
    }
    if let Some(WeightsError::Format { .. } | WeightsError::Misfit { .. } | WeightsError::Config { .. }) =
        cause.downcast_ref()
    {
        return Some(DATA);
    }
    // A transparent error hides itself from the chain, not its source.
    let io = cause.downcast_ref::<std::io::Error>().or_else(|| cause.source()?.downcast_ref())?;
    Some(if io.kind() == ErrorKind::NotFound { NO_INPUT } else { IO })
}
