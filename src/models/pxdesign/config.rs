//! Sizes of PXDesign's network: numbers, no switches. A converted weights file carries its own as JSON.
use serde::{Deserialize, Serialize};

use crate::models::af3::config::{
    Config as FamilyConfig, HeadConfig, MsaConfig, PairConfig, PairformerConfig, SamplingConfig, TemplateConfig,
    TransformerConfig,
};

/// All sizes of the network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Channels of the single conditioning.
    pub c_s: usize,
    /// Channels of the pair representation.
    pub c_z: usize,
    /// Channels of a token in the diffusion module.
    pub c_token: usize,
    /// Channels of a token as the condition embedder's atom encoder makes it; the input embedding has 65 more.
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
    /// Atom encoder of the condition embedder.
    pub input_atoms: TransformerConfig,
    /// Atom encoder of the diffusion module.
    pub atom_encoder: TransformerConfig,
    /// Token transformer of the diffusion module.
    pub token_transformer: TransformerConfig,
    /// Atom decoder of the diffusion module.
    pub atom_decoder: TransformerConfig,
    /// Sampling; each design is one structure of one pass.
    pub sampling: SamplingConfig,
}

impl Config {
    /// The same as sizes of the family, with nothing in place of the parts that PXDesign lacks: templates, alignment, trunk,
    /// confidence.
    pub fn family(&self) -> FamilyConfig {
        let pair = PairConfig { c_hidden_mul: 0, c_hidden_att: 0, n_head: 0, n_transition: 0 };
        let no_trunk = PairformerConfig { n_block: 0, n_head: 0, c_hidden: 0, n_transition: 0, pair };
        FamilyConfig {
            c_s: self.c_s,
            c_z: self.c_z,
            c_m: 0,
            c_t: 0,
            c_token: self.c_token,
            c_token_input: self.c_token_input,
            c_atom: self.c_atom,
            c_atompair: self.c_atompair,
            c_fourier: self.c_fourier,
            n_query: self.n_query,
            n_key: self.n_key,
            r_max: self.r_max,
            s_max: self.s_max,
            n_transition_conditioning: self.n_transition_conditioning,
            template: TemplateConfig { n_block: 0, n_template: 0, pair },
            msa: MsaConfig { n_block: 0, n_head: 0, c_hidden: 0, c_hidden_opm: 0, n_transition: 0, max_rows: 0, pair },
            pairformer: no_trunk,
            confidence: no_trunk,
            input_atoms: self.input_atoms,
            atom_encoder: self.atom_encoder,
            token_transformer: self.token_transformer,
            atom_decoder: self.atom_decoder,
            heads: HeadConfig { n_pae: 0, n_pde: 0, n_plddt: 0, n_distogram: 0, max_atoms_per_token: 0 },
            sampling: self.sampling,
        }
    }
}

/// PXDesign 0.1.0: `configs/configs_base.py` of its repository, with the step scale of its command line.
pub fn release_0_1() -> Config {
    let atoms = TransformerConfig { n_block: 4, n_head: 4, c_hidden: 32, n_transition: 2 };
    Config {
        c_s: 384,
        c_z: 128,
        c_token: 768,
        c_token_input: 384,
        c_atom: 128,
        c_atompair: 16,
        c_fourier: 256,
        n_query: 32,
        n_key: 128,
        r_max: 32,
        s_max: 2,
        n_transition_conditioning: 2,
        input_atoms: TransformerConfig { n_block: 3, ..atoms },
        atom_encoder: atoms,
        token_transformer: TransformerConfig { n_block: 16, n_head: 16, c_hidden: 48, n_transition: 2 },
        atom_decoder: atoms,
        sampling: SamplingConfig {
            n_cycle: 1,
            n_step: 400,
            n_sample: 5,
            sigma_data: 16.0,
            s_max: 160.0,
            s_min: 4e-4,
            p: 7,
            gamma_0: 1.0,
            gamma_min: 0.01,
            noise_scale: 1.003,
            step_scale: 2.5,
        },
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_converter_writes_the_release() {
        let written: super::Config = serde_json::from_str(weights_convert::PXDESIGN.config).expect("a config");
        assert_eq!(written, super::release_0_1());
    }
}
