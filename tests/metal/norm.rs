//! Layer norm and adaptive layer norm.
use candle_core::{Result, Tensor};
use fold::ops::{Linear, Norm, norm_linear, norm_linear_in_place, norm_linear_reference};
use mslcpu::{Build, Order};

use super::{Noise, close, shim};

#[test]
fn norms_of_ragged_rows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for (rows, c) in [(1, 1), (9, 24), (17, 128), (3, 130), (8, 833)] {
        let x = (noise.tensor(&[rows, c])? + 3.)?;
        let (w, b) = (noise.param(&[c])?, noise.param(&[c])?);
        let norms = [
            Norm::plain(c),
            Norm::new(Some(w.clone()), None, c),
            Norm::new(None, Some(b.clone()), c),
            Norm::new(Some(w), Some(b), c),
        ];
        for (i, norm) in norms.iter().enumerate() {
            let what = format!("layer norm {rows} x {c}, form {i}");
            let got = shim::in_every_order(&what, || norm.forward(&x))?;
            close(&what, &got, &norm.forward_reference(&x)?, 2e-6)?;
            let changed = x.force_contiguous()?;
            shim::with(Build::Plain, Order::Forward, || norm.in_place(&changed))?;
            close(&format!("{what}, in place"), &changed, &got, 0.)?;
        }
    }
    Ok(())
}

/// Narrowed and transposed views, which are read where they lie.
#[test]
fn norms_of_views() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    let z = noise.tensor(&[2, 7, 5, 12])?;
    let norm = Norm::new(Some(noise.param(&[12])?), Some(noise.param(&[12])?), 12);
    let views = [
        ("transposed", z.transpose(1, 2)?),
        ("narrowed", z.narrow(1, 2, 3)?),
        ("both", z.narrow(1, 2, 3)?.transpose(1, 2)?.narrow(2, 1, 2)?),
        ("channels apart", noise.tensor(&[2, 12, 5])?.transpose(1, 2)?),
        ("broadcast", z.narrow(0, 0, 1)?.broadcast_as((3, 7, 5, 12))?),
    ];
    for (what, view) in &views {
        let got = shim::in_every_order(what, || norm.forward(view))?;
        close(&format!("layer norm, {what}"), &got, &norm.forward_reference(view)?, 2e-6)?;
    }
    let constant = Tensor::full(7f32, (3, 40), z.device())?;
    let got = shim::in_every_order("constant", || Norm::plain(40).forward(&constant))?;
    close("layer norm of a constant", &got, &constant.zeros_like()?, 0.)
}

/// The norm and a dense layer, whole and in blocks, also in place.
#[test]
fn norms_and_layers() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(5);
    for (dims, n) in [([1, 1, 4], 1), ([2, 9, 24], 5), ([3, 50, 33], 70)] {
        let (x, c) = (noise.tensor(&dims)?, dims[2]);
        let norm = Norm::new(Some(noise.param(&[c])?), Some(noise.param(&[c])?), c);
        let lin = Linear::new(noise.param(&[n, c])?, Some(noise.param(&[n])?))?;
        let want = norm_linear_reference(&x, &norm, &lin)?;
        let what = format!("layer norm and layer {dims:?} to {n}");
        close(&what, &shim::in_every_order(&what, || norm_linear(&x, &norm, &lin))?, &want, 3e-6)?;
        close(&format!("{what}, in blocks"), &shim::in_small_blocks(|| norm_linear(&x, &norm, &lin))?, &want, 3e-6)?;
        let square = Linear::new(noise.param(&[c, c])?, None)?;
        let want = norm_linear_reference(&x, &norm, &square)?;
        shim::in_small_blocks(|| norm_linear_in_place(&x, &norm, &square))?;
        close(&format!("{what}, in place"), &x, &want, 3e-6)?;
    }
    Ok(())
}
