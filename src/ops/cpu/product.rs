//! The one matrix product of the CPU kernels: `y = init + w x`, on tiles of accumulators that stay in registers.
//!
//! The columns of `x` and `y` are vector lanes; each value of `w` is broadcast. So a weight is read where it lies in the
//! weights file, in PyTorch's order, and what one product gives is what the next one takes.
use super::simd::{Isa, Kernel, Simd};

/// Left operand `[m, k]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// First value and everything after it.
    pub values: &'a [f32],
    /// How a row follows the last.
    pub order: Order,
    /// Rows.
    pub m: usize,
}

/// Memory order of a left operand.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Rows are this far apart, the values of a row adjacent.
    Rows(usize),
    /// Columns are this far apart, the values of a column adjacent.
    Columns(usize),
}

/// A matrix whose columns are handled in panels of [`Isa::panel`]: value `(r, c)` is at
/// `r * row + (c / panel) * next + c % panel`.
#[derive(Debug, Clone, Copy)]
pub struct Panels<T> {
    /// First value and everything after it, up to the next whole vector of columns.
    pub values: T,
    /// From row to row.
    pub row: usize,
    /// From panel to panel.
    pub next: usize,
}

/// What the accumulators start from.
#[derive(Debug, Clone, Copy)]
pub enum Init<'a> {
    /// Zero.
    Zero,
    /// One value for each row.
    Bias(&'a [f32]),
    /// What is in `y`.
    Sum,
    /// Zero; what is in `y` is added at the end, so that a long sum made in parts is rounded at the size of its parts.
    Add,
}

/// Rows that are met next, and are brought nearer meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    start: *const u8,
    row: usize,
    shift: u32,
}

impl Ahead {
    /// The rows of `row` values that begin with those of `rest`, values of 4 bytes or, if they are smaller, a power of two fewer.
    pub fn new<T>(rest: &[T], row: usize) -> Self {
        let shift = (size_of::<f32>() / size_of::<T>()).ilog2();
        Self { start: rest.as_ptr().cast(), row: row * size_of::<T>(), shift }
    }
}

/// Terms of a sum that is made at once: longer ones are made in parts and rounded at their size; what is met of `x` stays in the
/// second cache meanwhile, and of a strip of `w` in the first.
const DEPTH: usize = 512;

/// Stretches of about equal length, of at most [`DEPTH`] terms, in which a sum of `k` is made: first term, terms.
pub fn parts(k: usize) -> impl Iterator<Item = (usize, usize)> {
    let depth = k.div_ceil(k.div_ceil(DEPTH).max(1)).next_multiple_of(16).max(16);
    (0..k.max(1)).step_by(depth).map(move |start| (start, depth.min(k - start)))
}

/// `y[m, n] = init + w[m, k] x[k, n]`; columns of `y` up to the next whole vector are overwritten too.
pub fn product(isa: Isa, w: Left, k: usize, x: Panels<&[f32]>, n: usize, y: Panels<&mut [f32]>, init: Init) {
    for (start, k) in parts(k) {
        let step = match w.order {
            Order::Rows(_) => 1,
            Order::Columns(step) => step,
        };
        let w = Left { values: w.values.get(start * step..).unwrap_or_default(), ..w };
        let x = Panels { values: x.values.get(start * x.row..).unwrap_or_default(), ..x };
        let y = Panels { values: &mut *y.values, ..y };
        product_ahead(isa, (w, None), k, x, n, y, if start == 0 { init } else { Init::Add });
    }
}

