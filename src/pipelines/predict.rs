//! Structure prediction: queries in, structures and confidences out, one seed after the other.
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::output::{self, Format, SampleFiles};
use super::progress::Progress;
use super::store::{self, StoreError};
use crate::assembly::Assembly;
use crate::device::{DeviceChoice, DeviceError, Memory};
use crate::features::af3::{Af3Features, feature_noise, featurise, frame};
use crate::features::array::ArrayFileError;
use crate::features::noise::TorchGenerator;
use crate::models::af3::config::Config;
use crate::models::af3::sample::sample;
use crate::models::af3::token_transformer::KEEP_BYTES;
use crate::models::openfold3::{self, OpenFold3};
use crate::query::Query;
use crate::weights::{Weights, WeightsError};

/// Why a prediction cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// There are no weights of the model on this machine.
    #[error(
        "no {model} weights found ({}); convert the official checkpoint with `fold weights convert {model} FILE.pt`, give a converted file with --weights, \
         or see the program at work with --model untrained", looked.display()
    )]
    NoWeights {
        /// The model that was asked for.
        model: &'static str,
        /// Where they were looked for.
        looked: PathBuf,
    },
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

/// Which weights to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsChoice {
    /// A converted OpenFold3 file.
    OpenFold3(PathBuf),
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
    progress.stage("loading");
    let run = Run::open(plan)?;
    if plan.weights == WeightsChoice::Untrained {
        progress.note("untrained weights: the structures show how the program works and mean nothing");
    }
    let total = plan.queries.iter().map(|q| run.cost(q)).sum::<u64>() * plan.seeds.len() as u64;
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
    run.write_failures(&outcome)?;
    Ok(outcome)
}

