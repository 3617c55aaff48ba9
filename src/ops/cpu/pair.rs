//! Operations on a pair representation `[b, n, n, c]`, in place, by tiles: no tensor as large as it exists besides the two
//! operands of the triangle multiplication.
use super::columns::{
    LogitBias, Write, copy_columns, norm_columns, scale_columns, softmax_columns, to_columns, to_rows,
};
use super::dense::{Dense, for_each};
use super::pointwise::{Affine, Function, norm_rows};
use super::product::{Init, Left, Order, Panels, product};
use super::scratch::{Scratch, Shared};
use super::simd::Isa;

/// Fewer values of a pair representation than this are not worth waking threads for.
const SERIAL_VALUES: usize = 1 << 12;
/// Panels that a task takes at once.
const GROUP: usize = 3;

/// `lin(norm(z))` with the heads first: `z` `[b, size, c]` -> `[b, h, size]`.
pub fn bias(isa: Isa, z: &[f32], norm: Option<Affine>, lin: Dense, size: usize, dst: Shared) {
    let (c, h, panel) = (lin.k, lin.n, isa.panel());
    let step = 4 * panel;
    let tiles = size.div_ceil(step);
    let samples = if size == 0 { 0 } else { z.len() / (size * c) };
    for_each(samples * tiles, z.len() >= SERIAL_VALUES, |task| {
        let (sample, tile) = (task / tiles, task % tiles);
        let mut x = Scratch::new(c * panel);
        let mut y = Scratch::new(h * panel);
        for first in (tile * step..size.min((tile + 1) * step)).step_by(panel) {
            let n = panel.min(size - first);
            let rows = Line { first: (sample * size + first) * c, step: c, c };
            // SAFETY: `z` is only read.
            unsafe { rows.columns(isa, Shared::read_only(z), norm, 0, n, &mut x) };
            let x = Panels { values: &x[..], row: panel, next: 0 };
            lin.product(isa, 0, h, x, n, Panels { values: &mut y, row: panel, next: 0 });
            for (head, y) in y.chunks(panel).enumerate() {
                // SAFETY: these positions belong to this task.
                unsafe { dst.part((sample * h + head) * size + first, n) }.copy_from_slice(&y[..n]);
            }
        }
    });
}

/// A row or a column of a pair representation: `c` channels of each position, positions `step` apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub first: usize,
    pub step: usize,
    pub c: usize,
}

impl Line {
    /// `n` positions from `at` on, at most a panel, normalised, as columns `[c, panel]`.
    ///
    /// # Safety
    ///
    /// Nothing writes these positions meanwhile.
    pub unsafe fn columns(&self, isa: Isa, z: Shared, norm: Option<Affine>, at: usize, n: usize, dst: &mut [f32]) {
        let Self { first, step, c } = *self;
        let panel = isa.panel();
        let start = first + at * step;
        let Some(norm) = norm else {
            // SAFETY: the caller's promise; only one line is read, whatever lies between its positions.
            let values = unsafe { z.read(start, (n - 1) * step + c) };
            return to_columns(isa, values, step, n, c, dst, panel);
        };
        let mut normed = Scratch::new(n * c);
        if step == c {
            // SAFETY: the caller's promise.
            norm_rows(isa, unsafe { z.read(start, n * c) }, c, norm, &mut normed);
        } else {
            for (i, normed) in normed.chunks_mut(c).enumerate() {
                // SAFETY: the caller's promise.
                norm_rows(isa, unsafe { z.read(start + i * step, c) }, c, norm, normed);
            }
        }
        to_columns(isa, &normed, c, n, c, dst, panel);
    }
}

/// Weights and sizes of a triangle multiplication.
#[derive(Debug, Clone, Copy)]
pub struct TriangleMultiplication<'a> {
    pub norm_in: Affine<'a>,
    /// `c_z -> 2c`.
    pub ab: Dense<'a>,
    /// `c_z -> 2c`.
    pub ab_gate: Dense<'a>,
    pub norm_out: Affine<'a>,
    /// `c -> c_z`.
    pub out: Dense<'a>,
    /// `c_z -> c_z`.
    pub out_gate: Dense<'a>,
    /// `x_ij = sum_k a_ik b_jk`, else `sum_k a_ki b_kj`.
    pub outgoing: bool,
    /// Tokens.
    pub n: usize,
}

/// The second operand of a triangle multiplication is made for as many channels at once as fit in this many values.
const OPERAND_VALUES: usize = 1 << 24;
/// Rows of a weight that a tile meets at once.
const BLOCK: usize = 96;

