//! Linear layers and the SwiGLU over rows: `[m, k]` to `[m, n]`.
//!
//! With many rows (pair representations) a task takes some panels of rows through all weights, which stay in the second
//! cache; with few rows (single and token representations) all rows are packed once, and a task takes some rows of the
//! weights, which are then read from memory only once.
use rayon::prelude::*;

use super::columns::{Write, scale_columns, to_columns, to_rows};
use super::layer::Layer;
use super::pointwise::{Affine, Function, norm_rows};
use super::product::{Init, Left, Order, Panels, product};
use super::scratch::{Scratch, Shared};
use super::simd::Isa;
use super::unpack;

/// A linear layer of f32 where its values lie.
#[derive(Debug, Clone, Copy)]
pub struct Dense<'a> {
    /// `[n, k]`.
    pub w: &'a [f32],
    /// `[n]`.
    pub bias: Option<&'a [f32]>,
    /// Channels in.
    pub k: usize,
    /// Channels out.
    pub n: usize,
}

impl<'a> Dense<'a> {
    /// `y = w x + bias` for the rows `first..first + m` of the weight.
    pub fn product(&self, isa: Isa, first: usize, m: usize, x: Panels<&[f32]>, n: usize, y: Panels<&mut [f32]>) {
        let init = self.bias.map_or(Init::Zero, |b| Init::Bias(&b[first..first + m]));
        product(isa, self.left(first, m), self.k, x, n, y, init);
    }

    /// Rows of the weight.
    pub fn left(&self, first: usize, m: usize) -> Left<'a> {
        Left { values: &self.w[first * self.k..], order: Order::Rows(self.k), m }
    }
}

/// Rows of `c` channels, normalised on the way if there are norm parameters.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    values: Shared<'a>, // [m, c]
    c: usize,
    norm: Option<(Affine<'a>, usize)>,
    overwritten: bool,
}

impl<'a> Rows<'a> {
    /// `values` `[m, c]`; `norm` is scale and offset, those of row `r` being the `r % period`-th.
    pub fn new(values: &'a [f32], c: usize, norm: Option<(Affine<'a>, usize)>) -> Self {
        Self { values: Shared::read_only(values), c, norm, overwritten: false }
    }

    /// Rows that the operation overwrites, as its target.
    ///
    /// # Safety
    ///
    /// A row is written only by the task that has read it, or when all have been read.
    pub unsafe fn in_place(values: Shared<'a>, c: usize, norm: Option<(Affine<'a>, usize)>) -> Self {
        Self { values, c, norm, overwritten: true }
    }

    /// Rows `first..first + n` as they are; by the promise of `in_place` nothing has written them yet.
    fn values(&self, first: usize, n: usize) -> &[f32] {
        // SAFETY: `new` had them for reading, and see above.
        unsafe { self.values.read(first * self.c, n * self.c) }
    }

    /// Rows `first..first + n`, at most a panel, as columns `[c, panel]`.
    pub fn columns(&self, isa: Isa, first: usize, n: usize, dst: &mut [f32]) {
        let c = self.c;
        if self.norm.is_none() {
            return to_columns(isa, self.values(first, n), c, n, c, dst, isa.panel());
        }
        let mut normed = Scratch::new(n * c);
        self.copy(isa, first, n, &mut normed);
        to_columns(isa, &normed, c, n, c, dst, isa.panel());
    }

    /// Rows `first..first + n`, normalised, to `dst` `[n, c]`.
    pub fn copy(&self, isa: Isa, first: usize, n: usize, dst: &mut [f32]) {
        let (c, values) = (self.c, self.values(first, n));
        let Some((affine, period)) = self.norm else { return dst.copy_from_slice(values) };
        if affine.step == 0 {
            return norm_rows(isa, values, c, affine, dst);
        }
        let mut done = 0;
        while done < n {
            let at = (first + done) % period; // the parameters start again after `period` rows
            let rows = (n - done).min(period - at);
            let from = at * affine.step;
            let affine =
                Affine { weight: affine.weight.map(|p| &p[from..]), bias: affine.bias.map(|p| &p[from..]), ..affine };
            let part = done * c..(done + rows) * c;
            norm_rows(isa, &values[part.clone()], c, affine, &mut dst[part]);
            done += rows;
        }
    }

    /// Rows `first..first + m` as panels of columns.
    fn pack(&self, isa: Isa, first: usize, m: usize) -> Scratch {
        let panel = isa.panel();
        let mut packed = Scratch::new(m.div_ceil(panel) * self.c * panel);
        let fill = |(p, dst): (usize, &mut [f32])| self.columns(isa, first + p * panel, panel.min(m - p * panel), dst);
        if m * self.c > SERIAL_VALUES {
            packed.par_chunks_mut(self.c * panel).enumerate().for_each(fill);
        } else {
            packed.chunks_mut(self.c * panel).enumerate().for_each(fill);
        }
        packed
    }
}

