//! `fold design`: proteins that are new.
mod sequences;

use std::process::ExitCode;

/// Design proteins
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Sequences(Box<sequences::Args>),
}

impl Args {
    /// Threads that were asked for.
    pub fn threads(&self) -> Option<u32> {
        match &self.command {
            Command::Sequences(args) => args.threads,
        }
    }
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Sequences(args) => sequences::run(*args),
    }
}
