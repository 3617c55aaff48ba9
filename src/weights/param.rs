//! One parameter as the operations read it: on the CPU the bytes of the mapped file, elsewhere a tensor on the device.
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;

use super::quantised::{CodeTensors, Codes, Quantised};

/// A read-only array of fixed shape that is f32 to whoever reads it.
///
/// On the CPU it is a view of the memory-mapped weights file, or a heap copy of what the program made, so that a model is never
/// held twice; on another device it is a tensor there. Of a file of 16-bit numbers the large matrices of dense layers are
/// read as they are ([`Param::matrix`]); others are widened when they are first read and kept. A quantised matrix is read as it is
/// or not at all.
#[derive(Debug, Clone)]
pub struct Param {
    shape: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Mapped { format: Format, file: Arc<Mmap>, start: usize, wide: Arc<OnceLock<Vec<f32>>> },
    Heap(Arc<Vec<f32>>),
    Quantised(Quantised),
    Device(Tensor),
    Absent,
}

/// Number format of a file's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Format {
    F32,
    F16,
    Bf16,
}

impl Format {
    /// Of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F16 | Self::Bf16 => size_of::<f16>(),
        }
    }
}

/// The values of a parameter where they lie, row-major, in their own format.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
    /// Codes with scales and biases.
    Codes(Codes<'a>),
}

impl Param {
    /// A view of `shape.product()` little-endian numbers at byte `start` of `file`; `None` if they are not aligned or not all there.
    pub(super) fn mapped(format: Format, file: &Arc<Mmap>, start: usize, shape: &[usize]) -> Option<Self> {
        let bytes = format.bytes() * shape.iter().product::<usize>();
        let inside = start.checked_add(bytes).is_some_and(|end| end <= file.len());
        let aligned = (file.as_ptr() as usize + start).is_multiple_of(format.bytes());
        let values = || Values::Mapped { format, file: file.clone(), start, wide: Arc::default() };
        (inside && aligned && cfg!(target_endian = "little")).then(|| Self { shape: shape.to_vec(), values: values() })
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
        let values = match self.values {
            Values::Quantised(matrix) => Values::Quantised(matrix.placed(device)?),
            _ => Values::Device(self.tensor(device)?),
        };
        Ok(Self { shape: self.shape, values })
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values as f32, row-major; 16-bit ones are widened the first time. An error for a parameter on another device.
    pub fn as_slice(&self) -> Result<&[f32]> {
        match (self.matrix()?, &self.values) {
            (Matrix::F32(values), _) => Ok(values),
            (Matrix::Codes(_), _) => candle_core::bail!("a quantised matrix in an operation that takes f32 only"),
            (matrix, Values::Mapped { wide, .. }) => Ok(wide.get_or_init(|| matrix.widened().into_owned())),
            _ => candle_core::bail!("16-bit values that are not of a file"),
        }
    }

    /// The values where they lie. An error for a parameter on another device.
    pub fn matrix(&self) -> Result<Matrix<'_>> {
        match &self.values {
            Values::Mapped { format, file, start, .. } => {
                let n = self.shape.iter().product();
                // SAFETY: `mapped` checked range and alignment; the mapping is read-only and lives as long as `file`;
                // any bit pattern is a valid number of each format.
                Ok(unsafe {
                    let start = file.as_ptr().add(*start);
                    match format {
                        Format::F32 => Matrix::F32(std::slice::from_raw_parts(start.cast(), n)),
                        Format::F16 => Matrix::F16(std::slice::from_raw_parts(start.cast(), n)),
                        Format::Bf16 => Matrix::Bf16(std::slice::from_raw_parts(start.cast(), n)),
                    }
                })
            }
            Values::Heap(values) => Ok(Matrix::F32(values)),
            Values::Quantised(matrix) => matrix.codes().map(Matrix::Codes),
            Values::Device(_) => candle_core::bail!("the parameter is on another device"),
            Values::Absent => candle_core::bail!("the parameter is not in the weights file"),
        }
    }

    /// Row `i` of a matrix as f32, for tables of which few rows are read; `None` past the last.
    pub fn row(&self, i: usize) -> Result<Option<Cow<'_, [f32]>>> {
        let k: usize = self.shape.iter().skip(1).product();
        Ok(match self.matrix()? {
            Matrix::F32(values) => values.get(i * k..(i + 1) * k).map(Cow::Borrowed),
            Matrix::F16(values) => values.get(i * k..(i + 1) * k).map(|row| Cow::Owned(row.to_f32_vec())),
            Matrix::Bf16(values) => values.get(i * k..(i + 1) * k).map(|row| Cow::Owned(row.to_f32_vec())),
            Matrix::Codes(codes) => (i < codes.n()).then(|| {
                let mut row = vec![0.; k];
                codes.unpack(i, &mut row);
                Cow::Owned(row)
            }),
        })
    }

    /// The parts of a quantised matrix on `device`; `None` of another.
    pub fn quantised(&self, device: &Device) -> Result<Option<CodeTensors>> {
        match &self.values {
            Values::Quantised(matrix) => matrix.tensors(device).map(Some),
            _ => Ok(None),
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
            Values::Quantised(matrix) => matrix.unpacked(device),
            _ => Tensor::from_slice(&self.matrix()?.widened(), self.shape.as_slice(), device),
        }
    }
}

impl<'a> Matrix<'a> {
    /// All values as f32.
    pub fn widened(self) -> Cow<'a, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::F16(values) => Cow::Owned(values.to_f32_vec()),
            Self::Bf16(values) => Cow::Owned(values.to_f32_vec()),
            Self::Codes(codes) => {
                let mut values = vec![0.; codes.n() * codes.k];
                values.chunks_mut(codes.k).enumerate().for_each(|(i, row)| codes.unpack(i, row));
                Cow::Owned(values)
            }
        }
    }
}

impl From<Quantised> for Param {
    fn from(matrix: Quantised) -> Self {
        Self { shape: matrix.shape().to_vec(), values: Values::Quantised(matrix) }
    }
}
