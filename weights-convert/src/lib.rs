//! Official checkpoints to safetensors: readers that execute nothing, and maps from official names to ours.
//!
//! [`convert`] reads a torch checkpoint one tensor at a time, renames and stacks its tensors as the text table of its
//! release says ([`Map`]), and writes a safetensors file whose metadata say what it is and where it comes from.
mod checkpoint;
mod convert;
mod error;
mod file;
mod map;
mod number;
mod pickle;
mod release;
mod zip;

pub use checkpoint::{Checkpoint, Tensor};
pub use convert::{Check, Options, Progress, Report, convert};
pub use error::{Error, Kind, MapError};
pub use file::{Header, TensorHeader, read_header, verify};
pub use map::{Map, Plan};
pub use number::Dtype;
pub use release::{Model, OPENFOLD3, Release};
