//! The stages of a design: what is done once for a task, and a step of several samples.
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use super::{PEAK_ROUNDS, Row, SEED, letters};
use crate::assembly::Assembly;
use crate::device::{DeviceChoice, heap};
use crate::features::af3::{Af3Features, feature_noise, featurise};
use crate::features::noise::{NoiseSource, TorchGenerator};
use crate::features::pxdesign::{DESIGNED, DesignFeatures, N_DISTANCE_BIN};
use crate::models::af3::cost::{Cost, Sizes};
use crate::models::pxdesign::PxDesign;
use crate::models::pxdesign::config::{Config, release_0_1};
use crate::models::pxdesign::sample::{Schedule, StepScale, sample};
use crate::ops;
use crate::pipelines::predict::PredictError;
use crate::pipelines::progress::Progress;
use crate::query::{Chain, Query};
use crate::weights::Weights;

/// Name of the model in the rows.
const MODEL: &str = "pxdesign";
/// Residues of the binder, unless that is more than half of the tokens.
const BINDER: usize = 100;

/// A benchmark with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A converted file; random weights of the published size if there is none.
    pub weights: Option<PathBuf>,
    /// No more blocks of the token transformer than so many; of random weights.
    pub n_block: Option<usize>,
    /// Tokens of target and binder together, one task each.
    pub n_token: Vec<usize>,
    /// Structures denoised together.
    pub n_sample: usize,
    /// Denoising steps.
    pub n_step: usize,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// Designs on a random target of each size; each row is a result of `progress` as soon as its task is done.
pub fn bench(plan: &Plan, progress: &mut dyn Progress) -> Result<Vec<Row>, PredictError> {
    progress.stage("loading");
    let device = plan.device.open()?;
    let gemm_peak = if device.is_cpu() { Some(ops::measured_gemm_peak(PEAK_ROUNDS)?) } else { None };
    let (weights, config) = match &plan.weights {
        Some(path) => {
            let weights = Weights::open(path, &device)?;
            let config: Config = weights.config()?;
            (weights, config)
        }
        None => (Weights::untrained(SEED.into(), &device), reduced(release_0_1(), plan.n_block)),
    };
    let model = PxDesign::load(&config, &weights)?;
    ops::release_scratch();
    let weight_bytes = heap::held();
    let mut rows = Vec::new();
    progress.begin(plan.n_token.len() as u64);
    for &n in &plan.n_token {
        progress.stage(&format!("{n} tokens"));
        let features = features(n);
        let n_atom = features.n_atom();
        let family = config.family();
        let sizes = Sizes { n_token: n, n_atom, n_row: 0, n_template: 0 };
        let cost = Cost::new(&family, sizes, plan.n_sample);
        let row = |stage, n_call, seconds, flop, peak_bytes: usize| Row {
            n_token: n,
            n_atom: Some(n_atom),
            stage,
            n_call,
            seconds,
            flop,
            peak_bytes: device.is_cpu().then_some(peak_bytes.saturating_sub(weight_bytes)),
            pair_bytes: Some(n * n * config.c_z * size_of::<f32>()),
            gemm_peak,
        };
        heap::take_peak();
        let mut start = Instant::now();
        let batch = model.batch(&features, &device)?;
        let conditions = model.condition(&features, &batch)?;
        // Relative positions are projected before they are joined to the pairs, which the family's count does not know.
        let projected = 2.0 * (n * n * config.c_z * config.c_z) as f64;
        let conditioning =
            row("conditioning", 1, start.elapsed().as_secs_f64(), cost.conditioning + projected, heap::take_peak());

        let schedule = Schedule { levels: config.sampling, n_step: plan.n_step, step_scale: StepScale::COMMAND_LINE };
        let mut noise: Vec<Box<dyn NoiseSource>> =
            (0..plan.n_sample).map(|k| Box::new(TorchGenerator::new(k as u64)) as Box<dyn NoiseSource>).collect();
        let mut seconds = Vec::new();
        start = Instant::now();
        // Never broken off, so what it returns is of no use here.
        let _ = sample(&conditions, &schedule, &mut noise, &mut |_| {
            seconds.push(start.elapsed().as_secs_f64());
            start = Instant::now();
            ControlFlow::Continue(())
        })?;
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let step = row("denoising step", seconds.len(), median, cost.step, heap::take_peak());
        let some = [conditioning, step];
        some.iter().for_each(|row| progress.result(&row.record(MODEL)));
        rows.extend(some);
        progress.advance(1);
    }
    Ok(rows)
}

/// `config` with fewer blocks in its deep stack.
fn reduced(mut config: Config, n_block: Option<usize>) -> Config {
    if let Some(n) = n_block {
        config.token_transformer.n_block = config.token_transformer.n_block.min(n);
    }
    config
}

/// A random target with a binder of glycines to be designed, `n` tokens in all, and random distances in the target.
fn features(n: usize) -> DesignFeatures {
    const LETTERS: &[u8; 20] = b"ACDEFGHIKLMNPQRSTVWY";
    let n_binder = BINDER.min(n / 2);
    let n_target = n - n_binder;
    let mut noise = TorchGenerator::new(SEED.into());
    let target = letters(&mut noise, n_target).iter().map(|&k| char::from(LETTERS[usize::from(k)])).collect();
    let mut chains = vec![Chain::new(vec!["A".to_owned()], target)];
    if n_binder > 0 {
        chains.push(Chain::new(vec!["B".to_owned()], "G".repeat(n_binder)));
    }
    let query = Query::new("bench".to_owned(), chains);
    let f: Af3Features = featurise(&query, &Assembly::new(&query), &mut feature_noise(SEED));
    let in_target = |token: usize| token < n_target;
    let pairs = (0..n * n).map(|pair| (pair / n, pair % n));
    DesignFeatures {
        restype: (0..n).map(|i| if in_target(i) { f.restype[i] } else { DESIGNED }).collect(),
        hotspot: (0..n).map(|i| f32::from(u8::from(i < 3))).collect(),
        distance_bin: (0..n * n).map(|_| noise.randint(0, N_DISTANCE_BIN as u32) as u8).collect(),
        distance_mask: pairs.map(|(i, j)| in_target(i) && in_target(j)).collect(),
        token_index: f.token_index,
        residue_index: f.residue_index,
        asym_id: f.asym_id,
        entity_id: f.entity_id,
        sym_id: f.sym_id,
        atom_to_token: f.atom_to_token,
        ref_pos: f.ref_pos,
        ref_mask: f.ref_mask,
        ref_element: f.ref_element,
        ref_charge: f.ref_charge,
        ref_atom_name: f.ref_atom_name,
        ref_space_uid: f.ref_space_uid,
    }
}
