//! The checkpoints of ProteinMPNN (8907e66): which of its three networks a file holds, and with how much noise it was trained.
use std::path::Path;

use crate::error::list;
use crate::release::Release;
use crate::{Checkpoint, Error};

macro_rules! releases {
    ($($model:literal $map:literal: $($version:literal)*;)*) => {
        [$($(Release {
            model: $model,
            version: $version,
            map: concat!(include_str!("../maps/mpnn-layers.map"), include_str!($map)),
            config: r#"{"c": 128, "n_encoder": 3, "n_decoder": 3, "n_neighbour": 48}"#,
        },)*)*]
    };
}

/// Every published file: of full backbones, the same trained on soluble proteins, of CA atoms; 0.02 to 0.30 Å of noise.
pub const MPNN: [Release; 11] = releases! {
    "mpnn" "../maps/mpnn.map": "v_48_002" "v_48_010" "v_48_020" "v_48_030";
    "mpnn-soluble" "../maps/mpnn.map": "v_48_002" "v_48_010" "v_48_020" "v_48_030";
    "mpnn-ca" "../maps/mpnn-ca.map": "v_48_002" "v_48_010" "v_48_020";
};

static RELEASES: [Release; 11] = MPNN;

/// Which release the checkpoint `path` is of; `soluble`, which it does not say itself, if it is SolubleMPNN's.
///
/// # Errors
/// If it cannot be read, or is of none.
pub fn mpnn_release(path: &Path, soluble: bool) -> Result<&'static Release, Error> {
    detect(&Checkpoint::open(path, false)?, soluble)
}

/// Neighbours of a residue, which the file says beside its weights.
pub(crate) fn neighbours(checkpoint: &Checkpoint) -> Option<u64> {
    checkpoint.number("num_edges").map(|n| n as u64)
}

/// The release of an open checkpoint: its network by the names of its tensors, its noise by what the file says.
pub(crate) fn detect(checkpoint: &Checkpoint, soluble: bool) -> Result<&'static Release, Error> {
    let unsupported = |problem: String| Error::Unsupported { path: checkpoint.path().to_owned(), problem };
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name()).collect();
    if !names.contains(&"features.edge_embedding.weight") {
        return Err(unsupported(format!("is no checkpoint of ProteinMPNN: it holds {}", list(&names, 5))));
    }
    let ca = names.contains(&"features.node_embedding.weight");
    let model = match (ca, soluble) {
        (true, true) => {
            return Err(unsupported("holds the network of CA atoms, which has no soluble variant".to_owned()));
        }
        (true, false) => "mpnn-ca",
        (false, true) => "mpnn-soluble",
        (false, false) => "mpnn",
    };
    let (Some(noise), Some(_)) = (checkpoint.number("noise_level"), neighbours(checkpoint)) else {
        return Err(unsupported("lacks noise_level or num_edges, which published checkpoints have".to_owned()));
    };
    let version = format!("v_48_{:03}", (100. * noise).round());
    RELEASES.iter().find(|r| r.model == model && r.version == version).ok_or_else(|| {
        let known: Vec<_> = RELEASES.iter().filter(|r| r.model == model).map(|r| r.version).collect();
        unsupported(format!("was trained with noise of {noise} Å; published of {model} are {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_has_a_map_and_sizes() {
        for release in &MPNN {
            crate::Map::parse(release.map).unwrap();
            let sizes: serde_json::Map<String, serde_json::Value> = serde_json::from_str(release.config).unwrap();
            assert_eq!(sizes.len(), 4);
        }
    }
}
