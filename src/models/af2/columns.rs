//! Dense layers whose input is one-hot, or nearly: a product is the choice of a column of the weight, and nothing one-hot is built.
use candle_core::{Device, Result, Tensor};

use crate::weights::{Param, Weights};

/// A dense layer from `k` features to `c` channels.
#[derive(Debug, Clone)]
pub struct FeatureLinear {
    weight: Param, // [c, k]
    bias: Param,   // [c]
}

/// Its values on the host.
#[derive(Debug, Clone)]
pub struct Columns {
    values: Vec<f32>, // [k, c]
    bias: Vec<f32>,
}

impl FeatureLinear {
    /// Reads `weight` `[c, k]` and `bias` `[c]`.
    pub fn load(k: usize, c: usize, w: &Weights) -> Result<Self> {
        Ok(Self { weight: w.param("weight", &[c, k])?, bias: w.param("bias", &[c])? })
    }

    /// The columns of the weight, where the host can read them.
    pub fn columns(&self) -> Result<Columns> {
        Ok(Columns { values: self.weight.columns()?, bias: self.bias.tensor(&Device::Cpu)?.to_vec1()? })
    }

    /// `x` `[rows, k]` on the host -> `[rows, c]`.
    pub fn forward(&self, x: &[f32]) -> Result<Vec<f32>> {
        let columns = self.columns()?;
        let k = self.weight.shape()[1];
        let mut out = columns.bias.repeat(x.len() / k);
        for (x, out) in x.chunks(k).zip(out.chunks_mut(columns.bias.len())) {
            x.iter().enumerate().for_each(|(i, x)| columns.add(i, *x, out));
        }
        Ok(out)
    }
}

impl Columns {
    /// What every row has.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Column `i`.
    pub fn column(&self, i: usize) -> &[f32] {
        &self.values[i * self.bias.len()..][..self.bias.len()]
    }

    /// `out += factor * column i`.
    pub fn add(&self, i: usize, factor: f32, out: &mut [f32]) {
        if factor != 0. {
            out.iter_mut().zip(self.column(i)).for_each(|(o, w)| *o += factor * w);
        }
    }
}

/// Adds `x` to `out`.
pub(super) fn add(out: &mut [f32], x: &[f32]) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o += x);
}

/// A pair representation `[1, n, n, c]` whose pair ij is what `fill` adds to zeros.
pub(super) fn pairs(
    n: usize,
    c: usize,
    device: &Device,
    fill: impl Fn(usize, usize, &mut [f32]) + Send + Sync,
) -> Result<Tensor> {
    use rayon::prelude::*;
    let mut values = vec![0.; n * n * c];
    values.par_chunks_mut(c).enumerate().for_each(|(pair, out)| fill(pair / n, pair % n, out));
    Tensor::from_vec(values, (1, n, n, c), device)
}

/// Bins of distances by their lower edges; the last has no upper one.
#[derive(Debug, Clone)]
pub(super) struct Distances {
    /// Squares of the lower edges, Å².
    edges: Vec<f32>,
}

impl Distances {
    /// `n` lower edges from `first` to `last`, in Å.
    pub fn new(first: f32, last: f32, n: usize) -> Self {
        // As jnp.linspace: the ends weighted, in f32.
        let edge = |i: usize| {
            let step = i as f32 / (n - 1) as f32;
            if i + 1 == n { last } else { first * (1. - step) + last * step }
        };
        Self { edges: (0..n).map(|i| edge(i) * edge(i)).collect() }
    }

    /// The bin of the distance of two points; none if they are nearer than the first edge, or on an edge.
    pub fn bin(&self, a: [f32; 3], b: [f32; 3]) -> Option<usize> {
        let d = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
        let square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        let i = self.edges.iter().rposition(|edge| square > *edge)?;
        let upper = self.edges.get(i + 1).copied().unwrap_or(1e8);
        (square < upper).then_some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_bins() {
        let d = Distances::new(3.25, 20.75, 15);
        let at = |x: f32| d.bin([x, 0., 0.], [0.; 3]);
        assert_eq!(
            [at(0.), at(3.), at(3.25), at(3.3), at(4.5), at(4.6), at(30.)],
            [None, None, None, Some(0), None, Some(1), Some(14)]
        );
    }
}
