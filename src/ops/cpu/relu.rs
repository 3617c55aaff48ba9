//! The ReLU transition over rows: a task takes some panels of rows through both weights.
use super::dense::{Dense, Rows, Target, for_each};
use super::pointwise::Function;
use super::product::{Init, Left, Order, Panels, product};
use super::scratch::Scratch;
use super::simd::Isa;

/// Hidden channels at once.
const HIDDEN: usize = 128;
/// Panels of rows that a task takes at most.
const GROUP: usize = 3;
/// Tasks that a thread should find, so that none waits long for another.
const TASKS: usize = 4;
/// Fewer multiplications than this are not worth waking threads for.
const SERIAL_WORK: usize = 1 << 20;

/// The two layers of a ReLU transition.
#[derive(Debug, Clone, Copy)]
pub struct ReluTransition<'a> {
    /// `c -> hidden`, through the ReLU.
    pub a: Dense<'a>,
    /// `hidden -> c`.
    pub out: Dense<'a>,
}

impl ReluTransition<'_> {
    /// Writes `out(relu(a x))` of the `m` `rows`.
    pub fn run(&self, isa: Isa, rows: Rows, m: usize, target: Target) {
        let panel = isa.panel();
        let n_panel = m.div_ceil(panel);
        let group = (n_panel / (TASKS * rayon::current_num_threads())).clamp(1, GROUP);
        let parallel = 2 * self.a.k * self.a.n * m >= SERIAL_WORK;
        for_each(n_panel.div_ceil(group), parallel, |task| {
            let first = task * group * panel;
            self.panels(isa, rows, (first, (group * panel).min(m - first)), target);
        });
    }

    /// Rows `first..first + m`, which belong to the calling task.
    fn panels(&self, isa: Isa, rows: Rows, (first, m): (usize, usize), target: Target) {
        let Self { a, out } = *self;
        let panel = isa.panel();
        let n_panel = m.div_ceil(panel);
        let at = |p: usize| (first + p * panel, panel.min(m - p * panel));
        let mut x = Scratch::new(n_panel * a.k * panel);
        for (p, x) in x.chunks_mut(a.k * panel).enumerate() {
            let (first, n) = at(p);
            rows.columns(isa, first, n, x);
        }
        let x = Panels { values: &x[..], row: panel, next: a.k * panel };
        let mut y = Scratch::new(n_panel * out.n * panel);
        let [mut before, mut h] = [(); 2].map(|()| Scratch::new(n_panel * HIDDEN * panel));
        for channel in (0..a.n).step_by(HIDDEN) {
            let c = HIDDEN.min(a.n - channel);
            let used = n_panel * c * panel;
            a.product(isa, channel, c, x, m, Panels { values: &mut before, row: panel, next: c * panel });
            Function::Relu.apply(isa, &mut h[..used], &before[..used], &[]);
            let w = Left { values: &out.w[channel..], order: Order::Rows(a.n), m: out.n };
            let init = match (channel, out.bias) {
                (0, Some(bias)) => Init::Bias(bias),
                (0, None) => Init::Zero,
                _ => Init::Sum,
            };
            let h = Panels { values: &h[..], row: panel, next: c * panel };
            product(isa, w, c, h, m, Panels { values: &mut y, row: panel, next: out.n * panel }, init);
        }
        for (p, y) in y.chunks_mut(out.n * panel).enumerate() {
            // SAFETY: these rows belong to this task.
            unsafe { target.store(isa, y, panel, at(p), (0, out.n)) };
        }
    }
}
