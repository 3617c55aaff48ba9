//! Sizes of ProteinMPNN: numbers, no switches. A converted weights file carries its own as JSON.
use serde::{Deserialize, Serialize};

/// Sizes of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Channels of residues and edges.
    pub c: usize,
    /// Layers of the encoder.
    pub n_encoder: usize,
    /// Layers of the decoder.
    pub n_decoder: usize,
    /// Neighbours of a residue, itself included.
    pub n_neighbour: usize,
}
