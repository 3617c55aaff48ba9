//! Masked tracks to proteins: samples of all prompts run side by side in one pass of the trunk, each with its own tracks, step and
//! random numbers, so that what comes out does not depend on what runs beside it, in which order, or where a run was cut.
use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Esm3Error;
use super::document::{Document, Prompt, track_name};
use super::memory::Estimate;
use super::models::{Models, Parts};
use super::results::{self, Samples};
use super::settings::run_settings;
use crate::features::esm3::{Tokens, Track};
use crate::features::noise::TorchGenerator;
use crate::models::esm3::generate::{Filling, logits};
use crate::models::esm3::sample::Settings;
use crate::pipelines::output::{Format, pretty};
use crate::pipelines::progress::Progress;
use crate::pipelines::shard::Shard;
use crate::pipelines::store::{self, StoreError};

/// A prompt that was asked for, or why it cannot be used.
#[derive(Debug)]
pub struct Request {
    /// What messages and files call it.
    pub name: String,
    /// The prompt, and the tracks to generate in their order.
    pub prompt: Result<(Prompt, Vec<Settings>), Esm3Error>,
}

/// A generation with every option resolved.
#[derive(Debug)]
pub struct Plan {
    /// What is asked for; names are different.
    pub requests: Vec<Request>,
    /// Should the trunk see the structure tokens of given coordinates, beside the coordinates?
    pub uses_structure_tokens: bool,
    /// Proteins of each prompt.
    pub n_sample: usize,
    /// With the sample's number what its random numbers follow from.
    pub seed: u32,
    /// Which samples to make: they are counted prompt by prompt.
    pub shard: Shard,
    /// Most tokens in a pass, if not what is best for the device.
    pub batch_tokens: Option<usize>,
    /// Folder for the results.
    pub out: PathBuf,
    /// Structure files to write.
    pub formats: Vec<Format>,
    /// Replace results of other settings.
    pub overwrite: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Prompts that failed, with their places in the plan.
type Failures = Vec<(usize, String, Esm3Error)>;

/// Settings in `run.json` that do not change a finished sample.
const FREE_SETTINGS: &[&str] = &["n_samples", "formats"];

/// A prompt that can be run.
struct Job<'a> {
    name: &'a str,
    prompt: &'a Prompt,
    tracks: &'a [Settings],
    tokens: Tokens,
    /// Place in the plan.
    place: usize,
    samples: Samples,
    settings: Value,
    /// What went wrong with it on the way.
    failure: Option<Esm3Error>,
}

/// A sample on its way.
struct Sample<'a> {
    job: usize,
    sample: usize,
    /// Of its job's tracks, those behind the one that is being filled.
    rest: &'a [Settings],
    track: Track,
    filling: Filling,
    draws: TorchGenerator,
    /// By track, of each position when it was written.
    entropies: Map<String, Value>,
    found: Vec<Option<f32>>,
}

/// Makes every protein of the plan that is not there yet. A prompt that cannot be used or filled is given back with what is wrong,
/// is named in `failed.json`, and the rest go on.
///
/// # Errors
/// What stops all of it; of a plan with one prompt, also what is wrong with that.
pub fn run(
    plan: &mut Plan,
    models: &mut Models,
    progress: &mut dyn Progress,
) -> Result<Vec<(String, Esm3Error)>, Esm3Error> {
    progress.stage("loading");
    let only = plan.requests.len() == 1;
    let mut failures = Failures::new();
    let requests = std::mem::take(&mut plan.requests);
    let mut usable = Vec::with_capacity(requests.len());
    for (place, Request { name, prompt }) in requests.into_iter().enumerate() {
        match prompt {
            Ok(prompt) => usable.push((place, name, prompt)),
            Err(e) if only => return Err(e),
            Err(e) => failures.push((place, name, e)),
        }
    }
    let identity = models.identity()?;
    let mut jobs = Vec::with_capacity(usable.len());
    for (place, name, (prompt, tracks)) in &usable {
        match Job::new(plan, *place, name, prompt, tracks, models, &identity) {
            Ok(job) => jobs.push(job),
            Err(e) if only || e.stops_all() => return Err(e),
            Err(e) => failures.push((*place, name.clone(), e)),
        }
    }
    let estimate = models.estimate(&parts(plan, &jobs))?;
    for job in &mut jobs {
        job.failure = estimate.check(job.name, job.n_token()).err();
        if plan.dry_run {
            progress.result(&foresee(plan, job, &estimate));
        }
    }
    if plan.dry_run {
        return failed(jobs, failures, only);
    }
    if only && let Some(e) = jobs.iter_mut().find_map(|job| job.failure.take()) {
        return Err(e);
    }
    let longest = jobs.iter().filter(|job| job.failure.is_none()).map(Job::n_token).max().unwrap_or(0);
    let batch_tokens = estimate.batch_tokens(longest, plan.batch_tokens);
    fill(plan, &mut jobs, batch_tokens, models, progress)?;
    results::write_table(&plan.out, jobs.iter().filter(|job| job.failure.is_none()).map(|job| &job.samples))?;
    let failed = failed(jobs, failures, only)?;
    let list: Vec<(&str, String)> = failed.iter().map(|(name, e)| (name.as_str(), e.to_string())).collect();
    store::write_failures(&plan.out, "prompt", &list)?;
    Ok(failed)
}

