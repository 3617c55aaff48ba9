//! Operations on values and on rows: activations, gates, sums, norms, dense layers, transitions.
use candle_core::{D, Tensor};
use fold::ops::{
    AdaNorm, ConditionedTransition, Linear, Norm, ReluTransition, SwiGluTransition, add_in_place,
    add_in_place_reference, add_sigmoid_gate, add_sigmoid_gate_reference, gate_add, gate_add_reference, norm_linear,
    norm_linear_in_place, norm_linear_reference, relu, sigmoid, sigmoid_gate, sigmoid_gate_reference, silu_gate,
    silu_gate_reference, softmax, softmax_reference,
};
use proptest::prelude::*;

use crate::support::{Numbers, Part, Spread, channels, close, layout, precision, property, same_change, size, spread};

/// From what a sigmoid tells apart to what an exponential cannot hold.
fn scale() -> impl Strategy<Value = f64> + Clone {
    prop::sample::select(vec![1., 30., 1e4, 1e9])
}

#[test]
fn activations_and_gates() {
    let case = (size(), channels(), scale(), layout(), layout(), any::<u64>());
    property(48, case, |&(n, c, scale, lie_x, lie_g, seed)| {
        let mut numbers = Numbers::new(seed);
        let (x, g) = ((numbers.tensor(&[2, n, c])? * scale)?, (numbers.tensor(&[2, n, c])? * scale)?);
        let (x, g) = (lie_x.of(&x)?, lie_g.of(&g)?);
        let wide = |x: &Tensor| x.to_dtype(candle_core::DType::F64);
        let (xw, gw) = (wide(&x)?, wide(&g)?);
        close(&relu(&x)?, &xw.relu()?)?;
        close(&sigmoid(&x)?, &candle_nn::ops::sigmoid(&xw)?)?;
        close(&sigmoid_gate(&x, &g)?, &sigmoid_gate_reference(&xw, &gw)?)?;
        close(&silu_gate(&x, &g)?, &silu_gate_reference(&xw, &gw)?)?;
        close(&softmax(&x)?, &softmax_reference(&xw)?)
    });
}

#[test]
fn softmax_of_hidden_rows() {
    property(24, (size(), channels(), layout(), any::<u64>()), |&(n, c, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let hidden = (numbers.mask(&[n, c], 60)? - 1.)?;
        let x = lie.of(&(numbers.tensor(&[n, c])? + (hidden * 1e9)?)?)?;
        close(&softmax(&x)?, &softmax_reference(&x)?)
    });
}

#[test]
fn sums_in_place() {
    let case = (size(), size(), channels(), 0..4usize, scale(), layout(), any::<u64>());
    property(48, case, |&(b, n, c, repeated, scale, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let x = numbers.tensor(&[b, n, c])?;
        let part = [vec![b, n, c], vec![1, n, c], vec![n, c], vec![c]][repeated].clone();
        let (y, whole) = (lie.of(&(numbers.tensor(&part)? * scale)?)?, lie.of(&numbers.tensor(&[b, n, c])?)?);
        let wide = precision(false);
        let (yw, wholew) = (y.to_dtype(wide)?, whole.to_dtype(wide)?);
        same_change(&x, wide, |x| add_in_place(x, &y), |x| add_in_place_reference(x, &yw))?;
        same_change(&x, wide, |x| gate_add(x, &y, &whole), |x| gate_add_reference(x, &yw, &wholew))?;
        let (change, reference) =
            (|x: &Tensor| add_sigmoid_gate(x, &whole, &y), |x: &Tensor| add_sigmoid_gate_reference(x, &wholew, &yw));
        same_change(&x, wide, change, reference)?;
        same_change(&x, wide, |x| add_in_place(x, x), |x| add_in_place_reference(x, &x.copy()?))
    });
}

