//! fixtures/pxdesign/regen.py: the small network on three tasks, from the official features, and the sampler alone.
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};
use fold::features::noise::NoiseSource;
use fold::features::pxdesign::DesignFeatures;
use fold::models::af3::atom_attention::{AtomEncoder, AtomTransformer};
use fold::models::af3::batch::Batch;
use fold::models::af3::conditioning::DiffusionConditioning;
use fold::models::af3::config::{Config, TransformerConfig};
use fold::models::af3::sample::Denoise;
use fold::models::af3::token_transformer::{PairNorm, TokenBlock};
use fold::models::pxdesign::PxDesign;
use fold::models::pxdesign::config::release_0_1;
use fold::models::pxdesign::sample::{Course, Schedule, StepScale, sample};
use fold::ops::{Linear, Norm, add_in_place, norm_linear};
use fold::weights::Weights;

use crate::common::{Golden, assert_close, fixture, uniform};

/// Of the largest value of each tensor.
const LIMIT: f32 = 1e-5;
/// Sampled coordinates, in Å.
const COORDINATES: f32 = 1e-3;
const N_STEP: usize = 20;
/// The step within which the denoiser is recorded.
const INNER_STEP: usize = 10;
/// Pair tensors of more tokens are recorded in part.
const FEW_TOKENS: usize = 64;

/// The small random model of tiny.pt, converted once.
fn tiny() -> Result<Weights> {
    static CONVERTED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = CONVERTED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny.safetensors");
        let config = std::fs::read(fixture("pxdesign/tiny_config.json")).expect("the sizes");
        let config = Some(serde_json::from_slice(&config).expect("a config"));
        let model = weights_convert::Model::PxDesign;
        let options = weights_convert::Options { model, config, ..Default::default() };
        weights_convert::convert(&fixture("pxdesign/tiny.pt"), &path, options).expect("tiny.pt converts");
        (folder, path)
    });
    Ok(Weights::open(path, &Device::Cpu)?)
}

/// Numbers of a recorded feature.
fn numbers(golden: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(golden.get(&format!("feat.{name}"))?.flatten_all()?.to_vec1()?)
}

/// The recorded features of a task.
fn features(golden: &Golden) -> Result<DesignFeatures> {
    let whole =
        |name: &str| Ok::<_, anyhow::Error>(numbers(golden, name)?.iter().map(|&x| x as i32).collect::<Vec<_>>());
    let bytes =
        |name: &str| Ok::<_, anyhow::Error>(numbers(golden, name)?.iter().map(|&x| x as u8).collect::<Vec<_>>());
    let flags =
        |name: &str| Ok::<_, anyhow::Error>(numbers(golden, name)?.iter().map(|&x| x != 0.0).collect::<Vec<_>>());
    Ok(DesignFeatures {
        token_index: whole("token_index")?,
        residue_index: whole("residue_index")?,
        asym_id: whole("asym_id")?,
        entity_id: whole("entity_id")?,
        sym_id: whole("sym_id")?,
        restype: bytes("restype")?,
        hotspot: numbers(golden, "hotspot")?,
        distance_bin: bytes("conditional_templ")?,
        distance_mask: flags("conditional_templ_mask")?,
        atom_to_token: numbers(golden, "atom_to_token_idx")?.iter().map(|&x| x as usize).collect(),
        ref_pos: numbers(golden, "ref_pos")?.as_chunks::<3>().0.to_vec(),
        ref_mask: flags("ref_mask")?,
        ref_element: bytes("ref_element")?,
        ref_charge: numbers(golden, "ref_charge")?,
        ref_atom_name: bytes("ref_atom_name_chars")?.as_chunks::<4>().0.to_vec(),
        ref_space_uid: whole("ref_space_uid")?.iter().map(|&x| x as u32).collect(),
    })
}

/// The numbers of fixtures/pxdesign/draws.py for one sample.
struct Draws {
    sample: usize,
    calls: usize,
}

