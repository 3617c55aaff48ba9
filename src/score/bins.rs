//! Expected values of binned predictions.
use rayon::prelude::*;

/// Bins of equal width.
#[derive(Debug)]
pub(super) struct Bins {
    centres: Vec<f32>,
}

impl Bins {
    /// `n` bins from `min` to `max`.
    pub fn new(min: f32, max: f32, n: usize) -> Self {
        let width = (f64::from(max) - f64::from(min)) / n as f64;
        Self { centres: (0..n).map(|i| (f64::from(min) + (i as f64 + 0.5) * width) as f32).collect() }
    }

    pub fn len(&self) -> usize {
        self.centres.len()
    }

    /// `[n_bin]`.
    pub fn centres(&self) -> &[f32] {
        &self.centres
    }

    /// Mean of the centres, weighted by `probs` `[n_bin]`.
    pub fn mean(&self, probs: &[f32]) -> f32 {
        dot(&self.centres, probs)
    }

    /// `logits` `[.., n_bin]` -> expected values `[..]`.
    pub fn expect(&self, logits: &[f32]) -> Vec<f32> {
        const ROWS: usize = 512;
        let rows = |logits: &[f32]| {
            let mut probs = vec![0f32; self.len()];
            let row = |logits: &[f32]| {
                softmax(logits, &mut probs);
                self.mean(&probs)
            };
            logits.chunks_exact(self.len()).map(row).collect::<Vec<_>>()
        };
        logits.par_chunks(ROWS * self.len()).flat_map_iter(rows).collect()
    }
}

/// Probabilities of `logits`, written to `probs` of the same length.
pub(super) fn softmax(logits: &[f32], probs: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    probs.iter_mut().zip(logits).for_each(|(p, x)| *p = (x - largest).exp());
    let scale = 1.0 / probs.iter().sum::<f32>();
    probs.iter_mut().for_each(|p| *p *= scale);
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_not_edges() {
        assert_eq!(Bins::new(0.0, 32.0, 64).centres()[..2], [0.25, 0.75]);
        assert_eq!(Bins::new(0.0, 1.0, 50).centres()[49], 0.99);
    }

    #[test]
    fn a_sure_bin_is_its_centre() {
        let mut logits = [0.0; 8];
        (logits[1], logits[6]) = (300.0, -300.0);
        let got = Bins::new(0.0, 4.0, 4).expect(&logits);
        assert_eq!(got[0], 1.5);
        assert!((got[1] - (0.5 + 1.5 + 3.5) / 3.0).abs() < 1e-6, "{got:?}");
    }
}
