//! Affine quantisation as MLX does it (`mlx.core.quantize`, mode "affine", mlx 0.32.4), bit for bit.
//!
//! Neighbours in a row form groups. Of a group with least and largest value `lo` and `hi`, that of the larger magnitude (`edge`) is
//! kept as well as the format allows: `scale` is changed so that `edge` is a whole number of steps from 0, and a code times
//! `scale` plus `bias` stands for a value.
use half::{bf16, f16};

use crate::number::Dtype;

/// Scales are not smaller.
const LEAST_SCALE: f32 = 1e-7;
/// Added and taken off, it rounds a value between 0 and 2^22 to the nearest whole number, ties to even.
const ROUNDER: f32 = 12_582_912.;

/// A quantised matrix, as its three tensors are stored.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Quantised {
    /// Codes packed into little-endian u32, the first in the lowest bits.
    pub codes: Vec<u8>,
    /// One for each group, in the source's number format.
    pub scales: Vec<u8>,
    /// One for each group, in the source's number format.
    pub biases: Vec<u8>,
}

/// Quantises little-endian numbers of format `dtype` (F32, F16 or BF16) to codes of `bits` (4 or 8) in groups of `group`.
pub(crate) fn quantise(bytes: &[u8], dtype: Dtype, bits: usize, group: usize) -> Quantised {
    let mut quantised = Quantised::default();
    let mut values = vec![0.; group];
    for bytes in bytes.chunks_exact(group * dtype.size()) {
        read(bytes, dtype, &mut values);
        let (scale, bias) = affine(&values, bits);
        pack(&mut values, bits, scale, bias, &mut quantised.codes);
        write(scale, dtype, &mut quantised.scales);
        write(bias, dtype, &mut quantised.biases);
    }
    quantised
}

/// Scale and bias of a group, before they are rounded to the source's number format.
fn affine(values: &[f32], bits: usize) -> (f32, f32) {
    let (lo, hi) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    let step = ((hi - lo) / most(bits)).max(LEAST_SCALE);
    let (edge, step) = if lo.abs() > hi.abs() { (lo, step) } else { (hi, -step) };
    let steps = (edge / step).round_ties_even();
    if steps == 0. { (step, 0.) } else { (edge / steps, edge) }
}

/// The largest code.
fn most(bits: usize) -> f32 {
    ((1 << bits) - 1) as f32
}

/// Appends the codes of `values`, which are used up.
fn pack(values: &mut [f32], bits: usize, scale: f32, bias: f32, codes: &mut Vec<u8>) {
    let most = most(bits);
    for v in values.iter_mut() {
        *v = ((*v - bias) / scale).clamp(0., most) + ROUNDER - ROUNDER;
    }
    match bits {
        4 => codes.extend(values.as_chunks().0.iter().map(|[a, b]| *a as u8 | (*b as u8) << 4)),
        _ => codes.extend(values.iter().map(|v| *v as u8)),
    }
}

fn read(bytes: &[u8], dtype: Dtype, values: &mut [f32]) {
    match dtype {
        Dtype::F16 => each(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
        _ => each(bytes, values, f32::from_le_bytes),
    }
}

fn each<const N: usize>(bytes: &[u8], values: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    values.iter_mut().zip(bytes.as_chunks().0).for_each(|(v, b)| *v = number(*b));
}

fn write(value: f32, dtype: Dtype, out: &mut Vec<u8>) {
    match dtype {
        Dtype::F16 => out.extend(f16::from_f32(value).to_le_bytes()),
        Dtype::BF16 => out.extend(bf16::from_f32(value).to_le_bytes()),
        _ => out.extend(value.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::*;

    /// fixtures/esm3/quantise.py: codes, scales and biases of mlx.core.quantize, byte for byte.
    #[test]
    fn as_mlx_does_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/esm3/quantise.safetensors");
        let file = std::fs::read(path).unwrap();
        let golden = SafeTensors::deserialize(&file).unwrap();
        let mut n_case = 0;
        for name in golden.names().into_iter().filter_map(|name| name.strip_suffix("/weight")) {
            let parts: Vec<&str> = name.split('/').collect();
            let (bits, group): (usize, usize) = (parts[2].parse().unwrap(), parts[3].parse().unwrap());
            let dtype = Dtype::from_name(&parts[1].to_uppercase()).unwrap();
            let w = golden.tensor(&format!("{}/{}/w", parts[0], parts[1])).unwrap();
            let got = quantise(w.data(), dtype, bits, group);
            let want = |part: &str| golden.tensor(&format!("{name}/{part}")).unwrap().data().to_vec();
            assert!(got.codes == want("weight"), "codes of {name}");
            assert!(got.scales == want("scales"), "scales of {name}");
            assert!(got.biases == want("biases"), "biases of {name}");
            n_case += 1;
        }
        assert_eq!(n_case, 3 * 2 * (3 + 3 + 2));
    }
}
