//! The dense layer `y = x W^T + b`, with the weight as PyTorch stores it.
use candle_core::{D, Device, Result, Tensor};

use super::add_in_place;
use crate::weights::{Param, Weights};

/// A linear layer from `k` to `n` channels.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Param, // [n, k]
    bias: Option<Param>,
}

impl Linear {
    /// Reads `weight` `[n, k]`, and `bias` `[n]` if the file has one.
    pub fn load(k: usize, n: usize, w: &Weights) -> Result<Self> {
        Ok(Self { weight: w.param("weight", &[n, k])?, bias: w.optional("bias", &[n])? })
    }

    /// A layer of values made by the program: `weight` `[n, k]`, `bias` `[n]`.
    pub fn new(weight: Param, bias: Option<Param>) -> Result<Self> {
        match (weight.shape(), bias.as_ref().map(Param::shape)) {
            ([n, _], Some([b])) if b == n => {}
            ([_, _], None) => {}
            (w, b) => candle_core::bail!("linear layer of weight {w:?} and bias {b:?}"),
        }
        Ok(Self { weight, bias })
    }

    /// Channels in.
    pub fn k(&self) -> usize {
        self.weight.shape()[1]
    }

    /// Channels out.
    pub fn n(&self) -> usize {
        self.weight.shape()[0]
    }

    /// `x` `[.., k]` -> `[.., n]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_reference(x)
    }

    /// `dst` `[.., n]` += the layer applied to `x` `[.., k]`, in place.
    pub fn add_to(&self, dst: &Tensor, x: &Tensor) -> Result<()> {
        add_in_place(dst, &self.forward(x)?)
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, x: &Tensor) -> Result<Tensor> {
        let (k, n) = (self.k(), self.n());
        let mut dims = x.dims().to_vec();
        if dims.pop() != Some(k) {
            candle_core::bail!("a linear layer of {k} channels got {:?}", x.dims())
        }
        dims.push(n);
        let w = self.weight.tensor(x.device())?;
        let y = x.contiguous()?.reshape(((), k))?.matmul(&w.t()?)?; // [rows, n]
        let y = match self.bias(x.device())? {
            Some(b) => y.broadcast_add(&b)?,
            None => y,
        };
        y.reshape(dims)
    }

    fn bias(&self, device: &Device) -> Result<Option<Tensor>> {
        self.bias.as_ref().map(|b| b.tensor(device)).transpose()
    }
}

/// Fails unless the last dimension of `x` is `c`.
pub(super) fn expect_channels(x: &Tensor, c: usize, what: &str) -> Result<()> {
    match x.dim(D::Minus1) {
        Ok(d) if d == c => Ok(()),
        _ => candle_core::bail!("{what}: {c} channels expected, the tensor is {:?}", x.dims()),
    }
}
