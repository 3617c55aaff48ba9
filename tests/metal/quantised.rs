//! Products with quantised weights.
use candle_core::{DType, Result, Tensor};
use fold::ops::{Linear, Norm, SwiGluTransition, norm_linear, norm_linear_reference};
use fold::weights::{CodeLayout, Format, Param, Quantised, Weights};
use mslcpu::{Build, Order};

use super::{Noise, close, shim};

/// A layer of made-up codes, with a bias.
fn layer(noise: &mut Noise, k: usize, n: usize, bits: usize, group: usize) -> Result<Linear> {
    let layout = CodeLayout { bits, group, of: Format::F32 };
    let codes = noise.values(n * layout.row_bytes(k)).iter().map(|v| (v * 100.) as i32 as u8).collect();
    let mut floats =
        |scale: f32| noise.values(n * k / group).iter().flat_map(|v| (scale * v).to_le_bytes()).collect::<Vec<u8>>();
    let weight = Quantised::new([n, k], layout, codes, floats(0.5 / (1 << bits) as f32), floats(0.2))?;
    Linear::new(Param::from(weight), Some(noise.param(&[n])?))
}

/// Tiles that are not whole, few rows, every layout; with a norm, in blocks, and added to a tensor.
#[test]
fn layers_of_ragged_sizes() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for (m, k, n) in [(1, 64, 1), (3, 128, 21), (5, 32, 33), (32, 192, 32), (45, 128, 70)] {
        for bits in [4, 8] {
            for group in [32, 64, 128].into_iter().filter(|group| k % group == 0) {
                let (x, lin) = (noise.tensor(&[1, m, k])?, layer(&mut noise, k, n, bits, group)?);
                let what = format!("quantised {m} x {k} x {n}, {bits} bits in {group}");
                let want = lin.forward_reference(&x)?;
                close(&what, &shim::in_every_order(&what, || lin.forward(&x))?, &want, 5e-6)?;
                let norm = Norm::new(Some(noise.param(&[k])?), None, k);
                let got = shim::in_small_blocks(|| norm_linear(&x, &norm, &lin))?;
                close(&format!("{what}, normed"), &got, &norm_linear_reference(&x, &norm, &lin)?, 5e-6)?;
                let dst = noise.tensor(&[m, n])?;
                let want = (&dst + want.squeeze(0)?)?;
                shim::with(Build::Sanitized, Order::Forward, || lin.add_to(&dst, &x))?;
                close(&format!("{what}, added"), &dst, &want, 5e-6)?;
            }
        }
    }
    Ok(())
}

/// Rows stored in 16 bits.
#[test]
fn rows_of_16_bits() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    for (dtype, limit) in [(DType::F16, 2e-3), (DType::BF16, 1.6e-2)] {
        for m in [2, 40] {
            let (x, lin) = (noise.tensor(&[m, 64])?.to_dtype(dtype)?, layer(&mut noise, 64, 35, 4, 32)?);
            let want = lin.forward_reference(&x.to_dtype(DType::F32)?)?;
            let got = shim::with(Build::Sanitized, Order::Forward, || lin.forward(&x))?;
            assert_eq!(got.dtype(), dtype);
            close(&format!("quantised layer on {m} rows of {dtype:?}"), &got, &want, limit)?;
        }
    }
    Ok(())
}

/// A transition whose three weights are codes, read from a file.
#[test]
fn a_transition() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(3);
    let (c, hidden) = (64, 96);
    let mut tensors: Vec<(String, Tensor)> = vec![("norm.weight".to_owned(), noise.tensor(&[c])?)];
    for (name, n, k) in [("a", hidden, c), ("b", hidden, c), ("out", c, hidden)] {
        let words = noise.values(n * k / 8).iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        tensors.push((format!("{name}.weight"), Tensor::from_vec(words, (n, k / 8), &candle_core::Device::Cpu)?));
        tensors.push((format!("{name}.scales"), (noise.tensor(&[n, k / 32])? * 0.02)?));
        tensors.push((format!("{name}.biases"), (noise.tensor(&[n, k / 32])? * 0.1)?));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path)?;
    let transition = SwiGluTransition::load(c, hidden, &Weights::open(&path, &candle_core::Device::Cpu)?)?;
    let x = noise.tensor(&[1, 37, c])?;
    let (got, want) = (x.copy()?, x.copy()?);
    shim::in_small_blocks(|| transition.add_to(&got, None))?;
    transition.add_to_reference(&want, None)?;
    close("quantised transition", &(got - &x)?, &(want - &x)?, 1e-5)
}
