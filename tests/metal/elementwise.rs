//! Gates, activations, and sums in place.
use candle_core::{Device, Result, Tensor};
use candle_nn::ops;
use fold::ops::{
    add_in_place, add_in_place_reference, add_sigmoid_gate, add_sigmoid_gate_reference, gate_add, gate_add_reference,
    relu, sigmoid, sigmoid_gate, sigmoid_gate_reference, silu_gate, silu_gate_reference,
};

use super::{Noise, close, shim};

#[test]
fn gates_and_activations() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    for n in [1, 255, 257] {
        let (x, g) = ((noise.tensor(&[n])? * 4.)?, (noise.tensor(&[n])? * 4.)?);
        compare("sigmoid gate", || sigmoid_gate(&x, &g), sigmoid_gate_reference(&x, &g)?)?;
        compare("silu gate", || silu_gate(&x, &g), silu_gate_reference(&x, &g)?)?;
        compare("sigmoid", || sigmoid(&x), ops::sigmoid(&x)?)?;
        compare("relu", || relu(&x), x.relu()?)?;
    }
    let (x, g) = (noise.tensor(&[4, 6])?.t()?, noise.tensor(&[9, 4])?.narrow(0, 2, 6)?);
    compare("sigmoid gate of views", || sigmoid_gate(&x, &g), sigmoid_gate_reference(&x, &g)?)?;
    let x = Tensor::new(&[-1e9f32, -1e3, -90., -20., -0., 20., 90., 1e3, 1e9], &Device::Cpu)?;
    compare("sigmoid of extremes", || sigmoid(&x), ops::sigmoid(&x)?)?;
    compare("silu of extremes", || silu_gate(&x, &x.ones_like()?), x.silu()?)
}

fn compare(what: &str, f: impl Fn() -> Result<Tensor>, want: Tensor) -> Result<()> {
    close(what, &shim::in_every_order(what, f)?, &want, 1e-6)
}

#[test]
fn changes_in_place() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(2);
    for (dims, part) in [(vec![3, 5, 7], vec![5, 7]), (vec![3, 5, 7], vec![1, 5, 1]), (vec![2, 4, 9, 8], vec![8])] {
        let (dst, x, g) = (noise.tensor(&dims)?, noise.tensor(&part)?, noise.tensor(&part)?);
        let all = noise.tensor(&dims)?;
        change("add", &dst, |d| add_in_place(d, &x), |d| add_in_place_reference(d, &x))?;
        change("add product", &dst, |d| gate_add(d, &g, &all), |d| gate_add_reference(d, &g, &all))?;
        let gated = |d: &Tensor| add_sigmoid_gate_reference(d, &all, &g);
        change("add gated", &dst, |d| add_sigmoid_gate(d, &all, &g), gated)?;
        change("to itself", &dst, |d| add_in_place(d, d), |d| add_in_place_reference(d, d))?;
    }
    Ok(())
}

fn change(
    what: &str,
    dst: &Tensor,
    f: impl Fn(&Tensor) -> Result<()>,
    reference: impl Fn(&Tensor) -> Result<()>,
) -> Result<()> {
    let (got, want) = (
        shim::in_every_order(what, || {
            let dst = dst.force_contiguous()?;
            f(&dst)?;
            Ok(dst)
        })?,
        dst.force_contiguous()?,
    );
    reference(&want)?;
    close(what, &(got - dst)?, &(want - dst)?, 1e-6)
}

/// A view is changed where it lies, and nothing beside it.
#[test]
fn changes_of_views() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(3);
    let (whole, x, g) = (noise.tensor(&[6, 5, 4])?, noise.tensor(&[3, 2, 4])?, noise.tensor(&[3, 2, 1])?);
    let got = shim::in_every_order("view", || {
        let whole = whole.force_contiguous()?;
        gate_add(&whole.narrow(0, 1, 2)?.transpose(0, 1)?.narrow(0, 1, 3)?, &g, &x)?;
        Ok(whole)
    })?;
    let added = x.broadcast_mul(&g)?.transpose(0, 1)?.contiguous()?;
    let want = added.pad_with_zeros(1, 1, 1)?.pad_with_zeros(0, 1, 3)?;
    close("change of a view", &(got - whole)?, &want, 2e-6)
}
