//! The second filter: a network of AlphaFold3's family on target and binder, with PXDesign's settings and scores (PXDesignBench
//! `tools/ptx/ptx.py`, PXDesign `runner/helpers.py`). A design that passes is predicted again with more steps at once, since that depends
//! on nothing but the design.
mod network;
mod target;

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};

pub use crate::score::design::SecondModel;
pub use network::{Network, NetworkFile, Runner, SecondFilter, WithTarget};
pub use target::{Target, order};

use super::complex::{cif_of_prediction, known_chains, positions};
use super::place::Place;
use super::sequences::sequence_of;
use super::stage::{Fault, Made, Stage, one_by_one};
use super::{DesignError, causes, read_record, read_text};
use crate::chem::restype::LETTERS;
use crate::features::protenix::ProteinChain;
use crate::features::pxdesign::DesignStructure;
use crate::models::af3::cost::Sizes;
use crate::pipelines::output::pretty;
use crate::pipelines::predict::PredictError;
use crate::pipelines::protenix::filter::{FINAL_SEED, FilterError, KnownChain, Predicted, Settings, Watch};
use crate::score::design::{SecondScores, rounded};

/// The complex as every design's is predicted.
pub const COMPLEX: &str = "_complex.cif";
/// The complex of a design that passes, predicted with more steps.
pub const FINAL: &str = "_final.cif";
/// Key of the target's distance from its structure, in records.
const ALONE: &str = "target_rmsd";
/// Key of the scores of [`FINAL`], in records.
const FINAL_SCORES: &str = "final";

/// Folder of the files of a network.
pub fn folder(model: SecondModel) -> String {
    format!("{}_pred", model.prefix())
}

/// The file of a sample that is written last.
pub fn file(model: SecondModel, place: &Place, sample: usize) -> PathBuf {
    place.file(&folder(model), sample, ".json")
}

/// The stage of one task and seed.
pub struct SecondStage<'a> {
    /// After which columns and files are named.
    pub model: SecondModel,
    /// The network that predicts.
    pub runner: Runner<'a>,
    /// Its weights.
    pub file: &'a NetworkFile,
    /// The target.
    pub target: &'a Target,
    /// Is the network given the target's structure?
    pub gives_target: bool,
    /// How far the target alone is from its structure as it was predicted, Å, if that was asked.
    pub alone: Option<f64>,
    /// Which designs are predicted again with more steps.
    pub keeps: fn(&SecondScores) -> bool,
    /// The complex.
    pub structure: &'a DesignStructure,
    /// Where samples are.
    pub place: &'a Place,
}

/// A design as it is predicted.
struct Asked {
    /// Places of the target's chains.
    order: Vec<usize>,
    target: Vec<ProteinChain>,
    binder: ProteinChain,
}

impl From<FilterError> for Fault {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::Stopped => Self::Stopped,
            FilterError::Predict(error @ PredictError::Store(_)) => Self::All(error.into()),
            error => Self::Sample(causes(&error)),
        }
    }
}

impl SecondStage<'_> {
    fn one(&self, sample: usize, tick: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Made, Fault> {
        let (model, place) = (self.model, self.place);
        let designed = positions(&read_text(&place.backbone(sample))?, self.structure)?;
        let (made, glycines) = known_chains(self.structure, &designed);
        let letters = sequence_of(place, sample)?;
        let sequence = letters.iter().map(|&letter| char::from(LETTERS[usize::from(letter)])).collect();
        let order = if self.gives_target { (0..made.len()).collect() } else { order(&made) };
        if made.len() != self.target.chains.len() {
            let (made, known) = (made.len(), self.target.chains.len());
            return Err(Fault::Sample(format!("{made} protein chains, the target has {known}")));
        }
        let target = order.iter().enumerate();
        let target = target.map(|(entity, &i)| ProteinChain { entity, ..self.target.chains[i].chain.clone() });
        let asked = Asked { target: target.collect(), binder: ProteinChain::new(sequence, order.len()), order };
        let judged = |predicted: &Predicted| {
            let rmsd = self.target.rmsd(predicted, &asked.order, &made, &glycines);
            scores(predicted, rmsd)
        };
        let (cycle, step) = self.file.work(&self.sizes());
        let n_cycle = Settings::FILTER.n_cycle;
        let mut watch = |done: usize| tick(if done <= n_cycle { cycle } else { step });
        let complex = self.predict(&asked, Settings::FILTER, self.place.seed().into(), &mut watch)?;
        let found = judged(&complex).ok_or_else(|| Fault::Sample("no scores".to_owned()))?;
        let mut record = json!({ "network": self.file.model, "target_given": self.gives_target, ALONE: self.alone });
        add(&mut record, model, &found);
        let path = |ending: &str| place.file(&folder(model), sample, ending);
        let ids: Vec<String> = asked.order.iter().map(|&i| self.target.chains[i].id.clone()).collect();
        let ids = [ids, vec![self.target.binder_id.clone()]].concat();
        let name = place.name(sample);
        let text = |predicted: &Predicted| cif_of_prediction(&name, &ids, predicted).into_bytes();
        let mut files = vec![(path(COMPLEX), text(&complex))];
        if (self.keeps)(&found) {
            let again = self.predict(&asked, Settings::FINAL, FINAL_SEED, &mut |_| tick(0))?;
            let mut of_final = json!({});
            if let Some(found) = judged(&again) {
                add(&mut of_final, model, &found);
            }
            record[FINAL_SCORES] = of_final;
            files.push((path(FINAL), text(&again)));
        }
        files.push((path(".json"), pretty(&record)));
        Ok(Made { files, record })
    }

    fn predict(
        &self,
        asked: &Asked,
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        if self.gives_target {
            let known: Vec<KnownChain> = asked.order.iter().map(|&i| self.target.chains[i].seen.clone()).collect();
            return self.runner.predict_with_target(&known, &asked.binder, settings, seed, watch);
        }
        let chains: Vec<ProteinChain> = asked.target.iter().chain([&asked.binder]).cloned().collect();
        self.runner.predict(&chains, settings, seed, watch)
    }

    fn sizes(&self) -> Sizes {
        let binder = self.structure.binder();
        self.target.sizes(self.structure.residues.iter().filter(|residue| residue.chain == binder).count())
    }
}

