//! fixtures/af2/complexes.py: chains and alignments of complexes as ColabFold puts them together, and what the multimer network samples of
//! them in each pass.
use anyhow::{Result, ensure};
use fold::features::af2::monomer::Sampling;
use fold::features::af2::{Family, Raw};
use fold::query::{self, Query};

use crate::common::{Golden, assert_close, fixture};

const CASES: [&str; 3] = ["hetero", "homo", "three"];
const FAMILIES: [(&str, Family); 2] = [("monomer", Family::Monomer), ("multimer", Family::Multimer)];

fn read(case: &str) -> Result<Query> {
    Ok(query::read(&fixture(format!("af2/complex_{case}.a3m")))?.queries.remove(0))
}

/// The whole numbers of a golden tensor.
fn golden(g: &Golden, name: &str) -> Result<Vec<i32>> {
    Ok(g.get(name)?.flatten_all()?.to_vec1::<f32>()?.iter().map(|v| *v as i32).collect())
}

fn compare(g: &Golden, query: &Query, case: &str) -> Result<()> {
    for (name, family) in FAMILIES {
        let raw = Raw::new(query, family)?;
        let letters = raw.alignment.rows.iter().map(|l| i32::from(*l)).collect();
        let deletions = raw.alignment.deletions.iter().map(|d| *d as i32).collect();
        let restype = raw.restype.iter().map(|r| i32::from(*r)).collect();
        let all = [
            ("aatype", restype),
            ("residue_index", raw.residue_index.clone()),
            ("asym_id", raw.asym_id.clone()),
            ("msa", letters),
            ("deletion_matrix", deletions),
        ];
        for (key, got) in all {
            ensure!(got == golden(g, &format!("{case}/{name}/{key}"))?, "{case}, {name}: {key}");
        }
        if family == Family::Multimer {
            ensure!(raw.entity_id == golden(g, &format!("{case}/{name}/entity_id"))?, "{case}: entity_id");
            ensure!(raw.sym_id == golden(g, &format!("{case}/{name}/sym_id"))?, "{case}: sym_id");
        }
    }
    Ok(())
}

#[test]
fn rows_of_complexes() -> Result<()> {
    let g = Golden::open("af2/complexes.safetensors")?;
    for case in CASES {
        let query = read(case)?;
        compare(&g, &query, case)?;
        compare(&g, &Query { use_paired_msas: false, ..query.clone() }, &format!("{case}_unpaired"))?;
        compare(&g, &Query { use_main_msas: false, ..query.clone() }, &format!("{case}_paired"))?;
        compare(&g, &Query { use_msas: false, ..query }, &format!("{case}_single"))?;
    }
    Ok(())
}

/// Sizes, seeds and passes as in complexes.py.
#[test]
fn alignment_features_of_a_multimer() -> Result<()> {
    let g = Golden::open("af2/complexes.safetensors")?;
    for case in CASES {
        let raw = Raw::new(&read(case)?, Family::Multimer)?;
        let (max_msa, max_extra_msa) = raw.sizes(Some((6, 5)));
        ensure!((max_msa, max_extra_msa) == (6, 5), "{case} has {} rows", raw.n_row());
        for seed in [0, 5] {
            let sampling = Sampling { max_msa, max_extra_msa, seed, n_pass: 2 };
            for pass in 0..2 {
                let got = raw.pass(&sampling, pass);
                let want =
                    |key: &str| g.get(&format!("{case}/multimer/{seed}/{key}"))?.get(pass).map_err(anyhow::Error::from);
                let letters: Vec<f32> = got.extra_msa.rows.iter().map(|l| f32::from(*l)).collect();
                ensure!(
                    letters == want("extra_msa")?.flatten_all()?.to_vec1::<f32>()?,
                    "{case}, seed {seed}, pass {pass}"
                );
                ensure!(got.extra_msa.mask == want("extra_msa_mask")?.flatten_all()?.to_vec1::<f32>()?, "{case}: mask");
                let deletions = want("extra_deletion_matrix")?.flatten_all()?.to_vec1::<f32>()?;
                let far = deletions.iter().zip(&got.extra_msa.deletion_value);
                let far =
                    far.map(|(d, v)| ((d / 3.).atan() * std::f32::consts::FRAC_2_PI - v).abs()).fold(0f32, f32::max);
                ensure!(far <= 1e-6, "{case}: deletions differ by {far:e}");
                let features = want("msa_feat")?;
                let device = candle_core::Device::Cpu;
                let got = candle_core::Tensor::new(&got.msa.features[..], &device)?.reshape(features.dims())?;
                assert_close(&format!("{case}, seed {seed}, pass {pass}"), &got, &features, 1e-6)?;
                let exact = |x: &candle_core::Tensor| -> Result<Vec<Vec<f32>>> {
                    Ok(x.narrow(2, 0, 24)?.flatten_to(1)?.to_vec2()?)
                };
                ensure!(exact(&got)? == exact(&features)?, "{case}, seed {seed}, pass {pass}: letters");
            }
        }
    }
    Ok(())
}
