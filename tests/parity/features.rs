//! Features of queries against the official feature dictionaries: every array but `ref_pos`, whose conformers are new in
//! each official run, equal to the last integer and to 1e-6.
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fold::assembly::Assembly;
use fold::features::af3::{Af3Features, feature_noise, featurise};
use fold::features::array::ArrayFile;
use fold::query::{self, Query};

use crate::common::fixture;

/// Arrays of a recorded batch that are no features.
const NO_FEATURES: [&str; 4] = ["ref_pos", "seed", "repeated_sample", "valid_sample"];

fn queries(file: &Path) -> Result<Vec<Query>> {
    Ok(query::read(file)?.queries)
}

fn features_of(query: &Query, seed: u32) -> Af3Features {
    featurise(query, &Assembly::new(query), &mut feature_noise(seed))
}

fn compare(query: &Query, golden: &Path) -> Result<()> {
    let features = features_of(query, 1);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("f.safetensors");
    features.save(&path)?;
    ensure!(Af3Features::load(&path)? == features, "what is read is not what was written");
    let mut ours = ArrayFile::open(&path)?;
    let mut official = ArrayFile::open(golden)?;
    let names = official.names();
    for name in names.iter().filter(|name| !NO_FEATURES.contains(&name.as_str())) {
        let rank = ours.rank(name).with_context(|| format!("{name} is not written"))?;
        let (Some(got), Some(want)) = (ours.f32(name, rank), official.f32(name, rank)) else { break };
        ensure!(want.shape == got.shape, "{}: {name} is {:?}, not {:?}", query.name, got.shape, want.shape);
        for (i, (g, w)) in got.data.iter().zip(&want.data).enumerate() {
            let tolerance = if w.fract() == 0. { 0. } else { 1e-6 };
            ensure!((g - w).abs() <= tolerance, "{}: {name} has {g} at value {i}, not {w}", query.name);
        }
    }
    ours.finish()?;
    Ok(official.finish()?)
}

/// fixtures/features/regen.py: pairing by species and given, stacking order, Stockholm, flags, every residue type.
#[test]
fn features_are_the_official_ones() -> Result<()> {
    let queries = queries(&fixture("features/queries.json"))?;
    assert_eq!(queries.len(), 7);
    for query in queries {
        compare(&query, &fixture(format!("features/{}.safetensors", query.name)))?;
    }
    Ok(())
}

/// fixtures/openfold3/regen.py: the dictionaries that the models' goldens were computed from, templates included.
#[test]
fn features_of_the_model_goldens_are_the_official_ones() -> Result<()> {
    for name in ["mono", "mono_msa", "homodimer", "hetero2", "hetero3", "deep_msa"] {
        let query = &queries(&fixture(format!("openfold3/{name}/query.json")))?[0];
        compare(query, &fixture(format!("openfold3/{name}/features.safetensors")))?;
    }
    Ok(())
}

/// A recorded official dictionary is read whole.
#[test]
fn official_dictionaries_are_read() -> Result<()> {
    let golden = Af3Features::load(&fixture("openfold3/hetero3/features.safetensors"))?;
    let query = &queries(&fixture("openfold3/hetero3/query.json"))?[0];
    let ours = features_of(query, 1);
    ensure!(golden.n_token() == ours.n_token() && golden.n_atom() == ours.n_atom() && golden.templates.is_none());
    ensure!(golden.msa.rows == ours.msa.rows && golden.ref_atom_name == ours.ref_atom_name);
    Ok(())
}

/// Reference positions are drawn from the seed: the same for the same, others for another.
#[test]
fn same_seed_same_features() -> Result<()> {
    let query = &queries(&fixture("features/queries.json"))?[6];
    assert_eq!(features_of(query, 7), features_of(query, 7));
    assert_ne!(features_of(query, 7).ref_pos, features_of(query, 8).ref_pos);
    Ok(())
}
