//! Layer norm and rotary positions of queries or keys.
use candle_core::{DType, Result, Tensor, bail};

use super::launch::{self, Builder, Job, Output, Shader};
use crate::ops::layer_norm::EPS;

pub(super) const SHADER: Shader = Shader { name: "rope.metal", source: include_str!("rope.metal") };
/// Rows of a threadgroup.
const ROWS: usize = 8;

/// `x` `[b, n, c]` of any strides -> its rows normalised by `affine` (scale and shift, `[c]` each), if it is given, then
/// turned by the angles of their positions, contiguous.
///
/// `cos` and `sin` `[n, d / 2]`, f32, `d` the width of a head.
pub fn norm_rotate(
    x: &Tensor,
    affine: Option<&[Option<Tensor>; 2]>,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Job<'static>> {
    let ((b, n, c), (positions, half)) = (x.dims3()?, cos.dims2()?);
    let [scale, shift] = affine.map_or([None, None], |pair| [pair[0].as_ref(), pair[1].as_ref()]);
    let tables = sin.dims() == cos.dims() && cos.dtype() == DType::F32 && sin.dtype() == DType::F32;
    let fits = [scale, shift].into_iter().flatten().all(|t| t.dims() == [c] && t.is_contiguous());
    if positions != n || half == 0 || !c.is_multiple_of(2 * half) || !tables || !fits {
        bail!("rotary positions {cos:?} for {:?}", x.dims())
    }
    let (cos, sin) = (cos.contiguous()?, sin.contiguous()?);
    let shape = x.shape().clone();
    let (x, steps) = launch::rows(x)?;
    let flags = [affine.is_some(), scale.is_some(), shift.is_some()].map(u32::from);
    let sizes = [n as u32, half as u32];
    let params = [&[(b * n) as u32, c as u32], &steps[..], &sizes, &flags, &[(EPS as f32).to_bits()]].concat();
    Ok(Builder::new(&SHADER, "norm_rotate", &x, Output::New(shape))?
        .input(&x)?
        .optional(scale)?
        .optional(shift)?
        .table(&cos)?
        .table(&sin)?
        .output()?
        .params(&params)
        .grid([(b * n).div_ceil(ROWS), 1, 1], 32 * ROWS))
}
