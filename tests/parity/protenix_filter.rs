//! The second filter of designs on fixtures/protenix: what it makes of the official features, and of chains.
use std::ops::ControlFlow;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use fold::chem::restype;
use fold::features::af3::Af3Features;
use fold::features::protenix::ProteinChain;
use fold::models::protenix::Protenix;
use fold::models::protenix::heads::GivenPositions;
use fold::pipelines::protenix::filter::{FINAL_SEED, Filter, FilterError, KnownChain, Predicted, Settings};
use fold::score::design::rmsd::{ChainCas, anchored, superposed};
use serde_json::Value;

use crate::common::{Golden, fixture};
use crate::layers::host;
use crate::protenix::{official_features, tiny};
use crate::protenix_features::{add_chains, same_features};

fn with_filter(test: impl FnOnce(&Filter) -> Result<()>) -> Result<()> {
    let (config, weights) = tiny()?;
    let model = Protenix::load(&config, &weights)?;
    let folder = tempfile::tempdir()?;
    test(&Filter { model: &model, device: &Device::Cpu, folder: folder.path() })
}

fn close(name: &str, got: f32, want: f32) -> Result<()> {
    ensure!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{name}: {got}, not {want}");
    Ok(())
}

/// A target with an alignment and a binder, as the official filter runs them: structure and columns.
#[test]
fn columns_are_the_official_ones() -> Result<()> {
    with_filter(|filter| {
        let folder = fixture("protenix/pair");
        let (features, _) = official_features(&Golden::open(folder.join("features.safetensors"))?)?;
        let golden = Golden::open(folder.join("run.safetensors"))?;
        let mut done = Vec::new();
        let got = filter.predict_features(features, None, Settings::FILTER, 101, &mut |part| {
            done.push(part);
            ControlFlow::Continue(())
        })?;
        ensure!(done == [1, 2, 3, 4, 5, 6], "{done:?}");
        let want = host(&golden.get("coordinate")?)?;
        let far = got.positions.as_flattened().iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        ensure!(got.positions.len() * 3 == want.len() && far <= 1e-3, "{far} Å");
        let scores = got.scores().context("a binder")?;
        let of = |name: &str| host(&golden.get(&format!("score0.{name}"))?);
        let (chain_ptm, chain_iptm) = (of("chain_ptm")?, of("chain_iptm")?);
        close("plddt", scores.plddt, of("plddt")?[0])?;
        close("ptm", scores.ptm, of("ptm")?[0])?;
        close("iptm", scores.iptm, of("iptm")?[0])?;
        close("ptm_target", scores.ptm_target, chain_ptm[0])?;
        close("ptm_binder", scores.ptm_binder, chain_ptm[1])?;
        close("iptm_binder", scores.iptm_binder, chain_iptm[1])?;
        let cas = got.cas();
        ensure!(cas.iter().map(Vec::len).collect::<Vec<_>>() == [15, 9], "{} chains", cas.len());
        ensure!(cas[0][0] == got.positions[1], "the second atom of a residue is CA");
        Ok(())
    })
}

/// Positions of the target, chain by chain, are those that the official program gives to the network.
#[test]
fn the_target_is_given_to_the_network() -> Result<()> {
    with_filter(|filter| {
        let (features, given) = official_features(&Golden::open(fixture("protenix/template/features.safetensors"))?)?;
        let binder = ProteinChain::new("GWSTELEKHREELKEFL".into(), 1);
        let n = features.n_token() - binder.kept.len();
        let kept: Vec<usize> = features.residue_index[..n].iter().map(|&number| number as usize).collect();
        let representatives: Vec<_> = (0..n).map(|i| given.known[i].then_some(given.positions[i])).collect();
        let chain = ProteinChain { kept, ..ProteinChain::new("ARNDCQEGHILKMFAA".into(), 0) };
        let mut target = [KnownChain { chain, representatives }];
        let got =
            filter.predict_with_target(&target, &binder, Settings::FILTER, 101, &mut |_| ControlFlow::Continue(()))?;
        let mut ours = features.clone();
        ours.ref_pos.clone_from(&got.features.ref_pos);
        ours.msa = got.features.msa.clone();
        ensure!(ours == got.features, "the same features but for conformers");
        let same = filter
            .predict_features(ours.clone(), Some(&given), Settings::FILTER, 101, &mut |_| ControlFlow::Continue(()))?;
        ensure!(same.positions == got.positions && same.confidence == got.confidence, "the same prediction");
        let without = filter.predict_features(ours, None, Settings::FILTER, 101, &mut |_| ControlFlow::Continue(()))?;
        ensure!(without.positions != got.positions, "positions of the target change the prediction");
        target[0].representatives.pop();
        let fault =
            filter.predict_with_target(&target, &binder, Settings::FILTER, 101, &mut |_| ControlFlow::Continue(()));
        ensure!(matches!(fault, Err(FilterError::Positions { chain: 1, .. })), "{fault:?}");
        Ok(())
    })
}

