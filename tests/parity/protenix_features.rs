//! fixtures/protenix/regen.py: the features of five complexes, every array but the reference positions.
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fold::features::af3::Af3Features;
use fold::features::noise::TorchGenerator;
use fold::features::protenix::{ChainAlignments, ProteinChain, featurise};
use fold::io::a3m;
use serde_json::Value;

use crate::common::{Golden, fixture};
use crate::protenix::official_features;

/// The chains of a case as the official input names them; `kept` are those of a chain that comes from a structure.
fn chains(folder: &Path, structure: Option<(&str, &[usize])>) -> Result<Vec<ProteinChain>> {
    let input: Value = serde_json::from_slice(&std::fs::read(folder.join("input.json"))?)?;
    let known = structure
        .map(|(sequence, kept)| ProteinChain { kept: kept.to_vec(), ..ProteinChain::new(sequence.into(), 0) })
        .into_iter()
        .collect();
    add_chains(known, &input[0]["sequences"], folder)
}

/// `chains`, and those of official entries, whose alignments are named relative to a folder.
pub fn add_chains(mut chains: Vec<ProteinChain>, entries: &Value, folder: &Path) -> Result<Vec<ProteinChain>> {
    for entry in entries.as_array().context("sequences")? {
        let entry = &entry["proteinChain"];
        let sequence = entry["sequence"].as_str().context("a sequence")?;
        let mut chain = ProteinChain::new(sequence.to_owned(), chains.len());
        if let Some(crop) = entry["crop"].as_str() {
            let span = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
                let (first, last) = part.split_once('-')?;
                Some(first.parse().ok()?..=last.parse().ok()?)
            };
            chain.kept = crop.split(',').filter_map(span).flatten().collect();
        }
        if let Some(msa) = entry["msa"]["precomputed_msa_dir"].as_str() {
            let read = |name: &str| -> Result<Option<Arc<a3m::Alignment>>> {
                let path = folder.join(msa).join(name);
                if !path.is_file() {
                    return Ok(None);
                }
                let text = std::fs::read_to_string(path)?;
                a3m::parse(&text, usize::MAX)
                    .map(|a| Some(Arc::new(a)))
                    .map_err(|faults| anyhow::anyhow!("{name}: {faults:?}"))
            };
            let main = read("non_pairing.a3m")?.context("non_pairing.a3m")?;
            chain.alignments = Some(ChainAlignments { main, pairing: read("pairing.a3m")? });
        }
        chains.push(chain);
    }
    Ok(chains)
}

fn agree(name: &str, structure: Option<(&str, &[usize])>) -> Result<()> {
    let folder = fixture(format!("protenix/{name}"));
    let (want, _) = official_features(&Golden::open(folder.join("features.safetensors"))?)?;
    same_features(name, &chains(&folder, structure)?, &want)
}

/// Our features of chains are the official ones but for the reference positions.
pub fn same_features(name: &str, chains: &[ProteinChain], want: &Af3Features) -> Result<()> {
    let mut got = featurise(chains, &mut TorchGenerator::new(1))?;
    got.ref_pos.clone_from(&want.ref_pos);
    got.msa.n_paired = want.msa.n_paired;
    ensure!(got.msa.n_seq == want.msa.n_seq, "{} rows, not {}", got.msa.n_seq, want.msa.n_seq);
    for (row, (a, b)) in got.msa.rows.chunks(got.n_token()).zip(want.msa.rows.chunks(got.n_token())).enumerate() {
        ensure!(a == b, "row {row}: {a:?}, not {b:?}");
    }
    let same = |name: &str, a: &[f32], b: &[f32]| {
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        ensure!(a.len() == b.len() && worst <= 1e-7, "{name} differs by {worst}");
        Ok(())
    };
    same("deletion_value", &got.msa.deletion_value, &want.msa.deletion_value)?;
    same("deletion_mean", &got.msa.deletion_mean, &want.msa.deletion_mean)?;
    same("profile", &got.msa.profile, &want.msa.profile)?;
    got.msa.deletion_value.clone_from(&want.msa.deletion_value);
    got.msa.deletion_mean.clone_from(&want.msa.deletion_mean);
    got.msa.profile.clone_from(&want.msa.profile);
    let of = |a: &Af3Features| (a.n_token(), a.n_atom(), a.num_atoms_per_token.clone(), a.entity_id.clone());
    ensure!(got == *want, "{name}: {:?}, not {:?}, or other arrays", of(&got), of(want));
    Ok(())
}

#[test]
fn no_alignment() -> Result<()> {
    agree("monomer", None)
}

#[test]
fn one_alignment() -> Result<()> {
    agree("pair", None)
}

#[test]
fn paired_alignments_and_a_crop() -> Result<()> {
    agree("complex", None)
}

#[test]
fn two_chains_of_one_sequence() -> Result<()> {
    agree("repeated", None)
}

#[test]
fn a_chain_from_a_structure() -> Result<()> {
    agree("template", Some(("ARNDCQEGHILKMFAA", &[1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14])))
}
