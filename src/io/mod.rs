//! Bytes to plain structs and back; no chemistry, no tensors.
pub mod a3m;
pub mod backbone;
pub mod cif;
pub mod colabfold;
pub mod complex;
pub mod confidence;
pub mod coordinates;
pub mod fasta;
pub mod mmcif;
pub mod pdb;
pub mod sites;
pub mod stockholm;
pub mod structure;
