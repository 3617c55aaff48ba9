//! fixtures/af2/filter.py: a binder beside its target and alone, as ColabDesign evaluates them, after each pass.
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use fold::features::af2::design::{Design, KnownChain, Shown, single_sequence};
use fold::features::af2::{Af2Features, N_ATOM37};
use fold::models::af2::AlphaFold2;
use fold::pipelines::af2::filter::{Evaluated, Filter};
use fold::weights::Weights;

use crate::common::{Golden, fixture};

const MODEL: &str = "model_1_ptm";
/// SEGWKTA.
const BINDER: [u8; 7] = [15, 6, 7, 17, 11, 16, 0];
const N_PASS: usize = 3;
/// Of pLDDT and errors in Å as they are; TM scores and fractions are far below 1.
const LIMIT: f32 = 1e-3;
/// Å.
const POSITION_LIMIT: f32 = 1e-2;

fn host(g: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(g.get(name)?.flatten_all()?.to_vec1()?)
}

fn chain(g: &Golden, id: &str) -> Result<KnownChain> {
    let get = |what: &str| host(g, &format!("chain/{id}/{what}"));
    Ok(KnownChain {
        restype: get("restype")?.into_iter().map(|v| v as u8).collect(),
        residue_index: get("residue_index")?.into_iter().map(|v| v as i32).collect(),
        positions: get("positions")?.as_chunks().0.to_vec(),
        mask: get("mask")?,
    })
}

/// The cases of the script.
fn designs(g: &Golden) -> Result<[(&'static str, Design); 3]> {
    let design = |target_shown, binder_shown, shows_interface| -> Result<Design> {
        Ok(Design {
            target: vec![chain(g, "A")?, chain(g, "B")?],
            binder: chain(g, "C")?,
            sequence: BINDER.to_vec(),
            target_shown,
            binder_shown,
            shows_interface,
        })
    };
    Ok([
        ("pxdesign", design(Shown::Backbone, Shown::Backbone, false)?),
        ("whole_target", design(Shown::Everything, Shown::Nothing, true)?),
        ("letters", design(Shown::Letters, Shown::Letters, true)?),
    ])
}

/// What the network is given is what ColabDesign gives it.
fn same_features(g: &Golden, case: &str, f: &Af2Features) -> Result<()> {
    let same = |name: &str, got: Vec<f32>| -> Result<()> {
        let want = host(g, &format!("{case}/features/{name}"))?;
        // Its one-hot letters are differences of rounded numbers: 1 to a millionth.
        let near = got.len() == want.len() && got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6);
        ensure!(near, "{case}: {name} differs");
        Ok(())
    };
    let bytes = |x: &[u8]| x.iter().map(|v| f32::from(*v)).collect::<Vec<f32>>();
    same("aatype", bytes(&f.restype))?;
    same("residue_index", f.residue_index.iter().map(|v| *v as f32).collect())?;
    same("msa_feat", f.msa.features.clone())?;
    same("msa_mask", f.msa.mask.clone())?;
    same("seq_mask", f.mask.clone())?;
    same("extra_msa", bytes(&f.extra_msa.rows))?;
    same("extra_msa_mask", f.extra_msa.mask.clone())?;
    same("extra_has_deletion", f.extra_msa.has_deletion.clone())?;
    same("extra_deletion_value", f.extra_msa.deletion_value.clone())?;
    // One-hot without a place for the unknown: the network puts it and the chain break in.
    let letters = f.restype.iter().flat_map(|r| (0..20u8).map(move |k| f32::from(u8::from(k == *r)))).collect();
    same("target_feat", letters)?;
    let Some(template) = f.templates.first() else { return Ok(()) };
    ensure!(f.templates.len() == 1 && template.is_real, "one template");
    same("template_mask", vec![1.])?;
    same("template_aatype", bytes(&template.restype))?;
    same("template_all_atom_positions", template.positions.as_flattened().to_vec())?;
    same("template_all_atom_mask", template.mask.clone())?;
    if !f.template_group.is_empty() {
        same("asym_id", f.template_group.iter().map(|v| *v as f32).collect())?;
    }
    Ok(())
}

