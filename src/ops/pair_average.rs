//! Pair-weighted averaging of the MSA: AF3 SI Alg. 10.
use candle_core::{Result, Tensor};

use super::attention::{pair_bias, pair_bias_reference};
use super::cpu::msa;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::elementwise::{
    add_in_place, add_in_place_reference, sigmoid_gate, sigmoid_gate_reference, softmax, softmax_reference,
};
use super::{Linear, Norm, metal};
use crate::weights::Weights;

/// `m_ri += out(sigmoid(gate n) * sum_j w_hij v_rj)`, `w` a softmax over j of a pair bias, `n = norm_m(m)`.
#[derive(Debug, Clone)]
pub struct PairWeightedAverage {
    norm_m: Norm,
    norm_z: Norm,
    bias: Linear, // c_z -> n_head
    v: Linear,    // c_m -> n_head * c_head
    gate: Linear, // c_m -> n_head * c_head
    out: Linear,  // n_head * c_head -> c_m
    n_head: usize,
}

impl PairWeightedAverage {
    /// Reads `norm_m`, `norm_z`, `bias`, `v`, `gate` and `out`.
    pub fn load(c_m: usize, c_z: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        let c = c_head * n_head;
        Ok(Self {
            norm_m: Norm::load(c_m, &w.at("norm_m"))?,
            norm_z: Norm::load(c_z, &w.at("norm_z"))?,
            bias: Linear::load(c_z, n_head, &w.at("bias"))?,
            v: Linear::load(c_m, c, &w.at("v"))?,
            gate: Linear::load(c_m, c, &w.at("gate"))?,
            out: Linear::load(c, c_m, &w.at("out"))?,
            n_head,
        })
    }

    /// Updates `m` `[b, r, n, c_m]` in place from `z` `[b, n, n, c_z]`; `mask` `[b, n, n]` (1 = real) hides the j.
    pub fn add_to(&self, m: &Tensor, z: &Tensor, mask: &Tensor) -> Result<()> {
        let (b, r, n, c_m) = m.dims4()?;
        if z.dims() != [b, n, n, self.bias.k()] || mask.dims() != [b, n, n] || c_m != self.v.k() {
            candle_core::bail!("pair-weighted average of {:?} by {:?}, mask {:?}", m.dims(), z.dims(), mask.dims())
        }
        if metal::served(m) && r * n > 0 {
            return self.add_to_on_metal(m, z, mask);
        }
        if !served(m) || r * n == 0 {
            return self.add_to_reference(m, z, mask);
        }
        let (z, mask) = (apart(z, m)?, apart(mask, m)?);
        let (z, mask) = (Values::of(&z)?, Values::of(&mask)?);
        let layer = msa::PairWeightedAverage {
            norm_m: self.norm_m.affine()?,
            norm_z: self.norm_z.affine()?,
            bias: self.bias.dense()?,
            v: self.v.dense()?,
            gate: self.gate.dense()?,
            out: self.out.dense()?,
            n,
        };
        update(m, "pair_weighted_average", |m| {
            let pairs = z.chunks(n * n * layer.bias.k).zip(mask.chunks(n * n));
            let samples = m.chunks_mut(r * n * c_m).zip(pairs);
            samples.for_each(|(m, (z, mask))| layer.run(Isa::best(), m, z, mask));
            Ok(())
        })
    }

    /// `add_to` in blocks of sequences.
    fn add_to_on_metal(&self, m: &Tensor, z: &Tensor, mask: &Tensor) -> Result<()> {
        let ((b, r, n, c_m), c) = (m.dims4()?, self.v.n());
        let (h, d) = (self.n_head, c / self.n_head);
        for sample in 0..b {
            let m = m.get(sample)?;
            let hidden = ((mask.get(sample)? - 1.)? * 1e9)?.unsqueeze(0)?;
            let bias = pair_bias(&z.get(sample)?, Some(&self.norm_z), &self.bias)?;
            add_in_place(&bias, &hidden)?;
            let weights = softmax(&bias)?; // [h, n, n]
            for (start, len) in metal::blocks(r, n * (6 * c + 2 * c_m)) {
                let rows = m.narrow(0, start, len)?;
                let x = self.norm_m.forward(&rows)?; // [len, n, c_m]
                let v = self.v.forward(&x)?.reshape((len, n, h, d))?.permute((2, 1, 0, 3))?.contiguous()?;
                let o = weights.matmul(&v.reshape((h, n, len * d))?)?.reshape((h, n, len, d))?;
                let o = o.permute((2, 1, 0, 3))?.contiguous()?.reshape((len, n, c))?;
                add_in_place(&rows, &self.out.forward(&sigmoid_gate(&o, &self.gate.forward(&x)?)?)?)?;
            }
        }
        Ok(())
    }

    /// `add_to` in plain tensor operations.
    pub fn add_to_reference(&self, m: &Tensor, z: &Tensor, mask: &Tensor) -> Result<()> {
        let (b, r, n, _) = m.dims4()?;
        let x = self.norm_m.forward_reference(m)?;
        let v = self.v.forward_reference(&x)?; // [b, r, n, h * d]
        let d = v.dim(3)? / self.n_head;
        let v = v.reshape((b, r, n, self.n_head, d))?.permute((0, 3, 2, 1, 4))?.contiguous()?; // [b, h, n, r, d]
        let hidden = ((mask - 1.)? * 1e9)?.unsqueeze(1)?; // [b, 1, n, n]
        let bias = pair_bias_reference(z, Some(&self.norm_z), &self.bias)?; // [b, h, n, n]
        let weights = softmax_reference(&bias.broadcast_add(&hidden)?)?;
        let o = weights.matmul(&v.reshape((b, self.n_head, n, r * d))?)?; // [b, h, n, (r d)]
        let o = o.reshape((b, self.n_head, n, r, d))?.permute((0, 3, 2, 1, 4))?.contiguous()?;
        let o = o.reshape((b, r, n, self.n_head * d))?;
        let o = sigmoid_gate_reference(&o, &self.gate.forward_reference(&x)?)?;
        add_in_place_reference(m, &self.out.forward_reference(&o)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, on_each_isa, same_change};

    #[test]
    fn updates_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (b, r, n, c_m, c_z, h, d) in
                [(1, 1, 1, 4, 8, 1, 4), (2, 3, 5, 16, 4, 3, 5), (1, 2, 33, 64, 128, 8, 8), (2, 50, 31, 24, 16, 2, 12)]
            {
                let layer = PairWeightedAverage {
                    norm_m: noise.norm(c_m),
                    norm_z: noise.norm(c_z),
                    bias: noise.linear(c_z, h),
                    v: noise.linear(c_m, h * d),
                    gate: noise.linear_without_bias(c_m, h * d),
                    out: noise.linear(h * d, c_m),
                    n_head: h,
                };
                let (m, z, mask) =
                    (noise.tensor(&[b, r, n, c_m]), noise.tensor(&[b, n, n, c_z]), noise.mask(&[b, n, n]));
                let (fast, reference) =
                    (|m: &Tensor| layer.add_to(m, &z, &mask), |m: &Tensor| layer.add_to_reference(m, &z, &mask));
                same_change(&format!("{b} x {r} x {n}, {h} heads of {d}"), &m, fast, reference, 1e-5)?;
            }
            Ok(())
        })
    }
}
