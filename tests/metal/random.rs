//! Each kernel on operands drawn at random: sizes, views, masks, values far from 0. Sanitized, in a random order of threads.
use candle_core::{D, DType, Device, Result, Tensor};
use fold::ops::metal::{planes, planes_norm};
use fold::ops::*;
use mslcpu::{Build, Order};

use super::{Noise, close, eighths, shim};

/// Of the largest value of the reference.
const LIMIT: f32 = 1e-5;
const CASES: usize = 10;

fn compare(what: &str, case: usize, op: impl FnOnce() -> Result<Tensor>, want: &Tensor) -> Result<()> {
    let got = shim::with(Build::Sanitized, Order::Random(case as u32 + 1), op)?;
    close(&format!("random {what}, case {case}"), &got, want, LIMIT)
}

/// A view `[.., c]` of up to four dimensions: whole, narrowed, with two dimensions exchanged, or repeated.
fn view(noise: &mut Noise, dims: &[usize]) -> Result<Tensor> {
    let last = dims.len() - 1;
    match noise.below(4) {
        1 if last > 0 => {
            let i = noise.below(last) - 1;
            let mut whole = dims.to_vec();
            whole[i] += 3;
            noise.tensor(&whole)?.narrow(i, noise.below(4) - 1, dims[i])
        }
        2 if last > 1 => {
            let mut turned = dims.to_vec();
            turned.swap(0, last - 1);
            noise.tensor(&turned)?.transpose(0, last - 1)
        }
        3 if last > 0 => {
            let mut one = dims.to_vec();
            one[0] = 1;
            noise.tensor(&one)?.broadcast_as(dims)
        }
        _ => noise.tensor(dims),
    }
}

/// `n` sizes from 1 to `most`.
fn sizes(noise: &mut Noise, n: usize, most: usize) -> Vec<usize> {
    (0..n).map(|_| noise.below(most)).collect()
}

/// The layer norm in double precision: far from 0 that in single is not right to 1e-5 itself.
fn norm_in_double(x: &Tensor, scale: Option<&Tensor>, shift: Option<&Tensor>) -> Result<Tensor> {
    let x = x.to_dtype(DType::F64)?;
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let x = x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?)?.to_dtype(DType::F32)?;
    let x = scale.map_or(Ok(x.clone()), |scale| x.broadcast_mul(scale))?;
    shift.map_or(Ok(x.clone()), |shift| x.broadcast_add(shift))
}

#[test]
fn norms() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(11);
    for case in 0..CASES {
        let rank = noise.below(4);
        let mut dims = sizes(&mut noise, rank - 1, 9);
        let c = noise.below(200) + 1;
        dims.push(c);
        let mean = [0., 1., 1e3, -1e4][case % 4];
        let x = (view(&mut noise, &dims)? + mean)?;
        let (scale, shift) = (noise.param(&[c])?, noise.param(&[c])?);
        let tensor = |p: &fold::weights::Param| p.tensor(&Device::Cpu);
        let want = norm_in_double(&x, Some(&tensor(&scale)?), Some(&tensor(&shift)?))?;
        let norm = Norm::new(Some(scale), Some(shift), c);
        compare(&format!("layer norm {dims:?} about {mean}"), case, || norm.forward(&x), &want)?;

        let (rows, c) = (noise.below(70), noise.below(223) + 1);
        let x = (view(&mut noise, &[c, rows + 5])?.contiguous()?.narrow(1, noise.below(6) - 1, rows)? + mean)?;
        let (scale, shift) = (noise.tensor(&[c])?, noise.tensor(&[c])?);
        let want = norm_in_double(&x.t()?.contiguous()?, Some(&scale), Some(&shift))?;
        let what = format!("norm of {c} planes of {rows} about {mean}");
        compare(&what, case, || planes_norm(&x, Some(&scale), Some(&shift))?.run(), &want)?;

        let (b, n, h, d) = (noise.below(3), noise.below(12), noise.below(4), 2 * noise.below(30));
        let (x, rope) = ((view(&mut noise, &[b, n, h * d])? + mean)?, Rope::new(n, d, &Device::Cpu)?);
        let want = norm_rotate_reference(&norm_in_double(&x, None, None)?, None, &rope, h)?;
        let what = format!("rotation of {b} x {n}, {h} heads of {d} about {mean}");
        let norm = Norm::plain(h * d);
        compare(&what, case, || norm_rotate(&x, Some(&norm), &rope, h), &want)?;
    }
    Ok(())
}

