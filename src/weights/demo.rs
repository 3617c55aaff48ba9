//! The demonstration model, part of the program: a small OpenFold3 that knows a few proteins by heart (`fixtures/demo`).
use candle_core::Device;

use super::{Weights, WeightsError};

/// The weights file, as the converter wrote it from the official checkpoint.
pub const FILE: &[u8] = include_bytes!("demo.safetensors");

/// What the model was trained on: the name of an example, what it is, and its entry in the Protein Data Bank.
pub const KNOWN: &[(&str, &str, &str)] = &[
    ("glucagon", "glucagon", "1GCN"),
    ("insulin", "a shortened insulin, chains A and B", "1SDB"),
    ("parr", "ParR, the two chains that hold DNA", "2Q2K"),
    ("design_2n2u", "a designed protein", "2N2U"),
    ("foldit1", "Foldit1, designed by players", "6MRR"),
    ("ubiquitin", "ubiquitin", "1UBQ"),
    ("smbp", "a metal-binding protein of four helices", "3U8V"),
    ("nrbf2", "the MIT domain of NRBF2", "4ZEY"),
    ("pdp7", "a cyclic plant peptide, as a chain", "2LWU"),
];

/// What a reader of its results must know.
pub fn warning() -> String {
    format!("demonstration only: knows {} proteins; the structure of any other sequence means nothing", KNOWN.len())
}

/// Opens the weights.
pub fn open(device: &Device) -> Result<Weights, WeightsError> {
    Weights::embedded("the demonstration model", FILE, device)
}
