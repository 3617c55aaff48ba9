//! Sizes of an AF3-family model: numbers, no switches. A converted weights file carries its own as JSON.
use serde::{Deserialize, Serialize};

use crate::features::af3::N_RESTYPE;

/// A stack of pair blocks: triangle updates, triangle attention, transition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairConfig {
    /// Channels inside the triangle multiplication.
    pub c_hidden_mul: usize,
    /// Channels a head in triangle attention.
    pub c_hidden_att: usize,
    /// Heads of triangle attention.
    pub n_head: usize,
    /// Widening of the transition.
    pub n_transition: usize,
}

/// A stack of Pairformer blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairformerConfig {
    /// Blocks.
    pub n_block: usize,
    /// Heads of attention with pair bias.
    pub n_head: usize,
    /// Channels a head.
    pub c_hidden: usize,
    /// Widening of the single transition.
    pub n_transition: usize,
    /// The pair half of each block.
    pub pair: PairConfig,
}

/// The MSA module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsaConfig {
    /// Blocks; the last has no row update.
    pub n_block: usize,
    /// Heads of pair-weighted averaging.
    pub n_head: usize,
    /// Channels a head.
    pub c_hidden: usize,
    /// Channels of each side of the outer product mean.
    pub c_hidden_opm: usize,
    /// Widening of the MSA transition.
    pub n_transition: usize,
    /// Rows kept in each cycle.
    pub max_rows: usize,
    /// The pair half of each block.
    pub pair: PairConfig,
}

/// The template embedder.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// Pair blocks.
    pub n_block: usize,
    /// Templates; absent ones are embedded as gaps.
    pub n_template: usize,
    /// Sizes of each block.
    pub pair: PairConfig,
}

/// A transformer conditioned on the single representation, over atoms or tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Blocks.
    pub n_block: usize,
    /// Heads.
    pub n_head: usize,
    /// Channels a head.
    pub c_hidden: usize,
    /// Widening of the conditioned transition.
    pub n_transition: usize,
}

/// Defaults of a prediction and constants of the noise schedule (AF3 SI Alg. 18).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Passes through the trunk.
    pub n_cycle: usize,
    /// Denoising steps.
    pub n_step: usize,
    /// Structures a seed.
    pub n_sample: usize,
    /// Standard deviation of the data, in Å.
    pub sigma_data: f32,
    /// Highest noise level, in units of `sigma_data`.
    pub s_max: f64,
    /// Lowest noise level, in units of `sigma_data`.
    pub s_min: f64,
    /// Exponent of the schedule.
    pub p: i32,
    /// Noise added back above `gamma_min`, relative to the level.
    pub gamma_0: f32,
    /// Noise level below which none is added back, in Å.
    pub gamma_min: f32,
    /// λ of Alg. 18.
    pub noise_scale: f32,
    /// η of Alg. 18.
    pub step_scale: f32,
}

/// Bins of the output heads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Bins of the aligned error, 0-32 Å.
    pub n_pae: usize,
    /// Bins of the distance error, 0-32 Å.
    pub n_pde: usize,
    /// Bins of pLDDT, 0-1.
    pub n_plddt: usize,
    /// Bins of the distogram, 2-22 Å.
    pub n_distogram: usize,
    /// Atoms that the per-atom heads have outputs for in each token.
    pub max_atoms_per_token: usize,
}

/// All sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Channels of the single representation.
    pub c_s: usize,
    /// Channels of the pair representation.
    pub c_z: usize,
    /// Channels of the MSA representation.
    pub c_m: usize,
    /// Channels of the template representation.
    pub c_t: usize,
    /// Channels of a token in the diffusion module.
    pub c_token: usize,
    /// Channels of a token as the input embedder's atom encoder makes it.
    pub c_token_input: usize,
    /// Channels of an atom.
    pub c_atom: usize,
    /// Channels of an atom pair.
    pub c_atompair: usize,
    /// Values of the Fourier embedding of the noise level.
    pub c_fourier: usize,
    /// Atoms in a window of queries.
    pub n_query: usize,
    /// Atoms in a window of keys.
    pub n_key: usize,
    /// Clip of relative residue and token offsets.
    pub r_max: usize,
    /// Clip of relative chain offsets.
    pub s_max: usize,
    /// Widening of the transitions in the diffusion conditioning.
    pub n_transition_conditioning: usize,
    /// Template embedder.
    pub template: TemplateConfig,
    /// MSA module.
    pub msa: MsaConfig,
    /// Trunk.
    pub pairformer: PairformerConfig,
    /// Confidence head's own Pairformer.
    pub confidence: PairformerConfig,
    /// Atom encoder of the input embedder.
    pub input_atoms: TransformerConfig,
    /// Atom encoder of the diffusion module.
    pub atom_encoder: TransformerConfig,
    /// Token transformer of the diffusion module.
    pub token_transformer: TransformerConfig,
    /// Atom decoder of the diffusion module.
    pub atom_decoder: TransformerConfig,
    /// Output heads.
    pub heads: HeadConfig,
    /// Sampling.
    pub sampling: SamplingConfig,
}

impl Config {
    /// Width of the input embedding: token, restype, profile, deletion mean.
    pub fn c_s_input(&self) -> usize {
        self.c_token_input + 2 * N_RESTYPE + 1
    }

    /// Width of the relative position encoding: residue, token, same entity, chain.
    pub fn c_relpos(&self) -> usize {
        2 * (2 * self.r_max + 2) + 1 + (2 * self.s_max + 2)
    }
}
