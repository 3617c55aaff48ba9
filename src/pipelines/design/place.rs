//! Where the files of a design are: `<out>/<task>/run.json`, and below `<out>/<task>/seed_<s>/predictions/` the files of each sample,
//! as PXDesign names them.
use std::path::{Path, PathBuf};

use crate::pipelines::store::{self, StoreError};

/// The folder of one task and seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    task: String,
    seed: u32,
    predictions: PathBuf,
}

impl Place {
    /// Below `out`, the folder of the run.
    pub fn new(out: &Path, task: &str, seed: u32) -> Self {
        let task = store::file_name(task);
        let predictions = out.join(&task).join(format!("seed_{seed}")).join("predictions");
        Self { task, seed, predictions }
    }

    /// The task's name, safe as a file name.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The seed.
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// The folder of all samples.
    pub fn folder(&self) -> &Path {
        &self.predictions
    }

    /// Name of a sample, which its files begin with.
    pub fn name(&self, sample: usize) -> String {
        format!("{}_sample_{sample}", self.task)
    }

    /// The backbone of a sample with its target: mmCIF.
    pub fn backbone(&self, sample: usize) -> PathBuf {
        self.predictions.join(format!("{}.cif", self.name(sample)))
    }

    /// A file that a later stage has made of a sample, in the folder of the stage.
    pub fn file(&self, stage: &str, sample: usize, ending: &str) -> PathBuf {
        self.predictions.join(stage).join(format!("{}{ending}", self.name(sample)))
    }

    /// Removes what killed processes have left of the files of the samples that `is_mine` names.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn clean(&self, is_mine: &dyn Fn(usize) -> bool) -> Result<(), StoreError> {
        let start = format!("{}_sample_", self.task);
        let number = |name: &str| -> Option<usize> {
            let rest = name.strip_prefix(&start)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let is_mine = |name: &str| number(name).is_some_and(is_mine);
        store::remove_partial(&self.predictions, &is_mine)?;
        let Ok(entries) = std::fs::read_dir(&self.predictions) else { return Ok(()) };
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        folders.into_iter().try_for_each(|folder| store::remove_partial(&folder, &is_mine))
    }
}

/// The settings of a task, below `out`.
pub fn settings(out: &Path, task: &str) -> PathBuf {
    out.join(store::file_name(task)).join("run.json")
}

/// The ranked designs of a task, below `out`.
pub fn outputs(out: &Path, task: &str) -> PathBuf {
    out.join(OUTPUTS).join(store::file_name(task))
}

/// Folder of the ranked designs of all tasks; no task can have its name.
pub const OUTPUTS: &str = "design_outputs";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_the_own_rests_are_removed() -> anyhow::Result<()> {
        let out = tempfile::tempdir()?;
        let place = Place::new(out.path(), "my task", 7);
        let name = |path: PathBuf| path.strip_prefix(out.path()).map(|p| p.display().to_string());
        assert_eq!(name(place.backbone(12))?, "my_task/seed_7/predictions/my_task_sample_12.cif");
        let later = place.file("af2_pred", 1, ".json");
        assert_eq!(name(later.clone())?, "my_task/seed_7/predictions/af2_pred/my_task_sample_1.json");
        fs::create_dir_all(later.with_file_name(""))?;
        let rest = |path: &Path| {
            path.with_file_name(format!(".{}.99.partial", path.file_name().unwrap_or_default().to_string_lossy()))
        };
        let (mine, others, deeper) = (rest(&place.backbone(12)), rest(&place.backbone(1)), rest(&later));
        for path in [&mine, &others, &deeper] {
            fs::write(path, "half")?;
        }
        place.clean(&|sample| sample == 12)?;
        assert!(!mine.exists() && others.exists() && deeper.exists());
        place.clean(&|sample| sample == 1)?;
        assert!(!others.exists() && !deeper.exists());
        Ok(())
    }
}