/// `product` of a sum that is made at once; `ahead` are the rows of which `w` is made next, where it is made.
pub fn product_ahead(
    isa: Isa,
    (w, ahead): (Left, Option<Ahead>),
    k: usize,
    x: Panels<&[f32]>,
    n: usize,
    y: Panels<&mut [f32]>,
    init: Init,
) {
    if w.m == 0 || n == 0 {
        return;
    }
    let (lanes, panel) = (isa.lanes(), isa.panel());
    let last = (n - 1) / panel; // the last panel
    let width = ((n - 1) % panel / lanes + 1) * lanes; // whole vectors in it
    if k > 0 {
        let end = match w.order {
            Order::Rows(step) => (w.m - 1) * step + k,
            Order::Columns(step) => (k - 1) * step + w.m,
        };
        assert!(end <= w.values.len(), "the left operand of a product ends early");
        assert!((k - 1) * x.row + last * x.next + width <= x.values.len(), "the right operand of a product ends early");
    }
    assert!((w.m - 1) * y.row + last * y.next + width <= y.values.len(), "the result of a product has no room");
    assert!(last == 0 || (y.next >= panel && (k == 0 || x.next >= panel)), "panels of a product overlap");
    if let Init::Bias(bias) = init {
        assert!(bias.len() >= w.m, "the bias of a product ends early");
    }
    isa.run(Product {
        w,
        k,
        x: x.values.as_ptr(),
        x_step: (x.row, x.next),
        n,
        y: y.values.as_mut_ptr(),
        y_step: (y.row, y.next),
        init,
        ahead,
    });
}

/// Pointers whose extents `product` has checked.
struct Product<'a> {
    w: Left<'a>,
    k: usize,
    x: *const f32,
    x_step: (usize, usize),
    n: usize,
    y: *mut f32,
    y_step: (usize, usize),
    init: Init<'a>,
    ahead: Option<Ahead>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the instruction set is the caller's promise, the extents were checked by `product`.
        unsafe {
            match self.w.order {
                Order::Rows(step) => self.rows::<S, false>(step),
                Order::Columns(step) => self.rows::<S, true>(step),
            }
        }
    }
}

