//! Assembly, alignments and templates to host arrays; pure, with the randomness passed in.
pub mod af2;
pub mod af3;
pub mod array;
pub mod esm3;
pub mod mpnn;
pub mod msa;
pub mod noise;
pub mod pairing;
pub mod protenix;
pub mod pxdesign;
pub mod template;
