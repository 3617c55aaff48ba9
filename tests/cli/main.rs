//! The built program: messages, exit codes, output files.
mod af2;
mod bad_input;
#[path = "../common/bad_queries.rs"]
mod bad_queries;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod demo;
mod design;
mod design_check;
mod design_report;
mod design_second;
mod esm3;
mod esm3_runs;
mod features;
mod geometry;
mod predict;
mod pull;
mod quantise;
mod sequences;
mod weights;
