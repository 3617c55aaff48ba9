//! The folder of a run: files are written under another name and renamed, so that a file that is there is whole.
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::output::pretty;

/// What went wrong with a file of the run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file cannot be written: a full disk, a missing right.
    #[error("{}: cannot be written; finished results are kept, and the same command goes on from there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read back.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds results of other settings.
    #[error(
        "{}: holds results of other settings ({difference}); give another folder with --out, or --overwrite",
        path.display()
    )]
    OtherSettings {
        /// The folder.
        path: PathBuf,
        /// The first setting that differs.
        difference: String,
    },
}

/// Writes `bytes` to `path`: whole or not at all, also when the program is killed or the disk is full.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_by_way_of(&partial_name(path), path, bytes)
}

/// As [`write()`], where other processes may write the same file at the same time with the same bytes, and may take away what looks
/// like the rest of a killed process ([`remove_partial`]).
pub fn write_shared(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let partial = partial_name_of_process(path);
    for _ in 0..ATTEMPTS {
        match write_by_way_of(&partial, path, bytes) {
            // Taken away between the end of the writing and the renaming.
            Err(StoreError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    write_by_way_of(&partial, path, bytes)
}

fn write_by_way_of(partial: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fail = |source| StoreError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let written = File::create(partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(partial, path));
    done.map_err(|source| {
        // What is left of a failed file is of no use; the failure itself is what the user must see.
        let _ = fs::remove_file(partial);
        fail(source)
    })
}

/// How often a file is written again whose unfinished form another process has taken away.
const ATTEMPTS: u32 = 5;

/// Lists those that failed, each a `kind` by name with what went wrong, in `failed.json`, which is there only if some did.
pub fn write_failures(out: &Path, kind: &str, failed: &[(&str, String)]) -> Result<(), StoreError> {
    let path = out.join("failed.json");
    if failed.is_empty() {
        return match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::Write { path, source: e }),
            _ => Ok(()),
        };
    }
    let list: Vec<_> = failed.iter().map(|(name, error)| serde_json::json!({kind: name, "error": error})).collect();
    write_shared(&path, &pretty(&list.into()))
}

/// `x.json` -> `.x.json.partial`: hidden, beside the file, on the same file system.
pub fn partial_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

/// The same with the number of the process, so that several can write one file.
fn partial_name_of_process(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

/// The file that a partial one of [`write_shared`] was to become.
fn target_of_partial(partial: &str) -> Option<&str> {
    let name = partial.strip_prefix('.')?.strip_suffix(".partial")?;
    name.rsplit_once('.').filter(|(_, process)| process.bytes().all(|b| b.is_ascii_digit())).map(|(name, _)| name)
}

/// Removes from a folder what killed processes have left of unfinished files; `is_mine` is given the name that the file would have had.
pub fn remove_partial(folder: &Path, is_mine: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
    let fail = |source| StoreError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_str().and_then(target_of_partial).is_some_and(is_mine) {
            let _ = fs::remove_file(entry.path()); // another process may have been faster
        }
    }
    Ok(())
}

/// A name that is safe as a file name: letters, digits, `_`, `-` and `.` stay, a space becomes `_`, the rest is left out.
pub fn file_name(name: &str) -> String {
    let kept: String = name
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('_'),
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => Some(c),
            _ => None,
        })
        .collect();
    let kept = kept.trim_matches('.');
    if kept.is_empty() { "query".to_owned() } else { kept.to_owned() }
}

/// Checks the settings `wanted` against those that the folder's `run.json` was made with. `free` names settings that do
/// not change a finished result. A folder without `run.json` fits anything.
pub fn check_settings(folder: &Path, wanted: &serde_json::Value, free: &[&str]) -> Result<(), StoreError> {
    check_settings_in(&folder.join("run.json"), wanted, free)
}

/// As [`check_settings`], of the settings in the file `path`.
pub fn check_settings_in(path: &Path, wanted: &serde_json::Value, free: &[&str]) -> Result<(), StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StoreError::Read { path: path.to_owned(), source }),
    };
    let folder = path.parent().unwrap_or(path);
    let other = |difference: String| Err(StoreError::OtherSettings { path: folder.to_owned(), difference });
    let Ok(serde_json::Value::Object(found)) = serde_json::from_slice(&bytes) else {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return other(format!("{name} is not one of this program"));
    };
    let serde_json::Value::Object(wanted) = wanted else { return Ok(()) };
    let keys = wanted.keys().chain(found.keys().filter(|k| !wanted.contains_key(*k)));
    for key in keys.filter(|key| !free.contains(&key.as_str())) {
        let (was, is) = (found.get(key), wanted.get(key));
        if was != is {
            let text = |v: Option<&serde_json::Value>| v.map_or("absent".to_owned(), ToString::to_string);
            return other(format!("{key} was {}, now {}", text(was), text(is)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe() {
        assert_eq!(file_name("my query: 1/2"), "my_query_12");
        assert_eq!(file_name("../.."), "query");
        assert_eq!(file_name("ubq.v1"), "ubq.v1");
    }

    #[test]
    fn nothing_is_left_of_a_failed_write() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("taken");
        fs::create_dir(&target)?;
        fs::write(target.join("inside"), "x")?;
        assert!(write(&target, b"text").is_err());
        assert!(!partial_name(&target).exists());
        Ok(())
    }

    #[test]
    fn rests_of_killed_processes_are_removed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("x_sample_3.cif");
        write_shared(&target, b"text")?;
        for name in [".x_sample_3.cif.77.partial", ".x_sample_4.cif.77.partial", ".x_sample_3.cif.partial"] {
            fs::write(folder.path().join(name), "half")?;
        }
        remove_partial(folder.path(), &|name| name == "x_sample_3.cif")?;
        let mut left: Vec<_> =
            fs::read_dir(folder.path())?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        left.sort();
        assert_eq!(left, [".x_sample_3.cif.partial", ".x_sample_4.cif.77.partial", "x_sample_3.cif"]);
        remove_partial(&folder.path().join("absent"), &|_| true)?;
        Ok(())
    }

    /// Two writers of one file, and a third who takes away what they have not finished.
    #[test]
    fn writers_of_one_file_do_not_disturb_each_other() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("run.json");
        std::thread::scope(|scope| {
            let cleaner = scope.spawn(|| (0..ATTEMPTS).try_for_each(|_| remove_partial(folder.path(), &|_| true)));
            let write = || (0..50).try_for_each(|_| write_shared(&target, b"same"));
            let writer = scope.spawn(write);
            cleaner.join().expect("no panic").and(writer.join().expect("no panic"))
        })?;
        assert_eq!(fs::read(&target)?, b"same");
        Ok(())
    }

    #[test]
    fn other_settings_are_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let settings = serde_json::json!({"n_steps": 20, "threads": 2});
        check_settings(folder.path(), &settings, &["threads"])?;
        write(&folder.path().join("run.json"), settings.to_string().as_bytes())?;
        check_settings(folder.path(), &serde_json::json!({"n_steps": 20, "threads": 4}), &["threads"])?;
        let changed = serde_json::json!({"n_steps": 200, "threads": 2});
        let error = check_settings(folder.path(), &changed, &["threads"]).expect_err("settings differ").to_string();
        assert!(error.contains("n_steps was 20, now 200"), "{error}");
        Ok(())
    }
}
