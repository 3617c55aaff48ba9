//! Is this machine ready: device, memory, weights, and a prediction of a few seconds that is compared with what the
//! official program makes of the same weights and features.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Device;

use crate::assembly::Assembly;
use crate::device::{self, DeviceChoice, DeviceError, Memory};
use crate::features::af3::{feature_noise, featurise};
use crate::features::esm3::vocabulary::{Vocabulary, VocabularyError};
use crate::features::noise::TorchGenerator;
use crate::models::af2::AlphaFold2;
use crate::models::af3::sample::sample;
use crate::models::esm3::function_decoder::FunctionDecoder;
use crate::models::esm3::structure_decoder::StructureDecoder;
use crate::models::esm3::structure_encoder::StructureEncoder;
use crate::models::esm3::trunk::Trunk;
use crate::models::mpnn::ProteinMpnn;
use crate::models::openfold3::{OpenFold3, config};
use crate::models::protenix::Protenix;
use crate::models::pxdesign::PxDesign;
use crate::ops::{self, Check as KernelCheck};
use crate::query::{Chain, Query};
use crate::weights::{Weights, WeightsError};

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Name of the device.
    pub device: &'static str,
    /// Threads on the CPU.
    pub n_thread: usize,
    /// Memory of the machine, where the system tells.
    pub memory: Option<Memory>,
    /// Each weights file, with its model, or why it cannot be used.
    pub weights: Vec<(PathBuf, Result<String, DoctorError>)>,
    /// The self-check.
    pub check: Check,
}

/// The self-check: a short chain through the whole network with untrained weights.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Largest difference of an atom's coordinate from the official program's, in Å.
    pub difference: f32,
    /// Time it took, without loading.
    pub elapsed: Duration,
}

impl Check {
    /// Differences of single precision stay far below this, in Å; a wrong kernel goes far beyond.
    pub const LIMIT: f32 = 1e-3;

    /// Is the difference one of rounding?
    pub fn passed(&self) -> bool {
        self.difference <= Self::LIMIT
    }
}

/// Why the self-check could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A weights file cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tables of ESM3's function track cannot be used.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The network failed.
    #[error("the network cannot be built or run")]
    Network(#[from] candle_core::Error),
}

/// Sequence, seed, cycles and steps of the self-check; the golden coordinates belong to them.
const SEQUENCE: &str = "GSHMEEDPDLKA";
const SEED: u32 = 42;
const N_CYCLE: usize = 2;
const N_STEP: usize = 8;
/// Seed of the untrained weights.
const WEIGHTS_SEED: u64 = 1;
/// What the official program makes of them (fixtures/openfold3/doctor.py): x, y, z of each atom, in Å.
const GOLDEN: &str = include_str!("doctor_golden.tsv");

/// Looks at everything. `weights` are the files to look at.
pub fn doctor(choice: DeviceChoice, weights: &[PathBuf]) -> Result<Report, DoctorError> {
    let device = choice.open()?;
    Ok(Report {
        device: name(&device),
        n_thread: device::threads(),
        memory: device::memory(),
        weights: weights.iter().map(|path| (path.clone(), look(path))).collect(),
        check: check(&device)?,
    })
}

/// The fused operations of a device.
#[derive(Debug)]
pub struct Kernels {
    /// Name of the device.
    pub device: &'static str,
    /// What was found of each, or why it cannot run.
    pub checks: Vec<Result<KernelCheck, DoctorError>>,
}

/// Compares every fused operation on the device with its reference in plain tensor operations on the CPU.
pub fn kernels(choice: DeviceChoice) -> Result<Kernels, DoctorError> {
    let device = choice.open()?;
    let checks = ops::check(&device).into_iter().map(|check| check.map_err(DoctorError::Network)).collect();
    Ok(Kernels { device: name(&device), checks })
}

fn name(device: &Device) -> &'static str {
    if device.is_cpu() { "cpu" } else { "metal" }
}

/// Builds the model over a weights file: every tensor there, none too many. Model and release of it.
pub fn look(path: &Path) -> Result<String, DoctorError> {
    let weights = Weights::open(path, &Device::Cpu)?;
    let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
    match entry("model").as_str() {
        "af2" | "af2-multimer" => drop(AlphaFold2::load(&weights.config()?, &weights)?),
        "esm3" => drop(Trunk::load(&weights.config()?, &weights)?),
        "esm3-structure-encoder" => drop(StructureEncoder::load(&weights.config()?, &weights)?),
        "esm3-structure-decoder" => drop(StructureDecoder::load(&weights.config()?, &weights)?),
        "esm3-function-decoder" => drop(FunctionDecoder::load(&weights.config()?, &weights)?),
        model if model.starts_with("protenix") => drop(Protenix::load(&weights.config()?, &weights)?),
        "mpnn" | "mpnn-soluble" | "mpnn-ca" => drop(ProteinMpnn::load(&weights.config()?, &weights)?),
        "pxdesign" => drop(PxDesign::load(&weights.config()?, &weights)?),
        model if model == weights_convert::ESM3_DATA.0 => drop(Vocabulary::read(path)?),
        _ => drop(OpenFold3::load(&weights.config()?, &weights)?),
    }
    Ok(format!("{} {}", entry("model"), entry("release")))
}

/// Runs the self-check on a device.
pub fn check(device: &Device) -> Result<Check, DoctorError> {
    let positions = predict(device)?;
    let golden: Vec<f32> = GOLDEN.split_whitespace().filter_map(|v| v.parse().ok()).collect();
    let (positions, elapsed) = positions;
    let difference = if golden.len() == positions.len() {
        positions.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    } else {
        f32::INFINITY
    };
    // A NaN is lost in a maximum.
    let difference = if positions.iter().all(|x| x.is_finite()) { difference } else { f32::INFINITY };
    Ok(Check { difference, elapsed })
}

/// Coordinates of the self-check, in Å, and the time they took.
pub fn predict(device: &Device) -> Result<(Vec<f32>, Duration), DoctorError> {
    let query = Query::new("doctor".to_owned(), vec![Chain::new(vec!["A".to_owned()], SEQUENCE.to_owned())]);
    let features = featurise(&query, &Assembly::new(&query), &mut feature_noise(SEED));
    let model = OpenFold3::load(&config::untrained(), &Weights::untrained(WEIGHTS_SEED, device))?;
    let started = Instant::now();
    let batch = model.batch(&features, device)?;
    let mut noise = TorchGenerator::new(SEED.into());
    let trunk = model.trunk(&batch, N_CYCLE, &mut noise, &mut |_| Ok(()), &mut |_, _, _| Ok(()))?;
    let pair = model.diffusion.condition_pair(&batch, &trunk.z)?;
    let diffusion = model.diffusion.condition(&batch, &trunk.s_input, &trunk.s, pair)?;
    let positions = sample(&diffusion, &model.config.sampling, N_STEP, 1, &mut noise, &mut |_| Ok(()))?;
    Ok((positions, started.elapsed()))
}
