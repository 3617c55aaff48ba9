//! Which weights: `v_48_020`, `soluble`, `ca-v_48_002`, or a file.
use std::path::{Path, PathBuf};

use candle_core::Device;

use super::MpnnError;
use crate::models::mpnn::ProteinMpnn;
use crate::weights::{Weights, default_file};

/// The release that is meant where none is named: trained with 0.2 Å of noise.
pub const RELEASE: &str = "v_48_020";

/// Weights with what they call themselves.
#[derive(Debug)]
pub struct Variant {
    /// The network.
    pub model: ProteinMpnn,
    /// `mpnn`, `mpnn-soluble` or `mpnn-ca`.
    pub name: String,
    /// `v_48_020` or another.
    pub release: String,
    /// Checksum of the weights.
    pub checksum: String,
}

impl Variant {
    /// Loads the weights called `name`, from `folder` if it is no file.
    ///
    /// # Errors
    /// Names of none, weights that are not there, or of another model.
    pub fn open(name: &str, folder: &Path) -> Result<Self, MpnnError> {
        let path = file(name, folder)?;
        if !path.is_file() {
            return Err(MpnnError::NoWeights(path));
        }
        let weights = Weights::open(&path, &Device::Cpu)?;
        let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
        let model = ProteinMpnn::load(&weights.config()?, &weights)?;
        Ok(Self { model, name: entry("model"), release: entry("release"), checksum: entry("data_sha256") })
    }
}

fn file(name: &str, folder: &Path) -> Result<PathBuf, MpnnError> {
    if name.ends_with(".safetensors") {
        return Ok(PathBuf::from(name));
    }
    let (model, release) = match name.split_once('-').unwrap_or((name, RELEASE)) {
        ("soluble", release) => ("mpnn-soluble", release),
        ("ca", release) => ("mpnn-ca", release),
        ("vanilla", release) => ("mpnn", release),
        (release, _) => ("mpnn", release),
    };
    if !weights_convert::MPNN.iter().any(|r| r.model == model && r.version == release) {
        let known: Vec<_> = weights_convert::MPNN.iter().filter(|r| r.model == model).map(|r| r.version).collect();
        return Err(MpnnError::Usage(format!(
            "there are no weights {name}: write {} (with soluble- or ca- before it for these variants), or a .safetensors file",
            known.join(", ")
        )));
    }
    Ok(default_file(folder, model, release, "f32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights() {
        let of = |name: &str| file(name, Path::new("w")).map(|p| p.display().to_string()).map_err(|e| e.to_string());
        assert_eq!(of("v_48_002").unwrap(), "w/mpnn-v_48_002.safetensors");
        assert_eq!(of("soluble").unwrap(), "w/mpnn-soluble-v_48_020.safetensors");
        assert_eq!(of("ca-v_48_010").unwrap(), "w/mpnn-ca-v_48_010.safetensors");
        assert_eq!(of("a/b.safetensors").unwrap(), "a/b.safetensors");
        assert!(
            of("ca-v_48_030")
                .unwrap_err()
                .contains("there are no weights ca-v_48_030: write v_48_002, v_48_010, v_48_020")
        );
    }
}
