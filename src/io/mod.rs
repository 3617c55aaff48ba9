//! Bytes to plain structs and back; no chemistry, no tensors.
pub mod a3m;
pub mod fasta;
pub mod stockholm;
