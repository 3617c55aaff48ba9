//! What the integration tests share: golden files, comparison, the converted small model.
#![allow(dead_code, reason = "each test binary uses a part of it")]
pub mod mpnn;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use fold::models::af3::config::Config;
use fold::weights::Weights;

/// A file below fixtures/.
pub fn fixture(name: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// `n` values in (-1, 1) that follow from a name: the rule of fixtures/common.py, to the bit.
pub fn uniform(name: &str, seed: u64, n: usize) -> Vec<f64> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let key = hash ^ seed.wrapping_mul(GOLDEN);
    let value = |i: u64| {
        let mut z = i.wrapping_mul(GOLDEN).wrapping_add(key);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 40) as f64 + 0.5) / (1u64 << 23) as f64 - 1.
    };
    (1..=n as u64).map(value).collect()
}

/// Tensors that an official program has made; which, how and with what versions is in the folder's README.
pub struct Golden {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    /// Reads a file, given by its path or its name below fixtures/.
    pub fn open(name: impl AsRef<Path>) -> Result<Self> {
        let path = fixture(name);
        let tensors =
            candle_core::safetensors::load(&path, &Device::Cpu).with_context(|| path.display().to_string())?;
        Ok(Self { path, tensors })
    }

    /// A tensor of the file, as f32.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.get(name).with_context(|| format!("{}: no {name}", self.path.display()))?;
        Ok(tensor.to_dtype(DType::F32)?)
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Largest difference of `got` from `want`, relative to the largest value of `want`. A NaN anywhere, another number of
/// elements, or an all-zero `want` is an error.
pub fn distance(name: &str, got: &Tensor, want: &Tensor) -> Result<f32> {
    let (g, w) = (got.flatten_all()?.to_vec1::<f32>()?, want.flatten_all()?.to_vec1::<f32>()?);
    ensure!(g.len() == w.len(), "{name}: {:?}, expected {:?}", got.dims(), want.dims());
    ensure!(g.iter().chain(&w).all(|v| v.is_finite()), "{name}: not all values are finite");
    let scale = w.iter().fold(0f32, |m, v| m.max(v.abs()));
    ensure!(scale > 0.0, "{name}: the golden tensor is zero throughout");
    Ok(g.iter().zip(&w).map(|(g, w)| (g - w).abs()).fold(0f32, f32::max) / scale)
}

/// Fails unless every element of `got` is within `limit` of the largest value of `want`.
pub fn assert_close(name: &str, got: &Tensor, want: &Tensor, limit: f32) -> Result<()> {
    let d = distance(name, got, want)?;
    println!("{name}: {d:.2e}");
    ensure!(d <= limit, "{name}: differs by {d:.2e} of the largest value, the limit is {limit:.0e}");
    Ok(())
}

/// The small random model of fixtures/openfold3/tiny.pt, converted once a test binary.
pub fn tiny() -> Result<(Config, Weights)> {
    static CONVERTED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = CONVERTED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny.safetensors");
        convert(&fixture("openfold3/tiny.pt"), &fixture("openfold3/tiny_config.json"), &path)
            .expect("tiny.pt converts");
        (folder, path)
    });
    let weights = Weights::open(path, &Device::Cpu)?;
    let config = serde_json::from_str(weights.metadata("config").context("no config in the metadata")?)?;
    Ok((config, weights))
}

fn convert(checkpoint: &Path, config: &Path, target: &Path) -> Result<()> {
    let config = serde_json::from_slice(&std::fs::read(config)?)?;
    let options = weights_convert::Options { config: Some(config), ..Default::default() };
    weights_convert::convert(checkpoint, target, options)?;
    Ok(())
}
