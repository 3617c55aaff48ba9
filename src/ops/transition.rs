//! Transitions: of ReLU (AF2 SI Alg. 9 and 15) and of SwiGLU (AF3 SI Alg. 11).
use candle_core::{D, Result, Tensor};

use super::cpu::columns::Write;
use super::cpu::dense::{self, Rows, Target};
use super::cpu::relu;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::elementwise::add_in_place_reference;
use super::linear::expect_channels;
use super::{Linear, Norm, elementwise, metal};
use crate::weights::Weights;

/// `x += out(silu(a n) * b n)`, `n = norm(x)`.
#[derive(Debug, Clone)]
pub struct SwiGluTransition {
    norm: Norm,
    a: Linear,   // c -> n_hidden
    b: Linear,   // c -> n_hidden
    out: Linear, // n_hidden -> c
}

impl SwiGluTransition {
    /// `n_hidden` channels inside: the paper's n times `c`.
    pub fn load(c: usize, n_hidden: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c, &w.at("norm"))?,
            a: Linear::load(c, n_hidden, &w.at("a"))?,
            b: Linear::load(c, n_hidden, &w.at("b"))?,
            out: Linear::load(n_hidden, c, &w.at("out"))?,
        })
    }

    /// Updates `x` `[.., c]` in place; where `mask` `[..]` is given, the update is multiplied by it.
    pub fn add_to(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        expect_channels(x, self.out.n(), "transition")?;
        if metal::served(x) && x.is_contiguous() {
            return add_in_blocks(x, mask, 3 * self.a.n(), |rows| {
                let n = self.norm.forward(rows)?;
                self.out.forward(&elementwise::silu_gate(&self.a.forward(&n)?, &self.b.forward(&n)?)?)
            });
        }
        if !served(x) {
            return self.add_to_reference(x, mask);
        }
        let mask = mask.map(|mask| apart(mask, x)).transpose()?;
        let mask = mask.as_ref().map(Values::of).transpose()?;
        let mask = mask.as_deref();
        let layers = dense::SwiGlu { a: self.a.layer()?, b: self.b.layer()?, out: self.out.layer()? };
        let norm = Some((self.norm.affine()?, 1));
        update(x, "swiglu_transition", |x| {
            let (c, m) = (layers.out.n, x.len() / layers.out.n);
            expect_mask(mask, m)?;
            let shared = Shared::new(x);
            // SAFETY: `swiglu` writes a row after it has read it, in the same task or when all are read.
            let rows = unsafe { Rows::in_place(shared, c, norm) };
            let target = Target { dst: shared, n: c, write: Write::Add, gate: None, mask };
            dense::swiglu(Isa::best(), rows, m, layers, target);
            Ok(())
        })
    }

    /// The update alone: `x` `[.., c]` -> the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let n = self.norm.forward(x)?;
        self.out.forward(&elementwise::silu_gate(&self.a.forward(&n)?, &self.b.forward(&n)?)?)
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        let n = self.norm.forward_reference(x)?;
        let h = elementwise::silu_gate_reference(&self.a.forward_reference(&n)?, &self.b.forward_reference(&n)?)?;
        add_masked_reference(x, mask, &self.out.forward_reference(&h)?)
    }
}

/// `x += out(relu(a n))`, `n = norm(x)`.
#[derive(Debug, Clone)]
pub struct ReluTransition {
    norm: Norm,
    a: Linear,   // c -> n_hidden
    out: Linear, // n_hidden -> c
}

impl ReluTransition {
    /// Reads `norm`, `a` and `out`; `n_hidden` channels inside: the paper's 4 `c`.
    pub fn load(c: usize, n_hidden: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c, &w.at("norm"))?,
            a: Linear::load(c, n_hidden, &w.at("a"))?,
            out: Linear::load(n_hidden, c, &w.at("out"))?,
        })
    }

    /// Updates `x` `[.., c]` in place; where `mask` `[..]` is given, the update is multiplied by it.
    pub fn add_to(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        expect_channels(x, self.out.n(), "transition")?;
        if metal::served(x) && x.is_contiguous() {
            return add_in_blocks(x, mask, 2 * self.a.n(), |rows| {
                self.out.forward(&elementwise::relu(&self.a.forward(&self.norm.forward(rows)?)?)?)
            });
        }
        if !served(x) {
            return self.add_to_reference(x, mask);
        }
        let mask = mask.map(|mask| apart(mask, x)).transpose()?;
        let mask = mask.as_ref().map(Values::of).transpose()?;
        let mask = mask.as_deref();
        let layers = relu::ReluTransition { a: self.a.dense()?, out: self.out.dense()? };
        let norm = Some((self.norm.affine()?, 1));
        update(x, "relu_transition", |x| {
            let (c, m) = (layers.out.n, x.len() / layers.out.n);
            expect_mask(mask, m)?;
            let shared = Shared::new(x);
            // SAFETY: a task writes only rows that it alone has read.
            let rows = unsafe { Rows::in_place(shared, c, norm) };
            let target = Target { dst: shared, n: c, write: Write::Add, gate: None, mask };
            layers.run(Isa::best(), rows, m, target);
            Ok(())
        })
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        let h = self.a.forward_reference(&self.norm.forward_reference(x)?)?.relu()?;
        add_masked_reference(x, mask, &self.out.forward_reference(&h)?)
    }
}

