//! AlphaFold2: from features to structures.
pub mod filter;
pub mod passes;
