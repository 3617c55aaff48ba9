//! The releases of Protenix v0.5.0 that PXDesign filters with: base, mini, and mini with given positions (tmpl).
use crate::error::list;
use crate::release::Release;
use crate::{Checkpoint, Error};

/// Sizes of a pair block, which all releases share.
macro_rules! pair {
    () => {
        r#""pair": {"c_hidden_mul": 128, "c_hidden_att": 32, "n_head": 4, "n_transition": 4}}"#
    };
}

/// Sizes: blocks of the MSA module, trunk, atom transformers of the diffusion module and its token transformer; sampling.
macro_rules! sizes {
    ($msa:literal, $trunk:literal, $atoms:literal, $tokens:literal, $sampling:literal) => {
        concat!(
            r#"{"c_s": 384, "c_z": 128, "c_m": 64, "c_t": 64, "c_token": 768, "c_token_input": 384, "c_atom": 128, "#,
            r#""c_atompair": 16, "c_fourier": 256, "n_query": 32, "n_key": 128, "r_max": 32, "s_max": 2, "#,
            r#""n_transition_conditioning": 2, "template": {"n_block": 0, "n_template": 0, "#,
            pair!(),
            r#", "msa": {"n_block": "#,
            $msa,
            r#", "n_head": 8, "c_hidden": 8, "c_hidden_opm": 32, "n_transition": 4, "max_rows": 16384, "#,
            pair!(),
            r#", "pairformer": {"n_block": "#,
            $trunk,
            r#", "n_head": 16, "c_hidden": 24, "n_transition": 4, "#,
            pair!(),
            r#", "confidence": {"n_block": 4, "n_head": 16, "c_hidden": 24, "n_transition": 4, "#,
            pair!(),
            r#", "input_atoms": {"n_block": 3, "n_head": 4, "c_hidden": 32, "n_transition": 2}, "#,
            r#""atom_encoder": {"n_block": "#,
            $atoms,
            r#", "n_head": 4, "c_hidden": 32, "n_transition": 2}, "token_transformer": {"n_block": "#,
            $tokens,
            r#", "n_head": 16, "c_hidden": 48, "n_transition": 2}, "atom_decoder": {"n_block": "#,
            $atoms,
            r#", "n_head": 4, "c_hidden": 32, "n_transition": 2}, "heads": {"n_pae": 64, "n_pde": 64, "n_plddt": 50, "#,
            r#""n_distogram": 64, "max_atoms_per_token": 24}, "sampling": {"#,
            $sampling,
            r#", "n_sample": 5, "sigma_data": 16.0, "s_max": 160.0, "s_min": 0.0004, "p": 7, "gamma_min": 1.0, "#,
            r#""noise_scale": 1.003}}"#
        )
    };
}

macro_rules! release {
    ($model:literal, $config:expr $(, $more:literal)?) => {
        Release {
            model: $model,
            version: "0.5.0",
            map: concat!(
                include_str!("../maps/protenix-layers.map"),
                include_str!("../maps/protenix-0.5.map")
                $(, include_str!($more))?
            ),
            config: $config,
        }
    };
}

/// Sizes of mini, with given positions or without.
macro_rules! mini {
    () => {
        sizes!("1", "16", "1", "8", r#""n_cycle": 4, "n_step": 5, "gamma_0": 0.0, "step_scale": 1.0"#)
    };
}

/// `protenix_base_default_v0.5.0`, `protenix_mini_default_v0.5.0`, `protenix_mini_tmpl_v0.5.0`.
pub const PROTENIX: [Release; 3] = [
    release!(
        "protenix-base",
        sizes!("4", "48", "3", "24", r#""n_cycle": 10, "n_step": 200, "gamma_0": 0.8, "step_scale": 1.5"#)
    ),
    release!("protenix-mini", mini!()),
    release!("protenix-mini-tmpl", mini!(), "../maps/protenix-structure.map"),
];

static RELEASES: [Release; 3] = PROTENIX;

/// Which release a checkpoint file is of.
pub fn protenix_release(path: &std::path::Path, ignore_checksums: bool) -> Result<&'static Release, Error> {
    detect(&Checkpoint::open(path, ignore_checksums)?)
}

/// The release of an open checkpoint: one that embeds positions is mini_tmpl, one with several blocks in the MSA module base.
pub(crate) fn detect(checkpoint: &Checkpoint) -> Result<&'static Release, Error> {
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name()).collect();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    let unsupported = |problem: String| Err(Error::Unsupported { path: checkpoint.path().to_owned(), problem });
    if !has("pairformer_stack.") || !has("confidence_head.") || !has("linear_no_bias_sinit.") {
        return unsupported(format!("is no checkpoint of Protenix: it holds {}", list(&names, 5)));
    }
    if has("constraint_embedder.") || has("input_embedder.linear_esm.") {
        return unsupported(
            "is of a Protenix with constraints or a language model, which is not supported; use the weights of \
             protenix_base_default_v0.5.0, protenix_mini_default_v0.5.0 or protenix_mini_tmpl_v0.5.0"
                .into(),
        );
    }
    Ok(match (has("noisy_structure_embedder."), has("msa_module.blocks.1.")) {
        (true, _) => &RELEASES[2],
        (false, true) => &RELEASES[0],
        (false, false) => &RELEASES[1],
    })
}
