//! `fold bench`: how fast is this machine, stage by stage?
use std::path::PathBuf;
use std::process::ExitCode;

use super::exit::Usage;
use super::ui::{self, Terminal};
use crate::device::DeviceChoice;
use crate::pipelines::bench::{Row, af2, esm3, openfold3, pxdesign};

/// Time, arithmetic and memory of each stage of a prediction
#[derive(Debug, clap::Args)]
pub struct Args {
    /// openfold3, af2, esm3, pxdesign, or untrained: the small random model
    #[arg(value_name = "MODEL", default_value = "openfold3")]
    model: String,
    /// Lengths of the chains that are predicted; of pxdesign tokens of target and binder together
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    tokens: Vec<u32>,
    /// Rows of the alignment; not of esm3 and pxdesign [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    msa_rows: Option<u32>,
    /// Structures denoised together; not of af2 and esm3 [default: 1, of pxdesign 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n_samples: Option<u32>,
    /// Passes through the trunk; not of pxdesign [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n_cycles: Option<u32>,
    /// Denoising steps; not of af2 and esm3 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    n_steps: Option<u32>,
    /// Fewer blocks of the deep stacks (Pairformer, token transformer, Evoformer, ESM3's), for a quick look or a measurement of
    /// memory
    #[arg(long, value_name = "N", conflicts_with = "weights", value_parser = clap::value_parser!(u32).range(1..))]
    n_blocks: Option<u32>,
    /// Converted weights, of esm3 their folder [default: random ones of full size, which take the same time]
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
    let mut terminal = Terminal::new(args.json);
    let rows: anyhow::Result<Vec<Row>> = match args.model.as_str() {
        "af2" => af2::bench(&args.af2()?, &mut terminal).map_err(Into::into),
        "esm3" => esm3::bench(&args.esm3()?, &mut terminal).map_err(Into::into),
        "pxdesign" => pxdesign::bench(&args.pxdesign()?, &mut terminal).map_err(Into::into),
        _ => openfold3::bench(&args.openfold3()?, &mut terminal).map_err(Into::into),
    };
    terminal.finish();
    let rows = rows?;
    if !args.json {
        ui::print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn af2(&self) -> anyhow::Result<af2::Plan> {
        if self.n_samples.is_some() || self.n_steps.is_some() {
            return Err(Usage("bench af2 takes no --n-samples and no --n-steps".to_owned()).into());
        }
        Ok(af2::Plan {
            weights: match &self.weights {
                Some(path) => af2::BenchWeights::File(path.clone()),
                None => af2::BenchWeights::Random(self.n_blocks.map(count)),
            },
            n_res: self.tokens.iter().copied().map(count).collect(),
            n_row: count(self.msa_rows.unwrap_or(1)),
            n_cycle: count(self.n_cycles.unwrap_or(1)),
            device: self.device,
        })
    }

    fn pxdesign(&self) -> anyhow::Result<pxdesign::Plan> {
        if self.msa_rows.is_some() || self.n_cycles.is_some() {
            return Err(Usage("bench pxdesign takes no --msa-rows and no --n-cycles".to_owned()).into());
        }
        Ok(pxdesign::Plan {
            weights: self.weights.clone(),
            n_block: self.n_blocks.map(count),
            n_token: self.tokens.iter().copied().map(count).collect(),
            n_sample: count(self.n_samples.unwrap_or(4)),
            n_step: count(self.n_steps.unwrap_or(5)),
            device: self.device,
        })
    }

    fn esm3(&self) -> anyhow::Result<esm3::Plan> {
        if self.n_samples.is_some() || self.n_steps.is_some() || self.msa_rows.is_some() {
            return Err(Usage("bench esm3 takes no --n-samples, no --n-steps and no --msa-rows".to_owned()).into());
        }
        Ok(esm3::Plan {
            weights: match &self.weights {
                Some(folder) => esm3::BenchWeights::Folder(folder.clone()),
                None => esm3::BenchWeights::Random(self.n_blocks.map(count)),
            },
            n_res: self.tokens.iter().copied().map(count).collect(),
            n_pass: count(self.n_cycles.unwrap_or(1)),
            device: self.device,
        })
    }

    fn openfold3(&self) -> anyhow::Result<openfold3::Plan> {
        use openfold3::BenchWeights;
        let weights = match (self.model.as_str(), &self.weights, self.n_blocks) {
            ("openfold3", Some(path), _) => BenchWeights::OpenFold3(path.clone()),
            ("openfold3", None, n_block) => BenchWeights::Random(n_block.map(count)),
            ("untrained", None, None) => BenchWeights::Untrained,
            ("untrained", ..) => {
                return Err(Usage("bench untrained takes no --weights and no --n-blocks".to_owned()).into());
            }
            (other, ..) => {
                return Err(Usage(format!(
                    "bench {other:?}: the models are openfold3, af2, esm3, pxdesign and untrained"
                ))
                .into());
            }
        };
        Ok(openfold3::Plan {
            weights,
            n_token: self.tokens.iter().copied().map(count).collect(),
            n_row: count(self.msa_rows.unwrap_or(1)),
            n_sample: count(self.n_samples.unwrap_or(1)),
            n_cycle: count(self.n_cycles.unwrap_or(1)),
            n_step: count(self.n_steps.unwrap_or(5)),
            device: self.device,
        })
    }
}

fn count(n: u32) -> usize {
    n as usize
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
            text += &match (row.n_atom, row.pair_bytes) {
                (Some(atoms), Some(u)) => format!("\n{n_token} tokens, {atoms} atoms, U = {:.1} MB\n", u as f64 / 1e6),
                _ => format!("\n{n_token} residues\n"),
            };
            text += "stage                calls      s/call   GFLOP/s  of peak      MB      U\n";
        }
        let number = |x: Option<f64>, width: usize, digits: usize| match x {
            Some(x) => format!("{x:>width$.digits$}"),
            None => format!("{:>width$}", "-"),
        };
        text += &format!(
            "{:<19} {:>6} {:>11.4} {} {} {} {}\n",
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
