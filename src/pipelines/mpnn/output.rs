//! Results as the official program writes them, and as JSON.
use std::path::Path;

use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::variant::Variant;
use crate::chem::restype::MPNN_LETTERS;
use crate::score::design::summary::number;

/// Scores of a sequence: mean negative log-probabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Native {
    /// Over the residues that are designed.
    pub score: f32,
    /// Over all.
    pub global_score: f32,
}

/// A sequence.
#[derive(Debug)]
pub(super) struct Design {
    pub temperature: f64,
    /// From 1, of its temperature.
    pub number: usize,
    /// Of all residues.
    pub letters: Vec<u8>,
    pub scores: Native,
    /// Of the designed residues, those with the letter of the structure.
    pub recovery: f32,
}

/// The records of `seqs/<name>.fa`: the structure's own sequence, then the samples; designed chains joined by `/`.
pub(super) fn fasta(
    name: &str,
    variant: &Variant,
    seed: u64,
    problem: &Problem,
    native: Native,
    made: &[Design],
) -> String {
    let (designed, fixed) = problem.chains.split_at(problem.n_designed);
    let list = |chains: &[crate::features::mpnn::Chain]| {
        format!("[{}]", chains.iter().map(|c| format!("'{}'", c.id)).collect::<Vec<_>>().join(", "))
    };
    let what = if variant.name == "mpnn-ca" { "CA_model_name" } else { "model_name" };
    let mut text = format!(
        ">{name}, score={}, global_score={}, fixed_chains={}, designed_chains={}, {what}={}, git_hash=fold-{}, seed={seed}\n{}\n",
        four(native.score),
        four(native.global_score),
        list(fixed),
        list(designed),
        variant.release,
        env!("CARGO_PKG_VERSION"),
        joined(problem, &problem.backbone.letters),
    );
    for design in made {
        text += &format!(
            ">T={}, sample={}, score={}, global_score={}, seq_recovery={}\n{}\n",
            number(design.temperature),
            design.number,
            four(design.scores.score),
            four(design.scores.global_score),
            four(design.recovery),
            joined(problem, &design.letters),
        );
    }
    text
}

/// `seqs/<name>.json`.
pub(super) fn record(
    name: &str,
    file: &Path,
    variant: &Variant,
    seed: u64,
    problem: &Problem,
    native: Native,
    made: &[Design],
) -> Value {
    let (designed, fixed) = problem.chains.split_at(problem.n_designed);
    let ids = |chains: &[crate::features::mpnn::Chain]| chains.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
    let samples = made.iter().map(|d| {
        json!({
            "temperature": d.temperature,
            "sample": d.number,
            "sequences": by_chain(problem, &d.letters),
            "score": d.scores.score,
            "global_score": d.scores.global_score,
            "seq_recovery": d.recovery,
        })
    });
    json!({
        "name": name,
        "file": file,
        "model": variant.name,
        "release": variant.release,
        "weights": variant.checksum,
        "seed": seed,
        "designed_chains": ids(designed),
        "fixed_chains": ids(fixed),
        "native": {
            "sequences": by_chain(problem, &problem.backbone.letters),
            "score": native.score,
            "global_score": native.global_score,
        },
        "samples": samples.collect::<Vec<_>>(),
    })
}

/// A row of `scores/<name>.json`: mean and standard deviation over the orders, and each.
pub(super) fn scores(name: &str, problem: &Problem, letters: &[u8], scores: &[Native]) -> Value {
    let (score, global) = (spread(scores.iter().map(|s| s.score)), spread(scores.iter().map(|s| s.global_score)));
    json!({
        "sequence": name,
        "sequences": by_chain(problem, letters),
        "score": {"mean": score.0, "std": score.1},
        "global_score": {"mean": global.0, "std": global.1},
        "scores": scores.iter().map(|s| s.score).collect::<Vec<_>>(),
        "global_scores": scores.iter().map(|s| s.global_score).collect::<Vec<_>>(),
    })
}

/// Mean and standard deviation.
fn spread(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().map(f64::from).sum::<f64>() / n;
    (mean, (values.map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Four decimals, as numpy writes them.
fn four(value: f32) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{value:.4}") }
}

/// The sequence of each designed chain.
fn sequences<'a>(problem: &'a Problem, letters: &'a [u8]) -> impl Iterator<Item = (&'a str, String)> {
    let mut rest = letters;
    problem.chains[..problem.n_designed].iter().map(move |chain| {
        let (own, others) = rest.split_at(chain.residues.len());
        rest = others;
        (chain.id.as_str(), own.iter().map(|l| char::from(MPNN_LETTERS[usize::from(*l)])).collect())
    })
}

fn joined(problem: &Problem, letters: &[u8]) -> String {
    sequences(problem, letters).map(|(_, sequence)| sequence).collect::<Vec<_>>().join("/")
}

fn by_chain(problem: &Problem, letters: &[u8]) -> Map<String, Value> {
    sequences(problem, letters).map(|(id, sequence)| (id.to_owned(), sequence.into())).collect()
}
