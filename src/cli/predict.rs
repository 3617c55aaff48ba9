//! `fold predict`: a query file in, structures and confidences out.
use std::path::PathBuf;
use std::process::ExitCode;

use crate::device::DeviceChoice;
use crate::pipelines::output::Format;
use crate::pipelines::predict::{Plan, PredictError, WeightsChoice, predict};
use crate::query;

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
    /// openfold3, or untrained: a small random model that shows how the program works
    #[arg(long, value_name = "NAME", default_value = "openfold3")]
    model: String,
    /// Converted weights [default: the model's in the weights folder]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Seeds, one run of the whole network each
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "42")]
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
    /// Structure files to write: cif, pdb
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "cif")]
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
}

impl Args {
    /// Every default filled, every input read and checked.
    fn resolve(self) -> anyhow::Result<Plan> {
        if self.dtype != "f32" {
            let known = ["f16", "bf16"].contains(&self.dtype.as_str());
            let reason = if known { "is not served yet" } else { "is not a number format" };
            return Err(Usage(format!("--dtype {}: {reason}; give f32", self.dtype)).into());
        }
        let mut seeds = Vec::new();
        self.seeds.iter().for_each(|seed| {
            if !seeds.contains(seed) {
                seeds.push(*seed);
            }
        });
        let queries = query::read(&self.query)?.queries;
        let weights = match (self.model.as_str(), self.weights) {
            ("untrained", None) => WeightsChoice::Untrained,
            ("untrained", Some(_)) => return Err(Usage("--model untrained takes no --weights".to_owned()).into()),
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
                return Err(Usage(format!("--model {other:?}: the models are openfold3 and untrained")).into());
            }
        };
        let count = |n: Option<u32>| n.map(|n| n as usize);
        Ok(Plan {
            queries,
            out: self.out,
            weights,
            seeds,
            n_sample: count(self.n_samples),
            n_step: count(self.n_steps),
            n_cycle: count(self.n_cycles),
            device: self.device,
            n_thread: crate::device::threads(),
            formats: self.format,
            features: self.features,
            save_features: self.save_features,
            overwrite: self.overwrite,
            dry_run: self.dry_run,
        })
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminal = Terminal::new(args.json || args.dry_run);
    let plan = args.resolve()?;
    let outcome = predict(&plan, &mut terminal);
    terminal.finish();
    let outcome = outcome?;
    for (query, error) in outcome.failed.iter() {
        eprintln!("fold: {query}: {}", ui::chain_of(error));
    }
    if !outcome.failed.is_empty() {
        let list = plan.out.join("failed.json");
        eprintln!("fold: {} of {} queries failed: {}", outcome.failed.len(), plan.queries.len(), list.display());
        return Ok(ExitCode::from(exit::SOME_FAILED));
    }
    if !plan.dry_run {
        eprintln!("fold: results are in {}", plan.out.display());
    }
    Ok(ExitCode::SUCCESS)
}
