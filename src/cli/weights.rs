//! `fold weights`: official checkpoints to weights files, what is there, whether it is whole.
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use weights_convert::{Dtype, Error, Header, Options, Release, read_header, verify};

use super::exit::Usage;
use super::pull::{self, PullArgs};
use super::quantise::{self, QuantiseArgs};
use super::{esm3_weights, mpnn_weights, ui};
use crate::models::{af2, af3, pxdesign};
use crate::pipelines::doctor::look;
use crate::weights::{FOLDER_VARIABLE, Weights, default_file, demo, folder};

/// Download, convert, list and verify model weights
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download a model's official checkpoint and convert it; run again, it goes on where it stopped
    Pull(PullArgs),
    /// Convert an official checkpoint (.pt, .npz, .tar) into a weights file (.safetensors)
    Convert(ConvertArgs),
    /// Make converted weights smaller: 4 or 8 bits a weight
    Quantise(QuantiseArgs),
    /// Compare weights files with the checksums they were written with
    Verify {
        /// Weights files [default: all in the weights folder]
        files: Vec<PathBuf>,
    },
    /// List the weights folder ($FOLD_WEIGHTS, else the user's data folder)
    List {
        /// One JSON object a file and line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ConvertArgs {
    /// Model the checkpoint is of
    model: Checkpoint,
    /// Official checkpoint: for OpenFold3 0.5.0, of3-ob-2025-06-30-174k.pt; for AlphaFold2 params_model_1_ptm.npz or
    /// another of alphafold_params_2022-12-06.tar, or all of that archive; for ESM3 the folder of esm3_sm_open_v1.pth; for
    /// PXDesign pxdesign_v0.1.0.pt; for Protenix protenix_base_default_v0.5.0.pt, protenix_mini_default_v0.5.0.pt or
    /// protenix_mini_tmpl_v0.5.0.pt; for ProteinMPNN v_48_020.pt or another, or a folder of them
    pub(super) checkpoint: PathBuf,
    #[command(flatten)]
    pub(super) how: How,
    /// ESM3: folder of the package's tables (esm/data), if they are not with the checkpoints
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// ESM3: accept the licence of its weights; asked for once
    #[arg(long)]
    pub(super) accept_licence: bool,
    /// ProteinMPNN: the checkpoint is SolubleMPNN's [default: if its folder is called so]
    #[arg(long)]
    pub(super) soluble: bool,
}

/// What a checkpoint is of.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Checkpoint {
    Openfold3,
    Af2,
    Esm3,
    Pxdesign,
    Protenix,
    Mpnn,
}

/// How a checkpoint is converted.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Weights file to write, of an archive or of ESM3 the folder [default: <model>-<release>.safetensors in the weights folder]
    #[arg(short, long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Number format of matrices; vectors stay f32 [default: f32; of ESM3 that of its checkpoints, which have 16 bits]
    #[arg(long)]
    pub(super) dtype: Option<Format>,
    /// JSON file with the model's sizes, if they are not the release's (small models for tests)
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Accept a checkpoint that was saved without checksums
    #[arg(long)]
    pub(super) ignore_checksums: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Model {
    Openfold3,
    Af2,
    Pxdesign,
    ProtenixBase,
    ProtenixMini,
    ProtenixMiniTmpl,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// That of the file.
    pub(super) fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            _ => Self::F32,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Pull(args) => pull::run(args),
        Command::Convert(args) => match args.model {
            Checkpoint::Openfold3 => convert(Model::Openfold3, &args.checkpoint, &args.how),
            Checkpoint::Af2 => convert(Model::Af2, &args.checkpoint, &args.how),
            Checkpoint::Esm3 => esm3_weights::convert(&args),
            Checkpoint::Pxdesign => convert(Model::Pxdesign, &args.checkpoint, &args.how),
            Checkpoint::Protenix => convert(Model::ProtenixBase, &args.checkpoint, &args.how),
            Checkpoint::Mpnn => mpnn_weights::convert(&args),
        },
        Command::Quantise(args) => quantise::run(&args),
        Command::Verify { files } => verify_files(files),
        Command::List { json } => list(json),
    }
}

