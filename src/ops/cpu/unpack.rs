//! Quantised weights as f32: some rows at a time, and, where few rows meet them, straight from the codes to the sums.
use rayon::prelude::*;

use super::columns::Write;
use super::dense::{Rows, Target, blocks};
use super::layer::Layer;
use super::pointwise::Function;
use super::scratch::{Scratch, Shared};
use super::simd::{Isa, Kernel, Simd};
use crate::weights::{CodeLayout, Codes, Matrix};

/// Rows `first..first + m` of `w` to `dst` `[m, k]`.
pub fn unpack_rows(isa: Isa, w: &Codes, first: usize, m: usize, dst: &mut [f32]) {
    for (i, dst) in dst.chunks_exact_mut(w.k).take(m).enumerate() {
        isa.run(Row { w, row: first + i, dst });
    }
}

/// One row of a quantised matrix.
struct Row<'a, 'b> {
    w: &'a Codes<'b>,
    row: usize,
    dst: &'a mut [f32],
}

impl Row<'_, '_> {
    #[inline(always)]
    unsafe fn of<S: Simd, C: Code>(self) {
        let source = Source::new(self.w, self.row);
        let (k, group, dst) = (self.w.k, self.w.layout.group, self.dst.as_mut_ptr());
        assert!(self.dst.len() >= k, "no room for a row");
        // SAFETY: `source` has checked that the row is there, `dst` has room for it, and a group is whole vectors.
        unsafe {
            let mut i = 0;
            while i < k {
                let (scale, bias) = source.affine::<S>(i / group);
                let end = i + group;
                while i < end {
                    S::store(dst.add(i), S::fma(C::load::<S>(source.codes, i), scale, bias));
                    i += S::LANES;
                }
            }
        }
    }
}

impl Kernel for Row<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { if self.w.layout.bits == 4 { self.of::<S, Nibbles>() } else { self.of::<S, Octets>() } }
    }
}

/// A row whose extent has been checked. Groups are whole vectors of every instruction set.
#[derive(Clone, Copy)]
struct Source<'a> {
    layout: CodeLayout,
    codes: *const u8,
    scales: &'a [u8],
    biases: &'a [u8],
}

impl<'a> Source<'a> {
    #[inline(always)]
    fn new(w: &Codes<'a>, row: usize) -> Self {
        let (bytes, scale_bytes) = (w.layout.row_bytes(w.k), w.layout.scale_bytes(w.k));
        Self {
            layout: w.layout,
            codes: w.codes[row * bytes..][..bytes].as_ptr(),
            scales: &w.scales[row * scale_bytes..][..scale_bytes],
            biases: &w.biases[row * scale_bytes..][..scale_bytes],
        }
    }

    /// Scale and bias of a group.
    #[inline(always)]
    unsafe fn affine<S: Simd>(&self, group: usize) -> (S::V, S::V) {
        let of = self.layout.of;
        // SAFETY: the instruction set is the caller's promise.
        unsafe { (S::splat(of.at(self.scales, group)), S::splat(of.at(self.biases, group))) }
    }
}

/// How codes are read; chosen once a row.
trait Code {
    /// A vector of the codes from code `i` on of the row at `p`.
    ///
    /// # Safety
    ///
    /// As for [`Simd`]; the codes are there.
    unsafe fn load<S: Simd>(p: *const u8, i: usize) -> S::V;
}

struct Nibbles;
struct Octets;

impl Code for Nibbles {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8, i: usize) -> S::V {
        // SAFETY: the contract of the trait.
        unsafe { S::nibbles(p.add(i / 2)) }
    }
}

impl Code for Octets {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8, i: usize) -> S::V {
        // SAFETY: the contract of the trait.
        unsafe { S::octets(p.add(i)) }
    }
}

/// Rows of `x` up to which sums are made along the rows of the weight.
const FEW: usize = 8;
/// Rows of `x` that meet a row of the weight at once.
const TOGETHER: usize = 4;

/// Shall [`few`] serve these layers?
pub fn is_few<'a>(m: usize, layers: impl IntoIterator<Item = &'a Layer<'a>>) -> bool {
    m <= FEW && layers.into_iter().all(|layer| matches!(layer.w, Matrix::Codes(_)))
}