/// How far the target, predicted alone, is from its structure, Å.
///
/// # Errors
/// What the network and the disk report.
pub fn target_alone(runner: Runner, target: &Target, seed: u64, watch: &mut Watch<'_>) -> Result<f64, FilterError> {
    let chains: Vec<ProteinChain> = target.chains.iter().map(|part| part.chain.clone()).collect();
    Ok(target.rmsd_alone(&runner.predict(&chains, Settings::FILTER, seed, watch)?))
}

/// The same, if a sample of this task and seed tells it; `Some(NaN)`: it could not be measured.
pub fn known_alone(model: SecondModel, place: &Place, mut samples: impl Iterator<Item = usize>) -> Option<f64> {
    samples.find_map(|sample| {
        let record = read_record(&file(model, place, sample)).ok()?;
        Some(record.get(ALONE)?.as_f64().unwrap_or(f64::NAN))
    })
}

/// Scores of a complex, rounded as PXDesignBench rounds them.
fn scores(predicted: &Predicted, rmsd: f64) -> Option<SecondScores> {
    let s = predicted.scores()?;
    let of = |v: f32| rounded(f64::from(v), 4);
    Some(SecondScores {
        plddt: of(s.plddt),
        ptm_binder: of(s.ptm_binder),
        ptm_target: of(s.ptm_target),
        iptm: of(s.iptm),
        ptm: of(s.ptm),
        iptm_binder: of(s.iptm_binder),
        rmsd: rounded(rmsd, 2),
    })
}

/// The numbers of a record behind their names.
type Column = (&'static str, fn(&mut SecondScores) -> &mut f64);

const COLUMNS: [Column; 7] = [
    ("plddt", |s| &mut s.plddt),
    ("ptm_binder", |s| &mut s.ptm_binder),
    ("ptm_target", |s| &mut s.ptm_target),
    ("iptm", |s| &mut s.iptm),
    ("ptm", |s| &mut s.ptm),
    ("iptm_binder", |s| &mut s.iptm_binder),
    ("pred_design_rmsd", |s| &mut s.rmsd),
];

fn add(record: &mut Value, model: SecondModel, scores: &SecondScores) {
    let mut scores = *scores;
    for (name, value) in COLUMNS {
        record[format!("{}_{name}", model.prefix())] = json!(*value(&mut scores));
    }
}

/// What this stage has written of a sample.
///
/// # Errors
/// A file that is not there or is not one of this program, in words.
pub fn scores_of(model: SecondModel, place: &Place, sample: usize) -> Result<SecondScores, String> {
    let record = read_record(&file(model, place, sample))?;
    let nan = f64::NAN;
    let mut scores =
        SecondScores { plddt: nan, ptm_binder: nan, ptm_target: nan, iptm: nan, ptm: nan, iptm_binder: nan, rmsd: nan };
    for (name, value) in COLUMNS {
        *value(&mut scores) = record[format!("{}_{name}", model.prefix())].as_f64().unwrap_or(nan);
    }
    Ok(scores)
}

/// Was a sample judged by a network that was given the target's structure?
pub fn target_was_given(model: SecondModel, place: &Place, sample: usize) -> bool {
    read_record(&file(model, place, sample)).is_ok_and(|record| record["target_given"] == true)
}

impl Stage for SecondStage<'_> {
    fn title(&self) -> &str {
        self.model.title()
    }

    fn name(&self) -> &str {
        self.model.name()
    }

    fn batch(&self) -> usize {
        1
    }

    fn units(&self) -> u64 {
        let (cycle, step) = self.file.work(&self.sizes());
        let Settings { n_cycle, n_step, .. } = Settings::FILTER;
        n_cycle as u64 * cycle + n_step as u64 * step
    }

    fn is_done(&self, sample: usize) -> bool {
        file(self.model, self.place, sample).is_file()
    }

    fn make(
        &mut self,
        samples: &[usize],
        tick: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Vec<Result<Made, String>>>, DesignError> {
        one_by_one(samples, |sample| self.one(sample, tick))
    }
}
