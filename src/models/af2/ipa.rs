//! Invariant point attention: AF2 SI Alg. 22. It runs on the host, as all of the structure module: see `structure.rs`.
use candle_core::{Device, Result, Tensor};

use super::config::Config;
use crate::geometry::{Rigid, dot};
use crate::ops::{Linear, PointAttention, pair_bias};
use crate::weights::{Param, Weights};

/// How the length of a point is kept from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointLength {
    /// `sqrt(1e-8 + x^2)`: monomer.
    Added,
    /// `sqrt(max(1e-16, x^2))`: multimer.
    Floor,
}

/// Attention of residues to each other by what they are, where they are, and their pair representation.
#[derive(Debug)]
pub struct InvariantPointAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    q_point: Linear, // c_s -> h * p * 3
    k_point: Linear,
    v_point: Linear, // c_s -> h * p_v * 3
    bias: Linear,    // c_z -> h
    point_weight: Param,
    out: Linear,
    n_point_qk: usize,
    c_hidden: usize,
    length: PointLength,
}

/// The pair representation as every iteration takes it.
#[derive(Debug)]
pub struct PairInput {
    z: Vec<f32>,    // [n, n, c_z]
    bias: Vec<f32>, // [h, n, n]
}

impl InvariantPointAttention {
    /// The attention of `config`.
    pub fn load(config: &Config, length: PointLength, w: &Weights) -> Result<Self> {
        let (c_s, s) = (config.c_s, config.structure);
        let linear = |name: &str, n| Linear::load(c_s, s.n_head * n, &w.at(name));
        let c_out = s.n_head * (s.c_hidden + 4 * s.n_point_v + config.c_z);
        Ok(Self {
            q: linear("q", s.c_hidden)?,
            k: linear("k", s.c_hidden)?,
            v: linear("v", s.c_hidden)?,
            q_point: linear("q_point", 3 * s.n_point_qk)?,
            k_point: linear("k_point", 3 * s.n_point_qk)?,
            v_point: linear("v_point", 3 * s.n_point_v)?,
            bias: Linear::load(config.c_z, s.n_head, &w.at("bias"))?,
            point_weight: w.param("point_weight", &[s.n_head])?,
            out: Linear::load(c_out, c_s, &w.at("out"))?,
            n_point_qk: s.n_point_qk,
            c_hidden: s.c_hidden,
            length,
        })
    }

    /// `z` `[1, n, n, c_z]`, normalised, on the host: what all iterations share.
    pub fn pair(&self, z: &Tensor) -> Result<PairInput> {
        let bias = (pair_bias(&z.squeeze(0)?, None, &self.bias)? * (1f64 / 3.).sqrt())?;
        Ok(PairInput { z: z.flatten_all()?.to_vec1()?, bias: bias.flatten_all()?.to_vec1()? })
    }

    /// The update of `s` `[1, n, c_s]`; `frames` `[n]` in the module's unit, `mask` `[n]`, 1 = real.
    pub fn forward(&self, s: &Tensor, pair: &PairInput, frames: &[Rigid], mask: &[f32]) -> Result<Tensor> {
        let host = |lin: &Linear| lin.forward(s)?.flatten_all()?.to_vec1::<f32>();
        let global = |lin: &Linear| -> Result<Vec<f32>> {
            let mut points = host(lin)?;
            let row = points.len() / frames.len();
            for (frame, row) in frames.iter().zip(points.chunks_mut(row)) {
                each_point(row, |x| frame.apply(x));
            }
            Ok(points)
        };
        let (q, k, v) = (host(&self.q)?, host(&self.k)?, host(&self.v)?);
        let (q_points, k_points, v_points) = (global(&self.q_point)?, global(&self.k_point)?, global(&self.v_point)?);
        // Scalars, points and pairs have equal parts in the variance of a logit; a pair of points has 9/2.
        let part = |variance: f64| (1. / (3. * variance)).sqrt() as f32;
        let point_part = part(4.5 * self.n_point_qk as f64);
        let trained = self.point_weight.tensor(&Device::Cpu)?.to_vec1::<f32>()?;
        let point_weight: Vec<f32> = trained.iter().map(|w| point_part * softplus(*w)).collect();
        let attended = PointAttention {
            q: &q,
            k: &k,
            v: &v,
            q_points: &q_points,
            k_points: &k_points,
            v_points: &v_points,
            bias: &pair.bias,
            z: &pair.z,
            mask,
            point_weight: &point_weight,
            scale: part(self.c_hidden as f64),
        }
        .run()?;

        let n = frames.len();
        let (c, p, c_pair) = (attended.values.len() / n, attended.points.len() / n / 3, attended.pairs.len() / n);
        let mut features = Vec::with_capacity(n * self.out.k());
        for (i, frame) in frames.iter().enumerate() {
            features.extend_from_slice(&attended.values[i * c..][..c]);
            let mut points = attended.points[i * p * 3..][..p * 3].to_vec();
            each_point(&mut points, |x| frame.invert(x));
            (0..3).for_each(|axis| features.extend(points.iter().skip(axis).step_by(3)));
            features.extend(points.chunks(3).map(|x| self.length.of([x[0], x[1], x[2]])));
            features.extend_from_slice(&attended.pairs[i * c_pair..][..c_pair]);
        }
        self.out.forward(&Tensor::from_vec(features, (1, n, self.out.k()), s.device())?)
    }
}

impl PointLength {
    fn of(self, x: [f32; 3]) -> f32 {
        let x = x.map(f64::from);
        match self {
            Self::Added => (1e-8 + dot(x, x)).sqrt() as f32,
            Self::Floor => dot(x, x).max(1e-16).sqrt() as f32,
        }
    }
}

/// Replaces each `x, y, z` of `points`.
fn each_point(points: &mut [f32], f: impl Fn([f64; 3]) -> [f64; 3]) {
    for x in points.as_chunks_mut::<3>().0 {
        *x = f(x.map(f64::from)).map(|v| v as f32);
    }
}

fn softplus(x: f32) -> f32 {
    x.max(0.) + (-x.abs()).exp().ln_1p()
}
