//! The four checkpoints of ESM3-open (esm 3.2.1), and which of them a file is.
use std::path::{Path, PathBuf};

use crate::error::list;
use crate::release::Release;
use crate::{Checkpoint, Dtype, Error};

macro_rules! release {
    ($model:literal, $version:literal, $config:literal, $($map:literal),+) => {
        Release { model: $model, version: $version, map: concat!($(include_str!($map)),+), config: $config }
    };
}

/// Trunk, structure encoder, structure decoder, function decoder.
pub const ESM3: [Release; 4] = [
    release!(
        "esm3",
        "sm-open-v1",
        r#"{"c": 1536, "n_head": 24, "n_vector_head": 256, "n_block": 48, "c_transition": 4096}"#,
        "../maps/esm3-layers.map",
        "../maps/esm3-swiglu.map",
        "../maps/esm3-geometric.map",
        "../maps/esm3-head.map",
        "../maps/esm3-trunk.map"
    ),
    release!(
        "esm3-structure-encoder",
        "v0",
        r#"{"c": 1024, "n_vector_head": 128, "n_block": 2, "c_transition": 4096, "c_code": 128, "n_code": 4096}"#,
        "../maps/esm3-swiglu.map",
        "../maps/esm3-geometric.map",
        "../maps/esm3-structure-encoder.map"
    ),
    release!(
        "esm3-structure-decoder",
        "v0",
        r#"{"c": 1280, "n_head": 20, "n_block": 30, "c_transition": 3584}"#,
        "../maps/esm3-layers.map",
        "../maps/esm3-swiglu.map",
        "../maps/esm3-structure-decoder.map"
    ),
    release!(
        "esm3-function-decoder",
        "v0",
        r#"{"c": 1024, "n_head": 8, "n_block": 3, "n_keyword": 58641, "n_interpro": 29026}"#,
        "../maps/esm3-layers.map",
        "../maps/esm3-head.map",
        "../maps/esm3-function-decoder.map"
    ),
];

static RELEASES: [Release; 4] = ESM3;

/// Names the checkpoints are published under, in the order of [`ESM3`].
pub const ESM3_FILES: [&str; 4] = [
    "esm3_sm_open_v1.pth",
    "esm3_structure_encoder_v0.pth",
    "esm3_structure_decoder_v0.pth",
    "esm3_function_decoder_v0.pth",
];

/// A tensor name that only the checkpoint of that place in [`ESM3`] has.
const MARKS: [&str; 4] = ["output_heads.", "codebook.", "affine_output_projection.", "heads.keyword_logits."];

/// Where in `folder`, laid out as published or flat, the checkpoints are; `None` for one that is not there.
pub fn esm3_files(folder: &Path) -> [Option<PathBuf>; 4] {
    ESM3_FILES
        .map(|name| ["data/weights", "weights", ""].iter().map(|f| folder.join(f).join(name)).find(|f| f.is_file()))
}

/// The format in which the matrices of a checkpoint can be written without rounding: its own if all have one of 16 bits, else f32.
pub fn esm3_format(checkpoint: &Path, ignore_checksums: bool) -> Result<Dtype, Error> {
    let checkpoint = Checkpoint::open(checkpoint, ignore_checksums)?;
    let mut formats = checkpoint.tensors().iter().filter(|t| t.shape().len() > 1).map(|t| t.dtype());
    let first = formats.next().filter(|format| [Dtype::BF16, Dtype::F16].contains(format));
    Ok(first.filter(|first| formats.all(|format| format == *first)).unwrap_or(Dtype::F32))
}

/// Which of the four an open checkpoint is.
pub(crate) fn detect(checkpoint: &Checkpoint) -> Result<&'static Release, Error> {
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name()).collect();
    let is = |mark: &str| names.iter().any(|name| name.starts_with(mark));
    MARKS.iter().position(|mark| is(mark)).map(|i| &RELEASES[i]).ok_or_else(|| Error::Unsupported {
        path: checkpoint.path().to_owned(),
        problem: format!("is no checkpoint of ESM3: it holds {}", list(&names, 5)),
    })
}
