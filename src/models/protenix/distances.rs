//! Distances as `torch.cdist` computes them on the CPU in float32.
//!
//! Above 25 points it expands |a - b|^2 into |a|^2 + |b|^2 - 2ab, one product of matrices of five columns, whose rounding
//! shows: the distance of a point to itself is not 0 but some hundredths of an Å. The model has been trained with, and is run
//! on, such distances, so they are part of what it computes.

/// Points beyond which the distances are expanded.
const DIRECT: usize = 25;

/// Distances between points.
#[derive(Debug)]
pub(super) struct Distances<'a> {
    x: &'a [[f32; 3]],
    /// Squared lengths.
    squares: Vec<f32>,
}

impl<'a> Distances<'a> {
    /// Between the points `x`, in Å.
    pub fn new(x: &'a [[f32; 3]]) -> Self {
        Self { x, squares: x.iter().map(|p| p[0] * p[0] + p[1] * p[1] + p[2] * p[2]).collect() }
    }

    /// From point `i` to point `j`, in Å.
    pub fn between(&self, i: usize, j: usize) -> f32 {
        let (a, b) = (self.x[i], self.x[j]);
        if self.x.len() <= DIRECT {
            return (0..3).map(|k| (a[k] - b[k]) * (a[k] - b[k])).sum::<f32>().sqrt();
        }
        // The order and the fused products of a matrix product over the columns (-2a, |a|^2, 1) and (b, 1, |b|^2).
        let product = (-2.0 * a[0]) * b[0];
        let product = (-2.0 * a[1]).mul_add(b[1], product);
        let product = (-2.0 * a[2]).mul_add(b[2], product);
        let square = product + self.squares[i] + self.squares[j];
        square.max(0.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_are_exact_and_many_nearly() {
        let points = |n: usize| (0..n).map(|i| [3.8 * i as f32, 20.1, -7.7]).collect::<Vec<_>>();
        let few = points(25);
        assert_eq!(Distances::new(&few).between(7, 7), 0.0);
        let many = points(26);
        let distances = Distances::new(&many);
        assert!(distances.between(20, 20) < 0.05);
        assert!((distances.between(3, 20) - 3.8 * 17.0).abs() < 1e-3);
    }
}
