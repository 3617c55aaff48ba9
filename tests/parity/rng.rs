//! fixtures/openfold3/rng.py: torch's CPU generator, one stream of mixed calls per seed.
use anyhow::{Result, bail, ensure};
use candle_core::{Device, Tensor};
use fold::features::noise::{NoiseSource, TorchGenerator};

use crate::common::fixture;

/// Of a normal value: torch's vectorised logarithm and cosine differ from ours in the last digits.
const NORMAL: f32 = 5e-7;

#[derive(serde::Deserialize)]
struct Streams {
    seeds: Vec<u64>,
    stream: Vec<Call>,
}

#[derive(serde::Deserialize)]
struct Call {
    call: String,
    args: Vec<u64>,
}

/// A `torch.rand` in float64: 53 bits of 64.
fn uniform_f64(generator: &mut TorchGenerator) -> f64 {
    (generator.next_u64() & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
}

/// `torch.randint(low, high, (1,))`: one word while the span is below 2^32, two above.
fn randint(generator: &mut TorchGenerator, low: u64, high: u64) -> u64 {
    match (u32::try_from(low), u32::try_from(high)) {
        (Ok(low), Ok(high)) => u64::from(generator.randint(low, high)),
        _ => low + generator.next_u64() % (high - low),
    }
}

/// Largest difference of the normals of a call; anything else must be the same to the bit.
fn compare(generator: &mut TorchGenerator, call: &Call, want: &Tensor) -> Result<f32> {
    let (args, n) = (&call.args, want.elem_count());
    let want = want.flatten_all()?;
    let normals = |got: Vec<f32>, want: Vec<f32>| {
        got.iter().zip(&want).map(|(a, b)| (a - b).abs() / b.abs().max(1.)).fold(0f32, f32::max)
    };
    match call.call.as_str() {
        "randn" => return Ok(normals(generator.randn(n), want.to_vec1()?)),
        // Scalar normals are made in float64 whatever the type. Blocks of float64 no model draws: their 64-bit words, and
        // 16 more for the tail, only keep the place in the stream.
        "randn64" if n < 16 => {
            let want = want.to_vec1::<f64>()?.into_iter().map(|v| v as f32).collect();
            return Ok(normals(generator.randn(n), want));
        }
        "randn64" => {
            let words = if n.is_multiple_of(16) { n } else { n + 16 };
            (0..words).for_each(|_| _ = generator.next_u64());
        }
        "rand" => {
            let got: Vec<f32> = (0..n).map(|_| generator.uniform()).collect();
            ensure!(got == want.to_vec1::<f32>()?, "rand differs");
        }
        "rand64" => {
            let got: Vec<f64> = (0..n).map(|_| uniform_f64(generator)).collect();
            ensure!(got == want.to_vec1::<f64>()?, "rand in float64 differs");
        }
        "randint" => {
            let got: Vec<i64> = (0..n).map(|_| randint(generator, args[0], args[1]) as i64).collect();
            ensure!(got == want.to_vec1::<i64>()?, "randint differs");
        }
        "randperm" => {
            let got: Vec<i64> = generator.randperm(n).into_iter().map(|i| i as i64).collect();
            ensure!(got == want.to_vec1::<i64>()?, "randperm differs");
        }
        other => bail!("no such call: {other}"),
    }
    Ok(0.)
}

#[test]
fn torch_generator() -> Result<()> {
    let tensors = candle_core::safetensors::load(fixture("openfold3/rng.safetensors"), &Device::Cpu)?;
    let streams: Streams = serde_json::from_slice(&std::fs::read(fixture("openfold3/rng.json"))?)?;
    let mut worst = 0f32;
    for seed in streams.seeds {
        let mut generator = TorchGenerator::new(seed);
        for (i, call) in streams.stream.iter().enumerate() {
            let name = format!("s{seed}.{i:02}.{}", call.call);
            let distance = compare(&mut generator, call, &tensors[&name]).map_err(|e| e.context(name.clone()))?;
            ensure!(distance <= NORMAL, "{name}: differs by {distance:.1e}");
            worst = worst.max(distance);
        }
    }
    println!("torch_generator.randn: {worst:.2e}");
    Ok(())
}
