//! AlphaFold2: from queries to structures.
pub mod colabfold;
pub mod filter;
mod memory;
mod output;
pub mod parameters;
pub mod passes;
pub mod peptides;
pub mod predict;
