//! A whole job: a plan in, files out.
pub mod progress;
pub mod store;
