//! Dropout in a prediction, which makes its seeds differ more: AF2 SI 1.11.6; ColabFold's `--use-dropout` (`eval_dropout`). The trunk
//! has it, templates included; the structure module has not. An update of the pair representation loses a channel of a whole row or
//! column, one of the MSA a residue's channel in all rows; what is kept is divided by the share that is.
use std::cell::Cell;

use candle_core::{Result, Tensor};

use crate::features::af2::threefry::Key;
use crate::ops::add_in_place;

/// Share of the updates by triangles that is lost.
pub const PAIR_RATE: f32 = 0.25;
/// Share of the updates by the MSA's row attention that is lost.
pub const ROW_ATTENTION_RATE: f32 = 0.15;

/// What has one draw in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Values of all rows: the official `per_row`.
    Rows,
    /// Values of all columns: `per_column`.
    Columns,
}

/// Is a value kept: number of the update in its pass, of the value in its draw, share that is lost.
type Keep = Box<dyn Fn(u32, u32, f32) -> bool>;

/// What the updates of one pass lose.
#[derive(Default)]
pub struct Dropout {
    keep: Option<Keep>,
    n_update: Cell<u32>,
}

impl Dropout {
    /// Of a pass of a seed. The draws are our own: the official ones depend on how its compiler unrolls the stacks.
    pub fn seeded(seed: u32, pass: usize) -> Self {
        let key = Key::new(seed).fold_in(pass as u32);
        Self::from_fn(move |update, i, rate| key.fold_in(update).fold_in(i).uniform() < 1. - rate)
    }

    /// `keep` says of the number of an update in its pass, that of a value in its draw, and the share that is lost, whether it stays.
    pub fn from_fn(keep: impl Fn(u32, u32, f32) -> bool + 'static) -> Self {
        Self { keep: Some(Box::new(keep)), n_update: Cell::new(0) }
    }

    /// Runs `update`, which adds to `x` `[1, rows, columns, c]` in place, and takes back what is lost of it.
    pub fn apply(&self, x: &Tensor, rate: f32, shared: Shared, update: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(keep) = &self.keep else { return update() };
        let before = x.copy()?;
        update()?;
        let number = self.n_update.replace(self.n_update.get() + 1);
        let factor = factors(&|i| keep(number, i, rate), rate, shared, x)?;
        // x = before + update; wanted is before + factor * update.
        add_in_place(x, &(x - before)?.broadcast_mul(&(factor - 1.)?)?)
    }
}

/// 0 where an update is lost, and what makes up for it elsewhere.
fn factors(keep: &dyn Fn(u32) -> bool, rate: f32, shared: Shared, x: &Tensor) -> Result<Tensor> {
    let (_, rows, columns, c) = x.dims4()?;
    let shape = match shared {
        Shared::Rows => (1, 1, columns, c),
        Shared::Columns => (1, rows, 1, c),
    };
    let n = (shape.1 * shape.2 * shape.3) as u32;
    let values = (0..n).map(|i| if keep(i) { 1. / (1. - rate) } else { 0. });
    Tensor::from_iter(values, x.device())?.reshape(shape)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn ones_added(dropout: &Dropout, rate: f32, shared: Shared) -> Vec<Vec<Vec<f32>>> {
        let x = Tensor::full(2_f32, (1, 30, 40, 16), &Device::Cpu).unwrap();
        let one = Tensor::ones((1, 30, 40, 16), DType::F32, &Device::Cpu).unwrap();
        dropout.apply(&x, rate, shared, || add_in_place(&x, &one)).unwrap();
        x.squeeze(0).unwrap().to_vec3().unwrap()
    }

    #[test]
    fn without_a_key_nothing_is_lost() {
        let x = ones_added(&Dropout::default(), 0.25, Shared::Rows);
        assert!(x.iter().flatten().flatten().all(|v| *v == 3.));
    }

    #[test]
    fn a_channel_is_lost_in_all_rows_or_all_columns() {
        for (rate, shared) in [(0.25, Shared::Rows), (0.25, Shared::Columns), (0.15, Shared::Rows)] {
            let x = ones_added(&Dropout::seeded(3, 1), rate, shared);
            let kept = 2. + 1. / (1. - rate);
            let (mut lost, mut n) = (0, 0);
            for (i, row) in x.iter().enumerate() {
                for (j, values) in row.iter().enumerate() {
                    let other = if shared == Shared::Rows { &x[(i + 7) % 30][j] } else { &row[(j + 7) % 40] };
                    assert_eq!(values, other);
                    assert!(values.iter().all(|v| *v == 2. || (v - kept).abs() < 1e-6));
                    lost += values.iter().filter(|v| **v == 2.).count();
                    n += values.len();
                }
            }
            // 480 or 640 draws: the share is within five standard deviations.
            let share = lost as f32 / n as f32;
            assert!((share - rate).abs() < 5. * (rate * (1. - rate) / 480.).sqrt(), "{share} of {rate}");
        }
    }

    #[test]
    fn seeds_passes_and_updates_differ_and_repeat() {
        let draw = |seed, pass, n| {
            let dropout = Dropout::seeded(seed, pass);
            (0..n).map(|_| ones_added(&dropout, 0.25, Shared::Rows)[0].clone()).collect::<Vec<_>>()
        };
        let first = draw(1, 0, 2);
        assert_ne!(first[0], first[1]);
        assert_eq!(first, draw(1, 0, 2));
        assert_ne!(first, draw(2, 0, 2));
        assert_ne!(first, draw(1, 1, 2));
    }
}
