//! The attention inside invariant point attention: AF2 SI Alg. 22 lines 7-11. Frames are the caller's: points come and go in the
//! global frame. On the host; a structure module's eight iterations over single residues are little work.
use candle_core::Result;
use rayon::prelude::*;

use super::cpu::pointwise::softmax_rows;
use super::cpu::simd::Isa;

/// Values of one call, residue by residue; points are `x, y, z` one after the other.
#[derive(Debug, Clone, Copy)]
pub struct PointAttention<'a> {
    /// `[n, h * d]`, as keys and values.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// `[n, h * p * 3]`, as key points.
    pub q_points: &'a [f32],
    /// Key points.
    pub k_points: &'a [f32],
    /// `[n, h * p_v * 3]`.
    pub v_points: &'a [f32],
    /// `[h, n, n]`, added to the logits as it is.
    pub bias: &'a [f32],
    /// `[n, n, c_z]`.
    pub z: &'a [f32],
    /// `[n]`, 1 = real.
    pub mask: &'a [f32],
    /// `[h]`: what half a squared distance of points subtracts.
    pub point_weight: &'a [f32],
    /// Times the product of a query and a key.
    pub scale: f32,
}

/// Of each residue.
#[derive(Debug, Clone, PartialEq)]
pub struct PointAttended {
    /// `[n, h * d]`.
    pub values: Vec<f32>,
    /// `[n, h * p_v * 3]`.
    pub points: Vec<f32>,
    /// `[n, h * c_z]`.
    pub pairs: Vec<f32>,
}

/// Subtracted from the logit of a pair of which one is masked.
const HIDDEN: f32 = 1e5;

impl PointAttention<'_> {
    /// Sums over all residues j of values, points and pairs ij, weighted by the softmax over j.
    pub fn run(&self) -> Result<PointAttended> {
        let (n, h) = (self.mask.len(), self.point_weight.len());
        let fits = |x: &[f32], per: usize| per > 0 && x.len().is_multiple_of(per);
        if n == 0 || ![self.q, self.q_points, self.v_points].iter().all(|x| fits(x, n * h)) || !fits(self.z, n * n) {
            candle_core::bail!("point attention of {n} residues and {h} heads: the sizes do not fit")
        }
        if self.bias.len() != h * n * n || self.k.len() != self.q.len() || self.k_points.len() != self.q_points.len() {
            candle_core::bail!("point attention of {n} residues and {h} heads: keys or bias do not fit")
        }
        let sizes = [self.v.len() / n, self.v_points.len() / n, h * self.z.len() / (n * n)];
        let mut values = vec![0.; n * sizes[0]];
        let mut points = vec![0.; n * sizes[1]];
        let mut pairs = vec![0.; n * sizes[2]];
        let (k, k_points) = (transposed(self.k, n), transposed(self.k_points, n));
        let rows = values.par_chunks_mut(sizes[0]).zip(points.par_chunks_mut(sizes[1]));
        rows.zip(pairs.par_chunks_mut(sizes[2])).enumerate().for_each(|(i, ((values, points), pairs))| {
            let weights = self.weights(i, &k, &k_points);
            for (head, weights) in weights.chunks(n).enumerate() {
                sum(weights, self.v, head * values.len() / h, values_of(values, head, h));
                sum(weights, self.v_points, head * points.len() / h, values_of(points, head, h));
            }
            let z = &self.z[i * n * pairs.len() / h..][..n * pairs.len() / h];
            for (j, z) in z.chunks(pairs.len() / h).enumerate() {
                for (head, out) in pairs.chunks_mut(z.len()).enumerate() {
                    let weight = weights[head * n + j];
                    out.iter_mut().zip(z).for_each(|(o, z)| *o += weight * z);
                }
            }
        });
        Ok(PointAttended { values, points, pairs })
    }

    /// The softmax over j for each head of residue i: `[h, n]`; `k` `[h * d, n]`, `k_points` `[h * p * 3, n]`.
    fn weights(&self, i: usize, k: &[f32], k_points: &[f32]) -> Vec<f32> {
        let (n, h) = (self.mask.len(), self.point_weight.len());
        let (c, c_points) = (self.q.len() / n, self.q_points.len() / n);
        let (d, p) = (c / h, c_points / h);
        let mut logits = vec![0.; h * n];
        let mut distances = vec![0.; n];
        for (head, logits) in logits.chunks_mut(n).enumerate() {
            let q = &self.q[i * c + head * d..][..d];
            for (q, k) in q.iter().zip(k[head * d * n..].chunks(n)) {
                logits.iter_mut().zip(k).for_each(|(logit, k)| *logit += q * k);
            }
            distances.fill(0.);
            let q_points = &self.q_points[i * c_points + head * p..][..p];
            for (q, k) in q_points.iter().zip(k_points[head * p * n..].chunks(n)) {
                distances.iter_mut().zip(k).for_each(|(distance, k)| *distance += (q - k) * (q - k));
            }
            let bias = &self.bias[(head * n + i) * n..][..n];
            let weight = 0.5 * self.point_weight[head];
            for (((logit, distance), bias), mask) in logits.iter_mut().zip(&distances).zip(bias).zip(self.mask) {
                let hidden = HIDDEN * (1. - self.mask[i] * mask);
                *logit = self.scale * *logit - weight * distance + bias - hidden;
            }
        }
        softmax_rows(Isa::best(), &mut logits, n);
        logits
    }
}

