//! `fold weights convert esm3`: four checkpoints and the tables of the function track, behind a licence that is accepted once.
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use weights_convert::{ESM3, ESM3_DATA, ESM3_FILES, Error, convert_esm3_data, esm3_files, esm3_format};

use super::exit::Usage;
use super::ui;
use super::weights::{ConvertArgs, Format, Sizes, read_sizes, weights_folder, write_weights};
use crate::models::esm3::config::Config;
use crate::weights::default_file;

/// Names of the parts in a file of sizes, in the order of [`ESM3`].
const PARTS: [&str; 4] = ["trunk", "structure_encoder", "structure_decoder", "function_decoder"];

const NOTICE: &str = "\
ESM3-open's weights are under the Cambrian Non-Commercial License Agreement of EvolutionaryScale
(https://www.evolutionaryscale.ai/policies/cambrian-non-commercial-license-agreement). It allows no commercial use. Files made
from the weights, the converted ones included, stay under it: they may not be passed on under other terms, and models made from
them carry the name ESM. The tables of the function track are part of the esm package, under the Cambrian Open License Agreement.";

/// Converts what is in the folder and prints the path of each file.
pub fn convert(args: &ConvertArgs) -> Result<ExitCode> {
    let folder = args.how.out.clone().map_or_else(weights_folder, Ok)?;
    let source = &args.checkpoint;
    if !source.is_dir() {
        let what = if source.exists() { "is no folder" } else { "is not there" };
        let files = ESM3_FILES.join(", ");
        return Err(Usage(format!("{}: {what}; name the folder of {files}", source.display())).into());
    }
    let found = esm3_files(source);
    if found.iter().all(Option::is_none) {
        let problem = format!("holds none of {} (nor do its data/weights)", ESM3_FILES.join(", "));
        return Err(Error::Unsupported { path: source.clone(), problem }.into());
    }
    accepted(&folder, args.accept_licence)?;
    let sizes = args.how.config.as_deref().map(read_sizes::<Config>).transpose()?;
    for (i, file) in found.iter().enumerate() {
        let (release, Some(file)) = (&ESM3[i], file) else {
            eprintln!("fold: {} is not there: {} is left out", ESM3_FILES[i], ESM3[i].model);
            continue;
        };
        let sizes = sizes.as_ref().map(|all| of_part(all, PARTS[i]));
        let format = match args.how.dtype {
            Some(format) => format,
            None => Format::of(esm3_format(file, args.how.ignore_checksums)?),
        };
        let target = default_file(&folder, release.model, release.version, format.name());
        write_weights(weights_convert::Model::Esm3, (file, None), &args.how, format, sizes, &target)?;
    }
    tables(args, &folder)?;
    Ok(ExitCode::SUCCESS)
}

fn of_part(all: &Sizes, part: &str) -> Sizes {
    all.get(part).and_then(|sizes| sizes.as_object()).cloned().unwrap_or_default()
}

/// The tables of the function track, if they are there.
fn tables(args: &ConvertArgs, folder: &Path) -> Result<()> {
    let target = default_file(folder, ESM3_DATA.0, ESM3_DATA.1, "f32");
    let places: Vec<&Path> =
        [Some(&args.checkpoint), args.data.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
    let missing = convert_esm3_data(&places, &target)?;
    if missing.is_empty() {
        ui::print(&format!("{}\n", target.display()))?;
    } else {
        let files = missing.join(", ");
        eprintln!(
            "fold: the function and residue annotation tracks are left out: no {files}; name esm's data folder with --data"
        );
    }
    Ok(())
}

/// The licence is shown until it has been accepted; that is kept beside the weights.
fn accepted(folder: &Path, now: bool) -> Result<()> {
    let record = folder.join("esm3-licence-accepted.txt");
    if record.exists() {
        return Ok(());
    }
    if !now {
        return Err(Usage(format!("{NOTICE}\nIf you accept them, run this again with --accept-licence")).into());
    }
    eprintln!("{NOTICE}");
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    std::fs::write(&record, format!("Accepted:\n\n{NOTICE}\n"))
        .with_context(|| format!("{}: cannot be written", record.display()))
}
