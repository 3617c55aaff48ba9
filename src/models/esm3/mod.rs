//! ESM3-open: trunk over all tracks, structure encoder and decoder (VQ-VAE), function decoder, as esm 3.2.1 has them, in float32.
pub mod config;
pub mod cost;
pub mod frames;
pub mod function_decoder;
pub mod generate;
pub mod heads;
pub mod sample;
pub mod structure_decoder;
pub mod structure_encoder;
pub mod tracks;
pub mod transformer;
pub mod trunk;
