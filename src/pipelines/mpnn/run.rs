//! The job: structures one after the other, the samples of one together.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::MpnnError;
use super::output::{self, Design, Native};
use super::problem::{Problem, Settings, with_sequence};
use super::variant::Variant;
use crate::features::array::ArrayWriter;
use crate::features::mpnn::{N_LETTER, read::read};
use crate::features::noise::{NoiseSource, TorchGenerator};
use crate::models::mpnn::decoder::{Logits, Prepared};
use crate::models::mpnn::sample::Sampled;
use crate::models::mpnn::{Place, decoding_order, score};
use crate::pipelines::output::pretty;
use crate::pipelines::progress::Progress;
use crate::pipelines::store;

/// Samples that are drawn together, so that their random numbers do not fill the memory.
const TOGETHER: usize = 64;

/// What is to be found.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// New sequences.
    Sequences,
    /// Scores of the structure's own sequence and of others.
    Scores {
        /// Name and sequence, chains joined by `/`.
        others: Vec<(String, String)>,
    },
    /// Log-probabilities of all letters.
    Probabilities(Probabilities),
}

/// What a letter is known with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probabilities {
    /// The backbone, in one pass.
    Unconditional,
    /// The backbone and all other letters.
    Conditional,
    /// The backbone, each residue decoded first.
    Backbone,
}

/// A job.
#[derive(Debug)]
pub struct Plan {
    /// Structures.
    pub files: Vec<PathBuf>,
    /// Folder of the results.
    pub out: PathBuf,
    /// The network.
    pub variant: Variant,
    /// What is asked of each structure.
    pub settings: Settings,
    /// What is to be found.
    pub ask: Ask,
    /// Temperatures, each with so many samples.
    pub temperatures: Vec<f64>,
    /// Samples of a temperature.
    pub n_sample: usize,
    /// Of the random numbers.
    pub seed: u64,
    /// Are probabilities of the samples written?
    pub keep_probabilities: bool,
    /// What changes a result, as `run.json` has it.
    pub record: Value,
}

/// Does the job; gives how many structures failed. One that is done already is left alone; one that cannot be done is noted, and the others
/// are done.
///
/// # Errors
/// Files of one name, results of other settings in the folder, and results that cannot be written.
pub fn run(plan: &Plan, progress: &mut dyn Progress) -> Result<usize, MpnnError> {
    let mut names = BTreeSet::new();
    for file in &plan.files {
        if !names.insert(name(file)) {
            return Err(MpnnError::Usage(format!("two files are called {}: rename one", name(file))));
        }
    }
    store::check_settings(&plan.out, &plan.record, &[])?;
    progress.begin(plan.files.len() as u64);
    let mut failed = 0;
    for file in &plan.files {
        let name = name(file);
        progress.stage(&name);
        if !plan.done(&name) {
            match one(plan, file, &name) {
                Ok(record) => progress.result(&record),
                Err(e @ (MpnnError::Structure { .. } | MpnnError::Read { .. })) if plan.files.len() > 1 => {
                    failed += 1;
                    progress.note(&with_source(&e));
                }
                Err(e) => return Err(e),
            }
        }
        progress.advance(1);
    }
    Ok(failed)
}

/// An error and its cause.
fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// The name of a file without its ending, by which the results are called.
fn name(file: &Path) -> String {
    store::file_name(&file.file_stem().unwrap_or_default().to_string_lossy())
}

impl Plan {
    /// The file that is written last, by what is asked.
    fn last(&self, name: &str) -> PathBuf {
        match self.ask {
            Ask::Sequences => self.out.join("seqs").join(format!("{name}.json")),
            Ask::Scores { .. } => self.out.join("scores").join(format!("{name}.json")),
            Ask::Probabilities(_) => self.out.join("probs").join(format!("{name}.safetensors")),
        }
    }

    fn done(&self, name: &str) -> bool {
        self.last(name).is_file()
    }
}

