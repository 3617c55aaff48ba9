//! Attention along the rows and the columns of an MSA: AF2 SI Alg. 7, 8 and 19. All go in blocks of rows or columns, so that beside
//! the representation only what a block needs is in memory, and no logits are.
use candle_core::{Result, Tensor};

use super::attention::{pair_bias, pair_bias_reference};
use super::elementwise::{add_in_place_reference, write_back};
use super::{Attention, Linear, Norm, attention, metal, sigmoid};
use crate::weights::Weights;

/// `m += attention(norm_m(m))` along rows, with a bias from the pair representation: Alg. 7.
#[derive(Debug, Clone)]
pub struct MsaRowAttention {
    norm_m: Norm,
    norm_z: Norm,
    bias: Linear, // c_z -> n_head
    attention: Attention,
}

impl MsaRowAttention {
    /// Reads `norm_m`, `norm_z`, `bias` and `attention`.
    pub fn load(c_m: usize, c_z: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm_m: Norm::load(c_m, &w.at("norm_m"))?,
            norm_z: Norm::load(c_z, &w.at("norm_z"))?,
            bias: Linear::load(c_z, n_head, &w.at("bias"))?,
            attention: Attention::load(c_m, c_m, c_head, n_head, &w.at("attention"))?,
        })
    }

    /// Updates `m` `[b, r, n, c_m]` in place from `z` `[b, n, n, c_z]`; `mask` `[b, r, n]` (1 = real) hides keys.
    pub fn add_to(&self, m: &Tensor, z: &Tensor, mask: &Tensor) -> Result<()> {
        let b = check(m, mask)?;
        for sample in 0..b {
            let bias = pair_bias(&z.get(sample)?, Some(&self.norm_z), &self.bias)?.unsqueeze(0)?;
            attend(&m.get(sample)?, &mask.get(sample)?, &self.norm_m, &self.attention, Some(&bias))?;
        }
        Ok(())
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, m: &Tensor, z: &Tensor, mask: &Tensor) -> Result<()> {
        for sample in 0..m.dim(0)? {
            let (m, x) = (m.get(sample)?, self.norm_m.forward_reference(&m.get(sample)?)?);
            let bias = pair_bias_reference(&z.get(sample)?, Some(&self.norm_z), &self.bias)?.unsqueeze(0)?;
            let hidden = hidden(&mask.get(sample)?)?;
            add_in_place_reference(&m, &self.attention.forward_reference(&x, &x, &[&hidden, &bias])?)?;
        }
        Ok(())
    }
}

/// `m += attention(norm(m))` along columns: Alg. 8.
#[derive(Debug, Clone)]
pub struct MsaColumnAttention {
    norm: Norm,
    attention: Attention,
}

impl MsaColumnAttention {
    /// Reads `norm` and `attention`.
    pub fn load(c_m: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: Norm::load(c_m, &w.at("norm"))?,
            attention: Attention::load(c_m, c_m, c_head, n_head, &w.at("attention"))?,
        })
    }

    /// Updates `m` `[b, r, n, c_m]` in place; `mask` `[b, r, n]` (1 = real) hides keys.
    pub fn add_to(&self, m: &Tensor, mask: &Tensor) -> Result<()> {
        by_columns(m, mask, 5 * self.attention.q.n() + 3 * self.norm.c(), |columns, mask| {
            attend(columns, mask, &self.norm, &self.attention, None)
        })
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, m: &Tensor, mask: &Tensor) -> Result<()> {
        for sample in 0..m.dim(0)? {
            let m = m.get(sample)?;
            let x = self.norm.forward_reference(&m)?.transpose(0, 1)?.contiguous()?; // [n, r, c]
            let update = self.attention.forward_reference(&x, &x, &[&hidden(&mask.get(sample)?.t()?)?])?;
            add_in_place_reference(&m, &update.transpose(0, 1)?)?;
        }
        Ok(())
    }
}

/// `m += out(sigmoid(gate n) * o)`, `n = norm(m)`, `o` the attention of a column's mean to the column, all heads with one set of
/// keys and values: Alg. 19.
#[derive(Debug, Clone)]
pub struct MsaColumnGlobalAttention {
    norm: Norm,
    q: Linear,    // c_m -> n_head * c_head
    k: Linear,    // c_m -> c_head
    v: Linear,    // c_m -> c_head
    gate: Linear, // c_m -> n_head * c_head
    out: Linear,  // n_head * c_head -> c_m
}

/// Added to the number of sequences in a column's mean.
const EPS: f64 = 1e-10;

