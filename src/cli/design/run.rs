//! `fold design TASK`: backbones of binders, a sample at a time, and what filters make of them.
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use super::merge::tell;
use super::time::Time;
use crate::chem::dictionary::Dictionary;
use crate::cli::exit::{self, Usage};
use crate::cli::ui::{self, Terminal};
use crate::cli::weights::weights_folder;
use crate::device::DeviceChoice;
use crate::features::af2::Family;
use crate::models::pxdesign::sample::{Course, StepScale};
use crate::pipelines::af2::parameters::in_folder;
use crate::pipelines::design::DesignError;
use crate::pipelines::design::merge::merge;
use crate::pipelines::design::run::{Filters, Outcome, Plan, run as run_plan};
use crate::pipelines::design::second::{NetworkFile, SecondFilter, SecondModel, WithTarget};
use crate::pipelines::protenix::filter::TEMPLATE_RMSD;
use crate::pipelines::shard::Shard;
use crate::pipelines::stop::Stop;
use crate::query::pxdesign;

/// Options of a run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Task file: PXDesign's .yaml, or its .json with several tasks
    task: PathBuf,
    /// Folder for the results; made if missing
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Samples of each seed
    #[arg(long, visible_alias = "n-sample", value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    n_samples: u32,
    /// Denoising steps
    #[arg(long, visible_alias = "n-steps", value_name = "N", default_value = "400", value_parser = clap::value_parser!(u32).range(1..))]
    n_step: u32,
    /// Course of the step scale: const, linear, poly, cos, piecewise, piecewise_65, piecewise_70
    #[arg(long, value_name = "NAME", default_value = "const")]
    eta_type: Course,
    /// Step scale at the beginning
    #[arg(long, value_name = "X", default_value = "2.5")]
    eta_min: f64,
    /// Step scale at the end
    #[arg(long, value_name = "X", default_value = "2.5")]
    eta_max: f64,
    /// Seeds; each has its own samples
    #[arg(long, visible_alias = "seed", value_name = "N,N,..", value_delimiter = ',', default_value = "42")]
    seeds: Vec<u32>,
    /// Part of the samples, from 0, and number of parts: several processes share a run, each with a part of its own
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Samples at a time [default: as many as fit the memory, at most 8]; changes no result
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Stop after this time, such as 23h or 90m, with exit code 75; the same command goes on
    #[arg(long, value_name = "TIME")]
    max_time: Option<Time>,
    /// Converted weights of PXDesign, or a folder with those of all models [default: the weights folder]
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// auto, cpu or metal
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: DeviceChoice,
    /// Number format of the computation: f32
    #[arg(long, value_name = "NAME", default_value = "f32")]
    dtype: String,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// What is made: backbones alone; preview: with sequences (ProteinMPNN) and AlphaFold2's filter, ranked; extended: with a second
    /// filter by a network of AlphaFold3's family
    #[arg(long, value_name = "NAME", default_value = "preview")]
    preset: Preset,
    /// Network of the second filter: protenix, protenix-mini, openfold3 [default: protenix]
    #[arg(long, value_name = "NAME")]
    second_filter: Option<Second>,
    /// Give Protenix the target's structure where the target alone is predicted so far from it, in Å, or never [default: 2]
    #[arg(long, value_name = "X")]
    target_template_rmsd: Option<TemplateRmsd>,
    /// Stop when so many designs of a task and seed pass the filters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    stop_after: Option<u32>,
    /// Sequences by SolubleMPNN's weights
    #[arg(long)]
    soluble: bool,
    /// Dictionary of components that are not inside the program, mmCIF; may be repeated
    #[arg(long, value_name = "FILE")]
    components: Vec<PathBuf>,
    /// Say what would be done: tokens, atoms, batch size, estimated memory, what is missing; one JSON line a task
    #[arg(long)]
    dry_run: bool,
    /// Print each result as a line of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// How far a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    Backbones,
    Preview,
    Extended,
}

impl Preset {
    const ALL: [Self; 3] = [Self::Backbones, Self::Preview, Self::Extended];

