//! Time, arithmetic and memory of each stage of a prediction on this machine.
pub mod af2;
pub mod esm3;
pub mod openfold3;
pub mod pxdesign;

use serde_json::{Value, json};

use crate::device;
use crate::features::noise::{NoiseSource, TorchGenerator};

/// Seed of the random weights, the sequence and the alignment.
const SEED: u32 = 1;
/// Rounds in which the gemm peak is looked for.
const PEAK_ROUNDS: usize = 8;

/// A stage of one prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Tokens or residues of the chain.
    pub n_token: usize,
    /// Its atoms; `None` in a model without.
    pub n_atom: Option<usize>,
    /// What was timed.
    pub stage: &'static str,
    /// How often it was run; the time is the median, the memory the largest.
    pub n_call: usize,
    /// Seconds a call.
    pub seconds: f64,
    /// Floating-point operations of a call's products; none counted for what is not made of them.
    pub flop: f64,
    /// The most memory held during the stage, weights not counted, in bytes; `None` where it is not known: on a GPU.
    pub peak_bytes: Option<usize>,
    /// U: bytes of the pair representation; `None` in a model without.
    pub pair_bytes: Option<usize>,
    /// The machine's f32 gemm peak in operations a second, on the CPU.
    pub gemm_peak: Option<f64>,
}

impl Row {
    /// Operations a second.
    pub fn flop_per_second(&self) -> f64 {
        self.flop / self.seconds
    }

    /// Of the machine's gemm peak.
    pub fn fraction_of_peak(&self) -> Option<f64> {
        self.gemm_peak.filter(|_| self.flop > 0.0).map(|peak| self.flop_per_second() / peak)
    }

    /// The most memory in units of the pair representation.
    pub fn peak_in_u(&self) -> Option<f64> {
        Some(self.peak_bytes? as f64 / self.pair_bytes? as f64)
    }

    /// One JSON object.
    pub fn record(&self, model: &str) -> Value {
        let round = |x: f64, digits: i32| (x * 10f64.powi(digits)).round() / 10f64.powi(digits);
        json!({
            "model": model,
            "tokens": self.n_token,
            "atoms": self.n_atom,
            "stage": self.stage,
            "calls": self.n_call,
            "seconds": round(self.seconds, 5),
            "gflop": round(self.flop * 1e-9, 2),
            "gflop_per_s": round(self.flop_per_second() * 1e-9, 1),
            "fraction_of_gemm_peak": self.fraction_of_peak().map(|x| round(x, 3)),
            "peak_bytes": self.peak_bytes,
            "peak_u": self.peak_in_u().map(|x| round(x, 3)),
            "threads": device::threads(),
        })
    }
}

/// `n` amino acids, 0-19.
fn letters(noise: &mut TorchGenerator, n: usize) -> Vec<u8> {
    (0..n).map(|_| noise.randint(0, 20) as u8).collect()
}
