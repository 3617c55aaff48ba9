//! The two operations between an MSA representation `[r, n, c_m]` and a pair representation `[n, n, c_z]`.
use super::columns::{Write, copy_columns, scale_columns, to_columns, to_rows};
use super::dense::{Dense, for_each};
use super::pair::{self, Line};
use super::pointwise::{Affine, Function, softmax_rows};
use super::product::{Init, Left, Order, Panels, product};
use super::scratch::{Scratch, Shared};
use super::simd::Isa;

/// Weights and sizes of an outer product mean.
#[derive(Debug, Clone, Copy)]
pub struct OuterProductMean<'a> {
    pub norm: Affine<'a>,
    /// `c_m -> c`.
    pub a: Dense<'a>,
    /// `c_m -> c`.
    pub b: Dense<'a>,
    /// `c * c -> c_z`.
    pub out: Dense<'a>,
    /// Added to the number of sequences.
    pub eps: f32,
    /// Tokens.
    pub n: usize,
}

/// Channels of a whose outer products with all of b are held at once.
const CHANNELS: usize = 8;
/// Panels that a task takes at once.
const GROUP: usize = 3;

impl OuterProductMean<'_> {
    /// Updates one `z` from `m` with `mask` `[r, n]`.
    pub fn run(&self, isa: Isa, z: Shared, m: &[f32], mask: &[f32]) {
        let (n, c, c_m) = (self.n, self.a.n, self.a.k);
        let panel = isa.panel();
        let rows = m.len() / (n * c_m);
        let row = n.next_multiple_of(panel);
        let mut a = Scratch::new(n * rows * c); // token, sequence, channel
        let mut b = Scratch::new(c * rows * row); // channel and sequence in the order of the sum, token
        // Few sequences: the weight times a is smaller than the outer product, and is made first.
        let few = 2 * rows <= c;
        let steps = if few { [row, c * row] } else { [rows * row, row] };
        self.operands(isa, m, mask, Shared::new(&mut a), (Shared::new(&mut b), steps));
        if few { self.few(isa, z, &a, &b, mask) } else { self.many(isa, z, &a, &b, mask) }
    }

    /// For few sequences: `sum_re (sum_c out_ce a_irc) b_jre`.
    fn few(&self, isa: Isa, z: Shared, a: &[f32], b: &[f32], mask: &[f32]) {
        let (n, c, c_z, panel, lanes) = (self.n, self.a.n, self.out.n, isa.panel(), isa.lanes());
        let rows = mask.len() / n;
        let (k, row, step) = (rows * c, n.next_multiple_of(panel), GROUP * panel);
        for_each(n.div_ceil(lanes), n * n * c >= 1 << 10, |task| {
            let (first, count) = (task * lanes, lanes.min(n - task * lanes));
            let mut left = Scratch::new(count * c_z * k); // token, channel of z, sequence, channel of b
            let shared = Shared::new(&mut left);
            let (mut x, mut y) = (Scratch::new(c * panel), Scratch::new(c.max(c_z) * step));
            for r in 0..rows {
                to_columns(isa, &a[(first * rows + r) * c..], rows * c, count, c, &mut x, panel);
                for channel in 0..c_z {
                    let w = Left { values: &self.out.w[channel * c * c..], order: Order::Columns(c), m: c };
                    let x = Panels { values: &x[..], row: panel, next: 0 };
                    product(isa, w, c, x, count, Panels { values: &mut y, row: panel, next: 0 }, Init::Zero);
                    // SAFETY: the scratch array is this task's.
                    unsafe { to_rows(isa, &y, panel, count, c, shared, channel * k + r * c, c_z * k, Write::Set) };
                }
            }
            let init = self.out.bias.map_or(Init::Zero, Init::Bias);
            for (i, left) in (first..).zip(left.chunks(c_z * k)) {
                for at in (0..n).step_by(step) {
                    let width = step.min(n - at);
                    let w = Left { values: left, order: Order::Rows(k), m: c_z };
                    let x = Panels { values: &b[at..], row, next: panel };
                    product(isa, w, k, x, width, Panels { values: &mut y, row: step, next: panel }, init);
                    // SAFETY: these positions belong to this task.
                    unsafe { self.store(isa, z, &mut y, mask, i, (at, width)) };
                }
            }
        });
    }

    /// For any number of sequences: `sum_ce out_ce (sum_r a_irc b_jre)`.
    fn many(&self, isa: Isa, z: Shared, a: &[f32], b: &[f32], mask: &[f32]) {
        let (n, c, c_z, panel) = (self.n, self.a.n, self.out.n, isa.panel());
        let rows = mask.len() / n;
        let (row, step) = (n.next_multiple_of(panel), GROUP * panel);
        let tiles = n.div_ceil(step);
        for_each(n * tiles, n * n * c >= 1 << 10, |task| {
            let (i, at) = (task / tiles, task % tiles * step);
            let width = step.min(n - at);
            let mut outer = Scratch::new(CHANNELS * c * step);
            let mut y = Scratch::new(c_z * step);
            for first in (0..c).step_by(CHANNELS) {
                let height = CHANNELS.min(c - first);
                let w = Left { values: &a[i * rows * c + first..], order: Order::Columns(c), m: height };
                for e in 0..c {
                    let x = Panels { values: &b[e * rows * row + at..], row, next: panel };
                    let y = Panels { values: &mut outer[e * step..], row: c * step, next: panel };
                    product(isa, w, rows, x, width, y, Init::Zero);
                }
                let w = Left { values: &self.out.w[first * c..], order: Order::Rows(c * c), m: c_z };
                let init = match (first, self.out.bias) {
                    (0, Some(bias)) => Init::Bias(bias),
                    (0, None) => Init::Zero,
                    _ => Init::Sum,
                };
                let x = Panels { values: &outer[..], row: step, next: panel };
                product(isa, w, height * c, x, width, Panels { values: &mut y, row: step, next: panel }, init);
            }
            // SAFETY: these positions belong to this task.
            unsafe { self.store(isa, z, &mut y, mask, i, (at, width)) };
        });
    }

    /// Adds the sums `y`, columns of `width` tokens from `at` on, to row `i` of `z`, divided by the sequences of both tokens.
    ///
    /// # Safety
    ///
    /// Nothing else reads or writes these positions of `z` meanwhile.
    unsafe fn store(&self, isa: Isa, z: Shared, y: &mut [f32], mask: &[f32], i: usize, (at, width): (usize, usize)) {
        let (n, c_z, step) = (self.n, self.out.n, GROUP * isa.panel());
        let count = |j: usize| mask.chunks(n).map(|mask| mask[i] * mask[j]).sum::<f32>();
        let inverse: Vec<f32> = (at..at + width).map(|j| 1. / (count(j) + self.eps)).collect();
        scale_columns(isa, y, step, c_z, &inverse);
        // SAFETY: the caller has these positions to itself.
        unsafe { to_rows(isa, y, step, width, c_z, z, (i * n + at) * c_z, c_z, Write::Add) };
    }

    /// a and b times the mask, each in the order that its products read; that of b has steps for channel and sequence.
    fn operands(&self, isa: Isa, m: &[f32], mask: &[f32], a: Shared, (b, [e_step, r_step]): (Shared, [usize; 2])) {
        let (n, c, c_m, panel) = (self.n, self.a.n, self.a.k, isa.panel());
        let rows = m.len() / (n * c_m);
        let tiles = n.div_ceil(panel);
        for_each(rows * tiles, m.len() >= 1 << 12, |task| {
            let (r, at) = (task / tiles, task % tiles * panel);
            let width = panel.min(n - at);
            let mask = &mask[r * n + at..][..width];
            let (mut x, mut y) = (Scratch::new(c_m * panel), Scratch::new(c * panel));
            let line = Line { first: r * n * c_m, step: c_m, c: c_m };
            // SAFETY: `m` is only read.
            unsafe { line.columns(isa, Shared::read_only(m), Some(self.norm), at, width, &mut x) };
            let x = Panels { values: &x[..], row: panel, next: 0 };
            self.a.product(isa, 0, c, x, width, Panels { values: &mut y, row: panel, next: 0 });
            scale_columns(isa, &mut y, panel, c, mask);
            // SAFETY: these tokens of this sequence belong to this task.
            unsafe { to_rows(isa, &y, panel, width, c, a, (at * rows + r) * c, rows * c, Write::Set) };
            self.b.product(isa, 0, c, x, width, Panels { values: &mut y, row: panel, next: 0 });
            scale_columns(isa, &mut y, panel, c, mask);
            for (e, y) in y.chunks(panel).enumerate() {
                // SAFETY: as above.
                unsafe { b.part(e * e_step + r * r_step + at, width) }.copy_from_slice(&y[..width]);
            }
        });
    }
}

