//! The stages of ESM3: a pass through the trunk and the layers of its blocks, structure encoder and structure decoder.
use std::path::PathBuf;
use std::time::Instant;

use candle_core::{Device, Result, Tensor};

use super::{PEAK_ROUNDS, Row, SEED, letters};
use crate::device::{DeviceChoice, heap};
use crate::features::esm3::{Backbone, Coordinates, Tokens, Track, sequence_id, structure_id};
use crate::features::noise::TorchGenerator;
use crate::models::esm3::config::{StructureDecoderConfig, StructureEncoderConfig, TrunkConfig};
use crate::models::esm3::cost::{self, Cost};
use crate::models::esm3::structure_decoder::StructureDecoder;
use crate::models::esm3::structure_encoder::StructureEncoder;
use crate::models::esm3::tracks::Batch;
use crate::models::esm3::trunk::Trunk;
use crate::ops;
use crate::pipelines::esm3::Esm3Error;
use crate::pipelines::esm3::models::{Models, STRUCTURE_DECODER, STRUCTURE_ENCODER, TRUNK};
use crate::pipelines::progress::Progress;
use crate::weights::Weights;

/// Which weights a benchmark runs with; the time does not depend on their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BenchWeights {
    /// A folder of converted files.
    Folder(PathBuf),
    /// Random ones of the published size, with no more than so many blocks of each stack.
    Random(Option<usize>),
}

/// A benchmark with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Weights.
    pub weights: BenchWeights,
    /// Lengths of the proteins; a pass has two tokens more.
    pub n_res: Vec<usize>,
    /// Passes.
    pub n_pass: usize,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// Name of the model in the rows.
const MODEL: &str = "esm3";

/// The networks that are timed.
struct Networks {
    trunk: Trunk,
    structure_encoder: StructureEncoder,
    structure_decoder: StructureDecoder,
}

impl Networks {
    fn load(weights: &BenchWeights, device: &Device) -> std::result::Result<Self, Esm3Error> {
        match weights {
            BenchWeights::Folder(folder) => {
                let models = Models::new(folder, device.clone(), None);
                let [trunk, encoder, decoder] =
                    [TRUNK, STRUCTURE_ENCODER, STRUCTURE_DECODER].map(|part| models.weights(part));
                let (trunk, encoder, decoder) = (trunk?, encoder?, decoder?);
                Ok(Self {
                    trunk: Trunk::load(&trunk.config()?, &trunk)?,
                    structure_encoder: StructureEncoder::load(&encoder.config()?, &encoder)?,
                    structure_decoder: StructureDecoder::load(&decoder.config()?, &decoder)?,
                })
            }
            BenchWeights::Random(n_block) => {
                let w = Weights::untrained(SEED.into(), device);
                let (mut trunk, mut encoder, mut decoder): (
                    TrunkConfig,
                    StructureEncoderConfig,
                    StructureDecoderConfig,
                ) = (published(TRUNK), published(STRUCTURE_ENCODER), published(STRUCTURE_DECODER));
                for stack in [&mut trunk.n_block, &mut encoder.n_block, &mut decoder.n_block] {
                    *stack = n_block.unwrap_or(*stack).min(*stack);
                }
                Ok(Self {
                    trunk: Trunk::load(&trunk, &w)?,
                    structure_encoder: StructureEncoder::load(&encoder, &w.at("structure_encoder"))?,
                    structure_decoder: StructureDecoder::load(&decoder, &w.at("structure_decoder"))?,
                })
            }
        }
    }
}

/// The published sizes of a part.
fn published<Config: serde::de::DeserializeOwned>(part: usize) -> Config {
    serde_json::from_str(weights_convert::ESM3[part].config).expect("the converter writes configs")
}

/// What is timed, in the order of the rows.
const STAGES: [&str; 10] = [
    "embedding",
    "attention",
    "geometric attention",
    "transition",
    "block",
    "trunk",
    "sequence head",
    "structure head",
    "structure encoder",
    "structure decoder",
];

/// One part as it was watched.
#[derive(Debug, Clone, Copy)]
struct Event {
    stage: &'static str,
    seconds: f64,
    peak_bytes: usize,
}

/// Times one part after the other.
struct Clock {
    weight_bytes: usize,
    events: Vec<Event>,
}

impl Clock {
    fn time<T>(&mut self, stage: &'static str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        heap::take_peak();
        let start = Instant::now();
        let made = part()?;
        let (seconds, peak) = (start.elapsed().as_secs_f64(), heap::take_peak());
        self.events.push(Event { stage, seconds, peak_bytes: peak.saturating_sub(self.weight_bytes) });
        Ok(made)
    }
}

