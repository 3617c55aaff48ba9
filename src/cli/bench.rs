//! `fold bench`: how fast is this machine, stage by stage?
use std::path::PathBuf;
use std::process::ExitCode;

use super::exit::Usage;
use super::ui::{self, Terminal};
use crate::device::DeviceChoice;
use crate::pipelines::bench::{BenchWeights, Plan, Row, bench};

/// Time, arithmetic and memory of each stage of a prediction
#[derive(Debug, clap::Args)]
pub struct Args {
    /// openfold3, or untrained: the small random model
    #[arg(value_name = "MODEL", default_value = "openfold3")]
    model: String,
    /// Lengths of the chains that are predicted
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    tokens: Vec<u32>,
    /// Rows of the alignment
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    msa_rows: u32,
    /// Structures denoised together
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    n_samples: u32,
    /// Passes through the trunk
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    n_cycles: u32,
    /// Denoising steps
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    n_steps: u32,
    /// Fewer blocks of the Pairformer and of the token transformer, for a quick look or a measurement of memory
    #[arg(long, value_name = "N", conflicts_with = "weights", value_parser = clap::value_parser!(u32).range(1..))]
    n_blocks: Option<u32>,
    /// Converted weights [default: random ones of full size, which take the same time]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// auto, cpu or metal
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Print each row as a line of JSON on stdout in place of the table
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let count = |n: u32| n as usize;
    let weights = match (args.model.as_str(), args.weights, args.n_blocks) {
        ("openfold3", Some(path), _) => BenchWeights::OpenFold3(path),
        ("openfold3", None, n_block) => BenchWeights::Random(n_block.map(count)),
        ("untrained", None, None) => BenchWeights::Untrained,
        ("untrained", ..) => {
            return Err(Usage("bench untrained takes no --weights and no --n-blocks".to_owned()).into());
        }
        (other, ..) => return Err(Usage(format!("bench {other:?}: the models are openfold3 and untrained")).into()),
    };
    let plan = Plan {
        weights,
        n_token: args.tokens.iter().copied().map(count).collect(),
        n_row: count(args.msa_rows),
        n_sample: count(args.n_samples),
        n_cycle: count(args.n_cycles),
        n_step: count(args.n_steps),
        device: args.device,
    };
    let mut terminal = Terminal::new(args.json);
    let rows = bench(&plan, &mut terminal);
    terminal.finish();
    let rows = rows?;
    if !args.json {
        ui::print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut text = match first.gemm_peak {
        Some(peak) => format!(
            "f32 gemm peak {:.0} GFLOP/s on {} threads; memory without weights, U = pair representation\n",
            peak * 1e-9,
            crate::device::threads()
        ),
        None => String::new(),
    };
    let mut n_token = 0;
    for row in rows {
        if row.n_token != n_token {
            n_token = row.n_token;
            let u = row.pair_bytes as f64 / 1e6;
            text += &format!("\n{n_token} tokens, {} atoms, U = {u:.1} MB\n", row.n_atom);
            text += "stage               calls      s/call   GFLOP/s  of peak      MB      U\n";
        }
        let number = |x: Option<f64>, width: usize, digits: usize| match x {
            Some(x) => format!("{x:>width$.digits$}"),
            None => format!("{:>width$}", "-"),
        };
        text += &format!(
            "{:<18} {:>6} {:>11.4} {} {} {} {}\n",
            row.stage,
            row.n_call,
            row.seconds,
            number((row.flop > 0.0).then(|| row.flop_per_second() * 1e-9), 9, 0),
            number(row.fraction_of_peak(), 8, 2),
            number(row.peak_bytes.map(|bytes| bytes as f64 / 1e6), 7, 0),
            number(row.peak_in_u(), 6, 2),
        );
    }
    text
}
