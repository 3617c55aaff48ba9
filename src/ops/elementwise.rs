//! Elementwise operations: gates, activations, sums in place; and the softmax over the last dimension.
use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops;

use super::cpu::pointwise::{Function, softmax_rows};
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::cpu::{BAND, by_bands};
use super::metal;

/// `x * sigmoid(g)`; one shape.
pub fn sigmoid_gate(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    if metal::served(x) {
        return metal::map(metal::Map::SigmoidGate, x, Some(g))?.run();
    }
    if !served(x) || x.dims() != g.dims() {
        return sigmoid_gate_reference(x, g);
    }
    made(Function::SigmoidGate, x, Some(g))
}

/// `sigmoid_gate` in plain tensor operations.
pub fn sigmoid_gate_reference(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    x * ops::sigmoid(g)?
}

/// `silu(a) * b`; one shape.
pub fn silu_gate(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if metal::served(a) {
        return metal::map(metal::Map::SiluGate, a, Some(b))?.run();
    }
    if !served(a) || a.dims() != b.dims() {
        return silu_gate_reference(a, b);
    }
    made(Function::SiluGate, a, Some(b))
}

/// `silu_gate` in plain tensor operations.
pub fn silu_gate_reference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.silu()? * b
}

/// `max(x, 0)`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if metal::served(x) {
        return metal::map(metal::Map::Relu, x, None)?.run();
    }
    if served(x) { made(Function::Relu, x, None) } else { x.relu() }
}

/// `x / 2 (1 + erf(x / sqrt(2)))`: the exact form of Hendrycks and Gimpel (2016).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if served(x) && !metal::served(x) { made(Function::Gelu, x, None) } else { x.gelu_erf() }
}

/// Softmax over the last dimension; each row's largest value is subtracted first.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let c = x.dim(D::Minus1)?;
    if metal::served(x) {
        return metal::softmax(x)?.run();
    }
    if !served(x) || c == 0 {
        return softmax_reference(x);
    }
    let x = x.force_contiguous()?;
    let (isa, band) = (Isa::best(), (BAND / c).max(1) * c);
    update(&x, "softmax", |x| {
        by_bands(x, band, |_, x| softmax_rows(isa, x, c));
        Ok(())
    })?;
    Ok(x)
}

/// `softmax` in plain tensor operations.
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    ops::softmax(x, D::Minus1)
}

/// `dst += x` in place; `x` of the same shape, or of the trailing dimensions of `dst` (1 in front is the same as absent).
pub fn add_in_place(dst: &Tensor, x: &Tensor) -> Result<()> {
    changed(Function::Add, dst, x, None, || add_in_place_reference(dst, x))
}

/// `add_in_place` in plain tensor operations.
pub fn add_in_place_reference(dst: &Tensor, x: &Tensor) -> Result<()> {
    write_back(dst, &dst.broadcast_add(x)?)
}

/// `dst += x * sigmoid(g)` in place; `g` may be of the trailing dimensions of `dst`.
pub fn add_sigmoid_gate(dst: &Tensor, x: &Tensor, g: &Tensor) -> Result<()> {
    changed(Function::AddSigmoidGate, dst, x, Some(g), || add_sigmoid_gate_reference(dst, x, g))
}

/// `add_sigmoid_gate` in plain tensor operations.
pub fn add_sigmoid_gate_reference(dst: &Tensor, x: &Tensor, g: &Tensor) -> Result<()> {
    add_in_place_reference(dst, &x.broadcast_mul(&ops::sigmoid(g)?)?)
}

/// `dst += g * x` in place, `g` a gate that has had its sigmoid; `g` may be of the trailing dimensions of `dst`.
pub fn gate_add(dst: &Tensor, g: &Tensor, x: &Tensor) -> Result<()> {
    changed(Function::AddProduct, dst, x, Some(g), || gate_add_reference(dst, g, x))
}

