//! `fold predict --model af2`: the options that only AlphaFold2 has, and its plan.
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;

use crate::features::af2::Family;
use crate::features::af2::raw::MAX_TEMPLATES;
use crate::pipelines::af2::parameters::{N_MODEL, ParameterFile, in_folder};
use crate::pipelines::af2::predict::{Plan, Style};
use crate::pipelines::predict::PredictError;
use crate::query::{Query, Template, TemplateChain, template_chains};

use super::exit::Usage;
use super::predict::Common;
use super::weights::weights_folder;

/// Options of AlphaFold2.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "AlphaFold2 (--model af2, af2-multimer)")]
pub struct Af2Args {
    /// Parameter sets, 1 to 5: model_1 and on [default: 5, or the one of a file given with --weights]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=N_MODEL as i64))]
    num_models: Option<u32>,
    /// Passes after the first [default: 3, multimer 20]
    #[arg(long, visible_alias = "num-recycles", value_name = "N")]
    num_recycle: Option<u32>,
    /// Stop recycling when a pass moves the structure by less, in Å; 0 never stops [default: 0, multimer 0.5]
    #[arg(long, value_name = "A")]
    recycle_early_stop_tolerance: Option<f32>,
    /// Seeds from the first of --seeds on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    num_seeds: Option<u32>,
    /// Alignment rows of a pass, cluster centres:others [default: 512:5120, multimer 508:2048]
    #[arg(long, value_name = "N:N")]
    max_msa: Option<MaxMsa>,
    /// Structures (mmCIF, PDB) for a query of one sequence, at most 4; others name them in JSON
    #[arg(long, value_name = "FILE,..", value_delimiter = ',')]
    templates: Vec<PathBuf>,
    /// Structure (mmCIF, PDB) of the query, residue by residue, that the first pass begins with
    #[arg(long, value_name = "FILE")]
    initial_guess: Option<PathBuf>,
    /// Lose a part of the trunk's updates, by the seed, so that seeds differ more
    #[arg(long)]
    use_dropout: bool,
    /// Write the structure of each pass
    #[arg(long)]
    save_recycles: bool,
    /// common, or colabfold: its file names, score files and plots
    #[arg(long, value_name = "NAME")]
    output_style: Option<OutputStyle>,
}

/// `512:1024`.
#[derive(Debug, Clone, Copy)]
struct MaxMsa(usize, usize);

impl FromStr for MaxMsa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| part.parse().ok().filter(|n| *n > 0);
        let parts = text.split_once(':').and_then(|(a, b)| Some(Self(number(a)?, number(b)?)));
        parts.ok_or_else(|| "give two whole numbers from 1, such as 512:1024".to_owned())
    }
}

#[derive(Debug, Clone, Copy)]
struct OutputStyle(Style);

impl FromStr for OutputStyle {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "common" => Ok(Self(Style::Common)),
            "colabfold" => Ok(Self(Style::ColabFold)),
            _ => Err("the styles are common and colabfold".to_owned()),
        }
    }
}

/// Seeds of a run that names none: ColabFold's.
const DEFAULT_SEED: u32 = 0;

impl Af2Args {
    /// The first option that was given, of which other models know nothing.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--num-models", self.num_models.is_some()),
            ("--num-recycle", self.num_recycle.is_some()),
            ("--recycle-early-stop-tolerance", self.recycle_early_stop_tolerance.is_some()),
            ("--num-seeds", self.num_seeds.is_some()),
            ("--max-msa", self.max_msa.is_some()),
            ("--templates", !self.templates.is_empty()),
            ("--initial-guess", self.initial_guess.is_some()),
            ("--use-dropout", self.use_dropout),
            ("--save-recycles", self.save_recycles),
            ("--output-style", self.output_style.is_some()),
        ];
        given.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }

    /// Every default filled; the headers of the parameter files are read.
    pub(super) fn plan(self, family: Family, mut common: Common) -> anyhow::Result<Plan> {
        let is_multimer = family == Family::Multimer;
        let tolerance = self.recycle_early_stop_tolerance.unwrap_or(if is_multimer { 0.5 } else { 0. });
        if !tolerance.is_finite() || tolerance < 0. {
            let message = format!("--recycle-early-stop-tolerance {tolerance}: give a distance in Å, 0 or more");
            return Err(Usage(message).into());
        }
        let style = self.output_style.map_or(Style::Common, |style| style.0);
        if style == Style::ColabFold && common.formats_given {
            return Err(Usage(
                "--format: ColabFold's files are PDB; leave it out with --output-style colabfold".to_owned(),
            )
            .into());
        }
        let templates = self.templates.iter().map(|path| template(path)).collect::<anyhow::Result<Vec<_>>>()?;
        common.queries.iter_mut().try_for_each(|query| give(query, &templates))?;
        Ok(Plan {
            initial_guess: self.initial_guess.as_deref().map(structure).transpose()?,
            models: models(family, common.weights.as_deref(), self.num_models)?,
            seeds: seeds(common.seeds, self.num_seeds)?,
            queries: common.queries,
            out: common.out,
            family,
            n_recycle: self.num_recycle.map_or(if is_multimer { 20 } else { 3 }, |n| n as usize),
            tolerance,
            max_msa: self.max_msa.map(|MaxMsa(seq, extra)| (seq, extra)),
            save_recycles: self.save_recycles,
            use_dropout: self.use_dropout,
            style,
            device: common.device,
            n_thread: common.n_thread,
            formats: common.formats,
            overwrite: common.overwrite,
            dry_run: common.dry_run,
        })
    }
}