impl<'a> Run<'a> {
    fn open(plan: &'a Plan) -> Result<Self, PredictError> {
        let device = plan.device.open()?;
        let (weights, config, release, source, weight_bytes) = match &plan.weights {
            WeightsChoice::OpenFold3(path) => {
                let weights = Weights::open(path, &device)?;
                let config: Config = weights.config()?;
                let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
                let release = entry("release");
                let source = json!({"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")});
                let size = std::fs::metadata(path).map_or(0, |m| m.len());
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
            "model": if plan.weights == WeightsChoice::Untrained { "untrained" } else { "openfold3" },
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
        let memory = self.estimate(&first_features);
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

        let cost = self.cost(query);
        let mut first_features = Some(first_features);
        for &seed in &plan.seeds {
            let missing = self.missing(&folder, &name, seed);
            if missing.is_empty() {
                progress.note(&format!("{}: seed {seed} is done already", query.name));
                progress.advance(cost);
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
        let cost = Cost::new(&self.config, features.n_token(), features.n_atom(), self.n_sample);
        let batch = self.model.batch(features, &self.device)?;
        let mut noise = TorchGenerator::new(seed.into());
        progress.stage(&format!("{label}: trunk"));
        let n_cycle = self.n_cycle;
        let trunk = self.model.trunk(
            &batch,
            n_cycle,
            &mut noise,
            &mut |at| {
                progress.stage(&format!("{label}: trunk, cycle {} of {n_cycle}", at.cycle + 1));
                progress.advance(if at.block == 0 { cost.before_pairformer } else { cost.block });
            },
            &mut |_, _, _| Ok(()),
        )?;
        let diffusion = self.model.diffusion.condition(&batch, &trunk.s_input, &trunk.s, &trunk.z)?;
        let sampling = &self.config.sampling;
        let positions = sample(&diffusion, sampling, self.n_step, self.n_sample, &mut noise, &mut |step| {
            progress.stage(&format!("{label}: step {} of {}", step.index + 1, step.n_step));
            progress.advance(cost.step);
            Ok(())
        })?;
        drop(diffusion);
        let (representatives, _) = frame::representative_atoms(features);
        let scorer = output::Scorer::new(features, &self.model.distogram.forward(&trunk.z)?)?;
        for (k, x) in positions.chunks_exact(3 * batch.n_atom).enumerate() {
            progress.stage(&format!("{label}: confidence {} of {}", k + 1, self.n_sample));
            if missing.contains(&k) {
                let x: Vec<[f32; 3]> = x.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
                let centres: Vec<[f32; 3]> = representatives.iter().map(|&atom| x[atom]).collect();
                // The head works in the memory of `z`; the last sample needs no copy of it.
                let last = missing.last() == Some(&k);
                let z = if last { trunk.z.clone() } else { trunk.z.force_contiguous()? };
                let logits = self.model.confidence.forward(&batch, &trunk.s_input, &trunk.s, &z, &centres)?;
                let result = scorer.score(&x, &logits)?;
                let record = output::write_sample(
                    &SampleFiles { folder, name: &name, seed, sample: k },
                    assembly,
                    &result,
                    &self.identity,
                    &self.plan.formats,
                )?;
                progress.result(&record);
            }
            progress.advance(cost.confidence);
        }
        Ok(())
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

    /// Work of one seed of a query, in the units of the progress bar.
    fn cost(&self, query: &Query) -> u64 {
        let n: usize = query.chains.iter().map(|c| c.sequence.len() * c.ids.len()).sum();
        let cost = Cost::new(&self.config, n, 8 * n, self.n_sample);
        let cycle = cost.before_pairformer + cost.block * self.model.pairformer.n_block() as u64;
        cycle * self.n_cycle as u64 + cost.step * self.n_step as u64 + cost.confidence * self.n_sample as u64
    }

    /// Estimated peak memory in bytes: the weights, the pair representation in the stage that holds most of it, and beside it
    /// the alignment (representation, its norm and its gates), the constant parts of atom attention, and what each
    /// sample takes.
    fn estimate(&self, features: &Af3Features) -> u64 {
        let c = &self.config;
        let (n, n_atom) = (features.n_token() as u64, features.n_atom() as u64);
        let float = size_of::<f32>() as u64;
        let rows = features.msa.n_seq.min(c.msa.max_rows) as u64;
        let msa = 4 * rows * n * c.c_m as u64 * float + 16 * features.msa.n_seq as u64 * n;
        let blocks = (c.atom_encoder.n_block + c.atom_decoder.n_block) as u64;
        let window = c.n_key as u64 * (4 * c.c_atompair as u64 + blocks * c.atom_encoder.n_head as u64);
        let atoms = n_atom * float * (window + blocks * 8 * c.c_atom as u64 + 400);
        let samples = self.n_sample as u64 * float * (n_atom * 12 * c.c_atom as u64 + n * 8 * c.c_token as u64);
        self.weight_bytes + n * n * self.pair_bytes(n) + msa + atoms + samples + (64 << 20)
    }

    /// Bytes a token pair takes in the stage that holds most: the trunk (representation and one operand of the triangle
    /// multiplication), the diffusion module (trunk, conditioning, attention biases as long as they are kept), the
    /// confidence head (trunk, its own representation, an operand or the logits); half a representation more for blocks.
    fn pair_bytes(&self, n: u64) -> u64 {
        let c = &self.config;
        let float = size_of::<f32>() as u64;
        let pair = c.c_z as u64 * float;
        let biases = (c.token_transformer.n_block * c.token_transformer.n_head) as u64 * float;
        let kept = if n * n * biases > KEEP_BYTES as u64 { 0 } else { biases };
        let own = if self.n_sample > 1 { 2 * pair } else { pair };
        let logits = (c.heads.n_pae + 2 * c.heads.n_pde + c.heads.n_distogram) as u64 * float;
        pair / 2 + (2 * pair + kept).max(own + pair.max(logits))
    }

    fn check_memory(&self, query: &Query, features: &Af3Features, needed: u64) -> Result<(), PredictError> {
        let Some(Memory { available, .. }) = crate::device::memory() else { return Ok(()) };
        // Weights that are mapped from a file need no memory of their own that the system could not take back.
        if needed <= available {
            return Ok(());
        }
        let n = features.n_token() as u64;
        let a_pair = self.pair_bytes(n);
        let room = available.saturating_sub(needed.saturating_sub(n * n * a_pair));
        let largest = (room as f64 / a_pair as f64).sqrt() as usize;
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

    /// `failed.json` lists the queries that failed; it is there only if some did.
    fn write_failures(&self, outcome: &Outcome) -> Result<(), PredictError> {
        let path = self.plan.out.join("failed.json");
        if self.plan.dry_run {
            return Ok(());
        }
        if outcome.failed.is_empty() {
            if path.exists() {
                std::fs::remove_file(&path).map_err(|source| StoreError::Write { path, source })?;
            }
            return Ok(());
        }
        let list: Vec<_> =
            outcome.failed.iter().map(|(name, error)| json!({"query": name, "error": error.to_string()})).collect();
        Ok(store::write(&path, &output::pretty(&list.into()))?)
    }
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

/// Work of each stage in millions of multiplications, the unit of the progress bar.
struct Cost {
    before_pairformer: u64,
    block: u64,
    step: u64,
    confidence: u64,
}

impl Cost {
    fn new(c: &Config, n: usize, n_atom: usize, n_sample: usize) -> Self {
        let (n, z, s) = (n as f64, c.c_z as f64, c.c_s as f64);
        // Projections of the two multiplications, the two attentions and the transition; then the products over k.
        let pair = n * n * z * z * (2.0 * 6.0 + 2.0 * 5.0 + 12.0) + n * n * n * z * (2.0 + 4.0);
        let block = pair + n * s * s * 17.0 + 2.0 * n * n * s;
        let t = c.c_token as f64;
        let token = n * t * t * 11.0 + 2.0 * n * n * t;
        let atom = n_atom as f64 * (c.c_atom as f64).powi(2) * 11.0;
        let blocks = (c.atom_encoder.n_block + c.atom_decoder.n_block) as f64;
        let step = n_sample as f64 * (token * c.token_transformer.n_block as f64 + atom * blocks);
        let units = |flop: f64| (flop / 1e6).ceil() as u64;
        Self {
            before_pairformer: units(pair * (c.msa.n_block + 1) as f64),
            block: units(block),
            step: units(step),
            confidence: units(block * c.confidence.n_block as f64),
        }
    }
}
