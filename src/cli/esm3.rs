//! `fold esm3`: structures, sequences, representations and tokens with ESM3.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use super::exit::Usage;
use super::ui::{self, Terminal};
use super::weights::weights_folder;
use crate::device::DeviceChoice;
use crate::features::esm3::Track;
use crate::models::esm3::sample::{Schedule, Settings, Strategy};
use crate::pipelines::esm3::document::{self, Prompt};
use crate::pipelines::esm3::generate::{self, Plan};
use crate::pipelines::esm3::models::{FORMATS, Models};
use crate::pipelines::esm3::represent::{self, Wanted};
use crate::pipelines::output::Format;

/// Generate and read proteins with ESM3
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Predict structures of sequences
    Fold(GenerateArgs),
    /// Design sequences for structures
    InverseFold(GenerateArgs),
    /// Fill the masked parts of proteins, one track after the other
    Generate(GenerateArgs),
    /// Write the model's representation of each residue (safetensors)
    Embed(ReadArgs),
    /// Write the logits of each residue (safetensors)
    Logits(ReadArgs),
    /// Write the tokens of each track (JSON)
    Encode(ReadArgs),
    /// Write what tokens say: sequence, structure, functions
    Decode(ReadArgs),
}

/// What all subcommands share.
#[derive(Debug, clap::Args)]
struct Common {
    /// Proteins: .fasta (`_` is a masked residue), .pdb, .cif, or .json (see docs/formats.md)
    prompt: PathBuf,
    /// Folder for the results; made if missing
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Chain of a structure file [default: the first]
    #[arg(long, value_name = "ID")]
    chain: Option<String>,
    /// Folder of the converted weights [default: $FOLD_WEIGHTS, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Number format of the weights: f32, bf16, f16, int8, int4; the arithmetic is that of f32 [default: the first that is there]
    #[arg(long, value_name = "NAME", value_parser = FORMATS)]
    dtype: Option<String>,
    /// Structure files to write: cif, pdb
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "cif")]
    format: Vec<Format>,
    /// auto, cpu or metal
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    #[command(flatten)]
    common: Common,
    /// Tracks to generate, in this order [default: structure (fold), sequence (inverse-fold), sequence,structure (generate)]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    track: Vec<TrackName>,
    /// Passes of the network for each track; no more than there are masked residues
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    num_steps: u32,
    /// Of the first pass; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value = "1")]
    temperature: f64,
    /// Keep the temperature; without this it falls to almost 0 with the passes
    #[arg(long)]
    no_annealing: bool,
    /// Residues written in each pass: few first (cosine) or equally many
    #[arg(long, default_value = "cosine")]
    schedule: ScheduleName,
    /// Which residues are written first
    #[arg(long, default_value = "random")]
    strategy: StrategyName,
    /// Draw from the likeliest tokens that have this probability together
    #[arg(long, value_name = "P", default_value = "1")]
    top_p: f64,
    /// Amino acids beside the twenty (X, B, U, Z, O) may be drawn too
    #[arg(long)]
    all_letters: bool,
    /// Use the structure tokens of given coordinates beside the coordinates
    #[arg(long)]
    structure_tokens: bool,
    /// Proteins to make of each prompt
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    n_samples: u32,
    /// Sample k draws its random numbers from seed + k
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Replace results that were made with other settings
    #[arg(long)]
    overwrite: bool,
    /// Print each result as a line of JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ReadArgs {
    #[command(flatten)]
    common: Common,
    /// Tracks whose logits are written
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "sequence,structure,secondary-structure,sasa,function"
    )]
    track: Vec<TrackName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TrackName {
    Sequence,
    Structure,
    #[value(alias = "ss8", alias = "secondary_structure")]
    SecondaryStructure,
    Sasa,
    Function,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScheduleName {
    Cosine,
    Linear,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StrategyName {
    Random,
    Entropy,
}

impl TrackName {
    fn track(self) -> Track {
        match self {
            Self::Sequence => Track::Sequence,
            Self::Structure => Track::Structure,
            Self::SecondaryStructure => Track::SecondaryStructure,
            Self::Sasa => Track::Sasa,
            Self::Function => Track::Function,
        }
    }
}

/// Ids of the letters X B U Z O . -
const UNUSUAL_LETTERS: std::ops::Range<u16> = 24..31;

/// What a generating subcommand takes from its prompts and makes by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Fold,
    InverseFold,
    Generate,
}

impl Args {
    /// Threads on the CPU, if given.
    pub fn threads(&self) -> Option<u32> {
        match &self.command {
            Command::Fold(a) | Command::InverseFold(a) | Command::Generate(a) => a.common.threads,
            Command::Embed(a) | Command::Logits(a) | Command::Encode(a) | Command::Decode(a) => a.common.threads,
        }
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Fold(args) => generated(args, Task::Fold),
        Command::InverseFold(args) => generated(args, Task::InverseFold),
        Command::Generate(args) => generated(args, Task::Generate),
        Command::Embed(args) => each(&args, &mut |prompt, models| {
            Ok(vec![represent::represent(prompt, &Wanted::Embeddings, models, &args.common.out)?])
        }),
        Command::Logits(args) => {
            let wanted = Wanted::Logits(args.track.iter().map(|t| t.track()).collect());
            each(&args, &mut |prompt, models| {
                Ok(vec![represent::represent(prompt, &wanted, models, &args.common.out)?])
            })
        }
        Command::Encode(args) => {
            each(&args, &mut |prompt, models| Ok(represent::encode(prompt, models, &args.common.out)?))
        }
        Command::Decode(args) => each(&args, &mut |prompt, models| {
            Ok(represent::decode(prompt, models, &args.common.out, &args.common.format)?)
        }),
    }
}

fn models(common: &Common) -> Result<Models> {
    let folder = common.weights.clone().map_or_else(weights_folder, Ok)?;
    let format = common.dtype.as_ref().and_then(|name| FORMATS.into_iter().find(|format| format == name));
    Ok(Models::new(&folder, common.device.open()?).of_format(format))
}

/// Does something with each prompt and prints the paths it gives.
fn each(args: &ReadArgs, run: &mut dyn FnMut(&Prompt, &mut Models) -> Result<Vec<PathBuf>>) -> Result<ExitCode> {
    let common = &args.common;
    let prompts = document::read(&common.prompt, common.chain.as_deref())?;
    let mut models = models(common)?;
    for prompt in &prompts {
        for path in run(prompt, &mut models)? {
            ui::print(&format!("{}\n", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn generated(args: GenerateArgs, task: Task) -> Result<ExitCode> {
    let mut prompts = document::read(&args.common.prompt, args.common.chain.as_deref())?;
    for prompt in &mut prompts {
        take(prompt, task)?;
    }
    if !(args.temperature >= 0. && args.top_p > 0.) {
        return Err(Usage("--temperature is 0 or more, --top-p more than 0".to_owned()).into());
    }
    let mut terminal = Terminal::new(args.json);
    let plan = Plan {
        tracks: settings(&args, task),
        uses_structure_tokens: args.structure_tokens,
        prompts,
        n_sample: args.n_samples as usize,
        seed: args.seed,
        out: args.common.out.clone(),
        formats: args.common.format.clone(),
        overwrite: args.overwrite,
    };
    let done = generate::run(&plan, &mut models(&args.common)?, &mut terminal);
    terminal.finish();
    done?;
    eprintln!("fold: results are in {}", plan.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Leaves of a prompt what the task reads.
fn take(prompt: &mut Prompt, task: Task) -> Result<()> {
    let lacks = |what: &str| Usage(format!("{}: has no {what}", prompt.name()));
    match task {
        Task::Fold if prompt.document.sequence.is_none() => return Err(lacks("sequence to fold").into()),
        Task::Fold => {
            prompt.atoms = None;
            prompt.document.coordinates = None;
            prompt.document.tokens = None;
        }
        Task::InverseFold if prompt.atoms.is_none() => {
            return Err(lacks("structure to design a sequence for; give a .pdb or .cif file, or coordinates").into());
        }
        Task::InverseFold => {
            prompt.document.sequence = None;
            prompt.document.tokens = None;
        }
        Task::Generate => {}
    }
    Ok(())
}

fn settings(args: &GenerateArgs, task: Task) -> Vec<Settings> {
    let default = match task {
        Task::Fold => vec![Track::Structure],
        Task::InverseFold => vec![Track::Sequence],
        Task::Generate => vec![Track::Sequence, Track::Structure],
    };
    let tracks = if args.track.is_empty() { default } else { args.track.iter().map(|t| t.track()).collect() };
    let of = |track: Track| {
        let twenty_only = track == Track::Sequence && !args.all_letters;
        Settings {
            n_step: args.num_steps as usize,
            schedule: match args.schedule {
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Linear => Schedule::Linear,
            },
            strategy: match args.strategy {
                StrategyName::Random => Strategy::Random,
                StrategyName::Entropy => Strategy::Entropy,
            },
            temperature: args.temperature,
            is_annealed: !args.no_annealing && args.temperature > 0.,
            top_p: args.top_p,
            invalid_ids: if twenty_only { UNUSUAL_LETTERS.collect() } else { Vec::new() },
            ..Settings::new(track)
        }
    };
    tracks.into_iter().map(of).collect()
}
