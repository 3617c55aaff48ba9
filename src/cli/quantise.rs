//! `fold weights quantise`: converted weights to fewer bits.
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use weights_convert::{ESM3, Error, QuantiseOptions, Release, read_header};

use super::exit::Usage;
use super::ui;
use super::weights::{Format, advance, bar, builds_a_model, weights_folder};
use crate::weights::default_file;

#[derive(Debug, Args)]
pub(super) struct QuantiseArgs {
    /// Model whose converted weights are quantised
    model: Quantisable,
    /// Bits of a weight: 4 or 8
    #[arg(long, value_name = "N", value_parser = ["4", "8"])]
    bits: String,
    /// Neighbouring weights that share a scale: 32, 64 or 128
    #[arg(long, value_name = "N", default_value = "64", value_parser = ["32", "64", "128"])]
    group_size: String,
    /// Which converted weights to start from; scales are stored in their format [default: the first of these that is there]
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Folder of the converted weights, to which the new files go [default: $FOLD_WEIGHTS, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

/// Models that run on quantised weights.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Quantisable {
    Esm3,
}

/// Parts of ESM3 that stay as they are: small, and what they give are codes.
const KEPT: &str = "esm3-structure-encoder";

const LICENCE: &str = "Quantised weights of ESM3 stay under the licence of the weights that they are made from";

/// Quantises the parts that are there and prints the path of each file.
pub(super) fn run(args: &QuantiseArgs) -> Result<ExitCode> {
    let Quantisable::Esm3 = args.model;
    let folder = args.weights.clone().map_or_else(weights_folder, Ok)?;
    let parts = ESM3.iter().filter(|release| release.model != KEPT);
    let parts: Vec<_> = parts.map(|release| (release, source(&folder, release, args.from))).collect();
    if parts.iter().all(|(_, source)| source.is_none()) {
        let format = args.from.map_or(String::new(), |from| format!(" --dtype {}", from.name()));
        let convert = format!("convert the official files with `fold weights convert esm3 DIR{format}`");
        return Err(Usage(format!("no weights of esm3 to quantise in {}; {convert}", folder.display())).into());
    }
    for (release, source) in parts {
        match source {
            Some(source) => quantise(args, &folder, release, &source)?,
            None => eprintln!("fold: {} is not in {}: it is left out", release.model, folder.display()),
        }
    }
    eprintln!("{LICENCE}");
    Ok(ExitCode::SUCCESS)
}

/// The converted file of a part.
fn source(folder: &Path, release: &Release, from: Option<Format>) -> Option<PathBuf> {
    let formats = from.map_or(vec![Format::F32, Format::Bf16, Format::F16], |from| vec![from]);
    let file = |format: Format| default_file(folder, release.model, release.version, format.name());
    formats.into_iter().map(file).find(|path| path.is_file())
}

fn quantise(args: &QuantiseArgs, folder: &Path, release: &Release, source: &Path) -> Result<()> {
    let header = read_header(source)?;
    if header.get("model") != Some(release.model) {
        let problem =
            format!("holds weights of {}, not of {}", header.get("model").unwrap_or("no model"), release.model);
        return Err(Error::Unsupported { path: source.to_owned(), problem }.into());
    }
    let target = default_file(folder, release.model, release.version, &format!("int{}", args.bits));
    let bar = bar("quantising");
    let report = weights_convert::quantise(
        source,
        &target,
        QuantiseOptions {
            bits: args.bits.parse()?,
            group: args.group_size.parse()?,
            check: Some(&builds_a_model),
            progress: Some(&mut |done, total| advance(&bar, done, total)),
        },
    );
    bar.finish_and_clear();
    let report = report?;
    eprintln!(
        "{}: {} matrices of {:.1} million numbers in {} bits, {} tensors as they were, {:.2} GB, in {:.1} s",
        release.model,
        report.n_quantised,
        report.n_value as f64 / 1e6,
        args.bits,
        report.n_kept,
        report.file_len as f64 / 1e9,
        report.elapsed.as_secs_f64()
    );
    ui::print(&format!("{}\n", target.display()))
}