    fn name(self) -> &'static str {
        match self {
            Self::Backbones => "backbones",
            Self::Preview => "preview",
            Self::Extended => "extended",
        }
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|preset| preset.name() == name);
        known.ok_or_else(|| "the presets are backbones, preview and extended".to_owned())
    }
}

/// The network of the second filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Second(SecondModel);

impl FromStr for Second {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = SecondModel::ALL.into_iter().find(|model| model.name() == name);
        known
            .map(Self)
            .ok_or_else(|| format!("the networks are {}", SecondModel::ALL.map(SecondModel::name).join(", ")))
    }
}

/// From which RMSD of the target alone on its structure is given to the network, Å.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TemplateRmsd(Option<f64>);

impl FromStr for TemplateRmsd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == NEVER => Ok(Self(None)),
            Ok(rmsd) if (0f64..).contains(&rmsd) && rmsd.is_finite() => Ok(Self(Some(rmsd))),
            _ => Err(format!("give a number of Å from 0 on, or {NEVER}")),
        }
    }
}

/// Instead of a distance.
const NEVER: &str = "never";

impl Args {
    /// Every default filled, every input read and checked.
    fn resolve(self, signal: Arc<AtomicBool>) -> anyhow::Result<Plan> {
        if self.dtype != "f32" {
            let known = ["f16", "bf16"].contains(&self.dtype.as_str());
            let reason = if known { "is not served yet" } else { "is not a number format" };
            return Err(Usage(format!("--dtype {}: {reason}; give f32", self.dtype)).into());
        }
        for (name, eta) in [("--eta-min", self.eta_min), ("--eta-max", self.eta_max)] {
            if !eta.is_finite() || eta <= 0. {
                return Err(Usage(format!("{name} {eta}: give a number above 0")).into());
            }
        }
        if self.preset == Preset::Backbones && (self.stop_after.is_some() || self.soluble) {
            let option = if self.soluble { "--soluble" } else { "--stop-after" };
            return Err(Usage(format!("{option} is not for --preset backbones, which has no sequences")).into());
        }
        let second = self.second()?;
        let command = self.command();
        let mut dictionary = Dictionary::built_in();
        for file in &self.components {
            dictionary.add(file)?;
        }
        let weights = Weights::new(self.weights.as_deref())?;
        let mut seeds = Vec::new();
        self.seeds.iter().for_each(|seed| {
            if !seeds.contains(seed) {
                seeds.push(*seed);
            }
        });
        Ok(Plan {
            tasks: pxdesign::read(&self.task, &dictionary)?,
            weights: weights.pxdesign()?,
            filters: match self.preset {
                Preset::Backbones => None,
                Preset::Preview | Preset::Extended => Some(weights.filters(self.soluble, second)?),
            },
            stop_after: self.stop_after.map(|n| n as usize),
            out: self.out,
            seeds,
            n_sample: self.n_samples as usize,
            n_step: self.n_step as usize,
            step_scale: StepScale { course: self.eta_type, min: self.eta_min, max: self.eta_max },
            shard: self.shard.unwrap_or(Shard::ALL),
            batch: self.batch_size.map(|n| n as usize),
            device: self.device,
            stop: Stop::new(signal, self.max_time.map(|time| time.0)),
            command,
            dry_run: self.dry_run,
        })
    }