/// Weights and sizes of a pair-weighted average.
#[derive(Debug, Clone, Copy)]
pub struct PairWeightedAverage<'a> {
    pub norm_m: Affine<'a>,
    pub norm_z: Affine<'a>,
    /// `c_z -> h`.
    pub bias: Dense<'a>,
    /// `c_m -> h * d`.
    pub v: Dense<'a>,
    /// `c_m -> h * d`.
    pub gate: Dense<'a>,
    /// `h * d -> c_m`.
    pub out: Dense<'a>,
    /// Tokens.
    pub n: usize,
}

/// Sequences that a task takes at once, so that the weights of a head are read once for all of them.
const SEQUENCES: usize = 4;

impl PairWeightedAverage<'_> {
    /// Updates one `m` from `z` with `mask` `[n, n]`.
    pub fn run(&self, isa: Isa, m: &mut [f32], z: &[f32], mask: &[f32]) {
        let (n, c_m) = (self.n, self.v.k);
        let rows = m.len() / (n * c_m);
        let row = n.next_multiple_of(isa.panel());
        let weights = self.weights(isa, z, mask, row);
        let size = rows.div_ceil(4 * rayon::current_num_threads()).clamp(1, SEQUENCES);
        let m = Shared::new(m);
        for_each(rows.div_ceil(size), rows * n * n >= 1 << 10, |task| {
            let first = task * size;
            // SAFETY: these sequences belong to this task.
            unsafe { self.sequences(isa, m, first, size.min(rows - first), &weights, row) };
        });
    }

    /// The softmax over j of each head: head, j, i.
    fn weights(&self, isa: Isa, z: &[f32], mask: &[f32], row: usize) -> Scratch {
        let (n, h) = (self.n, self.bias.n);
        let mut plain = Scratch::new(h * n * n);
        pair::bias(isa, z, Some(self.norm_z), self.bias, n * n, Shared::new(&mut plain));
        let mut weights = Scratch::new(h * n * row);
        let (shared, to) = (Shared::new(&mut plain), Shared::new(&mut weights));
        for_each(h, n * n * h >= 1 << 12, |head| {
            // SAFETY: a head belongs to one task.
            let plain = unsafe { shared.part(head * n * n, n * n) };
            plain.iter_mut().zip(mask).for_each(|(w, m)| *w += 1e9 * (m - 1.));
            softmax_rows(isa, plain, n);
            // SAFETY: as above.
            to_columns(isa, plain, n, n, n, unsafe { to.part(head * n * row, n * row) }, row);
        });
        weights
    }

    /// Sequences `first..first + count`.
    ///
    /// # Safety
    ///
    /// Nothing else reads or writes these sequences meanwhile.
    unsafe fn sequences(&self, isa: Isa, m: Shared, first: usize, count: usize, weights: &[f32], row: usize) {
        let (n, c_m, c, h, panel) = (self.n, self.v.k, self.v.n, self.bias.n, isa.panel());
        let (d, n_panel) = (c / h, n.div_ceil(panel));
        let line = |r: usize| Line { first: (first + r) * n * c_m, step: c_m, c: c_m };
        let mut x = Scratch::new(n_panel * c_m * panel);
        let (mut v, mut gate) = (Scratch::new(count * c * row), Scratch::new(count * n_panel * c * panel));
        for (r, (v, gate)) in v.chunks_mut(c * row).zip(gate.chunks_mut(n_panel * c * panel)).enumerate() {
            for (p, x) in x.chunks_mut(c_m * panel).enumerate() {
                // SAFETY: these sequences are the caller's.
                unsafe { line(r).columns(isa, m, Some(self.norm_m), p * panel, panel.min(n - p * panel), x) };
            }
            let x = Panels { values: &x[..], row: panel, next: c_m * panel };
            self.v.product(isa, 0, c, x, n, Panels { values: v, row, next: panel });
            self.gate.product(isa, 0, c, x, n, Panels { values: gate, row: panel, next: c * panel });
        }
        let (mut o, mut y) = (Scratch::new(count * c * panel), Scratch::new(c_m * panel));
        let mut some = Scratch::new(n * panel);
        for p in 0..n_panel {
            let at = p * panel;
            let width = panel.min(n - at);
            for head in 0..h {
                copy_columns(&weights[head * n * row + at..], row, n, panel.min(row - at), &mut some, panel);
                let x = Panels { values: &some[..], row: panel, next: 0 };
                for r in 0..count {
                    let w = Left { values: &v[(r * c + head * d) * row..], order: Order::Rows(row), m: d };
                    let o = &mut o[(r * c + head * d) * panel..];
                    product(isa, w, n, x, width, Panels { values: o, row: panel, next: 0 }, Init::Zero);
                }
            }
            for (r, o) in o.chunks_mut(c * panel).enumerate() {
                Function::TimesSigmoid.apply(isa, o, &gate[(r * n_panel + p) * c * panel..][..c * panel], &[]);
                let x = Panels { values: &*o, row: panel, next: 0 };
                self.out.product(isa, 0, c_m, x, width, Panels { values: &mut y, row: panel, next: 0 });
                let start = line(r).first + at * c_m;
                // SAFETY: these sequences are the caller's.
                unsafe { to_rows(isa, &y, panel, width, c_m, m, start, c_m, Write::Add) };
            }
        }
    }
}
