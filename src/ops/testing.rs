//! What the tests of the operations share: numbers, layers of them, comparison of a kernel with its reference.
use candle_core::{Device, Result, Tensor};

use super::cpu::simd::{Isa, with_isa};
use super::{Linear, Norm};
use crate::weights::{CodeLayout, Format, Param, Quantised};

/// A stream of numbers, the same in every run.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// About normally distributed.
    pub fn value(&mut self) -> f32 {
        let mut uniform = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        };
        (uniform() + uniform() + uniform() + uniform() - 2.) * 1.7
    }

    pub fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }

    pub fn tensor(&mut self, dims: &[usize]) -> Tensor {
        Tensor::from_vec(self.values(dims.iter().product()), dims, &Device::Cpu).expect("the size fits")
    }

    /// Ones, and a zero now and then; the first is one.
    pub fn mask(&mut self, dims: &[usize]) -> Tensor {
        let mut values: Vec<f32> = self.values(dims.iter().product()).iter().map(|v| f32::from(*v > -1.)).collect();
        values[0] = 1.;
        Tensor::from_vec(values, dims, &Device::Cpu).expect("the size fits")
    }

    /// Weights that keep the size of what they are applied to, and a bias.
    pub fn linear(&mut self, k: usize, n: usize) -> Linear {
        let bias = self.param(&[n], 0.1);
        Linear::new(self.param(&[n, k], 1. / (k as f32).sqrt()), Some(bias)).expect("the sizes fit")
    }

    pub fn linear_without_bias(&mut self, k: usize, n: usize) -> Linear {
        Linear::new(self.param(&[n, k], 1. / (k as f32).sqrt()), None).expect("the sizes fit")
    }

    /// A layer of codes that stand for weights of about the size of `linear`'s.
    pub fn quantised_linear(&mut self, k: usize, n: usize, layout: CodeLayout) -> Linear {
        let size = 1. / (k as f32).sqrt();
        let mut floats = |size: f32| {
            let numbers = (0..n * k / layout.group).map(|_| size * self.value());
            let bytes = |x: f32| match layout.of {
                Format::F32 => x.to_le_bytes().to_vec(),
                Format::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
                Format::Bf16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
            };
            numbers.flat_map(bytes).collect::<Vec<u8>>()
        };
        let (scales, biases) = (floats(2. * size / (1 << layout.bits) as f32), floats(size));
        let codes = (0..n * layout.row_bytes(k)).map(|_| (self.value() * 100.) as i32 as u8).collect();
        let weight = Quantised::new([n, k], layout, codes, scales, biases).expect("the sizes fit");
        Linear::new(weight.into(), Some(self.param(&[n], 0.1))).expect("the sizes fit")
    }

    pub fn norm(&mut self, c: usize) -> Norm {
        Norm::new(Some(self.param(&[c], 1.)), Some(self.param(&[c], 0.1)), c)
    }

    fn param(&mut self, shape: &[usize], scale: f32) -> Param {
        let values = self.values(shape.iter().product()).iter().map(|v| v * scale).collect();
        Param::from_vec(values, shape).expect("the size fits")
    }
}

/// Runs `test` on every instruction set of this machine.
pub fn on_each_isa(test: impl Fn() -> Result<()>) -> Result<()> {
    for isa in Isa::available() {
        with_isa(isa, &test).map_err(|e| e.context(format!("{isa:?}")))?;
    }
    Ok(())
}

/// Fails where `got` is further from `want` than `tolerance` of the largest value of `want`, and at a NaN.
pub fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f32) -> Result<()> {
    if got.dims() != want.dims() {
        candle_core::bail!("{what}: {:?} for {:?}", got.dims(), want.dims())
    }
    let (got, want) = (got.flatten_all()?.to_vec1::<f32>()?, want.flatten_all()?.to_vec1::<f32>()?);
    let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let distance = (g - w).abs();
        if distance.is_nan() || distance > tolerance * largest {
            candle_core::bail!("{what}: {g} for {w} at {i} of {} (largest {largest})", want.len())
        }
    }
    Ok(())
}

/// Compares a change in place with its reference: both start from `x`.
pub fn same_change(
    what: &str,
    x: &Tensor,
    change: impl Fn(&Tensor) -> Result<()>,
    reference: impl Fn(&Tensor) -> Result<()>,
    tolerance: f32,
) -> Result<()> {
    let (got, want) = (x.copy()?, x.copy()?);
    change(&got)?;
    reference(&want)?;
    // The update alone, so that a small one is not hidden by what it is added to.
    close(what, &(got - x)?, &(want - x)?, tolerance)
}
