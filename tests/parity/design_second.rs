//! The second filter as a stage of a design: what it predicts, what it writes of designs that are kept. The networks themselves are
//! compared with the official code in protenix.rs and protenix_filter.rs.
use std::ops::ControlFlow;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use fold::chem::dictionary::Dictionary;
use fold::features::noise::TorchGenerator;
use fold::features::protenix::ProteinChain;
use fold::features::pxdesign::featurise;
use fold::models::protenix::Protenix;
use fold::pipelines::design::complex::cif;
use fold::pipelines::design::place::Place;
use fold::pipelines::design::second::{self, Network, NetworkFile, Runner, SecondModel, SecondStage, Target};
use fold::pipelines::design::stage::Stage;
use fold::pipelines::protenix::filter::{FINAL_SEED, Predicted, Settings};
use fold::pipelines::store;
use fold::query::pxdesign;
use fold::score::design::SecondScores;
use fold::score::design::rmsd::{ChainCas, anchored};
use serde_json::{Value, json};

use crate::common::fixture;
use crate::protenix::tiny;

const SEED: u32 = 7;
const BINDER: &str = "MKTAYIAKQRQI";

/// The scores that a record has behind a prefix.
fn of_record(record: &Value, key: &str) -> Result<f64> {
    record[format!("ptx_{key}")].as_f64().with_context(|| format!("{key} in {record}"))
}

/// A record against a prediction of the same chains.
fn agrees(record: &Value, predicted: &Predicted, designed: &[ChainCas]) -> Result<()> {
    let scores = predicted.scores().context("a binder")?;
    for (key, value) in [
        ("plddt", scores.plddt),
        ("ptm_binder", scores.ptm_binder),
        ("ptm_target", scores.ptm_target),
        ("iptm", scores.iptm),
        ("ptm", scores.ptm),
        ("iptm_binder", scores.iptm_binder),
    ] {
        let got = of_record(record, key)?;
        ensure!((got - f64::from(value)).abs() <= 0.5e-4, "{key}: {got}, not {value}");
    }
    let sequences = [designed[0].sequence.clone(), BINDER.to_owned()];
    let ours: Vec<ChainCas> = predicted
        .cas()
        .iter()
        .zip(sequences)
        .map(|(cas, sequence)| ChainCas { sequence, cas: cas.iter().map(|x| x.map(f64::from)).collect() })
        .collect();
    let rmsd = anchored(&ours, designed).context("a chain of both")?.rmsd;
    let got = of_record(record, "pred_design_rmsd")?;
    ensure!((got - rmsd).abs() <= 0.5e-2, "{got} Å, not {rmsd}");
    Ok(())
}

