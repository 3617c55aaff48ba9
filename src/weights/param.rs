//! One parameter as the operations read it: on the CPU the bytes of the mapped file, elsewhere a tensor on the device.
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use memmap2::Mmap;

/// A read-only f32 array of fixed shape.
///
/// On the CPU it is a view of the memory-mapped weights file (f32 files) or a heap copy (f16 and bf16 files, tensors made
/// by the program), so that a model is never held twice; on another device it is a tensor there.
#[derive(Debug, Clone)]
pub struct Param {
    shape: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Mapped { file: Arc<Mmap>, start: usize },
    Heap(Arc<Vec<f32>>),
    Device(Tensor),
    Absent,
}

impl Param {
    /// A view of `shape.product()` little-endian f32 at byte `start` of `file`; `None` if they are not aligned or not all there.
    pub(super) fn mapped(file: &Arc<Mmap>, start: usize, shape: &[usize]) -> Option<Self> {
        let bytes = 4 * shape.iter().product::<usize>();
        let inside = start.checked_add(bytes).is_some_and(|end| end <= file.len());
        let aligned = (file.as_ptr() as usize + start).is_multiple_of(align_of::<f32>());
        (inside && aligned && cfg!(target_endian = "little"))
            .then(|| Self { shape: shape.to_vec(), values: Values::Mapped { file: file.clone(), start } })
    }

    /// Values made or converted by the program; as many as `shape` says.
    pub fn from_vec(values: Vec<f32>, shape: &[usize]) -> Result<Self> {
        if values.len() != shape.iter().product::<usize>() {
            candle_core::bail!("{} values do not fill a parameter of shape {shape:?}", values.len())
        }
        Ok(Self { shape: shape.to_vec(), values: Values::Heap(Arc::new(values)) })
    }

    /// Stands for a tensor that a file lacks until the error is reported; its values cannot be read.
    pub(super) fn absent(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), values: Values::Absent }
    }

    /// The same parameter where `device` computes: unchanged on the CPU, uploaded elsewhere.
    pub fn to_device(self, device: &Device) -> Result<Self> {
        if device.is_cpu() {
            return Ok(self);
        }
        let tensor = self.tensor(device)?;
        Ok(Self { shape: self.shape, values: Values::Device(tensor) })
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values where they lie, row-major. An error for a parameter that lives on another device.
    pub fn as_slice(&self) -> Result<&[f32]> {
        match &self.values {
            Values::Mapped { file, start } => {
                let n = self.shape.iter().product();
                // SAFETY: `mapped` checked range and alignment; the mapping is read-only and lives as long as `file`;
                // any bit pattern is a valid f32.
                Ok(unsafe { std::slice::from_raw_parts(file.as_ptr().add(*start).cast::<f32>(), n) })
            }
            Values::Heap(values) => Ok(values),
            Values::Device(_) => candle_core::bail!("the parameter is on another device"),
            Values::Absent => candle_core::bail!("the parameter is not in the weights file"),
        }
    }

    /// The values of a matrix `[n, k]` on the host with its columns one after the other, `[k, n]`: for layers whose input is one-hot,
    /// where a product is the choice of a column.
    pub fn columns(&self) -> Result<Vec<f32>> {
        self.tensor(&Device::Cpu)?.t()?.contiguous()?.flatten_all()?.to_vec1()
    }

    /// A tensor of the values on `device`: shared if the parameter is a tensor already, else a copy.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        match &self.values {
            Values::Device(tensor) => tensor.to_device(device),
            _ => Tensor::from_slice(self.as_slice()?, self.shape.as_slice(), device),
        }
    }
}
