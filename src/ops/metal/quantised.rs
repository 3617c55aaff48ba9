//! Products with quantised weights.
use candle_core::{DType, Result, Tensor, bail};

use super::launch::{Builder, Job, Output, Shader};
use crate::weights::{CodeLayout, CodeTensors};

pub(super) const SHADER: Shader = Shader { name: "quantised.metal", source: include_str!("quantised.metal") };
/// Rows of `x` up to which a SIMD group makes one sum.
const FEW: usize = 4;
/// Channels of a threadgroup with few rows.
const ROWS: usize = 8;
/// Rows and channels of a threadgroup with many.
const TILE: usize = 32;

/// `x` `[m, k]`, contiguous -> `x w^T + shift` `[m, n]`; `shift` `[n]` of the type of `x`.
pub fn quantised(x: &Tensor, w: &CodeTensors, shift: Option<&Tensor>) -> Result<Job<'static>> {
    let ((m, k), (n, words)) = (x.dims2()?, w.codes.dims2()?);
    let CodeTensors { layout: CodeLayout { bits, group, .. }, codes, scales, biases } = w;
    let floats = |t: &Tensor| t.dtype() == DType::F32 && t.dims() == [n, k / group] && t.is_contiguous();
    let fits = codes.dtype() == DType::U32 && words * 32 == k * bits && codes.is_contiguous();
    let fits = fits && floats(scales) && floats(biases) && shift.is_none_or(|s| s.dims() == [n] && s.is_contiguous());
    if !fits || !x.is_contiguous() || !k.is_multiple_of(TILE) {
        bail!("a quantised layer of codes {codes:?}, scales {scales:?} on {:?}", x.layout())
    }
    let (kernel, grid, threads) = match m {
        ..=FEW => ("quantised_rows", [n.div_ceil(ROWS), m, 1], 32 * ROWS),
        _ => ("quantised_tiles", [n.div_ceil(TILE), m.div_ceil(TILE), 1], 128),
    };
    let params = [m, n, k, *bits, *group, usize::from(shift.is_some())].map(|v| v as u32);
    Ok(Builder::new(&SHADER, kernel, x, Output::New((m, n).into()))?
        .input(x)?
        .table(codes)?
        .table(scales)?
        .table(biases)?
        .optional(shift)?
        .output()?
        .params(&params)
        .grid(grid, threads))
}
