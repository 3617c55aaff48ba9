//! fixtures/openfold3/regen.py: the whole small model on five queries, from the official feature dictionary.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use fold::features::af3::{Af3Features, frame};
use fold::features::noise::TorchGenerator;
use fold::models::af3::config::Config;
use fold::models::af3::sample::{noise_schedule, sample};
use fold::models::openfold3::OpenFold3;
use fold::weights::Weights;

use crate::common::{Golden, assert_close, fixture, tiny};

/// The official f32 is about this close to its own f64; of the largest value of each tensor.
const LIMIT: f32 = 1e-5;
/// Sampled coordinates, in Å.
const COORDINATES: f32 = 1e-3;

#[derive(serde::Deserialize)]
struct Meta {
    seed: u64,
}

/// Trunk after each cycle, every denoising step, the sampled structures and all logits.
fn whole_model(folder: &Path, config: Config, weights: Weights) -> Result<()> {
    let meta: Meta = serde_json::from_slice(&std::fs::read(folder.join("meta.json"))?)?;
    let features = Af3Features::load(&folder.join("features.safetensors"))?;
    let model = OpenFold3::load(&config, &weights)?;
    let batch = model.batch(&features, &Device::Cpu)?;

    let golden = Golden::open(&folder.join("trunk.safetensors"))?;
    let initial = model.input.forward(&batch)?;
    assert_close("s_input", &initial.s_input, &golden.get("s_input")?, LIMIT)?;
    assert_close("s_init", &initial.s, &golden.get("s_init")?, LIMIT)?;
    assert_close("z_init", &initial.pair(&batch)?, &golden.get("z_init")?, LIMIT)?;

    let mut noise = TorchGenerator::new(meta.seed);
    let mut cycles = 0;
    let trunk = model.trunk(&batch, config.sampling.n_cycle, &mut noise, &mut |_| {}, &mut |cycle, s, z| {
        cycles += 1;
        let check = || -> Result<()> {
            assert_close(&format!("c{cycle}.s"), s, &golden.get(&format!("c{cycle}.s"))?, LIMIT)?;
            assert_close(&format!("c{cycle}.z"), z, &golden.get(&format!("c{cycle}.z"))?, LIMIT)
        };
        check().map_err(|e| candle_core::Error::Msg(format!("{e:#}")))
    })?;
    ensure!(cycles == config.sampling.n_cycle, "{cycles} cycles");

    let golden = Golden::open(&folder.join("diffusion.safetensors"))?;
    let want = golden.get("coords")?.squeeze(0)?;
    let n_sample = want.dim(0)?;
    let n_step = golden.names().iter().filter(|name| name.ends_with("xl_denoised")).count();
    let levels = noise_schedule(&config.sampling, n_step);
    ensure!(levels.len() == n_step + 1, "the schedule has {} levels", levels.len());
    let diffusion = model.diffusion.condition(&batch, &trunk.s_input, &trunk.s, &trunk.z)?;
    let shape = (n_sample, batch.n_atom, 3);
    let x = sample(&diffusion, &config.sampling, n_step, n_sample, &mut noise, &mut |step| {
        let check = || -> Result<()> {
            let get = |name: &str| golden.get(&format!("step{}.{name}", step.index));
            let t = get("t")?.flatten_all()?.to_vec1::<f32>()?[0];
            ensure!((step.t - t).abs() <= 1e-6 * t, "step {}: t {} is not {t}", step.index, step.t);
            for (name, got) in [("xl_noisy", step.noisy), ("xl_denoised", step.denoised)] {
                let got = Tensor::from_slice(got, shape, &Device::Cpu)?;
                assert_close(&format!("step{}.{name}", step.index), &got, &get(name)?.squeeze(0)?, LIMIT)?;
            }
            Ok(())
        };
        check().map_err(|e| candle_core::Error::Msg(format!("{e:#}")))
    })?;
    let worst = x.iter().zip(want.flatten_all()?.to_vec1::<f32>()?).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    println!("coordinates {worst:.1e} A");
    ensure!(worst <= COORDINATES, "coordinates differ by {worst} A");

    let golden = Golden::open(&folder.join("confidence.safetensors"))?;
    let (atoms, _) = frame::representative_atoms(&features);
    for (k, x) in x.chunks_exact(3 * batch.n_atom).enumerate() {
        let positions: Vec<[f32; 3]> = atoms.iter().map(|&a| [x[3 * a], x[3 * a + 1], x[3 * a + 2]]).collect();
        let logits = model.confidence.forward(&batch, &trunk.s_input, &trunk.s, &trunk.z, &positions)?;
        let tensors = [
            ("conf_s", &logits.single),
            ("plddt_logits", &logits.plddt),
            ("experimentally_resolved_logits", &logits.resolved),
            ("pae_logits", &logits.pae),
            ("pde_logits", &logits.pde),
        ];
        for (name, got) in tensors {
            let want = golden.get(name)?.squeeze(0)?.narrow(0, k, 1)?;
            assert_close(&format!("sample {k} {name}"), got, &want, LIMIT)?;
        }
    }
    let distogram = model.distogram.forward(&trunk.z)?;
    assert_close("distogram_logits", &distogram, &golden.get("distogram_logits")?, LIMIT)
}

macro_rules! queries {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let (config, weights) = tiny()?;
            whole_model(&fixture(concat!("openfold3/", stringify!($name))), config, weights).context(stringify!($name))
        }
    )*};
}

/// The full-size model, which is too large to be committed: `FOLD_FULL_SIZE` names a folder with `weights.safetensors`
/// (converted from what `fixtures/openfold3/checkpoint.py --size full` writes) and a query's golden files beside it, as
/// fixtures/openfold3/README.md says.
#[test]
#[ignore = "needs the full-size goldens: see fixtures/openfold3/README.md"]
fn full_size() -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("FOLD_FULL_SIZE").context("FOLD_FULL_SIZE is not set")?);
    let weights = Weights::open(&folder.join("weights.safetensors"), &Device::Cpu)?;
    whole_model(&folder, weights.config()?, weights)
}

queries!(mono, mono_msa, homodimer, hetero2, hetero3);
