//! A whole job: a plan in, files out.
mod aside;
pub mod bench;
pub mod doctor;
mod host;
mod infer;
mod memory;
pub mod output;
pub mod predict;
pub mod progress;
pub mod store;
