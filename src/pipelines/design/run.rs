//! The whole of `fold design`: tasks one after the other, of each every seed, of each the stages in their order.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::job::Job;
use super::merge::n_passing;
use super::network::{Network, batch, peak};
use super::place::{OUTPUTS, Place};
use super::second::{SecondFilter, Target};
use super::settings::Settings;
use super::stage::Tally;
use super::survey::{STAGES, StageFile};
use super::{DesignError, af2, backbones, complex, report, sequences};
use crate::device::DeviceChoice;
use crate::features::noise::TorchGenerator;
use crate::features::pxdesign::{DesignFeatures, DesignStructure, featurise};
use crate::models::mpnn::binder::TEMPERATURE;
use crate::models::pxdesign::sample::StepScale;
use crate::pipelines::af2::filter::peak as filter_peak;
use crate::pipelines::af2::parameters::ParameterFile;
use crate::pipelines::progress::Progress;
use crate::pipelines::protenix::filter::Settings as SecondSettings;
use crate::pipelines::shard::Shard;
use crate::pipelines::stop::Stop;
use crate::pipelines::store::{self, StoreError};
use crate::query::pxdesign::Task;
use crate::score::design::SecondModel;
use crate::weights::Weights;

/// A design with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Binders to design.
    pub tasks: Vec<Task>,
    /// Folder of the run.
    pub out: PathBuf,
    /// Converted weights of PXDesign.
    pub weights: PathBuf,
    /// Each has its own samples.
    pub seeds: Vec<u32>,
    /// Samples of each seed.
    pub n_sample: usize,
    /// Denoising steps.
    pub n_step: usize,
    /// Step scale of the sampler.
    pub step_scale: StepScale,
    /// Which samples are this process's.
    pub shard: Shard,
    /// Samples at a time; `None`: as many as fit.
    pub batch: Option<usize>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// When to end early.
    pub stop: Stop,
    /// What makes sequences for the backbones and judges them; `None`: backbones alone.
    pub filters: Option<Filters>,
    /// End when so many designs of a task and seed pass.
    pub stop_after: Option<usize>,
    /// The command that does all of it, for whoever is to continue it.
    pub command: String,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Weights of the stages after the backbones.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Converted weights of ProteinMPNN.
    pub mpnn: PathBuf,
    /// AlphaFold2's `model_1_ptm`.
    pub af2: ParameterFile,
    /// A network of AlphaFold3's family, which judges what AlphaFold2 has judged.
    pub second: Option<SecondFilter>,
}

impl Filters {
    fn second(&self) -> Option<SecondModel> {
        self.second.as_ref().map(|second| second.model)
    }
}

/// What became of a design.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Samples of all tasks that are done and that failed, of this process's part.
    pub tally: Tally,
    /// Tasks that no sample can be made of, and why.
    pub failed: Vec<(String, DesignError)>,
}

/// What all tasks share.
pub(super) struct Run<'a> {
    pub plan: &'a Plan,
    pub network: Network,
}

/// Runs a plan. A task that fails is named in the outcome, and the others go on.
///
/// # Errors
/// What stops all of it; of a plan with one task, also what is wrong with that.
pub fn run(plan: &Plan, progress: &mut dyn Progress) -> Result<Outcome, DesignError> {
    progress.stage("loading");
    let device = plan.device.open()?;
    let run = Run { plan, network: Network::open(&plan.weights, &device)? };
    let mut outcome = Outcome::default();
    for task in &plan.tasks {
        match run.task(task, progress) {
            Ok(tally) => {
                outcome.tally.add(&tally);
                if tally.stopped.is_some() {
                    break;
                }
            }
            // A full disk stops every task after it as well.
            Err(e @ DesignError::Store(StoreError::Write { .. })) => return Err(e),
            Err(e) if plan.tasks.len() == 1 => return Err(e),
            Err(e) => outcome.failed.push((task.name.clone(), e)),
        }
    }
    Ok(outcome)
}