/// Runs a pass of each length; each row is a result of `progress` as soon as its passes are done.
pub fn bench(plan: &Plan, progress: &mut dyn Progress) -> std::result::Result<Vec<Row>, Esm3Error> {
    progress.stage("loading");
    let device = plan.device.open()?;
    let gemm_peak = if device.is_cpu() { Some(ops::measured_gemm_peak(PEAK_ROUNDS)?) } else { None };
    let networks = Networks::load(&plan.weights, &device)?;
    ops::release_scratch();
    let weight_bytes = heap::held();
    let mut rows = Vec::new();
    progress.begin(plan.n_res.len() as u64);
    for &n in &plan.n_res {
        progress.stage(&format!("{n} residues"));
        let protein = protein(n);
        let mut clock = Clock { weight_bytes, events: Vec::new() };
        for _ in 0..plan.n_pass {
            networks.run(&protein, &mut clock)?;
        }
        let row = |stage, n_call, seconds, flop, peak_bytes| Row {
            n_token: n,
            n_atom: None,
            stage,
            n_call,
            seconds,
            flop,
            peak_bytes: device.is_cpu().then_some(peak_bytes),
            pair_bytes: None,
            gemm_peak,
        };
        let some = table(&clock.events, |stage| networks.flop(stage, n), row);
        some.iter().for_each(|row| progress.result(&row.record(MODEL)));
        rows.extend(some);
        progress.advance(1);
    }
    Ok(rows)
}

/// A random sequence with a structure that is a helix.
fn protein(n: usize) -> Tokens {
    let mut noise = TorchGenerator::new(SEED.into());
    let residue = |letter: u8| u16::from(letter) + FIRST_RESIDUE;
    let inner: Vec<u16> = letters(&mut noise, n).into_iter().map(residue).collect();
    let atom = |i: usize, radius: f32, phase: f32, rise: f32| {
        let angle = 1.745 * i as f32 + phase; // 100 degrees and 1.5 Å a residue
        [radius * angle.cos(), radius * angle.sin(), 1.5 * i as f32 + rise]
    };
    let residues = (0..n).map(|i| [atom(i, 1.55, -0.5, -0.9), atom(i, 2.3, 0., 0.), atom(i, 1.65, 0.45, 1.1)]);
    let nothing = [[f32::NAN; 3]; 3];
    let backbone: Vec<Backbone> = std::iter::once(nothing).chain(residues).chain([nothing]).collect();
    let has_atom = (0..n + 2).map(|i| (1..=n).contains(&i)).collect();
    Tokens {
        sequence: Some([&[sequence_id::BOS], &inner[..], &[sequence_id::EOS]].concat()),
        coordinates: Some(Coordinates { backbone, has_atom }),
        ..Tokens::default()
    }
}

/// Token of the first amino acid.
const FIRST_RESIDUE: u16 = 4;

impl Networks {
    fn run(&self, protein: &Tokens, clock: &mut Clock) -> Result<()> {
        let batch = Batch::of(&[protein]).map_err(candle_core::Error::wrap)?;
        let x = self.pass(&batch, clock)?;
        for (stage, track) in [("sequence head", Track::Sequence), ("structure head", Track::Structure)] {
            clock.time(stage, || ops::settle(&self.trunk.logits(&x, track)?))?;
        }
        let coordinates = protein.coordinates.as_ref().map_or(&[][..], |c| &c.backbone);
        let residues = &coordinates[1..coordinates.len() - 1];
        let index: Vec<i64> = (1..=residues.len() as i64).collect();
        let codes = clock.time("structure encoder", || self.structure_encoder.forward(residues, &index))?.tokens;
        let tokens = [&[structure_id::BOS], &codes[..], &[structure_id::EOS]].concat();
        clock.time("structure decoder", || self.structure_decoder.forward(&tokens))?;
        Ok(())
    }

    /// A pass through the trunk, part by part.
    fn pass(&self, batch: &Batch, clock: &mut Clock) -> Result<Tensor> {
        let trunk = &self.trunk;
        let x = clock.time("embedding", || trunk.embed(batch))?;
        let shared = trunk.shared(batch, &x)?;
        let pass = shared.pass();
        for (i, block) in trunk.blocks.iter().enumerate() {
            clock.time("attention", || {
                block.attend(&x, &pass)?;
                ops::settle(&x)
            })?;
            if i == 0 {
                clock.time("geometric attention", || {
                    trunk.add_geometric(&x, batch, &pass)?;
                    ops::settle(&x)
                })?;
            }
            clock.time("transition", || {
                block.transit(&x, &pass)?;
                ops::settle(&x)
            })?;
        }
        Ok(x)
    }

