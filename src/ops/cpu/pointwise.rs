//! Computations on each value, and on rows as tensors have them.
use super::simd::{Isa, Kernel, Simd, erf, exp_of_negative, sigmoid};

/// A vector, or the first `n` lanes of one.
///
/// # Safety
///
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn load<S: Simd>(p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { S::load(p) } else { S::load_part(p, n) } }
}

/// A vector, or the first `n` lanes of one.
///
/// # Safety
///
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn store<S: Simd>(p: *mut f32, v: S::V, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { S::store(p, v) } else { S::store_part(p, v, n) } }
}

/// A function of the old value and one or two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `dst = sigmoid(a)`
    Sigmoid,
    /// `dst = max(a, 0)`
    Relu,
    /// `dst = a (1 + erf(a / sqrt(2))) / 2`
    Gelu,
    /// `dst = a * sigmoid(b)`
    SigmoidGate,
    /// `dst = silu(a) * b`
    SiluGate,
    /// `dst += a`
    Add,
    /// `dst += a * b`
    AddProduct,
    /// `dst += a * sigmoid(b)`
    AddSigmoidGate,
    /// `dst *= sigmoid(a)`
    TimesSigmoid,
    /// `dst = silu(dst) * a`
    TimesSilu,
}

impl Function {
    /// `dst = f(dst, a, b)`, value by value; `b` is given where the function has one.
    pub fn apply(self, isa: Isa, dst: &mut [f32], a: &[f32], b: &[f32]) {
        let two = matches!(self, Self::SigmoidGate | Self::SiluGate | Self::AddProduct | Self::AddSigmoidGate);
        assert!(dst.len() == a.len() || dst.is_empty(), "two arrays of different length");
        assert!(!two || dst.len() == b.len(), "two arrays of different length");
        isa.run(Apply { function: self, dst, a, b });
    }
}

struct Apply<'a> {
    function: Function,
    dst: &'a mut [f32],
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { function, dst, a, b } = self;
        let (n, dst, a, b) = (dst.len(), dst.as_mut_ptr(), a.as_ptr(), b.as_ptr());
        /// One loop for each function, so that the choice is made once.
        macro_rules! each {
            (|$d:ident, $a:ident| $value:expr) => {{
                let mut i = 0;
                while i < n {
                    let w = S::LANES.min(n - i);
                    let ($d, $a) = (load::<S>(dst.add(i), w), load::<S>(a.add(i), w));
                    store::<S>(dst.add(i), $value, w);
                    i += S::LANES;
                }
            }};
            (|$d:ident, $a:ident, $b:ident| $value:expr) => {{
                let mut i = 0;
                while i < n {
                    let w = S::LANES.min(n - i);
                    let ($d, $a, $b) = (load::<S>(dst.add(i), w), load::<S>(a.add(i), w), load::<S>(b.add(i), w));
                    store::<S>(dst.add(i), $value, w);
                    i += S::LANES;
                }
            }};
        }
        // SAFETY: `apply` compared the lengths.
        unsafe {
            match function {
                Function::Sigmoid => each!(|_d, a| sigmoid::<S>(a)),
                Function::Relu => each!(|_d, a| S::max(S::splat(0.), a)),
                Function::Gelu => each!(|_d, a| {
                    let erf = erf::<S>(S::mul(a, S::splat(std::f32::consts::FRAC_1_SQRT_2)));
                    let half = S::mul(a, S::splat(0.5));
                    S::fma(half, erf, half)
                }),
                Function::SigmoidGate => each!(|_d, a, b| S::mul(a, sigmoid::<S>(b))),
                Function::SiluGate => each!(|_d, a, b| S::mul(S::mul(a, sigmoid::<S>(a)), b)),
                Function::Add => each!(|d, a| S::add(d, a)),
                Function::AddProduct => each!(|d, a, b| S::fma(a, b, d)),
                Function::AddSigmoidGate => each!(|d, a, b| S::fma(a, sigmoid::<S>(b), d)),
                Function::TimesSigmoid => each!(|d, a| S::mul(d, sigmoid::<S>(a))),
                Function::TimesSilu => each!(|d, a| S::mul(S::mul(d, sigmoid::<S>(d)), a)),
            }
        }
    }
}

/// Scale and offset of a layer norm.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Multiplies the normalised values.
    pub weight: Option<&'a [f32]>,
    /// Is added then.
    pub bias: Option<&'a [f32]>,
    /// 0 where all rows have the same parameters, else how far those of one row are from those of the last.
    pub step: usize,
}

/// Layer norm of each of the rows of `c` in `src`.
pub fn norm_rows(isa: Isa, src: &[f32], c: usize, affine: Affine, dst: &mut [f32]) {
    if src.is_empty() {
        return;
    }
    let rows = src.len() / c;
    let enough = |p: Option<&[f32]>| p.is_none_or(|p| (rows - 1) * affine.step + c <= p.len());
    assert!(rows * c == src.len() && dst.len() == src.len(), "rows of different length");
    assert!(enough(affine.weight) && enough(affine.bias), "norm parameters end early");
    isa.run(NormRows { src: src.as_ptr(), rows, c, affine, dst: dst.as_mut_ptr() });
}

struct NormRows<'a> {
    src: *const f32,
    rows: usize,
    c: usize,
    affine: Affine<'a>,
    dst: *mut f32,
}

