//! Official checkpoints to safetensors: readers that execute nothing, and maps from official names to ours.
//!
//! [`convert`] reads a checkpoint of torch or numpy one tensor at a time, renames and stacks its tensors as the text table of its
//! release says ([`Map`]), and writes a safetensors file whose metadata say what it is and where it comes from. [`quantise`] makes of
//! such a file one of 4 or 8 bits a weight.
mod affine;
mod alphafold2;
mod axes;
mod checkpoint;
mod convert;
mod error;
mod esm3;
mod esm3_data;
mod file;
mod map;
mod mpnn;
mod npz;
mod number;
mod pickle;
mod protenix;
mod quantise;
mod release;
mod section;
mod zip;

pub use alphafold2::{ALPHAFOLD2, parameter_files, parameter_set};
pub use checkpoint::{Checkpoint, Tensor};
pub use convert::{Check, Options, Progress, Report, convert};
pub use error::{Error, Kind, MapError};
pub use esm3::{ESM3, ESM3_FILES, esm3_files, esm3_format};
pub use esm3_data::{ESM3_DATA, convert_esm3_data};
pub use file::{Header, TensorHeader, read_header, verify};
pub use map::{Map, Named, Plan, Source};
pub use mpnn::{MPNN, mpnn_release};
pub use number::Dtype;
pub use protenix::{PROTENIX, protenix_release};
pub use quantise::{QuantiseOptions, QuantiseReport, quantise};
pub use release::{Model, OPENFOLD3, PXDESIGN, Release};
