//! The AlphaFold 3 family: parts that OpenFold3, Protenix and PXDesign compose; knows no product's name.
pub mod atom_attention;
pub mod batch;
pub mod conditioning;
pub mod confidence;
pub mod config;
pub mod cost;
pub mod diffusion;
pub mod embed;
pub mod msa_module;
pub mod pairformer;
pub mod relpos;
pub mod sample;
pub mod template;
pub mod token_transformer;
