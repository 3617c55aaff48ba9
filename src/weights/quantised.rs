//! A quantised matrix: codes of 4 or 8 bits with a scale and a bias for each group, as MLX makes and stores them.
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};
use memmap2::Mmap;

use super::param::Format;

/// A matrix `[n, k]` of `scale * code + bias`, where it lies in the mapped file, or on another device than the CPU a copy there. It
/// is never unpacked whole but for the plain reference of an operation.
#[derive(Debug, Clone)]
pub struct Quantised {
    shape: [usize; 2],
    layout: CodeLayout,
    parts: Parts,
}

/// How the codes of a matrix are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLayout {
    /// Of a code: 4 or 8, the first code in the lowest bits.
    pub bits: usize,
    /// Neighbours in a row that share scale and bias: 32, 64 or 128.
    pub group: usize,
    /// Number format of scales and biases.
    pub of: Format,
}

#[derive(Debug, Clone)]
enum Parts {
    Host { codes: Bytes, scales: Bytes, biases: Bytes },
    Device(CodeTensors),
}

/// A quantised matrix as tensors.
#[derive(Debug, Clone)]
pub struct CodeTensors {
    /// How the codes are written.
    pub layout: CodeLayout,
    /// `[n, k * bits / 32]`, u32.
    pub codes: Tensor,
    /// `[n, k / group]`, f32.
    pub scales: Tensor,
    /// `[n, k / group]`, f32.
    pub biases: Tensor,
}

/// A stretch of bytes that outlives who reads it.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    Mapped { file: Arc<Mmap>, start: usize, len: usize },
    Heap(Arc<Vec<u8>>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped { file, start, len } => &file[*start..*start + *len],
            Self::Heap(bytes) => bytes,
        }
    }
}

/// A quantised matrix on the host.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    /// How the codes are written.
    pub layout: CodeLayout,
    /// Values of a row.
    pub k: usize,
    /// Row after row.
    pub codes: &'a [u8],
    /// One for each group, row after row.
    pub scales: &'a [u8],
    /// One for each group, row after row.
    pub biases: &'a [u8],
}

impl CodeLayout {
    /// Bytes of the codes of a row of `k`.
    pub fn row_bytes(self, k: usize) -> usize {
        k * self.bits / 8
    }

    /// Bytes of the scales of a row of `k`, and of its biases.
    pub fn scale_bytes(self, k: usize) -> usize {
        k / self.group * self.of.bytes()
    }
}

impl Codes<'_> {
    /// Rows.
    pub fn n(&self) -> usize {
        self.codes.len() / self.layout.row_bytes(self.k).max(1)
    }

    /// Writes row `i` to `dst`.
    pub fn unpack(&self, i: usize, dst: &mut [f32]) {
        let CodeLayout { bits, group, of } = self.layout;
        let (row, first) = (&self.codes[i * self.layout.row_bytes(self.k)..], i * (self.k / group));
        for (g, dst) in dst.chunks_mut(group).enumerate() {
            let (scale, bias) = (of.at(self.scales, first + g), of.at(self.biases, first + g));
            for (j, v) in dst.iter_mut().enumerate() {
                let at = g * group + j;
                let code = if bits == 4 { row[at / 2] >> (at % 2 * 4) & 15 } else { row[at] };
                *v = scale * f32::from(code) + bias;
            }
        }
    }
}

impl Quantised {
    /// A matrix whose parts are little-endian bytes; an error where their lengths or the layout do not fit.
    pub fn new(
        shape: [usize; 2],
        layout: CodeLayout,
        codes: Vec<u8>,
        scales: Vec<u8>,
        biases: Vec<u8>,
    ) -> Result<Self> {
        Self::of(shape, layout, [codes, scales, biases].map(|bytes| Bytes::Heap(Arc::new(bytes))))
    }

    pub(super) fn of(shape: [usize; 2], layout: CodeLayout, parts: [Bytes; 3]) -> Result<Self> {
        let ([n, k], CodeLayout { bits, group, .. }) = (shape, layout);
        if !matches!((bits, group), (4 | 8, 32 | 64 | 128)) || !k.is_multiple_of(group) {
            bail!("codes of {bits} bits in groups of {group} for rows of {k}")
        }
        let [codes, scales, biases] = parts;
        let want = [n * layout.row_bytes(k), n * layout.scale_bytes(k), n * layout.scale_bytes(k)];
        let got = [&codes, &scales, &biases].map(|part| part.as_slice().len());
        if got != want {
            bail!("a quantised matrix of {shape:?}: parts of {got:?} bytes, not {want:?}")
        }
        Ok(Self { shape, layout, parts: Parts::Host { codes, scales, biases } })
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Where it lies on the host. An error for a matrix on another device.
    pub fn codes(&self) -> Result<Codes<'_>> {
        let Parts::Host { codes, scales, biases } = &self.parts else { bail!("the matrix is on another device") };
        let (codes, scales, biases) = (codes.as_slice(), scales.as_slice(), biases.as_slice());
        Ok(Codes { layout: self.layout, k: self.shape[1], codes, scales, biases })
    }

