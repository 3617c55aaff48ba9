//! `fold predict --model af2`: queries in, structures and confidences out. Each model is loaded once, whatever the number of queries,
//! and there is one at a time; what is done is kept query by query, model by model and seed by seed.
use std::path::PathBuf;

use candle_core::Device;
use serde_json::{Value, json};

use super::colabfold;
use super::memory::{self, Sizes};
use super::output::{self, Made, Target};
use super::parameters::ParameterFile;
use super::passes::{Recycling, run};
use crate::assembly::Assembly;
use crate::device::{DeviceChoice, Memory};
use crate::features::af2::guess::initial_guess;
use crate::features::af2::monomer::Sampling;
use crate::features::af2::{Family, Raw};
use crate::models::af2::AlphaFold2;
use crate::models::af2::cost::Cost;
use crate::models::af2::network::Part;
use crate::pipelines::output::Format;
use crate::pipelines::predict::{Outcome, PredictError, write_failures};
use crate::pipelines::progress::Progress;
use crate::pipelines::store::{self, StoreError};
use crate::query::{Query, TemplateChain};
use crate::score::af2::Ranking;

/// Names and forms of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As for every other model.
    Common,
    /// As ColabFold 1.6.3 names and writes them.
    ColabFold,
}

/// A prediction with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to predict.
    pub queries: Vec<Query>,
    /// Folder for the results.
    pub out: PathBuf,
    /// Monomer or multimer models.
    pub family: Family,
    /// Their files.
    pub models: Vec<ParameterFile>,
    /// One prediction a model and seed.
    pub seeds: Vec<u32>,
    /// Passes after the first.
    pub n_recycle: usize,
    /// Å: see [`Recycling::tolerance`].
    pub tolerance: f32,
    /// Most cluster centres and other rows; `None`: what the models were made for.
    pub max_msa: Option<(usize, usize)>,
    /// A structure that the first pass begins with.
    pub initial_guess: Option<Vec<TemplateChain>>,
    /// Write the structure of each pass.
    pub save_recycles: bool,
    /// Lose a part of the trunk's updates, by the seed.
    pub use_dropout: bool,
    /// Names and forms of the files.
    pub style: Style,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Threads on the CPU.
    pub n_thread: usize,
    /// Structure files to write, of the common style.
    pub formats: Vec<Format>,
    /// Replace results of other settings.
    pub overwrite: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// A query with all that its models and seeds share.
pub(super) struct Job<'a> {
    pub query: &'a Query,
    pub assembly: Assembly,
    pub raw: Raw,
    /// Safe as a file name.
    pub name: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// Cluster centres and other rows of a pass.
    pub rows: (usize, usize),
    pub ranking: Ranking,
    /// Atom37 in Å.
    pub guess: Option<Vec<[f32; 3]>>,
    failure: Option<PredictError>,
}

/// Settings of a run that are the same for all its queries.
struct Run<'a> {
    plan: &'a Plan,
    device: Device,
}

/// Predicts every query of the plan; one that fails is named in the outcome and in `failed.json`, and the rest go on.
///
/// # Errors
/// What stops all of it; of a plan with one query, also what is wrong with that.
pub fn predict(plan: &Plan, progress: &mut dyn Progress) -> Result<Outcome, PredictError> {
    let run = Run { plan, device: plan.device.open()? };
    progress.stage("features");
    let mut jobs = run.jobs()?;
    if plan.dry_run {
        jobs.iter().for_each(|job| progress.result(&run.foresee(job)));
        return run.outcome(jobs);
    }
    for job in jobs.iter_mut().filter(|job| job.failure.is_none()) {
        job.failure = run.prepare(job).err();
    }
    run.stop_early(&mut jobs)?;
    let all = plan.models.len() * plan.seeds.len() * jobs.len();
    let is_missing = |job: &&Job, model: &ParameterFile| plan.seeds.iter().any(|&s| !run.target(job, model, s).done());
    let n_done = jobs.iter().flat_map(|job| plan.models.iter().map(move |m| (job, m)));
    let n_done = n_done.flat_map(|(job, m)| plan.seeds.iter().map(move |&s| (job, m, s)));
    let n_done = n_done.filter(|(job, m, s)| job.failure.is_none() && run.target(job, m, *s).done()).count();
    if n_done > 0 {
        progress.note(&format!("{n_done} of {all} predictions are done already"));
    }
    progress.begin(run.work(&jobs));
    for (k, file) in plan.models.iter().enumerate() {
        let is_last = k + 1 == plan.models.len();
        let mut model = None;
        for job in jobs.iter_mut().filter(|job| job.failure.is_none()) {
            if is_missing(&&*job, file) && model.is_none() {
                progress.stage(&format!("loading {}", file.release));
                model = Some(file.load(&run.device)?);
            }
            let done = run.seeds(model.as_ref(), file, job, progress);
            let done = done.and_then(|()| if is_last { run.finish(job) } else { Ok(()) });
            job.failure = done.err();
            run.stop_early(std::slice::from_mut(job))?;
        }
    }
    run.outcome(jobs)
}

