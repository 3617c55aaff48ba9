//! `fold esm3`: structures, sequences, representations and tokens with ESM3.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::exit::{self, Usage};
use super::ui::{self, Terminal};
use super::weights::weights_folder;
use crate::device::DeviceChoice;
use crate::features::esm3::Track;
use crate::models::esm3::sample::{Schedule, Settings, Strategy};
use crate::pipelines::esm3::Esm3Error;
use crate::pipelines::esm3::document::{Masks, Prompt};
use crate::pipelines::esm3::generate::{self, Plan, Request};
use crate::pipelines::esm3::models::{FORMATS, Models};
use crate::pipelines::esm3::prompts::{self, Named};
use crate::pipelines::esm3::represent::{self, Wanted};
use crate::pipelines::esm3::score;
use crate::pipelines::esm3::settings::{self, Id, UNUSUAL_LETTERS};
use crate::pipelines::output::Format;
use crate::pipelines::shard::Shard;

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
    /// Tell functions of residues
    Annotate(GenerateArgs),
    /// Write how likely each residue of a sequence is, given all others (JSON)
    Score(ReadArgs),
    /// Write the model's representation of each residue (safetensors)
    Embed(ReadArgs),
    /// Write the logits of each residue (safetensors)
    Logits(LogitsArgs),
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
    /// Chains of a structure file, such as B or A,B or all [default: the first]
    #[arg(long, value_name = "ID")]
    chain: Option<String>,
    /// Document (.json) whose tracks are added to every prompt: secondary structure, surface, functions, ...
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Residues whose amino acid and coordinates are hidden, such as 3,10-20,55- or all; counted from 1
    #[arg(long, value_name = "RANGES")]
    mask: Option<String>,
    /// Residues whose amino acid is hidden
    #[arg(long, value_name = "RANGES", conflicts_with = "mask")]
    mask_sequence: Option<String>,
    /// Residues whose coordinates are hidden
    #[arg(long, value_name = "RANGES", conflicts_with = "mask")]
    mask_structure: Option<String>,
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
    /// Memory to use at most, in GB [default: what is free]
    #[arg(long, value_name = "GB")]
    max_memory: Option<f64>,
    /// Print each result as a line of JSON on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    #[command(flatten)]
    common: Common,
    /// Tracks to generate, in this order [default: structure (fold), sequence (inverse-fold), sequence,structure (generate), function (annotate)]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    track: Vec<TrackName>,
    /// Passes of the network for each track, or one number a track; no more than there are masked residues
    #[arg(long, value_name = "N", default_value = "20", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    num_steps: Vec<u32>,
    /// Of the first pass, or one a track; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value = "1", value_delimiter = ',')]
    temperature: Vec<f64>,
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
    /// What is not drawn, such as C,M or 17; of the first track, or of another as in ss8:H
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    invalid_ids: Vec<String>,
    /// Amino acids beside the twenty (X, B, U, Z, O) may be drawn too
    #[arg(long)]
    all_letters: bool,
    /// Use the structure tokens of given coordinates beside the coordinates
    #[arg(long)]
    structure_tokens: bool,
    /// Proteins to make of each prompt
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    n_samples: u32,
    /// What the random numbers of a sample follow from, with its number
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u32,
    /// Make every n-th sample only, from the i-th, counted from 0; others make the rest, in the same folder
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    shard: Shard,
    /// Residues that are worked on together, if memory allows [default: 1024 on the CPU, 4096 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_tokens: Option<u32>,
    /// Replace results that were made with other settings
    #[arg(long)]
    overwrite: bool,
    /// Say what would be done: steps, estimated memory, what is missing; one JSON line a prompt
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct ReadArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct LogitsArgs {
    #[command(flatten)]
    common: Common,
    /// Tracks whose logits are written
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "sequence,structure,secondary-structure,sasa,function"
    )]
    track: Vec<HeadName>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HeadName {
    Sequence,
    Structure,
    #[value(alias = "ss8", alias = "secondary_structure")]
    SecondaryStructure,
    Sasa,
    Function,
    #[value(alias = "residue_annotations")]
    ResidueAnnotations,
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

impl HeadName {
    fn track(self) -> Track {
        match self {
            Self::Sequence => Track::Sequence,
            Self::Structure => Track::Structure,
            Self::SecondaryStructure => Track::SecondaryStructure,
            Self::Sasa => Track::Sasa,
            Self::Function => Track::Function,
            Self::ResidueAnnotations => Track::ResidueAnnotations,
        }
    }
}

/// What a generating subcommand takes from its prompts and makes by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Fold,
    InverseFold,
    Generate,
    Annotate,
}