#[test]
fn elementwise() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(12);
    for case in 0..CASES {
        let rank = noise.below(4);
        let dims = sizes(&mut noise, rank, 12);
        let factor = [1., 30., 1e4, 1e9][case % 4];
        let (x, g) = ((view(&mut noise, &dims)? * factor)?, (view(&mut noise, &dims)? * factor)?);
        let what = |name: &str| format!("{name} of {dims:?}, about {factor}");
        compare(&what("sigmoid"), case, || sigmoid(&x), &candle_nn::ops::sigmoid(&x)?)?;
        compare(&what("relu"), case, || relu(&x), &x.relu()?)?;
        compare(&what("sigmoid gate"), case, || sigmoid_gate(&x, &g), &sigmoid_gate_reference(&x, &g)?)?;
        compare(&what("silu gate"), case, || silu_gate(&x, &g), &silu_gate_reference(&x, &g)?)?;
        compare(&what("softmax"), case, || softmax(&x), &softmax_reference(&x.contiguous()?)?)?;

        // Each operand lacks some dimensions, or has 1 there.
        let part = |noise: &mut Noise| {
            let first = noise.below(rank) - 1;
            let dims = dims[first..].iter().map(|d| if noise.below(3) == 1 { 1 } else { *d }).collect::<Vec<_>>();
            noise.tensor(&dims)? * factor
        };
        let (x, g) = (part(&mut noise)?, part(&mut noise)?);
        let mut turned = dims.clone();
        turned.reverse();
        let dst = noise.tensor(&turned)?;
        // The destination is the whole tensor in reverse order of its dimensions, so that nothing of it is contiguous.
        let reversed: Vec<usize> = (0..rank).rev().collect();
        let changed = |change: &dyn Fn(&Tensor) -> Result<()>| {
            let dst = dst.force_contiguous()?;
            change(&dst.permute(reversed.as_slice())?)?;
            Ok(dst)
        };
        let want =
            |added: Tensor| dst.permute(reversed.as_slice())?.broadcast_add(&added)?.permute(reversed.as_slice());
        compare(&what("add"), case, || changed(&|d| add_in_place(d, &x)), &want(x.clone())?)?;
        compare(&what("add product"), case, || changed(&|d| gate_add(d, &g, &x)), &want(x.broadcast_mul(&g)?)?)?;
        let gated = x.broadcast_mul(&candle_nn::ops::sigmoid(&g)?)?;
        compare(&what("add gated"), case, || changed(&|d| add_sigmoid_gate(d, &x, &g)), &want(gated)?)?;
    }
    Ok(())
}

#[test]
fn planes_of_views() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(13);
    for case in 0..CASES {
        let (rows, c) = (noise.below(80), noise.below(70));
        let factor = [1., 1e4][case % 2];
        let x = (view(&mut noise, &[c, rows])?.t()? * factor)?;
        let (g, mask) = ((view(&mut noise, &[rows, c])? * factor)?, noise.tensor(&[rows])?.ge(0f32)?);
        let mask = mask.to_dtype(DType::F32)?;
        let (g, mask) = ((case % 3 > 0).then_some(&g), (case % 5 > 0).then_some(&mask));
        let want = g.map_or(Ok(x.clone()), |g| sigmoid_gate_reference(&x, g))?;
        let want = mask.map_or(Ok(want.clone()), |mask| want.broadcast_mul(&mask.unsqueeze(1)?))?;
        // Into the middle of a larger tensor, what is beside it staying as it is.
        let around = noise.tensor(&[c, rows + 7])?;
        let first = noise.below(8) - 1;
        let rest = around.narrow(1, first + rows, 7 - first)?;
        let want = Tensor::cat(&[&around.narrow(1, 0, first)?, &want.t()?, &rest], 1)?;
        let op = || {
            let dst = around.force_contiguous()?;
            planes(&dst.narrow(1, first, rows)?, &x, g, mask)?.run()?;
            Ok(dst)
        };
        compare(&format!("planes of {rows} x {c}, about {factor}"), case, op, &want)?;
    }
    Ok(())
}