/// Converts a checkpoint, or every one in an archive, and prints the paths of the weights files.
pub(super) fn convert(model: Model, checkpoint: &Path, how: &How) -> Result<ExitCode> {
    let convert_one = |release, member| convert_one(model, checkpoint, how, release, member);
    match model {
        Model::Openfold3 => convert_one(&weights_convert::OPENFOLD3, None),
        Model::Pxdesign => convert_one(&weights_convert::PXDESIGN, None),
        Model::ProtenixBase | Model::ProtenixMini | Model::ProtenixMiniTmpl => {
            convert_one(weights_convert::protenix_release(checkpoint, how.ignore_checksums)?, None)
        }
        Model::Af2 if how.ignore_checksums => {
            Err(Usage("--ignore-checksums is for checkpoints of torch; those of AlphaFold2 have theirs".into()).into())
        }
        Model::Af2 => {
            let members = weights_convert::parameter_files(checkpoint)?;
            if members.is_empty() {
                return convert_one(weights_convert::parameter_set(checkpoint)?, None);
            }
            // A later file that is not supported is found before an earlier one is written.
            let sets = members.iter().map(|member| weights_convert::parameter_set(Path::new(member)));
            for (member, set) in members.iter().zip(sets.collect::<Result<Vec<_>, _>>()?) {
                convert_one(set, Some(member))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Converts a checkpoint of `release`, or one of a tar archive, and prints the weights file's path.
fn convert_one(
    model: Model,
    checkpoint: &Path,
    how: &How,
    release: &Release,
    member: Option<&str>,
) -> Result<ExitCode> {
    let config = how.config.as_deref().map(|path| read_config(path, model)).transpose()?;
    let format = how.dtype.unwrap_or(Format::F32);
    let name = |folder: &Path| default_file(folder, release.model, release.version, format.name());
    let target = match (&how.out, member) {
        (Some(folder), Some(_)) => name(folder),
        (Some(target), None) => target.clone(),
        (None, _) => name(&weights_folder()?),
    };
    write_weights(model.official(), (checkpoint, member), how, format, config, &target)
}

/// Converts `checkpoint`, or the `member` of it, into the weights file `target`, says what it was and prints the file's path.
pub(super) fn write_weights(
    model: weights_convert::Model,
    (checkpoint, member): (&Path, Option<&str>),
    how: &How,
    format: Format,
    config: Option<Sizes>,
    target: &Path,
) -> Result<ExitCode> {
    let bar = bar("converting");
    let report = weights_convert::convert(
        checkpoint,
        target,
        Options {
            model,
            member,
            dtype: format.dtype(),
            config,
            ignore_checksums: how.ignore_checksums,
            check: Some(&builds_a_model),
            progress: Some(&mut |done, total| advance(&bar, done, total)),
        },
    );
    bar.finish_and_clear();
    let report = report?;
    eprintln!(
        "{} {}: {} tensors, {:.1} million numbers, {} of the checkpoint's {} tensors left out, in {:.1} s",
        report.release.model,
        report.release.version,
        report.n_tensor,
        report.n_value as f64 / 1e6,
        report.n_dropped,
        report.n_official,
        report.elapsed.as_secs_f64()
    );
    ui::print(&format!("{}\n", target.display()))?;
    Ok(ExitCode::SUCCESS)
}

impl Model {
    fn official(self) -> weights_convert::Model {
        match self {
            Self::Openfold3 => weights_convert::Model::OpenFold3,
            Self::Af2 => weights_convert::Model::AlphaFold2,
            Self::Pxdesign => weights_convert::Model::PxDesign,
            Self::ProtenixBase | Self::ProtenixMini | Self::ProtenixMiniTmpl => weights_convert::Model::Protenix,
        }
    }
}

/// Sizes of a model by name.
pub(super) type Sizes = serde_json::Map<String, serde_json::Value>;

/// The sizes in `path`, as they go into the file's metadata.
fn read_config(path: &Path, model: Model) -> Result<Sizes> {
    match model {
        Model::Openfold3 | Model::ProtenixBase | Model::ProtenixMini | Model::ProtenixMiniTmpl => {
            read_sizes::<af3::config::Config>(path)
        }
        Model::Af2 => read_sizes::<af2::config::Config>(path),
        Model::Pxdesign => read_sizes::<pxdesign::config::Config>(path),
    }
}

/// The sizes in `path`; anything but a whole set of those of a `Config` is an error.
pub(super) fn read_sizes<Config: serde::de::DeserializeOwned>(path: &Path) -> Result<Sizes> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let wrong =
        |e| Error::Format { path: path.to_owned(), problem: format!("does not hold the sizes of a model: {e}") };
    serde_json::from_slice::<Config>(&bytes).map_err(wrong)?;
    Ok(serde_json::from_slice(&bytes).map_err(wrong)?)
}

/// Every tensor of the file belongs to the model, and every tensor of the model is there with its shape.
pub(super) fn builds_a_model(path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    look(path)?;
    Ok(())
}

fn verify_files(files: Vec<PathBuf>) -> Result<ExitCode> {
    let files = if files.is_empty() { weights_files(&weights_folder()?)? } else { files };
    let mut failure = None;
    for path in &files {
        let bar = bar("verifying");
        let result = verify(path, &mut |done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        match result {
            Ok(_) => ui::print(&format!("{}: whole\n", path.display()))?,
            Err(e) => {
                // One damaged file does not hide the next; the first one decides the exit code.
                if let Some(earlier) = failure.replace(e) {
                    eprintln!("fold: {:#}", anyhow::Error::from(earlier));
                }
            }
        }
    }
    match failure {
        Some(e) => Err(e.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A line of `fold weights list --json`.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    /// `None`: part of the program.
    path: Option<&'a Path>,
    model: Option<&'a str>,
    release: Option<&'a str>,
    dtype: &'a str,
    /// Of quantised weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantisation: Option<&'a str>,
    n_tensor: usize,
    bytes: u64,
    source_file: Option<&'a str>,
    source_sha256: Option<&'a str>,
    /// What the user must know.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl<'a> Listed<'a> {
    fn new(path: &'a Path, header: &'a Header) -> Self {
        let matrix = header.tensors.iter().find(|t| t.shape.len() > 1);
        Self {
            path: Some(path),
            model: header.get("model"),
            release: header.get("release"),
            dtype: quantised_name(header).unwrap_or(matrix.map_or("", |t| t.dtype.name())),
            quantisation: header.get("quantisation"),
            n_tensor: header.tensors.len(),
            bytes: header.file_len,
            source_file: header.get("source_file"),
            source_sha256: header.get("source_sha256"),
            note: None,
        }
    }

    /// The demonstration model.
    fn demo(weights: &'a Weights) -> Self {
        let known: Vec<_> = demo::KNOWN.iter().map(|(name, what, entry)| format!("{name} ({what}, {entry})")).collect();
        Self {
            path: None,
            model: Some("demo"),
            release: weights.metadata("release"),
            dtype: Dtype::F16.name(),
            quantisation: None,
            n_tensor: weights.n_tensor(),
            bytes: demo::FILE.len() as u64,
            source_file: weights.metadata("source_file"),
            source_sha256: weights.metadata("source_sha256"),
            note: Some(format!("{}: {}", demo::warning(), known.join(", "))),
        }
    }
}

/// How the list calls quantised weights.
fn quantised_name(header: &Header) -> Option<&'static str> {
    match header.get("bits")? {
        "4" => Some("INT4"),
        "8" => Some("INT8"),
        _ => None,
    }
}

fn list(json: bool) -> Result<ExitCode> {
    let folder = weights_folder()?;
    let files = weights_files(&folder)?;
    if files.is_empty() && !json {
        eprintln!("No weights in {}; fold weights pull or convert makes some", folder.display());
    }
    for path in &files {
        let header = match read_header(path) {
            Ok(header) => header,
            Err(e) => {
                eprintln!("fold: {:#}", anyhow::Error::from(e));
                continue;
            }
        };
        let row = Listed::new(path, &header);
        if json {
            ui::print(&(serde_json::to_string(&row)? + "\n"))?;
        } else {
            let (model, release) = (row.model.unwrap_or("?"), row.release.unwrap_or("?"));
            let (gigabytes, from) = (row.bytes as f64 / 1e9, row.source_file.unwrap_or("?"));
            ui::print(&format!("{model} {release} {} {gigabytes:.2} GB from {from}  {}\n", row.dtype, path.display()))?;
        }
    }
    list_demo(json)?;
    Ok(ExitCode::SUCCESS)
}

/// The last line of the list: what is part of the program.
fn list_demo(json: bool) -> Result<()> {
    let weights = demo::open(&Device::Cpu)?;
    let row = Listed::demo(&weights);
    if json {
        return ui::print(&(serde_json::to_string(&row)? + "\n"));
    }
    let (release, note) = (row.release.unwrap_or("?"), row.note.unwrap_or_default());
    let megabytes = row.bytes as f64 / 1e6;
    ui::print(&format!("demo {release} {} {megabytes:.1} MB inside the program; {note}\n", row.dtype))
}

/// The weights folder, or what to do if there is none.
pub(super) fn weights_folder() -> Result<PathBuf> {
    let fault =
        || Usage(format!("no weights folder: neither {FOLDER_VARIABLE} nor HOME is set; set one, or name the file"));
    Ok(folder().ok_or_else(fault)?)
}

/// The weights files of a folder, by name; none if the folder is not there.
pub(super) fn weights_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("{}: cannot be read", folder.display())),
    };
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.with_context(|| format!("{}: cannot be read", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    Ok(paths)
}

/// Hidden where stderr is no terminal.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}").expect("a template");
    ProgressBar::new(0).with_style(style).with_message(what)
}

pub(super) fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}