impl Draws {
    fn of(samples: impl IntoIterator<Item = usize>) -> Vec<Box<dyn NoiseSource>> {
        samples.into_iter().map(|sample| Box::new(Self { sample, calls: 0 }) as Box<dyn NoiseSource>).collect()
    }
}

impl NoiseSource for Draws {
    fn randn(&mut self, n: usize) -> Vec<f32> {
        let name = match self.calls.checked_sub(1).map(|call| (call / 3, call % 3)) {
            None => "init".to_owned(),
            Some((step, kind)) => format!("step{step}.{}", ["quaternion", "translation", "noise"][kind]),
        };
        self.calls += 1;
        let values = uniform(&format!("sample{}.{name}", self.sample), 1, n);
        values.into_iter().map(|u| (3f64.sqrt() * u) as f32).collect()
    }

    fn randint(&mut self, _: u32, _: u32) -> u32 {
        unreachable!("the sampler draws no integers")
    }

    fn randperm(&mut self, _: usize) -> Vec<usize> {
        unreachable!("the sampler draws no permutations")
    }
}

/// A recorded task and the model it was recorded with.
struct Case {
    name: String,
    golden: Golden,
    weights: Weights,
    model: PxDesign,
    features: DesignFeatures,
    batch: Batch,
}

impl Case {
    fn open(name: &str, path: &Path, weights: Weights) -> Result<Self> {
        let golden = Golden::open(path)?;
        let features = features(&golden)?;
        let model = PxDesign::load(&weights.config()?, &weights)?;
        let batch = model.batch(&features, &Device::Cpu)?;
        Ok(Self { name: name.to_owned(), golden, weights, model, features, batch })
    }

    fn small(name: &str) -> Result<Self> {
        Self::open(name, &fixture(format!("pxdesign/{name}.safetensors")), tiny()?)
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        self.golden.get(name)
    }

    fn check(&self, name: &str, got: &Tensor) -> Result<()> {
        assert_close(&format!("{}.{name}", self.name), got, &self.get(name)?, LIMIT)
    }

    /// `got` `[1, n, n, c]`, of which every eighth row may be recorded.
    fn check_pair(&self, name: &str, got: &Tensor) -> Result<()> {
        let n = self.batch.n_token as u32;
        let step = if n as usize > FEW_TOKENS { 8 } else { 1 };
        let rows: Vec<u32> = (0..n).step_by(step).collect();
        self.check(name, &got.index_select(&Tensor::new(rows, got.device())?, 1)?)
    }

    fn schedule(&self, course: Course, min: f64, max: f64) -> Schedule {
        let step_scale = StepScale { course, min, max };
        Schedule { levels: self.model.config.sampling, n_step: N_STEP, step_scale }
    }

    /// Coordinates of `samples` in one batch.
    fn sampled(&self, samples: impl IntoIterator<Item = usize>, n_step: usize) -> Result<Vec<Vec<[f32; 3]>>> {
        let conditions = self.model.condition(&self.features, &self.batch)?;
        let schedule = Schedule { n_step, ..self.schedule(Course::Const, 2.5, 2.5) };
        match sample(&conditions, &schedule, &mut Draws::of(samples), &mut |_| ControlFlow::Continue(()))? {
            ControlFlow::Continue(x) => Ok(x),
            ControlFlow::Break(()) => anyhow::bail!("broken off"),
        }
    }
}

/// The condition embedder: its atom encoder block by block, the input embedding, the pair representation.
fn condition_embedder(case: &Case) -> Result<()> {
    let (config, batch) = (case.model.config.family(), &case.batch);
    let w = case.weights.at("embedder.atom_encoder");
    for i in 0..config.input_atoms.n_block {
        let input_atoms = TransformerConfig { n_block: i + 1, ..config.input_atoms };
        let encoder = AtomEncoder::load_input(&Config { input_atoms, ..config }, &w)?;
        let (atoms, _) = encoder.prepare(batch, None)?;
        let encoded = encoder.forward(batch, &atoms, None)?;
        case.check(&format!("cond_block{i}"), &encoded.atoms)?;
        if i + 1 == config.input_atoms.n_block {
            case.check("cond.c", &atoms.single)?;
            case.check("cond.a", &encoded.tokens)?;
        }
    }
    case.check("cond.s_inputs", &case.model.embedder.input(batch)?)?;
    case.check_pair("cond.z", &case.model.embedder.pair(&case.features, &Device::Cpu)?)
}