/// -1e9 for about every fourth, and throughout for one row or sample.
fn hidden(noise: &mut Noise, dims: &[usize]) -> Result<Tensor> {
    let mask = (noise.tensor(dims)?.le(-0.7f32)?.to_dtype(DType::F32)? * -1e9)?;
    let nothing = Tensor::full(-1e9f32, mask.narrow(0, 0, 1)?.dims(), &Device::Cpu)?;
    Tensor::cat(&[&mask.narrow(0, 0, dims[0] - 1)?, &nothing], 0)
}

/// Biases of any broadcast and any strides, rows hidden throughout, logits of 1e4.
#[test]
fn attention_to_all() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(14);
    for case in 0..CASES {
        let (b, n, m, h) = (noise.below(3), noise.below(50), noise.below(80), noise.below(3));
        let d = [4, 16, 16, 64][case % 4]; // widths whose root is exact too
        let factor = [1., 30., 1e4][case % 3];
        let rows = |noise: &mut Noise, n: usize| eighths(&view(noise, &[b, n, h * d])?);
        let wide = eighths(&noise.tensor(&[b, n, 2 * h * d])?)?;
        let (q, gate) = (wide.narrow(2, 0, h * d)?, wide.narrow(2, h * d, h * d)?);
        let (k, v) = (rows(&mut noise, m)?, rows(&mut noise, m)?);
        let keys = hidden(&mut noise, &[b, 1, 1, m])?;
        let queries = hidden(&mut noise, &[n, 1, 1, 1])?.reshape((1, 1, n, 1))?;
        let pair = eighths(&(noise.tensor(&[h, n, m])? * factor)?)?;
        let turned = eighths(&(noise.tensor(&[b, 1, m + 1, n])? * factor)?)?.t()?.narrow(3, 1, m)?;
        let all = [&keys, &pair, &turned, &queries];
        let biases = &all[..noise.below(5) - 1];
        let gate = (case % 2 == 0).then_some(&gate);
        let whole = gate.map(Tensor::contiguous).transpose()?;
        let want = attention_reference(&q.contiguous()?, &k, &v, biases, whole.as_ref(), h)?;
        let what = format!("attention {b} x {n} x {m}, {h} heads of {d}, {} biases about {factor}", biases.len());
        compare(&what, case, || attention(&q, &k, &v, biases, gate, h), &want)?;
    }
    Ok(())
}

#[test]
fn attention_in_windows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(15);
    for case in 0..CASES {
        let (b, n, h) = (noise.below(3), noise.below(90), noise.below(3));
        let (d, n_query, n_key) = ([4, 16, 64][case % 3], noise.below(32), noise.below(140));
        let n_block = n.div_ceil(n_query);
        // A window that begins past the end sees nothing, which the reference gives no number for.
        let starts: Vec<usize> = (0..n_block).map(|_| noise.below(n) - 1).collect();
        let factor = [1., 1e4][case % 2];
        let wide = eighths(&noise.tensor(&[b, n, 4 * h * d])?)?;
        let part = |i: usize| wide.narrow(2, i * h * d, h * d);
        let (q, k, v, gate) = (part(0)?, part(1)?, part(2)?, part(3)?);
        let samples = if case % 3 == 0 { b } else { 1 };
        let bias = eighths(&(noise.tensor(&[samples, n_block, h, n_key, n_query])? * factor)?)?.t()?;
        let bias = bias.broadcast_add(&hidden(&mut noise, &[n_query, 1])?)?;
        let gate = (case % 2 == 0).then_some(&gate);
        let op = LocalAttention { q: &q, k: &k, v: &v, gate, bias: &bias, starts: &starts };
        let what = format!("windows of {n_query} x {n_key}, {b} x {n}, {h} heads of {d} about {factor}");
        compare(&what, case, || op.forward(), &op.forward_reference()?)?;
    }
    Ok(())
}
