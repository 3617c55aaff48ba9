//! What there is of a run: which samples are done, which have failed and which are missing, in one folder or in several.
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::settings::Settings;
use super::stage::failures;
use super::{DesignError, af2, backbones, second, sequences};
use crate::score::design::SecondModel;

/// Which file of a sample says that a stage is done.
pub type StageFile = fn(&Place, usize) -> PathBuf;

/// The stages in their order, by the names of their sections in `run.json`, each with how its file is found.
pub const STAGES: [(&str, StageFile); 6] = [
    (backbones::NAME, |place, sample| place.backbone(sample)),
    (sequences::NAME, |place, sample| place.file(sequences::NAME, sample, ".json")),
    (af2::NAME, |place, sample| place.file(af2::FOLDER, sample, ".json")),
    (SecondModel::Protenix.name(), |place, sample| second::file(SecondModel::Protenix, place, sample)),
    (SecondModel::ProtenixMini.name(), |place, sample| second::file(SecondModel::ProtenixMini, place, sample)),
    (SecondModel::OpenFold3.name(), |place, sample| second::file(SecondModel::OpenFold3, place, sample)),
];

/// A task's run, in all folders where parts of it are.
#[derive(Debug)]
pub struct Survey {
    /// What it was made with.
    pub settings: Settings,
    /// Samples whose last stage is done, by seed and number.
    pub done: Vec<Sample>,
    /// Samples that failed, and in which stage and why.
    pub failed: Vec<(Sample, &'static str, String)>,
    /// Samples that are not done otherwise, by the first stage that is missing.
    pub missing: Vec<(Sample, &'static str)>,
}

/// A sample of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where its files are.
    pub place: Place,
    /// Its number.
    pub number: usize,
}

impl Survey {
    /// Looks through the folders of a run for a task.
    ///
    /// # Errors
    /// Folders of other settings, and files that cannot be read.
    pub fn new(folders: &[PathBuf], task: &str) -> Result<Self, DesignError> {
        let mut settings: Option<Settings> = None;
        for out in folders {
            let Some(found) = Settings::read(out, task)? else { continue };
            match &mut settings {
                None => settings = Some(found),
                Some(all) => all.join(found).map_err(|difference| DesignError::OtherSettings {
                    path: super::place::settings(out, task),
                    difference,
                })?,
            }
        }
        let settings = settings.ok_or_else(|| DesignError::NoRun(folders[0].clone()))?;
        let mut survey = Self { settings, done: Vec::new(), failed: Vec::new(), missing: Vec::new() };
        let seeds: Vec<u32> = survey.settings.seeds.iter().copied().collect();
        seeds.into_iter().for_each(|seed| survey.look(folders, task, seed));
        Ok(survey)
    }

    fn look(&mut self, folders: &[PathBuf], task: &str, seed: u32) {
        let stages: Vec<_> = STAGES.iter().filter(|(name, _)| self.settings.sections.contains_key(*name)).collect();
        let places: Vec<Place> = folders.iter().map(|out| Place::new(out, task, seed)).collect();
        for number in 0..self.settings.n_sample {
            // Where a sample was made in several folders, the one in which it has come furthest.
            let n_done = |place: &Place| stages.iter().take_while(|(_, file)| file(place, number).is_file()).count();
            let Some(place) = places.iter().rev().max_by_key(|place| n_done(place)) else { return };
            let sample = Sample { place: place.clone(), number };
            let Some((stage, _)) = stages.get(n_done(place)) else {
                self.done.push(sample);
                continue;
            };
            let reason = places.iter().find_map(|place| failures(place, stage, &[number]).remove(&number));
            match reason {
                Some(reason) => self.failed.push((sample, stage, reason)),
                None => self.missing.push((sample, stage)),
            }
        }
    }

    /// The second filter by which its designs are ranked, if they were judged by one.
    pub fn second(&self) -> Option<SecondModel> {
        SecondModel::ALL.into_iter().find(|model| self.settings.sections.contains_key(model.name()))
    }

    /// Samples that the run is to have.
    pub fn n_expected(&self) -> usize {
        self.settings.n_sample * self.settings.seeds.len()
    }