/// What PXDesignBench made of a design in one step of fixtures/protenix/filter.py.
struct Official {
    step: &'static str,
    features: Af3Features,
    given: GivenPositions,
    positions: Vec<f32>,
    /// Columns, distance from the design, scores.
    seen: Value,
}

impl Official {
    fn open(step: &'static str) -> Result<Self> {
        let golden = Golden::open(format!("protenix/filter/{step}.safetensors"))?;
        let (features, given) = official_features(&golden)?;
        let seen = serde_json::from_slice(&std::fs::read(fixture(format!("protenix/filter/{step}.json")))?)?;
        Ok(Self { step, features, given, positions: host(&golden.get("coordinate")?)?, seen })
    }

    fn number(&self, pointer: &str) -> Result<f64> {
        let value = self.seen.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("{}: no number at {pointer}", self.step))
    }

    /// Structure, columns, and the distance from the design, as the official program gives them.
    fn check(&self, got: &Predicted) -> Result<()> {
        let step = self.step;
        let flat = got.positions.as_flattened();
        let far = flat.iter().zip(&self.positions).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("filter.{step}.coordinate: {far:.2e} A");
        ensure!(flat.len() == self.positions.len() && far <= 1e-3, "{step}: {far} Å");
        let close = |name: &str, got: f32, pointer: &str| -> Result<()> {
            let want = self.number(pointer)? as f32;
            println!("filter.{step}.{name}: {:.2e}", (got - want).abs() / want.abs().max(1.0));
            close(&format!("{step}.{name}"), got, want)
        };
        let scores = got.scores().context("a last chain")?;
        close("plddt", scores.plddt, "/scores/plddt")?;
        close("ptm", scores.ptm, "/scores/ptm")?;
        close("iptm", scores.iptm, "/scores/iptm")?;
        let (predicted, design) = (chains_of(got), design()?);
        let column = |name: &str, got: f32| -> Result<()> {
            // Four digits, and what both sides may differ by.
            let want = self.number(&format!("/columns/ptx_{name}"))?;
            let far = (f64::from(got) - want).abs();
            ensure!(far <= 0.5e-4 + 1e-5 * want.max(1.0), "{step}.{name}: {got}, not {want}");
            Ok(())
        };
        if step == "target" {
            let anchored = anchored(&predicted, &design[..2]).context("chains of one sequence")?;
            let whole = |chains: &[ChainCas]| chains.iter().flat_map(|c| c.cas.clone()).collect::<Vec<_>>();
            let rmsd = superposed(&whole(&predicted), &whole(&design[..2]));
            self.near("rmsd", rmsd, "/columns/rmsd")?;
            return self.near("anchored_rmsd", anchored.rmsd, "/anchored_rmsd");
        }
        close("ptm_binder", scores.ptm_binder, "/scores/chain_ptm/2")?;
        close("iptm_binder", scores.iptm_binder, "/scores/chain_iptm/2")?;
        column("plddt", scores.plddt)?;
        column("ptm", scores.ptm)?;
        column("iptm", scores.iptm)?;
        column("ptm_binder", scores.ptm_binder)?;
        column("iptm_binder", scores.iptm_binder)?;
        column("ptm_target", scores.ptm_target)?;
        let found = anchored(&predicted, &design).context("chains of one sequence")?;
        self.near("anchored_rmsd", found.rmsd, "/anchored_rmsd")?;
        let want = self.number("/columns/ptx_pred_design_rmsd")?;
        ensure!((found.rmsd - want).abs() <= 0.005 + 1e-3, "{step}: {}, not {want}", found.rmsd);
        Ok(())
    }

    /// A distance in Å; the official one is of positions with three digits.
    fn near(&self, name: &str, got: f64, pointer: &str) -> Result<()> {
        let want = self.number(pointer)?;
        println!("filter.{}.{name}: {:.2e} A", self.step, (got - want).abs());
        ensure!((got - want).abs() <= 1e-3, "{}.{name}: {got}, not {want}", self.step);
        Ok(())
    }
}

