//! Prediction and design of protein structures: the library behind the `fold` program.
pub mod assembly;
pub mod chem;
pub mod cli;
pub mod device;
pub mod features;
pub mod geometry;
pub mod io;
pub mod models;
pub mod ops;
pub mod pipelines;
pub mod plot;
pub mod query;
pub mod score;
pub mod weights;
