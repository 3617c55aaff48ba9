//! `fold design merge`: what there is of a run, ranked.
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::exit;
use crate::cli::ui::print;
use crate::pipelines::design::merge::{Merged, merge};
use crate::pipelines::design::survey::Ranges;

/// Rank the samples of a run, whoever made them, and say which are missing; no structure is moved
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of the run; the first gets the ranked designs
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Print one JSON object a task on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut is_whole = true;
    for task in merge(&args.folders)? {
        if args.json {
            print(&format!("{}\n", task.json()))?;
        }
        is_whole &= task.is_whole();
        tell(&task);
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(exit::SOME_FAILED) })
}

/// What a person is told of a task.
pub(super) fn tell(task: &Merged) {
    let survey = &task.survey;
    let name = &survey.settings.task;
    eprintln!(
        "fold: {name}: {} of {} samples are ranked in {}",
        survey.done.len(),
        survey.n_expected(),
        task.summary.display()
    );
    if let Some(n) = task.n_passing {
        let what = if survey.second().is_some() { " both filters" } else { "" };
        eprintln!("fold: {name}: {n} pass{what}");
    }
    for (seed, stage, numbers) in task.missing() {
        eprintln!("fold: {name}, seed {seed}: missing {stage} of samples {}", Ranges(&numbers));
    }
    for (sample, stage, reason) in &survey.failed {
        eprintln!(
            "fold: {} (seed {}) failed: {stage}: {reason}",
            sample.place.name(sample.number),
            sample.place.seed()
        );
    }
    if !task.is_whole() {
        eprintln!("fold: {name}: what is missing is made by: {}", survey.settings.command);
    }
}
