//! Triangle multiplication and triangle attention.
use candle_core::Tensor;
use fold::ops::{BiasOrder, Edges, Node, TriangleAttention, TriangleMultiplication};
use proptest::prelude::*;

use crate::support::{Numbers, Part, Spread, channels, layout, precision, property, same_change, size, spread};

/// Flat rows have norms of nothing but rounding.
fn some_spread() -> impl Strategy<Value = Spread> + Clone {
    spread().prop_filter("flat", |s| *s != Spread::Flat)
}

/// Channels that are summed over triangles and then normalised: three that happen to be alike leave nothing but rounding.
fn summed() -> impl Strategy<Value = usize> + Clone {
    prop::sample::select(vec![8, 11, 16, 17, 24, 33, 65])
}

#[test]
fn triangle_multiplication() {
    let shape = (1..3usize, size(), channels(), summed());
    let case = (shape, some_spread(), prop::sample::select(vec![0, 30, 90]), layout(), any::<u64>());
    property(24, case, |&((b, n, c_z, c), spread, hidden, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let w = numbers.weights(&[
            ("norm_in", Part::Norm(c_z)),
            ("ab", Part::Linear(c_z, 2 * c)),
            ("ab_gate", Part::Linear(c_z, 2 * c)),
            ("norm_out", Part::Norm(c)),
            ("out", Part::Linear(c, c_z)),
            ("out_gate", Part::Linear(c_z, c_z)),
        ])?;
        let z = numbers.spread(&[b, n, n, c_z], spread)?;
        let mask = lie.of(&numbers.mask(&[b, n, n], hidden)?)?;
        let wide = mask.to_dtype(precision(false))?;
        for edges in [Edges::Outgoing, Edges::Incoming] {
            let layer = TriangleMultiplication::load(c_z, c, edges, &w)?;
            let (change, reference) =
                (|z: &Tensor| layer.add_to(z, &mask), |z: &Tensor| layer.add_to_reference(z, &wide));
            same_change(&z, wide.dtype(), change, reference)?;
        }
        Ok(())
    });
}

#[test]
fn triangle_attention() {
    let shape = (1..3usize, size(), channels(), 1..5usize, prop::sample::select(vec![1, 4, 5, 16, 32]));
    let case = (shape, some_spread(), prop::sample::select(vec![0, 30, 100]), layout(), any::<u64>());
    property(24, case, |&((b, n, c_z, h, d), spread, hidden, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let of_z = Part::Linear(c_z, h * d);
        let w = numbers.weights(&[
            ("norm", Part::Norm(c_z)),
            ("bias", Part::Linear(c_z, h)),
            ("attention.q", of_z),
            ("attention.k", of_z),
            ("attention.v", of_z),
            ("attention.gate", of_z),
            ("attention.out", Part::Linear(h * d, c_z)),
        ])?;
        // In f32 a mean of 1000 leaves a reference too little to compare with, and a hidden row is defined only there.
        let spread = if hidden > 0 && spread == Spread::Far { Spread::Usual } else { spread };
        let z = numbers.spread(&[b, n, n, c_z], spread)?;
        let mask = lie.of(&numbers.mask(&[b, n, n], hidden)?)?;
        let wide = mask.to_dtype(precision(hidden > 0))?;
        let orders = [
            (Node::Starting, BiasOrder::QueryKey),
            (Node::Ending, BiasOrder::QueryKey),
            (Node::Ending, BiasOrder::KeyQuery),
        ];
        for (node, order) in orders {
            let layer = TriangleAttention::load(c_z, d, h, node, order, &w)?;
            let (change, reference) =
                (|z: &Tensor| layer.add_to(z, &mask), |z: &Tensor| layer.add_to_reference(z, &wide));
            same_change(&z, wide.dtype(), change, reference)?;
        }
        Ok(())
    });
}
