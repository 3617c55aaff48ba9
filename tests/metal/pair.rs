//! Layers on the pair representation: sizes that fill no tile, two samples, masks.
use candle_core::{Device, Result, Tensor};
use fold::ops::{
    BiasOrder, Edges, Linear, Node, Norm, OuterProductMean, PairWeightedAverage, ReluTransition, SwiGluTransition,
    TriangleAttention, TriangleMultiplication, pair_bias, pair_bias_reference,
};
use fold::weights::Weights;

use super::{Noise, close, shim};

fn weights() -> Weights {
    Weights::untrained(1, &Device::Cpu)
}

/// Ones, and a zero now and then; those of the first row throughout.
fn mask(noise: &mut Noise, b: usize, n: usize) -> Result<Tensor> {
    let hidden = |i: usize| i < n && n > 1;
    let values = noise.values(b * n * n).into_iter().enumerate();
    let values: Vec<f32> = values.map(|(i, v)| f32::from(v > -1. && !hidden(i))).collect();
    Tensor::from_vec(values, (b, n, n), &Device::Cpu)
}

/// What a layer adds to `x`, in every order, against what its reference adds.
fn added(
    what: &str,
    x: &Tensor,
    layer: impl Fn(&Tensor) -> Result<()>,
    reference: impl Fn(&Tensor) -> Result<()>,
) -> Result<()> {
    let got = shim::in_every_order(what, || {
        let x = x.force_contiguous()?;
        layer(&x)?;
        Ok(x)
    })?;
    let want = x.force_contiguous()?;
    reference(&want)?;
    let want = (want - x)?;
    close(what, &(got - x)?, &want, 1e-5)?;
    let got = x.force_contiguous()?;
    shim::in_small_blocks(|| layer(&got))?;
    close(&format!("{what}, in blocks"), &(got - x)?, &want, 1e-5)
}

#[test]
fn biases_of_pairs() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for (dims, c, h) in [(vec![1, 1], 4, 1), (vec![5, 7], 16, 4), (vec![2, 9, 31], 40, 33)] {
        let z = noise.tensor(&[&dims[..], &[c]].concat())?;
        let (norm, lin) = (Norm::load(c, &weights().at("norm"))?, Linear::load(c, h, &weights().at("lin"))?);
        for norm in [None, Some(&norm)] {
            let what = format!("pair bias {dims:?}, {c} to {h}");
            let got = shim::in_every_order(&what, || pair_bias(&z, norm, &lin))?;
            let want = pair_bias_reference(&z, norm, &lin)?;
            close(&what, &got, &want, 3e-6)?;
            let got = shim::in_small_blocks(|| pair_bias(&z, norm, &lin))?;
            close(&format!("{what}, in blocks"), &got, &want, 3e-6)?;
        }
    }
    Ok(())
}

#[test]
fn triangle_multiplication() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    for (b, n, c_z, c) in [(1, 1, 4, 4), (2, 5, 16, 24), (1, 17, 40, 33), (1, 11, 8, 224), (1, 37, 8, 16)] {
        let (z, mask) = (noise.tensor(&[b, n, n, c_z])?, mask(&mut noise, b, n)?);
        for edges in [Edges::Outgoing, Edges::Incoming] {
            let layer = TriangleMultiplication::load(c_z, c, edges, &weights())?;
            let what = format!("triangle multiplication {b} x {n} x {c_z}, {edges:?}");
            added(&what, &z, |z| layer.add_to(z, &mask), |z| layer.add_to_reference(z, &mask))?;
        }
    }
    Ok(())
}

#[test]
fn triangle_attention() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(3);
    let orders = [
        (Node::Starting, BiasOrder::QueryKey),
        (Node::Ending, BiasOrder::QueryKey),
        (Node::Ending, BiasOrder::KeyQuery),
    ];
    for (b, n, c_z, h, d) in [(1, 1, 4, 1, 4), (2, 5, 16, 3, 8), (1, 17, 24, 2, 32)] {
        let (z, mask) = (noise.tensor(&[b, n, n, c_z])?, mask(&mut noise, b, n)?);
        for (node, order) in orders {
            let layer = TriangleAttention::load(c_z, d, h, node, order, &weights())?;
            let what = format!("triangle attention {b} x {n} x {c_z}, {node:?}, {order:?}");
            added(&what, &z, |z| layer.add_to(z, &mask), |z| layer.add_to_reference(z, &mask))?;
        }
    }
    Ok(())
}

#[test]
fn transition_and_layers_of_the_alignment() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(4);
    for (b, r, n, c_m, c, c_z) in [(1, 1, 1, 4, 4, 8), (2, 3, 5, 16, 5, 24), (1, 4, 17, 24, 9, 16)] {
        let (z, mask) = (noise.tensor(&[b, n, n, c_z])?, mask(&mut noise, b, n)?);
        let layer = SwiGluTransition::load(c_z, 2 * c_z, &weights())?;
        for mask in [None, Some(&mask)] {
            let what = format!("transition {b} x {n} x {c_z}");
            added(&what, &z, |z| layer.add_to(z, mask), |z| layer.add_to_reference(z, mask))?;
        }
        let layer = ReluTransition::load(c_z, 4 * c_z, &weights())?;
        for mask in [None, Some(&mask)] {
            let what = format!("ReLU transition {b} x {n} x {c_z}");
            added(&what, &z, |z| layer.add_to(z, mask), |z| layer.add_to_reference(z, mask))?;
        }
        let (m, rows) = (noise.tensor(&[b, r, n, c_m])?, noise.tensor(&[b, r, n])?.ge(-1f32)?);
        let rows = rows.to_dtype(z.dtype())?;
        let layer = OuterProductMean::load(c_m, c, c_z, &weights())?;
        let what = format!("outer product mean {b} x {r} x {n}");
        added(&what, &z, |z| layer.add_to(z, &m, &rows), |z| layer.add_to_reference(z, &m, &rows))?;
        let layer = PairWeightedAverage::load(c_m, c_z, 5, 3, &weights())?;
        let what = format!("pair-weighted average {b} x {r} x {n}");
        added(&what, &m, |m| layer.add_to(m, &z, &mask), |m| layer.add_to_reference(m, &z, &mask))?;
    }
    Ok(())
}
