//! How likely ESM3 finds a sequence: each residue masked in turn (Salazar et al. 2020, masked language model scoring).
use std::path::{Path, PathBuf};

use candle_core::D;
use serde_json::{Value, json};

use super::Esm3Error;
use super::document::Prompt;
use super::models::{Models, Parts};
use crate::features::esm3::{Tokens, Track, sequence_id};
use crate::models::esm3::tracks::Batch;
use crate::pipelines::output::pretty;
use crate::pipelines::store;

/// Ids of the twenty amino acids.
const AMINO_ACIDS: std::ops::Range<u16> = 4..24;

/// Writes `<name>_score.json`: of each residue the log likelihood of its amino acid among the twenty, from all else that is given;
/// their sum and the perplexity. Other letters than the twenty, masks and chain breaks have none. Gives what it says, and the path.
pub fn score(prompt: &Prompt, models: &mut Models, out: &Path) -> Result<(Value, PathBuf), Esm3Error> {
    let tokens = models.encode(prompt, true)?;
    let n = tokens.n_token().map_err(Esm3Error::track(prompt.name()))?;
    let Some(ids) = &tokens.sequence else { return Err(Esm3Error::prompt(prompt.name(), "has no sequence to score")) };
    let estimate = models.estimate(&Parts::default())?;
    estimate.check(prompt.name(), n)?;
    let places: Vec<usize> = (1..n - 1).filter(|i| AMINO_ACIDS.contains(&ids[*i])).collect();
    if places.is_empty() {
        return Err(Esm3Error::prompt(prompt.name(), "has no amino acid to score"));
    }
    let mut found = vec![None; n - 2];
    for places in places.chunks((estimate.batch_tokens(n, None) / n).max(1)) {
        for (place, value) in places.iter().zip(likelihoods(&tokens, ids, places, models)?) {
            found[place - 1] = Some(value);
        }
    }
    let sum: f64 = found.iter().flatten().sum();
    let record = json!({
        "name": prompt.name(),
        "sequence": prompt.document.sequence,
        "pseudo_log_likelihood": sum,
        "pseudo_perplexity": (-sum / places.len() as f64).exp(),
        "log_likelihood": found,
    });
    let path = out.join(format!("{}_score.json", store::file_name(prompt.name())));
    store::write(&path, &pretty(&record))?;
    Ok((record, path))
}

/// Log likelihoods of the amino acids at `places`, each in a copy of the protein that lacks it.
fn likelihoods(tokens: &Tokens, ids: &[u16], places: &[usize], models: &mut Models) -> Result<Vec<f64>, Esm3Error> {
    let masked = |place: &usize| {
        let mut copy = tokens.clone();
        copy.sequence.as_mut().expect("there is one")[*place] = sequence_id::MASK;
        copy
    };
    let copies: Vec<Tokens> = places.iter().map(masked).collect();
    let batch = Batch::of(&copies.iter().collect::<Vec<_>>()).map_err(candle_core::Error::wrap)?;
    let trunk = models.trunk()?;
    let x = trunk.forward(&batch)?;
    let likelihood = |(place, range): (&usize, std::ops::Range<usize>)| {
        let row = x.narrow(D::Minus2, range.start + place, 1)?.contiguous()?;
        let logits = trunk.logits(&row, Track::Sequence)?.flatten_all()?.to_vec1::<f32>()?;
        let of = |id: u16| f64::from(logits[usize::from(id)]);
        let top = AMINO_ACIDS.map(of).fold(f64::MIN, f64::max);
        let sum: f64 = AMINO_ACIDS.map(|id| (of(id) - top).exp()).sum();
        Ok(of(ids[*place]) - top - sum.ln())
    };
    places.iter().zip(batch.sequences()).map(likelihood).collect()
}
