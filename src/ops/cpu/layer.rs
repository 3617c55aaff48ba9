//! Dense layers whose weights are in the format of their file: a kernel takes some rows of them at a time as f32.
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dense::Dense;
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd};
use super::unpack::unpack_rows;
use crate::weights::Matrix;

/// A linear layer where its values lie.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[n, k]`.
    pub w: Matrix<'a>,
    /// `[n]`.
    pub bias: Option<&'a [f32]>,
    /// Channels in.
    pub k: usize,
    /// Channels out.
    pub n: usize,
}

impl Layer<'_> {
    /// Are the weights f32 as they lie?
    pub fn is_wide(&self) -> bool {
        matches!(self.w, Matrix::F32(_))
    }

    /// The layer of channels `first..first + n` alone; weights of another format are widened into `room`.
    pub fn rows<'r>(&'r self, isa: Isa, first: usize, n: usize, room: &'r mut Option<Scratch>) -> Dense<'r> {
        let (k, part) = (self.k, first * self.k..(first + n) * self.k);
        let w = match self.w {
            Matrix::F32(w) => &w[part],
            Matrix::F16(w) => {
                let room = room.insert(Scratch::new(n * k));
                narrow_to_wide(&w[part], room);
                room
            }
            Matrix::Bf16(w) => {
                let room = room.insert(Scratch::new(n * k));
                isa.run(WidenBf16 { from: &w[part], to: room });
                room
            }
            Matrix::Codes(ref codes) => {
                let room = room.insert(Scratch::new(n * k));
                unpack_rows(isa, codes, first, n, room);
                room
            }
        };
        Dense { w, bias: self.bias.map(|b| &b[first..first + n]), k, n }
    }

    /// The whole layer.
    pub fn whole<'r>(&'r self, isa: Isa, room: &'r mut Option<Scratch>) -> Dense<'r> {
        self.rows(isa, 0, self.n, room)
    }
}

fn narrow_to_wide(from: &[f16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}

struct WidenBf16<'a> {
    from: &'a [bf16],
    to: &'a mut [f32],
}

impl Kernel for WidenBf16<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert_eq!(self.from.len(), self.to.len(), "as many values as there is room for");
        // A plain loop, which the compiler turns into vectors of the instruction set.
        for i in 0..self.from.len() {
            self.to[i] = f32::from_bits(u32::from(self.from[i].to_bits()) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 16-bit number, on each instruction set.
    #[test]
    fn all_numbers_are_widened() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let (halves, brains): (Vec<f16>, Vec<bf16>) =
            bits.iter().map(|b| (f16::from_bits(*b), bf16::from_bits(*b))).unzip();
        let bias: Vec<f32> = (0..256).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let layer = |w| Layer { w, bias: Some(&bias), k: 256, n: 256 };
            let same = |got: &[f32], want: &dyn Fn(usize) -> f32| {
                got.iter()
                    .enumerate()
                    .all(|(i, x)| x.to_bits() == want(i).to_bits() || (x.is_nan() && want(i).is_nan()))
            };
            let mut room = None;
            let (half, brain) = (layer(Matrix::F16(&halves)), layer(Matrix::Bf16(&brains)));
            assert!(same(half.whole(isa, &mut room).w, &|i| halves[i].to_f32()));
            assert!(same(brain.whole(isa, &mut room).w, &|i| brains[i].to_f32()));
            let part = brain.rows(isa, 3, 5, &mut room);
            assert!(same(part.w, &|i| brains[3 * 256 + i].to_f32()));
            assert_eq!((part.n, part.bias), (5, Some(&bias[3..8])));
        }
    }
}