/// One call of the denoiser from within: conditioning, every block, the update.
fn inside_the_denoiser(case: &Case) -> Result<()> {
    let (config, batch, w) = (case.model.config.family(), &case.batch, case.weights.at("diffusion"));
    let t = case.get(&format!("step{INNER_STEP}.t"))?.to_vec1::<f32>()?[0];
    let noisy = case.get(&format!("step{INNER_STEP}.x_noisy"))?;
    let scaled = (noisy / f64::from(t.hypot(config.sampling.sigma_data)))?;

    let conditioning = DiffusionConditioning::load(&config, &w.at("conditioning"))?;
    let s_input = case.model.embedder.input(batch)?;
    let none = Tensor::zeros((1, batch.n_token, config.c_s), s_input.dtype(), &Device::Cpu)?;
    let s = conditioning.at_level(batch, &conditioning.single(&none, &s_input)?, t)?;
    let n_sample = scaled.dim(0)?;
    case.check("inner.s_single", &s.repeat((n_sample, 1, 1))?)?;
    let z = conditioning.pair(batch, &case.model.embedder.pair(&case.features, &Device::Cpu)?)?;
    case.check_pair("inner.z_pair", &z)?;

    let mut q = None;
    for i in 0..config.atom_encoder.n_block {
        let atom_encoder = TransformerConfig { n_block: i + 1, ..config.atom_encoder };
        let encoder = AtomEncoder::load_diffusion(&Config { atom_encoder, ..config }, &w.at("atom_encoder"))?;
        let (atoms, _) = encoder.prepare(batch, Some((&none, &z)))?;
        let encoded = encoder.forward(batch, &atoms, Some(&scaled))?;
        case.check(&format!("inner.enc_block{i}"), &encoded.atoms)?;
        q = Some(encoded);
    }
    let encoded = q.context("no block")?;
    case.check("inner.q_skip", &encoded.atoms)?;
    case.check("inner.a_token", &encoded.tokens)?;

    let a = encoded.tokens;
    let (norm, linear) =
        (Norm::load(config.c_s, &w.at("norm_s"))?, Linear::load(config.c_s, config.c_token, &w.at("s"))?);
    add_in_place(&a, &norm_linear(&s, &norm, &linear)?.repeat((n_sample, 1, 1))?)?;
    for i in 0..config.token_transformer.n_block {
        let w = w.at(format_args!("transformer.blocks.{i}"));
        let block = TokenBlock::load(&config, config.token_transformer, PairNorm::PerBlock, &w)?;
        block.update(&a, &s, &[&block.bias(&z)?])?;
        case.check(&format!("inner.block{i}"), &a)?;
    }
    let a = Norm::load(config.c_token, &w.at("norm_a"))?.forward(&a)?;
    case.check("inner.a_normed", &a)?;

    let w = w.at("atom_decoder");
    let encoder = AtomEncoder::load_diffusion(&config, &case.weights.at("diffusion.atom_encoder"))?;
    let (atoms, pairs) = encoder.prepare(batch, Some((&none, &z)))?;
    let token = Linear::load(config.c_token, config.c_atom, &w.at("token"))?;
    let mut last = None;
    for i in 0..config.atom_decoder.n_block {
        let sizes = TransformerConfig { n_block: i + 1, ..config.atom_decoder };
        let transformer = AtomTransformer::load(&config, sizes, &w.at("transformer"))?;
        let condition = transformer.condition(&atoms.single, &|blocks| pairs.blocks(blocks), &batch.windows)?;
        let q = batch.atoms.broadcast(&token.forward(&a)?)?;
        add_in_place(&q, &encoded.atoms)?;
        transformer.update(&q, &condition, &batch.windows)?;
        case.check(&format!("inner.dec_block{i}"), &q)?;
        last = Some(q);
    }
    let (norm, out) = (Norm::load(config.c_atom, &w.at("norm"))?, Linear::load(config.c_atom, 3, &w.at("out"))?);
    case.check("inner.r_update", &norm_linear(&last.context("no block")?, &norm, &out)?)
}

