//! The stages of an AlphaFold2 pass, and the layers of its blocks.
use std::path::PathBuf;
use std::time::Instant;

use candle_core::{Result, Tensor};

use super::{PEAK_ROUNDS, Row, SEED, letters};
use crate::device::{DeviceChoice, heap};
use crate::features::af2::{Af2Features, ExtraMsa, Msa, N_LETTER};
use crate::features::noise::TorchGenerator;
use crate::models::af2::config::Config;
use crate::models::af2::cost::{BlockCost, Cost};
use crate::models::af2::evoformer::{Block, ColumnAttention, Masks};
use crate::models::af2::heads::Trunk;
use crate::models::af2::monomer::Monomer;
use crate::models::af2::recycle::Recycled;
use crate::ops;
use crate::pipelines::predict::PredictError;
use crate::pipelines::progress::Progress;
use crate::score::af2::Af2Confidence;
use crate::weights::Weights;

/// Which weights a benchmark runs with; the time does not depend on their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchWeights {
    /// A converted monomer file.
    File(PathBuf),
    /// Random ones of the published size, with no more than so many blocks of the Evoformer.
    Random(Option<usize>),
}

/// A benchmark with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Weights.
    pub weights: BenchWeights,
    /// Lengths of the chains, one prediction each.
    pub n_res: Vec<usize>,
    /// Rows of the alignment, of which the first have a cluster.
    pub n_row: usize,
    /// Passes.
    pub n_cycle: usize,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// Parameter set whose sizes random weights have: no templates.
const RELEASE: &str = "model_3_ptm";
/// Name of the model in the rows.
const MODEL: &str = "af2";

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Embed,
    Layer(Stack, Layer),
    Structure,
    Pae,
    Scores,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stack {
    Extra,
    Evoformer,
}

/// A layer of a block, in the order of the monomer models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    RowAttention,
    ColumnAttention,
    MsaTransition,
    OuterProductMean,
    TriMulOut,
    TriMulIn,
    TriAttStart,
    TriAttEnd,
    PairTransition,
}

const LAYERS: [(Layer, &str); 9] = [
    (Layer::RowAttention, "row attention"),
    (Layer::ColumnAttention, "column attention"),
    (Layer::MsaTransition, "msa transition"),
    (Layer::OuterProductMean, "outer product"),
    (Layer::TriMulOut, "tri mul out"),
    (Layer::TriMulIn, "tri mul in"),
    (Layer::TriAttStart, "tri att start"),
    (Layer::TriAttEnd, "tri att end"),
    (Layer::PairTransition, "pair transition"),
];

impl Layer {
    fn flop(self, cost: &BlockCost) -> f64 {
        match self {
            Self::RowAttention => cost.row_attention,
            Self::ColumnAttention => cost.column_attention,
            Self::MsaTransition => cost.msa_transition,
            Self::OuterProductMean => cost.outer_product_mean,
            Self::TriMulOut | Self::TriMulIn => cost.triangle_multiplication,
            Self::TriAttStart | Self::TriAttEnd => cost.triangle_attention,
            Self::PairTransition => cost.pair_transition,
        }
    }
}

/// One part of a pass as it was watched.
#[derive(Debug, Clone, Copy)]
struct Event {
    cycle: usize,
    stage: Stage,
    seconds: f64,
    peak_bytes: usize,
}

/// Times one part after the other.
struct Clock {
    cycle: usize,
    weight_bytes: usize,
    events: Vec<Event>,
}

impl Clock {
    fn time<T>(&mut self, stage: Stage, part: impl FnOnce() -> Result<T>) -> Result<T> {
        heap::take_peak();
        let start = Instant::now();
        let made = part()?;
        let (seconds, peak) = (start.elapsed().as_secs_f64(), heap::take_peak());
        let peak_bytes = peak.saturating_sub(self.weight_bytes);
        self.events.push(Event { cycle: self.cycle, stage, seconds, peak_bytes });
        Ok(made)
    }
}

/// Runs a prediction of each length; each row is a result of `progress` as soon as its prediction is done.
pub fn bench(plan: &Plan, progress: &mut dyn Progress) -> std::result::Result<Vec<Row>, PredictError> {
    progress.stage("loading");
    let device = plan.device.open()?;
    let gemm_peak = if device.is_cpu() { Some(ops::measured_gemm_peak(PEAK_ROUNDS)?) } else { None };
    let (weights, config) = match &plan.weights {
        BenchWeights::File(path) => {
            let weights = Weights::open(path, &device)?;
            let config: Config = weights.config()?;
            (weights, config)
        }
        BenchWeights::Random(n_block) => (Weights::untrained(SEED.into(), &device), published(*n_block)),
    };
    let model = Monomer::load(&config, &weights)?;
    ops::release_scratch();
    let weight_bytes = heap::held();
    let mut rows = Vec::new();
    progress.begin(plan.n_res.len() as u64);
    for &n in &plan.n_res {
        progress.stage(&format!("{n} residues"));
        let features = features(n, plan.n_row, &config);
        let mut clock = Clock { cycle: 0, weight_bytes, events: Vec::new() };
        let mut recycled = Recycled::first(n, &config, None, &device)?;
        for cycle in 0..plan.n_cycle {
            clock.cycle = cycle;
            recycled = pass(&model, &features, recycled, &mut clock)?;
        }
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
        let cost = Cost::new(&config, n, features.n_seq(), features.n_extra());
        let some = table(&clock.events, &cost, of);
        some.iter().for_each(|row| progress.result(&row.record(MODEL)));
        rows.extend(some);
        progress.advance(1);
    }
    Ok(rows)
}