/// `gate_add` in plain tensor operations.
pub fn gate_add_reference(dst: &Tensor, g: &Tensor, x: &Tensor) -> Result<()> {
    add_in_place_reference(dst, &x.broadcast_mul(g)?)
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    if metal::served(x) {
        return metal::map(metal::Map::Sigmoid, x, None)?.run();
    }
    if served(x) { made(Function::Sigmoid, x, None) } else { ops::sigmoid(x) }
}

/// A new tensor of the values of `function`; on the CPU, shapes equal.
fn made(function: Function, a: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let a = a.contiguous()?;
    let b = b.map(Tensor::contiguous).transpose()?;
    let isa = Isa::best();
    let mut values = vec![0.; a.elem_count()];
    {
        let a = Values::of(&a)?;
        let b = b.as_ref().map(Values::of).transpose()?;
        let b = b.as_deref().unwrap_or_default();
        by_bands(&mut values, BAND, |i, values| {
            let band = i * BAND..i * BAND + values.len();
            function.apply(isa, values, &a[band.clone()], b.get(band).unwrap_or_default());
        });
    }
    Tensor::from_vec(values, a.dims(), a.device())
}

/// Does `x` repeat over the leading dimensions of `dst`, the others being equal?
fn repeats(x: &Tensor, dst: &Tensor) -> bool {
    let mut dims = x.dims();
    while dims.first() == Some(&1) {
        dims = &dims[1..];
    }
    dst.dims().ends_with(dims) && x.elem_count() > 0
}

/// Changes `dst` in place by `function` of `a` and `b`, which repeat over its leading dimensions; else as `otherwise`.
fn changed(
    function: Function,
    dst: &Tensor,
    a: &Tensor,
    b: Option<&Tensor>,
    otherwise: impl Fn() -> Result<()>,
) -> Result<()> {
    let fits = |x: &Tensor| x.broadcast_as(dst.dims()).is_ok();
    if metal::served(dst) && dst.rank() <= 4 && fits(a) && b.is_none_or(fits) {
        let function = match function {
            Function::Add => metal::Change::Add,
            Function::AddProduct => metal::Change::AddProduct,
            Function::AddSigmoidGate => metal::Change::AddSigmoidGate,
            _ => return otherwise(),
        };
        let (a, b) = (apart(a, dst)?, b.map(|b| apart(b, dst)).transpose()?);
        metal::change(function, dst, &a, b.as_ref())?.run()?;
        return Ok(());
    }
    if !served(dst) || !repeats(a, dst) || !b.is_none_or(|b| repeats(b, dst)) {
        return otherwise();
    }
    let a = apart(a, dst)?;
    let b = b.map(|b| apart(b, dst)).transpose()?;
    let (a, b) = (Values::of(&a)?, b.as_ref().map(Values::of).transpose()?);
    let b = b.as_deref();
    let isa = Isa::best();
    // Bands that do not cross the end of a repeat.
    let period = b.map_or(a.len(), |b| b.len().min(a.len()));
    if !(a.len().is_multiple_of(period) && b.is_none_or(|b| b.len().is_multiple_of(period))) {
        bail!("operands of {} and {:?} values", a.len(), b.map(<[f32]>::len))
    }
    update(dst, "elementwise", |dst| {
        let band = if period == dst.len() { BAND } else { period };
        by_bands(dst, band, |i, values| {
            let start = i * band;
            let part = |x: &'_ [f32]| start % x.len()..start % x.len() + values.len();
            let b = b.map(|b| &b[part(b)]).unwrap_or_default();
            function.apply(isa, values, &a[part(&a)], b);
        });
        Ok(())
    })
}

