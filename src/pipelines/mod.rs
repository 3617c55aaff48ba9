//! A whole job: a plan in, files out.
pub mod doctor;
pub mod output;
pub mod predict;
pub mod progress;
pub mod store;