impl Kernel for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.c;
        let mut r = 0;
        // SAFETY: `norm_rows` checked the lengths.
        unsafe {
            while r < self.rows {
                let (x, dst) = (self.src.add(r * c), self.dst.add(r * c));
                let mean = S::splat(row_sum::<S>(x, c) / c as f32);
                let (sum, squares) = row_deviation::<S>(x, c, mean);
                let rest = sum / c as f32; // what rounding has left in the mean
                let variance = squares / c as f32 - rest * rest;
                let factor = S::splat(1. / (variance + super::EPS).sqrt());
                let rest = S::splat(rest);
                let mut i = 0;
                while i < c {
                    let w = S::LANES.min(c - i);
                    let mut v = S::mul(S::sub(S::sub(load::<S>(x.add(i), w), mean), rest), factor);
                    if let Some(p) = self.affine.weight {
                        v = S::mul(v, load::<S>(p.as_ptr().add(r * self.affine.step + i), w));
                    }
                    if let Some(p) = self.affine.bias {
                        v = S::add(v, load::<S>(p.as_ptr().add(r * self.affine.step + i), w));
                    }
                    store::<S>(dst.add(i), v, w);
                    i += S::LANES;
                }
                r += 1;
            }
        }
    }
}

/// Sum of a row.
#[inline(always)]
unsafe fn row_sum<S: Simd>(x: *const f32, c: usize) -> f32 {
    // SAFETY: `c` values at `x`.
    unsafe {
        let mut sums = [S::splat(0.); 2];
        let mut i = 0;
        while i + 2 * S::LANES <= c {
            sums[0] = S::add(sums[0], S::load(x.add(i)));
            sums[1] = S::add(sums[1], S::load(x.add(i + S::LANES)));
            i += 2 * S::LANES;
        }
        while i < c {
            sums[0] = S::add(sums[0], load::<S>(x.add(i), S::LANES.min(c - i)));
            i += S::LANES;
        }
        S::sum(S::add(sums[0], sums[1]))
    }
}

/// Sums of the distances of a row from `mean`, and of their squares.
#[inline(always)]
unsafe fn row_deviation<S: Simd>(x: *const f32, c: usize, mean: S::V) -> (f32, f32) {
    // SAFETY: `c` values at `x`; of the last vector only the lanes before the end are counted.
    unsafe {
        let mut sums = [S::splat(0.); 2];
        let mut squares = [S::splat(0.); 2];
        let mut i = 0;
        while i + 2 * S::LANES <= c {
            let d = [S::sub(S::load(x.add(i)), mean), S::sub(S::load(x.add(i + S::LANES)), mean)];
            sums = [S::add(sums[0], d[0]), S::add(sums[1], d[1])];
            squares = [S::fma(d[0], d[0], squares[0]), S::fma(d[1], d[1], squares[1])];
            i += 2 * S::LANES;
        }
        while i + S::LANES <= c {
            let d = S::sub(S::load(x.add(i)), mean);
            sums[0] = S::add(sums[0], d);
            squares[0] = S::fma(d, d, squares[0]);
            i += S::LANES;
        }
        let mut sum = S::sum(S::add(sums[0], sums[1]));
        let mut square = S::sum(S::add(squares[0], squares[1]));
        if i < c {
            let mut rest = [0f32; 16];
            S::store(rest.as_mut_ptr(), S::sub(S::load_part(x.add(i), c - i), mean));
            let mut j = 0;
            while j < c - i {
                sum += rest[j];
                square += rest[j] * rest[j];
                j += 1;
            }
        }
        (sum, square)
    }
}

/// Softmax of each of the rows of `c`, in place.
pub fn softmax_rows(isa: Isa, x: &mut [f32], c: usize) {
    assert!(c > 0 && x.len().is_multiple_of(c), "rows of different length");
    isa.run(SoftmaxRows { x, c });
}

struct SoftmaxRows<'a> {
    x: &'a mut [f32],
    c: usize,
}

impl Kernel for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.c;
        let rows = self.x.len() / c;
        let mut r = 0;
        // SAFETY: row by row inside the slice.
        unsafe {
            while r < rows {
                let x = self.x.as_mut_ptr().add(r * c);
                let mut most = S::splat(f32::MIN);
                let mut i = 0;
                while i + S::LANES <= c {
                    most = S::max(most, S::load(x.add(i)));
                    i += S::LANES;
                }
                let mut most = S::largest(most);
                while i < c {
                    most = most.max(*x.add(i));
                    i += 1;
                }
                let most = S::splat(most);
                let mut sum = S::splat(0.);
                i = 0;
                while i + S::LANES <= c {
                    let e = exp_of_negative::<S>(S::sub(S::load(x.add(i)), most));
                    S::store(x.add(i), e);
                    sum = S::add(sum, e);
                    i += S::LANES;
                }
                let mut sum = S::sum(sum);
                if i < c {
                    S::store_part(x.add(i), exp_of_negative::<S>(S::sub(S::load_part(x.add(i), c - i), most)), c - i);
                    while i < c {
                        sum += *x.add(i);
                        i += 1;
                    }
                }
                let inverse = S::splat(1. / sum);
                i = 0;
                while i < c {
                    let w = S::LANES.min(c - i);
                    store::<S>(x.add(i), S::mul(load::<S>(x.add(i), w), inverse), w);
                    i += S::LANES;
                }
                r += 1;
            }
        }
    }
}
