//! Every layer, model and pipeline against golden files of the official implementations.
#[path = "../common/mod.rs"]
mod common;
mod features;
mod openfold3;
mod rng;
mod scores;
