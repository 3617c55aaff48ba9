//! Rotary positions: channels i and i + d / 2 of a head are turned by the angle of their position.
use super::pointwise::{load, store};
use super::simd::{Isa, Kernel, Simd};

/// Turns the rows of `c` channels, in heads of `d`, in place.
///
/// Row r is at position `(first + r) % n`; `tables` are cosine and sine, `[n, d / 2]` each.
pub fn rotate_rows(
    isa: Isa,
    x: &mut [f32],
    c: usize,
    (cos, sin): (&[f32], &[f32]),
    d: usize,
    (first, n): (usize, usize),
) {
    assert!(d > 0 && d.is_multiple_of(2) && c.is_multiple_of(d) && x.len().is_multiple_of(c), "rows of other heads");
    assert!(n > 0 && cos.len() >= n * d / 2 && sin.len() >= n * d / 2, "tables of angles end early");
    isa.run(RotateRows { x, c, cos: cos.as_ptr(), sin: sin.as_ptr(), d, first, n });
}

struct RotateRows<'a> {
    x: &'a mut [f32],
    c: usize,
    cos: *const f32,
    sin: *const f32,
    d: usize,
    first: usize,
    n: usize,
}

impl Kernel for RotateRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { c, d, first, n, .. } = self;
        let (rows, half) = (self.x.len() / c, d / 2);
        let mut r = 0;
        // SAFETY: the extents were checked by `rotate_rows`.
        unsafe {
            while r < rows {
                let at = (first + r) % n * half;
                let (cos, sin) = (self.cos.add(at), self.sin.add(at));
                let mut head = 0;
                while head < c {
                    let left = self.x.as_mut_ptr().add(r * c + head);
                    let right = left.add(half);
                    let mut i = 0;
                    while i < half {
                        let w = S::LANES.min(half - i);
                        let (a, b) = (load::<S>(left.add(i), w), load::<S>(right.add(i), w));
                        let (cos, sin) = (load::<S>(cos.add(i), w), load::<S>(sin.add(i), w));
                        store::<S>(left.add(i), S::sub(S::mul(a, cos), S::mul(b, sin)), w);
                        store::<S>(right.add(i), S::fma(a, sin, S::mul(b, cos)), w);
                        i += S::LANES;
                    }
                    head += d;
                }
                r += 1;
            }
        }
    }
}