    /// Its parts as tensors on `device`: shared if they are tensors already, else copies.
    pub fn tensors(&self, device: &Device) -> Result<CodeTensors> {
        if let Parts::Device(tensors) = &self.parts {
            return Ok(tensors.clone());
        }
        let (at, [n, k], CodeLayout { bits, group, of }) = (self.codes()?, self.shape, self.layout);
        let floats = |bytes: &[u8]| {
            let values: Vec<f32> = (0..n * (k / group)).map(|i| of.at(bytes, i)).collect();
            Tensor::from_vec(values, (n, k / group), device)
        };
        let codes = Tensor::from_raw_buffer(at.codes, DType::U32, &[n, k * bits / 32], device)?;
        Ok(CodeTensors { layout: self.layout, codes, scales: floats(at.scales)?, biases: floats(at.biases)? })
    }

    /// The same matrix where `device` computes: unchanged on the CPU, uploaded elsewhere.
    pub(super) fn placed(self, device: &Device) -> Result<Self> {
        if device.is_cpu() {
            return Ok(self);
        }
        Ok(Self { parts: Parts::Device(self.tensors(device)?), ..self })
    }

    /// All of it as f32 on `device`: for the plain reference of an operation.
    pub fn unpacked(&self, device: &Device) -> Result<Tensor> {
        let [n, k] = self.shape;
        let CodeTensors { layout: CodeLayout { bits, group, .. }, codes, scales, biases } = self.tensors(device)?;
        let words = codes.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<u32>()?;
        let mask = (1 << bits) - 1;
        let codes = words.iter().flat_map(|word| (0..32 / bits).map(move |i| (word >> (i * bits) & mask) as f32));
        let codes = Tensor::from_iter(codes, device)?.reshape((n, k / group, group))?;
        codes.broadcast_mul(&scales.unsqueeze(2)?)?.broadcast_add(&biases.unsqueeze(2)?)?.reshape((n, k))
    }
}

impl Format {
    /// The `i`-th of little-endian numbers.
    #[inline]
    pub fn at(self, bytes: &[u8], i: usize) -> f32 {
        match self {
            Self::F32 => f32::from_le_bytes(bytes.as_chunks().0[i]),
            Self::F16 => f16::from_le_bytes(bytes.as_chunks().0[i]).to_f32(),
            Self::Bf16 => bf16::from_le_bytes(bytes.as_chunks().0[i]).to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Param;

    /// Rows unpacked one by one are those of the whole matrix; a matrix of the wrong lengths is refused.
    #[test]
    fn rows_and_the_whole() -> Result<()> {
        let (n, k) = (3, 64);
        for bits in [4, 8] {
            for of in [Format::F32, Format::F16, Format::Bf16] {
                let layout = CodeLayout { bits, group: 32, of };
                let codes: Vec<u8> = (0..n * k * bits / 8).map(|i| (i * 37 % 251) as u8).collect();
                let floats = |from: f32| {
                    let value = move |i: usize| from + i as f32 / 16.;
                    let bytes = |x: f32| match of {
                        Format::F32 => x.to_le_bytes().to_vec(),
                        Format::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                        Format::Bf16 => bf16::from_f32(x).to_le_bytes().to_vec(),
                    };
                    (0..n * k / 32).flat_map(|i| bytes(value(i))).collect::<Vec<u8>>()
                };
                let matrix = Quantised::new([n, k], layout, codes.clone(), floats(0.25), floats(-1.))?;
                let whole = matrix.unpacked(&Device::Cpu)?.to_vec2::<f32>()?;
                let code = if bits == 4 { codes[k / 2 + 16] & 15 } else { codes[k + 32] };
                assert_eq!(whole[1][32], (0.25 + 3. / 16.) * f32::from(code) - 1. + 3. / 16.);
                let param = Param::from(matrix);
                for (i, row) in whole.iter().enumerate() {
                    assert_eq!(param.row(i)?.as_deref(), Some(&row[..]));
                }
                assert!(param.row(n)?.is_none() && param.as_slice().is_err());
                assert!(Quantised::new([n, k], layout, codes[1..].to_vec(), floats(0.), floats(0.)).is_err());
                assert!(Quantised::new([n, 48], layout, codes, floats(0.), floats(0.)).is_err());
            }
        }
        Ok(())
    }
}