fn same_scores(g: &Golden, case: &str, pass: usize, got: &Evaluated) -> Result<()> {
    let (errors, scores) = (got.confidence.errors.as_ref().context("the head")?, got.scores);
    let percent: Vec<f32> = host(g, &format!("{case}/{pass}/plddt"))?.iter().map(|p| 100. * p).collect();
    let far = |name: &str, got: &[f32], want: &[f32], limit: f32| -> Result<()> {
        ensure!(got.len() == want.len(), "{case}, pass {pass}: {} of {name}, {} wanted", got.len(), want.len());
        let far = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
        println!("{case}, pass {pass}, {name}: {far:.1e}");
        ensure!(far <= limit, "{case}, pass {pass}: {name} differs by {far}");
        Ok(())
    };
    let of = |name: &str| host(g, &format!("{case}/{pass}/{name}"));
    far("plddt", &got.confidence.plddt, &percent, LIMIT)?;
    far("pae", &errors.pae, &of("pae")?, LIMIT)?;
    far("ptm", &[errors.ptm], &of("ptm")?, LIMIT * 1e-2)?;
    far("i_ptm", &[errors.iptm], &of("i_ptm")?, LIMIT * 1e-2)?;
    far("positions", got.positions.as_flattened(), &of("atom_positions")?, POSITION_LIMIT)?;
    if pass + 1 == N_PASS {
        let log = |name: &str| host(g, &format!("{case}/log/{name}"));
        far("plddt of the binder", &[scores.plddt], &log("plddt")?, LIMIT * 1e-2)?;
        far("pae of the binder", &[scores.pae], &log("pae")?, LIMIT * 1e-2)?;
        far("ptm shown", &[scores.ptm, scores.i_ptm], &[log("ptm")?, log("i_ptm")?].concat(), LIMIT * 1e-2)?;
        if let (Some(i_pae), Some(rmsd)) = (scores.i_pae, scores.rmsd) {
            far("i_pae", &[i_pae], &log("i_pae")?, LIMIT * 1e-2)?;
            far("rmsd", &[rmsd], &log("rmsd")?, LIMIT)?;
        }
    }
    Ok(())
}

fn evaluate(folder: &Path, config: Option<serde_json::Map<String, serde_json::Value>>) -> Result<()> {
    let made = tempfile::tempdir()?;
    let target = made.path().join("weights.safetensors");
    let options = weights_convert::Options { model: weights_convert::Model::AlphaFold2, config, ..Default::default() };
    weights_convert::convert(&folder.join(format!("params_{MODEL}.npz")), &target, options)?;
    let weights = Weights::open(&target, &Device::Cpu)?;
    let model = AlphaFold2::load(&weights.config()?, &weights)?;
    let g = Golden::open(folder.join("filter.safetensors"))?;
    for (case, design) in designs(&g)? {
        let made = design.features()?;
        same_features(&g, case, &made.features)?;
        ensure!(host(&g, &format!("{case}/0/prev_pos"))? == made.guess.as_flattened(), "{case}: initial guess");
        for pass in 0..N_PASS {
            same_scores(
                &g,
                case,
                pass,
                &Filter::new(&model, pass)?.complex(&design, &mut |_, _| ControlFlow::Continue(()))?,
            )?;
        }
    }
    let features = single_sequence(&BINDER)?;
    same_features(&g, "alone", &features)?;
    for pass in 0..N_PASS {
        same_scores(
            &g,
            "alone",
            pass,
            &Filter::new(&model, pass)?.alone(&BINDER, &mut |_, _| ControlFlow::Continue(()))?,
        )?;
    }
    Ok(())
}

#[test]
fn design_filter() -> Result<()> {
    let config = std::fs::read(fixture(format!("af2/{MODEL}_config.json")))?;
    evaluate(&fixture("af2"), Some(serde_json::from_slice(&config)?))
}

/// The released sizes: fixtures/af2/README.md says how the files are made.
#[test]
#[ignore = "needs the full-size model"]
fn full_size_design_filter() -> Result<()> {
    let folder = std::env::var_os("FOLD_FULL_SIZE_AF2").context("FOLD_FULL_SIZE_AF2: see fixtures/af2/README.md")?;
    evaluate(Path::new(&folder), None)
}

/// What the filter says of a design whose N atoms are known.
#[test]
fn parameter_sets_that_cannot_filter() -> Result<()> {
    let release = |version: &str| weights_convert::ALPHAFOLD2.iter().find(|r| r.version == version).expect("a release");
    let load = |version: &str| -> Result<AlphaFold2> {
        let mut config: fold::models::af2::config::Config = serde_json::from_str(release(version).config)?;
        (config.evoformer.n_block, config.extra_msa.n_block) = (1, 1);
        Ok(AlphaFold2::load(&config, &Weights::untrained(1, &Device::Cpu))?)
    };
    assert!(Filter::new(&load("model_1_multimer_v3")?, 3).is_err());
    assert!(Filter::new(&load("model_1")?, 3).is_err());
    let model = load("model_3_ptm")?;
    let known = KnownChain {
        restype: vec![0],
        residue_index: vec![1],
        positions: vec![[1.; 3]; N_ATOM37],
        mask: vec![1.; N_ATOM37],
    };
    let design = Design {
        target: vec![known.clone()],
        binder: known,
        sequence: vec![0],
        target_shown: Shown::Backbone,
        binder_shown: Shown::Backbone,
        shows_interface: false,
    };
    let error = Filter::new(&model, 0)?
        .complex(&design, &mut |_, _| ControlFlow::Continue(()))
        .expect_err("no templates")
        .to_string();
    assert!(error.contains("template"), "{error}");
    Ok(())
}