impl Run<'_> {
    /// All seeds of one task.
    fn task(&self, task: &Task, progress: &mut dyn Progress) -> Result<Tally, DesignError> {
        let plan = self.plan;
        if store::file_name(&task.name) == OUTPUTS {
            let problem = format!("a task cannot be called {OUTPUTS}: that is the folder of the results");
            return Err(DesignError::Task { task: task.name.clone(), problem });
        }
        let (first, structure) = features(task, plan.seeds[0]);
        let batch = self.batch(task, &first)?;
        let target = self.target(task, &structure)?;
        let peaks = self.peaks(&structure, target.as_ref());
        if plan.dry_run {
            progress.result(&self.foresee(task, &first, batch, &peaks));
            return Ok(Tally::default());
        }
        check_memory(&task.name, &first, &peaks)?;
        self.settings(task, &structure, target.as_ref())?.settle(&plan.out)?;
        if let Some(target) = &target {
            tell_alignments(task, target, progress);
        }
        let job = Job { run: self, task, structure: &structure, target: target.as_ref(), batch };
        let samples: Vec<usize> = (0..plan.n_sample).filter(|&sample| plan.shard.has(sample)).collect();
        let mut tally = Tally::default();
        for &seed in &plan.seeds {
            let place = Place::new(&plan.out, &task.name, seed);
            place.clean(&|sample| plan.shard.has(sample))?;
            // Where the run may end early, so many samples go through all stages before the next are begun.
            let at_once = if plan.stop_after.is_some() { ROUND } else { plan.n_sample };
            for round in samples.chunks(at_once) {
                tally.add(&job.round(&place, round, progress)?);
                if tally.stopped.is_some() {
                    return Ok(tally);
                }
                if let Some(wanted) = plan.stop_after {
                    let second = plan.filters.as_ref().and_then(Filters::second);
                    let n = n_passing(&task.name, &place, 0..plan.n_sample, second);
                    if n >= wanted {
                        progress.note(&format!("{}, seed {seed}: {n} designs pass", task.name));
                        break;
                    }
                }
            }
        }
        Ok(tally)
    }

    /// The target as the second filter reads it; `None` without one.
    fn target(&self, task: &Task, structure: &DesignStructure) -> Result<Option<Target>, DesignError> {
        let Some(second) = self.plan.filters.as_ref().and_then(Filters::second) else { return Ok(None) };
        let target = Target::new(task, structure).ok_or_else(|| DesignError::Task {
            task: task.name.clone(),
            problem: format!(
                "no chain of the target is a protein, which {} needs: give --preset preview",
                second.title()
            ),
        });
        target.map(Some)
    }

    /// What each filter takes at most, in bytes.
    fn peaks(&self, structure: &DesignStructure, target: Option<&Target>) -> Vec<(String, u64)> {
        let Some(filters) = &self.plan.filters else { return Vec::new() };
        let n_res = structure.residues.len();
        // PXDesign's weights stay where they are meanwhile.
        let held = self.network.weight_bytes;
        let mut peaks = vec![("AlphaFold2".to_owned(), held + filter_peak(&filters.af2, n_res))];
        if let (Some(second), Some(target)) = (&filters.second, target) {
            let binder = structure.binder();
            let sizes = target.sizes(structure.residues.iter().filter(|residue| residue.chain == binder).count());
            let files = [Some(&second.network), second.with_target.as_ref().map(|with| &with.network)];
            let most = files.iter().flatten().map(|file| file.peak(&sizes, target.n_row(), &self.network.device)).max();
            peaks.push((second.model.title().to_owned(), held + most.unwrap_or_default()));
        }
        peaks
    }

    /// Samples at a time: as many as were asked for, or fit.
    fn batch(&self, task: &Task, features: &DesignFeatures) -> Result<usize, DesignError> {
        let (config, weight_bytes) = (&self.network.model.config, self.network.weight_bytes);
        let available = crate::device::memory().map_or(u64::MAX, |memory| memory.available);
        let fits = batch(config, features, weight_bytes, available);
        match self.plan.batch {
            Some(wanted) if peak(config, features, weight_bytes, wanted) <= available => Ok(wanted),
            Some(wanted) if fits > 0 => {
                let message =
                    format!("--batch-size {wanted}: {fits} samples fit the memory; leave it out, or give {fits}");
                Err(DesignError::Usage(message))
            }
            None if fits > 0 => Ok(fits),
            _ => Err(DesignError::Memory {
                task: task.name.clone(),
                stage: backbones::NAME.to_owned(),
                n_token: features.n_token(),
                n_atom: features.n_atom(),
                needed: peak(config, features, weight_bytes, 1) as f64 / 1e9,
                available: available as f64 / 1e9,
            }),
        }
    }

    /// What would be done: a line of `--dry-run`.
    fn foresee(&self, task: &Task, features: &DesignFeatures, batch: usize, peaks: &[(String, u64)]) -> Value {
        let missing = |file: StageFile| -> usize {
            let of_seed = |&seed: &u32| {
                let place = Place::new(&self.plan.out, &task.name, seed);
                let mine = (0..self.plan.n_sample).filter(|&sample| self.plan.shard.has(sample));
                mine.filter(|&sample| !file(&place, sample).is_file()).count()
            };
            self.plan.seeds.iter().map(of_seed).sum()
        };
        let stages = stages(self.plan.filters.as_ref());
        let of_stages = stages.iter().map(|(name, file)| (name.to_string(), json!(missing(*file))));
        let Network { model, weight_bytes, .. } = &self.network;
        json!({
            "task": task.name,
            "tokens": features.n_token(),
            "atoms": features.n_atom(),
            "batch_size": batch,
            "estimated_peak_bytes": peak(&model.config, features, *weight_bytes, batch),
            "estimated_filter_bytes": peaks.iter().cloned().collect::<BTreeMap<_, _>>(),
            "available_bytes": crate::device::memory().map(|m| m.available),
            "missing": missing(|place, sample| place.backbone(sample)),
            "missing_of_stages": of_stages.collect::<Map<_, _>>(),
        })
    }

    /// All that the samples depend on.
    fn settings(
        &self,
        task: &Task,
        structure: &DesignStructure,
        target: Option<&Target>,
    ) -> Result<Settings, DesignError> {
        let plan = self.plan;
        let scale = plan.step_scale;
        let mut backbones = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "input_sha256": checksum(structure),
            "binder_length": task.binder_length,
            "n_step": plan.n_step,
            "eta_type": scale.course.to_string(),
            "eta_min": scale.min,
            "eta_max": scale.max,
            "device": if self.network.device.is_cpu() { "cpu" } else { "metal" },
            "dtype": "f32",
        });
        if let (Some(section), Some(identity)) = (backbones.as_object_mut(), self.network.identity.as_object()) {
            section.extend(identity.clone());
        }
        let mut sections = Map::from_iter([(backbones::NAME.to_owned(), backbones)]);
        if let Some(filters) = &plan.filters {
            sections.insert(sequences::NAME.to_owned(), mpnn_settings(&filters.mpnn)?);
            let af2 = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "release": filters.af2.release,
                "weights_sha256": filters.af2.checksums,
                "n_recycle": af2::N_RECYCLE,
            });
            sections.insert(af2::NAME.to_owned(), af2);
            if let (Some(second), Some(target)) = (&filters.second, target) {
                sections.insert(second.model.name().to_owned(), second_settings(second, target));
            }
        }
        sections.insert(report::TARGET.to_owned(), report::target(structure));
        Ok(Settings {
            task: task.name.clone(),
            n_sample: plan.n_sample,
            seeds: plan.seeds.iter().copied().collect(),
            command: plan.command.clone(),
            sections,
        })
    }
}

