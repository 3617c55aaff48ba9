//! Softmax over the last dimension.
use candle_core::{D, Result, Tensor};

use super::launch::{Builder, Job, Output, Shader, rows};

pub(super) const SHADER: Shader = Shader { name: "softmax.metal", source: include_str!("softmax.metal") };
/// Rows of a threadgroup.
const ROWS: usize = 8;

/// `x` `[.., c]`, of up to four dimensions and any strides -> the softmax of each row, contiguous.
pub fn softmax(x: &Tensor) -> Result<Job<'static>> {
    let (c, shape) = (x.dim(D::Minus1)?, x.shape().clone());
    let n = x.elem_count() / c.max(1);
    let (x, steps) = rows(x)?;
    let params = [&[n as u32, c as u32], &steps[..]].concat();
    Ok(Builder::new(&SHADER, "softmax", &x, Output::New(shape))?
        .input(&x)?
        .output()?
        .params(&params)
        .grid([n.div_ceil(ROWS), 1, 1], 32 * ROWS))
}