/// The prompts that failed before, and those whose job did, in their order.
fn failed(jobs: Vec<Job<'_>>, mut failures: Failures, only: bool) -> Result<Vec<(String, Esm3Error)>, Esm3Error> {
    for job in jobs {
        match job.failure {
            Some(e) if only => return Err(e),
            Some(e) => failures.push((job.place, job.name.to_owned(), e)),
            None => {}
        }
    }
    failures.sort_by_key(|(place, ..)| *place);
    Ok(failures.into_iter().map(|(_, name, e)| (name, e)).collect())
}

impl<'a> Job<'a> {
    fn new(
        plan: &Plan,
        place: usize,
        name: &'a str,
        prompt: &'a Prompt,
        tracks: &'a [Settings],
        models: &mut Models,
        identity: &Value,
    ) -> Result<Self, Esm3Error> {
        let tokens = models.encode(prompt, plan.uses_structure_tokens)?;
        for settings in tracks {
            // What a track before it writes only adds to what is known.
            Filling::new(tokens.clone(), settings.clone()).map_err(Esm3Error::generate(name, settings.track))?;
        }
        let settings = run_settings(plan, prompt, tracks, identity);
        let samples = Samples::new(&plan.out, name);
        let fits = store::check_settings(&samples.folder, &settings, FREE_SETTINGS);
        match fits {
            Err(StoreError::OtherSettings { .. }) if plan.overwrite && !plan.dry_run => samples.remove()?,
            Err(StoreError::OtherSettings { .. }) if plan.overwrite => {}
            fits => fits?,
        }
        Ok(Self { name, prompt, tracks, tokens, place, samples, settings, failure: None })
    }

    fn n_token(&self) -> usize {
        self.tokens.n_token().unwrap_or_default()
    }

    /// The samples that this process is to make.
    fn samples_of_shard(&self, plan: &Plan) -> impl Iterator<Item = usize> + use<> {
        let (shard, before) = (plan.shard, self.place * plan.n_sample);
        (0..plan.n_sample).filter(move |sample| shard.has(before + sample))
    }

    /// The samples of the shard that are not there.
    fn missing(&self, plan: &Plan) -> Result<Vec<usize>, Esm3Error> {
        let mut missing = Vec::new();
        for sample in self.samples_of_shard(plan) {
            if !self.samples.is_done(sample, &plan.formats)? {
                missing.push(sample);
            }
        }
        Ok(missing)
    }

    /// Steps of a sample in all.
    fn n_step(&self) -> usize {
        let of = |s: &Settings| Filling::new(self.tokens.clone(), s.clone()).map_or(0, |f| f.n_step_left());
        self.tracks.iter().map(of).sum()
    }
}

