//! Exit codes: 0 all done, 1 some queries failed, 2 usage, and those of sysexits.h for what can be told apart.
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::pipelines::store::StoreError;
use crate::weights::WeightsError;

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
    if let Some(StoreError::OtherSettings { .. }) = cause.downcast_ref() {
        return Some(USAGE);
    }
    if let Some(WeightsError::Format { .. } | WeightsError::Misfit { .. } | WeightsError::Config { .. }) =
        cause.downcast_ref()
    {
        return Some(DATA);
    }
    let io = cause.downcast_ref::<std::io::Error>()?;
    Some(if io.kind() == ErrorKind::NotFound { NO_INPUT } else { IO })
}