/// The target's chains as the task has them, and the binder.
fn target_and_binder() -> Result<Vec<ProteinChain>> {
    let entries = serde_json::from_slice(&std::fs::read(fixture("protenix/filter/sequences.json"))?)?;
    let mut chains = add_chains(Vec::new(), &entries, &fixture("protenix"))?;
    chains.push(ProteinChain::new("AEELKKLVEEAKRLIE".into(), chains.len()));
    Ok(chains)
}

fn letter(restype: u8) -> char {
    char::from(restype::LETTERS[usize::from(restype)])
}

/// Letters and CA atoms of a predicted complex.
fn chains_of(predicted: &Predicted) -> Vec<ChainCas> {
    let features = &predicted.features;
    let chain = |(k, cas): (usize, Vec<[f32; 3]>)| ChainCas {
        sequence: (0..features.n_token())
            .filter(|&t| features.asym_id[t] as usize == k)
            .map(|t| letter(features.restype[t]))
            .collect(),
        cas: cas.iter().map(|x| x.map(f64::from)).collect(),
    };
    predicted.cas().into_iter().enumerate().map(chain).collect()
}

/// Letters and CA atoms of fixtures/protenix/filter/made_up.pdb.
fn design() -> Result<Vec<ChainCas>> {
    let text = std::fs::read_to_string(fixture("protenix/filter/made_up.pdb"))?;
    let mut chains: Vec<(char, ChainCas)> = Vec::new();
    for line in text.lines().filter(|l| l.starts_with("ATOM") && l[12..16].trim() == "CA") {
        let name = line.chars().nth(21).context("a chain")?;
        if chains.last().is_none_or(|(last, _)| *last != name) {
            chains.push((name, ChainCas::default()));
        }
        let (_, chain) = chains.last_mut().context("a chain")?;
        chain.sequence.push(letter(restype::of_code(&line[17..20]).context("an amino acid")?));
        let number = |k: usize| line[30 + 8 * k..38 + 8 * k].trim().parse::<f64>();
        chain.cas.push([number(0)?, number(1)?, number(2)?]);
    }
    Ok(chains.into_iter().map(|(_, chain)| chain).collect())
}

/// The target alone, then the design, on chains with paired alignments, of which one is cropped; then with 20 steps.
#[test]
fn steps_are_the_official_ones() -> Result<()> {
    with_filter(|filter| {
        let chains = target_and_binder()?;
        let steps = [
            ("target", &chains[..2], Settings::FILTER, 101),
            ("design", &chains[..], Settings::FILTER, 101),
            ("final", &chains[..], Settings::FINAL, FINAL_SEED),
        ];
        for (step, chains, settings, seed) in steps {
            let official = Official::open(step)?;
            same_features(step, chains, &official.features)?;
            let got = filter.predict_features(official.features.clone(), None, settings, seed, &mut |_| {
                ControlFlow::Continue(())
            })?;
            official.check(&got)?;
        }
        Ok(())
    })
}

/// The design with the positions of a target of two chains, one of whose residues is not seen.
#[test]
fn a_target_of_two_chains_is_given() -> Result<()> {
    with_filter(|filter| {
        let official = Official::open("template")?;
        let (features, given) = (&official.features, &official.given);
        let mut chains = target_and_binder()?;
        let binder = chains.pop().context("a binder")?;
        chains[1].kept.retain(|&number| number != 5);
        let mut first = 0;
        let known = |chain: ProteinChain| {
            let tokens = first..first + chain.kept.len();
            first = tokens.end;
            let representatives = tokens.map(|i| given.known[i].then_some(given.positions[i])).collect();
            KnownChain { chain, representatives }
        };
        let target: Vec<KnownChain> = chains.into_iter().map(known).collect();
        let got =
            filter.predict_with_target(&target, &binder, Settings::FILTER, 101, &mut |_| ControlFlow::Continue(()))?;
        let mut same = got.features.clone();
        same.ref_pos.clone_from(&features.ref_pos);
        same.msa = features.msa.clone();
        ensure!(same == *features, "the same features but for conformers");
        official.check(&filter.predict_features(features.clone(), Some(given), Settings::FILTER, 101, &mut |_| {
            ControlFlow::Continue(())
        })?)
    })
}
