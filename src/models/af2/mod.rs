//! AlphaFold2: monomer models 1 to 5 and multimer version 3, as `alphafold-colabfold` 2.3.27 has them, in float32.
pub mod atoms;
pub mod columns;
pub mod config;
pub mod embed;
pub mod evoformer;
pub mod heads;
pub mod ipa;
pub mod monomer;
pub mod multimer;
pub mod multimer_template;
pub mod recycle;
pub mod structure;
pub mod template;
