//! Pictures of confidences and alignments as PNG: arrays in, bytes out. As ColabFold's users know them (`colabfold/plot.py`,
//! `plot_plddts` and `plot_paes` of `colabfold/colabfold.py`): the same quantities, scales and colours. Of designs: what
//! their filters make of them.
mod axes;
mod canvas;
mod colour;
pub mod design;
mod figures;

pub use figures::{Coverage, coverage, pae, plddt};
