//! The operations between an MSA representation and a pair representation.
use candle_core::Tensor;
use fold::ops::{OuterProductMean, PairWeightedAverage};
use proptest::prelude::*;

use crate::support::{Numbers, Part, Spread, channels, layout, precision, property, same_change, size, spread};

/// Sequences: none but the query, a few, and more than a product takes at once.
fn sequences() -> impl Strategy<Value = usize> + Clone {
    prop::sample::select(vec![1, 2, 3, 5, 9, 17, 40])
}

#[test]
fn outer_product_mean() {
    let shape = (1..3usize, sequences(), size(), channels(), prop::sample::select(vec![1, 4, 7, 8, 9, 32]), channels());
    let case = (shape, spread(), prop::sample::select(vec![0, 30, 100]), layout(), any::<u64>());
    property(32, case, |&((b, r, n, c_m, c, c_z), spread, hidden, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let w = numbers.weights(&[
            ("norm", Part::Norm(c_m)),
            ("a", Part::Linear(c_m, c)),
            ("b", Part::Linear(c_m, c)),
            ("out", Part::Linear(c * c, c_z)),
        ])?;
        let layer = OuterProductMean::load(c_m, c, c_z, &w)?;
        let (z, m) = (numbers.tensor(&[b, n, n, c_z])?, lie.of(&numbers.spread(&[b, r, n, c_m], spread)?)?);
        let mask = lie.of(&numbers.mask(&[b, r, n], hidden)?)?;
        let (mw, wide) = (m.to_dtype(precision(false))?, mask.to_dtype(precision(false))?);
        let (change, reference) =
            (|z: &Tensor| layer.add_to(z, &m, &mask), |z: &Tensor| layer.add_to_reference(z, &mw, &wide));
        same_change(&z, wide.dtype(), change, reference)
    });
}

#[test]
fn pair_weighted_average() {
    let shape = (1..3usize, sequences(), size(), channels(), channels(), 1..5usize, 1..9usize);
    let case = (shape, spread(), prop::sample::select(vec![0, 30, 100]), layout(), any::<u64>());
    property(32, case, |&((b, r, n, c_m, c_z, h, d), spread, hidden, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let w = numbers.weights(&[
            ("norm_m", Part::Norm(c_m)),
            ("norm_z", Part::Norm(c_z)),
            ("bias", Part::Linear(c_z, h)),
            ("v", Part::Linear(c_m, h * d)),
            ("gate", Part::Linear(c_m, h * d)),
            ("out", Part::Linear(h * d, c_m)),
        ])?;
        let layer = PairWeightedAverage::load(c_m, c_z, d, h, &w)?;
        let spread = if hidden > 0 && spread == Spread::Far { Spread::Usual } else { spread };
        let spread = if spread == Spread::Flat { Spread::Narrow } else { spread };
        let (m, z) = (numbers.spread(&[b, r, n, c_m], spread)?, lie.of(&numbers.tensor(&[b, n, n, c_z])?)?);
        let mask = lie.of(&numbers.mask(&[b, n, n], hidden)?)?;
        let wide = precision(hidden > 0);
        let (zw, maskw) = (z.to_dtype(wide)?, mask.to_dtype(wide)?);
        let (change, reference) =
            (|m: &Tensor| layer.add_to(m, &z, &mask), |m: &Tensor| layer.add_to_reference(m, &zw, &maskw));
        same_change(&m, wide, change, reference)
    });
}