    /// Numbers of the samples that are missing, by seed and stage.
    pub fn missing_by_stage(&self) -> Vec<(u32, &'static str, Vec<usize>)> {
        let mut all: BTreeMap<(u32, &'static str), Vec<usize>> = BTreeMap::new();
        for (sample, stage) in &self.missing {
            all.entry((sample.place.seed(), stage)).or_default().push(sample.number);
        }
        all.into_iter().map(|((seed, stage), numbers)| (seed, stage, numbers)).collect()
    }
}

/// Names of the tasks of all folders, sorted.
///
/// # Errors
/// A folder without any.
pub fn tasks(folders: &[PathBuf]) -> Result<Vec<String>, DesignError> {
    let mut all = Vec::new();
    for out in folders {
        let found = Settings::tasks(out)?;
        if found.is_empty() {
            return Err(DesignError::NoRun(out.clone()));
        }
        all.extend(found);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Numbers as people write them: `3, 7-12, 40`.
#[derive(Debug)]
pub struct Ranges<'a>(pub &'a [usize]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// A path below `folder` as it is written there, or the whole of it.
pub fn below<'p>(path: &'p Path, folder: &Path) -> &'p Path {
    path.strip_prefix(folder).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::store;
    use serde_json::{Value, json};

    fn begin(out: &Path, seed: u32, sections: &Value) {
        let Value::Object(sections) = sections.clone() else { panic!("an object") };
        let settings =
            Settings { task: "t".into(), n_sample: 6, seeds: [seed].into(), command: "fold design".into(), sections };
        settings.settle(out).unwrap();
    }

    fn numbers<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<(u32, usize)> {
        samples.map(|s| (s.place.seed(), s.number)).collect()
    }

    #[test]
    fn every_sample_is_done_failed_or_missing() -> anyhow::Result<()> {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let paths: Vec<PathBuf> = folders.iter().map(|f| f.path().to_owned()).collect();
        let sections = json!({"backbones": {"n_step": 2}, "sequences": {}});
        paths.iter().for_each(|out| begin(out, 1, &sections));
        let touch = |folder: usize, stage: usize, number: usize| {
            store::write(&STAGES[stage].1(&Place::new(&paths[folder], "t", 1), number), b"x").unwrap();
        };
        [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 0, 2), (0, 0, 3)].iter().for_each(|&(f, s, n)| {
            touch(f, s, n);
        });
        let place = Place::new(&paths[0], "t", 1);
        store::write(&place.file("failed", 3, "_sequences.json"), br#"{"error": "no letters"}"#)?;

        assert_eq!(tasks(&paths)?, ["t"]);
        let survey = Survey::new(&paths, "t")?;
        assert_eq!(numbers(survey.done.iter()), [(1, 0), (1, 1)]);
        assert_eq!(survey.done[1].place, Place::new(&paths[1], "t", 1), "the folder in which it is done");
        assert_eq!(numbers(survey.failed.iter().map(|f| &f.0)), [(1, 3)]);
        assert_eq!((survey.failed[0].1, survey.failed[0].2.as_str()), ("sequences", "no letters"));
        let missing: Vec<_> = survey.missing.iter().map(|(sample, stage)| (sample.number, *stage)).collect();
        assert_eq!(missing, [(2, "sequences"), (4, "backbones"), (5, "backbones")]);
        assert_eq!(survey.n_expected(), 6);

        begin(&paths[1], 2, &json!({"backbones": {"n_step": 2}}));
        assert_eq!(Survey::new(&paths, "t")?.n_expected(), 12);
        let other = tempfile::tempdir()?;
        begin(other.path(), 1, &json!({"backbones": {"n_step": 3}}));
        let both = [paths[0].clone(), other.path().to_owned()];
        assert!(Survey::new(&both, "t").unwrap_err().to_string().contains("n_step of the backbones"));
        let empty = tempfile::tempdir()?;
        assert!(tasks(&[empty.path().to_owned()]).unwrap_err().to_string().contains("no run of fold design"));
        Ok(())
    }

    #[test]
    fn numbers_in_a_row_are_one_range() {
        assert_eq!(Ranges(&[3, 7, 8, 9, 12, 13]).to_string(), "3, 7-9, 12-13");
        assert_eq!(Ranges(&[]).to_string(), "");
    }
}
