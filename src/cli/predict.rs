//! `fold predict`: a query file in, structures and confidences out.
use std::path::PathBuf;
use std::process::ExitCode;

use crate::device::DeviceChoice;
use crate::features::af2::Family;
use crate::pipelines::af2::predict as af2;
use crate::pipelines::output::Format;
use crate::pipelines::predict::{Plan, PredictError, WeightsChoice, predict};
use crate::query::{self, Query};

use super::af2::Af2Args;
use super::exit::{self, Usage};
use super::ui::{self, Terminal};
use super::weights::weights_folder;

/// Predict the structure of a complex
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Query file: OpenFold3's .json, a .fasta (chains of one complex joined by `:`), or an .a3m
    query: PathBuf,
    /// Folder for the results; made if missing
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// openfold3, af2, af2-multimer; demo: a small model inside the program that knows a few proteins (`fold weights list`); or
    /// untrained: random weights
    #[arg(long, value_name = "NAME", default_value = "openfold3")]
    model: String,
    /// Converted weights; for af2 also their folder [default: the model's in the weights folder]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Seeds, one run of the whole network each [default: 42, af2 0]
    #[arg(long, visible_alias = "seed", value_name = "N,N,..", value_delimiter = ',')]
    seeds: Vec<u32>,
    /// Structures to sample per seed [default: the model's, 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n_samples: Option<u32>,
    /// Denoising steps [default: the model's, 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n_steps: Option<u32>,
    /// Passes through the trunk, recycles + 1 [default: the model's, 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n_cycles: Option<u32>,
    /// auto, cpu or metal
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: DeviceChoice,
    /// Number format of the computation: f32
    #[arg(long, value_name = "NAME", default_value = "f32")]
    dtype: String,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Structure files to write: cif, pdb [default: cif]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    format: Vec<Format>,
    /// Use these features (safetensors with the names of the official feature dictionary) in place of computed ones
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Write the features of the query
    #[arg(long, value_name = "FILE")]
    save_features: Option<PathBuf>,
    /// Replace results that were made with other settings
    #[arg(long)]
    overwrite: bool,
    /// Say what would be done: tokens, atoms, estimated memory, what is missing; one JSON line a query
    #[arg(long)]
    dry_run: bool,
    /// Print each result as a line of JSON on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    af2: Af2Args,
}

/// What to do: the plan of a model.
enum Job {
    Af3(Plan),
    Af2(af2::Plan),
}

/// Options of all models, resolved.
pub(super) struct Common {
    pub queries: Vec<Query>,
    pub out: PathBuf,
    pub weights: Option<PathBuf>,
    /// Without repeats; empty: the model's.
    pub seeds: Vec<u32>,
    pub device: DeviceChoice,
    pub n_thread: usize,
    pub formats: Vec<Format>,
    /// Were they asked for?
    pub formats_given: bool,
    pub overwrite: bool,
    pub dry_run: bool,
}

/// Seed of a run that names none.
const DEFAULT_SEED: u32 = 42;

impl Args {
    /// Every default filled, every input read and checked.
    fn resolve(self) -> anyhow::Result<Job> {
        if self.dtype != "f32" {
            let known = ["f16", "bf16"].contains(&self.dtype.as_str());
            let reason = if known { "is not served yet" } else { "is not a number format" };
            return Err(Usage(format!("--dtype {}: {reason}; give f32", self.dtype)).into());
        }
        match self.model.as_str() {
            "af2" => self.resolve_af2(Family::Monomer),
            "af2-multimer" => self.resolve_af2(Family::Multimer),
            _ => Ok(Job::Af3(self.resolve_af3()?)),
        }
    }

    /// What all models are told. Formats are of `self.format`, or mmCIF.
    fn common(&mut self) -> anyhow::Result<Common> {
        let mut seeds = Vec::new();
        self.seeds.iter().for_each(|seed| {
            if !seeds.contains(seed) {
                seeds.push(*seed);
            }
        });
        let formats_given = !self.format.is_empty();
        Ok(Common {
            queries: query::read(&self.query)?.queries,
            out: self.out.clone(),
            weights: self.weights.take(),
            seeds,
            device: self.device,
            n_thread: crate::device::threads(),
            formats: if formats_given { self.format.clone() } else { vec![Format::Cif] },
            formats_given,
            overwrite: self.overwrite,
            dry_run: self.dry_run,
        })
    }