fn one(plan: &Plan, file: &Path, name: &str) -> Result<Value, MpnnError> {
    let wrong = |problem: String| MpnnError::Structure { path: file.to_owned(), problem };
    let text = std::fs::read_to_string(file).map_err(|source| MpnnError::Read { path: file.to_owned(), source })?;
    let chains = read(&text).map_err(|e| wrong(e.to_string()))?;
    let model = &plan.variant.model;
    let problem = plan.settings.problem(name, &chains, model.rules()).map_err(&wrong)?;
    let encoded = model.encode(&problem.backbone)?;
    let prepared = model.decoder.prepare(&encoded);
    let job = Job { plan, problem: &problem, prepared: &prepared };
    // From here on there are results, which other settings must not be mixed with.
    store::write(&plan.out.join("run.json"), &pretty(&plan.record))?;
    let mut generator = TorchGenerator::new(plan.seed);
    generator.skip(model.n_initial());
    match &plan.ask {
        Ask::Sequences => job.sequences(file, name, &mut generator),
        Ask::Scores { others } => {
            let mut all = vec![("native".to_owned(), problem.backbone.letters.clone())];
            for (name, sequence) in others {
                let letters = with_sequence(&problem, sequence).map_err(|e| wrong(format!("{name}: {e}")))?;
                all.push((name.clone(), letters));
            }
            job.scores(name, &all, &mut generator)
        }
        Ask::Probabilities(kind) => job.probabilities(name, *kind, &mut generator),
    }
}

/// A structure with the network.
struct Job<'a> {
    plan: &'a Plan,
    problem: &'a Problem,
    prepared: &'a Prepared<'a>,
}

/// Random numbers of a sample: of the order, and of each draw.
type Numbers = (Vec<f32>, Vec<[f64; N_LETTER]>);

