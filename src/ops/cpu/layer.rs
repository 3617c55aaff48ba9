//! Dense layers whose weights are in the format of their file: a kernel takes some rows of them at a time as f32.
use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::dense::Dense;
use super::product::{Ahead, Init, Left, Order, Panels, parts, product, product_ahead};
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

/// Rows that are widened at a time: a strip of the widest tile.
const STRIP: usize = 12;

impl Layer<'_> {
    /// The layer as f32; weights of another format are widened into `room`.
    pub fn whole<'r>(&'r self, isa: Isa, room: &'r mut Option<Scratch>) -> Dense<'r> {
        let w = match self.w {
            Matrix::F32(w) => w,
            narrow => {
                let room = room.insert(Scratch::new(self.n * self.k));
                for (row, room) in room.chunks_exact_mut(self.k.max(1)).enumerate() {
                    widen(isa, narrow, (row, 0), self.k, room);
                }
                room
            }
        };
        Dense { w, bias: self.bias, k: self.k, n: self.n }
    }

    /// `y = w x + bias` for the channels `first..first + c`.
    pub fn product(&self, isa: Isa, (first, c): (usize, usize), x: Panels<&[f32]>, n: usize, y: Panels<&mut [f32]>) {
        let strips = |height: usize| (first..first + c).step_by(height).map(move |at| (at, height.min(first + c - at)));
        // A strip of halves is widened as far as a sum is made at once, one of codes whole; see `parts`.
        let is_half = matches!(self.w, Matrix::F16(_) | Matrix::Bf16(_));
        let stretches = if is_half { parts(self.k).collect() } else { vec![(0, self.k)] };
        let strip = if let Matrix::F32(_) = self.w { c.max(1) } else { STRIP };
        for part in stretches {
            let x = Panels { values: &x.values[part.0 * x.row..], ..x };
            for rows in strips(strip) {
                let init = match (part.0, self.bias) {
                    (0, Some(bias)) => Init::Bias(&bias[rows.0..rows.0 + rows.1]),
                    (0, None) => Init::Zero,
                    _ => Init::Add,
                };
                let y = Panels { values: &mut y.values[(rows.0 - first) * y.row..], row: y.row, next: y.next };
                self.part(isa, [rows, part], x, n, y, init);
            }
        }
    }

    /// `y = init + w x` for the channels `first..first + m` and `k` channels of the input from `start` on.
    fn part(
        &self,
        isa: Isa,
        [(first, m), (start, k)]: [(usize, usize); 2],
        x: Panels<&[f32]>,
        n: usize,
        y: Panels<&mut [f32]>,
        init: Init,
    ) {
        let at = |row: usize| row * self.k + start;
        let ahead = match self.w {
            Matrix::F32(w) => {
                let w = Left { values: &w[at(first)..], order: Order::Rows(self.k), m };
                return product(isa, w, k, x, n, y, init);
            }
            Matrix::F16(w) => w.get(at(first + m)..).map(|rest| Ahead::new(rest, self.k)),
            Matrix::Bf16(w) => w.get(at(first + m)..).map(|rest| Ahead::new(rest, self.k)),
            Matrix::Codes(_) => None,
        };
        let mut wide = Scratch::new(m * k);
        for (row, wide) in wide.chunks_exact_mut(k.max(1)).enumerate() {
            widen(isa, self.w, (first + row, start), self.k, wide);
        }
        let w = Left { values: &wide, order: Order::Rows(k), m };
        product_ahead(isa, (w, ahead), k, x, n, y, init);
    }
}

/// The values of a row of a matrix of `k` columns from `start` on as f32, as many as `to` holds; of codes whole rows.
fn widen(isa: Isa, from: Matrix, (row, start): (usize, usize), k: usize, to: &mut [f32]) {
    let part = row * k + start..row * k + start + to.len();
    match from {
        Matrix::F32(w) => to.copy_from_slice(&w[part]),
        Matrix::F16(w) => w[part].convert_to_f32_slice(to),
        Matrix::Bf16(w) => isa.run(WidenBf16 { from: &w[part], to }),
        Matrix::Codes(ref codes) => {
            assert!(start == 0 && to.len() == k, "codes are widened row by row");
            unpack_rows(isa, codes, row, 1, to);
        }
    }
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
    use half::f16;

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
            assert_eq!(brain.whole(isa, &mut room).bias, Some(&bias[..]));
        }
    }
}
