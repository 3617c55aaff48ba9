//! The values of candle tensors, where they lie.
use std::ops::Deref;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, bail};

/// Do the kernels of this folder serve this tensor?
pub fn served(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The values of a contiguous f32 tensor, locked for reading.
pub struct Values<'a> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
}

impl<'a> Values<'a> {
    /// Those of `x`.
    pub fn of(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a contiguous tensor is needed, not {:?} of strides {:?}", x.dims(), x.stride())
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage, start, len: end - start }),
            _ => bail!("a tensor of f32 on the CPU is needed"),
        }
    }

    /// The array that holds `x`, from its first value on, in whatever order.
    pub fn strided(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let start = layout.start_offset();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => {
                let len = values.len() - start;
                Ok(Self { storage, start, len })
            }
            _ => bail!("a tensor of f32 on the CPU is needed"),
        }
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => &[], // not after `of`
        }
    }
}

/// Lets `f` change the values of the contiguous f32 tensor `dst`. Nothing that `f` reads may share its storage.
pub fn update(dst: &Tensor, name: &'static str, f: impl Fn(&mut [f32]) -> Result<()>) -> Result<()> {
    dst.inplace_op1(&Update { name, f })
}

struct Update<F> {
    name: &'static str,
    f: F,
}

impl<F: Fn(&mut [f32]) -> Result<()>> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("{}: the tensor changed in place is not contiguous", self.name)
        };
        match storage {
            CpuStorage::F32(values) => (self.f)(&mut values[start..end]),
            _ => bail!("{}: a tensor of f32 is needed", self.name),
        }
    }
}

/// `x` in order, or a copy of it if it lies in the storage of `dst`, which is about to be changed.
pub fn apart(x: &Tensor, dst: &Tensor) -> Result<Tensor> {
    apart_as_is(x, dst)?.contiguous()
}

/// As [`apart`], but in whatever order it lies.
pub fn apart_as_is(x: &Tensor, dst: &Tensor) -> Result<Tensor> {
    let shared = {
        let (a, b) = (x.storage_and_layout().0, dst.storage_and_layout().0);
        std::ptr::eq(&*a, &*b)
    };
    if shared { x.force_contiguous() } else { Ok(x.clone()) }
}
