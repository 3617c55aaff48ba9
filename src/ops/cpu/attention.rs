//! Attention of one head at a time: queries are the columns, so that the softmax needs no sums across a vector.
use super::columns::{LogitBias, Write, scale_columns, softmax_columns, to_columns, to_rows};
use super::dense::for_each;
use super::pointwise::Function;
use super::product::{Init, Left, Order, Panels, product};
use super::scratch::{Scratch, Shared};
use super::simd::Isa;

/// Rows of one head: from the first on, and how far each is from the last.
type HeadRows<'a> = (&'a [f32], usize);

/// Queries, keys and values of one head.
#[derive(Debug, Clone, Copy)]
struct Head<'a> {
    q: HeadRows<'a>,
    k: HeadRows<'a>,
    v: HeadRows<'a>,
    d: usize,
    n_key: usize,
}

impl Head<'_> {
    /// The first `n` queries, at most a panel -> columns `[d, panel]`, divided by the sums of the softmax.
    ///
    /// `bias` holds the value for key k and query q at `k * panel + q`; `hidden` one for each key.
    fn attend(&self, isa: Isa, n: usize, bias: Option<&[f32]>, hidden: Option<&[f32]>, o: &mut [f32]) {
        let Self { q, k, v, d, n_key } = *self;
        let row = isa.panel();
        let mut columns = Scratch::new(d * row);
        to_columns(isa, q.0, q.1, n, d, &mut columns, row);
        let mut s = Scratch::new(n_key * row);
        let left = Left { values: k.0, order: Order::Rows(k.1), m: n_key };
        let x = Panels { values: &columns[..], row, next: 0 };
        product(isa, left, d, x, n, Panels { values: &mut s, row, next: 0 }, Init::Zero);
        let mut inverse = [0f32; 2 * 16];
        let bias = bias.map(|values| LogitBias { values, row });
        softmax_columns(isa, &mut s, row, n_key, n, 1. / (d as f32).sqrt(), bias, hidden, &mut inverse);
        let left = Left { values: v.0, order: Order::Columns(v.1), m: d };
        let x = Panels { values: &s[..], row, next: 0 };
        product(isa, left, n_key, x, n, Panels { values: &mut *o, row, next: 0 }, Init::Zero);
        scale_columns(isa, o, row, d, &inverse[..n]);
    }
}

/// Writes a head's result, `d` columns of `n` queries, to rows `c` apart from `start` on, times the sigmoid of the gate.
///
/// # Safety
///
/// Nothing else reads or writes these channels of these rows meanwhile.
unsafe fn store(
    isa: Isa,
    o: &[f32],
    (n, d): (usize, usize),
    gate: Option<&[f32]>,
    dst: Shared,
    start: usize,
    c: usize,
) {
    // SAFETY: the caller has these stretches to itself.
    unsafe { to_rows(isa, o, isa.panel(), n, d, dst, start, c, Write::Set) };
    let Some(gate) = gate else { return };
    for at in (0..n).map(|i| start + i * c) {
        // SAFETY: one of the stretches the caller has to itself.
        Function::TimesSigmoid.apply(isa, unsafe { dst.part(at, d) }, &gate[at..at + d], &[]);
    }
}

/// What is added to logits: value of sample b, head h, query q and key k at the sum of each times its stride.
#[derive(Debug, Clone, Copy)]
pub struct Bias<'a> {
    /// From the first value on.
    pub values: &'a [f32],
    /// Of sample, head, query and key; that of the key is 1, or that of the query is 0.
    pub strides: [usize; 4],
}

impl Bias<'_> {
    fn of_queries(&self) -> bool {
        self.strides[2] != 0
    }
}

/// Values of a bias that a task keeps turned: half of a second cache of 1 MB.
const NEAR: usize = 1 << 17;

/// Attention of all queries to all keys.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// `[b, n, h * d]`.
    pub q: &'a [f32],
    /// `[b, m, h * d]`.
    pub k: &'a [f32],
    /// `[b, m, h * d]`.
    pub v: &'a [f32],
    /// Added to the logits.
    pub biases: &'a [Bias<'a>],
    /// `[b, n, h * d]`, before the sigmoid.
    pub gate: Option<&'a [f32]>,
    /// `b`, `n`, `m`, `h`, `d`.
    pub sizes: [usize; 5],
}

