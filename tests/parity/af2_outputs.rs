//! fixtures/af2/outputs.json: the files that ColabFold writes for given predictions, byte by byte, and the names that their ranks give them.
use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use fold::io::colabfold::format_pae;
use fold::pipelines::af2::colabfold::{Predicted, by_rank, tag};
use fold::score::af2::{Af2Confidence, AlignedErrors};

use crate::common::{Golden, fixture};

fn whole(g: &Golden, name: &str) -> Result<Vec<i32>> {
    Ok(values(g, name)?.iter().map(|v| *v as i32).collect())
}

fn values(g: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(g.get(name)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
}

fn confidence(g: &Golden, key: &str) -> Result<Af2Confidence> {
    let one = |name: &str| -> Result<f32> { Ok(values(g, &format!("{key}/{name}"))?[0]) };
    let errors = values(g, &format!("{key}/predicted_aligned_error")).ok();
    let errors = errors.map(|pae| -> Result<_> { Ok(AlignedErrors { pae, ptm: one("ptm")?, iptm: one("iptm")? }) });
    Ok(Af2Confidence {
        plddt: values(g, &format!("{key}/plddt"))?,
        mean_plddt: one("mean_plddt")?,
        errors: errors.transpose()?,
    })
}

#[test]
fn files_are_those_of_colabfold() -> Result<()> {
    let g = Golden::open(fixture("af2/outputs.safetensors"))?;
    let wanted: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(fixture("af2/outputs.json"))?)?;
    let mut written = BTreeMap::new();
    for (case, release) in [("complex", "model_K_multimer_v3"), ("single", "model_K_ptm"), ("without_ptm", "model_K")] {
        let of = |name: &str| whole(&g, &format!("{case}/{name}"));
        let restype: Vec<u8> = of("aatype")?.into_iter().map(|r| r as u8).collect();
        let (asym_id, residue_index) = (of("asym_id")?, of("residue_index")?);
        let mut files = BTreeMap::new();
        let mut scores = Vec::new();
        for (model, seed) in [(1, 0), (2, 0), (1, 1), (2, 1)] {
            let key = format!("{case}/{model}/{seed}");
            let positions = values(&g, &format!("{key}/positions"))?;
            let predicted = Predicted {
                restype: &restype,
                asym_id: &asym_id,
                residue_index: &residue_index,
                positions: positions.as_chunks().0,
                confidence: &confidence(&g, &key)?,
            };
            let tag = tag(&release.replace('K', &model.to_string()), model, seed);
            scores.push((tag.clone(), f64::from(values(&g, &format!("{key}/ranking_confidence"))?[0])));
            files.insert(tag, (predicted.pdb(), predicted.scores()));
        }
        for (tag, rank) in by_rank(scores).into_iter().zip(1..) {
            let (pdb, scores) = files.remove(&tag).context("a prediction")?;
            let read: serde_json::Value = serde_json::from_str(&scores)?;
            if rank == 1 && read["pae"].is_array() {
                written.insert(format!("{case}_predicted_aligned_error_v1.json"), format_pae(&read));
            }
            for r in (0..2).filter(|_| case == "complex") {
                written.insert(format!("{case}_unrelaxed_rank_{rank:03}_{tag}.r{r}.pdb"), String::new());
            }
            written.insert(format!("{case}_unrelaxed_rank_{rank:03}_{tag}.pdb"), pdb);
            written.insert(format!("{case}_scores_rank_{rank:03}_{tag}.json"), scores);
        }
    }
    ensure!(written.keys().eq(wanted.keys()), "{:?}\n{:?}", written.keys(), wanted.keys());
    for (name, text) in &wanted {
        let differs = written[name].lines().zip(text.lines()).find(|(got, want)| got != want);
        ensure!(written[name] == *text, "{name}: {differs:?}");
    }
    Ok(())
}
