//! Layer norm and adaptive layer norm.
use candle_core::{D, Result, Tensor, bail};

use super::launch::{self, Builder, Job, Output, Shader};
use crate::ops::layer_norm::EPS;

pub(super) const SHADER: Shader = Shader { name: "norm.metal", source: include_str!("norm.metal") };
/// Rows of a threadgroup.
const ROWS: usize = 8;

/// `x` `[.., c]`, of up to four dimensions and any strides -> the norm of each row, contiguous.
///
/// `scale` and `shift`, each `[.., c]` and of one size, repeat over the rows.
pub fn layer_norm(x: &Tensor, scale: Option<&Tensor>, shift: Option<&Tensor>) -> Result<Job<'static>> {
    let (c, shape) = (x.dim(D::Minus1)?, x.shape().clone());
    let rows = x.elem_count() / c.max(1);
    let contiguous = |t: Option<&Tensor>| t.map(Tensor::contiguous).transpose();
    let (scale, shift) = (contiguous(scale)?, contiguous(shift)?);
    let period = scale.as_ref().or(shift.as_ref()).map_or(1, |t| t.elem_count() / c);
    if [&scale, &shift].into_iter().flatten().any(|t| t.elem_count() != period * c) || !rows.is_multiple_of(period) {
        bail!("norm of {:?} by {:?} and {:?}", x.dims(), scale, shift)
    }
    let (x, steps) = launch::rows(x)?;
    let flags = [period as u32, scale.is_some().into(), shift.is_some().into(), (EPS as f32).to_bits()];
    let params = [&[rows as u32, c as u32], &steps[..], &flags].concat();
    Ok(Builder::new(&SHADER, "layer_norm", &x, Output::New(shape))?
        .input(&x)?
        .optional(scale.as_ref())?
        .optional(shift.as_ref())?
        .output()?
        .params(&params)
        .grid([rows.div_ceil(ROWS), 1, 1], 32 * ROWS))
}