/// Fewer values than this are not worth waking threads for.
const SERIAL_VALUES: usize = 1 << 14;
/// Fewer multiplications than this are not worth waking threads for.
const SERIAL_WORK: usize = 1 << 20;

/// Where a layer's results go.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// `[m, n]`.
    pub dst: Shared<'a>,
    /// Channels.
    pub n: usize,
    /// What becomes of the old values.
    pub write: Write,
    /// Multiplies the results: for row `r` the `r % period`-th row of `[period, n]`. Only with [`Write::Add`].
    pub gate: Option<(&'a [f32], usize)>,
    /// Multiplies the results of each row: `[m]`.
    pub mask: Option<&'a [f32]>,
}

impl Target<'_> {
    /// Are the results written as they are? (Sums begun with an old value would be rounded at its size.)
    fn is_plain(&self) -> bool {
        self.write == Write::Set && self.gate.is_none() && self.mask.is_none()
    }

    /// Writes `c` channels from `channel` on of `n` positions (at most a panel) from `first` on, given as columns.
    ///
    /// # Safety
    ///
    /// Nothing else reads or writes these channels of these positions meanwhile.
    pub unsafe fn store(
        &self,
        isa: Isa,
        y: &mut [f32],
        row: usize,
        (first, n): (usize, usize),
        (channel, c): (usize, usize),
    ) {
        if let Some(mask) = self.mask {
            scale_columns(isa, y, row, c, &mask[first..first + n]);
        }
        let start = first * self.n + channel;
        let Some((gate, period)) = self.gate else {
            // SAFETY: the caller has these stretches to itself.
            return unsafe { to_rows(isa, y, row, n, c, self.dst, start, self.n, self.write) };
        };
        let mut update = Scratch::new(n * c);
        // SAFETY: the scratch array is this function's.
        unsafe { to_rows(isa, y, row, n, c, Shared::new(&mut update), 0, c, Write::Set) };
        for (i, update) in update.chunks(c).enumerate() {
            let gate = &gate[(first + i) % period * self.n + channel..][..c];
            // SAFETY: one of the stretches the caller has to itself.
            let dst = unsafe { self.dst.part(start + i * self.n, c) };
            Function::AddProduct.apply(isa, dst, update, gate);
        }
    }
}

/// Calls `task` for `0..n`, in parallel if asked to.
pub fn for_each(n: usize, parallel: bool, task: impl Fn(usize) + Send + Sync) {
    if parallel && n > 1 {
        (0..n).into_par_iter().with_max_len(1).for_each(task);
    } else {
        (0..n).for_each(task);
    }
}

/// The part of a run of panels that starts at position `first`.
fn part(m: usize, panel: usize, first_panel: usize, n_panel: usize) -> (usize, usize) {
    let first = first_panel * panel;
    (first, (n_panel * panel).min(m - first))
}

/// How many tasks a thread should find, so that none waits long for another.
const TASKS: usize = 4;

