//! One task of a run: its stages over some samples of a seed, each with its network loaded while it is needed.
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;

use super::af2::{self, Af2Stage};
use super::backbones::BackboneStage;
use super::network::Conditioned;
use super::place::Place;
use super::run::{Filters, Run, features, stages};
use super::second::{self, Network, NetworkFile, Runner, SecondFilter, SecondStage, Target, WithTarget};
use super::sequences::{self, SequenceStage};
use super::stage::{self, Tally};
use super::{DesignError, causes};
use crate::features::pxdesign::DesignStructure;
use crate::models::mpnn::ProteinMpnn;
use crate::pipelines::af2::filter::Filter;
use crate::pipelines::progress::Progress;
use crate::pipelines::protenix::filter::FilterError;
use crate::query::pxdesign::Task;
use crate::score::design::rank::passes_second;
use crate::score::design::rounded;
use crate::weights::Weights;

/// One task in a run.
pub(super) struct Job<'a> {
    pub run: &'a Run<'a>,
    pub task: &'a Task,
    pub structure: &'a DesignStructure,
    /// For the second filter.
    pub target: Option<&'a Target>,
    /// Backbones at a time.
    pub batch: usize,
}

impl Job<'_> {
    /// All stages of some samples.
    pub fn round(&self, place: &Place, samples: &[usize], progress: &mut dyn Progress) -> Result<Tally, DesignError> {
        let mut tally = self.backbones(place, samples, progress)?;
        let Some(filters) = &self.run.plan.filters else { return Ok(tally) };
        let stages = stages(Some(filters));
        for (before, next) in stages.iter().zip(&stages[1..]) {
            if tally.stopped.is_some() {
                break;
            }
            let ready: Vec<usize> =
                samples.iter().copied().filter(|&sample| (before.1)(place, sample).is_file()).collect();
            let of_stage = if ready.iter().all(|&sample| (next.1)(place, sample).is_file()) {
                Tally { done: ready.len(), ..Tally::default() }
            } else {
                match (next.0, &filters.second, self.target) {
                    (sequences::NAME, ..) => self.sequences(filters, place, &ready, progress)?,
                    (af2::NAME, ..) => self.af2(filters, place, &ready, progress)?,
                    (_, Some(second), Some(target)) => self.second(second, target, place, &ready, progress)?,
                    _ => Tally::default(),
                }
            };
            tally = Tally { done: of_stage.done, failed: tally.failed + of_stage.failed, stopped: of_stage.stopped };
        }
        Ok(tally)
    }

    fn sequences(
        &self,
        filters: &Filters,
        place: &Place,
        samples: &[usize],
        progress: &mut dyn Progress,
    ) -> Result<Tally, DesignError> {
        let model = load_mpnn(&filters.mpnn)?;
        let mut stage = SequenceStage { model: &model, structure: self.structure, place };
        stage::run(&mut stage, place, samples, &self.run.plan.stop, progress)
    }

    fn af2(
        &self,
        filters: &Filters,
        place: &Place,
        samples: &[usize],
        progress: &mut dyn Progress,
    ) -> Result<Tally, DesignError> {
        progress.stage(&format!("{}: loading {}", place.task(), filters.af2.release));
        let model = filters.af2.load(&self.run.network.device)?;
        let filter = Filter::new(&model, af2::N_RECYCLE).map_err(|e| DesignError::Usage(e.to_string()))?;
        let mut stage = Af2Stage { filter, config: &filters.af2.config, structure: self.structure, place };
        stage::run(&mut stage, place, samples, &self.run.plan.stop, progress)
    }

    fn second(
        &self,
        second: &SecondFilter,
        target: &Target,
        place: &Place,
        samples: &[usize],
        progress: &mut dyn Progress,
    ) -> Result<Tally, DesignError> {
        let (plan, device) = (self.run.plan, &self.run.network.device);
        let mut loaded = None;
        let (mut file, mut alone) = (&second.network, None);
        if let Some(with) = &second.with_target {
            let found = match second::known_alone(second.model, place, 0..plan.n_sample) {
                Some(found) => found,
                None => {
                    let network = loaded.insert(self.load(file, progress)?);
                    progress.stage(&format!("{}: {}, target alone", place.task(), second.model.title()));
                    let runner = Runner { network, device, folder: place.folder() };
                    match self.target_alone(runner, target, place)? {
                        Some(found) => found,
                        None => return Ok(Tally { stopped: plan.stop.asked(), ..Tally::default() }),
                    }
                }
            };
            alone = Some(found);
            if !is_near(found, with) {
                progress.note(&format!(
                    "{}, seed {}: the target alone is {found} Å from its structure, {} is given it",
                    place.task(),
                    place.seed(),
                    with.network.model
                ));
                (file, loaded) = (&with.network, None);
            }
        }
        let network = match loaded {
            Some(network) => network,
            None => self.load(file, progress)?,
        };
        let mut stage = SecondStage {
            model: second.model,
            runner: Runner { network: &network, device, folder: place.folder() },
            gives_target: !std::ptr::eq(file, &second.network),
            file,
            target,
            alone,
            keeps: passes_second,
            structure: self.structure,
            place,
        };
        stage::run(&mut stage, place, samples, &plan.stop, progress)
    }

    fn load(&self, file: &NetworkFile, progress: &mut dyn Progress) -> Result<Network, DesignError> {
        progress.stage(&format!("{}: loading {}", self.task.name, file.model));
        Network::load(file, &self.run.network.device)
    }

    /// How far the target alone is from its structure, Å; `None`: the run is to end.
    fn target_alone(&self, runner: Runner<'_>, target: &Target, place: &Place) -> Result<Option<f64>, DesignError> {
        let watch = &mut |_| match self.run.plan.stop.asked() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        };
        match second::target_alone(runner, target, place.seed().into(), watch) {
            Ok(found) => Ok(Some(rounded(found, 2))),
            Err(FilterError::Stopped) => Ok(None),
            Err(FilterError::Predict(error)) => Err(error.into()),
            Err(error) => {
                let problem = format!("the target alone: {}", causes(&error));
                Err(DesignError::Task { task: self.task.name.clone(), problem })
            }
        }
    }

    /// The backbones of one seed.
    fn backbones(&self, place: &Place, samples: &[usize], progress: &mut dyn Progress) -> Result<Tally, DesignError> {
        if samples.iter().all(|&sample| place.backbone(sample).is_file()) {
            return Ok(Tally { done: samples.len(), ..Tally::default() });
        }
        let Run { plan, network } = self.run;
        progress.stage(&format!("{}: target", self.task.name));
        let (features, _) = features(self.task, place.seed());
        let model = &network.model;
        let tensors = model.batch(&features, &network.device)?;
        let conditioned = Conditioned {
            diffusion: model.condition(&features, &tensors)?,
            structure: self.structure,
            schedule: network.schedule(plan.n_step, plan.step_scale),
            seed: place.seed(),
        };
        crate::ops::release_scratch();
        let mut stage = BackboneStage { backbones: &conditioned, place, batch: self.batch };
        stage::run(&mut stage, place, samples, &plan.stop, progress)
    }
}

/// Is the target found without its structure? What could not be measured is not near.
fn is_near(alone: f64, with: &WithTarget) -> bool {
    alone < with.from
}

/// ProteinMPNN over a converted file.
fn load_mpnn(path: &Path) -> Result<ProteinMpnn, DesignError> {
    let weights = Weights::open(path, &Device::Cpu)?;
    Ok(ProteinMpnn::load(&weights.config()?, &weights)?)
}