    /// The second filter that is asked for, and from which distance of the target on its structure is given.
    fn second(&self) -> anyhow::Result<Option<(SecondModel, Option<f64>)>> {
        if self.preset != Preset::Extended {
            let given = [("--second-filter", self.second_filter.is_some())];
            let given = given.into_iter().chain([("--target-template-rmsd", self.target_template_rmsd.is_some())]);
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                Some((option, _)) => Err(Usage(format!("{option} is for --preset extended")).into()),
                None => Ok(None),
            };
        }
        let model = self.second_filter.map_or(SecondModel::Protenix, |second| second.0);
        if model != SecondModel::Protenix && self.target_template_rmsd.is_some() {
            return Err(
                Usage(format!("--target-template-rmsd is not for {}: only protenix has it", model.name())).into()
            );
        }
        let from = self.target_template_rmsd.map_or(Some(TEMPLATE_RMSD), |given| given.0);
        Ok(Some((model, from.filter(|_| model == SecondModel::Protenix))))
    }

    /// The command that does the whole run, as it can be typed; what changes no result is left out.
    fn command(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(u32::to_string).collect();
        let mut words = vec!["fold".to_owned(), "design".to_owned(), self.task.display().to_string()];
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--out", self.out.display().to_string());
        option("--n-samples", self.n_samples.to_string());
        option("--seeds", seeds.join(","));
        option("--n-step", self.n_step.to_string());
        option("--eta-type", self.eta_type.to_string());
        option("--eta-min", self.eta_min.to_string());
        option("--eta-max", self.eta_max.to_string());
        for file in &self.components {
            option("--components", file.display().to_string());
        }
        option("--preset", self.preset.name().to_owned());
        if let Some(Second(model)) = self.second_filter {
            option("--second-filter", model.name().to_owned());
        }
        if let Some(TemplateRmsd(rmsd)) = self.target_template_rmsd {
            option("--target-template-rmsd", rmsd.map_or(NEVER.to_owned(), |rmsd| rmsd.to_string()));
        }
        if let Some(n) = self.stop_after {
            option("--stop-after", n.to_string());
        }
        if let Some(weights) = &self.weights {
            option("--weights", weights.display().to_string());
        }
        if self.soluble {
            words.push("--soluble".to_owned());
        }
        words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell reads it.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Where the weights are looked for.
struct Weights<'a> {
    /// The file of PXDesign, if one was given.
    file: Option<&'a Path>,
    /// The folder of all others.
    folder: PathBuf,
}

impl<'a> Weights<'a> {
    fn new(given: Option<&'a Path>) -> anyhow::Result<Self> {
        match given {
            Some(folder) if folder.is_dir() => Ok(Self { file: None, folder: folder.to_owned() }),
            file => Ok(Self { file, folder: weights_folder()? }),
        }
    }

    fn pxdesign(&self) -> Result<PathBuf, DesignError> {
        let (release, looked) = (&weights_convert::PXDESIGN, self.folder.clone());
        let remedy = "get them with `fold weights pull pxdesign`, or convert the official file with `fold weights convert pxdesign \
                      pxdesign_v0.1.0.pt`";
        let missing = DesignError::NoWeights { model: "PXDesign", looked, remedy };
        let found = self.file.map(Path::to_owned).or_else(|| self.find(release.model, release.version));
        found.ok_or(missing)
    }

    fn filters(&self, soluble: bool, second: Option<(SecondModel, Option<f64>)>) -> Result<Filters, DesignError> {
        let (model, remedy) = if soluble { SOLUBLE } else { VANILLA };
        let missing = DesignError::NoWeights { model: "ProteinMPNN", looked: self.folder.clone(), remedy };
        let mpnn = self.find(model, MPNN_VERSION).ok_or(missing)?;
        let af2 = in_folder(&self.folder, Family::Monomer, 1)?;
        // The function has found one, or said that there is none.
        let af2 = af2.into_iter().next().ok_or_else(|| DesignError::Usage("no parameter set".to_owned()))?;
        let second = second.map(|(model, from)| self.second(model, from)).transpose()?;
        Ok(Filters { mpnn, af2, second })
    }

    /// Weights of the second filter; from the distance `from` of the target on also those of a network that is given it.
    fn second(&self, model: SecondModel, from: Option<f64>) -> Result<SecondFilter, DesignError> {
        let [base, mini, tmpl] = &weights_convert::PROTENIX;
        let (release, title, remedy) = match model {
            SecondModel::Protenix => (base, "Protenix", BASE),
            SecondModel::ProtenixMini => (mini, "Protenix mini", MINI),
            SecondModel::OpenFold3 => (&weights_convert::OPENFOLD3, "OpenFold3", OPENFOLD3),
        };
        let open = |release: &weights_convert::Release, model, remedy| {
            let missing = || DesignError::NoWeights { model, looked: self.folder.clone(), remedy };
            NetworkFile::open(&self.find(release.model, release.version).ok_or_else(missing)?, release.model)
        };
        let network = open(release, title, remedy)?;
        let with_target = from.map(|from| {
            let network = open(tmpl, "Protenix mini with the target's structure", TMPL)?;
            Ok::<_, DesignError>(WithTarget { network, from })
        });
        Ok(SecondFilter { model, network, with_target: with_target.transpose()? })
    }

