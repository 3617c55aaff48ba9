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

impl Config {
    /// Random numbers that the official program draws after its seed, for parameters that the file then replaces: matrices twice, by the
    /// layers and by the network, and biases of linear layers. Its sequences follow from the numbers behind these.
    pub fn n_initial(&self, ca_only: bool) -> usize {
        let c = self.c;
        let (matrix, bias) = (|k: usize, n: usize| 2 * k * n, |k: usize, n: usize| 2 * k * n + n);
        let square = bias(c, c);
        let wide = bias(c, 4 * c) + bias(4 * c, c);
        let edges = bias(66, 16) + matrix(if ca_only { 167 } else { 416 }, c);
        let unused = if ca_only { matrix(3, c) + square } else { 0 };
        let encoder = 2 * bias(3 * c, c) + 4 * square + wide;
        let decoder = bias(4 * c, c) + 2 * square + wide;
        edges + unused + square + matrix(21, c) + bias(c, 21) + self.n_encoder * encoder + self.n_decoder * decoder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted in the official program.
    #[test]
    fn numbers_drawn_for_parameters() {
        let config = Config { c: 128, n_encoder: 3, n_decoder: 3, n_neighbour: 48 };
        assert_eq!((config.n_initial(false), config.n_initial(true)), (3_305_317, 3_275_237));
    }
}