/// The parameter files: of the weights folder, of one given, or the one file given.
fn models(family: Family, weights: Option<&Path>, n_model: Option<u32>) -> anyhow::Result<Vec<ParameterFile>> {
    let n = n_model.map_or(N_MODEL, |n| n as usize);
    match weights {
        None => Ok(in_folder(&weights_folder()?, family, n)?),
        Some(path) if path.is_dir() => Ok(in_folder(path, family, n)?),
        Some(path) if n_model.is_none_or(|n| n == 1) => Ok(vec![ParameterFile::open(path, family)?]),
        Some(path) => {
            let message = format!("--num-models {n}: {} is one parameter set; give --weights a folder", path.display());
            Err(Usage(message).into())
        }
    }
}

/// The chains of a structure file.
fn structure(path: &Path) -> anyhow::Result<Vec<TemplateChain>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(template_chains(&text).map_err(|problem| PredictError::Query(path.display().to_string(), problem))?)
}

fn template(path: &Path) -> anyhow::Result<Template> {
    Ok(Template { path: path.to_owned(), chains: Arc::new(structure(path)?), pairs: None })
}

/// Gives a query of one sequence its templates.
fn give(query: &mut Query, templates: &[Template]) -> anyhow::Result<()> {
    let name = &query.name;
    match &mut query.chains[..] {
        _ if templates.is_empty() => Ok(()),
        _ if templates.len() > MAX_TEMPLATES => {
            Err(Usage(format!("--templates: {} files; AF2 takes {MAX_TEMPLATES} of a chain", templates.len())).into())
        }
        [chain] if chain.templates.is_empty() => {
            chain.templates = templates.to_vec();
            Ok(())
        }
        [_] => Err(Usage(format!("--templates: {name} names templates already")).into()),
        _ => Err(Usage(format!("--templates: {name} has several chains; name their templates in a JSON query")).into()),
    }
}

fn seeds(given: Vec<u32>, n_seed: Option<u32>) -> anyhow::Result<Vec<u32>> {
    match (given.as_slice(), n_seed) {
        ([], None) => Ok(vec![DEFAULT_SEED]),
        (seeds, None) => Ok(seeds.to_vec()),
        ([_, _, ..], Some(_)) => {
            Err(Usage("--num-seeds counts from one seed: give --seeds one, or leave out --num-seeds".to_owned()).into())
        }
        (seeds, Some(n)) => {
            let first = seeds.first().copied().unwrap_or(DEFAULT_SEED);
            let last = first.checked_add(n - 1);
            let last = last.ok_or_else(|| Usage(format!("--num-seeds {n}: seeds end at {}", u32::MAX)))?;
            Ok((first..=last).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_counted_from_the_first() {
        let of = |given: &[u32], n| seeds(given.to_vec(), n).map_err(|e| e.to_string());
        assert_eq!(of(&[], None), Ok(vec![0]));
        assert_eq!(of(&[7, 3], None), Ok(vec![7, 3]));
        assert_eq!((of(&[], Some(3)), of(&[5], Some(2))), (Ok(vec![0, 1, 2]), Ok(vec![5, 6])));
        assert!(of(&[1, 2], Some(2)).unwrap_err().contains("--num-seeds counts from one seed"));
        assert!(of(&[u32::MAX], Some(2)).unwrap_err().contains("seeds end at"));
    }

    #[test]
    fn rows_are_two_numbers() {
        assert!("512:1024".parse::<MaxMsa>().is_ok_and(|m| (m.0, m.1) == (512, 1024)));
        for text in ["512", "0:1", "a:1", "1:2:3", "512:"] {
            assert!(text.parse::<MaxMsa>().is_err(), "{text}");
        }
    }
}
