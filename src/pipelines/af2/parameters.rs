//! The converted parameter files of a run.
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::{Value, json};

use crate::features::af2::Family;
use crate::models::af2::AlphaFold2;
use crate::models::af2::config::Config;
use crate::pipelines::predict::PredictError;
use crate::weights::{Weights, default_file};

/// Parameter sets of a family.
pub const N_MODEL: usize = 5;

/// A parameter file with what its header says.
#[derive(Debug, Clone)]
pub struct ParameterFile {
    /// 1 to 5.
    pub number: usize,
    /// Where it is.
    pub path: PathBuf,
    /// Such as `model_1_ptm`.
    pub release: String,
    /// Sizes.
    pub config: Config,
    /// Checksums of the official file and of this one.
    pub checksums: Value,
    /// Of the file.
    pub bytes: u64,
}

/// Name of the models in weights files and on the command line.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Monomer => "af2",
        Family::Multimer => "af2-multimer",
    }
}

/// Name of the official parameter set `number`.
fn release(family: Family, number: usize) -> String {
    match family {
        Family::Monomer => format!("model_{number}_ptm"),
        Family::Multimer => format!("model_{number}_multimer_v3"),
    }
}

impl ParameterFile {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// If it cannot be read, or is of another model than `family`.
    pub fn open(path: &Path, family: Family) -> Result<Self, PredictError> {
        let weights = Weights::open(path, &Device::Cpu)?;
        let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
        let (model, release) = (entry("model"), entry("release"));
        if model != family_name(family) {
            return Err(PredictError::Usage(format!(
                "{}: is of {model} {release}, not of {}: give --model or --weights to match",
                path.display(),
                family_name(family)
            )));
        }
        let number = release.chars().find_map(|c| c.to_digit(10)).unwrap_or(1) as usize;
        Ok(Self {
            number,
            path: path.to_owned(),
            config: weights.config()?,
            checksums: json!({"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")}),
            bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
            release,
        })
    }

    /// The network, on `device`.
    ///
    /// # Errors
    /// If the file is not whole, or does not fit.
    pub fn load(&self, device: &Device) -> Result<AlphaFold2, PredictError> {
        let weights = Weights::open(&self.path, device)?;
        Ok(AlphaFold2::load(&self.config, &weights)?)
    }
}

/// The first `n_model` parameter files of a folder.
///
/// # Errors
/// If some are missing: which, and what to do.
pub fn in_folder(folder: &Path, family: Family, n_model: usize) -> Result<Vec<ParameterFile>, PredictError> {
    let find = |number: usize| {
        let release = release(family, number);
        let file = |dtype| default_file(folder, family_name(family), &release, dtype);
        ["f32", "bf16", "f16"].map(file).into_iter().find(|path| path.is_file()).ok_or(release)
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for number in 1..=n_model {
        match find(number) {
            Ok(path) => found.push(path),
            Err(release) => missing.push(release),
        }
    }
    if missing.is_empty() {
        return found.iter().map(|path| ParameterFile::open(path, family)).collect();
    }
    Err(PredictError::NoParameters {
        model: family_name(family),
        looked: folder.to_owned(),
        example: format!("params_{}.npz", missing[0]),
        n_found: (1..=n_model).take_while(|n| find(*n).is_ok()).count(),
        missing,
    })
}