/// Shall a task take some of the `m` rows through all weights, of `size` values in `n` rows?
fn by_rows(isa: Isa, m: usize, size: usize, n: usize) -> bool {
    let n_panel = m.div_ceil(isa.panel());
    size <= 1 << 18 && (n_panel >= TASKS * rayon::current_num_threads() || n_panel >= n / LEAST_HEIGHT)
}

/// Applies all `layers` to the `m` `rows`.
pub fn dense(isa: Isa, rows: Rows, m: usize, layers: &[(Layer, Target)]) {
    let size: usize = layers.iter().map(|(l, _)| l.k * l.n).sum();
    let parallel = size * m >= SERIAL_WORK;
    let panel = isa.panel();
    if unpack::is_few(m, layers.iter().map(|(layer, _)| layer)) {
        return unpack::few(isa, rows, m, layers, parallel);
    }
    if !by_rows(isa, m, size, layers.iter().map(|(l, _)| l.n).sum()) {
        let chunk = MANY_ROWS.next_multiple_of(panel);
        for first in (0..m).step_by(chunk) {
            let n = chunk.min(m - first);
            let packed = rows.pack(isa, first, n);
            dense_packed(isa, &packed, (first, n), layers, parallel);
        }
        return;
    }
    // So few weights that each call may widen them all.
    let mut rooms: Vec<Option<Scratch>> = layers.iter().map(|_| None).collect();
    let wide = layers.iter().zip(&mut rooms).map(|((layer, target), room)| (layer.whole(isa, room), *target));
    let layers: &[(Dense, Target)] = &wide.collect::<Vec<_>>();
    if layers.iter().all(|(layer, target)| layer.n.is_multiple_of(isa.lanes()) && target.is_plain()) {
        return dense_by_rows(isa, rows, m, layers, parallel);
    }
    let k = rows.c;
    let n_panel = m.div_ceil(panel);
    let group = (n_panel / (TASKS * rayon::current_num_threads())).clamp(1, 4);
    for_each(n_panel.div_ceil(group), parallel, |task| {
        let (first, n) = part(m, panel, task * group, group);
        let mut x = Scratch::new(group * k * panel);
        for (p, x) in x.chunks_mut(k * panel).enumerate().take(n.div_ceil(panel)) {
            rows.columns(isa, first + p * panel, panel.min(n - p * panel), x);
        }
        let mut y = Scratch::new(BLOCK * group * panel);
        for (layer, target) in layers {
            for channel in (0..layer.n).step_by(BLOCK) {
                let c = BLOCK.min(layer.n - channel);
                let x = Panels { values: &x[..], row: panel, next: k * panel };
                layer.product(isa, channel, c, x, n, Panels { values: &mut y, row: panel, next: c * panel });
                for p in 0..n.div_ceil(panel) {
                    let (at, n) = part(m, panel, task * group + p, 1);
                    // SAFETY: a position belongs to one task.
                    unsafe { target.store(isa, &mut y[p * c * panel..], panel, (at, n), (channel, c)) };
                }
            }
        }
    });
}

/// Rows of a task that takes them as they lie: whole strips of every instruction set, in the first cache at 128 channels.
const BAND: usize = 48;

/// As `dense` with weights turned into panels of their rows, so that neither the rows nor the results, which fill whole
/// vectors, have to be transposed.
fn dense_by_rows(isa: Isa, rows: Rows, m: usize, layers: &[(Dense, Target)], parallel: bool) {
    let (k, panel) = (rows.c, isa.panel());
    let turned: Vec<Scratch> = layers
        .iter()
        .map(|(layer, _)| {
            let mut turned = Scratch::new(layer.n.div_ceil(panel) * k * panel);
            for (p, turned) in turned.chunks_mut(k * panel).enumerate() {
                let at = p * panel;
                to_columns(isa, &layer.w[at * k..], k, panel.min(layer.n - at), k, turned, panel);
            }
            turned
        })
        .collect();
    for_each(m.div_ceil(BAND), parallel, |task| {
        let (first, n) = (task * BAND, BAND.min(m - task * BAND));
        let mut copy = Scratch::new(n * k);
        let x = if rows.norm.is_some() || rows.overwritten {
            rows.copy(isa, first, n, &mut copy);
            &copy[..]
        } else {
            rows.values(first, n)
        };
        for ((layer, target), turned) in layers.iter().zip(&turned) {
            // SAFETY: a row belongs to one task, which has read it.
            let dst = unsafe { target.dst.part(first * layer.n, n * layer.n) };
            let init = match layer.bias {
                None => Init::Zero,
                Some(bias) => {
                    dst.chunks_mut(layer.n).for_each(|dst| dst.copy_from_slice(bias));
                    Init::Sum
                }
            };
            let left = Left { values: x, order: Order::Rows(k), m: n };
            let right = Panels { values: &turned[..], row: panel, next: k * panel };
            product(isa, left, k, right, layer.n, Panels { values: dst, row: layer.n, next: panel }, init);
        }
    });
}