/// Recorded calls of the denoiser, at high and low noise.
fn denoiser_calls(case: &Case) -> Result<()> {
    let conditions = case.model.condition(&case.features, &case.batch)?;
    for step in (0..N_STEP).filter(|step| case.golden.has(&format!("step{step}.t"))) {
        let t = case.get(&format!("step{step}.t"))?.to_vec1::<f32>()?[0];
        let noisy = case.get(&format!("step{step}.x_noisy"))?;
        let denoised = conditions.denoise(&noisy.flatten_all()?.to_vec1()?, noisy.dim(0)?, t)?;
        case.check(&format!("step{step}.x_denoised"), &Tensor::new(denoised, &Device::Cpu)?)?;
    }
    Ok(())
}

/// Largest distance of two sets of coordinates along an axis, in Å.
fn apart(got: &[Vec<[f32; 3]>], want: &Tensor) -> Result<f32> {
    let (got, want) = (got.concat().concat(), want.flatten_all()?.to_vec1::<f32>()?);
    ensure!(got.len() == want.len() && got.iter().all(|x| x.is_finite()), "{} coordinates", got.len());
    Ok(got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

/// All samples after 20 steps, in one batch whatever the official chunks.
fn trajectory(case: &Case) -> Result<()> {
    let levels = case.schedule(Course::Const, 2.5, 2.5).noise_levels();
    case.check("schedule", &Tensor::new(levels, &Device::Cpu)?)?;
    let want = case.get("coordinate")?;
    let worst = apart(&case.sampled(0..want.dim(0)?, N_STEP)?, &want)?;
    println!("{}.coordinate: {worst:.2e} A", case.name);
    ensure!(worst <= COORDINATES, "{}: coordinates differ by {worst} A", case.name);
    Ok(())
}

macro_rules! cases {
    ($($name:ident),*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn condition_embedder() -> Result<()> {
                super::condition_embedder(&Case::small(stringify!($name))?)
            }

            #[test]
            fn inside_the_denoiser() -> Result<()> {
                super::inside_the_denoiser(&Case::small(stringify!($name))?)
            }

            #[test]
            fn denoiser_calls() -> Result<()> {
                super::denoiser_calls(&Case::small(stringify!($name))?)
            }

            #[test]
            fn trajectory() -> Result<()> {
                super::trajectory(&Case::small(stringify!($name))?)
            }
        }
    )*};
}
cases!(crop, peptide, pdbinput);

/// A sample has the same bits alone and among any others.
fn alone_and_together(case: &Case, n_step: usize) -> Result<()> {
    let alone = (0..4).map(|k| Ok(case.sampled([k], n_step)?.remove(0))).collect::<Result<Vec<_>>>()?;
    for batch in [vec![0, 1], vec![3, 1], vec![2, 1, 0], vec![1, 0, 3, 2]] {
        for (k, x) in batch.iter().zip(case.sampled(batch.clone(), n_step)?) {
            let same = x.as_flattened().iter().zip(alone[*k].as_flattened()).all(|(a, b)| a.to_bits() == b.to_bits());
            ensure!(same, "sample {k} of {batch:?} is not what it is alone");
        }
    }
    ensure!(alone[0] != alone[1], "two samples are the same");
    Ok(())
}

#[test]
fn samples_do_not_depend_on_their_batch() -> Result<()> {
    alone_and_together(&Case::small("pdbinput")?, N_STEP)
}

/// With one thread and with three.
fn on_threads(case: &Case, n_step: usize) -> Result<()> {
    let with =
        |n: usize| rayon::ThreadPoolBuilder::new().num_threads(n).build()?.install(|| case.sampled([0, 1], n_step));
    ensure!(with(1)? == with(3)?, "one thread and three differ");
    Ok(())
}

