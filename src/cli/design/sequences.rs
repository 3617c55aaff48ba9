//! `fold design sequences`: sequences for backbones with ProteinMPNN.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::exit::{self, Usage};
use crate::cli::ui::Terminal;
use crate::cli::weights::weights_folder;
use crate::pipelines::mpnn::problem::{Places, PssmUse, Settings};
use crate::pipelines::mpnn::tables::{Paths, Tables, sequences};
use crate::pipelines::mpnn::variant::Variant;
use crate::pipelines::mpnn::{Ask, Plan, Probabilities, run as run_plan};

/// Design sequences for backbones with ProteinMPNN
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Structures: PDB or mmCIF files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Folder for the results; made if missing
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Chains to design; the others keep their sequences [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    chains: Vec<String>,
    /// Residues that keep their letter, such as A1-8,A23,B10: places in the chain from 1, gaps in the numbers included
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    fixed: Vec<String>,
    /// Letters that are not chosen, as X never is; with places before a colon only there: --omit C --omit A30-32:GP
    #[arg(long, value_name = "[PLACES:]LETTERS")]
    omit: Vec<String>,
    /// Added to the logits of letters: D:1.39,C:-2
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_hyphen_values = true)]
    bias: Vec<String>,
    /// Chains of equal length that have one sequence; may be given again
    #[arg(long, value_name = "A,B")]
    tied: Vec<String>,
    /// Temperatures, each with --n-sequences samples
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.1")]
    temperature: Vec<f64>,
    /// Sequences for each structure and temperature; of scores and probabilities, orders of decoding
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    n_sequences: u32,
    /// Of the random numbers, which are those of the official program
    #[arg(long, value_name = "N", default_value = "37")]
    seed: u64,
    /// Weights: v_48_002, v_48_010, v_48_020 or v_48_030 (the noise they were trained with), soluble-... or ca-... of these, or a file
    #[arg(long, value_name = "NAME", default_value = "v_48_020")]
    weights: String,
    /// Score the structures' own sequences instead
    #[arg(long)]
    score_only: bool,
    /// With --score-only, score these too: FASTA, designed chains joined by /
    #[arg(long, value_name = "FILE", requires = "score_only")]
    sequences: Option<PathBuf>,
    /// Write log-probabilities of all letters instead
    #[arg(long, value_name = "KIND", conflicts_with = "score_only")]
    probabilities: Option<Kind>,
    /// Write what each sample was drawn from, too
    #[arg(long)]
    save_probabilities: bool,
    #[command(flatten)]
    official: Official,
    /// One JSON object a structure on stdout
    #[arg(long)]
    json: bool,
    /// Threads on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) threads: Option<u32>,
}

/// Files of settings of the official program.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files of the official program")]
struct Official {
    /// {name: [[designed chains], [fixed chains]]}
    #[arg(long, value_name = "FILE")]
    chain_id_jsonl: Option<PathBuf>,
    /// {name: {chain: [places]}}
    #[arg(long, value_name = "FILE")]
    fixed_positions_jsonl: Option<PathBuf>,
    /// {name: {chain: [[[places], letters]]}}
    #[arg(long = "omit-AA-jsonl", value_name = "FILE")]
    omit_aa_jsonl: Option<PathBuf>,
    /// {letter: bias}
    #[arg(long = "bias-AA-jsonl", value_name = "FILE")]
    bias_aa_jsonl: Option<PathBuf>,
    /// {name: {chain: rows of 21}}
    #[arg(long, value_name = "FILE")]
    bias_by_res_jsonl: Option<PathBuf>,
    /// {name: [{chain: [places]}]}
    #[arg(long, value_name = "FILE")]
    tied_positions_jsonl: Option<PathBuf>,
    /// {name: {chain: {pssm_coef, pssm_bias, pssm_log_odds}}}
    #[arg(long, value_name = "FILE")]
    pssm_jsonl: Option<PathBuf>,
    /// How much of the PSSM's probabilities is mixed in, 0-1
    #[arg(long, value_name = "X", requires = "pssm_jsonl")]
    pssm_multi: Option<f32>,
    /// Suppress letters whose log odds are not above this
    #[arg(long, value_name = "X", requires = "pssm_jsonl", allow_hyphen_values = true)]
    pssm_threshold: Option<f32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// From the backbone, in one pass
    Unconditional,
    /// From the backbone and all other letters
    Conditional,
    /// From the backbone, each residue decoded first
    Backbone,
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut terminal = Terminal::new(args.json);
    let plan = args.resolve()?;
    let failed = run_plan(&plan, &mut terminal);
    terminal.finish();
    Ok(ExitCode::from(if failed? == 0 { 0 } else { exit::SOME_FAILED }))
}