/// The stages of a run, in their order.
pub(super) fn stages(filters: Option<&Filters>) -> Vec<(&'static str, StageFile)> {
    let is_wanted = |name: &str| match filters {
        None => name == backbones::NAME,
        Some(filters) => {
            [backbones::NAME, sequences::NAME, af2::NAME].contains(&name)
                || filters.second().is_some_and(|model| model.name() == name)
        }
    };
    STAGES.into_iter().filter(|(name, _)| is_wanted(name)).collect()
}

/// Refuses a task of which a filter does not fit the memory.
fn check_memory(task: &str, features: &DesignFeatures, peaks: &[(String, u64)]) -> Result<(), DesignError> {
    let available = crate::device::memory().map_or(u64::MAX, |memory| memory.available);
    match peaks.iter().find(|(_, bytes)| *bytes > available) {
        None => Ok(()),
        Some((filter, bytes)) => Err(DesignError::Memory {
            task: task.to_owned(),
            stage: format!("the predictions of {filter}"),
            n_token: features.n_token(),
            n_atom: features.n_atom(),
            needed: *bytes as f64 / 1e9,
            available: available as f64 / 1e9,
        }),
    }
}

/// Says of which chains the second filter has no alignment: the official program searches one.
fn tell_alignments(task: &Task, target: &Target, progress: &mut dyn Progress) {
    let without = target.without_alignments();
    if !without.is_empty() {
        let ids: Vec<&str> = without.iter().map(|id| id.trim_end_matches('0')).collect();
        progress.note(&format!(
            "{}: the second filter predicts chain {} of the results without an alignment; with one (msa in the task) its scores mean more",
            task.name,
            ids.join(", ")
        ));
    }
}

