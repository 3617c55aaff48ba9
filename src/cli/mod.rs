//! The command line: the only place that prints, prompts or exits.
mod af2;
mod bench;
mod design;
mod doctor;
mod esm3;
mod esm3_weights;
mod exit;
mod mpnn_weights;
mod predict;
mod pull;
mod quantise;
mod ui;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Predicts and designs protein structures on the machine a scientist already has
#[derive(Debug, Parser)]
#[command(name = "fold", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Predict(Box<predict::Args>),
    Design(Box<design::Args>),
    Esm3(Box<esm3::Args>),
    Weights(weights::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
}

/// Parses the arguments, runs the subcommand, prints what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = match &cli.command {
        Command::Predict(args) => args.threads,
        Command::Design(args) => args.threads(),
        Command::Esm3(args) => args.threads(),
        Command::Doctor(args) => args.threads,
        Command::Bench(args) => args.threads,
        Command::Weights(_) => None,
    };
    crate::device::start(threads.map(|n| n as usize));
    let done = crate::device::on_the_pool(|| match cli.command {
        Command::Predict(args) => predict::run(*args),
        Command::Design(args) => design::run(*args),
        Command::Esm3(args) => esm3::run(*args),
        Command::Weights(args) => weights::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(args),
    });
    done.unwrap_or_else(|error| {
        eprintln!("fold: {}", ui::chain(&error));
        exit::code(&error)
    })
}
