//! `fold weights convert mpnn`: one checkpoint, or all of a folder.
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use weights_convert::{Model, mpnn_release};

use super::exit::Usage;
use super::weights::{ConvertArgs, Format, read_sizes, weights_folder, write_weights};
use crate::models::mpnn::config::Config;
use crate::weights::default_file;

/// Converts and prints the path of each file.
pub fn convert(args: &ConvertArgs) -> Result<ExitCode> {
    let source = &args.checkpoint;
    let sizes = args.how.config.as_deref().map(read_sizes::<Config>).transpose()?;
    let checkpoints = if source.is_dir() { checkpoints(source)? } else { vec![source.clone()] };
    for checkpoint in &checkpoints {
        let soluble = args.soluble || is_called_soluble(checkpoint);
        let release = mpnn_release(checkpoint, soluble)?;
        let format = args.how.dtype.unwrap_or(Format::F32);
        let name = |folder: &Path| default_file(folder, release.model, release.version, format.name());
        let target = match &args.how.out {
            Some(folder) if source.is_dir() => name(folder),
            Some(file) => file.clone(),
            None => name(&weights_folder()?),
        };
        write_weights(Model::ProteinMpnn { soluble }, (checkpoint, None), &args.how, format, sizes.clone(), &target)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The checkpoints of a folder, by name.
fn checkpoints(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, _>>());
    let mut found = entries.with_context(|| format!("{}: cannot be read", folder.display()))?;
    found.retain(|path| path.extension().is_some_and(|e| e == "pt"));
    found.sort();
    if found.is_empty() {
        return Err(Usage(format!("{}: holds no .pt file; name v_48_020.pt or its folder", folder.display())).into());
    }
    Ok(found)
}

/// Is the checkpoint in `soluble_model_weights`, as it is published?
fn is_called_soluble(checkpoint: &Path) -> bool {
    let path = std::path::absolute(checkpoint).unwrap_or_else(|_| checkpoint.to_owned());
    path.parent().and_then(Path::file_name).is_some_and(|name| name.to_string_lossy().starts_with("soluble"))
}