#[test]
fn a_design_that_is_kept_is_predicted_again() -> Result<()> {
    let task = &pxdesign::read(&fixture("pxdesign/crop.yaml"), &Dictionary::built_in())?[0];
    let (_, structure) = featurise(task, &mut TorchGenerator::of_task(SEED));
    let out = tempfile::tempdir()?;
    let place = Place::new(out.path(), "crop", SEED);
    // The target as it was seen, the binder on a spiral.
    let spiral = |i: usize| [(0.6 * i as f32).sin() * 6., (0.6 * i as f32).cos() * 6., 0.7 * i as f32];
    let positions: Vec<[f32; 3]> =
        structure.atoms.iter().enumerate().map(|(i, atom)| atom.position.unwrap_or_else(|| spiral(i))).collect();
    store::write(&place.backbone(3), cif("crop", &place.name(3), &structure, &positions).as_bytes())?;
    store::write(&place.file("sequences", 3, ".json"), json!({"sequence": BINDER}).to_string().as_bytes())?;
    let target = Target::new(task, &structure).context("a protein")?;
    let kept: Vec<usize> = (38..=52).chain(97..=106).collect();
    ensure!(target.chains[0].chain.kept == kept, "{:?}", target.chains[0].chain.kept);
    ensure!(target.chains[0].seen.representatives.len() == kept.len(), "all of the crop was seen");

    let (config, weights) = tiny()?;
    let model = Protenix::load(&config, &weights)?;
    let network = Network::Protenix(Box::new(model));
    let file = NetworkFile {
        path: "tiny".into(),
        model: "tiny".into(),
        release: "0".into(),
        config,
        checksums: Value::Null,
        bytes: 0,
    };
    let runner = Runner { network: &network, device: &Device::Cpu, folder: place.folder() };
    static JUDGED: Mutex<Vec<SecondScores>> = Mutex::new(Vec::new());
    let keeps = |scores: &SecondScores| {
        JUDGED.lock().expect("one test").push(*scores);
        true
    };
    let mut stage = SecondStage {
        model: SecondModel::Protenix,
        runner,
        file: &file,
        target: &target,
        gives_target: false,
        alone: Some(1.5),
        keeps,
        structure: &structure,
        place: &place,
    };
    let (mut ticks, units) = (Vec::new(), stage.units());
    let made = stage.make(&[3], &mut |n| {
        ticks.push(n);
        ControlFlow::Continue(())
    })?;
    let ControlFlow::Continue(made) = made else { anyhow::bail!("broken off") };
    let made = made.into_iter().next().context("a sample")?.map_err(anyhow::Error::msg)?;
    ensure!(ticks.len() == 6 + 24 && ticks.iter().sum::<u64>() == units, "{ticks:?} of {units}");
    let names: Vec<_> = made.files.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
    ensure!(names == ["crop_sample_3_complex.cif", "crop_sample_3_final.cif", "crop_sample_3.json"], "{names:?}");
    let record: Value = serde_json::from_slice(&made.files[2].1)?;
    ensure!(record == made.record && record["target_rmsd"] == 1.5, "{record}");

    let chains = [
        ProteinChain { kept, ..ProteinChain::new(task.chains[0].sequence.clone(), 0) },
        ProteinChain::new(BINDER.to_owned(), 1),
    ];
    let ca = |chain: usize| -> Vec<_> {
        let atoms = structure.atoms.iter().zip(&positions);
        let of_chain = atoms.filter(|(atom, _)| atom.name == "CA" && structure.residue_of(atom).chain == chain);
        of_chain.map(|(_, x)| x.map(f64::from)).collect()
    };
    let letters = chains[0].kept.iter().map(|&k| char::from(chains[0].sequence.as_bytes()[k - 1])).collect();
    let designed =
        [ChainCas { sequence: letters, cas: ca(0) }, ChainCas { sequence: "G".repeat(BINDER.len()), cas: ca(1) }];
    let go_on = &mut |_| ControlFlow::Continue(());
    agrees(&record, &runner.predict(&chains, Settings::FILTER, SEED.into(), go_on)?, &designed)?;
    let again = runner.predict(&chains, Settings::FINAL, FINAL_SEED, go_on)?;
    agrees(&record["final"], &again, &designed)?;
    let judged = JUDGED.lock().expect("one test");
    ensure!(judged.len() == 1 && judged[0].rmsd == of_record(&record, "pred_design_rmsd")?, "{judged:?}");
    for (path, bytes) in &made.files {
        store::write(path, bytes)?;
    }
    ensure!(second::scores_of(SecondModel::Protenix, &place, 3).map_err(anyhow::Error::msg)? == judged[0], "read back");
    ensure!(second::known_alone(SecondModel::Protenix, &place, 0..9) == Some(1.5), "the target alone is told");

    // The target alone as it was predicted is compared with its structure.
    let alone = runner.predict(&chains[..1], Settings::FILTER, 5, go_on)?;
    let letters = designed[0].sequence.clone();
    let seen = [ChainCas { sequence: letters.clone(), cas: ca(0) }];
    let cas = alone.cas()[0].iter().map(|x| x.map(f64::from)).collect();
    let expected = anchored(&[ChainCas { sequence: letters, cas }], &seen).context("a chain")?.rmsd;
    let found = second::target_alone(runner, &target, 5, go_on)?;
    ensure!((found - expected).abs() < 1e-6 && found > 1., "{found} Å, not {expected}");

    // It ends where it is told to, within a prediction.
    let mut n = 0;
    let stopped = stage.make(&[3], &mut |_| {
        n += 1;
        if n == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    ensure!(stopped.is_break() && n == 2, "broken off after {n}");
    Ok(())
}
