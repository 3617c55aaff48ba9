//! Attention between residues by the directions and distances of learned vectors, as ESM3 has it: `esm/layers/geom_attn.py`
//! (`GeometricReasoningOriginalImpl`) of esm 3.2.1. On the host: the trunk has one such layer among 48.
use candle_core::Result;
use rayon::prelude::*;

use super::cpu::pointwise::softmax_rows;
use super::cpu::simd::Isa;

/// Values of one call, residue by residue; vectors are `x, y, z` one after the other.
#[derive(Debug, Clone, Copy)]
pub struct GeometricAttention<'a> {
    /// Each residue's vectors in its own frame, `[b, n, 5, h, 3]`: queries and keys of directions, values, queries and keys of distances.
    pub vectors: &'a [f32],
    /// `[b, n]` rotations, row by row.
    pub rotations: &'a [[f32; 9]],
    /// `[b, n]` positions in Å; only differences within a row count.
    pub translations: &'a [[f32; 3]],
    /// `[b, n]`: does the residue have a frame? Where not, nobody attends to it.
    pub has_frame: &'a [bool],
    /// `[b, n]`: residues of the same sequence have 1 added to their logits.
    pub sequence_id: &'a [i64],
    /// `[b, n]`: residues of other chains are not attended to.
    pub chain_id: &'a [i64],
    /// `[h]`: what a direction's product counts, through a softplus.
    pub rotation_scale: &'a [f32],
    /// `[h]`: what a distance counts, through a softplus.
    pub distance_scale: &'a [f32],
    /// Rows of residues: b.
    pub batch: usize,
}

/// Groups of vectors.
const N_GROUP: usize = 5;

/// One head's vectors of a row of residues in the global frame, a coordinate at a time: `[group][coordinate][n]`.
type Planes = [[Vec<f32>; 3]; N_GROUP];

impl GeometricAttention<'_> {
    /// The attended values in each residue's own frame, `[b, n, h, 3]`. A residue that may attend to nobody gets the mean of all.
    pub fn run(&self) -> Result<Vec<f32>> {
        let (b, h) = (self.batch, self.rotation_scale.len());
        let all = self.has_frame.len();
        let per_residue = [self.rotations.len(), self.translations.len(), self.sequence_id.len(), self.chain_id.len()];
        let fits = per_residue.iter().all(|n| *n == all) && self.vectors.len() == all * N_GROUP * h * 3;
        if b == 0 || h == 0 || !all.is_multiple_of(b) || !fits || self.distance_scale.len() != h {
            candle_core::bail!("geometric attention of {all} residues in {b} rows and {h} heads: the sizes do not fit")
        }
        let n = all / b;
        let heads: Vec<Vec<f32>> = (0..b * h).into_par_iter().map(|i| self.head(i / h, i % h, n)).collect();
        let mut attended = vec![0.; all * h * 3];
        for (i, values) in heads.iter().enumerate() {
            let (row, head) = (i / h, i % h);
            for (residue, value) in values.chunks_exact(3).enumerate() {
                attended[((row * n + residue) * h + head) * 3..][..3].copy_from_slice(value);
            }
        }
        Ok(attended)
    }

    /// `[n, 3]` of a head of a row.
    fn head(&self, row: usize, head: usize, n: usize) -> Vec<f32> {
        let planes = self.planes(row, head, n);
        let [q_direction, k_direction, v, q_distance, k_distance] = &planes;
        let scale = |raw: f32| softplus(raw) / 3f32.sqrt();
        let (by_direction, by_distance) = (scale(self.rotation_scale[head]), scale(self.distance_scale[head]));
        let residues = row * n..(row + 1) * n;
        let has_frame = &self.has_frame[residues.clone()];
        let (sequence_id, chain_id) = (&self.sequence_id[residues.clone()], &self.chain_id[residues]);
        let isa = Isa::best();
        let mut logits = vec![0.; n];
        let mut attended = Vec::with_capacity(n * 3);
        for i in 0..n {
            let at = |plane: &[Vec<f32>; 3]| [plane[0][i], plane[1][i], plane[2][i]];
            let (q, p) = (at(q_direction), at(q_distance));
            for (j, logit) in logits.iter_mut().enumerate() {
                let product = (0..3).map(|x| q[x] * k_direction[x][j]).sum::<f32>();
                let square = (0..3).map(|x| (p[x] - k_distance[x][j]).powi(2)).sum::<f32>();
                *logit = by_direction * product - by_distance * square.sqrt();
            }
            for (j, logit) in logits.iter_mut().enumerate() {
                let hidden = !has_frame[j] || chain_id[i] != chain_id[j];
                *logit = if hidden { f32::MIN } else { *logit + f32::from(u8::from(sequence_id[i] == sequence_id[j])) };
            }
            softmax_rows(isa, &mut logits, n);
            let sum = |plane: &Vec<f32>| logits.iter().zip(plane).map(|(a, v)| a * v).sum::<f32>();
            let value = [0, 1, 2].map(|x| sum(&v[x]));
            let r = &self.rotations[row * n + i];
            attended.extend([0, 1, 2].map(|x| r[x] * value[0] + r[3 + x] * value[1] + r[6 + x] * value[2]));
        }
        attended
    }

    /// All vectors are turned by their residue's frame; those of distances are moved by it too.
    fn planes(&self, row: usize, head: usize, n: usize) -> Planes {
        let h = self.rotation_scale.len();
        let mut planes: Planes = std::array::from_fn(|_| std::array::from_fn(|_| Vec::with_capacity(n)));
        for residue in row * n..(row + 1) * n {
            let (r, t) = (&self.rotations[residue], &self.translations[residue]);
            for (group, planes) in planes.iter_mut().enumerate() {
                let v = &self.vectors[((residue * N_GROUP + group) * h + head) * 3..][..3];
                for (x, plane) in planes.iter_mut().enumerate() {
                    let turned = r[3 * x] * v[0] + r[3 * x + 1] * v[1] + r[3 * x + 2] * v[2];
                    plane.push(if group < 3 { turned } else { turned + t[x] });
                }
            }
        }
        planes
    }
}

