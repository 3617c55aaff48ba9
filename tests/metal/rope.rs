//! Rotary positions of queries and keys, and the attention around them.
use candle_core::{Device, Result, Tensor};
use fold::ops::{Norm, Rope, RopeAttention, norm_rotate, norm_rotate_reference, same_sequence_bias};
use fold::weights::Weights;

use super::{Noise, close, shim};

/// Random sizes, whole and as parts of wider rows, each form of the norm.
#[test]
fn norms_and_rotations() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for _ in 0..6 {
        let (b, n, h, d) = (noise.below(3), noise.below(20), noise.below(3), 2 * noise.below(40));
        let c = h * d;
        let rope = Rope::new(n + noise.below(9), d, &Device::Cpu)?;
        let all = (noise.tensor(&[b, n + 2, 3 * c])? + 1.)?;
        let (w, shift) = (noise.param(&[c])?, noise.param(&[c])?);
        let norms = [
            None,
            Some(Norm::plain(c)),
            Some(Norm::new(Some(w.clone()), None, c)),
            Some(Norm::new(Some(w), Some(shift), c)),
        ];
        let views = [all.narrow(1, 1, n)?.narrow(2, c, c)?, all.narrow(1, 0, n)?.narrow(2, 0, c)?.contiguous()?];
        for (norm, x) in norms.iter().zip(views.iter().cycle()) {
            let what = format!("rotation {b} x {n}, {h} heads of {d}, normed: {}", norm.is_some());
            let got = shim::in_every_order(&what, || norm_rotate(x, norm.as_ref(), &rope, h))?;
            close(&what, &got, &norm_rotate_reference(x, norm.as_ref(), &rope, h)?, 5e-6)?;
        }
    }
    Ok(())
}

#[test]
fn rotary_attention() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    for (b, n, h, d) in [(1, 1, 1, 2), (2, 19, 3, 8), (1, 35, 2, 64)] {
        let (x, rope) = (noise.tensor(&[b, n, h * d])?, Rope::new(n, d, &Device::Cpu)?);
        let layer = RopeAttention::load(h * d, h, &Weights::untrained(1, &Device::Cpu))?;
        let id: Vec<i64> = (0..b * n).map(|i| if i % n < n / 2 { 0 } else { -1 }).collect();
        let bias = same_sequence_bias(&Tensor::from_vec(id, (b, n), &Device::Cpu)?)?;
        for bias in [None, Some(&bias)] {
            let what = format!("rotary attention {b} x {n}, {h} heads of {d}");
            let got = shim::in_every_order(&what, || layer.forward(&x, &rope, bias))?;
            close(&what, &got, &layer.forward_reference(&x, &rope, bias)?, 5e-6)?;
        }
    }
    Ok(())
}
