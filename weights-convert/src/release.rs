//! Which release a checkpoint is of, and what is known about each.
use crate::alphafold2;
use crate::error::list;
use crate::esm3;
use crate::mpnn;
use crate::number::Dtype;
use crate::protenix;
use crate::{Checkpoint, Error};

/// A model whose checkpoints are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Model {
    /// OpenFold3.
    #[default]
    OpenFold3,
    /// AlphaFold2, monomer or multimer: which, the file name says.
    AlphaFold2,
    /// ESM3-open: trunk, structure encoder, structure decoder or function decoder.
    Esm3,
    /// PXDesign.
    PxDesign,
    /// Protenix: base, mini or mini with given positions, which the names tell.
    Protenix,
    /// ProteinMPNN; whether it saw only soluble proteins, the file does not say.
    ProteinMpnn {
        /// The weights of SolubleMPNN.
        soluble: bool,
    },
}

/// A release whose weights can be converted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Release {
    /// The model, as the command line names it.
    pub model: &'static str,
    /// Version of the official program that the converted model agrees with.
    pub version: &'static str,
    /// The name map, as text.
    pub map: &'static str,
    /// Widths, depths and constants of the released model: a JSON object of numbers.
    pub config: &'static str,
}

/// OpenFold3 0.5.0, model version 2.0.0 (`of3-ob-2025-06-30-174k.pt`).
pub const OPENFOLD3: Release = Release {
    model: "openfold3",
    version: "0.5.0",
    map: include_str!("../maps/openfold3-0.5.map"),
    config: include_str!("../maps/openfold3-0.5.json"),
};

/// PXDesign 0.1.0 (`pxdesign_v0.1.0.pt`).
pub const PXDESIGN: Release = Release {
    model: "pxdesign",
    version: "0.1.0",
    map: concat!(include_str!("../maps/protenix-layers.map"), include_str!("../maps/pxdesign-0.1.map")),
    config: include_str!("../maps/pxdesign-0.1.json"),
};

/// The release of an open checkpoint, by its names and its version tensor, or why it is not supported.
pub(crate) fn detect(model: Model, checkpoint: &mut Checkpoint) -> Result<&'static Release, Error> {
    match model {
        Model::OpenFold3 => openfold3(checkpoint),
        Model::AlphaFold2 => alphafold2::detect(checkpoint),
        Model::Esm3 => esm3::detect(checkpoint),
        Model::PxDesign => pxdesign(checkpoint),
        Model::Protenix => protenix::detect(checkpoint),
        Model::ProteinMpnn { soluble } => mpnn::detect(checkpoint, soluble),
    }
}

fn pxdesign(checkpoint: &Checkpoint) -> Result<&'static Release, Error> {
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name()).collect();
    if names.iter().any(|name| name.starts_with("design_condition_embedder.")) {
        return Ok(&PXDESIGN);
    }
    let problem = format!("is not a checkpoint of PXDesign: it holds {}", list(&names, 5));
    Err(Error::Unsupported { path: checkpoint.path().to_owned(), problem })
}

/// One pair norm before the token transformer: 0.5.0. One in each block: the previews, of which the first also has one
/// in each block of the atom transformers.
fn openfold3(checkpoint: &mut Checkpoint) -> Result<&'static Release, Error> {
    let path = checkpoint.path().to_owned();
    let unsupported = |problem: String| Err(Error::Unsupported { path: path.clone(), problem });
    let instead = "not supported; use the weights of 0.5.0, of3-ob-2025-06-30-174k.pt";
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name()).collect();
    let has = |start: &str, end: &str| names.iter().any(|n| n.starts_with(start) && n.ends_with(end));
    if !has("pairformer_stack.", "") && !has("diffusion_module.", "") {
        return unsupported(format!("is not a checkpoint of OpenFold3: it holds {}", list(&names, 5)));
    }
    if has("diffusion_module.diffusion_transformer.blocks.", ".layer_norm_z.weight") {
        let per_atom_block = has("diffusion_module.atom_attn_enc.atom_transformer.blocks.", ".layer_norm_z.weight");
        let preview = if per_atom_block { "preview 1 (program 0.3)" } else { "preview 2 (program 0.4)" };
        return unsupported(format!("holds the weights of OpenFold3 {preview}, which are {instead}"));
    }
    match version(checkpoint)? {
        None => Ok(&OPENFOLD3),
        Some(v) if v.first() == Some(&2.) => Ok(&OPENFOLD3),
        Some(v) => {
            let v: Vec<_> = v.iter().map(f64::to_string).collect();
            unsupported(format!("holds model version {}, which is {instead} (model version 2.0.0)", v.join(".")))
        }
    }
}

fn version(checkpoint: &mut Checkpoint) -> Result<Option<Vec<f64>>, Error> {
    let Some(index) = checkpoint.tensors().iter().position(|t| t.name() == "version_tensor") else { return Ok(None) };
    let dtype = checkpoint.tensors()[index].dtype();
    let bytes = checkpoint.read(index)?;
    let values = bytes.chunks_exact(dtype.size()).map(|b| match (dtype, b) {
        (Dtype::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (_, b) => b.iter().rev().fold(0., |sum, b| 256. * sum + f64::from(*b)), // small whole numbers
    });
    Ok(Some(values.collect()))
}