    /// Operations of a stage and `n` residues.
    fn flop(&self, stage: &str, n: usize) -> f64 {
        let (cost, n_block) = (Cost::new(&self.trunk.config, n + 2), self.trunk.config.n_block as f64);
        match stage {
            "attention" => cost.attention,
            "geometric attention" => cost.geometric,
            "transition" => cost.transition,
            "block" => cost.attention + cost.transition,
            "trunk" => n_block * (cost.attention + cost.transition) + cost.geometric,
            "sequence head" => cost.sequence_head,
            "structure head" => cost.structure_head,
            "structure encoder" => cost::structure_encoder(&self.structure_encoder.config, n),
            "structure decoder" => cost::structure_decoder(&self.structure_decoder.config, n + 2),
            _ => 0.,
        }
    }
}

/// The rows of one length, from its events.
fn table(
    events: &[Event],
    flop: impl Fn(&str) -> f64,
    row: impl Fn(&'static str, usize, f64, f64, usize) -> Row,
) -> Vec<Row> {
    let of = |stage: &str| events.iter().filter(|e| e.stage == stage).collect::<Vec<_>>();
    let seconds = |stage: &str| median(of(stage).iter().map(|e| e.seconds).collect());
    let peak = |stages: &[&str]| {
        let some = events.iter().filter(|e| stages.contains(&e.stage));
        some.map(|e| e.peak_bytes).max().unwrap_or(0)
    };
    let n_pass = of("embedding").len();
    let n_block = of("attention").len() / n_pass.max(1);
    let block = seconds("attention") + seconds("transition");
    let trunk = seconds("embedding") + n_block as f64 * block + seconds("geometric attention");
    let parts = &STAGES[..4];
    let made = STAGES.map(|stage| match stage {
        "block" => row(stage, of("attention").len(), block, flop(stage), peak(&["attention", "transition"])),
        "trunk" => row(stage, n_pass, trunk, flop(stage), peak(parts)),
        _ => row(stage, of(stage).len(), seconds(stage), flop(stage), peak(&[stage])),
    });
    made.to_vec()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts that are timed are those of a pass.
    #[test]
    fn a_timed_pass_is_a_pass() -> anyhow::Result<()> {
        let trunk = TrunkConfig { c: 32, n_head: 2, n_vector_head: 3, n_block: 2, c_transition: 64 };
        let encoder =
            StructureEncoderConfig { c: 16, n_vector_head: 2, n_block: 1, c_transition: 32, c_code: 4, n_code: 7 };
        let decoder = StructureDecoderConfig { c: 16, n_head: 2, n_block: 1, c_transition: 32 };
        let w = Weights::untrained(1, &Device::Cpu);
        let networks = Networks {
            trunk: Trunk::load(&trunk, &w)?,
            structure_encoder: StructureEncoder::load(&encoder, &w)?,
            structure_decoder: StructureDecoder::load(&decoder, &w)?,
        };
        let (protein, mut clock) = (protein(5), Clock { weight_bytes: 0, events: Vec::new() });
        let batch = Batch::of(&[&protein])?;
        let host = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        assert_eq!(host(&networks.pass(&batch, &mut clock)?)?, host(&networks.trunk.forward(&batch)?)?);
        assert_eq!(clock.events.len(), 1 + 1 + 2 * 2);
        networks.run(&protein, &mut clock)?;
        assert!(STAGES.iter().all(|s| ["block", "trunk"].contains(s) || clock.events.iter().any(|e| e.stage == *s)));
        Ok(())
    }

    #[test]
    fn rows_of_what_was_watched() {
        let mut events = Vec::new();
        for pass in 0..2 {
            let mut add = |stage, seconds, peak_bytes| events.push(Event { stage, seconds, peak_bytes });
            add("embedding", 1., 5);
            add("geometric attention", 2., 40);
            (0..3).for_each(|block| add("attention", 3., 10 + block + pass));
            (0..3).for_each(|_| add("transition", 4., 1));
            add("structure decoder", 0.5, 2);
        }
        let row = |stage, n_call, seconds, flop, peak_bytes| Row {
            n_token: 1,
            n_atom: None,
            stage,
            n_call,
            seconds,
            flop,
            peak_bytes: Some(peak_bytes),
            pair_bytes: None,
            gemm_peak: None,
        };
        let rows = table(&events, |stage| stage.len() as f64, row);
        assert_eq!(rows.iter().map(|r| r.stage).collect::<Vec<_>>(), STAGES);
        assert_eq!(rows[4], row("block", 6, 7., 5., 13));
        assert_eq!(rows[5], row("trunk", 2, 1. + 2. + 21., 5., 40));
        assert_eq!(rows[9], row("structure decoder", 2, 0.5, 17., 2));
    }
}
