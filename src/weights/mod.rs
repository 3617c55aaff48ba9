//! Converted weights: a memory-mapped safetensors file, walked by prefix, every tensor accounted for.
pub mod demo;
pub mod download;
mod folder;
mod param;
mod store;

pub use folder::{FOLDER_VARIABLE, default_file, folder};
pub use param::{Matrix, Param};
pub use store::{Weights, WeightsError};