/// Published sizes, with fewer blocks of the Evoformer.
fn published(n_block: Option<usize>) -> Config {
    let release = weights_convert::ALPHAFOLD2.iter().find(|release| release.version == RELEASE);
    let release = release.expect("a published parameter set");
    let mut config: Config = serde_json::from_str(release.config).expect("the converter writes configs");
    if let Some(n) = n_block {
        config.evoformer.n_block = config.evoformer.n_block.min(n);
    }
    config
}

/// Features of a random protein of `n` residues with an alignment of `n_row` random rows.
fn features(n: usize, n_row: usize, config: &Config) -> Af2Features {
    let mut noise = TorchGenerator::new(SEED.into());
    let rows = letters(&mut noise, n * n_row.max(1));
    let (msa, extra) = rows.split_at(n * n_row.clamp(1, config.max_msa));
    // No rows left: one that is masked, as the official features have it.
    let (extra, is_real) = if extra.is_empty() { (vec![0; n], 0.) } else { (extra.to_vec(), 1.) };
    let mut profile = vec![0.; msa.len() * N_LETTER];
    msa.iter().enumerate().for_each(|(i, letter)| profile[i * N_LETTER + usize::from(*letter)] = 1.);
    let none = vec![0.; rows.len().max(extra.len())];
    Af2Features {
        restype: msa[..n].to_vec(),
        residue_index: (0..n as i32).collect(),
        asym_id: vec![0; n],
        mask: vec![1.; n],
        msa: Msa::new(msa, &none[..msa.len()], &profile, &none[..msa.len()], vec![1.; msa.len()]),
        extra_msa: ExtraMsa::new(extra.clone(), &none[..extra.len()], vec![is_real; extra.len()]),
        ..Af2Features::default()
    }
}

/// One pass and its scores, part by part; what the next begins with.
fn pass(model: &Monomer, features: &Af2Features, recycled: Recycled, clock: &mut Clock) -> Result<Recycled> {
    let network = &model.network;
    let (m, z) = clock.time(Stage::Embed, || model.embed(features, &recycled))?;
    drop(recycled);
    let masks = Masks::new(features, &network.device)?;
    {
        let extra = network.extra_msa_embedder.forward(features, &network.device)?;
        let masks = Masks::of_extra(features, &masks.pair)?;
        for block in &network.extra_msa {
            layers(block, Stack::Extra, (&extra, &z), &masks, clock)?;
        }
    }
    for block in &network.evoformer {
        layers(block, Stack::Evoformer, (&m, &z), &masks, clock)?;
    }
    let trunk = Trunk::new(&m, z, features.n_seq(), &network.single)?;
    drop(m);
    ops::release_scratch();
    let folded = clock.time(Stage::Structure, || network.heads.fold(&trunk, features))?;
    let pae = clock.time(Stage::Pae, || network.heads.pae(&trunk.pair))?;
    clock.time(Stage::Scores, || {
        let host = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        let pae = pae.as_ref().map(host).transpose()?;
        Ok(Af2Confidence::new(&host(&folded.plddt)?, pae.as_deref(), &features.asym_id, &features.mask))
    })?;
    Recycled::new(trunk, folded.positions)
}

/// The layers of a block, in the order of the monomer models.
fn layers<C: ColumnAttention>(
    block: &Block<C>,
    stack: Stack,
    (m, z): (&Tensor, &Tensor),
    masks: &Masks,
    clock: &mut Clock,
) -> Result<()> {
    for (layer, _) in LAYERS {
        clock.time(Stage::Layer(stack, layer), || {
            match layer {
                Layer::RowAttention => block.row_attention.add_to(m, z, &masks.msa),
                Layer::ColumnAttention => block.column_attention.add_to(m, &masks.msa),
                Layer::MsaTransition => block.msa_transition.add_to(m, None),
                Layer::OuterProductMean => block.outer_product_mean.add_to(z, m, &masks.msa),
                Layer::TriMulOut => block.pair.triangles.mul_out.add_to(z, &masks.pair),
                Layer::TriMulIn => block.pair.triangles.mul_in.add_to(z, &masks.pair),
                Layer::TriAttStart => block.pair.triangles.att_start.add_to(z, &masks.pair),
                Layer::TriAttEnd => block.pair.triangles.att_end.add_to(z, &masks.pair),
                Layer::PairTransition => block.pair.transition.add_to(z, None),
            }?;
            ops::settle(z)
        })?;
    }
    Ok(())
}