/// Rows that are packed at once.
const MANY_ROWS: usize = 4096;
/// Weight rows of a block at most: the largest that keeps a block of 1536 channels in the second cache.
const BLOCK: usize = 96;
/// Weight rows of a block at least: a strip of the widest tile.
const LEAST_HEIGHT: usize = 12;
/// Panels that a block of weights meets at once.
const GROUP: usize = 8;

/// Cuts the weight rows of `layers` into blocks for tasks: layer, first row, rows.
pub fn blocks(sizes: &[usize]) -> Vec<(usize, usize, usize)> {
    let total: usize = sizes.iter().sum();
    let tasks = 2 * TASKS * rayon::current_num_threads();
    let height = total.div_ceil(tasks).next_multiple_of(LEAST_HEIGHT).clamp(LEAST_HEIGHT, BLOCK);
    let cut =
        |(i, &n): (usize, &usize)| (0..n).step_by(height).map(move |r| (i, r, height.min(n - r))).collect::<Vec<_>>();
    sizes.iter().enumerate().flat_map(cut).collect()
}

/// Applies `layers` to rows packed as panels; they are rows `first..first + m` of the targets.
fn dense_packed(isa: Isa, x: &[f32], (first, m): (usize, usize), layers: &[(Layer, Target)], parallel: bool) {
    let panel = isa.panel();
    let blocks = blocks(&layers.iter().map(|(l, _)| l.n).collect::<Vec<_>>());
    let n_panel = m.div_ceil(panel);
    for_each(blocks.len(), parallel, |task| {
        let (i, r, c) = blocks[task];
        let (layer, target) = &layers[i];
        let mut y = Scratch::new(c * GROUP.min(n_panel) * panel);
        for p0 in (0..n_panel).step_by(GROUP) {
            let (start, n) = part(m, panel, p0, GROUP);
            let x = Panels { values: &x[p0 * layer.k * panel..], row: panel, next: layer.k * panel };
            layer.product(isa, (r, c), x, n, Panels { values: &mut y, row: panel, next: c * panel });
            for p in 0..n.div_ceil(panel) {
                let n = panel.min(n - p * panel);
                // SAFETY: a channel belongs to one task.
                unsafe { target.store(isa, &mut y[p * c * panel..], panel, (first + start + p * panel, n), (r, c)) };
            }
        }
    });
}

/// The three layers of a SwiGLU.
#[derive(Debug, Clone, Copy)]
pub struct SwiGlu<'a> {
    /// `c -> hidden`, through the silu.
    pub a: Layer<'a>,
    /// `c -> hidden`.
    pub b: Layer<'a>,
    /// `hidden -> c`.
    pub out: Layer<'a>,
}

