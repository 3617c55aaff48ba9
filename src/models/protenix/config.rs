//! A constructor per release of Protenix.
use crate::models::af3::config::{
    Config, HeadConfig, MsaConfig, PairConfig, PairformerConfig, SamplingConfig, TemplateConfig, TransformerConfig,
};

/// `protenix_base_default_v0.5.0`, `configs/configs_base.py` and `configs_model_type.py` of Protenix v0.5.0.
pub fn base_0_5() -> Config {
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
        template: TemplateConfig { n_block: 0, n_template: 0, pair },
        msa: MsaConfig { n_block: 4, n_head: 8, c_hidden: 8, c_hidden_opm: 32, n_transition: 4, max_rows: 16384, pair },
        pairformer,
        confidence: PairformerConfig { n_block: 4, ..pairformer },
        input_atoms: atoms,
        atom_encoder: atoms,
        token_transformer: TransformerConfig { n_block: 24, n_head: 16, c_hidden: 48, n_transition: 2 },
        atom_decoder: atoms,
        heads: HeadConfig { n_pae: 64, n_pde: 64, n_plddt: 50, n_distogram: 64, max_atoms_per_token: 24 },
        sampling: SamplingConfig {
            n_cycle: 10,
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

/// `protenix_mini_default_v0.5.0`, and `protenix_mini_tmpl_v0.5.0`, which has the same sizes and one embedder more.
pub fn mini_0_5() -> Config {
    let base = base_0_5();
    let atoms = TransformerConfig { n_block: 1, ..base.atom_encoder };
    Config {
        msa: MsaConfig { n_block: 1, ..base.msa },
        pairformer: PairformerConfig { n_block: 16, ..base.pairformer },
        atom_encoder: atoms,
        token_transformer: TransformerConfig { n_block: 8, ..base.token_transformer },
        atom_decoder: atoms,
        sampling: SamplingConfig { n_cycle: 4, n_step: 5, gamma_0: 0.0, step_scale: 1.0, ..base.sampling },
        ..base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_converter_writes_the_releases() {
        for (release, ours) in weights_convert::PROTENIX.iter().zip([base_0_5(), mini_0_5(), mini_0_5()]) {
            let written: Config = serde_json::from_str(release.config).expect("a config");
            assert_eq!(written, ours, "{}", release.model);
        }
    }
}