impl Args {
    /// Threads on the CPU, if given.
    pub fn threads(&self) -> Option<u32> {
        let common = match &self.command {
            Command::Fold(a) | Command::InverseFold(a) | Command::Generate(a) | Command::Annotate(a) => &a.common,
            Command::Score(a) | Command::Embed(a) | Command::Encode(a) | Command::Decode(a) => &a.common,
            Command::Logits(a) => &a.common,
        };
        common.threads
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Fold(args) => generated(&args, Task::Fold),
        Command::InverseFold(args) => generated(&args, Task::InverseFold),
        Command::Generate(args) => generated(&args, Task::Generate),
        Command::Annotate(args) => generated(&args, Task::Annotate),
        Command::Score(ReadArgs { common }) => each(&common, &mut |prompt, models| {
            let (record, path) = score::score(prompt, models, &common.out)?;
            Ok((record, vec![path]))
        }),
        Command::Embed(ReadArgs { common }) => represented(&common, &Wanted::Embeddings),
        Command::Logits(LogitsArgs { common, track }) => {
            represented(&common, &Wanted::Logits(track.iter().map(|t| t.track()).collect()))
        }
        Command::Encode(ReadArgs { common }) => {
            each(&common, &mut |prompt, models| Ok(listed(prompt, represent::encode(prompt, models, &common.out)?)))
        }
        Command::Decode(ReadArgs { common }) => each(&common, &mut |prompt, models| {
            Ok(listed(prompt, represent::decode(prompt, models, &common.out, &common.format)?))
        }),
    }
}

fn represented(common: &Common, wanted: &Wanted) -> Result<ExitCode> {
    each(common, &mut |prompt, models| {
        Ok(listed(prompt, vec![represent::represent(prompt, wanted, models, &common.out)?]))
    })
}

/// The record of files of a prompt, and the files.
fn listed(prompt: &Prompt, files: Vec<PathBuf>) -> (Value, Vec<PathBuf>) {
    (json!({"name": prompt.name(), "files": files}), files)
}

impl Common {
    fn models(&self) -> Result<Models> {
        let folder = self.weights.clone().map_or_else(weights_folder, Ok)?;
        let most = match self.max_memory {
            Some(gb) if !(gb > 0. && gb.is_finite()) => {
                return Err(Usage("--max-memory is more than 0, in GB".to_owned()).into());
            }
            gb => gb.map(|gb| (gb * 1e9) as u64),
        };
        let format = self.dtype.as_ref().and_then(|name| FORMATS.into_iter().find(|format| format == name));
        Ok(Models::new(&folder, self.device.open()?, most).of_format(format))
    }

    /// The prompts of the file with what is added to them; what is to be hidden is not hidden yet.
    fn prompts(&self) -> Result<Vec<Named>> {
        let mut named = prompts::read(&self.prompt, self.chain.as_deref())?;
        if let Some(path) = &self.with {
            let added = prompts::read_document(path)?;
            named.iter_mut().flat_map(|named| &mut named.prompt).for_each(|prompt| prompt.add(&added));
        }
        Ok(named)
    }

    fn masks(&self) -> Masks {
        let or_both = |ranges: &Option<String>| ranges.clone().or_else(|| self.mask.clone());
        Masks { sequence: or_both(&self.mask_sequence), structure: or_both(&self.mask_structure) }
    }
}

/// A prompt's files, and what is said of them.
type Written = (Value, Vec<PathBuf>);