/// `[n, c]` -> `[c, n]`, so that sums over channels go along the residues.
fn transposed(x: &[f32], n: usize) -> Vec<f32> {
    let c = x.len() / n;
    let mut out = vec![0.; x.len()];
    for (j, row) in x.chunks(c).enumerate() {
        row.iter().enumerate().for_each(|(channel, x)| out[channel * n + j] = *x);
    }
    out
}

/// The part of one head.
fn values_of(row: &mut [f32], head: usize, h: usize) -> &mut [f32] {
    let d = row.len() / h;
    &mut row[head * d..][..d]
}

/// `out += sum_j weights[j] x[j]`; rows of `x` are as many as weights, the part of `out` begins at `start` in each.
fn sum(weights: &[f32], x: &[f32], start: usize, out: &mut [f32]) {
    let c = x.len() / weights.len();
    for (weight, row) in weights.iter().zip(x.chunks(c)) {
        out.iter_mut().zip(&row[start..]).for_each(|(o, x)| *o += weight * x);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::ops::softmax_reference;
    use crate::ops::testing::{Noise, close, on_each_isa};

    /// Against tensor operations, with distances by differences.
    #[test]
    fn sums_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (n, h, d, p, p_v, c_z) in [(1, 1, 4, 1, 2, 8), (5, 2, 16, 4, 8, 16), (33, 3, 8, 2, 3, 5)] {
                let [q, k, v] = [0; 3].map(|_| noise.tensor(&[n, h, d]));
                let [qp, kp] = [0; 2].map(|_| noise.tensor(&[n, h, p * 3]));
                let (vp, bias, z) =
                    (noise.tensor(&[n, h, p_v * 3]), noise.tensor(&[h, n, n]), noise.tensor(&[n, n, c_z]));
                let (mask, weight) = (noise.mask(&[n]), noise.values(h));
                let host = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
                let arrays = [&q, &k, &v, &qp, &kp, &vp, &bias, &z, &mask].map(|x| host(x).expect("values"));
                let [hq, hk, hv, hqp, hkp, hvp, hbias, hz, hmask] = &arrays;
                let got = PointAttention {
                    q: hq,
                    k: hk,
                    v: hv,
                    q_points: hqp,
                    k_points: hkp,
                    v_points: hvp,
                    bias: hbias,
                    z: hz,
                    mask: hmask,
                    point_weight: &weight,
                    scale: 0.3,
                };
                let got = got.run()?;

                let heads = |x: &Tensor| x.transpose(0, 1)?.contiguous(); // [h, n, ..]
                let product = (heads(&q)?.matmul(&heads(&k)?.t()?)? * 0.3)?;
                let distance = heads(&qp)?.unsqueeze(2)?.broadcast_sub(&heads(&kp)?.unsqueeze(1)?)?.sqr()?.sum(3)?;
                let weight = (Tensor::from_slice(&weight, (h, 1, 1), q.device())? * -0.5)?;
                let both = mask.unsqueeze(1)?.broadcast_mul(&mask.unsqueeze(0)?)?.affine(1e5, -1e5)?;
                let logits = ((product + distance.broadcast_mul(&weight)?)? + &bias)?.broadcast_add(&both)?;
                let a = softmax_reference(&logits)?; // [h, n, n]
                // A masked residue's logits are swallowed by what hides them, to 2^-7: others are compared.
                let rows = |x: &Tensor| -> Result<Tensor> { x.reshape((n, ()))?.broadcast_mul(&mask.unsqueeze(1)?) };
                let mine = |x: &[f32]| rows(&Tensor::from_slice(x, (n, x.len() / n), q.device())?);
                let mean = |x: &Tensor| rows(&a.matmul(&heads(x)?)?.transpose(0, 1)?.contiguous()?);
                close("values", &mine(&got.values)?, &mean(&v)?, 5e-6)?;
                close("points", &mine(&got.points)?, &mean(&vp)?, 5e-6)?;
                let pairs = a.transpose(0, 1)?.contiguous()?.matmul(&z)?; // [n, h, c_z]
                close("pairs", &mine(&got.pairs)?, &rows(&pairs)?, 5e-6)?;
            }
            Ok(())
        })
    }

    #[test]
    fn other_sizes_are_refused() {
        let x = [0.; 12];
        let call = PointAttention {
            q: &x,
            k: &x,
            v: &x,
            q_points: &x,
            k_points: &x,
            v_points: &x,
            bias: &x,
            z: &x,
            mask: &[1.; 2],
            point_weight: &[1.; 2],
            scale: 1.,
        };
        assert!(call.run().is_err());
        assert!(PointAttention { bias: &x[..8], ..call }.run().is_ok());
    }
}
