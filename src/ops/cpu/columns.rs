//! Between rows (one position's channels adjacent, as tensors have them) and columns (one channel of a panel of positions
//! adjacent, as products take and give them).
use super::scratch::Shared;
use super::simd::{Isa, Kernel, Simd};

/// Largest square that is transposed in registers.
const SQUARE: usize = 16 * 16;

/// `n` rows of `c` channels, `step` apart -> `c` rows of `n` positions, `row` apart; zero up to the next whole vector.
pub fn to_columns(isa: Isa, src: &[f32], step: usize, n: usize, c: usize, dst: &mut [f32], row: usize) {
    if n == 0 || c == 0 {
        return;
    }
    assert!((n - 1) * step + c <= src.len(), "rows end early");
    assert!((c - 1) * row + n.next_multiple_of(isa.lanes()) <= dst.len(), "columns have no room");
    isa.run(ToColumns { src: src.as_ptr(), step, n, c, dst: dst.as_mut_ptr(), row });
}

struct ToColumns {
    src: *const f32,
    step: usize,
    n: usize,
    c: usize,
    dst: *mut f32,
    row: usize,
}

impl Kernel for ToColumns {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, step, n, c, dst, row } = self;
        let lanes = S::LANES;
        let mut part = [0f32; SQUARE];
        let mut turned = [0f32; SQUARE];
        let mut i = 0;
        // SAFETY: the extents were checked by `to_columns`; a square that is not whole goes through the local arrays.
        unsafe {
            while i < n {
                let height = lanes.min(n - i);
                let mut k = 0;
                while k < c {
                    let width = lanes.min(c - k);
                    let from = src.add(i * step + k);
                    let to = dst.add(k * row + i);
                    if height == lanes && width == lanes {
                        S::transpose(from, step, to, row);
                    } else {
                        let mut r = 0;
                        while r < lanes {
                            let v = if r >= height {
                                S::splat(0.)
                            } else if width == lanes {
                                S::load(from.add(r * step))
                            } else {
                                S::load_part(from.add(r * step), width)
                            };
                            S::store(part.as_mut_ptr().add(r * lanes), v);
                            r += 1;
                        }
                        S::transpose(part.as_ptr(), lanes, turned.as_mut_ptr(), lanes);
                        let mut r = 0;
                        while r < width {
                            S::store(to.add(r * row), S::load(turned.as_ptr().add(r * lanes)));
                            r += 1;
                        }
                    }
                    k += lanes;
                }
                i += lanes;
            }
        }
    }
}

/// What becomes of the rows' old values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// They are overwritten.
    Set,
    /// They are added to.
    Add,
}

/// `c` rows of `n` positions, `row` apart -> `n` rows of `c` channels, `step` apart from `start` on in `dst`.
///
/// # Safety
///
/// Nothing else reads or writes these stretches of `dst` meanwhile.
#[expect(clippy::too_many_arguments, reason = "two matrices and their extents")]
pub unsafe fn to_rows(
    isa: Isa,
    src: &[f32],
    row: usize,
    n: usize,
    c: usize,
    dst: Shared,
    start: usize,
    step: usize,
    write: Write,
) {
    if n == 0 || c == 0 {
        return;
    }
    assert!((c - 1) * row + n.next_multiple_of(isa.lanes()) <= src.len(), "columns end early");
    isa.run(ToRows { src: src.as_ptr(), row, n, c, dst: dst.rows(start, n, step, c), step, write });
}

struct ToRows {
    src: *const f32,
    row: usize,
    n: usize,
    c: usize,
    dst: *mut f32,
    step: usize,
    write: Write,
}