/// Does something with each prompt and prints the paths it gives; one that fails does not stop the others.
fn each(common: &Common, run: &mut dyn FnMut(&Prompt, &mut Models) -> Result<Written, Esm3Error>) -> Result<ExitCode> {
    let named = common.prompts()?;
    let (n, only, masks) = (named.len(), named.len() == 1, common.masks());
    let mut models = common.models()?;
    let mut failed = 0;
    for Named { name, prompt } in named {
        let done = prompt.and_then(|mut prompt| {
            prompt.mask(&masks)?;
            run(&prompt, &mut models)
        });
        match done {
            Ok((record, _)) if common.json => ui::print(&format!("{record}\n"))?,
            Ok((_, paths)) => {
                for path in paths {
                    ui::print(&format!("{}\n", path.display()))?;
                }
            }
            Err(e) if only || e.stops_all() => return Err(e.into()),
            Err(e) => {
                failed += 1;
                report(&name, &e);
            }
        }
    }
    if failed > 0 {
        eprintln!("fold: {failed} of {n} prompts failed");
        return Ok(ExitCode::from(exit::SOME_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line about a prompt that failed; most faults name it themselves.
fn report(name: &str, error: &Esm3Error) {
    let text = ui::chain_of(error);
    if text.contains(name) { eprintln!("fold: {text}") } else { eprintln!("fold: {name}: {text}") }
}

fn generated(args: &GenerateArgs, task: Task) -> Result<ExitCode> {
    let common = &args.common;
    let options = Options::new(args, task)?;
    let request = |Named { name, prompt }: Named| {
        let prompt = prompt.and_then(|mut prompt| {
            take(&mut prompt, task, &common.masks())?;
            let tracks = options.tracks(&mut prompt)?;
            Ok((prompt, tracks))
        });
        Request { name, prompt }
    };
    let requests: Vec<Request> = common.prompts()?.into_iter().map(request).collect();
    let n = requests.len();
    let mut plan = Plan {
        requests,
        uses_structure_tokens: args.structure_tokens,
        n_sample: args.n_samples as usize,
        seed: args.seed,
        shard: args.shard,
        batch_tokens: args.batch_tokens.map(|n| n as usize),
        out: common.out.clone(),
        formats: common.format.clone(),
        overwrite: args.overwrite,
        dry_run: args.dry_run,
    };
    let mut terminal = Terminal::new(common.json || args.dry_run);
    let done = generate::run(&mut plan, &mut common.models()?, &mut terminal);
    terminal.finish();
    let failed = done?;
    failed.iter().for_each(|(name, error)| report(name, error));
    if !failed.is_empty() {
        let list = plan.out.join("failed.json");
        let list = if args.dry_run { String::new() } else { format!(": {}", list.display()) };
        eprintln!("fold: {} of {n} prompts failed{list}", failed.len());
        return Ok(ExitCode::from(exit::SOME_FAILED));
    }
    if !args.dry_run {
        eprintln!("fold: results are in {}", plan.out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves of a prompt what the task reads, and hides what is to be hidden.
fn take(prompt: &mut Prompt, task: Task, masks: &Masks) -> Result<(), Esm3Error> {
    let lacks = |what: &str| Esm3Error::Prompt { name: prompt.name().to_owned(), problem: format!("has no {what}") };
    match task {
        Task::Fold if prompt.document.sequence.is_none() => return Err(lacks("sequence to fold")),
        Task::InverseFold if prompt.atoms.is_none() => {
            return Err(lacks("structure to design a sequence for; give a .pdb or .cif file, or coordinates"));
        }
        Task::Fold => {
            prompt.atoms = None;
            prompt.document.coordinates = None;
            prompt.document.tokens = None;
        }
        Task::InverseFold => prompt.document.tokens = None,
        Task::Generate | Task::Annotate => {}
    }
    let in_document = prompt.document.mask.as_ref().is_some_and(|mask| mask.sequence.is_some());
    if task == Task::InverseFold && masks.sequence.is_none() && !in_document {
        prompt.document.sequence = None;
    }
    prompt.mask(masks)
}

/// How tracks are generated where a document does not say it.
struct Options<'a> {
    args: &'a GenerateArgs,
    tracks: Vec<Track>,
    /// Ids that are not drawn, by track.
    invalid: Vec<(Track, u16)>,
}

impl<'a> Options<'a> {
    fn new(args: &'a GenerateArgs, task: Task) -> Result<Self> {
        let default = match task {
            Task::Fold => vec![Track::Structure],
            Task::InverseFold => vec![Track::Sequence],
            Task::Generate => vec![Track::Sequence, Track::Structure],
            Task::Annotate => vec![Track::Function],
        };
        let tracks = if args.track.is_empty() { default } else { args.track.iter().map(|t| t.track()).collect() };
        for (option, n) in [("--num-steps", args.num_steps.len()), ("--temperature", args.temperature.len())] {
            if n > 1 && n != tracks.len() {
                let problem = format!("{option} has {n} numbers for {} tracks: give one, or one a track", tracks.len());
                return Err(Usage(problem).into());
            }
        }
        let invalid = args.invalid_ids.iter().map(|text| invalid_id(text, &tracks)).collect::<Result<_, String>>();
        let options = Self { args, invalid: invalid.map_err(|e| Usage(format!("--invalid-ids: {e}")))?, tracks };
        for (i, track) in options.tracks.iter().enumerate() {
            settings::check(&options.settings(*track, i))
                .map_err(|e| Usage(format!("--{}", e.replacen('_', "-", 1))))?;
        }
        Ok(options)
    }

    /// The tracks of a prompt: its document's, else the command's.
    fn tracks(&self, prompt: &mut Prompt) -> Result<Vec<Settings>, Esm3Error> {
        let Some(wanted) = prompt.document.generate.take() else {
            return Ok(self.tracks.iter().enumerate().map(|(i, track)| self.settings(*track, i)).collect());
        };
        let place = |track: Track| self.tracks.iter().position(|t| *t == track).unwrap_or(0);
        let resolve = |(i, s): (usize, &settings::TrackSettings)| {
            let resolved = s.resolve(|track| self.settings(track, place(track)));
            let problem = |e| format!("generate[{i}]: {e}");
            resolved.map_err(|e| Esm3Error::Prompt { name: prompt.name().to_owned(), problem: problem(e) })
        };
        if wanted.is_empty() {
            let problem = "generate: no track is named".to_owned();
            return Err(Esm3Error::Prompt { name: prompt.name().to_owned(), problem });
        }
        wanted.iter().enumerate().map(resolve).collect()
    }

    /// What the command says of a track, the `i`-th of those it names.
    fn settings(&self, track: Track, i: usize) -> Settings {
        let args = self.args;
        let temperature = args.temperature[i.min(args.temperature.len() - 1)];
        let unusual = (track == Track::Sequence && !args.all_letters).then_some(UNUSUAL_LETTERS);
        let invalid = self.invalid.iter().filter(|(t, _)| *t == track).map(|(_, id)| *id);
        Settings {
            n_step: args.num_steps[i.min(args.num_steps.len() - 1)] as usize,
            schedule: match args.schedule {
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Linear => Schedule::Linear,
            },
            strategy: match args.strategy {
                StrategyName::Random => Strategy::Random,
                StrategyName::Entropy => Strategy::Entropy,
            },
            temperature,
            is_annealed: !args.no_annealing && temperature > 0.,
            top_p: args.top_p,
            invalid_ids: unusual.into_iter().flatten().chain(invalid).collect(),
            ..Settings::new(track)
        }
    }
}

/// An id that is not to be drawn, and its track: of `tracks` the first if it does not name one.
fn invalid_id(text: &str, tracks: &[Track]) -> Result<(Track, u16), String> {
    let (track, id) = match text.split_once(':') {
        Some((name, id)) => {
            let found = TrackName::from_str(name, true).map_err(|_| format!("{name:?}: {}", settings::TRACK_NAMES))?;
            (found.track(), id)
        }
        None => (tracks[0], text),
    };
    Ok((track, Id::Letter(id.to_owned()).of(track)?))
}