/// `ln(1 + e^x)`, as torch: x itself above 20.
fn softplus(x: f32) -> f32 {
    if x > 20. { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Noise;

    const TURN: [f32; 9] = [0., -1., 0., 1., 0., 0., 0., 0., 1.];

    fn run(vectors: &[f32], rotations: &[[f32; 9]], translations: &[[f32; 3]], has_frame: &[bool]) -> Vec<f32> {
        let n = has_frame.len();
        let zeros = vec![0; n];
        let attention = GeometricAttention {
            vectors,
            rotations,
            translations,
            has_frame,
            sequence_id: &zeros,
            chain_id: &zeros,
            rotation_scale: &[0.3, -0.2],
            distance_scale: &[0.1, 1.2],
            batch: 1,
        };
        attention.run().unwrap()
    }

    /// What a residue sees does not depend on how the whole structure lies.
    #[test]
    fn the_whole_may_be_turned_and_moved() {
        let n = 9;
        let mut noise = Noise::new(1);
        let vectors = noise.values(n * N_GROUP * 2 * 3);
        let identity = [1., 0., 0., 0., 1., 0., 0., 0., 1.];
        let rotations: Vec<[f32; 9]> = (0..n).map(|i| if i % 2 == 0 { TURN } else { identity }).collect();
        let translations: Vec<[f32; 3]> = (0..n).map(|_| [0; 3].map(|_| 3. * noise.value())).collect();
        let has_frame: Vec<bool> = (0..n).map(|i| i != 3).collect();
        let here = run(&vectors, &rotations, &translations, &has_frame);
        let turn = |v: [f32; 3]| [-v[1], v[0], v[2]];
        let turned: Vec<[f32; 9]> =
            rotations.iter().map(|r| [-r[3], -r[4], -r[5], r[0], r[1], r[2], r[6], r[7], r[8]]).collect();
        let moved: Vec<[f32; 3]> =
            translations.iter().map(|t| turn(*t)).map(|t| [t[0] + 5., t[1], t[2] - 8.]).collect();
        let there = run(&vectors, &turned, &moved, &has_frame);
        assert!(here.iter().zip(&there).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(here.iter().any(|v| v.abs() > 0.1));
    }

    /// Without a frame anywhere, all count the same.
    #[test]
    fn nobody_to_attend_to_gives_the_mean() {
        let n = 4;
        let vectors = Noise::new(2).values(n * N_GROUP * 2 * 3);
        let identity = [1., 0., 0., 0., 1., 0., 0., 0., 1.];
        let got = run(&vectors, &vec![identity; n], &vec![[0.; 3]; n], &vec![false; n]);
        let mean: f32 = (0..n).map(|i| vectors[(i * N_GROUP + 2) * 6]).sum::<f32>() / n as f32;
        assert!((got[0] - mean).abs() < 1e-6 && (got[6] - mean).abs() < 1e-6);
    }
}
