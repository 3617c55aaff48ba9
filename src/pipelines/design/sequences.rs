//! The second stage: a sequence for each backbone by ProteinMPNN with PXDesign's settings, and what is measured on the backbone itself.
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::complex::{cas, known_chains, positions};
use super::place::Place;
use super::stage::{Made, Stage};
use super::{DesignError, causes, read_text};
use crate::chem::atom_layout::{C, CA, N, O};
use crate::chem::restype::{LETTERS, UNKNOWN, amino_acid};
use crate::features::af2::N_ATOM37;
use crate::features::af2::design::KnownChain;
use crate::features::mpnn::{Chain, Residue, letter};
use crate::features::pxdesign::DesignStructure;
use crate::models::mpnn::ProteinMpnn;
use crate::pipelines::output::pretty;
use crate::score::design::rmsd::radius_of_gyration;
use crate::score::design::rounded;
use crate::score::design::secondary::{elements, fractions};

/// Name of the stage and of its folder.
pub const NAME: &str = "sequences";

/// The stage of one task and seed.
pub struct SequenceStage<'a> {
    /// The network.
    pub model: &'a ProteinMpnn,
    /// The complex.
    pub structure: &'a DesignStructure,
    /// Where samples are.
    pub place: &'a Place,
}

impl SequenceStage<'_> {
    fn one(&self, sample: usize) -> Result<Made, String> {
        let (structure, place) = (self.structure, self.place);
        let made = positions(&read_text(&place.backbone(sample))?, structure)?;
        let (target, binder) = known_chains(structure, &made);
        let chains: Vec<Chain> = target.iter().chain([&binder]).map(chain).collect();
        let index = u32::try_from(sample).map_err(|_| format!("samples are numbered up to {}", u32::MAX))?;
        let designed = self.model.binder(&chains, place.seed(), index).map_err(|e| causes(&e))?;
        let cas = cas(&binder.positions);
        let [alpha, beta, coil] = fractions(&elements(&cas, &binder.residue_index));
        let record = json!({
            "sequence": designed.sequence,
            "mpnn_score": designed.score,
            "alpha": alpha,
            "beta": beta,
            "loop": coil,
            "Rg": rounded(radius_of_gyration(&cas), 2),
        });
        Ok(Made { files: vec![(place.file(NAME, sample, ".json"), pretty(&record))], record })
    }
}

/// A chain as ProteinMPNN reads it.
fn chain(known: &KnownChain) -> Chain {
    let residues = known.restype.iter().zip(&known.residue_index).enumerate().map(|(i, (restype, number))| {
        let atom = |place: usize| {
            let at = i * N_ATOM37 + place;
            (known.mask[at] > 0.).then_some(known.positions[at])
        };
        let letter = letter(LETTERS[usize::from(*restype)]).unwrap_or(crate::features::mpnn::UNKNOWN);
        Residue { atoms: [N, CA, C, O].map(atom), letter, number: *number }
    });
    Chain { id: String::new(), residues: residues.collect() }
}

impl Stage for SequenceStage<'_> {
    fn title(&self) -> &str {
        NAME
    }

    fn name(&self) -> &str {
        NAME
    }

    fn batch(&self) -> usize {
        1
    }

    fn units(&self) -> u64 {
        1
    }

    fn is_done(&self, sample: usize) -> bool {
        self.place.file(NAME, sample, ".json").is_file()
    }

    fn make(
        &mut self,
        samples: &[usize],
        _: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Vec<Result<Made, String>>>, DesignError> {
        Ok(ControlFlow::Continue(samples.iter().map(|&sample| self.one(sample)).collect()))
    }
}

/// What this stage has written of a sample.
///
/// # Errors
/// A file that is not there or is not one of this program, in words.
pub fn record(place: &Place, sample: usize) -> Result<Value, String> {
    super::read_record(&place.file(NAME, sample, ".json"))
}

/// The designed sequence of a sample, letters 0-19.
///
/// # Errors
/// As [`record`].
pub fn sequence_of(place: &Place, sample: usize) -> Result<Vec<u8>, String> {
    letters(&record(place, sample)?).ok_or_else(|| super::not_ours(&place.file(NAME, sample, ".json")))
}

/// The letters of a record, 0-19.
pub fn letters(record: &Value) -> Option<Vec<u8>> {
    let letter = |c: u8| amino_acid(c).filter(|letter| *letter < UNKNOWN);
    record["sequence"].as_str()?.bytes().map(letter).collect()
}
