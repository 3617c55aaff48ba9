//! A constructor per release of OpenFold3.
use crate::models::af3::config::{
    Config, HeadConfig, MsaConfig, PairConfig, PairformerConfig, SamplingConfig, TemplateConfig, TransformerConfig,
};

/// OpenFold3 0.5.0 (model version 2.0.0), `projects/of3_all_atom/config/model_config.py`.
pub fn release_0_5() -> Config {
    let pair = PairConfig { c_hidden_mul: 128, c_hidden_att: 32, n_head: 4, n_transition: 4 };
    let pairformer = PairformerConfig { n_block: 48, n_head: 16, c_hidden: 24, n_transition: 4, pair };
    let atoms = TransformerConfig { n_block: 3, n_head: 4, c_hidden: 32, n_transition: 2 };
    Config {
        c_s: 384,
        c_z: 128,
        c_m: 64,
        c_t: 64,
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
        template: TemplateConfig {
            n_block: 2,
            n_template: 4,
            pair: PairConfig { c_hidden_mul: 64, c_hidden_att: 16, n_head: 4, n_transition: 2 },
        },
        msa: MsaConfig { n_block: 4, n_head: 8, c_hidden: 8, c_hidden_opm: 32, n_transition: 4, max_rows: 1024, pair },
        pairformer,
        confidence: PairformerConfig { n_block: 4, ..pairformer },
        input_atoms: atoms,
        atom_encoder: atoms,
        token_transformer: TransformerConfig { n_block: 24, n_head: 16, c_hidden: 48, n_transition: 2 },
        atom_decoder: atoms,
        heads: HeadConfig { n_pae: 64, n_pde: 64, n_plddt: 50, n_distogram: 64, max_atoms_per_token: 23 },
        sampling: SamplingConfig {
            n_cycle: 4,
            n_step: 200,
            n_sample: 5,
            sigma_data: 16.0,
            s_max: 160.0,
            s_min: 4e-4,
            p: 7,
            gamma_0: 0.8,
            gamma_min: 1.0,
            noise_scale: 1.003,
            step_scale: 1.5,
        },
    }
}

/// A small model for the program to show and check itself with, where there are no trained weights.
pub fn untrained() -> Config {
    let pair = PairConfig { c_hidden_mul: 32, c_hidden_att: 16, n_head: 2, n_transition: 2 };
    let pairformer = PairformerConfig { n_block: 2, n_head: 4, c_hidden: 16, n_transition: 2, pair };
    let atoms = TransformerConfig { n_block: 1, n_head: 2, c_hidden: 16, n_transition: 2 };
    let release = release_0_5();
    Config {
        c_s: 64,
        c_z: 32,
        c_m: 32,
        c_t: 16,
        c_token: 64,
        c_token_input: 64,
        c_atom: 32,
        c_atompair: 8,
        c_fourier: 64,
        template: TemplateConfig {
            n_block: 1,
            n_template: 4,
            pair: PairConfig { c_hidden_mul: 16, c_hidden_att: 8, n_head: 2, n_transition: 2 },
        },
        msa: MsaConfig { n_block: 1, n_head: 2, c_hidden: 8, c_hidden_opm: 8, n_transition: 2, pair, ..release.msa },
        pairformer,
        confidence: PairformerConfig { n_block: 1, ..pairformer },
        input_atoms: atoms,
        atom_encoder: atoms,
        token_transformer: TransformerConfig { n_block: 2, n_head: 4, c_hidden: 16, n_transition: 2 },
        atom_decoder: atoms,
        sampling: SamplingConfig { n_cycle: 2, n_step: 20, n_sample: 2, ..release.sampling },
        ..release
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_converter_writes_the_release() {
        let written: super::Config = serde_json::from_str(weights_convert::OPENFOLD3.config).expect("a config");
        assert_eq!(written, super::release_0_5());
    }
}