/// Writes `out(silu(a x) * b x)` of the `m` `rows`.
pub fn swiglu(isa: Isa, rows: Rows, m: usize, layers: SwiGlu, target: Target) {
    let SwiGlu { a, b, out } = layers;
    let (k, hidden, panel) = (rows.c, a.n, isa.panel());
    let n_panel = m.div_ceil(panel);
    let parallel = 3 * k * hidden * m >= SERIAL_WORK;
    if unpack::is_few(m, [&a, &b, &out]) {
        let h = unpack::few_gated(isa, rows, m, [a, b], parallel);
        return unpack::few(isa, Rows::new(&h, hidden, None), m, &[(out, target)], parallel);
    }
    if !by_rows(isa, m, 3 * k * hidden, hidden) {
        let x = rows.pack(isa, 0, m);
        let mut h = Scratch::new(n_panel * hidden * panel); // panels, as the next product takes them
        let shared = Shared::new(&mut h);
        let blocks = blocks(&[hidden]);
        for_each(blocks.len(), parallel, |task| {
            let (_, r, c) = blocks[task];
            let mut ab = Scratch::new(2 * c * GROUP.min(n_panel) * panel);
            for p0 in (0..n_panel).step_by(GROUP) {
                let (_, n) = part(m, panel, p0, GROUP);
                let x = Panels { values: &x[p0 * k * panel..], row: panel, next: k * panel };
                let middle = ab.len() / 2;
                let (ya, yb) = ab.split_at_mut(middle);
                a.product(isa, (r, c), x, n, Panels { values: ya, row: panel, next: c * panel });
                b.product(isa, (r, c), x, n, Panels { values: yb, row: panel, next: c * panel });
                for p in 0..n.div_ceil(panel) {
                    // SAFETY: these hidden channels belong to this task.
                    let dst = unsafe { shared.part(((p0 + p) * hidden + r) * panel, c * panel) };
                    let at = p * c * panel..(p + 1) * c * panel;
                    Function::SiluGate.apply(isa, dst, &ya[at.clone()], &yb[at]);
                }
            }
        });
        return dense_packed(isa, &h, (0, m), &[(out, target)], parallel);
    }
    let mut rooms = [None, None, None]; // so few weights that each call may widen them all
    let [for_a, for_b, for_out] = &mut rooms;
    let (a, b, out) = (a.whole(isa, for_a), b.whole(isa, for_b), out.whole(isa, for_out));
    let group = (n_panel / (TASKS * rayon::current_num_threads())).clamp(1, 3);
    for_each(n_panel.div_ceil(group), parallel, |task| {
        let (first, n) = part(m, panel, task * group, group);
        let n_panel = n.div_ceil(panel);
        let mut x = Scratch::new(n_panel * k * panel);
        for (p, x) in x.chunks_mut(k * panel).enumerate() {
            rows.columns(isa, first + p * panel, panel.min(n - p * panel), x);
        }
        let mut y = Scratch::new(n_panel * out.n * panel);
        let mut ya = Scratch::new(n_panel * HIDDEN * panel);
        let mut yb = Scratch::new(n_panel * HIDDEN * panel);
        let x = Panels { values: &x[..], row: panel, next: k * panel };
        for r in (0..hidden).step_by(HIDDEN) {
            let c = HIDDEN.min(hidden - r);
            let used = n_panel * c * panel;
            a.product(isa, r, c, x, n, Panels { values: &mut ya, row: panel, next: c * panel });
            b.product(isa, r, c, x, n, Panels { values: &mut yb, row: panel, next: c * panel });
            Function::TimesSilu.apply(isa, &mut ya[..used], &yb[..used], &[]);
            let w = Left { values: &out.w[r..], order: Order::Rows(hidden), m: out.n };
            let init = match (r, out.bias) {
                (0, Some(bias)) => Init::Bias(bias),
                (0, None) => Init::Zero,
                _ => Init::Sum,
            };
            let h = Panels { values: &ya[..], row: panel, next: c * panel };
            product(isa, w, c, h, n, Panels { values: &mut y, row: panel, next: out.n * panel }, init);
        }
        for (p, y) in y.chunks_mut(out.n * panel).enumerate() {
            let n = panel.min(n - p * panel);
            // SAFETY: a position belongs to one task.
            unsafe { target.store(isa, y, panel, (first + p * panel, n), (0, out.n)) };
        }
    });
}

/// Hidden channels at once.
const HIDDEN: usize = 128;
