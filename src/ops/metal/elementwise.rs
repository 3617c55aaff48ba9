//! Gates, activations, and sums in place.
use candle_core::{Result, Tensor, bail};

use super::launch::{Builder, Job, Output, Shader, padded};

pub(super) const SHADER: Shader = Shader { name: "elementwise.metal", source: include_str!("elementwise.metal") };
/// Threads of a threadgroup, an element each.
const THREADS: usize = 256;

/// What is made of an element of `a`, and one of `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// `1 / (1 + exp(-a))`.
    Sigmoid,
    /// `max(a, 0)`.
    Relu,
    /// `a * sigmoid(b)`.
    SigmoidGate,
    /// `silu(a) * b`.
    SiluGate,
}

/// What is added to an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `x`.
    Add,
    /// `x * g`.
    AddProduct,
    /// `x * sigmoid(g)`.
    AddSigmoidGate,
}

/// A new tensor of `function`; of one shape if there are two.
pub fn map(function: Map, a: &Tensor, b: Option<&Tensor>) -> Result<Job<'static>> {
    let kernel = match function {
        Map::Sigmoid => "sigmoid",
        Map::Relu => "relu",
        Map::SigmoidGate => "sigmoid_gate",
        Map::SiluGate => "silu_gate",
    };
    if b.is_some_and(|b| b.dims() != a.dims()) {
        bail!("{kernel} of {:?} and {:?}", a.dims(), b.map(Tensor::dims))
    }
    let n = a.elem_count();
    let a = a.contiguous()?;
    let b = b.map_or(Ok(a.clone()), Tensor::contiguous)?;
    Ok(Builder::new(&SHADER, kernel, &a, Output::New(a.shape().clone()))?
        .input(&a)?
        .input(&b)?
        .output()?
        .params(&[n as u32])
        .grid([n.div_ceil(THREADS), 1, 1], THREADS))
}

/// Changes `dst`, a view of up to four dimensions, in place; `x` and `g` are broadcast to it and lie elsewhere.
pub fn change<'a>(function: Change, dst: &'a Tensor, x: &Tensor, g: Option<&Tensor>) -> Result<Job<'a>> {
    let kernel = match function {
        Change::Add => "add",
        Change::AddProduct => "add_product",
        Change::AddSigmoidGate => "add_sigmoid_gate",
    };
    let x = x.broadcast_as(dst.dims())?;
    let g = g.map_or(Ok(x.clone()), |g| g.broadcast_as(dst.dims()))?;
    let n = dst.elem_count();
    let (dims, of_dst) = padded::<4>(dst)?;
    let (of_x, of_g) = (padded::<4>(&x)?.1, padded::<4>(&g)?.1);
    let params = [&[n as u32], &dims[1..], &of_dst, &of_x, &of_g].concat();
    Ok(Builder::new(&SHADER, kernel, dst, Output::Change(dst))?
        .output()?
        .input(&x)?
        .input(&g)?
        .params(&params)
        .grid([n.div_ceil(THREADS), 1, 1], THREADS))
}