#[test]
fn samples_do_not_depend_on_the_threads() -> Result<()> {
    on_threads(&Case::small("pdbinput")?, N_STEP)
}

#[test]
fn a_run_can_be_broken_off() -> Result<()> {
    let case = Case::small("pdbinput")?;
    let conditions = case.model.condition(&case.features, &case.batch)?;
    let mut steps = 0;
    let stopped = sample(&conditions, &case.schedule(Course::Const, 2.5, 2.5), &mut Draws::of([0]), &mut |step| {
        steps = step.index + 1;
        if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    ensure!(stopped.is_break() && steps == 3, "{steps} steps");
    Ok(())
}

/// The denoiser of fixtures/pxdesign/sampler.py.
struct Pull {
    target: Vec<f32>,
}

impl Denoise for Pull {
    fn n_atom(&self) -> usize {
        self.target.len() / 3
    }

    fn atom_mask(&self) -> &[f32] {
        &[1.0; 5]
    }

    fn denoise(&self, noisy: &[f32], _: usize, t: f32) -> candle_core::Result<Vec<f32>> {
        let share = 0.75 / (1.0 + (t / 16.0).powi(2));
        Ok(noisy.iter().zip(self.target.iter().cycle()).map(|(x, target)| share * x + target).collect())
    }
}

/// Every course of the step scale.
#[test]
fn step_scales() -> Result<()> {
    let golden = Golden::open("pxdesign/sampler.safetensors")?;
    let target = uniform("target", 1, 15).into_iter().map(|u| (8.0 * u) as f32).collect();
    let model = Pull { target };
    for (name, course) in Course::ALL {
        let min = if course == Course::Const { 2.5 } else { 1.0 };
        let step_scale = StepScale { course, min, max: 2.5 };
        let schedule = Schedule { levels: release_0_1().sampling, n_step: N_STEP, step_scale };
        let got = sample(&model, &schedule, &mut Draws::of(0..3), &mut |_| ControlFlow::Continue(()))?;
        let ControlFlow::Continue(got) = got else { anyhow::bail!("broken off") };
        let want = golden.get(name)?;
        ensure!(want.max(D::Minus1)?.flatten_all()?.max(0)?.to_scalar::<f32>()? > 1.0, "{name}: nothing happened");
        let worst = apart(&got, &want)?;
        println!("{name}: {worst:.2e} A");
        ensure!(worst <= COORDINATES, "{name}: coordinates differ by {worst} A");
    }
    for n_step in [3, 20, 400] {
        let schedule = Schedule { levels: release_0_1().sampling, n_step, step_scale: StepScale::COMMAND_LINE };
        let got = Tensor::new(schedule.noise_levels(), &Device::Cpu)?;
        assert_close(&format!("levels{n_step}"), &got, &golden.get(&format!("levels{n_step}"))?, 1e-6)?;
    }
    Ok(())
}

/// The full-size network on the example target of the official repository, too large to be committed:
/// `FOLD_FULL_SIZE_PXDESIGN` names a folder with `weights.safetensors` and `pdl1.safetensors`, made as
/// fixtures/pxdesign/README.md says.
#[test]
#[ignore = "needs the full-size goldens: see fixtures/pxdesign/README.md"]
fn full_size() -> Result<()> {
    let name = "FOLD_FULL_SIZE_PXDESIGN";
    let folder = PathBuf::from(std::env::var_os(name).with_context(|| format!("{name} is not set"))?);
    let weights = Weights::open(&folder.join("weights.safetensors"), &Device::Cpu)?;
    let case = Case::open("pdl1", &folder.join("pdl1.safetensors"), weights)?;
    condition_embedder(&case)?;
    inside_the_denoiser(&case)?;
    denoiser_calls(&case)?;
    trajectory(&case)?;
    alone_and_together(&case, 2)?;
    on_threads(&case, 2)
}
