//! Sizes of a parameter set: numbers, no switches. A converted weights file carries its own as JSON.
use serde::{Deserialize, Serialize};

use crate::models::af3::config::PairConfig;

/// A stack of Evoformer blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackConfig {
    /// Blocks.
    pub n_block: usize,
    /// Heads of the attention along rows and along columns; they share the channels of the MSA.
    pub n_head: usize,
    /// Channels of each side of the outer product mean.
    pub c_hidden_opm: usize,
    /// Widening of the MSA transition.
    pub n_transition: usize,
    /// The pair half of each block.
    pub pair: PairConfig,
}

/// Attention of a pair to the templates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointwiseConfig {
    /// Heads.
    pub n_head: usize,
    /// Channels a head.
    pub c_hidden: usize,
}

/// The template embedder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// Channels of a template's pair representation.
    pub c_t: usize,
    /// Pair blocks.
    pub n_block: usize,
    /// Slots.
    pub n_template: usize,
    /// Attention to the templates: monomer models; multimer takes their mean.
    pub attention: Option<PointwiseConfig>,
    /// Sizes of each block.
    pub pair: PairConfig,
}

/// The structure module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructureConfig {
    /// Iterations, which share their weights.
    pub n_iteration: usize,
    /// Heads of the point attention.
    pub n_head: usize,
    /// Channels of a head's queries, keys and values.
    pub c_hidden: usize,
    /// Points of a head's queries and keys.
    pub n_point_qk: usize,
    /// Points of a head's values.
    pub n_point_v: usize,
    /// Channels of the side chain's layers.
    pub c_sidechain: usize,
    /// Å in the unit of the backbone's positions.
    pub position_scale: f64,
}

/// The output heads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Channels inside the pLDDT head.
    pub c_plddt: usize,
    /// Bins of pLDDT, 0-1.
    pub n_plddt: usize,
    /// Bins of the distogram, 2-22 Å.
    pub n_distogram: usize,
    /// Letters of the masked MSA.
    pub n_masked_msa: usize,
    /// Bins of the aligned error, 0-32 Å, if the parameter set has the head.
    pub n_pae: Option<usize>,
}

/// All sizes of a parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Features of a residue: 21 letters, and in front of them in monomer models a chain break that is never set.
    pub n_target: usize,
    /// Most cluster centres.
    pub max_msa: usize,
    /// Most rows without a cluster.
    pub max_extra_msa: usize,
    /// Channels of the MSA representation.
    pub c_m: usize,
    /// Channels of the pair representation.
    pub c_z: usize,
    /// Channels of the single representation.
    pub c_s: usize,
    /// Channels of the extra MSA.
    pub c_e: usize,
    /// Clip of relative residue offsets.
    pub r_max: usize,
    /// The Evoformer.
    pub evoformer: StackConfig,
    /// The stack of the extra MSA.
    pub extra_msa: StackConfig,
    /// Templates, if the parameter set has them.
    pub template: Option<TemplateConfig>,
    /// The structure module.
    pub structure: StructureConfig,
    /// The heads.
    pub heads: HeadConfig,
}

impl Config {
    /// Is it one of the multimer models? Only these have no chain break among the features of a residue.
    pub fn is_multimer(&self) -> bool {
        self.n_target == 21
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_converter_writes_configs() {
        for release in &weights_convert::ALPHAFOLD2 {
            let config: Config = serde_json::from_str(release.config).expect(release.version);
            assert_eq!(config.evoformer.pair.c_hidden_mul, config.c_z);
            assert_eq!(config.is_multimer(), release.model == "af2-multimer");
            assert_eq!(config.structure.position_scale, if config.is_multimer() { 20. } else { 10. });
        }
    }
}
