//! Converted weights: a memory-mapped safetensors file, walked by prefix, every tensor accounted for.
mod param;
mod store;

pub use param::Param;
pub use store::{Weights, WeightsError};
