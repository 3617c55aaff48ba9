//! `fold doctor`: is this machine ready?
use std::process::ExitCode;

use super::exit;
use super::ui;
use super::weights::{weights_files, weights_folder};
use crate::device::DeviceChoice;
use crate::features::af2::Family;
use crate::pipelines::af2::parameters::in_folder;
use crate::pipelines::af2::peptides;
use crate::pipelines::doctor::{Check, Kernels, doctor, kernels};

/// Look at device, memory and weights, and check a short prediction against the official program's
#[derive(Debug, clap::Args)]
pub struct Args {
    /// auto, cpu or metal
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Instead, compare every fused operation on the device with plain tensor operations on the CPU
    #[arg(long)]
    kernels: bool,
    /// Instead, predict two short peptides with the weights of a model (af2: model_1_ptm) and compare with published scores
    #[arg(long, value_name = "MODEL", value_parser = ["af2"], conflicts_with = "kernels")]
    weights: Option<String>,
}

/// Runs the subcommand; the exit code is 0 only if everything is as it should be.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.kernels {
        return check_kernels(args.device);
    }
    if args.weights.is_some() {
        return check_peptides(args.device);
    }
    let folder = weights_folder()?;
    let report = doctor(args.device, &weights_files(&folder)?)?;
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let mut text = format!("fold     {}\n", env!("CARGO_PKG_VERSION"));
    text += &match report.device {
        "cpu" => format!("device   cpu, {} threads\n", report.n_thread),
        device => format!("device   {device}\n"),
    };
    text += &match report.memory {
        Some(memory) => format!("memory   {:.1} GB, {:.1} GB free\n", gb(memory.total), gb(memory.available)),
        None => "memory   not known\n".to_owned(),
    };
    let mut sound = true;
    if report.weights.is_empty() {
        text += &format!("weights  none in {}: fold weights pull openfold3, or --model demo\n", folder.display());
    }
    for (path, found) in &report.weights {
        text += &match found {
            Ok(model) => format!("weights  {model}  {}\n", path.display()),
            Err(error) => {
                sound = false;
                format!("weights  {}\n", ui::chain_of(error))
            }
        };
    }
    let Check { difference, elapsed } = report.check;
    let verdict = if report.check.passed() { "ok" } else { "FAILED" };
    text += &format!(
        "check    {verdict}: {difference:.1e} A from the official program's coordinates, {:.2} s\n",
        elapsed.as_secs_f64()
    );
    if !report.check.passed() {
        sound = false;
        text += "         the results of this device are wrong: try --device cpu, and report it with this output\n";
    }
    ui::print(&text)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(exit::SOME_FAILED) })
}

/// The table of `--weights`; the exit code is 0 only if the published scores are met.
fn check_peptides(device: DeviceChoice) -> anyhow::Result<ExitCode> {
    let files = in_folder(&weights_folder()?, Family::Monomer, 1)?;
    let mut text = String::new();
    let mut wrong = 0;
    for file in &files {
        text += &format!("weights  af2 {}  {}\n", file.release, file.path.display());
        for check in peptides::check(file, device)? {
            let published = check.published;
            let verdict = if check.passed() { "ok" } else { "FAILED" };
            wrong += usize::from(!check.passed());
            text += &format!(
                "check    {verdict}: {} {}, pLDDT {:.1}, published {}; pTM {:.4}, published {}; {:.1} s\n",
                published.name,
                published.sequence,
                check.plddt,
                published.plddt,
                check.ptm,
                published.ptm,
                check.elapsed.as_secs_f64()
            );
        }
    }
    if wrong > 0 {
        text += &format!(
            "         more than {} or {} away: these are not the published weights (fold weights verify), or this device is \
             wrong: try --device cpu, and report it with this output\n",
            peptides::Check::PLDDT_LIMIT,
            peptides::Check::PTM_LIMIT
        );
    }
    ui::print(&text)?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::SOME_FAILED) })
}

/// The table of `--kernels`; the exit code is 0 only if every operation agrees.
fn check_kernels(device: DeviceChoice) -> anyhow::Result<ExitCode> {
    let Kernels { device, checks } = kernels(device)?;
    let mut text = match device {
        "cpu" => {
            "no Metal kernel was run: these are the operations of the CPU, against plain tensor operations\n".to_owned()
        }
        device => format!("operations on {device}, against plain tensor operations on the CPU\n"),
    };
    let mut wrong = 0;
    for check in &checks {
        text += &match check {
            Ok(check) => {
                let verdict = if check.passed() { "ok" } else { "FAILED" };
                wrong += usize::from(!check.passed());
                let ms = check.elapsed.as_secs_f64() * 1e3;
                let difference = format!("{:.1e}", check.difference);
                format!("{verdict:6}  {difference:>7}  {ms:8.1} ms  {}\n", check.name)
            }
            Err(error) => {
                wrong += 1;
                format!("FAILED  {}\n", ui::chain_of(error))
            }
        };
    }
    text += &format!("{} operations, {wrong} wrong: largest difference, of the largest value; time\n", checks.len());
    if wrong > 0 {
        text += "results of this device are wrong: try --device cpu, and report it with this output\n";
    }
    ui::print(&text)?;
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::SOME_FAILED) })
}