impl TriangleMultiplication<'_> {
    /// Updates one `z` `[n, n, c_z]` with `mask` `[n, n]`.
    pub fn run(&self, isa: Isa, z: Shared, mask: &[f32]) {
        let (n, c) = (self.n, self.out.k);
        // Rows of an operand begin in different sets of the first cache.
        let row = n.next_multiple_of(isa.panel());
        let row = if row.is_multiple_of(256) { row + 16 } else { row };
        let plane = n * row;
        let chunk = (OPERAND_VALUES / plane.max(1)).clamp(1, c);
        let chunk = c.div_ceil(c.div_ceil(chunk)); // of one size
        // The sum over the third edge overwrites the operand whose rows or columns are its own: a_i. or b_.j.
        let mut kept = Scratch::new(c * plane);
        let mut other = Scratch::new(chunk * plane);
        let (kept, other) = (Shared::new(&mut kept), Shared::new(&mut other));
        for first in (0..c).step_by(chunk) {
            let chunk = chunk.min(c - first);
            let (kept_half, other_half) = if self.outgoing { (first, c + first) } else { (c + first, first) };
            self.operands(isa, z, mask, row, [(kept_half, first, kept), (other_half, 0, other)], chunk);
            for_each(chunk, n * n * c >= SERIAL_VALUES, |channel| {
                // SAFETY: a channel belongs to one task.
                let kept = unsafe { kept.part((first + channel) * plane, plane) };
                // SAFETY: as above.
                let other = unsafe { other.part(channel * plane, plane) };
                self.sum(isa, row, kept, other);
            });
        }
        self.output(isa, z, row, kept);
    }

    /// Channels `half..half + chunk` of `mask * sigmoid(ab_gate) * ab`, channel first, into `dst` from channel `to` on.
    fn operands(
        &self,
        isa: Isa,
        z: Shared,
        mask: &[f32],
        row: usize,
        parts: [(usize, usize, Shared); 2],
        chunk: usize,
    ) {
        let (n, c_z, panel) = (self.n, self.ab.k, isa.panel());
        let step = GROUP * panel;
        let tiles = n.div_ceil(step);
        for_each(n * tiles, n * n * c_z >= SERIAL_VALUES, |task| {
            let (i, at) = (task / tiles, task % tiles * step);
            let width = step.min(n - at);
            let n_panel = width.div_ceil(panel);
            let mut x = Scratch::new(n_panel * c_z * panel);
            for (p, x) in x.chunks_mut(c_z * panel).enumerate() {
                let line = Line { first: i * n * c_z, step: c_z, c: c_z };
                let at = at + p * panel;
                // SAFETY: z is not written before all operands are made.
                unsafe { line.columns(isa, z, Some(self.norm_in), at, panel.min(n - at), x) };
            }
            let x = Panels { values: &x[..], row: panel, next: c_z * panel };
            let (mut y, mut gate) = (Scratch::new(BLOCK * step), Scratch::new(BLOCK * step));
            let mask = &mask[i * n + at..][..width];
            for (half, to, dst) in parts {
                for channel in (0..chunk).step_by(BLOCK) {
                    let height = BLOCK.min(chunk - channel);
                    let first = half + channel;
                    self.ab.product(isa, first, height, x, width, Panels { values: &mut y, row: step, next: panel });
                    let y_gate = Panels { values: &mut gate[..], row: step, next: panel };
                    self.ab_gate.product(isa, first, height, x, width, y_gate);
                    Function::TimesSigmoid.apply(isa, &mut y[..height * step], &gate[..height * step], &[]);
                    scale_columns(isa, &mut y, step, height, mask);
                    for (k, y) in y.chunks(step).enumerate().take(height) {
                        // SAFETY: these positions belong to this task.
                        let dst = unsafe { dst.part(((to + channel + k) * n + i) * row + at, width) };
                        dst.copy_from_slice(&y[..width]);
                    }
                }
            }
        });
    }

    /// One channel of the sum over the third edge, `row` values from row to row; it overwrites `kept`.
    fn sum(&self, isa: Isa, row: usize, kept: &mut [f32], other: &[f32]) {
        let (n, panel) = (self.n, isa.panel());
        if self.outgoing {
            let mut x = Scratch::new(n.div_ceil(panel) * n * panel); // b transposed, in panels
            for (p, x) in x.chunks_mut(n * panel).enumerate() {
                to_columns(isa, &other[p * panel * row..], row, panel.min(n - p * panel), n, x, panel);
            }
            let mut y = Scratch::new(BLOCK * row);
            for first in (0..n).step_by(BLOCK) {
                let height = BLOCK.min(n - first);
                let w = Left { values: &kept[first * row..], order: Order::Rows(row), m: height };
                let x = Panels { values: &x[..], row: panel, next: n * panel };
                product(isa, w, n, x, n, Panels { values: &mut y, row, next: panel }, Init::Zero);
                copy_columns(&y, row, height, n, &mut kept[first * row..], row);
            }
        } else {
            let mut x = Scratch::new(n * panel); // some columns of b
            let mut y = Scratch::new(n * panel);
            for first in (0..n).step_by(panel) {
                let width = panel.min(n - first);
                copy_columns(&kept[first..], row, n, width, &mut x, panel);
                let w = Left { values: other, order: Order::Columns(row), m: n };
                let x = Panels { values: &x[..], row: panel, next: 0 };
                product(isa, w, n, x, width, Panels { values: &mut y, row: panel, next: 0 }, Init::Zero);
                copy_columns(&y, panel, n, width, &mut kept[first..], row);
            }
        }
    }

    /// `z += sigmoid(out_gate(norm_in(z))) * out(norm_out(x))`, `x` channel first.
    fn output(&self, isa: Isa, z: Shared, row: usize, x: Shared) {
        let (n, c, c_z, panel) = (self.n, self.out.k, self.out.n, isa.panel());
        let step = GROUP * panel;
        let tiles = n.div_ceil(step);
        for_each(n * tiles, n * n * c_z >= SERIAL_VALUES, |task| {
            let (i, at) = (task / tiles, task % tiles * step);
            let width = step.min(n - at);
            let n_panel = width.div_ceil(panel);
            let line = Line { first: i * n * c_z, step: c_z, c: c_z };
            let mut sums = Scratch::new(n_panel * c * panel);
            let mut normed = Scratch::new(n_panel * c_z * panel);
            for p in 0..n_panel {
                let at = at + p * panel;
                let width = panel.min(n - at);
                let sums = &mut sums[p * c * panel..][..c * panel];
                for (k, sums) in sums.chunks_mut(panel).enumerate() {
                    // SAFETY: the sums are complete and only read here.
                    sums[..width].copy_from_slice(unsafe { x.read((k * n + i) * row + at, width) });
                }
                norm_columns(isa, sums, panel, c, width, self.norm_out.weight, self.norm_out.bias);
                let normed = &mut normed[p * c_z * panel..][..c_z * panel];
                // SAFETY: these positions of z belong to this task, which writes them later.
                unsafe { line.columns(isa, z, Some(self.norm_in), at, width, normed) };
            }
            let (mut y, mut gate) = (Scratch::new(n_panel * c_z * panel), Scratch::new(n_panel * c_z * panel));
            let sums = Panels { values: &sums[..], row: panel, next: c * panel };
            let normed = Panels { values: &normed[..], row: panel, next: c_z * panel };
            self.out.product(isa, 0, c_z, sums, width, Panels { values: &mut y, row: panel, next: c_z * panel });
            self.out_gate.product(
                isa,
                0,
                c_z,
                normed,
                width,
                Panels { values: &mut gate, row: panel, next: c_z * panel },
            );
            Function::TimesSigmoid.apply(isa, &mut y, &gate, &[]);
            for (p, y) in y.chunks(c_z * panel).enumerate() {
                let at = at + p * panel;
                // SAFETY: these positions of z belong to this task.
                unsafe { to_rows(isa, y, panel, panel.min(n - at), c_z, z, (i * n + at) * c_z, c_z, Write::Add) };
            }
        });
    }
}