/// Overwrites the contiguous `dst` with `value`, on any device.
pub(super) fn write_back(dst: &Tensor, value: &Tensor) -> Result<()> {
    if !dst.is_contiguous() || dst.dims() != value.dims() {
        candle_core::bail!(
            "in-place result {:?} for {:?} (contiguous: {})",
            value.dims(),
            dst.dims(),
            dst.is_contiguous()
        )
    }
    dst.slice_set(&value.contiguous()?, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa, same_change};

    #[test]
    fn gates_and_activations() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for n in [1, 5, 17, 33, 40_000] {
                let (x, g) = ((noise.tensor(&[n]) * 4.)?, (noise.tensor(&[n]) * 4.)?);
                close("sigmoid gate", &sigmoid_gate(&x, &g)?, &sigmoid_gate_reference(&x, &g)?, 1e-6)?;
                close("silu gate", &silu_gate(&x, &g)?, &silu_gate_reference(&x, &g)?, 1e-6)?;
                close("sigmoid", &sigmoid(&x)?, &ops::sigmoid(&x)?, 1e-6)?;
                close("relu", &relu(&x)?, &x.relu()?, 0.)?;
                close("gelu", &gelu(&x)?, &x.gelu_erf()?, 5e-7)?;
            }
            Ok(())
        })
    }

    #[test]
    fn extreme_values() -> Result<()> {
        on_each_isa(|| {
            let x = Tensor::new(&[-1e9f32, -1e3, -90., -20., 0., 20., 90., 1e3, 1e9], &candle_core::Device::Cpu)?;
            close("sigmoid", &sigmoid(&x)?, &ops::sigmoid(&x)?, 1e-6)?;
            close("softmax", &softmax(&x)?, &softmax_reference(&x)?, 1e-6)?;
            close("gelu", &gelu(&x)?, &x.gelu_erf()?, 1e-7)?;
            let hidden = Tensor::full(-1e9f32, (2, 21), &candle_core::Device::Cpu)?;
            close("hidden row", &softmax(&hidden)?, &softmax_reference(&hidden)?, 1e-6)
        })
    }

    /// What has gone wrong stays visible.
    #[test]
    fn not_a_number() -> Result<()> {
        on_each_isa(|| {
            let mut values = Noise::new(5).values(40);
            values[35] = f32::NAN;
            let x = Tensor::from_vec(values, (2, 20), &candle_core::Device::Cpu)?;
            for (name, y) in
                [("sigmoid", sigmoid(&x)?), ("relu", relu(&x)?), ("gelu", gelu(&x)?), ("softmax", softmax(&x)?)]
            {
                let y = y.to_vec2::<f32>()?;
                assert!(y[1][15].is_nan() && y[0].iter().all(|v| v.is_finite()), "{name}: {y:?}");
            }
            Ok(())
        })
    }

    #[test]
    fn softmax_of_ragged_rows() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(2);
            for (rows, c) in [(1, 1), (3, 5), (2, 17), (5, 32), (2000, 31)] {
                let x = (noise.tensor(&[rows, c]) * 30.)?;
                close(&format!("{rows} x {c}"), &softmax(&x)?, &softmax_reference(&x)?, 2e-6)?;
            }
            Ok(())
        })
    }

    #[test]
    fn changes_in_place() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(3);
            for (dims, part) in
                [(vec![3, 5, 7], vec![5, 7]), (vec![3, 5, 7], vec![1, 5, 7]), (vec![2, 200, 128], vec![128])]
            {
                let (dst, x, g, all) =
                    (noise.tensor(&dims), noise.tensor(&part), noise.tensor(&part), noise.tensor(&dims));
                same_change("add", &dst, |d| add_in_place(d, &x), |d| add_in_place_reference(d, &x), 4e-6)?;
                same_change("add all", &dst, |d| add_in_place(d, &all), |d| add_in_place_reference(d, &all), 4e-6)?;
                same_change("gate", &dst, |d| gate_add(d, &g, &all), |d| gate_add_reference(d, &g, &all), 4e-6)?;
                let (fast, reference) =
                    (|d: &Tensor| add_sigmoid_gate(d, &all, &g), |d: &Tensor| add_sigmoid_gate_reference(d, &all, &g));
                same_change("sigmoid gate", &dst, fast, reference, 4e-6)?;
                same_change("to itself", &dst, |d| add_in_place(d, d), |d| add_in_place_reference(d, d), 4e-6)?;
            }
            Ok(())
        })
    }
}