impl Job<'_> {
    fn n_res(&self) -> usize {
        self.problem.backbone.n_res()
    }

    /// Residues that are designed and known.
    fn free(&self) -> Vec<bool> {
        let (designed, mask) = (&self.problem.constraints.designed, &self.problem.backbone.mask);
        designed.iter().zip(mask).map(|(d, m)| *d && *m).collect()
    }

    /// Scores over the designed residues and over all, of letters decoded in this order, with the log-probabilities.
    fn score(&self, letters: &[u8], order: &[usize]) -> Result<(Native, Vec<Logits>), MpnnError> {
        let log_probs = self.plan.variant.model.log_probs(self.prepared, letters, order)?;
        let of = |counts: &[bool]| score(&log_probs, letters, counts);
        Ok((Native { score: of(&self.free()), global_score: of(&self.problem.backbone.mask) }, log_probs))
    }

    /// The stream of the official program: an order for the native sequence, then for each sample an order and its draws.
    fn sequences(&self, file: &Path, name: &str, generator: &mut TorchGenerator) -> Result<Value, MpnnError> {
        let plan = self.plan;
        let keys = generator.randn(self.n_res());
        let native = self.score(&self.problem.backbone.letters, &decoding_order(&self.free(), &keys))?.0;
        let (mut made, mut kept) = (Vec::new(), Kept::default());
        let each = plan.temperatures.iter().flat_map(|t| (1..=plan.n_sample).map(move |n| (*t, n)));
        for part in each.collect::<Vec<_>>().chunks(TOGETHER) {
            let numbers: Vec<((f64, usize), Numbers)> =
                part.iter().map(|which| (*which, self.draw(generator))).collect();
            let designs: Vec<(Design, Sampled, Vec<Logits>)> = numbers
                .into_par_iter()
                .map(|(which, numbers)| self.sample(which, numbers))
                .collect::<Result<_, _>>()?;
            for (design, sampled, log_probs) in designs {
                if plan.keep_probabilities {
                    kept.add(&sampled, &log_probs);
                }
                made.push(design);
            }
        }
        if plan.keep_probabilities {
            kept.write(&plan.out.join("probs").join(format!("{name}.safetensors")), self)?;
        }
        let seqs = plan.out.join("seqs");
        let fasta = output::fasta(name, &plan.variant, plan.seed, self.problem, native, &made);
        store::write(&seqs.join(format!("{name}.fa")), fasta.as_bytes())?;
        let record = output::record(name, file, &plan.variant, plan.seed, self.problem, native, &made);
        store::write(&seqs.join(format!("{name}.json")), &pretty(&record))?;
        Ok(record)
    }

    fn draw(&self, generator: &mut TorchGenerator) -> Numbers {
        let keys = generator.randn(self.n_res());
        let row = |_| std::array::from_fn(|_| generator.exponential());
        (keys, (0..self.problem.n_draw()).map(row).collect())
    }

    fn sample(
        &self,
        (temperature, number): (f64, usize),
        (keys, numbers): Numbers,
    ) -> Result<(Design, Sampled, Vec<Logits>), MpnnError> {
        let backbone = &self.problem.backbone;
        let mut numbers = numbers.into_iter();
        let mut draw = || numbers.next().expect("as many as letters are drawn");
        let known = (backbone.letters.as_slice(), backbone.mask.as_slice());
        let model = &self.plan.variant.model;
        let sampled = model.sample(self.prepared, known, &self.problem.constraints, temperature, &keys, &mut draw)?;
        let (scores, log_probs) = self.score(&sampled.letters, &sampled.order)?;
        let free = self.free();
        let same = (0..free.len()).filter(|i| free[*i] && sampled.letters[*i] == backbone.letters[*i]).count();
        let recovery = same as f32 / free.iter().filter(|f| **f).count() as f32;
        let letters = sampled.letters.clone();
        Ok((Design { temperature, number, letters, scores, recovery }, sampled, log_probs))
    }

    fn scores(
        &self,
        name: &str,
        all: &[(String, Vec<u8>)],
        generator: &mut TorchGenerator,
    ) -> Result<Value, MpnnError> {
        let mut rows = Vec::new();
        for (sequence, letters) in all {
            let keys: Vec<Vec<f32>> = (0..self.plan.n_sample).map(|_| generator.randn(self.n_res())).collect();
            let scores: Vec<Native> = keys
                .par_iter()
                .map(|keys| Ok(self.score(letters, &decoding_order(&self.free(), keys))?.0))
                .collect::<Result<_, MpnnError>>()?;
            rows.push(output::scores(sequence, self.problem, letters, &scores));
        }
        let record = json!({"name": name, "seed": self.plan.seed, "sequences": rows});
        store::write(&self.plan.last(name), &pretty(&record))?;
        Ok(record)
    }

    fn probabilities(
        &self,
        name: &str,
        kind: Probabilities,
        generator: &mut TorchGenerator,
    ) -> Result<Value, MpnnError> {
        let (model, letters) = (&self.plan.variant.model, &self.problem.backbone.letters);
        let free = self.free();
        let positions: Vec<usize> = (0..free.len()).filter(|i| free[*i]).collect();
        let mut all = Vec::new();
        let n = if kind == Probabilities::Unconditional { 1 } else { self.plan.n_sample };
        for _ in 0..n {
            all.push(match kind {
                Probabilities::Unconditional => model.unconditional(self.prepared, free.len())?,
                _ => {
                    let place = if kind == Probabilities::Conditional { Place::Last } else { Place::First };
                    let keys = generator.randn(free.len());
                    model.conditional(self.prepared, letters, &positions, &keys, place)?
                }
            });
        }
        let values =
            |all: &[Vec<Logits>]| all.iter().flat_map(|rows| rows.as_flattened().to_vec()).collect::<Vec<f32>>();
        let mut writer = ArrayWriter::new();
        writer.f32("log_p", &[n, free.len(), N_LETTER], values(&all));
        writer.i32("S", &[free.len()], letters.iter().map(|l| i32::from(*l)).collect::<Vec<_>>());
        writer.bool("mask", &[free.len()], self.problem.backbone.mask.clone());
        writer.bool("design_mask", &[free.len()], free);
        let path = self.plan.last(name);
        write_arrays(writer, &path)?;
        Ok(json!({"name": name, "probabilities": path}))
    }
}

/// What is kept of samples beside their letters.
#[derive(Default)]
struct Kept {
    letters: Vec<i32>,
    probabilities: Vec<f32>,
    log_probs: Vec<f32>,
}

impl Kept {
    fn add(&mut self, sampled: &Sampled, log_probs: &[Logits]) {
        self.letters.extend(sampled.letters.iter().map(|l| i32::from(*l)));
        self.probabilities.extend(sampled.probabilities.as_flattened());
        self.log_probs.extend(log_probs.as_flattened());
    }

    fn write(self, path: &Path, job: &Job) -> Result<(), MpnnError> {
        let n_res = job.n_res();
        let n = self.letters.len() / n_res;
        let mut writer = ArrayWriter::new();
        writer.i32("S", &[n, n_res], self.letters);
        writer.f32("probs", &[n, n_res, N_LETTER], self.probabilities);
        writer.f32("log_probs", &[n, n_res, N_LETTER], self.log_probs);
        writer.bool("mask", &[n_res], job.free());
        write_arrays(writer, path)
    }
}

fn write_arrays(writer: ArrayWriter, path: &Path) -> Result<(), MpnnError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| store::StoreError::Write { path: folder.to_owned(), source })?;
    }
    Ok(writer.write(path)?)
}
