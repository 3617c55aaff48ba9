//! A large tensor put aside while other stages need the memory.
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::host::host;
use super::predict::PredictError;
use super::store::StoreError;

/// Smaller tensors stay in memory: they are not worth a file.
const KEPT_BYTES: usize = 64 << 20;
/// Values on their way to and from the file.
const CHUNK: usize = 1 << 16;

/// An f32 tensor that is not needed for a while.
#[derive(Debug)]
pub(super) struct Aside {
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Tensor),
    /// A file without a name: the system removes it with the process, however that ends.
    Disk {
        file: File,
        folder: PathBuf,
        dims: Vec<usize>,
        device: Device,
    },
}

impl Aside {
    /// Takes the tensor, into a file on the file system of `folder` if it is large; its memory is free when no other
    /// handle of it is left.
    pub fn put(tensor: Tensor, folder: &Path) -> Result<Self, PredictError> {
        if tensor.elem_count() * size_of::<f32>() <= KEPT_BYTES {
            return Ok(Self { place: Place::Memory(tensor) });
        }
        let fail = |source| StoreError::Write { path: folder.to_owned(), source };
        let mut file = tempfile::tempfile_in(folder).map_err(fail)?;
        let values = host(&tensor)?;
        for chunk in values.values().chunks(CHUNK) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_ne_bytes()).collect();
            file.write_all(&bytes).map_err(fail)?;
        }
        drop(values);
        let (dims, device) = (tensor.dims().to_vec(), tensor.device().clone());
        Ok(Self { place: Place::Disk { file, folder: folder.to_owned(), dims, device } })
    }

    /// A copy of the tensor, which may be changed in place.
    pub fn copy(&self) -> Result<Tensor, PredictError> {
        match &self.place {
            Place::Memory(tensor) => Ok(tensor.force_contiguous()?),
            Place::Disk { file, folder, dims, device } => {
                let values = read(file, dims.iter().product())
                    .map_err(|source| StoreError::Read { path: folder.to_owned(), source })?;
                Ok(Tensor::from_vec(values, dims.as_slice(), device)?)
            }
        }
    }

    /// The tensor itself, for the last who needs it.
    pub fn take(self) -> Result<Tensor, PredictError> {
        match self.place {
            Place::Memory(tensor) => Ok(tensor),
            Place::Disk { .. } => self.copy(),
        }
    }
}

/// All `n` values of a file.
fn read(mut file: &File, n: usize) -> io::Result<Vec<f32>> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let mut values = Vec::with_capacity(n);
    let mut bytes = vec![0; CHUNK * size_of::<f32>()];
    while values.len() < n {
        let some = &mut bytes[..(n - values.len()).min(CHUNK) * size_of::<f32>()];
        reader.read_exact(some)?;
        values.extend(some.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One tensor above the limit, of no whole number of chunks, and one below; each is read twice.
    #[test]
    fn comes_back_as_it_was() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        for n in [3, KEPT_BYTES / 4 + 5] {
            let values: Vec<f32> = (0..n).map(|i| (i as f32).sin()).collect();
            let aside = Aside::put(Tensor::from_slice(&values, n, &Device::Cpu)?, folder.path())?;
            for copy in [aside.copy()?, aside.copy()?, aside.take()?] {
                assert!(copy.to_vec1::<f32>()? == values, "{n} values");
            }
        }
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let tensor = Tensor::zeros(KEPT_BYTES / 4 + 1, candle_core::DType::F32, &Device::Cpu).expect("zeros");
        let error = Aside::put(tensor, Path::new("/no/such/folder")).expect_err("no folder").to_string();
        assert!(error.contains("/no/such/folder"), "{error}");
    }
}
