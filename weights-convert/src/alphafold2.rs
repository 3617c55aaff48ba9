//! The parameter sets of AlphaFold2: which they are, and the archive they come in.
use std::path::Path;

use crate::error::list;
use crate::release::Release;
use crate::section;
use crate::{Checkpoint, Error};

/// Sizes that all parameter sets share.
macro_rules! sizes {
    () => {
        concat!(
            r#""c_m": 256, "c_z": 128, "c_s": 384, "c_e": 64, "r_max": 32, "#,
            r#""evoformer": {"n_block": 48, "n_head": 8, "c_hidden_opm": 32, "n_transition": 4, "#,
            r#""pair": {"c_hidden_mul": 128, "c_hidden_att": 32, "n_head": 4, "n_transition": 4}}, "#,
            r#""extra_msa": {"n_block": 4, "n_head": 8, "c_hidden_opm": 32, "n_transition": 4, "#,
            r#""pair": {"c_hidden_mul": 128, "c_hidden_att": 32, "n_head": 4, "n_transition": 4}}"#
        )
    };
}

/// Sizes of the templates' pair stack.
macro_rules! template_sizes {
    () => {
        concat!(
            r#""c_t": 64, "n_block": 2, "n_template": 4, "#,
            r#""pair": {"c_hidden_mul": 64, "c_hidden_att": 16, "n_head": 4, "n_transition": 2}"#
        )
    };
}

/// Sizes of structure module and heads; positions of the module are in units of `$scale` Å.
macro_rules! structure_sizes {
    ($scale:literal, $masked_msa:literal, $pae:literal) => {
        concat!(
            r#""structure": {"n_iteration": 8, "n_head": 12, "c_hidden": 16, "n_point_qk": 4, "n_point_v": 8, "#,
            r#""c_sidechain": 128, "position_scale": "#,
            $scale,
            r#"}, "heads": {"c_plddt": 128, "n_plddt": 50, "n_distogram": 64, "n_masked_msa": "#,
            $masked_msa,
            r#", "n_pae": "#,
            $pae,
            "}"
        )
    };
}

macro_rules! release {
    ($model:literal, $version:literal, $map:expr, $config:expr) => {
        Release { model: $model, version: $version, map: $map, config: $config }
    };
}

/// A monomer parameter set: with the heads of the TM score (64) or without (null), with templates or without.
macro_rules! monomer {
    ($version:literal, $extra:literal, $pae:literal, templates $(, $fine_tuned:literal)?) => {
        release!(
            "af2",
            $version,
            concat!(
                include_str!("../maps/af2-layers.map"),
                include_str!("../maps/af2-monomer.map"),
                include_str!("../maps/af2-monomer-template.map")
                $(, include_str!($fine_tuned))?
            ),
            concat!(
                r#"{"n_target": 22, "max_msa": 512, "max_extra_msa": "#,
                $extra,
                ", ",
                sizes!(),
                r#", "template": {"attention": {"n_head": 4, "c_hidden": 16}, "#,
                template_sizes!(),
                "}, ",
                structure_sizes!("10.0", "23", $pae),
                "}"
            )
        )
    };
    ($version:literal, $extra:literal, $pae:literal $(, $fine_tuned:literal)?) => {
        release!(
            "af2",
            $version,
            concat!(
                include_str!("../maps/af2-layers.map"),
                include_str!("../maps/af2-monomer.map")
                $(, include_str!($fine_tuned))?
            ),
            concat!(
                r#"{"n_target": 22, "max_msa": 512, "max_extra_msa": "#,
                $extra,
                ", ",
                sizes!(),
                r#", "template": null, "#,
                structure_sizes!("10.0", "23", $pae),
                "}"
            )
        )
    };
}

macro_rules! multimer {
    ($version:literal, $extra:literal) => {
        release!(
            "af2-multimer",
            $version,
            concat!(
                include_str!("../maps/af2-layers.map"),
                include_str!("../maps/af2-multimer.map"),
                include_str!("../maps/af2-pae.map")
            ),
            concat!(
                r#"{"n_target": 21, "max_msa": 508, "max_extra_msa": "#,
                $extra,
                ", ",
                sizes!(),
                r#", "template": {"attention": null, "#,
                template_sizes!(),
                "}, ",
                structure_sizes!("20.0", "22", "64"),
                "}"
            )
        )
    };
}

/// The parameter sets of `alphafold_params_2022-12-06.tar`; `params_<version>.npz` is a file of it.
pub const ALPHAFOLD2: [Release; 15] = [
    monomer!("model_1", "5120", "null", templates),
    monomer!("model_2", "1024", "null", templates),
    monomer!("model_3", "5120", "null"),
    monomer!("model_4", "5120", "null"),
    monomer!("model_5", "1024", "null"),
    monomer!("model_1_ptm", "5120", "64", templates, "../maps/af2-pae.map"),
    monomer!("model_2_ptm", "1024", "64", templates, "../maps/af2-pae.map"),
    monomer!("model_3_ptm", "5120", "64", "../maps/af2-pae.map"),
    monomer!("model_4_ptm", "5120", "64", "../maps/af2-pae.map"),
    monomer!("model_5_ptm", "1024", "64", "../maps/af2-pae.map"),
    multimer!("model_1_multimer_v3", "2048"),
    multimer!("model_2_multimer_v3", "2048"),
    multimer!("model_3_multimer_v3", "2048"),
    multimer!("model_4_multimer_v3", "1152"),
    multimer!("model_5_multimer_v3", "1152"),
];

static RELEASES: [Release; 15] = ALPHAFOLD2;

/// The parameter set of an open file.
pub(crate) fn detect(checkpoint: &Checkpoint) -> Result<&'static Release, Error> {
    if !checkpoint.tensors().iter().any(|t| t.name().starts_with("alphafold.alphafold_iteration.")) {
        let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name()).collect();
        let problem = format!("is no parameter file of AlphaFold2: it holds {}", list(&names, 5));
        return Err(Error::Unsupported { path: checkpoint.path().to_owned(), problem });
    }
    parameter_set(Path::new(&checkpoint.file_name()))
}

/// The parameter set that a file, or a member of an archive, is of: models 1 and 2 differ in no shape, so its name has to say.
pub fn parameter_set(file: &Path) -> Result<&'static Release, Error> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let version = name.strip_prefix("params_").and_then(|name| name.strip_suffix(".npz"));
    if let Some(release) = version.and_then(|version| RELEASES.iter().find(|release| release.version == version)) {
        return Ok(release);
    }
    let problem = if name.contains("multimer") {
        "holds a multimer model that is not supported; use version 3, params_model_1_multimer_v3.npz and on"
    } else {
        "does not have the name it was published under, which says what model it is: call it params_model_1_ptm.npz or \
         the like"
    };
    Err(Error::Unsupported { path: file.to_owned(), problem: problem.to_owned() })
}

/// The parameter files in `path`, if it is a tar archive of them: for [`crate::Options::member`]. None if it is another file.
pub fn parameter_files(path: &Path) -> Result<Vec<String>, Error> {
    if !section::is_tar(path)? {
        return Ok(Vec::new());
    }
    let names: Vec<String> = section::members(path)?.into_iter().map(|(name, ..)| name).collect();
    let files: Vec<String> =
        names.iter().filter(|n| n.starts_with("params_") && n.ends_with(".npz")).cloned().collect();
    if files.is_empty() {
        let problem = format!("is an archive without parameter files (params_*.npz): it holds {}", list(&names, 5));
        return Err(Error::Unsupported { path: path.to_owned(), problem });
    }
    Ok(files)
}