impl Attention<'_> {
    /// Into `[b, n, h * d]`.
    pub fn run(&self, isa: Isa, dst: Shared) {
        let [b, n, m, h, d] = self.sizes;
        let (c, panel) = (h * d, isa.panel());
        let n_panel = n.div_ceil(panel);
        // Samples with one bias go to one task, which turns it once.
        let of_queries: Vec<&Bias> = self.biases.iter().filter(|bias| bias.of_queries()).collect();
        let one = !of_queries.is_empty() && of_queries.iter().all(|bias| bias.strides[0] == 0);
        let together = if one { b } else { 1 };
        let groups = b / together * h;
        // Few heads, or more of a bias than stays near: the queries of a head go to several tasks.
        let pieces = (4 * rayon::current_num_threads()).div_ceil(groups).max((n * m).div_ceil(NEAR)).min(n_panel);
        let height = n_panel.div_ceil(pieces) * panel;
        for_each(groups * pieces, b * n * m * c >= 1 << 18, |task| {
            let (group, head, piece) = (task / pieces / h, task / pieces % h, task % pieces);
            let queries = piece * height..n.min((piece + 1) * height);
            let panels = || queries.clone().step_by(panel).map(|first| (first, panel.min(queries.end - first)));
            let mut turned = Scratch::new(if of_queries.is_empty() { 0 } else { height * m });
            for ((first, count), turned) in panels().zip(turned.chunks_mut(m * panel)) {
                self.turn(isa, &of_queries, [group * together, head, first, count], turned);
            }
            let mut v = Scratch::new(m * d);
            let mut o = Scratch::new(d * panel);
            for sample in group * together..(group + 1) * together {
                let hidden = self.hidden(sample, head);
                let keys = sample * m * c + head * d;
                // The values of a head are read once for each panel of queries: close together.
                for (row, v) in v.chunks_mut(d).enumerate() {
                    v.copy_from_slice(&self.v[keys + row * c..][..d]);
                }
                for (i, (first, count)) in panels().enumerate() {
                    let bias = (!of_queries.is_empty()).then(|| &turned[i * m * panel..][..m * panel]);
                    let start = (sample * n + first) * c + head * d;
                    let head = Head { q: (&self.q[start..], c), k: (&self.k[keys..], c), v: (&v, d), d, n_key: m };
                    head.attend(isa, count, bias, hidden.as_deref(), &mut o);
                    // SAFETY: these channels of these queries belong to this task.
                    unsafe { store(isa, &o, (count, d), self.gate, dst, start, c) };
                }
            }
        });
    }

    /// The sum of all that is the same for all queries.
    fn hidden(&self, sample: usize, head: usize) -> Option<Vec<f32>> {
        let mut sum: Option<Vec<f32>> = None;
        for bias in self.biases.iter().filter(|bias| !bias.of_queries()) {
            let [b, h, _, k] = bias.strides;
            let values = &bias.values[sample * b + head * h..];
            let sum = sum.get_or_insert_with(|| vec![0.; self.sizes[2]]);
            sum.iter_mut().enumerate().for_each(|(i, sum)| *sum += values[i * k]);
        }
        sum
    }

    /// The sum of `biases`, which depend on the query, as columns of a panel of queries.
    fn turn(&self, isa: Isa, biases: &[&Bias], part: [usize; 4], sum: &mut [f32]) {
        let [sample, head, first, count] = part;
        let (m, panel) = (self.sizes[2], isa.panel());
        for (i, bias) in biases.iter().enumerate() {
            let [b, h, q, _] = bias.strides;
            let values = &bias.values[sample * b + head * h + first * q..];
            if i == 0 {
                to_columns(isa, values, q, count, m, sum, panel);
            } else {
                let mut next = Scratch::new(m * panel);
                to_columns(isa, values, q, count, m, &mut next, panel);
                Function::Add.apply(isa, sum, &next, &[]);
            }
        }
    }
}

/// Attention of blocks of queries to windows of keys.
#[derive(Debug, Clone, Copy)]
pub struct LocalAttention<'a> {
    /// `[b, n, h * d]`, as keys, values and gate.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// Before the sigmoid.
    pub gate: Option<&'a [f32]>,
    /// `[b or 1, n_block, h, n_query, n_key]`.
    pub bias: &'a [f32],
    /// First key of each block.
    pub starts: &'a [usize],
    /// `b`, `n`, `h`, `d`, `n_query`, `n_key`.
    pub sizes: [usize; 6],
}

impl LocalAttention<'_> {
    /// Into `[b, n, h * d]`.
    pub fn run(&self, isa: Isa, dst: Shared) {
        let [b, n, h, d, n_query, n_key] = self.sizes;
        let (c, panel, n_block) = (h * d, isa.panel(), self.starts.len());
        let tile = n_query * n_key;
        let biases = self.bias.len() / (n_block * h * tile); // for each sample, or one for all
        for_each(n_block * h, b * n * n_key * c >= 1 << 18, |task| {
            let (block, head) = (task / h, task % h);
            let start = self.starts[block];
            let m = n_key.min(n.saturating_sub(start));
            if m == 0 {
                return;
            }
            let mut bias = Scratch::new(m * panel);
            let mut o = Scratch::new(d * panel);
            let end = n.min((block + 1) * n_query);
            for first in (block * n_query..end).step_by(panel) {
                let count = panel.min(end - first);
                for sample in 0..b {
                    if sample < biases {
                        let at = ((sample * n_block + block) * h + head) * tile + (first - block * n_query) * n_key;
                        to_columns(isa, &self.bias[at..], n_key, count, m, &mut bias, panel);
                    }
                    let rows = |x: &'_ [f32], row: usize| (sample * n + row) * c + head * d..x.len();
                    let q = &self.q[rows(self.q, first)];
                    let (k, v) = (&self.k[rows(self.k, start)], &self.v[rows(self.v, start)]);
                    Head { q: (q, c), k: (k, c), v: (v, c), d, n_key: m }.attend(isa, count, Some(&bias), None, &mut o);
                    let at = (sample * n + first) * c + head * d;
                    // SAFETY: these channels of these queries belong to this task.
                    unsafe { store(isa, &o, (count, d), self.gate, dst, at, c) };
                }
            }
        });
    }
}