impl MsaColumnGlobalAttention {
    /// Reads `norm` and `attention`'s `q`, `k`, `v`, `gate` and `out`.
    pub fn load(c_m: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        let (norm, w) = (Norm::load(c_m, &w.at("norm"))?, w.at("attention"));
        Ok(Self {
            norm,
            q: Linear::load(c_m, n_head * c_head, &w.at("q"))?,
            k: Linear::load(c_m, c_head, &w.at("k"))?,
            v: Linear::load(c_m, c_head, &w.at("v"))?,
            gate: Linear::load(c_m, n_head * c_head, &w.at("gate"))?,
            out: Linear::load(n_head * c_head, c_m, &w.at("out"))?,
        })
    }

    /// Updates `m` `[b, r, n, c_m]` in place; `mask` `[b, r, n]` (1 = real) hides sequences.
    pub fn add_to(&self, m: &Tensor, mask: &Tensor) -> Result<()> {
        let c = self.q.n();
        by_columns(m, mask, 3 * c + 2 * self.k.n() + 3 * self.norm.c(), |columns, mask| {
            let x = self.norm.forward(columns)?; // [n, r, c_m]
            let q = self.q.forward(&mean(&x, mask)?)?;
            // The heads are queries of one head: they share keys and values.
            let q = q.reshape((q.dim(0)?, c / self.k.n(), self.k.n()))?;
            let o = attention(&q, &self.k.forward(&x)?, &self.v.forward(&x)?, &[&hidden(mask)?], None, 1)?;
            let o = o.reshape((o.dim(0)?, 1, c))?;
            self.out.add_to(columns, &sigmoid(&self.gate.forward(&x)?)?.broadcast_mul(&o)?)
        })
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, m: &Tensor, mask: &Tensor) -> Result<()> {
        for sample in 0..m.dim(0)? {
            let m = m.get(sample)?;
            let mask = mask.get(sample)?.t()?.contiguous()?; // [n, r]
            let x = self.norm.forward_reference(&m)?.transpose(0, 1)?.contiguous()?; // [n, r, c_m]
            let (n, _, d) = (x.dim(0)?, x.dim(1)?, self.k.n());
            let q = self.q.forward_reference(&mean(&x, &mask)?)?.reshape((n, (), d))?; // [n, h, d]
            let (k, v) = (self.k.forward_reference(&x)?, self.v.forward_reference(&x)?);
            let o = super::attention_reference(&q, &k, &v, &[&hidden(&mask)?], None, 1)?.reshape((n, 1, ()))?;
            let gate = candle_nn::ops::sigmoid(&self.gate.forward_reference(&x)?)?;
            let update = self.out.forward_reference(&gate.broadcast_mul(&o)?)?;
            add_in_place_reference(&m, &update.transpose(0, 1)?)?;
        }
        Ok(())
    }
}

/// `rows += attention(norm(rows))`; `rows` `[r, n, c]`, `mask` `[r, n]`, `bias` `[1, h, n, n]`.
fn attend(rows: &Tensor, mask: &Tensor, norm: &Norm, attention: &Attention, bias: Option<&Tensor>) -> Result<()> {
    let (r, n, c) = rows.dims3()?;
    let hidden = hidden(mask)?;
    for (start, len) in metal::blocks(r, n * (5 * attention.q.n() + 2 * c)) {
        let rows = rows.narrow(0, start, len)?;
        let x = norm.forward(&rows)?;
        let hidden = hidden.narrow(0, start, len)?;
        let biases: &[&Tensor] = match bias {
            Some(bias) => &[&hidden, bias],
            None => &[&hidden],
        };
        attention.out.add_to(&rows, &attention.heads(&x, &x, biases)?)?;
    }
    Ok(())
}

/// Calls `update` with blocks of columns as rows, `[n, r, c]` and their mask `[n, r]`, and puts what it makes of them back; `values`
/// are what it makes of a sequence's residue on the way.
fn by_columns(m: &Tensor, mask: &Tensor, values: usize, update: impl Fn(&Tensor, &Tensor) -> Result<()>) -> Result<()> {
    let b = check(m, mask)?;
    let (_, r, n, _) = m.dims4()?;
    for sample in 0..b {
        let (m, mask) = (m.get(sample)?, mask.get(sample)?);
        for (start, len) in metal::blocks(n, r * values) {
            let columns = m.narrow(1, start, len)?.transpose(0, 1)?.force_contiguous()?;
            update(&columns, &mask.narrow(1, start, len)?.t()?.contiguous()?)?;
            let rows = columns.transpose(0, 1)?.contiguous()?;
            if len == n { write_back(&m, &rows)? } else { m.slice_set(&rows, 1, start)? }
        }
    }
    Ok(())
}

