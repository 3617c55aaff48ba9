//! A whole job: a plan in, files out.
pub mod af2;
mod aside;
pub mod bench;
pub mod design;
pub mod doctor;
pub mod esm3;
mod host;
mod infer;
mod memory;
pub mod mpnn;
pub mod output;
pub mod predict;
pub mod progress;
pub mod protenix;
pub mod shard;
pub mod stop;
pub mod store;
pub mod viewer;