    fn resolve_af2(mut self, family: Family) -> anyhow::Result<Job> {
        let others = [
            (
                "--n-samples",
                self.n_samples.is_some(),
                "a model and seed give one structure: see --num-models, --num-seeds",
            ),
            ("--n-steps", self.n_steps.is_some(), "AlphaFold2 does not denoise"),
            ("--n-cycles", self.n_cycles.is_some(), "give --num-recycle, which does not count the first pass"),
            ("--features", self.features.is_some(), "it takes OpenFold3's feature dictionary"),
            ("--save-features", self.save_features.is_some(), "it writes OpenFold3's feature dictionary"),
        ];
        if let Some((name, _, why)) = others.iter().find(|(_, given, _)| *given) {
            return Err(Usage(format!("{name} is not for --model {}: {why}", self.model)).into());
        }
        let common = self.common()?;
        Ok(Job::Af2(self.af2.plan(family, common)?))
    }

    fn resolve_af3(mut self) -> anyhow::Result<Plan> {
        if let Some(name) = self.af2.given() {
            return Err(Usage(format!("{name} is for --model af2 and af2-multimer")).into());
        }
        let common = self.common()?;
        let weights = match (self.model.as_str(), common.weights) {
            ("untrained", None) => WeightsChoice::Untrained,
            ("demo", None) => WeightsChoice::Demo,
            (model @ ("untrained" | "demo"), Some(_)) => {
                return Err(Usage(format!("--model {model} takes no --weights")).into());
            }
            ("openfold3", Some(path)) => WeightsChoice::OpenFold3(path),
            ("openfold3", None) => {
                let folder = weights_folder()?;
                let release = &weights_convert::OPENFOLD3;
                let file = |dtype| crate::weights::default_file(&folder, release.model, release.version, dtype);
                let found = ["f32", "bf16", "f16"].map(file).into_iter().find(|path| path.is_file());
                let missing = || PredictError::NoWeights { model: "openfold3", looked: folder.clone() };
                WeightsChoice::OpenFold3(found.ok_or_else(missing)?)
            }
            (other, _) => {
                return Err(Usage(format!(
                    "--model {other:?}: the models are openfold3, af2, af2-multimer, demo and untrained"
                ))
                .into());
            }
        };
        let count = |n: Option<u32>| n.map(|n| n as usize);
        Ok(Plan {
            queries: common.queries,
            out: common.out,
            weights,
            seeds: if common.seeds.is_empty() { vec![DEFAULT_SEED] } else { common.seeds },
            n_sample: count(self.n_samples),
            n_step: count(self.n_steps),
            n_cycle: count(self.n_cycles),
            device: common.device,
            n_thread: common.n_thread,
            formats: common.formats,
            features: self.features,
            save_features: self.save_features,
            overwrite: common.overwrite,
            dry_run: common.dry_run,
        })
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminal = Terminal::new(args.json || args.dry_run);
    let (out, dry_run) = (args.out.clone(), args.dry_run);
    let job = args.resolve()?;
    let (n_query, outcome) = match &job {
        Job::Af3(plan) => (plan.queries.len(), predict(plan, &mut terminal)),
        Job::Af2(plan) => (plan.queries.len(), af2::predict(plan, &mut terminal)),
    };
    terminal.finish();
    let outcome = outcome?;
    for (query, error) in outcome.failed.iter() {
        eprintln!("fold: {query}: {}", ui::chain_of(error));
    }
    if !outcome.failed.is_empty() {
        let list = out.join("failed.json");
        eprintln!("fold: {} of {n_query} queries failed: {}", outcome.failed.len(), list.display());
        return Ok(ExitCode::from(exit::SOME_FAILED));
    }
    if !dry_run {
        eprintln!("fold: results are in {}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}
