//! The SwiGLU transition: AF3 SI Alg. 11.
use candle_core::{D, Result, Tensor};

use super::cpu::columns::Write;
use super::cpu::dense::{self, Rows, Target};
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
            return self.add_to_on_metal(x, mask);
        }
        if !served(x) {
            return self.add_to_reference(x, mask);
        }
        let mask = mask.map(|mask| apart(mask, x)).transpose()?;
        let mask = mask.as_ref().map(Values::of).transpose()?;
        let mask = mask.as_deref();
        let layers = dense::SwiGlu { a: self.a.dense()?, b: self.b.dense()?, out: self.out.dense()? };
        let norm = Some((self.norm.affine()?, 1));
        update(x, "swiglu_transition", |x| {
            let (c, m) = (layers.out.n, x.len() / layers.out.n);
            if mask.is_some_and(|mask| mask.len() != m) {
                candle_core::bail!("transition of {m} rows: a mask of {:?}", mask.map(<[f32]>::len))
            }
            let shared = Shared::new(x);
            // SAFETY: `swiglu` writes a row after it has read it, in the same task or when all are read.
            let rows = unsafe { Rows::in_place(shared, c, norm) };
            let target = Target { dst: shared, n: c, write: Write::Add, gate: None, mask };
            dense::swiglu(Isa::best(), rows, m, layers, target);
            Ok(())
        })
    }

    /// `add_to` in blocks of rows.
    fn add_to_on_metal(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        let (c, m) = (self.out.n(), x.elem_count() / self.out.n());
        let x = x.reshape((m, c))?;
        let mask = mask.map(|mask| mask.reshape((m, 1))).transpose()?;
        for (start, len) in metal::blocks(m, 3 * self.a.n() + 2 * c) {
            let rows = x.narrow(0, start, len)?;
            let n = self.norm.forward(&rows)?;
            let h = elementwise::silu_gate(&self.a.forward(&n)?, &self.b.forward(&n)?)?;
            let update = self.out.forward(&h)?;
            match &mask {
                Some(mask) => elementwise::gate_add(&rows, &mask.narrow(0, start, len)?, &update)?,
                None => elementwise::add_in_place(&rows, &update)?,
            }
        }
        Ok(())
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        let n = self.norm.forward_reference(x)?;
        let h = elementwise::silu_gate_reference(&self.a.forward_reference(&n)?, &self.b.forward_reference(&n)?)?;
        let update = self.out.forward_reference(&h)?;
        match mask {
            Some(mask) => add_in_place_reference(x, &update.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?),
            None => add_in_place_reference(x, &update),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, on_each_isa, same_change};

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
}
