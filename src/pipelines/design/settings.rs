//! What the samples of a task were made with: `run.json`, written before the first of them. Sections are pinned, each stage has one; the
//! number of samples and the seeds may grow.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{DesignError, place};
use crate::pipelines::output::pretty;
use crate::pipelines::store::{self, StoreError};

/// Settings of a task's run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The task's name.
    pub task: String,
    /// Samples of each seed.
    pub n_sample: usize,
    /// Seeds, ascending.
    pub seeds: BTreeSet<u32>,
    /// The command that began the run and finishes it, without the part that one process does.
    pub command: String,
    /// Of each stage all that its results depend on.
    pub sections: Map<String, Value>,
}

const COUNT: &str = "n_samples";
const SEEDS: &str = "seeds";
const COMMAND: &str = "command";
const TASK: &str = "task_name";

impl Settings {
    /// Those of a folder; `None` if nothing was begun there.
    ///
    /// # Errors
    /// A file that cannot be read or is not one of this program.
    pub fn read(out: &Path, task: &str) -> Result<Option<Self>, DesignError> {
        let path = place::settings(out, task);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }.into()),
        };
        let settings = serde_json::from_slice(&bytes).ok().and_then(Self::of_json);
        settings.map(Some).ok_or_else(|| DesignError::OtherSettings {
            path,
            difference: "the file is not one of this program".to_owned(),
        })
    }

    /// Names of the tasks of a folder, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn tasks(out: &Path) -> Result<Vec<String>, DesignError> {
        let fail = |source| StoreError::Read { path: out.to_owned(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(out).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.path().join("run.json").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Begins or continues a run in a folder: what is there must fit, and is extended by what is new.
    ///
    /// # Errors
    /// Samples that were made with other settings, fewer samples than before, a file that cannot be written.
    pub fn settle(&self, out: &Path) -> Result<(), DesignError> {
        let path = place::settings(out, &self.task);
        let mut settled = self.clone();
        if let Some(found) = Self::read(out, &self.task)? {
            if let Some(difference) = self.difference(&found) {
                return Err(DesignError::OtherSettings { path, difference });
            }
            settled.sections = found.sections.clone();
            settled.sections.extend(self.sections.clone());
            settled.seeds.extend(&found.seeds);
            // Of the commands that a run was continued with, the one that makes most.
            if settled.sections.len() == found.sections.len()
                && settled.n_sample == found.n_sample
                && settled.seeds == found.seeds
            {
                return Ok(());
            }
        }
        Ok(store::write_shared(&path, &pretty(&settled.json()))?)
    }

    /// Merges those of other folders of the same run.
    ///
    /// # Errors
    /// The first setting that differs, in words.
    pub fn join(&mut self, other: Self) -> Result<(), String> {
        match self.pinned_difference(&other) {
            Some(difference) => Err(difference),
            None => {
                self.n_sample = self.n_sample.max(other.n_sample);
                self.seeds.extend(other.seeds);
                other.sections.into_iter().for_each(|(name, section)| {
                    self.sections.entry(name).or_insert(section);
                });
                Ok(())
            }
        }
    }

    fn difference(&self, found: &Self) -> Option<String> {
        let fewer = self.n_sample < found.n_sample;
        self.pinned_difference(found)
            .or_else(|| fewer.then(|| format!("{COUNT} was {}, now {}", found.n_sample, self.n_sample)))
    }

    /// The first value that differs in a section which both have.
    fn pinned_difference(&self, found: &Self) -> Option<String> {
        if self.task != found.task {
            return Some(format!("{TASK} was {}, now {}", found.task, self.task));
        }
        let both = self.sections.iter().filter_map(|(name, section)| Some((name, section, found.sections.get(name)?)));
        both.into_iter().find_map(|(name, is, was)| {
            let (Value::Object(is), Value::Object(was)) = (is, was) else { return None };
            let mut keys = is.keys().chain(was.keys());
            let key = keys.find(|key| is.get(*key) != was.get(*key))?;
            let text = |section: &Map<String, Value>| section.get(key).map_or("absent".to_owned(), ToString::to_string);
            Some(format!("{key} of the {name} was {}, now {}", text(was), text(is)))
        })
    }

    fn json(&self) -> Value {
        let mut json = json!({ TASK: self.task, COUNT: self.n_sample, SEEDS: self.seeds, COMMAND: self.command });
        if let Some(json) = json.as_object_mut() {
            json.extend(self.sections.clone());
        }
        json
    }

    fn of_json(json: Value) -> Option<Self> {
        let Value::Object(mut json) = json else { return None };
        Some(Self {
            task: json.shift_remove(TASK)?.as_str()?.to_owned(),
            n_sample: json.shift_remove(COUNT)?.as_u64()? as usize,
            seeds: serde_json::from_value(json.shift_remove(SEEDS)?).ok()?,
            command: json.shift_remove(COMMAND)?.as_str()?.to_owned(),
            sections: json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(n_sample: usize, seed: u32, sections: Value) -> Settings {
        let Value::Object(sections) = sections else { panic!("an object") };
        let (task, command) = ("a b".to_owned(), format!("fold design --n-samples {n_sample}"));
        Settings { task, n_sample, seeds: BTreeSet::from([seed]), command, sections }
    }

    #[test]
    fn a_run_may_grow_but_not_change() -> anyhow::Result<()> {
        let out = tempfile::tempdir()?;
        let first = settings(20, 1, json!({"backbones": {"n_step": 400, "eta": 2.5}}));
        assert_eq!(Settings::read(out.path(), "a b")?, None);
        first.settle(out.path())?;
        assert_eq!(Settings::read(out.path(), "a b")?, Some(first.clone()));
        assert_eq!(Settings::tasks(out.path())?, ["a_b"]);

        let more = settings(30, 2, json!({"backbones": {"n_step": 400, "eta": 2.5}, "sequences": {"t": 0.1}}));
        more.settle(out.path())?;
        first.settle(out.path()).expect_err("fewer samples");
        settings(30, 1, json!({"backbones": {"n_step": 400, "eta": 2.5}})).settle(out.path())?;
        let found = Settings::read(out.path(), "a b")?.expect("settings");
        assert_eq!((found.n_sample, &found.command), (30, &more.command));
        assert_eq!(found.seeds, BTreeSet::from([1, 2]));
        assert_eq!(found.sections, more.sections);

        let refused = |sections| settings(30, 1, sections).settle(out.path()).expect_err("other settings").to_string();
        let message = refused(json!({"backbones": {"n_step": 20, "eta": 2.5}}));
        assert!(message.contains("n_step of the backbones was 400, now 20"), "{message}");
        let message = refused(json!({"sequences": {"t": 0.1, "omit": "C"}}));
        assert!(message.contains("omit of the sequences was absent, now \"C\""), "{message}");
        Ok(())
    }

    #[test]
    fn folders_of_one_run_are_joined() {
        let mut first = settings(20, 1, json!({"backbones": {"n_step": 400}}));
        let other = settings(10, 2, json!({"backbones": {"n_step": 400}, "sequences": {}}));
        assert_eq!(first.join(other), Ok(()));
        assert_eq!((first.n_sample, first.seeds.len(), first.sections.len()), (20, 2, 2));
        let message = first.join(settings(20, 1, json!({"backbones": {"n_step": 20}}))).unwrap_err();
        assert!(message.contains("n_step of the backbones"), "{message}");
    }
}
