//! One stage of a design over many samples: what is done is passed over, what is made is written sample by sample, what fails is noted
//! and does not stop the rest.
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::DesignError;
use super::place::Place;
use crate::pipelines::output::pretty;
use crate::pipelines::progress::Progress;
use crate::pipelines::stop::{Reason, Stop};
use crate::pipelines::store;

/// What a stage has made of a sample.
#[derive(Debug)]
pub struct Made {
    /// Files in the order in which they are written; with the last the sample is done.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What a reader of JSON lines is told.
    pub record: Value,
}

/// A stage. Samples do not know of each other: what comes of one does not depend on those beside it.
pub trait Stage {
    /// What it makes, in the plural: "backbones".
    fn title(&self) -> &str;
    /// Its folder, and its name in records: "backbones".
    fn name(&self) -> &str;
    /// Samples that are worked on together, at most.
    fn batch(&self) -> usize;
    /// Units of work of a sample, for the bar.
    fn units(&self) -> u64;
    /// Is the sample done?
    fn is_done(&self, sample: usize) -> bool;
    /// Works on samples. `tick` takes the units that are done, of all of them together, and says when to break off.
    ///
    /// # Errors
    /// What fails for every sample; what is wrong with one is in its place of the answer.
    fn make(
        &mut self,
        samples: &[usize],
        tick: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Vec<Result<Made, String>>>, DesignError>;
}

/// What ends the work on a sample before it is done.
#[derive(Debug)]
pub enum Fault {
    /// It was broken off.
    Stopped,
    /// What is wrong with it.
    Sample(String),
    /// What is wrong with every sample.
    All(DesignError),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Sample(message)
    }
}

/// [`Stage::make`] of a stage that works on one sample after the other.
///
/// # Errors
/// What fails for every sample.
pub fn one_by_one(
    samples: &[usize],
    mut one: impl FnMut(usize) -> Result<Made, Fault>,
) -> Result<ControlFlow<(), Vec<Result<Made, String>>>, DesignError> {
    let mut all = Vec::with_capacity(samples.len());
    for &sample in samples {
        all.push(match one(sample) {
            Ok(made) => Ok(made),
            Err(Fault::Sample(message)) => Err(message),
            Err(Fault::Stopped) => return Ok(ControlFlow::Break(())),
            Err(Fault::All(error)) => return Err(error),
        });
    }
    Ok(ControlFlow::Continue(all))
}

/// What became of the samples of a stage.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples that are done, by this call or before.
    pub done: usize,
    /// Samples that failed.
    pub failed: usize,
    /// Why it ended before all were done or failed.
    pub stopped: Option<Reason>,
}

impl Tally {
    /// Adds what became of other samples.
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.stopped = self.stopped.or(other.stopped);
    }
}

/// Runs a stage on `samples`; those that have failed in an earlier run are tried again.
///
/// # Errors
/// What fails for every sample, and files that cannot be written.
pub fn run(
    stage: &mut dyn Stage,
    place: &Place,
    samples: &[usize],
    stop: &Stop,
    progress: &mut dyn Progress,
) -> Result<Tally, DesignError> {
    let missing: Vec<usize> = samples.iter().copied().filter(|&sample| !stage.is_done(sample)).collect();
    let mut tally = Tally { done: samples.len() - missing.len(), ..Tally::default() };
    if missing.is_empty() {
        return Ok(tally);
    }
    progress.begin(missing.len() as u64 * stage.units());
    let started = Instant::now();
    let mut n_made = 0;
    for batch in missing.chunks(stage.batch().max(1)) {
        if let Some(reason) = stop.asked() {
            tally.stopped = Some(reason);
            break;
        }
        progress.stage(&label(stage, place, &tally, samples.len(), n_made, started));
        let units = batch.len() as u64 * stage.units();
        let mut ticked = 0;
        let made = stage.make(batch, &mut |done| {
            let done = done.min(units - ticked);
            ticked += done;
            progress.advance(done);
            if stop.asked().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let ControlFlow::Continue(made) = made else {
            tally.stopped = stop.asked();
            break;
        };
        progress.advance(units - ticked);
        for (&sample, made) in batch.iter().zip(made) {
            let failure = place.file(FAILED, sample, &format!("_{}.json", stage.name()));
            let of = json!({"task": place.task(), "seed": place.seed(), "sample": sample, "stage": stage.name()});
            match made {
                Ok(made) => {
                    made.files.iter().try_for_each(|(path, bytes)| store::write_shared(path, bytes))?;
                    let _ = std::fs::remove_file(failure); // of an earlier run, mostly none
                    tally.done += 1;
                    n_made += 1;
                    progress.result(&joined(of, made.record));
                }
                Err(error) => {
                    let record = joined(of, json!({ "error": error }));
                    store::write_shared(&failure, &pretty(&record))?;
                    progress.note(&format!("{} failed: {}: {error}", place.name(sample), stage.name()));
                    tally.failed += 1;
                    progress.result(&record);
                }
            }
        }
    }
    Ok(tally)
}

/// Folder of what is known of samples that failed.
pub const FAILED: &str = "failed";

/// Samples of `place` whose stage `name` has failed, and why.
pub fn failures(place: &Place, name: &str, samples: &[usize]) -> BTreeMap<usize, String> {
    let reason = |&sample: &usize| {
        let text = std::fs::read(place.file(FAILED, sample, &format!("_{name}.json"))).ok()?;
        let record: Value = serde_json::from_slice(&text).ok()?;
        Some((sample, record["error"].as_str()?.to_owned()))
    };
    samples.iter().filter_map(reason).collect()
}

/// Beside the bar.
fn label(stage: &dyn Stage, place: &Place, tally: &Tally, n: usize, n_made: usize, started: Instant) -> String {
    let rate = match n_made {
        0 => String::new(),
        _ => format!(", {} samples/s", short(n_made as f64 / started.elapsed().as_secs_f64())),
    };
    format!("{}: {}, {} of {n} samples{rate}", place.task(), stage.title(), tally.done)
}

/// Two digits that count.
fn short(rate: f64) -> String {
    let digits = (1. - rate.log10().floor()).clamp(0., 6.) as usize;
    format!("{rate:.digits$}")
}

fn joined(mut record: Value, more: Value) -> Value {
    if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
        record.extend(more);
    }
    record
}
