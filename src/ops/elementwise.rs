//! Elementwise operations: gates, activations, sums in place; and the softmax over the last dimension.
use candle_core::{Result, Tensor};
use candle_nn::ops;

/// `x * sigmoid(g)`; one shape.
pub fn sigmoid_gate(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    sigmoid_gate_reference(x, g)
}

/// `sigmoid_gate` in plain tensor operations.
pub fn sigmoid_gate_reference(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    x * ops::sigmoid(g)?
}

/// `silu(a) * b`; one shape.
pub fn silu_gate(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    silu_gate_reference(a, b)
}

/// `silu_gate` in plain tensor operations.
pub fn silu_gate_reference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.silu()? * b
}

/// `max(x, 0)`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.relu()
}

/// Softmax over the last dimension; each row's largest value is subtracted first.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    softmax_reference(x)
}

/// `softmax` in plain tensor operations.
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    ops::softmax(x, candle_core::D::Minus1)
}

/// `dst += x` in place; `x` of the same shape, or of the trailing dimensions of `dst` (1 in front is the same as absent).
pub fn add_in_place(dst: &Tensor, x: &Tensor) -> Result<()> {
    add_in_place_reference(dst, x)
}

/// `add_in_place` in plain tensor operations.
pub fn add_in_place_reference(dst: &Tensor, x: &Tensor) -> Result<()> {
    write_back(dst, &dst.broadcast_add(x)?)
}

/// `dst += x * sigmoid(g)` in place; `g` may be of the trailing dimensions of `dst`.
pub fn add_sigmoid_gate(dst: &Tensor, x: &Tensor, g: &Tensor) -> Result<()> {
    add_sigmoid_gate_reference(dst, x, g)
}

/// `add_sigmoid_gate` in plain tensor operations.
pub fn add_sigmoid_gate_reference(dst: &Tensor, x: &Tensor, g: &Tensor) -> Result<()> {
    add_in_place_reference(dst, &x.broadcast_mul(&ops::sigmoid(g)?)?)
}

/// `dst += g * x` in place, `g` a gate that has had its sigmoid; `g` may be of the trailing dimensions of `dst`.
pub fn gate_add(dst: &Tensor, g: &Tensor, x: &Tensor) -> Result<()> {
    gate_add_reference(dst, g, x)
}

/// `gate_add` in plain tensor operations.
pub fn gate_add_reference(dst: &Tensor, g: &Tensor, x: &Tensor) -> Result<()> {
    add_in_place_reference(dst, &x.broadcast_mul(g)?)
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ops::sigmoid(x)
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