impl Product<'_> {
    /// All rows, in strips as high as the registers allow; the strip of `w` stays in the first cache over the panels.
    #[inline(always)]
    unsafe fn rows<S: Simd, const COLUMNS: bool>(&self, step: usize) {
        let m = self.w.m;
        let mut i = 0;
        // SAFETY: `i + height <= m` for every strip.
        unsafe {
            if S::TILE == 12 {
                while i + 12 <= m {
                    self.strip::<S, 12, COLUMNS>(i, step);
                    i += 12;
                }
                if i + 8 <= m {
                    self.strip::<S, 8, COLUMNS>(i, step);
                    i += 8;
                }
            } else {
                while i + 6 <= m {
                    self.strip::<S, 6, COLUMNS>(i, step);
                    i += 6;
                }
            }
            if i + 4 <= m {
                self.strip::<S, 4, COLUMNS>(i, step);
                i += 4;
            }
            if i + 2 <= m {
                self.strip::<S, 2, COLUMNS>(i, step);
                i += 2;
            }
            if i < m {
                self.strip::<S, 1, COLUMNS>(i, step);
            }
        }
    }

    /// Rows `i..i + H`, all panels.
    #[inline(always)]
    unsafe fn strip<S: Simd, const H: usize, const COLUMNS: bool>(&self, i: usize, step: usize) {
        // SAFETY: rows and columns are inside the checked extents.
        unsafe {
            let w = self.w.values.as_ptr().add(if COLUMNS { i } else { i * step });
            let mut c = 0;
            let mut x = self.x;
            let mut y = self.y.add(i * self.y_step.0);
            while c < self.n {
                if self.n - c > S::LANES {
                    // While the first panel is met, because by then a strip of a weight is read for the first time.
                    if c == 0 && !COLUMNS {
                        self.tile::<S, H, 2, COLUMNS, true>(w, step, x, y, i);
                    } else {
                        self.tile::<S, H, 2, COLUMNS, false>(w, step, x, y, i);
                    }
                } else {
                    self.tile::<S, H, 1, COLUMNS, false>(w, step, x, y, i);
                }
                c += 2 * S::LANES;
                x = x.wrapping_add(self.x_step.1);
                y = y.wrapping_add(self.y_step.1);
            }
        }
    }

    /// `H` rows by `W` vectors; `AHEAD` brings the next strip of `w` nearer meanwhile.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the indices are those of the tile, and are unrolled")]
    unsafe fn tile<S: Simd, const H: usize, const W: usize, const COLUMNS: bool, const AHEAD: bool>(
        &self,
        w: *const f32,
        step: usize,
        x: *const f32,
        y: *mut f32,
        row: usize,
    ) {
        let (x_row, y_row) = (self.x_step.0, self.y_step.0);
        // SAFETY: the tile is inside the checked extents.
        unsafe {
            let mut acc = [[S::splat(0.); W]; H];
            match self.init {
                Init::Zero | Init::Add => {}
                Init::Bias(bias) => {
                    for i in 0..H {
                        acc[i] = [S::splat(*bias.as_ptr().add(row + i)); W];
                    }
                }
                Init::Sum => {
                    for i in 0..H {
                        for j in 0..W {
                            acc[i][j] = S::load(y.add(i * y_row + j * S::LANES));
                        }
                    }
                }
            }
            let (mut w, mut x) = (w, x);
            let strip = Ahead { start: w.wrapping_add(H * step).cast(), row: step * size_of::<f32>(), shift: 0 };
            let next = self.ahead.unwrap_or(strip);
            for p in 0..self.k {
                if AHEAD {
                    // A line of 64 bytes of each row, over 16 steps or so many times that as values are smaller.
                    let line = p >> next.shift;
                    S::prefetch(next.start.wrapping_add((line & 15) * next.row + (line >> 4) * 64).cast());
                }
                let mut right = [S::splat(0.); W];
                for j in 0..W {
                    right[j] = S::load(x.add(j * S::LANES));
                }
                for i in 0..H {
                    let left = S::splat(*w.add(if COLUMNS { i } else { i * step }));
                    for j in 0..W {
                        acc[i][j] = S::fma(left, right[j], acc[i][j]);
                    }
                }
                w = w.wrapping_add(if COLUMNS { step } else { 1 });
                x = x.wrapping_add(x_row);
            }
            if let Init::Add = self.init {
                for i in 0..H {
                    for j in 0..W {
                        acc[i][j] = S::add(S::load(y.add(i * y_row + j * S::LANES)), acc[i][j]);
                    }
                }
            }
            for i in 0..H {
                for j in 0..W {
                    S::store(y.add(i * y_row + j * S::LANES), acc[i][j]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.
            })
            .collect()
    }

    /// Row and column order, one and several panels, each start, ragged sizes, on every instruction set.
    #[test]
    fn products_of_ragged_sizes() {
        for isa in Isa::available() {
            let panel = isa.panel();
            for (m, k, n) in [
                (1, 1, 1usize),
                (2, 5, 3),
                (13, 7, 17),
                (25, 33, 65),
                (11, 16, 31),
                (12, 3, 32),
                (7, 0, 9),
                (14, 1100, 34),
            ] {
                let n_panel = n.div_ceil(panel);
                let (w, x, bias, old) = (noise(m * k, 1), noise(k * n, 2), noise(m, 3), noise(m * n, 4));
                let mut packed = vec![f32::NAN; n_panel * k * panel];
                for p in 0..k {
                    for j in 0..n {
                        packed[(j / panel) * k * panel + p * panel + j % panel] = x[p * n + j];
                    }
                }
                let transposed: Vec<f32> = (0..k * m).map(|i| w[i % m * k + i / m]).collect();
                let row = n_panel * panel;
                for (values, order) in [(&w, Order::Rows(k)), (&transposed, Order::Columns(m))] {
                    for init in [Init::Zero, Init::Bias(&bias), Init::Sum, Init::Add] {
                        let mut y = vec![0.; m * row];
                        for i in 0..m {
                            y[i * row..][..n].copy_from_slice(&old[i * n..][..n]);
                        }
                        let x = Panels { values: &packed[..], row: panel, next: k * panel };
                        product(
                            isa,
                            Left { values, order, m },
                            k,
                            x,
                            n,
                            Panels { values: &mut y, row, next: panel },
                            init,
                        );
                        for i in 0..m {
                            for j in 0..n {
                                let start = match init {
                                    Init::Zero => 0.,
                                    Init::Bias(b) => b[i],
                                    Init::Sum | Init::Add => old[i * n + j],
                                };
                                let sum: f64 = (0..k)
                                    .map(|p| {
                                        f64::from(w[i * k + p])
                                            * f64::from(packed[(j / panel) * k * panel + p * panel + j % panel])
                                    })
                                    .sum();
                                let want = f64::from(start) + sum;
                                let got = f64::from(y[i * row + j]);
                                let limit = 1e-7 * k.max(100) as f64; // single precision: more terms, more rounding
                                assert!(
                                    (got - want).abs() < limit,
                                    "{isa:?} {m}x{k}x{n} {order:?} ({i}, {j}): {got} for {want}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
