//! Assembly, alignments and templates to host arrays; pure, with the randomness passed in.
pub mod noise;