/// Adds to blocks of rows of the contiguous `x` `[.., c]` the `update` of them, times `mask` `[..]`; on Metal. Beside `2 c` an
/// update makes `values` a row on the way.
fn add_in_blocks(
    x: &Tensor,
    mask: Option<&Tensor>,
    values: usize,
    update: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let c = x.dim(D::Minus1)?;
    let m = x.elem_count() / c;
    let x = x.reshape((m, c))?;
    let mask = mask.map(|mask| mask.reshape((m, 1))).transpose()?;
    for (start, len) in metal::blocks(m, values + 2 * c) {
        let rows = x.narrow(0, start, len)?;
        let update = update(&rows)?;
        match &mask {
            Some(mask) => elementwise::gate_add(&rows, &mask.narrow(0, start, len)?, &update)?,
            None => elementwise::add_in_place(&rows, &update)?,
        }
    }
    Ok(())
}

/// `x += update * mask`, in plain tensor operations.
fn add_masked_reference(x: &Tensor, mask: Option<&Tensor>, update: &Tensor) -> Result<()> {
    match mask {
        Some(mask) => add_in_place_reference(x, &update.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?),
        None => add_in_place_reference(x, update),
    }
}

/// Fails unless there is one value of `mask` for each of `m` rows.
fn expect_mask(mask: Option<&[f32]>, m: usize) -> Result<()> {
    if mask.is_some_and(|mask| mask.len() != m) {
        candle_core::bail!("transition of {m} rows: a mask of {:?}", mask.map(<[f32]>::len))
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, on_each_isa, same_change};
    use crate::weights::{CodeLayout, Format};

    #[test]
    fn transitions_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (dims, c, hidden) in
                [([1, 1], 4, 8), ([2, 17], 24, 48), ([1, 76], 384, 1536), ([2, 700], 16, 200), ([33, 65], 128, 256)]
            {
                let layer = SwiGluTransition {
                    norm: noise.norm(c),
                    a: noise.linear(c, hidden),
                    b: noise.linear_without_bias(c, hidden),
                    out: noise.linear(hidden, c),
                };
                let (x, mask) = (noise.tensor(&[dims[0], dims[1], c]), noise.mask(&dims));
                for mask in [None, Some(&mask)] {
                    let (fast, reference) =
                        (|x: &Tensor| layer.add_to(x, mask), |x: &Tensor| layer.add_to_reference(x, mask));
                    same_change(&format!("{dims:?} {c} {hidden}"), &x, fast, reference, 3e-6)?;
                }
            }
            Ok(())
        })
    }

    #[test]
    fn quantised_transitions() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(3);
            for (dims, c, hidden) in [([1, 1], 64, 128), ([1, 7], 192, 320), ([2, 150], 128, 256), ([1, 90], 512, 640)]
            {
                let layout = |bits| CodeLayout { bits, group: 64, of: Format::F32 };
                let layer = SwiGluTransition {
                    norm: noise.norm(c),
                    a: noise.quantised_linear(c, hidden, layout(4)),
                    b: noise.quantised_linear(c, hidden, layout(4)),
                    out: noise.quantised_linear(hidden, c, layout(8)),
                };
                let (x, mask) = (noise.tensor(&[dims[0], dims[1], c]), noise.mask(&dims));
                let (fast, reference) =
                    (|x: &Tensor| layer.add_to(x, Some(&mask)), |x: &Tensor| layer.add_to_reference(x, Some(&mask)));
                same_change(&format!("quantised {dims:?} {c} {hidden}"), &x, fast, reference, 1e-5)?;
            }
            Ok(())
        })
    }

    #[test]
    fn relu_transitions_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(2);
            for (dims, c, hidden) in
                [([1, 1], 4, 16), ([2, 17], 24, 96), ([1, 76], 256, 1024), ([2, 700], 16, 200), ([33, 65], 128, 512)]
            {
                let layer = ReluTransition {
                    norm: noise.norm(c),
                    a: noise.linear(c, hidden),
                    out: if c == 24 { noise.linear_without_bias(hidden, c) } else { noise.linear(hidden, c) },
                };
                let (x, mask) = (noise.tensor(&[dims[0], dims[1], c]), noise.mask(&dims));
                for mask in [None, Some(&mask)] {
                    let (fast, reference) =
                        (|x: &Tensor| layer.add_to(x, mask), |x: &Tensor| layer.add_to_reference(x, mask));
                    same_change(&format!("{dims:?} {c} {hidden}"), &x, fast, reference, 3e-6)?;
                }
                let short = noise.mask(&[dims[0], dims[1] + 1]);
                assert!(layer.add_to(&x, Some(&short)).is_err());
            }
            Ok(())
        })
    }
}