impl<'a> Run<'a> {
    /// Every query with its features; what is wrong with one is kept with it.
    fn jobs(&self) -> Result<Vec<Job<'a>>, PredictError> {
        let plan = self.plan;
        let mut jobs = Vec::with_capacity(plan.queries.len());
        for query in &plan.queries {
            let fault = |e: &dyn std::error::Error| PredictError::Query(query.name.clone(), e.to_string());
            let raw = Raw::new(query, plan.family).map_err(|e| fault(&e))?;
            let guess = plan.initial_guess.as_ref().map(|chains| initial_guess(chains, &raw.chains, |_| ()));
            let guess = guess.transpose().map_err(|e| fault(&e))?.map(|(positions, _)| positions);
            let name = store::file_name(&query.name);
            let folder = if plan.style == Style::Common { plan.out.join(&name) } else { plan.out.clone() };
            let is_complex = raw.chains.len() > 1;
            let has_errors = plan.models.iter().all(|m| m.config.heads.n_pae.is_some());
            let ranking = if is_complex && has_errors { Ranking::Interface } else { Ranking::Plddt };
            let rows = raw.sizes(plan.max_msa);
            let assembly = Assembly::new(query);
            jobs.push(Job { query, assembly, raw, name, folder, rows, ranking, guess, failure: None });
        }
        Ok(jobs)
    }

    /// What a query's results are, where, and whether they were made with the same settings.
    fn prepare(&self, job: &Job) -> Result<(), PredictError> {
        self.check_memory(job)?;
        if self.plan.style == Style::Common {
            crate::pipelines::output::check_formats(&job.assembly, &self.plan.formats)?;
        }
        let settings = output::settings(self.plan, job, &self.device);
        match self.plan.style {
            Style::Common => output::open(job, settings, self.plan.overwrite),
            Style::ColabFold => colabfold::open(self.plan, job, settings),
        }
    }

    /// The predictions of one model for one query.
    fn seeds(
        &self,
        model: Option<&AlphaFold2>,
        file: &ParameterFile,
        job: &Job,
        progress: &mut dyn Progress,
    ) -> Result<(), PredictError> {
        for &seed in &self.plan.seeds {
            let target = self.target(job, file, seed);
            match model.filter(|_| !target.done()) {
                Some(model) => self.one(model, &target, progress)?,
                None => progress.advance(self.work_of(job, file)),
            }
        }
        Ok(())
    }

    /// One prediction: its passes, and its files.
    fn one(&self, model: &AlphaFold2, target: &Target, progress: &mut dyn Progress) -> Result<(), PredictError> {
        let (plan, job) = (self.plan, target.job);
        let n_pass = plan.n_recycle + 1;
        let work = self.pass(job, target.file);
        let label = format!("{} {} seed {}", job.query.name, target.file.release, target.seed);
        progress.stage(&format!("{label}: pass 1 of {n_pass}"));
        let sampling = Sampling { max_msa: job.rows.0, max_extra_msa: job.rows.1, seed: target.seed, n_pass };
        let recycling = Recycling {
            n_recycle: plan.n_recycle,
            tolerance: plan.tolerance,
            initial_guess: job.guess.clone(),
            dropout: plan.use_dropout.then_some(target.seed),
        };
        let mut features = |pass| job.raw.pass(&sampling, pass);
        let mut watch = |pass: usize, part: Part| {
            if part == Part::Embedders {
                progress.stage(&format!("{label}: pass {} of {n_pass}", pass + 1));
            }
            progress.advance(work.of(part));
        };
        let started = std::time::Instant::now();
        let last =
            run::<PredictError>(model, &recycling, &mut features, &mut watch, &mut |pass| target.pass(plan, pass))?;
        // Passes that early stopping has saved.
        progress.advance((plan.n_recycle - last.index) as u64 * work.total());
        let distogram = model.network().heads.distogram(&last.recycled.pair)?;
        let made = Made { pass: &last, distogram: &distogram, seconds: started.elapsed().as_secs_f64() };
        progress.result(&target.write(plan, &made)?);
        Ok(())
    }

    /// Ranks the results of a query.
    fn finish(&self, job: &Job) -> Result<(), PredictError> {
        match self.plan.style {
            Style::Common => Ok(crate::pipelines::output::rank(&job.folder, &job.name)?),
            Style::ColabFold => colabfold::finish(self.plan, job),
        }
    }

    fn target<'j>(&self, job: &'j Job<'a>, file: &'j ParameterFile, seed: u32) -> Target<'j, 'a> {
        Target { job, file, seed, style: self.plan.style, formats: &self.plan.formats }
    }

    /// What would be done: a line of `--dry-run`.
    fn foresee(&self, job: &Job) -> Value {
        let targets = self.plan.models.iter().flat_map(|m| self.plan.seeds.iter().map(move |&s| (m, s)));
        json!({
            "query": job.query.name,
            "residues": job.raw.n_res(),
            "chains": job.raw.chains.len(),
            "msa_rows": job.raw.n_row(),
            "templates": job.raw.templates.iter().filter(|t| t.mask.contains(&1.)).count(),
            "max_msa": format!("{}:{}", job.rows.0, job.rows.1),
            "estimated_peak_bytes": self.peak(job),
            "available_bytes": crate::device::memory().map(|m| m.available),
            "fits": self.check_memory(job).is_ok(),
            "missing": targets.filter(|(m, s)| !self.target(job, m, *s).done()).count(),
        })
    }

    fn sizes(&self, job: &Job) -> Sizes {
        let n_row = job.raw.n_row();
        let n_seq = job.rows.0.min(n_row);
        Sizes {
            n_res: job.raw.n_res(),
            n_seq,
            n_template: job.raw.templates.len(),
            n_extra: job.rows.1.min(n_row - n_seq).max(1),
            has_dropout: self.plan.use_dropout,
        }
    }

    /// The model that takes most, for a query.
    fn largest_model(&self) -> Option<&'a ParameterFile> {
        self.plan.models.iter().max_by_key(|m| m.bytes)
    }

    fn peak(&self, job: &Job) -> u64 {
        self.largest_model().map_or(0, |m| memory::peak(&m.config, &self.sizes(job), m.bytes))
    }

    fn check_memory(&self, job: &Job) -> Result<(), PredictError> {
        let (Some(Memory { available, .. }), Some(model)) = (crate::device::memory(), self.largest_model()) else {
            return Ok(());
        };
        let (needed, n) = (self.peak(job), job.raw.n_res());
        if needed <= available {
            return Ok(());
        }
        let largest = memory::largest(&model.config, &self.sizes(job), model.bytes, available);
        let remedy = if largest > 0 {
            format!("about {largest} residues fit: shorten the chains, lower --max-msa, or free memory")
        } else {
            "free memory, lower --max-msa, or use a larger machine".to_owned()
        };
        let n_atom = job.assembly.sites().count();
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let (needed, available) = (gb(needed), gb(available));
        Err(PredictError::Memory { query: job.query.name.clone(), n_token: n, n_atom, needed, available, remedy })
    }

    /// Units of the progress bar: a million operations each.
    fn work(&self, jobs: &[Job]) -> u64 {
        let of = |job: &Job| self.plan.models.iter().map(|m| self.work_of(job, m)).sum::<u64>();
        jobs.iter().filter(|job| job.failure.is_none()).map(of).sum::<u64>() * self.plan.seeds.len() as u64
    }

    fn work_of(&self, job: &Job, file: &ParameterFile) -> u64 {
        self.pass(job, file).total() * (self.plan.n_recycle as u64 + 1)
    }

    fn pass(&self, job: &Job, file: &ParameterFile) -> Work {
        let (c, sizes) = (&file.config, self.sizes(job));
        let cost = Cost::new(c, sizes.n_res, sizes.n_seq + sizes.n_template, sizes.n_extra);
        let unit = |flop: f64| (flop / 1e6).ceil() as u64;
        Work {
            n_extra_block: c.extra_msa.n_block as u64,
            n_block: c.evoformer.n_block as u64,
            extra_block: unit(cost.extra_msa.total()),
            block: unit(cost.evoformer.total()),
            heads: unit(cost.structure + cost.pae),
        }
    }

    /// Stops where going on makes no sense: the only query has failed, or nothing can be written.
    fn stop_early(&self, jobs: &mut [Job]) -> Result<(), PredictError> {
        for job in jobs {
            let only = self.plan.queries.len() == 1;
            match job.failure.take() {
                Some(e) if only || matches!(e, PredictError::Store(StoreError::Write { .. })) => return Err(e),
                failure => job.failure = failure,
            }
        }
        Ok(())
    }

    fn outcome(&self, jobs: Vec<Job>) -> Result<Outcome, PredictError> {
        let mut outcome = Outcome::default();
        for job in jobs {
            match job.failure {
                None => outcome.done.push(job.query.name.clone()),
                Some(e) => outcome.failed.push((job.query.name.clone(), e)),
            }
        }
        if !self.plan.dry_run {
            write_failures(&self.plan.out, &outcome)?;
        }
        Ok(outcome)
    }
}

/// Work of the parts of a pass.
struct Work {
    n_extra_block: u64,
    n_block: u64,
    extra_block: u64,
    block: u64,
    heads: u64,
}

impl Work {
    fn of(&self, part: Part) -> u64 {
        match part {
            Part::Embedders => 0,
            Part::ExtraBlock => self.extra_block,
            Part::Block => self.block,
            Part::Heads => self.heads,
        }
    }

    fn total(&self) -> u64 {
        self.n_extra_block * self.extra_block + self.n_block * self.block + self.heads
    }
}