/// Applies quantised `layers` to the few `m` `rows`; see [`is_few`].
pub fn few(isa: Isa, rows: Rows, m: usize, layers: &[(Layer, Target)], parallel: bool) {
    let Some(k) = layers.first().map(|(layer, _)| layer.k) else { return };
    let panel = isa.panel();
    let mut x = Scratch::new(m * k);
    rows.copy(isa, 0, m, &mut x);
    let x = &x[..];
    let blocks = blocks(&layers.iter().map(|(layer, _)| layer.n).collect::<Vec<_>>());
    let task = |&(i, first, c): &(usize, usize, usize)| {
        let (layer, target) = &layers[i];
        let Matrix::Codes(w) = &layer.w else { return };
        let mut y = Scratch::new(c * panel); // a column for each row of x
        for (r, y) in y.chunks_exact_mut(panel).enumerate() {
            y.fill(layer.bias.map_or(0., |bias| bias[first + r]));
            for at in (0..m).step_by(TOGETHER) {
                let n = TOGETHER.min(m - at);
                let sums = isa.run(Dots { w, row: first + r, x: &x[at * k..][..n * k], n });
                y[at..at + n].iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
            }
        }
        // SAFETY: a channel belongs to one task.
        unsafe { target.store(isa, &mut y, panel, (0, m), (first, c)) };
    };
    if parallel { blocks.par_iter().with_max_len(1).for_each(task) } else { blocks.iter().for_each(task) }
}

/// `silu(a x) * b x` `[m, n]` of few rows.
pub fn few_gated(isa: Isa, rows: Rows, m: usize, [a, b]: [Layer; 2], parallel: bool) -> Scratch {
    let (mut ya, mut yb) = (Scratch::new(m * a.n), Scratch::new(m * b.n));
    let to = |dst| Target { dst, n: a.n, write: Write::Set, gate: None, mask: None };
    few(isa, rows, m, &[(a, to(Shared::new(&mut ya))), (b, to(Shared::new(&mut yb)))], parallel);
    Function::TimesSilu.apply(isa, &mut ya, &yb, &[]);
    ya
}

/// The products of a row of a quantised matrix with `n` rows of `x`.
struct Dots<'a, 'b> {
    w: &'a Codes<'b>,
    row: usize,
    x: &'a [f32],
    n: usize,
}

impl Dots<'_, '_> {
    #[inline(always)]
    unsafe fn of<S: Simd, C: Code, const N: usize>(&self) -> [f32; TOGETHER] {
        let (k, group, source) = (self.w.k, self.w.layout.group, Source::new(self.w, self.row));
        assert!(self.x.len() >= N * k, "rows of a product end early");
        let mut sums = [0.; TOGETHER];
        // SAFETY: the extents were checked above, and a group is pairs of vectors.
        unsafe {
            let mut acc = [[S::splat(0.); 2]; N]; // two, because one would wait for itself
            let mut i = 0;
            while i < k {
                let (scale, bias) = source.affine::<S>(i / group);
                let end = i + group;
                while i < end {
                    let first = S::fma(C::load::<S>(source.codes, i), scale, bias);
                    let second = S::fma(C::load::<S>(source.codes, i + S::LANES), scale, bias);
                    let mut j = 0;
                    while j < N {
                        let x = self.x.as_ptr().add(j * k + i);
                        acc[j][0] = S::fma(first, S::load(x), acc[j][0]);
                        acc[j][1] = S::fma(second, S::load(x.add(S::LANES)), acc[j][1]);
                        j += 1;
                    }
                    i += 2 * S::LANES;
                }
            }
            let mut j = 0;
            while j < N {
                sums[j] = S::sum(S::add(acc[j][0], acc[j][1]));
                j += 1;
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, C: Code>(&self) -> [f32; TOGETHER] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe {
            match self.n {
                1 => self.of::<S, C, 1>(),
                2 => self.of::<S, C, 2>(),
                3 => self.of::<S, C, 3>(),
                _ => self.of::<S, C, TOGETHER>(),
            }
        }
    }
}

impl Kernel for Dots<'_, '_> {
    type Output = [f32; TOGETHER];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f32; TOGETHER] {
        // SAFETY: the instruction set is the caller's promise.
        unsafe { if self.w.layout.bits == 4 { self.rows::<S, Nibbles>() } else { self.rows::<S, Octets>() } }
    }
}
