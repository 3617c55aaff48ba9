//! Softmax over the last dimension.
use candle_core::{DType, Device, Result, Tensor};
use fold::ops::{softmax, softmax_reference};
use mslcpu::{Build, Order};

use super::{Noise, close, shim};

fn compare(what: &str, x: &Tensor) -> Result<()> {
    let got = shim::in_every_order(what, || softmax(x))?;
    close(&format!("softmax, {what}"), &got, &softmax_reference(&x.contiguous()?)?, 3e-6)
}

/// Rows shorter and longer than a SIMD group, in views that are read where they lie.
#[test]
fn random_rows_and_views() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for _ in 0..6 {
        let dims = [noise.below(3), noise.below(4), noise.below(5), noise.below(150)];
        let x = (noise.tensor(&dims)? * 10.)?;
        compare(&format!("{dims:?}"), &x)?;
        compare(&format!("{dims:?} transposed"), &x.transpose(0, 2)?)?;
        compare(&format!("{dims:?}, other rows"), &x.t()?)?;
    }
    let x = noise.tensor(&[5, 6, 33])?;
    compare("narrowed", &x.narrow(1, 2, 3)?)?;
    compare("narrowed rows", &x.narrow(2, 7, 20)?)?;
    compare("broadcast", &x.narrow(0, 3, 1)?.broadcast_as((2, 6, 33))?)?;
    compare("five dimensions", &noise.tensor(&[2, 1, 3, 2, 9])?.transpose(0, 2)?)?;
    compare("one", &noise.tensor(&[1, 1])?)
}

#[test]
fn extreme_values() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    let x = noise.tensor(&[3, 70])?;
    compare("1e4", &(&x * 1e4)?)?;
    compare("far below zero", &((&x * 30.)? - 1e4)?)?;
    compare("hidden throughout", &Tensor::full(-1e9f32, (2, 70), &Device::Cpu)?)?;
    let hidden = (x.ge(0f32)?.to_dtype(DType::F32)? * -1e9)?;
    compare("hidden in part", &(&x + hidden)?)?;
    let values = Tensor::new(&[[f32::NEG_INFINITY, 1., 2.], [1., f32::NAN, 2.]], &Device::Cpu)?;
    let got = shim::in_every_order("infinite", || softmax(&values)?.narrow(0, 0, 1))?;
    close("softmax, infinite", &got, &softmax_reference(&values.narrow(0, 0, 1)?)?, 3e-6)?;
    let got = shim::with(Build::Plain, Order::Forward, || softmax(&values))?.to_vec2::<f32>()?;
    assert!(got[1].iter().all(|v| v.is_nan()), "what has gone wrong stays visible: {got:?}");
    Ok(())
}