impl Kernel for ToRows {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, row, n, c, dst, step, write } = self;
        let lanes = S::LANES;
        let mut part = [0f32; SQUARE];
        let mut turned = [0f32; SQUARE];
        let mut i = 0;
        // SAFETY: the extents were checked by `to_rows`; a square that is not whole goes through the local arrays.
        unsafe {
            while i < n {
                let height = lanes.min(n - i);
                let mut k = 0;
                while k < c {
                    let width = lanes.min(c - k);
                    let from = src.add(k * row + i);
                    let to = dst.add(i * step + k);
                    if height == lanes && width == lanes && write == Write::Set {
                        S::transpose(from, row, to, step);
                    } else {
                        if width == lanes {
                            S::transpose(from, row, turned.as_mut_ptr(), lanes);
                        } else {
                            let mut r = 0;
                            while r < lanes {
                                let v = if r < width { S::load(from.add(r * row)) } else { S::splat(0.) };
                                S::store(part.as_mut_ptr().add(r * lanes), v);
                                r += 1;
                            }
                            S::transpose(part.as_ptr(), lanes, turned.as_mut_ptr(), lanes);
                        }
                        let mut r = 0;
                        while r < height {
                            let to = to.add(r * step);
                            let v = S::load(turned.as_ptr().add(r * lanes));
                            if width == lanes {
                                S::store(to, if write == Write::Add { S::add(S::load(to), v) } else { v });
                            } else {
                                let old = S::load_part(to, width);
                                S::store_part(to, if write == Write::Add { S::add(old, v) } else { v }, width);
                            }
                            r += 1;
                        }
                    }
                    k += lanes;
                }
                i += lanes;
            }
        }
    }
}

/// Layer norm over the `c` rows of columns, `row` apart, for `n` positions (up to the next whole vector), in place.
pub fn norm_columns(
    isa: Isa,
    x: &mut [f32],
    row: usize,
    c: usize,
    n: usize,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
) {
    if n == 0 || c == 0 {
        return;
    }
    assert!((c - 1) * row + n.next_multiple_of(isa.lanes()) <= x.len(), "columns end early");
    assert!(weight.is_none_or(|w| w.len() >= c) && bias.is_none_or(|b| b.len() >= c), "norm parameters end early");
    isa.run(NormColumns { x: x.as_mut_ptr(), row, c, n, weight, bias });
}

struct NormColumns<'a> {
    x: *mut f32,
    row: usize,
    c: usize,
    n: usize,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl Kernel for NormColumns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { row, c, n, weight, bias, .. } = self;
        let mut i = 0;
        // SAFETY: the extents were checked by `norm_columns`.
        unsafe {
            while i < n {
                let x = self.x.add(i);
                let count = S::splat(c as f32);
                // Four sums, because one would wait for itself and round more.
                let mut sums = [S::splat(0.); 4];
                let mut k = 0;
                while k < c {
                    sums[k % 4] = S::add(sums[k % 4], S::load(x.add(k * row)));
                    k += 1;
                }
                let mean = S::div(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])), count);
                sums = [S::splat(0.); 4];
                let mut squares = [S::splat(0.); 4];
                k = 0;
                while k < c {
                    let d = S::sub(S::load(x.add(k * row)), mean);
                    sums[k % 4] = S::add(sums[k % 4], d);
                    squares[k % 4] = S::fma(d, d, squares[k % 4]);
                    k += 1;
                }
                // What rounding has left in the mean.
                let rest = S::div(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])), count);
                let squares = S::add(S::add(squares[0], squares[1]), S::add(squares[2], squares[3]));
                let variance = S::sub(S::div(squares, count), S::mul(rest, rest));
                let factor = S::div(S::splat(1.), S::sqrt(S::add(variance, S::splat(super::EPS))));
                k = 0;
                while k < c {
                    let mut v = S::mul(S::sub(S::sub(S::load(x.add(k * row)), mean), rest), factor);
                    if let Some(w) = weight {
                        v = S::mul(v, S::splat(*w.get_unchecked(k)));
                    }
                    if let Some(b) = bias {
                        v = S::add(v, S::splat(*b.get_unchecked(k)));
                    }
                    S::store(x.add(k * row), v);
                    k += 1;
                }
                i += S::LANES;
            }
        }
    }
}

/// Copies `c` rows of `n` values, `from` apart -> `to` apart.
pub fn copy_columns(src: &[f32], from: usize, c: usize, n: usize, dst: &mut [f32], to: usize) {
    for k in 0..c {
        dst[k * to..][..n].copy_from_slice(&src[k * from..][..n]);
    }
}

/// Multiplies each of the `c` rows of columns, `row` apart, by `factor`, one value for each position, in place.
pub fn scale_columns(isa: Isa, x: &mut [f32], row: usize, c: usize, factor: &[f32]) {
    let n = factor.len();
    if c == 0 {
        return;
    }
    assert!((c - 1) * row + n <= x.len(), "columns end early");
    isa.run(ScaleColumns { x: x.as_mut_ptr(), row, c, factor });
}

struct ScaleColumns<'a> {
    x: *mut f32,
    row: usize,
    c: usize,
    factor: &'a [f32],
}

