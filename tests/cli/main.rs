//! The built program: messages, exit codes, output files.
mod bad_input;
#[path = "../common/bad_queries.rs"]
mod bad_queries;
mod bench;
mod features;
mod predict;
mod weights;
