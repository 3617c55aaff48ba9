//! Every Metal kernel, run on the CPU through `mslcpu`, against the reference in plain tensor operations.
//!
//! The operations are called as models call them, with the shim in place of the GPU: what is tested is the way they take
//! on Metal, from layouts to the launch and through the shader, in four thread orders and under sanitizers.
mod attention;
mod elementwise;
mod faults;
mod norm;
mod pair;
mod quantised;
mod random;
mod rope;
mod shim;
mod softmax;
mod storage;

use candle_core::{DType, Device, Result, Tensor, bail};
use fold::ops::metal::SHADERS;
use fold::weights::Param;
use mslcpu::{Build, Order};

/// A stream of numbers, about normally distributed, the same in every run.
struct Noise(u64);

impl Noise {
    fn values(&mut self, n: usize) -> Vec<f32> {
        let mut uniform = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        };
        (0..n).map(|_| (uniform() + uniform() + uniform() + uniform() - 2.) * 1.7).collect()
    }

    /// A whole number from 1 to `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        1 + (self.0 >> 33) as usize % n
    }

    fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(self.values(dims.iter().product()), dims, &Device::Cpu)
    }

    fn param(&mut self, shape: &[usize]) -> Result<Param> {
        Param::from_vec(self.values(shape.iter().product()), shape)
    }
}

/// Fails where `got` is further from `want` than `tolerance` of the largest value of `want`, and at a NaN.
fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f32) -> Result<()> {
    if got.dims() != want.dims() {
        bail!("{what}: {:?} for {:?}", got.dims(), want.dims())
    }
    let values = |x: &Tensor| x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (got, want) = (values(got)?, values(want)?);
    let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let mut worst = 0f32;
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let distance = (g - w).abs() / largest;
        if distance.is_nan() || distance > tolerance {
            bail!("{what}: {g} for {w} at {i} of {} (largest {largest})", want.len())
        }
        worst = worst.max(distance);
    }
    println!("{what}: {worst:.1e}");
    Ok(())
}

/// Numbers of eighths, so that logits are exact in any order of their sums, whatever is added to them.
fn eighths(x: &Tensor) -> Result<Tensor> {
    ((x * 8.)?.round()? / 8.)?.contiguous()
}

/// What `fold doctor --kernels` runs on a Mac.
#[test]
fn operations_of_the_doctor() {
    if !shim::present() {
        return;
    }
    for check in shim::with(Build::Plain, Order::Forward, || fold::ops::check(&Device::Cpu)) {
        let check = check.expect("the shim runs it");
        println!("{}: {:.1e}", check.name, check.difference);
        assert!(check.passed(), "{check:?}");
    }
}

/// The self-check of `fold doctor`, a short prediction, with every operation on the way it takes on Metal.
#[test]
fn self_check_of_the_doctor() -> anyhow::Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let check = shim::with(Build::Plain, Order::Forward, || fold::pipelines::doctor::check(&Device::Cpu))?;
    println!("self-check: {:.1e} A from the official program's coordinates", check.difference);
    assert!(check.passed(), "{check:?}");
    Ok(())
}

#[test]
fn shaders_keep_to_metal() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    for shader in SHADERS {
        assert_eq!(shim::strict(shader)?, Vec::<String>::new(), "{}", shader.name);
    }
    Ok(())
}
