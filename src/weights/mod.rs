//! Converted weights: a memory-mapped safetensors file, walked by prefix, every tensor accounted for.
pub mod demo;
pub mod download;
mod folder;
mod param;
mod quantised;
mod store;

pub use folder::{FOLDER_VARIABLE, default_file, folder};
pub use param::{Format, Matrix, Param};
pub use quantised::{CodeLayout, CodeTensors, Codes, Quantised};
pub use store::{Weights, WeightsError};
