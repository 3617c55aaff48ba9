//! Values of a tensor on the host: where they lie, if they are there.
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Result, Storage, Tensor};

/// The values of an f32 tensor in the order of its dimensions.
pub(super) enum Host<G> {
    /// The guard of the storage.
    Borrowed(G, Range<usize>),
    Owned(Vec<f32>),
}

/// The values of a tensor; not copied if it is a contiguous one on the CPU.
pub(super) fn host(tensor: &Tensor) -> Result<Host<impl Deref<Target = Storage> + '_>> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(Host::Borrowed(storage, start..end)),
        _ => {
            drop(storage);
            Ok(Host::Owned(tensor.flatten_all()?.to_vec1()?))
        }
    }
}

impl<G: Deref<Target = Storage>> Host<G> {
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Borrowed(storage, range) => match &**storage {
                Storage::Cpu(CpuStorage::F32(values)) => &values[range.clone()],
                _ => unreachable!("checked when made"),
            },
            Self::Owned(values) => values,
        }
    }
}
