//! The stages of an OpenFold3 prediction.
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{PEAK_ROUNDS, Row, SEED, letters};
use crate::assembly::Assembly;
use crate::device::{DeviceChoice, heap};
use crate::features::af3::{Af3Features, Msa, feature_noise, featurise};
use crate::features::noise::TorchGenerator;
use crate::models::af3::config::Config;
use crate::models::af3::cost::{Cost, Sizes};
use crate::models::openfold3::{OpenFold3, TrunkPart, config};
use crate::ops;
use crate::pipelines::infer::{Done, Inference};
use crate::pipelines::predict::PredictError;
use crate::pipelines::progress::Progress;
use crate::query::{Chain, Query};
use crate::weights::Weights;

/// Which weights a benchmark runs with; the time does not depend on their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchWeights {
    /// A converted OpenFold3 file.
    OpenFold3(PathBuf),
    /// Random ones of OpenFold3's size, with no more than so many blocks in the Pairformer and in the token transformer.
    Random(Option<usize>),
    /// The small untrained model.
    Untrained,
}

impl BenchWeights {
    /// Name of the model in the rows.
    fn model(&self) -> &'static str {
        match self {
            Self::OpenFold3(_) | Self::Random(_) => "openfold3",
            Self::Untrained => "untrained",
        }
    }
}

/// A benchmark with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Weights.
    pub weights: BenchWeights,
    /// Lengths of the chains, one prediction each.
    pub n_token: Vec<usize>,
    /// Rows of the alignment.
    pub n_row: usize,
    /// Structures denoised together.
    pub n_sample: usize,
    /// Passes through the trunk.
    pub n_cycle: usize,
    /// Denoising steps.
    pub n_step: usize,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// One part of a prediction as it was watched.
struct Event {
    done: Done,
    seconds: f64,
    peak_bytes: usize,
}

/// Runs a prediction of each length; each row is a result of `progress` as soon as its prediction is done.
pub fn bench(plan: &Plan, progress: &mut dyn Progress) -> Result<Vec<Row>, PredictError> {
    progress.stage("loading");
    let device = plan.device.open()?;
    let gemm_peak = if device.is_cpu() { Some(ops::measured_gemm_peak(PEAK_ROUNDS)?) } else { None };
    let random = || Weights::untrained(SEED.into(), &device);
    let (weights, config) = match &plan.weights {
        BenchWeights::OpenFold3(path) => {
            let weights = Weights::open(path, &device)?;
            let config: Config = weights.config()?;
            (weights, config)
        }
        BenchWeights::Random(n_block) => (random(), reduced(config::release_0_5(), *n_block)),
        BenchWeights::Untrained => (random(), config::untrained()),
    };
    let model = OpenFold3::load(&config, &weights)?;
    ops::release_scratch();
    let weight_bytes = heap::held();
    let folder = std::env::temp_dir();
    let mut rows = Vec::new();
    progress.begin(plan.n_token.len() as u64);
    for &n in &plan.n_token {
        progress.stage(&format!("{n} tokens"));
        let features = features(n, plan.n_row);
        let inference = Inference {
            model: &model,
            device: &device,
            features: &features,
            seed: SEED,
            n_cycle: plan.n_cycle,
            n_step: plan.n_step,
            n_sample: plan.n_sample,
            wanted: &(0..plan.n_sample).collect::<Vec<_>>(),
            folder: Path::new(&folder),
        };
        let mut events = Vec::new();
        heap::take_peak();
        let mut start = Instant::now();
        let watch = &mut |done| {
            let (seconds, peak) = (start.elapsed().as_secs_f64(), heap::take_peak());
            events.push(Event { done, seconds, peak_bytes: peak.saturating_sub(weight_bytes) });
            start = Instant::now();
            Ok(())
        };
        inference.run(watch, &mut |_, _| Ok(()))?;
        let of = |stage, n_call, seconds, flop, peak_bytes| Row {
            n_token: n,
            n_atom: Some(features.n_atom()),
            stage,
            n_call,
            seconds,
            flop,
            peak_bytes: device.is_cpu().then_some(peak_bytes),
            pair_bytes: Some(n * n * config.c_z * size_of::<f32>()),
            gemm_peak,
        };
        let cost = Cost::new(&config, Sizes::of(&features, &config), plan.n_sample);
        let some = table(&events, &cost, config.pairformer.n_block, of);
        some.iter().for_each(|row| progress.result(&row.record(plan.weights.model())));
        rows.extend(some);
        progress.advance(1);
    }
    Ok(rows)
}

/// `config` with fewer blocks in its two deep stacks.
fn reduced(mut config: Config, n_block: Option<usize>) -> Config {
    if let Some(n) = n_block {
        config.pairformer.n_block = config.pairformer.n_block.min(n);
        config.token_transformer.n_block = config.token_transformer.n_block.min(n);
    }
    config
}

