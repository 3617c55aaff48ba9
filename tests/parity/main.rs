//! Every layer, model and pipeline against golden files of the official implementations.
mod af2;
mod af2_complexes;
mod af2_features;
mod af2_filter;
mod af2_outputs;
mod af2_passes;
mod af2_recorded;
mod af2_templates;
mod atoms;
#[path = "../common/mod.rs"]
mod common;
mod design_files;
mod esm3;
mod esm3_generate;
mod features;
mod layers;
mod mpnn;
mod openfold3;
mod outputs;
mod protenix;
mod protenix_features;
mod protenix_filter;
mod pxdesign;
mod pxdesign_features;
mod ranking;
mod rng;
mod scores;