/// The parts of the model that the jobs need beside the trunk.
fn parts(plan: &Plan, jobs: &[Job<'_>]) -> Parts {
    let makes = |track: Track| jobs.iter().any(|job| job.tracks.iter().any(|s| s.track == track));
    Parts {
        structure_encoder: plan.uses_structure_tokens && jobs.iter().any(|job| job.prompt.atoms.is_some()),
        structure_decoder: makes(Track::Structure) || jobs.iter().any(|job| job.tokens.structure.is_some()),
        function_decoder: makes(Track::Function),
    }
}

/// Runs the samples that are missing, as many at a time as have `batch_tokens` tokens together, and at least one.
fn fill(
    plan: &Plan,
    jobs: &mut [Job<'_>],
    batch_tokens: usize,
    models: &mut Models,
    progress: &mut dyn Progress,
) -> Result<(), Esm3Error> {
    let mut waiting = Vec::new();
    let (mut n_done, mut units) = (0, 0);
    for (i, job) in jobs.iter().enumerate().filter(|(_, job)| job.failure.is_none()) {
        let missing = job.missing(plan)?;
        n_done += job.samples_of_shard(plan).count() - missing.len();
        units += missing.len() as u64 * (job.n_step() as u64 + 1) * job.n_token() as u64;
        waiting.extend(missing.into_iter().map(|sample| (i, sample)));
    }
    if n_done > 0 {
        progress.note(&format!("{n_done} samples are done already"));
    }
    progress.begin(units);
    let mut waiting = waiting.into_iter().peekable();
    let mut begun = HashSet::new();
    let mut batch: Vec<Sample<'_>> = Vec::new();
    loop {
        let mut n_token: usize = batch.iter().map(|sample| sample.filling.n_token()).sum();
        while let Some((i, sample)) =
            waiting.next_if(|(i, _)| batch.is_empty() || n_token + jobs[*i].n_token() <= batch_tokens)
        {
            let job = &jobs[i];
            if job.failure.is_none() {
                if begun.insert(i) {
                    store::remove_partial(&job.samples.folder, &|name| name == "run.json")?;
                    store::write_shared(&job.samples.folder.join("run.json"), &pretty(&job.settings))?;
                }
                batch.push(Sample::new(plan, job, i, sample)?);
                n_token += job.n_token();
            }
        }
        let Some(first) = batch.first() else { return Ok(()) };
        progress.stage(&first.stage(jobs, batch.len()));
        let fillings: Vec<&Filling> = batch.iter().map(|sample| &sample.filling).collect();
        let rows = logits(models.trunk()?, &fillings)?;
        let mut going = Vec::with_capacity(batch.len());
        for (mut sample, logits) in batch.into_iter().zip(rows) {
            let n_token = sample.filling.n_token() as u64;
            progress.advance(n_token);
            match sample.advance(&logits, &jobs[sample.job]) {
                Err(e) => jobs[sample.job].failure = Some(e),
                Ok(false) => going.push(sample),
                Ok(true) => {
                    let job = &jobs[sample.job];
                    progress.result(&sample.write(plan, job, models)?);
                    progress.advance(n_token);
                }
            }
        }
        batch = going;
    }
}

impl<'a> Sample<'a> {
    fn new(plan: &Plan, job: &Job<'a>, number: usize, sample: usize) -> Result<Self, Esm3Error> {
        let Some((first, rest)) = job.tracks.split_first() else {
            return Err(Esm3Error::prompt(job.name, "no track is to be generated"));
        };
        Ok(Self {
            job: number,
            sample,
            rest,
            track: first.track,
            filling: Filling::new(job.tokens.clone(), first.clone())
                .map_err(Esm3Error::generate(job.name, first.track))?,
            draws: TorchGenerator::of_sample(plan.seed, sample),
            entropies: Map::new(),
            found: vec![None; job.n_token()],
        })
    }

    /// Takes a step; is the last one of the last track done?
    fn advance(&mut self, logits: &[f32], job: &Job<'a>) -> Result<bool, Esm3Error> {
        let fault = Esm3Error::generate(job.name, self.track);
        let step = self.filling.advance(logits, &mut self.draws).map_err(|e| fault(e.into()))?;
        step.chosen.iter().for_each(|i| self.found[*i] = Some(step.drawn.entropy[*i] as f32));
        if self.filling.n_step_left() > 0 {
            return Ok(false);
        }
        let n = self.found.len();
        let found = std::mem::replace(&mut self.found, vec![None; n]);
        let rounded = |v: &Option<f32>| v.map(|v| (f64::from(v) * 1e4).round() / 1e4);
        let found: Vec<Option<f64>> = found[1..n - 1].iter().map(rounded).collect();
        self.entropies.insert(track_name(self.track).to_owned(), json!(found));
        let Some((next, rest)) = self.rest.split_first() else { return Ok(true) };
        let fault = Esm3Error::generate(job.name, next.track);
        self.filling = Filling::new(self.filling.clone().into_tokens(), next.clone()).map_err(fault)?;
        (self.track, self.rest) = (next.track, rest);
        Ok(false)
    }

    /// Writes the protein's files; gives the line of `--json`.
    fn write(self, plan: &Plan, job: &Job<'_>, models: &mut Models) -> Result<Value, Esm3Error> {
        let document = Document {
            name: Some(job.name.to_owned()),
            sample: Some(self.sample),
            seed: Some(plan.seed.into()),
            entropy: self.entropies,
            ..results::document(job.prompt, job.tracks, self.filling.into_tokens(), models)?
        };
        let files = super::output::write(&job.samples.base(self.sample), &document, &plan.formats)?;
        Ok(results::record(&document, &files))
    }

    /// What is being done, of `n` samples at once.
    fn stage(&self, jobs: &[Job<'_>], n: usize) -> String {
        let others = if n > 1 { format!(" and {} more", n - 1) } else { String::new() };
        let left = self.filling.n_step_left();
        format!("{} sample {} {}, {left} steps left{others}", jobs[self.job].name, self.sample, track_name(self.track))
    }
}

/// What would be done: a line of `--dry-run`.
fn foresee(plan: &Plan, job: &Job<'_>, estimate: &Estimate) -> Value {
    json!({
        "name": job.name,
        "residues": job.n_token() - 2,
        "tracks": job.tracks.iter().map(|s| track_name(s.track)).collect::<Vec<_>>(),
        "steps": job.n_step(),
        "missing": job.missing(plan).map_or(plan.n_sample, |missing| missing.len()),
        "estimated_peak_bytes": estimate.peak(job.n_token(), job.n_token()),
        "available_bytes": estimate.available,
        "samples_together": (estimate.batch_tokens(job.n_token(), plan.batch_tokens) / job.n_token()).max(1),
        "fits": job.failure.is_none(),
    })
}