/// Features of a random protein of `n` residues with an alignment of `n_row` random rows.
fn features(n: usize, n_row: usize) -> Af3Features {
    const LETTERS: &[u8; 20] = b"ACDEFGHIKLMNPQRSTVWY";
    let mut noise = TorchGenerator::new(SEED.into());
    let sequence = letters(&mut noise, n).iter().map(|&k| char::from(LETTERS[usize::from(k)])).collect();
    let query = Query::new("bench".to_owned(), vec![Chain::new(vec!["A".to_owned()], sequence)]);
    let mut features = featurise(&query, &Assembly::new(&query), &mut feature_noise(SEED));
    let msa = &features.msa;
    let more = n_row.saturating_sub(msa.n_seq);
    features.msa = Msa {
        n_seq: msa.n_seq + more,
        rows: [&msa.rows[..], &letters(&mut noise, more * n)].concat(),
        has_deletion: [&msa.has_deletion[..], &vec![0.0; more * n]].concat(),
        deletion_value: [&msa.deletion_value[..], &vec![0.0; more * n]].concat(),
        mask: [&msa.mask[..], &vec![1.0; more * n]].concat(),
        ..msa.clone()
    };
    features
}

/// The rows of one prediction, from its events.
fn table(
    events: &[Event],
    cost: &Cost,
    n_block: usize,
    row: impl Fn(&'static str, usize, f64, f64, usize) -> Row,
) -> Vec<Row> {
    let trunk = |part: TrunkPart| move |done: Done| matches!(done, Done::Trunk(at) if at.done == part);
    let of = |stage, flop, belongs: &dyn Fn(Done) -> bool| {
        let some: Vec<&Event> = events.iter().filter(|e| belongs(e.done)).collect();
        let mut seconds: Vec<f64> = some.iter().map(|e| e.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
        row(stage, some.len(), median, flop, some.iter().map(|e| e.peak_bytes).max().unwrap_or(0))
    };
    let input = of("input embedder", 0.0, &trunk(TrunkPart::Input));
    let template = of("templates", cost.template, &trunk(TrunkPart::Template));
    let msa = of("msa module", cost.msa, &trunk(TrunkPart::Msa));
    let block = of("pairformer block", cost.block, &trunk(TrunkPart::Block));
    let parts = [(&template, 1), (&msa, 1), (&block, n_block)];
    let cycle = row(
        "trunk cycle",
        template.n_call,
        parts.iter().map(|(row, n)| row.seconds * *n as f64).sum(),
        parts.iter().map(|(row, n)| row.flop * *n as f64).sum(),
        parts.iter().filter_map(|(row, _)| row.peak_bytes).max().unwrap_or(0),
    );
    let conditioning = of("conditioning", cost.conditioning, &|done| done == Done::Conditioning);
    let step = of("denoising step", cost.step, &|done| matches!(done, Done::Step(_)));
    let confidence = of("confidence", cost.confidence, &|done| matches!(done, Done::Confidence(_)));
    let scores = of("scores", 0.0, &|done| matches!(done, Done::Scored(_)));
    vec![input, template, msa, block, cycle, conditioning, step, confidence, scores]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::openfold3::TrunkProgress;

    /// Two cycles of three blocks: the median of the calls, the largest peak, and a cycle as the sum of its parts.
    #[test]
    fn rows_of_what_was_watched() {
        let part = |cycle, done| Done::Trunk(TrunkProgress { cycle, done });
        let mut events = vec![Event { done: part(0, TrunkPart::Input), seconds: 0.5, peak_bytes: 1 }];
        for cycle in 0..2 {
            events.push(Event { done: part(cycle, TrunkPart::Template), seconds: 1.0, peak_bytes: 2 });
            events.push(Event { done: part(cycle, TrunkPart::Msa), seconds: 2.0, peak_bytes: 30 + cycle });
            for block in 1..4 {
                let seconds = f64::from(block);
                events.push(Event { done: part(cycle, TrunkPart::Block), seconds, peak_bytes: 20 });
            }
        }
        events.push(Event { done: Done::Step(1), seconds: 9.0, peak_bytes: 7 });
        let cost = Cost { template: 1.0, msa: 2.0, block: 3.0, conditioning: 4.0, step: 18.0, confidence: 6.0 };
        let row = |stage, n_call, seconds, flop, peak_bytes| Row {
            n_token: 1,
            n_atom: Some(1),
            stage,
            n_call,
            seconds,
            flop,
            peak_bytes: Some(peak_bytes),
            pair_bytes: Some(10),
            gemm_peak: Some(4.0),
        };
        let rows = table(&events, &cost, 3, row);
        let of = |stage: &str| rows.iter().find(|r| r.stage == stage).expect("a row").clone();
        assert_eq!(of("pairformer block"), row("pairformer block", 6, 2.0, 3.0, 20));
        assert_eq!(of("trunk cycle"), row("trunk cycle", 2, 1.0 + 2.0 + 6.0, 1.0 + 2.0 + 9.0, 31));
        assert_eq!(of("denoising step").fraction_of_peak(), Some(0.5));
        assert_eq!(of("trunk cycle").peak_in_u(), Some(3.1));
        assert_eq!(of("input embedder").fraction_of_peak(), None);
    }
}
