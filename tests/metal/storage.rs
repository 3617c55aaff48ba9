//! Every kernel on values stored in half precision (f16 and bf16), sums in single.
use candle_core::{DType, Device, Result, Tensor};
use fold::ops::metal::{planes, planes_norm};
use fold::ops::*;
use fold::weights::Weights;
use mslcpu::{Build, Order};

use super::{Noise, close, shim};

/// How far a value that is rounded a few times may be off, of the largest.
const TYPES: [(DType, f32); 2] = [(DType::F16, 2e-3), (DType::BF16, 1.6e-2)];

/// Compares what `op` makes of values stored as `dtype` with what `reference` makes of the same values in single.
fn compare<const N: usize>(
    what: &str,
    (dtype, limit): (DType, f32),
    x: [&Tensor; N],
    op: impl Fn([&Tensor; N]) -> Result<Tensor>,
    reference: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> Result<()> {
    let stored = x.map(|x| x.to_dtype(dtype).expect("any number has one nearest"));
    let single = stored.each_ref().map(|x| x.to_dtype(DType::F32).expect("exact"));
    let got = shim::with(Build::Sanitized, Order::Forward, || op(stored.each_ref()))?;
    assert_eq!(got.dtype(), dtype, "{what}");
    close(&format!("{what}, {dtype:?}"), &got, &reference(single.each_ref())?, limit)
}

#[test]
fn rows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    let x = noise.tensor(&[2, 11, 96])?;
    let norm = Norm::new(Some(noise.param(&[96])?), Some(noise.param(&[96])?), 96);
    let rope = Rope::new(11, 24, &Device::Cpu)?;
    for dtype in TYPES {
        compare("layer norm", dtype, [&x], |[x]| norm.forward(x), |[x]| norm.forward_reference(x))?;
        let turned = |[x]: [&Tensor; 1]| norm_rotate(x, Some(&norm), &rope, 4);
        compare("rotation", dtype, [&x], turned, |[x]| norm_rotate_reference(x, Some(&norm), &rope, 4))?;
        compare("softmax", dtype, [&(&x * 5.)?], |[x]| softmax(x), |[x]| softmax_reference(x))?;
    }
    Ok(())
}

#[test]
fn gates_and_sums() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    let (x, y, g) = (noise.tensor(&[3, 7, 40])?, noise.tensor(&[3, 7, 40])?, noise.tensor(&[7, 40])?);
    let changed = |x: &Tensor, change: &dyn Fn(&Tensor) -> Result<()>| {
        let x = x.force_contiguous()?;
        change(&x)?;
        Ok(x)
    };
    for dtype in TYPES {
        compare("sigmoid", dtype, [&x], |[x]| sigmoid(x), |[x]| candle_nn::ops::sigmoid(x))?;
        compare("relu", dtype, [&x], |[x]| relu(x), |[x]| x.relu())?;
        let gate = |[x, y]: [&Tensor; 2]| sigmoid_gate(x, y);
        compare("sigmoid gate", dtype, [&x, &y], gate, |[x, y]| sigmoid_gate_reference(x, y))?;
        compare("silu gate", dtype, [&x, &y], |[x, y]| silu_gate(x, y), |[x, y]| silu_gate_reference(x, y))?;
        compare(
            "add",
            dtype,
            [&x, &g],
            |[x, g]| changed(x, &|x| add_in_place(x, g)),
            |[x, g]| changed(x, &|x| add_in_place_reference(x, g)),
        )?;
        compare(
            "add product",
            dtype,
            [&x, &g, &y],
            |[x, g, y]| changed(x, &|x| gate_add(x, g, y)),
            |[x, g, y]| changed(x, &|x| gate_add_reference(x, g, y)),
        )?;
        compare(
            "add gated",
            dtype,
            [&x, &y, &g],
            |[x, y, g]| changed(x, &|x| add_sigmoid_gate(x, y, g)),
            |[x, y, g]| changed(x, &|x| add_sigmoid_gate_reference(x, y, g)),
        )?;
    }
    Ok(())
}

fn windowed<'a>([q, k, v, gate, bias]: [&'a Tensor; 5]) -> LocalAttention<'a> {
    LocalAttention { q, k, v, gate: Some(gate), bias, starts: &[0, 9] }
}

#[test]
fn attention_to_all_and_in_windows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(3);
    let (n, h, d) = (40, 2, 24);
    let mut next = |dims: &[usize]| noise.tensor(dims);
    let [q, k, v, gate] = [next(&[2, n, h * d])?, next(&[2, n, h * d])?, next(&[2, n, h * d])?, next(&[2, n, h * d])?];
    let (pair, windows) = (next(&[1, h, n, n])?, next(&[1, 2, h, 32, 128])?);
    for dtype in TYPES {
        compare(
            "attention",
            dtype,
            [&q, &k, &v, &gate, &pair],
            |[q, k, v, gate, pair]| attention(q, k, v, &[pair], Some(gate), h),
            |[q, k, v, gate, pair]| attention_reference(q, k, v, &[pair], Some(gate), h),
        )?;
        compare(
            "windows",
            dtype,
            [&q, &k, &v, &gate, &windows],
            |x| windowed(x).forward(),
            |x| windowed(x).forward_reference(),
        )?;
    }
    Ok(())
}

#[test]
fn planes_of_rows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(4);
    let (x, g, mask) = (noise.tensor(&[45, 33])?, noise.tensor(&[45, 33])?, noise.tensor(&[45])?.ge(0f32)?);
    let mask = mask.to_dtype(DType::F32)?;
    let (scale, shift) = (noise.tensor(&[33])?, noise.tensor(&[33])?);
    for dtype in TYPES {
        let turned = |[x, g, mask]: [&Tensor; 3]| {
            let dst = Tensor::zeros((33, 45), x.dtype(), x.device())?;
            planes(&dst, x, Some(g), Some(mask))?.run()
        };
        let reference =
            |[x, g, mask]: [&Tensor; 3]| sigmoid_gate_reference(x, g)?.broadcast_mul(&mask.unsqueeze(1)?)?.t();
        compare("planes", dtype, [&x, &g, &mask], turned, reference)?;
        let reference = |[x, w, b]: [&Tensor; 3]| {
            Norm::plain(33).forward_reference(&x.t()?.contiguous()?)?.broadcast_mul(w)?.broadcast_add(b)
        };
        let normed = |[x, w, b]: [&Tensor; 3]| planes_norm(x, Some(w), Some(b))?.run();
        compare("norm of planes", dtype, [&x.t()?.contiguous()?, &scale, &shift], normed, reference)?;
    }
    Ok(())
}

/// A layer of several kernels and products; bf16 is left out because candle has no such products on the CPU.
#[test]
fn a_layer() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(5);
    let (z, mask) = (noise.tensor(&[1, 9, 9, 32])?, noise.tensor(&[1, 9, 9])?.ge(-1f32)?.to_dtype(DType::F32)?);
    let layer = TriangleMultiplication::load(32, 24, Edges::Outgoing, &Weights::untrained(1, &Device::Cpu))?;
    let changed = |z: &Tensor, change: &dyn Fn(&Tensor) -> Result<()>| {
        let z = z.force_contiguous()?;
        change(&z)?;
        Ok(z)
    };
    compare(
        "triangle multiplication",
        TYPES[0],
        [&z, &mask],
        |[z, mask]| changed(z, &|z| layer.add_to(z, mask)),
        |[z, mask]| changed(z, &|z| layer.add_to_reference(z, mask)),
    )
}
