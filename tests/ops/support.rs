//! What the properties share: cases, numbers, layers of them, comparison.
use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use fold::ops::{Isa, with_isa};
use fold::weights::Weights;
use proptest::prelude::*;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Largest difference, of the reference's largest value.
const LIMIT: f64 = 1e-5;

/// What all may differ by, however small they are: an exponential gives no less than 1.6e-38, which 1e9 may multiply.
const TINY: f64 = 1e-28;

/// Checks `test` on `cases` values of `strategy` on each instruction set; a failing case is made smaller.
pub fn property<S: Strategy>(cases: u32, strategy: S, test: impl Fn(&S::Value) -> Result<()>) {
    for isa in Isa::available() {
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let checked = runner.run(&strategy, |case| {
            with_isa(isa, || test(&case)).map_err(|e| TestCaseError::fail(format!("{isa:?}: {e}")))
        });
        if let Err(failure) = checked {
            panic!("{failure}");
        }
    }
}

/// Numbers of rows or tokens: the smallest, and those around the widths of vectors and panels.
pub fn size() -> impl Strategy<Value = usize> + Clone {
    prop::sample::select(vec![1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 32, 33, 37])
}

/// Numbers of channels.
pub fn channels() -> impl Strategy<Value = usize> + Clone {
    prop::sample::select(vec![1, 3, 4, 8, 11, 16, 17, 24, 32, 33, 48, 65])
}

/// What the values of an operand are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// Mean 0, variance 1.
    Usual,
    /// Mean 1000, variance 1.
    Far,
    /// Mean 0, variance 1e-8: below what a norm adds to the variance.
    Narrow,
    /// All values of a row alike.
    Flat,
}

pub fn spread() -> impl Strategy<Value = Spread> + Clone {
    prop::sample::select(vec![Spread::Usual, Spread::Usual, Spread::Far, Spread::Narrow, Spread::Flat])
}

/// How an operand lies in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layout {
    /// One value after the other.
    Plain,
    /// The last two dimensions exchanged.
    Turned,
    /// A part of the last dimension of a larger tensor.
    Columns,
    /// A part of the first dimension of a larger tensor.
    Rows,
}

pub fn layout() -> impl Strategy<Value = Layout> + Clone {
    prop::sample::select(vec![Layout::Plain, Layout::Turned, Layout::Columns, Layout::Rows])
}

impl Layout {
    /// `x` with the same values, lying so.
    pub fn of(self, x: &Tensor) -> Result<Tensor> {
        let rank = x.rank();
        let part = |dim: usize| Tensor::cat(&[x, x, x], dim)?.narrow(dim, x.dim(dim)?, x.dim(dim)?);
        match self {
            Self::Turned if rank > 1 => x.transpose(rank - 2, rank - 1)?.contiguous()?.transpose(rank - 2, rank - 1),
            Self::Plain | Self::Turned => Ok(x.clone()),
            Self::Columns => part(rank - 1),
            Self::Rows => part(0),
        }
    }
}

/// A stream of numbers, the same for the same seed.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// About normally distributed.
    fn value(&mut self) -> f32 {
        (self.uniform() + self.uniform() + self.uniform() + self.uniform() - 2.) * 1.7
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }

    pub fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(self.values(dims.iter().product()), dims, &Device::Cpu)
    }

    pub fn spread(&mut self, dims: &[usize], spread: Spread) -> Result<Tensor> {
        match spread {
            Spread::Usual => self.tensor(dims),
            Spread::Far => self.tensor(dims)? + 1000.,
            Spread::Narrow => self.tensor(dims)? * 1e-4,
            Spread::Flat => {
                let (&c, rows) = dims.split_last().expect("there are channels");
                self.tensor(&[rows, &[1]].concat())?.broadcast_as([rows, &[c]].concat())?.contiguous()
            }
        }
    }

    /// Ones, and zeros in about so many of 100.
    pub fn mask(&mut self, dims: &[usize], hidden: usize) -> Result<Tensor> {
        let values = (0..dims.iter().product()).map(|_| f32::from(self.uniform() * 100. >= hidden as f32)).collect();
        Tensor::from_vec::<_, f32>(values, dims, &Device::Cpu)
    }

    /// The parameters of a layer in a file, as models have them.
    pub fn weights(&mut self, parts: &[(&str, Part)]) -> Result<Weights> {
        let mut tensors = HashMap::new();
        for (name, part) in parts {
            match *part {
                Part::Norm(c) => {
                    tensors.insert(format!("{name}.weight"), (self.tensor(&[c])? + 1.)?);
                    tensors.insert(format!("{name}.bias"), (self.tensor(&[c])? * 0.1)?);
                }
                Part::Scale(c) => drop(tensors.insert(format!("{name}.weight"), (self.tensor(&[c])? + 1.)?)),
                Part::Linear(k, n) => {
                    let weight = (self.tensor(&[n, k])? / (k as f64).sqrt())?;
                    tensors.insert(format!("{name}.weight"), weight);
                    if self.uniform() < 0.5 {
                        tensors.insert(format!("{name}.bias"), (self.tensor(&[n])? * 0.1)?);
                    }
                }
            }
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("layer.safetensors");
        candle_core::safetensors::save(&tensors, &path)?;
        Ok(Weights::open(&path, &Device::Cpu)?) // mapped: the file may go
    }
}

/// A part of a layer, with its channels.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// With scale and offset.
    Norm(usize),
    /// A norm without offset.
    Scale(usize),
    /// From the first to the second; half of them have a bias.
    Linear(usize, usize),
}

/// What a reference is evaluated in.
pub fn precision(everything_hidden: bool) -> DType {
    if everything_hidden { DType::F32 } else { DType::F64 }
}

/// Fails where `got` is too far from `want`, and at a NaN.
pub fn close(got: &Tensor, want: &Tensor) -> Result<()> {
    near(got, want, &got.zeros_like()?)
}

/// As [`close`] for values that have been added to `onto`: the sum may be rounded once more.
fn near(got: &Tensor, want: &Tensor, onto: &Tensor) -> Result<()> {
    if got.dims() != want.dims() {
        bail!("{:?} for {:?}", got.dims(), want.dims())
    }
    let values = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (got, want, onto) = (values(got)?, values(want)?, values(onto)?);
    let largest = want.iter().zip(&onto).fold(0f64, |m, (w, o)| m.max((w - o).abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let limit = LIMIT * largest + w.abs() * f64::from(f32::EPSILON) + TINY;
        if (g - w).is_nan() || (g - w).abs() > limit {
            bail!("{g} for {w} at {i} of {} (largest {largest}, limit {limit:e})", want.len())
        }
    }
    Ok(())
}

/// Checks a change in place of `x`, which lies in a larger tensor, against a reference that gets a copy in `precision`.
pub fn same_change(
    x: &Tensor,
    precision: DType,
    change: impl Fn(&Tensor) -> Result<()>,
    reference: impl Fn(&Tensor) -> Result<()>,
) -> Result<()> {
    let around = Tensor::cat(&[x, x, x], 0)?;
    let before = around.copy()?;
    let n = x.dim(0)?;
    change(&around.narrow(0, n, n)?)?;
    for first in [0, 2 * n] {
        close(&around.narrow(0, first, n)?, &before.narrow(0, first, n)?)?; // the neighbours
    }
    let want = x.to_dtype(precision)?.copy()?;
    reference(&want)?;
    near(&around.narrow(0, n, n)?, &want, x)
}
