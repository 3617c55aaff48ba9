//! `fold design`: proteins that are new.
mod check;
mod merge;
mod run;
mod sequences;
mod time;

use std::process::ExitCode;

use super::exit::Usage;

/// Design binders against a target: backbones, sequences, filters, a ranked list
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<run::Args>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(check::Args),
    Merge(merge::Args),
    Sequences(Box<sequences::Args>),
}

impl Args {
    /// Threads that were asked for.
    pub fn threads(&self) -> Option<u32> {
        match &self.command {
            Some(Command::Sequences(args)) => args.threads,
            Some(Command::Check(_) | Command::Merge(_)) => None,
            None => self.run.as_ref().and_then(|run| run.threads),
        }
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match (args.command, args.run) {
        (Some(Command::Check(args)), _) => check::run(args),
        (Some(Command::Merge(args)), _) => merge::run(args),
        (Some(Command::Sequences(args)), _) => sequences::run(*args),
        (None, Some(args)) => run::run(args),
        (None, None) => Err(Usage("give a task file, or see fold design --help".to_owned()).into()),
    }
}