/// The mean of the rows of `x` `[n, r, c]` that `mask` `[n, r]` counts: `[n, 1, c]`.
fn mean(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let sum = mask.unsqueeze(1)?.contiguous()?.matmul(x)?;
    sum.broadcast_div(&(mask.sum_keepdim(1)? + EPS)?.unsqueeze(1)?)
}

/// What a mask `[r, n]` adds to logits: 0 or -1e9, `[r, 1, 1, n]`.
fn hidden(mask: &Tensor) -> Result<Tensor> {
    mask.contiguous()?.affine(1e9, -1e9)?.unsqueeze(1)?.unsqueeze(1)
}

/// Samples of `m` `[b, r, n, c]`, which can be changed in place and fits `mask` `[b, r, n]`.
fn check(m: &Tensor, mask: &Tensor) -> Result<usize> {
    let (b, r, n, _) = m.dims4()?;
    if mask.dims() != [b, r, n] || !m.is_contiguous() {
        candle_core::bail!("attention over an MSA {:?}, mask {:?}", m.layout(), mask.dims())
    }
    Ok(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, on_each_isa, same_change};

    fn layer(noise: &mut Noise, c: usize, h: usize, d: usize) -> Attention {
        Attention {
            q: noise.linear_without_bias(c, h * d),
            k: noise.linear_without_bias(c, h * d),
            v: noise.linear_without_bias(c, h * d),
            gate: Some(noise.linear(c, h * d)),
            out: noise.linear(h * d, c),
            n_head: h,
        }
    }

    const SIZES: [[usize; 6]; 5] =
        [[1, 1, 1, 8, 1, 8], [2, 3, 5, 16, 2, 8], [1, 17, 33, 24, 3, 8], [2, 40, 7, 8, 4, 2], [1, 5, 100, 64, 8, 8]];

    #[test]
    fn updates_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for [b, r, n, c, h, d] in SIZES {
                let (m, z, mask) = (noise.tensor(&[b, r, n, c]), noise.tensor(&[b, n, n, 12]), noise.mask(&[b, r, n]));
                let what = format!("{b} x {r} x {n} x {c}");
                let row = MsaRowAttention {
                    norm_m: noise.norm(c),
                    norm_z: noise.norm(12),
                    bias: noise.linear_without_bias(12, h),
                    attention: layer(&mut noise, c, h, d),
                };
                let (fast, reference) =
                    (|m: &Tensor| row.add_to(m, &z, &mask), |m: &Tensor| row.add_to_reference(m, &z, &mask));
                same_change(&format!("{what}, rows"), &m, fast, reference, 1e-5)?;
                let column = MsaColumnAttention { norm: noise.norm(c), attention: layer(&mut noise, c, h, d) };
                let (fast, reference) =
                    (|m: &Tensor| column.add_to(m, &mask), |m: &Tensor| column.add_to_reference(m, &mask));
                same_change(&format!("{what}, columns"), &m, fast, reference, 1e-5)?;
                let global = MsaColumnGlobalAttention {
                    norm: noise.norm(c),
                    q: noise.linear_without_bias(c, h * d),
                    k: noise.linear_without_bias(c, d),
                    v: noise.linear_without_bias(c, d),
                    gate: noise.linear(c, h * d),
                    out: noise.linear(h * d, c),
                };
                let (fast, reference) =
                    (|m: &Tensor| global.add_to(m, &mask), |m: &Tensor| global.add_to_reference(m, &mask));
                same_change(&format!("{what}, global"), &m, fast, reference, 1e-5)?;
            }
            Ok(())
        })
    }

    /// More columns than a block takes.
    #[test]
    fn columns_in_blocks() -> Result<()> {
        let mut noise = Noise::new(2);
        let (r, n, c) = (600, 300, 16);
        let (m, mask) = (noise.tensor(&[1, r, n, c]), noise.mask(&[1, r, n]));
        let column = MsaColumnAttention { norm: noise.norm(c), attention: layer(&mut noise, c, 2, 8) };
        assert!(metal::blocks(n, r * (5 * 16 + 3 * c)).count() > 1);
        let (fast, reference) = (|m: &Tensor| column.add_to(m, &mask), |m: &Tensor| column.add_to_reference(m, &mask));
        same_change("columns", &m, fast, reference, 1e-5)
    }

    #[test]
    fn other_masks_are_refused() {
        let mut noise = Noise::new(3);
        let column = MsaColumnAttention { norm: noise.norm(8), attention: layer(&mut noise, 8, 1, 8) };
        assert!(column.add_to(&noise.tensor(&[1, 3, 4, 8]), &noise.mask(&[1, 4, 3])).is_err());
    }
}
