//! Where converted weights are kept.
use std::env;
use std::path::{Path, PathBuf};

/// Name of the environment variable that names the folder.
pub const FOLDER_VARIABLE: &str = "FOLD_WEIGHTS";

/// The folder of the converted weights: `$FOLD_WEIGHTS`, else the user's data folder (`$XDG_DATA_HOME/fold/weights`, by
/// default `~/.local/share/fold/weights`; on macOS `~/Library/Application Support/fold/weights`). Not a cache: a system
/// that is short of disk may empty those. `None` if neither the variable nor a home folder is set.
pub fn folder() -> Option<PathBuf> {
    folder_from(|name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from), cfg!(target_os = "macos"))
}

fn folder_from(var: impl Fn(&str) -> Option<PathBuf>, macos: bool) -> Option<PathBuf> {
    let home = |rest: &str| Some(var("HOME")?.join(rest));
    let data = || {
        let data = if macos { home("Library/Application Support") } else { None };
        data.or_else(|| var("XDG_DATA_HOME").filter(|p| p.is_absolute())).or_else(|| home(".local/share"))
    };
    var(FOLDER_VARIABLE).or_else(|| Some(data()?.join("fold").join("weights")))
}

/// The file a model's weights are looked for under, and written to if no other name is given:
/// `<model>-<release>.safetensors`, with `-f16`, `-bf16`, `-int8` or `-int4` behind the release if they are rounded or quantised.
pub fn default_file(folder: &Path, model: &str, release: &str, dtype: &str) -> PathBuf {
    let rounded = if dtype == "f32" { String::new() } else { format!("-{dtype}") };
    folder.join(format!("{model}-{release}{rounded}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_first_then_the_systems_data_folder() {
        let find = |set: &[(&str, &str)], macos| {
            folder_from(|name| set.iter().find(|(k, _)| *k == name).map(|(_, v)| PathBuf::from(v)), macos)
        };
        let home = ("HOME", "/home/a");
        for (set, macos, expected) in [
            (&[home][..], false, Some("/home/a/.local/share/fold/weights")),
            (&[home], true, Some("/home/a/Library/Application Support/fold/weights")),
            (&[home, ("XDG_DATA_HOME", "/data")], false, Some("/data/fold/weights")),
            (&[home, ("XDG_DATA_HOME", "relative")], false, Some("/home/a/.local/share/fold/weights")),
            (&[home, (FOLDER_VARIABLE, "/w")], true, Some("/w")),
            (&[], false, None),
        ] {
            assert_eq!(find(set, macos), expected.map(PathBuf::from));
        }
    }
}
