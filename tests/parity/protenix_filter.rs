//! The second filter of designs on fixtures/protenix: what it makes of the official features, and of chains.
use std::ops::ControlFlow;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use fold::features::protenix::ProteinChain;
use fold::models::protenix::Protenix;
use fold::pipelines::protenix::filter::{Filter, FilterError, KnownChain, Settings};

use crate::common::{Golden, fixture};
use crate::layers::host;
use crate::protenix::{official_features, tiny};

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