    fn find(&self, model: &str, version: &str) -> Option<PathBuf> {
        let file = |dtype| crate::weights::default_file(&self.folder, model, version, dtype);
        ["f32", "bf16", "f16"].map(file).into_iter().find(|path| path.is_file())
    }
}

/// Models of ProteinMPNN, and what to do where their weights are missing.
const VANILLA: (&str, &str) = (
    "mpnn",
    "convert the official file with `fold weights convert mpnn vanilla_model_weights/v_48_020.pt`, or give --preset backbones",
);
/// See [`VANILLA`].
const SOLUBLE: (&str, &str) = (
    "mpnn-soluble",
    "convert the official file with `fold weights convert mpnn soluble_model_weights/v_48_020.pt`, or leave out --soluble",
);
/// What to do where the weights of the second filter are missing.
const BASE: &str =
    "get them with `fold weights pull protenix-base`, or give --second-filter openfold3 or --preset preview";
/// See [`BASE`].
const MINI: &str = "get them with `fold weights pull protenix-mini`";
/// See [`BASE`].
const OPENFOLD3: &str = "get them with `fold weights pull openfold3`";
/// See [`BASE`].
const TMPL: &str = "get them with `fold weights pull protenix-mini-tmpl`; they judge designs on a target that Protenix alone does not \
                    find: --target-template-rmsd never does without";
/// PXDesign's weights of ProteinMPNN.
const MPNN_VERSION: &str = "v_48_020";

/// Set at SIGINT and SIGTERM; at the second of them the program ends at once, which loses no finished sample.
fn signals() -> anyhow::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let signal = Arc::new(AtomicBool::new(false));
    for number in [SIGINT, SIGTERM] {
        let at_once = signal_hook::flag::register_conditional_shutdown(number, exit::STOPPED.into(), signal.clone());
        at_once.and_then(|_| signal_hook::flag::register(number, signal.clone())).context("signals")?;
    }
    Ok(signal)
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminal = Terminal::new(args.json || args.dry_run);
    let file = args.task.display().to_string();
    let plan = args.resolve(signals()?).with_context(|| file)?;
    let outcome = run_plan(&plan, &mut terminal);
    terminal.finish();
    let outcome = outcome?;
    for (task, error) in &outcome.failed {
        eprintln!("fold: {task}: {}", ui::chain_of(error));
    }
    if plan.dry_run {
        return Ok(if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::SOME_FAILED) });
    }
    conclude(&plan, &outcome)
}

/// What is said at the end, and the exit code.
fn conclude(plan: &Plan, outcome: &Outcome) -> anyhow::Result<ExitCode> {
    let tally = &outcome.tally;
    if let Some(reason) = tally.stopped {
        eprintln!("fold: stopped {reason}: {} samples are done; the same command goes on from there", tally.done);
        return Ok(ExitCode::from(exit::STOPPED));
    }
    let is_whole = outcome.failed.is_empty() && tally.failed == 0;
    if plan.shard.is_part() {
        let out = plan.out.display();
        eprintln!("fold: {} samples are done; when all parts are: fold design merge {out}", tally.done);
    } else {
        let merged = merge(std::slice::from_ref(&plan.out))?;
        let is_mine = |name: &str| plan.tasks.iter().any(|task| task.name == name);
        merged.iter().filter(|task| is_mine(&task.survey.settings.task)).for_each(tell);
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(exit::SOME_FAILED) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(shell_word("tasks/pdl1.yaml"), "tasks/pdl1.yaml");
        assert_eq!(shell_word("my task.yaml"), "'my task.yaml'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