impl Kernel for ScaleColumns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let n = self.factor.len();
        let mut i = 0;
        // SAFETY: the extents were checked by `scale_columns`.
        unsafe {
            while i < n {
                let width = S::LANES.min(n - i);
                let f = super::pointwise::load::<S>(self.factor.as_ptr().add(i), width);
                let mut k = 0;
                while k < self.c {
                    let p = self.x.add(k * self.row + i);
                    super::pointwise::store::<S>(p, S::mul(super::pointwise::load::<S>(p, width), f), width);
                    k += 1;
                }
                i += S::LANES;
            }
        }
    }
}

/// Where the values added to the logits of one head lie.
#[derive(Debug, Clone, Copy)]
pub struct LogitBias<'a> {
    /// Value for key k and query q at `k * row + q`.
    pub values: &'a [f32],
    /// From key to key.
    pub row: usize,
}

/// Softmax of columns without the division: `x` holds `n_key` rows of logits, `row` apart, for `n` queries.
///
/// `x` becomes `exp(scale * x + bias + hidden - max)` and `inverse` one over the sum of each column; `hidden` has one
/// value for each key.
#[expect(clippy::too_many_arguments, reason = "the logits, all that is added to them, their extents")]
pub fn softmax_columns(
    isa: Isa,
    x: &mut [f32],
    row: usize,
    n_key: usize,
    n: usize,
    scale: f32,
    bias: Option<LogitBias>,
    hidden: Option<&[f32]>,
    inverse: &mut [f32],
) {
    if n == 0 || n_key == 0 {
        return;
    }
    let whole = n.next_multiple_of(isa.lanes());
    assert!((n_key - 1) * row + whole <= x.len() && whole <= inverse.len(), "logits end early");
    assert!(bias.is_none_or(|b| (n_key - 1) * b.row + whole <= b.values.len()), "the bias of logits ends early");
    assert!(hidden.is_none_or(|h| n_key <= h.len()), "the mask of logits ends early");
    isa.run(SoftmaxColumns { x: x.as_mut_ptr(), row, n_key, n, scale, bias, hidden, inverse: inverse.as_mut_ptr() });
}

struct SoftmaxColumns<'a> {
    x: *mut f32,
    row: usize,
    n_key: usize,
    n: usize,
    scale: f32,
    bias: Option<LogitBias<'a>>,
    hidden: Option<&'a [f32]>,
    inverse: *mut f32,
}

impl SoftmaxColumns<'_> {
    /// `W` vectors of queries from `i` on.
    #[inline(always)]
    unsafe fn vectors<S: Simd, const W: usize>(&self, i: usize) {
        // SAFETY: the extents were checked by `softmax_columns`.
        unsafe {
            let x = self.x.add(i);
            let mut most = [S::splat(f32::MIN); W];
            let scale = S::splat(self.scale);
            let mut k = 0;
            while k < self.n_key {
                let hidden = match self.hidden {
                    Some(h) => S::splat(*h.get_unchecked(k)),
                    None => S::splat(0.),
                };
                let mut j = 0;
                while j < W {
                    let p = x.add(k * self.row + j * S::LANES);
                    let mut v = hidden;
                    if let Some(b) = self.bias {
                        v = S::add(v, S::load(b.values.as_ptr().add(k * b.row + i + j * S::LANES)));
                    }
                    v = S::fma(S::load(p), scale, v);
                    S::store(p, v);
                    most[j] = S::max(most[j], v);
                    j += 1;
                }
                k += 1;
            }
            let mut sum = [S::splat(0.); W];
            k = 0;
            while k < self.n_key {
                let mut j = 0;
                while j < W {
                    let p = x.add(k * self.row + j * S::LANES);
                    let e = super::simd::exp_of_negative::<S>(S::sub(S::load(p), most[j]));
                    S::store(p, e);
                    sum[j] = S::add(sum[j], e);
                    j += 1;
                }
                k += 1;
            }
            let mut j = 0;
            while j < W {
                S::store(self.inverse.add(i + j * S::LANES), S::div(S::splat(1.), sum[j]));
                j += 1;
            }
        }
    }
}

impl Kernel for SoftmaxColumns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut i = 0;
        // SAFETY: whole vectors up to the extent that `softmax_columns` checked.
        unsafe {
            while i < self.n {
                if self.n - i > S::LANES {
                    self.vectors::<S, 2>(i);
                } else {
                    self.vectors::<S, 1>(i);
                }
                i += 2 * S::LANES;
            }
        }
    }
}
