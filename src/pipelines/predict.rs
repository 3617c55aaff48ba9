//! Structure prediction: queries in, structures and confidences out, one seed after the other.
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::infer::{Done, Inference};
use super::memory::Estimate;
use super::output::{self, Format, SampleFiles};
use super::progress::Progress;
use super::store::{self, StoreError};
use crate::assembly::Assembly;
use crate::device::{DeviceChoice, DeviceError, Memory};
use crate::features::af3::{Af3Features, feature_noise, featurise};
use crate::features::array::ArrayFileError;
use crate::models::af3::config::Config;
use crate::models::af3::cost::{Cost, Sizes};
use crate::models::openfold3::{self, OpenFold3, TrunkPart};
use crate::query::Query;
use crate::weights::{Weights, WeightsError, demo};

/// Why a prediction cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// There are no weights of the model on this machine.
    #[error(
        "no {model} weights found ({}); get them with `fold weights pull {model}`, convert a checkpoint you have with `fold weights convert {model} FILE`, \
         or see a known protein fold with --model demo", looked.display()
    )]
    NoWeights {
        /// The model that was asked for.
        model: &'static str,
        /// Where they were looked for.
        looked: PathBuf,
    },
    /// Parameter files of AlphaFold2 are not on this machine.
    #[error(
        "no weights of {model} for {} ({}); get all with `fold weights pull af2`, convert files you have with `fold weights convert af2 {example}` (or \
         the archive alphafold_params_2022-12-06.tar), or give a converted file or their folder with --weights{}",
        missing.join(", "), looked.display(), fewer(*n_found)
    )]
    NoParameters {
        /// Name of the models.
        model: &'static str,
        /// Parameter sets that are not there.
        missing: Vec<String>,
        /// Where they were looked for.
        looked: PathBuf,
        /// Name of an official file.
        example: String,
        /// How many from the first on are there.
        n_found: usize,
    },
    /// A query does not become features.
    #[error("{0}: {1}")]
    Query(String, String),
    /// The job would not fit the memory.
    #[error(
        "{query}: {n_token} tokens and {n_atom} atoms need about {needed:.1} GB, {available:.1} GB are free; {remedy}"
    )]
    Memory {
        /// The query.
        query: String,
        /// Tokens.
        n_token: usize,
        /// Atoms.
        n_atom: usize,
        /// Estimated peak, in GB.
        needed: f64,
        /// Free memory, in GB.
        available: f64,
        /// What to do about it.
        remedy: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Usage(String),
    /// Given features are of another complex than the query.
    #[error("{}: {what}", path.display())]
    Features {
        /// The features file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// Features could not be read or written.
    #[error(transparent)]
    FeatureFile(#[from] ArrayFileError),
    /// Weights could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file of the run.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network failed.
    #[error("the network failed")]
    Network(#[from] candle_core::Error),
    /// The results cannot be written in a format that was asked for.
    #[error(transparent)]
    Output(#[from] output::OutputError),
}

/// What to do with the parameter sets that are there.
fn fewer(n_found: usize) -> String {
    if n_found == 0 { String::new() } else { format!(", or use those that are there with --num-models {n_found}") }
}

/// Which weights to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsChoice {
    /// A converted OpenFold3 file.
    OpenFold3(PathBuf),
    /// The demonstration model of the program itself.
    Demo,
    /// A small model with random weights: its structures mean nothing.
    Untrained,
}

/// Seed of the untrained model's weights.
const UNTRAINED_SEED: u64 = 1;

/// A prediction with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to predict.
    pub queries: Vec<Query>,
    /// Folder for the results.
    pub out: PathBuf,
    /// Weights.
    pub weights: WeightsChoice,
    /// One run of the whole network a seed.
    pub seeds: Vec<u32>,
    /// Structures a seed; `None`: the model's.
    pub n_sample: Option<usize>,
    /// Denoising steps; `None`: the model's.
    pub n_step: Option<usize>,
    /// Passes through the trunk; `None`: the model's.
    pub n_cycle: Option<usize>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Threads on the CPU.
    pub n_thread: usize,
    /// Structure files to write.
    pub formats: Vec<Format>,
    /// Features to use in place of computed ones.
    pub features: Option<PathBuf>,
    /// Where to write the features.
    pub save_features: Option<PathBuf>,
    /// Replace results of other settings.
    pub overwrite: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What became of the queries.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Names of the queries whose results are all there.
    pub done: Vec<String>,
    /// Names of the others, and why.
    pub failed: Vec<(String, PredictError)>,
}

/// Settings of a run that are the same for all its queries.
struct Run<'a> {
    plan: &'a Plan,
    device: Device,
    config: Config,
    model: OpenFold3,
    identity: serde_json::Value,
    weight_bytes: u64,
    n_sample: usize,
    n_step: usize,
    n_cycle: usize,
}

/// Predicts every query of the plan; one that fails is named in the outcome and in `failed.json`, and the rest go on.
pub fn predict(plan: &Plan, progress: &mut dyn Progress) -> Result<Outcome, PredictError> {
    if plan.features.is_some() && plan.queries.len() != 1 {
        return Err(PredictError::Usage("--features is for a file with one query".to_owned()));
    }
    if plan.save_features.is_some() && (plan.queries.len() != 1 || plan.seeds.len() != 1) {
        return Err(PredictError::Usage("--save-features is for one query and one seed".to_owned()));
    }
    let chains = plan.queries.iter().flat_map(|query| query.chains.iter().map(move |chain| (query, chain)));
    if let Some((query, chain)) = chains.into_iter().find(|(_, chain)| !chain.templates.is_empty()) {
        let (query, id) = (&query.name, &chain.ids[0]);
        let message = format!(
            "{query}: chain {id} has templates, which are for AlphaFold2's models: take them out to predict without"
        );
        return Err(PredictError::Usage(message));
    }
    progress.stage("loading");
    let run = Run::open(plan)?;
    if plan.weights == WeightsChoice::Untrained {
        progress.note("untrained weights: the structures show how the program works and mean nothing");
    }
    if plan.weights == WeightsChoice::Demo {
        progress.note(&demo::warning());
    }
    let total = plan.queries.iter().map(|q| run.work(q)).sum::<u64>() * plan.seeds.len() as u64;
    progress.begin(total);
    let mut outcome = Outcome::default();
    for query in &plan.queries {
        match run.query(query, progress) {
            Ok(()) => outcome.done.push(query.name.clone()),
            // A full disk stops every query after it as well.
            Err(e @ PredictError::Store(StoreError::Write { .. })) => return Err(e),
            Err(e) if plan.queries.len() == 1 => return Err(e),
            Err(e) => outcome.failed.push((query.name.clone(), e)),
        }
    }
    if !plan.dry_run {
        write_failures(&plan.out, &outcome)?;
    }
    Ok(outcome)
}

impl<'a> Run<'a> {
    fn open(plan: &'a Plan) -> Result<Self, PredictError> {
        let device = plan.device.open()?;
        let (weights, config, release, source, weight_bytes) = match &plan.weights {
            trained @ (WeightsChoice::OpenFold3(_) | WeightsChoice::Demo) => {
                let (weights, size) = match trained {
                    WeightsChoice::OpenFold3(path) => {
                        (Weights::open(path, &device)?, std::fs::metadata(path).map_or(0, |m| m.len()))
                    }
                    _ => (demo::open(&device)?, demo::FILE.len() as u64),
                };
                let config: Config = weights.config()?;
                let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
                let release = entry("release");
                let source = json!({"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")});
                (weights, config, release, source, size)
            }
            WeightsChoice::Untrained => {
                let config = openfold3::config::untrained();
                let weights = Weights::untrained(UNTRAINED_SEED, &device);
                (weights, config, "none".to_owned(), json!({"seed": UNTRAINED_SEED}), 0)
            }
        };
        let model = OpenFold3::load(&config, &weights)?;
        let identity = json!({
            "model": match plan.weights {
                WeightsChoice::OpenFold3(_) => "openfold3",
                WeightsChoice::Demo => "demo",
                WeightsChoice::Untrained => "untrained",
            },
            "release": release,
            "weights_sha256": source,
        });
        let defaults = config.sampling;
        Ok(Self {
            plan,
            model,
            identity,
            weight_bytes,
            n_sample: plan.n_sample.unwrap_or(defaults.n_sample),
            n_step: plan.n_step.unwrap_or(defaults.n_step),
            n_cycle: plan.n_cycle.unwrap_or(defaults.n_cycle),
            device,
            config,
        })
    }

    /// All seeds of one query.
    fn query(&self, query: &Query, progress: &mut dyn Progress) -> Result<(), PredictError> {
        let plan = self.plan;
        let assembly = Assembly::new(query);
        let name = store::file_name(&query.name);
        let folder = plan.out.join(&name);
        let features = |seed: u32| -> Result<Af3Features, PredictError> {
            match &plan.features {
                Some(path) => {
                    let features = Af3Features::load(path)?;
                    self.check_features(&features, &assembly, path)?;
                    Ok(features)
                }
                None => Ok(featurise(query, &assembly, &mut feature_noise(seed))),
            }
        };
        output::check_formats(&assembly, &plan.formats)?;
        let Some(&first) = plan.seeds.first() else { return Ok(()) };
        let first_features = features(first)?;
        let memory = self.memory().peak(&Sizes::of(&first_features, &self.config), first_features.msa.n_seq);
        if plan.dry_run {
            progress.result(&json!({
                "query": query.name,
                "tokens": first_features.n_token(),
                "atoms": first_features.n_atom(),
                "msa_rows": first_features.msa.n_seq,
                "estimated_peak_bytes": memory,
                "available_bytes": crate::device::memory().map(|m| m.available),
                "fits": self.check_memory(query, &first_features, memory).is_ok(),
                "missing": plan.seeds.iter().map(|&s| self.missing(&folder, &name, s).len()).sum::<usize>(),
            }));
            if let Some(path) = &plan.save_features {
                first_features.save(path)?;
            }
            return Ok(());
        }
        self.check_memory(query, &first_features, memory)?;
        if let Some(path) = &plan.save_features {
            first_features.save(path)?;
        }
        let settings = self.settings(query, &first_features);
        if !plan.overwrite {
            store::check_settings(&folder, &settings, output::FREE_SETTINGS)?;
        }
        let fresh = plan.overwrite && store::check_settings(&folder, &settings, output::FREE_SETTINGS).is_err();
        if fresh {
            output::remove_results(&folder, &name)?;
        }
        store::write(&folder.join("run.json"), &output::pretty(&settings))?;

        let work = self.work(query);
        let mut first_features = Some(first_features);
        for &seed in &plan.seeds {
            let missing = self.missing(&folder, &name, seed);
            if missing.is_empty() {
                progress.note(&format!("{}: seed {seed} is done already", query.name));
                progress.advance(work);
                continue;
            }
            let features = match first_features.take() {
                Some(features) if seed == first => features,
                _ => features(seed)?,
            };
            self.seed(query, &assembly, &features, seed, &missing, &folder, progress)?;
        }
        output::rank(&folder, &name)?;
        Ok(())
    }

    /// One seed: trunk, structures, confidences, files. Only samples in `missing` are written.
    #[allow(clippy::too_many_arguments, reason = "one call, every argument of its own kind")]
    fn seed(
        &self,
        query: &Query,
        assembly: &Assembly,
        features: &Af3Features,
        seed: u32,
        missing: &[usize],
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), PredictError> {
        let label = format!("{} seed {seed}", query.name);
        let name = store::file_name(&query.name);
        let cost = Cost::new(&self.config, Sizes::of(features, &self.config), self.n_sample);
        let inference = Inference {
            model: &self.model,
            device: &self.device,
            features,
            seed,
            n_cycle: self.n_cycle,
            n_step: self.n_step,
            n_sample: self.n_sample,
            wanted: missing,
            folder,
        };
        progress.stage(&format!("{label}: trunk"));
        // Both callbacks report, one after the other.
        let progress = RefCell::new(progress);
        let watch = &mut |done| {
            let mut progress = progress.borrow_mut();
            let (stage, flop) = self.report(done, &cost);
            progress.stage(&format!("{label}: {stage}"));
            progress.advance(units(flop));
            Ok(())
        };
        inference.run(watch, &mut |sample, result| {
            let files = SampleFiles { folder, name: &name, seed, sample };
            let record = output::write_sample(&files, assembly, result, &self.identity, &self.plan.formats)?;
            progress.borrow_mut().result(&record);
            Ok(())
        })
    }

    /// What follows a part that is done, and the arithmetic of that part.
    fn report(&self, done: Done, cost: &Cost) -> (String, f64) {
        let (n_step, n_sample) = (self.n_step, self.n_sample);
        let step = |k: usize| format!("step {} of {n_step}", k.min(n_step));
        let confidence = |k: usize| format!("confidence {} of {n_sample}", k.min(n_sample));
        match done {
            Done::Trunk(at) => {
                let flop = match at.done {
                    TrunkPart::Input => 0.0,
                    TrunkPart::Template => cost.template,
                    TrunkPart::Msa => cost.msa,
                    TrunkPart::Block => cost.block,
                };
                (format!("trunk, cycle {} of {}", at.cycle + 1, self.n_cycle), flop)
            }
            Done::Conditioning => (step(1), cost.conditioning),
            Done::Step(k) if k == n_step => (confidence(1), cost.step),
            Done::Step(k) => (step(k + 1), cost.step),
            Done::Confidence(k) => (confidence(k), cost.confidence),
            Done::Scored(k) => (confidence(k + 1), 0.0),
        }
    }

    /// Samples of a seed that are not there whole.
    fn missing(&self, folder: &Path, name: &str, seed: u32) -> Vec<usize> {
        let done = |sample| SampleFiles { folder, name, seed, sample }.done(&self.plan.formats);
        (0..self.n_sample).filter(|&k| !done(k)).collect()
    }

    /// Everything that a result depends on, and what it was made with.
    fn settings(&self, query: &Query, features: &Af3Features) -> serde_json::Value {
        let mut settings = json!({ "version": env!("CARGO_PKG_VERSION"), "query": query.name });
        if let (Some(settings), Some(identity)) = (settings.as_object_mut(), self.identity.as_object()) {
            settings.extend(identity.clone());
            let chains: Vec<_> = query
                .chains
                .iter()
                .map(|c| json!({"chain_ids": c.ids, "sequence": c.sequence, "cyclic": c.cyclic}))
                .collect();
            settings.insert("chains".to_owned(), chains.into());
            settings.insert("input_sha256".to_owned(), input_checksum(features, self.plan.features.is_some()).into());
            settings.insert("n_samples".to_owned(), self.n_sample.into());
            settings.insert("n_steps".to_owned(), self.n_step.into());
            settings.insert("n_cycles".to_owned(), self.n_cycle.into());
            settings.insert("seeds".to_owned(), self.plan.seeds.clone().into());
            let device = if self.device.is_cpu() { "cpu" } else { "metal" };
            settings.insert("device".to_owned(), device.into());
            settings.insert("dtype".to_owned(), "f32".into());
            settings.insert("threads".to_owned(), self.plan.n_thread.into());
            let formats: Vec<_> = self.plan.formats.iter().map(Format::extension).collect();
            settings.insert("formats".to_owned(), formats.into());
        }
        settings
    }

    /// Given features must be of the query's chains, since the files are written from the query.
    fn check_features(&self, features: &Af3Features, assembly: &Assembly, path: &Path) -> Result<(), PredictError> {
        let fail = |what: String| Err(PredictError::Features { path: path.to_owned(), what });
        let residues: Vec<_> = assembly.chains.iter().flat_map(|c| c.residues.iter().map(|r| r.restype)).collect();
        if features.restype != residues {
            let (n, m) = (features.n_token(), residues.len());
            return fail(format!("the features' {n} tokens are not the {m} residues of the query"));
        }
        let chains = assembly.chains.iter().flat_map(|c| c.residues.iter().map(|_| c.asym_id as i32));
        if !features.asym_id.iter().copied().eq(chains) {
            return fail("the features' chains are not in the order of the query's".to_owned());
        }
        let n_atom = assembly.sites().count();
        if features.n_atom() != n_atom {
            return fail(format!("{} atoms, the query has {n_atom}", features.n_atom()));
        }
        Ok(())
    }

    /// Work of one seed of a query, in the units of the progress bar; before the features are known, a guess of the atoms
    /// and the rows.
    fn work(&self, query: &Query) -> u64 {
        let n: usize = query.chains.iter().map(|c| c.sequence.len() * c.ids.len()).sum();
        let cost = Cost::new(&self.config, Sizes::of_residues(n), self.n_sample);
        let blocks = self.config.pairformer.n_block as u64;
        let cycle = units(cost.template) + units(cost.msa) + units(cost.block) * blocks;
        let structures = units(cost.step) * self.n_step as u64 + units(cost.confidence) * self.n_sample as u64;
        cycle * self.n_cycle as u64 + units(cost.conditioning) + structures
    }

    /// Peak memory of one seed, in bytes.
    fn memory(&self) -> Estimate<'_> {
        let Self { config, device, n_sample, weight_bytes, .. } = self;
        Estimate { config, device, n_sample: *n_sample, weight_bytes: *weight_bytes }
    }

    /// Refuses a query that needs more than is free. Mapped weights need no memory of their own that the system could not take
    /// back, but a run that reads them again in every step is not worth starting.
    fn check_memory(&self, query: &Query, features: &Af3Features, needed: u64) -> Result<(), PredictError> {
        let Some(Memory { available, .. }) = crate::device::memory() else { return Ok(()) };
        if needed <= available {
            return Ok(());
        }
        let sizes = Sizes::of(features, &self.config);
        let largest = self.memory().largest(&sizes, features.msa.n_seq, available);
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let remedy = if largest > 0 {
            format!("about {largest} tokens fit: shorten the chains, lower --n-samples, or free memory")
        } else {
            "free memory, or use a larger machine".to_owned()
        };
        Err(PredictError::Memory {
            query: query.name.clone(),
            n_token: features.n_token(),
            n_atom: features.n_atom(),
            needed: gb(needed),
            available: gb(available),
            remedy,
        })
    }
}

/// `failed.json` in `out` lists the queries that failed; it is there only if some did.
pub(super) fn write_failures(out: &Path, outcome: &Outcome) -> Result<(), PredictError> {
    let failed: Vec<(&str, String)> =
        outcome.failed.iter().map(|(name, error)| (name.as_str(), error.to_string())).collect();
    Ok(store::write_failures(out, "query", &failed)?)
}

/// Checksum of what the network is given, without the reference positions where they follow from the seed.
fn input_checksum(features: &Af3Features, with_positions: bool) -> String {
    let f = features;
    let mut hash = Sha256::new();
    let mut floats = |values: &[f32]| values.iter().for_each(|v| hash.update(v.to_le_bytes()));
    floats(&f.msa.deletion_value);
    floats(&f.msa.profile);
    floats(&f.msa.deletion_mean);
    if with_positions {
        f.ref_pos.iter().for_each(|p| floats(p));
    }
    hash.update(&f.msa.rows);
    hash.update(&f.restype);
    for ids in [&f.residue_index, &f.asym_id, &f.entity_id, &f.sym_id] {
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A unit of the progress bar is a million operations.
fn units(flop: f64) -> u64 {
    (flop / 1e6).ceil() as u64
}