#[test]
fn norms() {
    property(64, (size(), size(), channels(), spread(), layout(), any::<u64>()), |&(b, n, c, spread, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let w = numbers.weights(&[("full", Part::Norm(c)), ("scale", Part::Scale(c))])?;
        let x = numbers.spread(&[b, n, c], spread)?;
        for norm in [Norm::load(c, &w.at("full"))?, Norm::load(c, &w.at("scale"))?, Norm::plain(c)] {
            let want = norm.forward_reference(&x.to_dtype(precision(false))?)?;
            close_norm(&norm.forward(&lie.of(&x)?)?, &want)?;
            let changed = x.copy()?;
            norm.in_place(&changed)?;
            close_norm(&changed, &want)?;
        }
        Ok(())
    });
}

/// [`close`], but for flat rows, whose norm is exactly zero before the offset: there at most 1e-5.
fn close_norm(got: &Tensor, want: &Tensor) -> candle_core::Result<()> {
    let one = |x: &Tensor| Tensor::cat(&[&x.flatten_all()?, &Tensor::ones(1, x.dtype(), x.device())?], 0);
    close(&one(got)?, &one(want)?)
}

#[test]
fn dense_layers() {
    let case = (size(), size(), channels(), channels(), spread(), layout(), any::<u64>());
    property(64, case, |&(b, n, k, c, spread, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let parts = [("in", Part::Linear(k, c)), ("norm", Part::Norm(k)), ("square", Part::Linear(k, k))];
        let w = numbers.weights(&parts)?;
        let (layer, square) = (Linear::load(k, c, &w.at("in"))?, Linear::load(k, k, &w.at("square"))?);
        let norm = Norm::load(k, &w.at("norm"))?;
        let x = lie.of(&numbers.spread(&[b, n, k], spread)?)?;
        let (wide, dst) = (precision(false), numbers.tensor(&[b, n, c])?);
        let xw = x.to_dtype(wide)?;
        close(&layer.forward(&x)?, &layer.forward_reference(&xw)?)?;
        let reference = |dst: &Tensor| add_in_place_reference(dst, &layer.forward_reference(&xw)?);
        same_change(&dst, wide, |dst| layer.add_to(dst, &x), reference)?;
        close_norm(&norm_linear(&x, &norm, &layer)?, &norm_linear_reference(&xw, &norm, &layer)?)?;
        let changed = x.force_contiguous()?;
        norm_linear_in_place(&changed, &norm, &square)?;
        close_norm(&changed, &norm_linear_reference(&xw, &norm, &square)?)
    });
}

/// More rows than are packed at once, few rows of a large weight, and one row.
#[test]
fn dense_layers_of_large_sizes() {
    for (m, k, n) in [(4099, 65, 33), (37, 769, 401), (1, 1537, 257)] {
        property(1, any::<u64>(), |&seed| {
            let mut numbers = Numbers::new(seed);
            let layer = Linear::load(k, n, &numbers.weights(&[("l", Part::Linear(k, n))])?.at("l"))?;
            let x = numbers.tensor(&[m, k])?;
            close(&layer.forward(&x)?, &layer.forward_reference(&x.to_dtype(precision(false))?)?)
        });
    }
}

#[test]
fn transitions() {
    let case = (size(), size(), channels(), channels(), spread(), 0..3usize, any::<u64>());
    property(40, case, |&(b, n, c, hidden, spread, masked, seed)| {
        let mut numbers = Numbers::new(seed);
        let (up, down) = (Part::Linear(c, hidden), Part::Linear(hidden, c));
        let w = numbers.weights(&[("norm", Part::Norm(c)), ("a", up), ("b", up), ("out", down)])?;
        let (swiglu, relu) = (SwiGluTransition::load(c, hidden, &w)?, ReluTransition::load(c, hidden, &w)?);
        let x = numbers.spread(&[b, n, c], spread)?;
        let mask = [None, Some(numbers.mask(&[b, n], 30)?), Some(numbers.mask(&[b, n], 100)?)][masked].clone();
        let wide = precision(false);
        let mask_wide = mask.as_ref().map(|m| m.to_dtype(wide)).transpose()?;
        let (mask, mask_wide) = (mask.as_ref(), mask_wide.as_ref());
        same_change(&x, wide, |x| swiglu.add_to(x, mask), |x| swiglu.add_to_reference(x, mask_wide))?;
        same_change(&x, wide, |x| relu.add_to(x, mask), |x| relu.add_to_reference(x, mask_wide))
    });
}