/// The rows of one prediction, from its events.
fn table(events: &[Event], cost: &Cost, row: impl Fn(&'static str, usize, f64, f64, usize) -> Row) -> Vec<Row> {
    let of = |name, flop, belongs: &dyn Fn(Stage) -> bool| {
        let some: Vec<&Event> = events.iter().filter(|e| belongs(e.stage)).collect();
        let seconds = median(some.iter().map(|e| e.seconds).collect());
        row(name, some.len(), seconds, flop, some.iter().map(|e| e.peak_bytes).max().unwrap_or(0))
    };
    let block = |name, stack, cost: &BlockCost| {
        let parts: Vec<Row> = LAYERS
            .iter()
            .map(|(layer, name)| of(name, layer.flop(cost), &|stage| stage == Stage::Layer(stack, *layer)))
            .collect();
        let seconds = parts.iter().map(|part| part.seconds).sum();
        let peak = parts.iter().filter_map(|part| part.peak_bytes).max().unwrap_or(0);
        (row(name, parts[0].n_call, seconds, cost.total(), peak), parts)
    };
    let embed = of("embedder", 0., &|stage| stage == Stage::Embed);
    let (extra, _) = block("extra msa block", Stack::Extra, &cost.extra_msa);
    let (evoformer, parts) = block("evoformer block", Stack::Evoformer, &cost.evoformer);
    let structure = of("structure module", cost.structure, &|stage| stage == Stage::Structure);
    let pae = of("pae head", cost.pae, &|stage| stage == Stage::Pae);
    let scores = of("scores", 0., &|stage| stage == Stage::Scores);
    let n_cycle = events.last().map_or(0, |e| e.cycle + 1);
    let pass = |cycle| events.iter().filter(|e| e.cycle == cycle).map(|e| e.seconds).sum();
    let blocks = |row: &Row| (row.n_call / n_cycle.max(1)) as f64 * row.flop;
    let recycle = row(
        "recycle",
        n_cycle,
        median((0..n_cycle).map(pass).collect()),
        blocks(&extra) + blocks(&evoformer) + structure.flop + pae.flop,
        events.iter().map(|e| e.peak_bytes).max().unwrap_or(0),
    );
    [vec![embed, extra, evoformer], parts, vec![structure, pae, scores, recycle]].concat()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::models::af2::dropout::Dropout;

    /// The parts that are timed are those of a pass.
    #[test]
    fn a_timed_pass_is_a_pass() -> anyhow::Result<()> {
        let config = published(Some(1));
        let model = Monomer::load(&config, &Weights::untrained(1, &Device::Cpu))?;
        let features = features(9, 3, &config);
        let first = || Recycled::first(9, &config, None, &Device::Cpu);
        let mut clock = Clock { cycle: 0, weight_bytes: 0, events: Vec::new() };
        let timed = pass(&model, &features, first()?, &mut clock)?;
        let trunk = model.trunk(&features, first()?, &Dropout::default(), &mut |_| ())?;
        let positions = model.network.heads.fold(&trunk, &features)?.positions;
        let want = Recycled::new(trunk, positions)?;
        assert_eq!(timed.positions, want.positions);
        let host = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        assert_eq!(host(&timed.pair)?, host(&want.pair)?);
        assert_eq!(host(&timed.msa_first_row)?, host(&want.msa_first_row)?);
        assert_eq!(clock.events.len(), 1 + 9 * (config.extra_msa.n_block + 1) + 3);
        Ok(())
    }

    #[test]
    fn rows_of_what_was_watched() {
        let layer = BlockCost {
            row_attention: 1.,
            column_attention: 0.,
            msa_transition: 0.,
            outer_product_mean: 0.,
            triangle_multiplication: 2.,
            triangle_attention: 0.,
            pair_transition: 0.,
        };
        let cost = Cost { extra_msa: layer, evoformer: layer, structure: 7., pae: 3. };
        let mut events = Vec::new();
        for cycle in 0..2 {
            let mut add = |stage, seconds, peak_bytes| events.push(Event { cycle, stage, seconds, peak_bytes });
            add(Stage::Embed, 1., 5);
            for block in 0..3 {
                LAYERS.iter().for_each(|(l, _)| add(Stage::Layer(Stack::Evoformer, *l), 2., 10 + block + cycle));
            }
            add(Stage::Structure, 4., 1);
            add(Stage::Pae, 0.5, 2);
        }
        let row = |stage, n_call, seconds, flop, peak_bytes| Row {
            n_token: 1,
            n_atom: Some(1),
            stage,
            n_call,
            seconds,
            flop,
            peak_bytes: Some(peak_bytes),
            pair_bytes: Some(10),
            gemm_peak: None,
        };
        let rows = table(&events, &cost, row);
        let of = |stage: &str| rows.iter().find(|r| r.stage == stage).expect("a row").clone();
        assert_eq!(of("evoformer block"), row("evoformer block", 6, 18., 5., 13));
        assert_eq!(of("tri mul in"), row("tri mul in", 6, 2., 2., 13));
        assert_eq!(of("structure module"), row("structure module", 2, 4., 7., 1));
        assert_eq!(of("recycle"), row("recycle", 2, 1. + 54. + 4.5, 15. + 10., 13));
    }
}