/// What the scores of the second filter depend on.
fn second_settings(second: &SecondFilter, target: &Target) -> Value {
    let SecondSettings { n_cycle, n_step, gamma_0, step_scale, rows } = SecondSettings::FILTER;
    let mut section = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "network": second.network.identity(),
        "target_sha256": target.checksum(),
        "n_cycle": n_cycle,
        "n_step": n_step,
        "n_step_final": SecondSettings::FINAL.n_step,
        "gamma_0": gamma_0,
        "step_scale": step_scale,
        "msa_rows": rows.most,
    });
    if let Some(with) = &second.with_target {
        section["with_target"] = with.network.identity();
        section["target_template_rmsd"] = json!(with.from);
    }
    section
}

/// What the sequences depend on.
fn mpnn_settings(path: &Path) -> Result<Value, DesignError> {
    let weights = Weights::open(path, &Device::Cpu)?;
    let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
    if !["mpnn", "mpnn-soluble"].contains(&entry("model").as_str()) {
        let (path, model) = (path.display(), entry("model"));
        return Err(DesignError::Usage(format!("{path}: is of {model}, not of mpnn or mpnn-soluble")));
    }
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": entry("model"),
        "release": entry("release"),
        "weights_sha256": {"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")},
        "temperature": TEMPERATURE,
    }))
}

/// Samples that go through all stages together where a run may end early: a number of its own, so that which samples there are does not
/// depend on the memory.
const ROUND: usize = 10;

/// Checksum of the complex: its target with positions, its hotspots, its binder.
fn checksum(structure: &DesignStructure) -> String {
    let mut hash = Sha256::new();
    hash.update(complex::cif("x", "x", structure, &seen(structure)));
    for residue in &structure.residues {
        hash.update([residue.restype, u8::from(residue.hotspot)]);
    }
    for atom in &structure.atoms {
        hash.update([u8::from(atom.position.is_some())]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Positions in the target's structure; atoms that were not seen are at the origin.
fn seen(structure: &DesignStructure) -> Vec<[f32; 3]> {
    structure.atoms.iter().map(|atom| atom.position.unwrap_or_default()).collect()
}

/// Features of a task; the reference conformers are moved by a stream that the seed alone says.
pub(super) fn features(task: &Task, seed: u32) -> (DesignFeatures, DesignStructure) {
    featurise(task, &mut TorchGenerator::of_task(seed))
}
