//! Sizes of the four networks: numbers, no switches. A converted weights file carries its own as JSON.
use serde::{Deserialize, Serialize};

/// The trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// Channels.
    pub c: usize,
    /// Heads of the attention.
    pub n_head: usize,
    /// Heads of the geometric attention in the first block.
    pub n_vector_head: usize,
    /// Blocks.
    pub n_block: usize,
    /// Channels inside a transition.
    pub c_transition: usize,
}

/// The structure encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructureEncoderConfig {
    /// Channels.
    pub c: usize,
    /// Heads of the geometric attention.
    pub n_vector_head: usize,
    /// Blocks.
    pub n_block: usize,
    /// Channels inside a transition.
    pub c_transition: usize,
    /// Channels of a code.
    pub c_code: usize,
    /// Codes.
    pub n_code: usize,
}

/// The structure decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructureDecoderConfig {
    /// Channels.
    pub c: usize,
    /// Heads of the attention.
    pub n_head: usize,
    /// Blocks.
    pub n_block: usize,
    /// Channels inside a transition.
    pub c_transition: usize,
}

/// The function decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionDecoderConfig {
    /// Channels.
    pub c: usize,
    /// Heads of the attention.
    pub n_head: usize,
    /// Blocks.
    pub n_block: usize,
    /// Keywords that can be told.
    pub n_keyword: usize,
    /// InterPro entries that can be told.
    pub n_interpro: usize,
}

/// All four, for checkpoints of other sizes than the released ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The trunk.
    pub trunk: TrunkConfig,
    /// The structure encoder.
    pub structure_encoder: StructureEncoderConfig,
    /// The structure decoder.
    pub structure_decoder: StructureDecoderConfig,
    /// The function decoder.
    pub function_decoder: FunctionDecoderConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `swiglu_correction_fn`: the next multiple of 256 from 8/3 (decoders) or 4 (encoder) times the channels.
    #[test]
    fn the_converter_writes_configs() {
        let [trunk, encoder, decoder, function] = weights_convert::ESM3.map(|release| release.config);
        let trunk: TrunkConfig = serde_json::from_str(trunk).unwrap();
        assert_eq!(trunk.c_transition, (8 * trunk.c / 3).next_multiple_of(256));
        let encoder: StructureEncoderConfig = serde_json::from_str(encoder).unwrap();
        assert_eq!(encoder.c_transition, 4 * encoder.c);
        let decoder: StructureDecoderConfig = serde_json::from_str(decoder).unwrap();
        assert_eq!(decoder.c_transition, (8 * decoder.c / 3).next_multiple_of(256));
        let function: FunctionDecoderConfig = serde_json::from_str(function).unwrap();
        assert_eq!((function.n_keyword, function.n_interpro), (58_641, 29_026));
    }
}