/// Few rows of large weights: what is packed at once.
#[test]
fn transitions_of_large_sizes() {
    property(2, (size(), any::<u64>()), |&(n, seed)| {
        let (c, hidden) = (129, 1031);
        let mut numbers = Numbers::new(seed);
        let (up, down) = (Part::Linear(c, hidden), Part::Linear(hidden, c));
        let w = numbers.weights(&[("norm", Part::Norm(c)), ("a", up), ("b", up), ("out", down)])?;
        let (swiglu, relu) = (SwiGluTransition::load(c, hidden, &w)?, ReluTransition::load(c, hidden, &w)?);
        let (x, wide) = (numbers.tensor(&[1, n, c])?, precision(false));
        same_change(&x, wide, |x| swiglu.add_to(x, None), |x| swiglu.add_to_reference(x, None))?;
        same_change(&x, wide, |x| relu.add_to(x, None), |x| relu.add_to_reference(x, None))
    });
}

#[test]
fn conditioned_layers() {
    let case = (1..4usize, any::<bool>(), size(), channels(), channels(), spread(), layout(), any::<u64>());
    property(40, case, |&(b, shared, n, c, c_s, spread, lie, seed)| {
        let mut numbers = Numbers::new(seed);
        let (hidden, of_s) = (2 * c, Part::Linear(c_s, c));
        let w = numbers.weights(&[
            ("ada_norm.norm_s", Part::Scale(c_s)),
            ("ada_norm.gain", of_s),
            ("ada_norm.shift", of_s),
            ("a", Part::Linear(c, hidden)),
            ("b", Part::Linear(c, hidden)),
            ("gate", of_s),
            ("out", Part::Linear(hidden, c)),
        ])?;
        let norm = AdaNorm::load(c, c_s, &w.at("ada_norm"))?;
        let layer = ConditionedTransition::load(c, c_s, hidden, &w)?;
        let a = numbers.spread(&[b, n, c], spread)?;
        let s = lie.of(&numbers.tensor(&[if shared { 1 } else { b }, n, c_s])?)?;
        let wide = precision(false);
        let (aw, sw) = (a.to_dtype(wide)?, s.to_dtype(wide)?);
        close_norm(&norm.forward(&lie.of(&a)?, &s)?, &norm.apply_reference(&aw, &norm.condition_reference(&sw)?)?)?;
        let reference = |a: &Tensor| layer.add_with_reference(a, &layer.condition_reference(&sw)?);
        same_change(&a, wide, |a| layer.add_to(a, &s), reference)
    });
}

/// The rows of a softmax sum to one, whatever is in them.
#[test]
fn softmax_sums_to_one() {
    property(24, (size(), channels(), scale(), any::<u64>()), |&(n, c, scale, seed)| {
        let x = (Numbers::new(seed).tensor(&[n, c])? * scale)?;
        let sums = softmax(&x)?.sum(D::Minus1)?;
        close(&sums, &sums.ones_like()?)
    });
}

/// A flat row stays flat: its norm is its offset.
#[test]
fn norm_of_a_flat_row() {
    property(24, (channels(), prop::sample::select(vec![1e-3, 0.3, 1e3, 1e6]), any::<u64>()), |&(c, value, seed)| {
        let mut numbers = Numbers::new(seed);
        let x = (numbers.spread(&[3, c], Spread::Flat)? * value)?;
        close_norm(&Norm::plain(c).forward(&x)?, &x.zeros_like()?)
    });
}
