//! AlphaFold2: from features to structures.
pub mod passes;