/// Weights and sizes of a triangle attention.
#[derive(Debug, Clone, Copy)]
pub struct TriangleAttention<'a> {
    pub norm: Affine<'a>,
    /// `c_z -> h`.
    pub bias: Dense<'a>,
    /// `c_z -> h * d`, as keys and values.
    pub q: Dense<'a>,
    pub k: Dense<'a>,
    pub v: Dense<'a>,
    pub gate: Option<Dense<'a>>,
    /// `h * d -> c_z`.
    pub out: Dense<'a>,
    /// Along rows, else along columns.
    pub starting: bool,
    /// The bias of query q and key k comes from `z[q, k]`, else from `z[k, q]`.
    pub query_key: bool,
    /// Tokens.
    pub n: usize,
}

impl TriangleAttention<'_> {
    /// Updates one `z` `[n, n, c_z]` with `mask` `[n, n]`.
    pub fn run(&self, isa: Isa, z: Shared, mask: &[f32]) {
        let (n, c_z, h) = (self.n, self.q.k, self.bias.n);
        let row = n.next_multiple_of(isa.panel());
        let mut biases = Scratch::new(h * n * row); // head, key, query
        {
            let mut plain = Scratch::new(h * n * n);
            // SAFETY: z is not written before the biases are made.
            let z = unsafe { z.read(0, n * n * c_z) };
            bias(isa, z, Some(self.norm), self.bias, n * n, Shared::new(&mut plain));
            for (biases, plain) in biases.chunks_mut(n * row).zip(plain.chunks(n * n)) {
                if self.query_key {
                    to_columns(isa, plain, n, n, n, biases, row);
                } else {
                    copy_columns(plain, n, n, n, biases, row);
                }
            }
        }
        for_each(n, n * n * c_z >= SERIAL_VALUES, |i| {
            let line = match self.starting {
                true => Line { first: i * n * c_z, step: c_z, c: c_z },
                false => Line { first: i * c_z, step: n * c_z, c: c_z },
            };
            let mask = (0..n).map(|j| if self.starting { mask[i * n + j] } else { mask[j * n + i] });
            let hidden: Vec<f32> = mask.map(|m| 1e9 * (m - 1.)).collect();
            // SAFETY: a row or column belongs to one task.
            unsafe { self.line(isa, z, line, &biases, &hidden) };
        });
    }

    /// One row or column.
    ///
    /// # Safety
    ///
    /// Nothing else reads or writes this line meanwhile.
    unsafe fn line(&self, isa: Isa, z: Shared, line: Line, biases: &[f32], hidden: &[f32]) {
        let (n, c_z, h, panel) = (self.n, self.q.k, self.bias.n, isa.panel());
        let (c, d) = (self.q.n, self.q.n / h);
        let n_panel = n.div_ceil(panel);
        let bias_row = n_panel * panel;
        let row = if bias_row.is_multiple_of(256) { bias_row + 16 } else { bias_row };
        let mut x = Scratch::new(n_panel * c_z * panel);
        for (p, x) in x.chunks_mut(c_z * panel).enumerate() {
            // SAFETY: this line is the caller's.
            unsafe { line.columns(isa, z, Some(self.norm), p * panel, panel.min(n - p * panel), x) };
        }
        let all = Panels { values: &x[..], row: panel, next: c_z * panel };
        let (mut keys, mut values) = (Scratch::new(c * row), Scratch::new(c * row));
        self.k.product(isa, 0, c, all, n, Panels { values: &mut keys, row, next: panel });
        self.v.product(isa, 0, c, all, n, Panels { values: &mut values, row, next: panel });
        let mut s = Scratch::new(n * panel);
        let size = GROUP * panel;
        let (mut q, mut gate) = (Scratch::new(c * size), Scratch::new(c * size));
        let (mut o, mut y) = (Scratch::new(c * size), Scratch::new(c_z * size));
        let mut inverse = [0f32; 2 * 16];
        for first in (0..n).step_by(size) {
            let width = size.min(n - first);
            let some = Panels { values: &x[first * c_z..], row: panel, next: c_z * panel };
            self.q.product(isa, 0, c, some, width, Panels { values: &mut q, row: panel, next: c * panel });
            for (p, at) in (first..first + width).step_by(panel).enumerate() {
                let width = panel.min(n - at);
                for head in 0..h {
                    let part = (p * c + head * d) * panel..(p * c + (head + 1) * d) * panel;
                    let w = Left { values: &keys[head * d * row..], order: Order::Columns(row), m: n };
                    let x = Panels { values: &q[part.clone()], row: panel, next: 0 };
                    product(isa, w, d, x, width, Panels { values: &mut s, row: panel, next: 0 }, Init::Zero);
                    let bias = LogitBias { values: &biases[head * n * bias_row + at..], row: bias_row };
                    let scale = 1. / (d as f32).sqrt();
                    softmax_columns(isa, &mut s, panel, n, width, scale, Some(bias), Some(hidden), &mut inverse);
                    let w = Left { values: &values[head * d * row..], order: Order::Rows(row), m: d };
                    let x = Panels { values: &s[..], row: panel, next: 0 };
                    let o = &mut o[part];
                    product(isa, w, n, x, width, Panels { values: &mut *o, row: panel, next: 0 }, Init::Zero);
                    scale_columns(isa, o, panel, d, &inverse[..width]);
                }
            }
            let used = width.div_ceil(panel) * c * panel;
            if let Some(layer) = &self.gate {
                layer.product(isa, 0, c, some, width, Panels { values: &mut gate, row: panel, next: c * panel });
                Function::TimesSigmoid.apply(isa, &mut o[..used], &gate[..used], &[]);
            }
            let o = Panels { values: &o[..], row: panel, next: c * panel };
            self.out.product(isa, 0, c_z, o, width, Panels { values: &mut y, row: panel, next: c_z * panel });
            for (y, at) in y.chunks(c_z * panel).zip((first..first + width).step_by(panel)) {
                let start = line.first + at * line.step;
                // SAFETY: this line is the caller's.
                unsafe { to_rows(isa, y, panel, panel.min(n - at), c_z, z, start, line.step, Write::Add) };
            }
        }
    }
}
