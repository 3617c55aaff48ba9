//! Attention to all keys, and in windows.
use candle_core::{DType, Device, Result, Tensor};
use fold::ops::{LocalAttention, attention, attention_reference};

use super::{Noise, close, eighths, shim};

/// Lengths around the tiles of 32 and 16, heads of any width, biases of every kind of broadcast.
#[test]
fn ragged_sizes_and_every_width() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for (b, n, m, h, d) in [
        (1, 1, 1, 1, 4),
        (2, 5, 17, 3, 8),
        (1, 33, 31, 2, 24),
        (2, 32, 65, 1, 48),
        (1, 45, 33, 2, 32),
        (1, 31, 64, 1, 64),
        (1, 7, 15, 2, 90),
        (1, 34, 33, 1, 128),
        (1, 9, 70, 2, 13),
    ] {
        let (q, gate) = (noise.tensor(&[b, n, h * d])?, noise.tensor(&[b, n, h * d])?);
        let (k, v) = (noise.tensor(&[b, m, h * d])?, noise.tensor(&[b, m, h * d])?);
        let hidden = hide(&noise.tensor(&[b, 1, 1, m])?)?;
        let pair = (noise.tensor(&[1, h, n, m])? * 5.)?;
        let turned = noise.tensor(&[b, h, m, n])?.t()?;
        let part = noise.tensor(&[b, h + 1, n + 2, m + 3])?.narrow(1, 1, h)?.narrow(2, 2, n)?.narrow(3, 1, m)?;
        for (biases, gate) in
            [(vec![], None), (vec![&hidden], Some(&gate)), (vec![&hidden, &pair, &turned, &part], Some(&gate))]
        {
            let what = format!("attention {b} x {n} x {m}, {h} heads of {d}, {} biases", biases.len());
            let got = shim::in_every_order(&what, || attention(&q, &k, &v, &biases, gate, h))?;
            close(&what, &got, &attention_reference(&q, &k, &v, &biases, gate, h)?, 3e-6)?;
        }
    }
    Ok(())
}

/// -1e9 where a value is far below 0, and at the first key.
fn hide(x: &Tensor) -> Result<Tensor> {
    let hidden = x.le(-1f32)?.to_dtype(DType::F32)? * -1e9;
    let ends = Tensor::full(-1e9f32, x.narrow(3, 0, 1)?.dims(), &Device::Cpu)?;
    Tensor::cat(&[&ends, &hidden?.narrow(3, 1, x.dim(3)? - 1)?], 3)
}

/// Logits of 1e4 and more, all far below 0, rows hidden throughout, tiles that are hidden before one that is not.
#[test]
fn extreme_logits_and_hidden_rows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    let (n, m, h, d) = (18, 70, 2, 16);
    let (q, k) = (eighths(&noise.tensor(&[1, n, h * d])?)?, eighths(&noise.tensor(&[1, m, h * d])?)?);
    let v = noise.tensor(&[1, m, h * d])?;
    let large = eighths(&(noise.tensor(&[1, h, n, m])? * 1e4)?)?;
    let low = (&large - 1e6)?;
    let nothing = Tensor::full(-1e9f32, (1, 1, 1, m), &Device::Cpu)?;
    let late: Vec<f32> = (0..m).map(|i| if i < 40 { -1e9 } else { 0. }).collect();
    let late = Tensor::from_vec(late, (1, 1, 1, m), &Device::Cpu)?;
    let cases = [
        ("large", vec![&large]),
        ("far below zero", vec![&low]),
        ("hidden throughout", vec![&nothing]),
        ("hidden twice", vec![&nothing, &nothing]),
        ("a hidden tile first", vec![&late]),
    ];
    for (what, biases) in cases {
        let what = format!("attention, {what}");
        let got = shim::in_every_order(&what, || attention(&q, &k, &v, &biases, None, h))?;
        close(&what, &got, &attention_reference(&q, &k, &v, &biases, None, h)?, 3e-6)?;
    }
    Ok(())
}

/// Operands that are parts of larger tensors, with rows apart.
#[test]
fn views() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(3);
    let (b, n, h, d) = (2, 21, 2, 24);
    let all = noise.tensor(&[b, n + 3, 4 * h * d])?.narrow(1, 2, n)?;
    let part = |i: usize| all.narrow(2, i * h * d, h * d);
    let (q, k, v, gate) = (part(0)?, part(1)?, part(2)?, part(3)?);
    let what = "attention of views";
    let got = shim::in_every_order(what, || attention(&q, &k, &v, &[], Some(&gate), h))?;
    let whole = [&q, &k, &v, &gate].map(|x| x.contiguous());
    let [q, k, v, gate] = whole;
    let (q, k, v, gate) = (q?, k?, v?, gate?);
    close(what, &got, &attention_reference(&q, &k, &v, &[], Some(&gate), h)?, 3e-6)
}

/// Windows inside, past the end, and hidden throughout.
#[test]
fn windows() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(5);
    for (b, n, h, d, n_query, n_key) in [(1, 5, 1, 4, 32, 128), (2, 100, 2, 32, 32, 128), (1, 40, 1, 8, 7, 12)] {
        let n_block = usize::div_ceil(n, n_query);
        let starts: Vec<usize> = (0..n_block).map(|i| (i * n_query).saturating_sub(n_key / 2)).collect();
        let x = |noise: &mut Noise| noise.tensor(&[b, n, h * d]);
        let (q, k, v, gate) = (x(&mut noise)?, x(&mut noise)?, x(&mut noise)?, x(&mut noise)?);
        for samples in [1, b] {
            let bias = (noise.tensor(&[samples, n_block, h, n_query, n_key])? * 3.)?;
            let hidden = Tensor::full(-1e9f32, (1, 1, 1, 1, n_key), &Device::Cpu)?;
            let first = Tensor::cat(&[&hidden, &hidden.zeros_like()?.repeat((1, 1, 1, n_query - 1, 1))?], 3)?;
            let bias = bias.broadcast_add(&first)?;
            for gate in [None, Some(&gate)] {
                let op = LocalAttention { q: &q, k: &k, v: &v, gate, bias: &bias, starts: &starts };
                let what = format!("windows of {n_query} x {n_key}, {b} x {n} atoms, bias of {samples}");
                let got = shim::in_every_order(&what, || op.forward())?;
                close(&what, &got, &op.forward_reference()?, 3e-6)?;
            }
        }
    }
    Ok(())
}