impl Args {
    fn resolve(&self) -> Result<Plan> {
        if let Some(wrong) = self.temperature.iter().find(|t| !t.is_finite() || **t <= 0.) {
            return Err(Usage(format!("--temperature {wrong}: write a number above 0, such as 0.1")).into());
        }
        if let Some(share) = self.official.pssm_multi.filter(|share| !(0. ..=1.).contains(share)) {
            return Err(Usage(format!("--pssm-multi {share}: write a number from 0 to 1")).into());
        }
        let variant = Variant::open(&self.weights, &weights_folder()?)?;
        let settings = self.settings()?;
        let ask = self.ask()?;
        let record = self.record(&variant, &settings);
        Ok(Plan {
            files: self.files.clone(),
            out: self.out.clone(),
            variant,
            settings,
            ask,
            temperatures: self.temperature.clone(),
            n_sample: self.n_sequences as usize,
            seed: self.seed,
            keep_probabilities: self.save_probabilities,
            record,
        })
    }

    fn settings(&self) -> Result<Settings> {
        let o = &self.official;
        let paths = Paths {
            chains: o.chain_id_jsonl.clone(),
            fixed: o.fixed_positions_jsonl.clone(),
            omit: o.omit_aa_jsonl.clone(),
            bias: o.bias_aa_jsonl.clone(),
            bias_by_residue: o.bias_by_res_jsonl.clone(),
            tied: o.tied_positions_jsonl.clone(),
            pssm: o.pssm_jsonl.clone(),
        };
        let (mut omit, mut omit_at) = ("X".to_owned(), Vec::new());
        for text in &self.omit {
            match text.rsplit_once(':') {
                None => omit.push_str(text),
                Some((list, letters)) => {
                    for word in list.split(',') {
                        omit_at.push((places(word)?, letters.to_owned()));
                    }
                }
            }
        }
        Ok(Settings {
            chains: self.chains.clone(),
            fixed: self.fixed.iter().map(|word| places(word)).collect::<Result<_>>()?,
            omit,
            omit_at,
            bias: self.bias.iter().map(|word| bias(word)).collect::<Result<BTreeMap<_, _>>>()?,
            tied: self.tied.iter().map(|chains| chains.split(',').map(str::to_owned).collect()).collect(),
            tables: Tables::read(&paths)?,
            pssm: PssmUse { mixed: o.pssm_multi, threshold: o.pssm_threshold },
        })
    }

    fn ask(&self) -> Result<Ask> {
        if let Some(kind) = self.probabilities {
            return Ok(Ask::Probabilities(match kind {
                Kind::Unconditional => Probabilities::Unconditional,
                Kind::Conditional => Probabilities::Conditional,
                Kind::Backbone => Probabilities::Backbone,
            }));
        }
        if !self.score_only {
            return Ok(Ask::Sequences);
        }
        let others = self.sequences.as_deref().map_or_else(|| Ok(Vec::new()), sequences)?;
        Ok(Ask::Scores { others })
    }

    /// What changes a result.
    fn record(&self, variant: &Variant, settings: &Settings) -> serde_json::Value {
        let t = &settings.tables;
        json!({
            "command": "design sequences",
            "version": env!("CARGO_PKG_VERSION"),
            "model": variant.name,
            "release": variant.release,
            "weights": variant.checksum,
            "seed": self.seed,
            "temperature": self.temperature,
            "n_sequences": self.n_sequences,
            "chains": self.chains,
            "fixed": self.fixed,
            "omit": self.omit,
            "bias": self.bias,
            "tied": self.tied,
            "score_only": self.score_only,
            "probabilities": self.probabilities.map(|kind| format!("{kind:?}").to_lowercase()),
            "save_probabilities": self.save_probabilities,
            "tables": [&t.chains, &t.fixed, &t.omit, &t.bias, &t.bias_by_residue, &t.tied, &t.pssm],
            "pssm": [self.official.pssm_multi, self.official.pssm_threshold],
        })
    }
}

/// `A1-8`, `A:1-8` or `A23`.
fn places(word: &str) -> Result<Places> {
    let wrong = || Usage(format!("{word:?}: write a chain and places from 1, such as A1-8, A23 or A:23"));
    let (chain, range) = match word.split_once(':') {
        Some(parts) => parts,
        None => word.split_at(word.find(|c: char| c.is_ascii_digit()).ok_or_else(wrong)?),
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse(), last.parse()) else { return Err(wrong().into()) };
    if chain.is_empty() {
        return Err(wrong().into());
    }
    Ok(Places { chain: chain.to_owned(), range: (first, last) })
}

/// `D:1.39`.
fn bias(word: &str) -> Result<(char, f64)> {
    let wrong = || Usage(format!("--bias {word:?}: write a letter and a number, such as D:1.39"));
    let (letter, value) = word.split_once([':', '=']).ok_or_else(wrong)?;
    let mut letters = letter.chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else { return Err(wrong().into()) };
    let value: f64 = value.parse().map_err(|_| wrong())?;
    if value.is_finite() { Ok((letter, value)) } else { Err(wrong().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let of = |word: &str| places(word).map(|p| (p.chain, p.range)).map_err(|e| e.to_string());
        assert_eq!(of("A1-8"), Ok(("A".into(), (1, 8))));
        assert_eq!(of("B0:23"), Ok(("B0".into(), (23, 23))));
        assert!(of("17").unwrap_err().contains("write a chain and places"));
        assert!(of("A1-x").is_err() && of("A").is_err());
        assert_eq!(bias("D:-1.5").unwrap(), ('D', -1.5));
        assert!(bias("D").is_err() && bias("DE:1").is_err() && bias("D:nan").is_err());
    }
}
