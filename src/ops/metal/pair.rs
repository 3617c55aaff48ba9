//! Between rows of channels and planes, one for each channel: what surrounds the products of the triangle updates.
use candle_core::{Result, Tensor, bail};

use super::launch::{Builder, Job, Output, Shader};
use crate::ops::layer_norm::EPS;

pub(super) const SHADER: Shader = Shader { name: "pair.metal", source: include_str!("pair.metal") };
/// Rows, and channels, of a tile.
const TILE: usize = 32;
const THREADS: usize = 256;
/// The most planes that `planes_norm` takes.
pub const MAX_PLANES: usize = 224;

/// `dst[c][row] = x[row][c] * sigmoid(gate[row][c]) * mask[row]`, the last two where they are given.
///
/// `x` and `gate` `[rows, c]`, `mask` `[rows]`, `dst` a view `[c, rows]` of planes.
pub fn planes<'a>(dst: &'a Tensor, x: &Tensor, gate: Option<&Tensor>, mask: Option<&Tensor>) -> Result<Job<'a>> {
    let (rows, c) = x.dims2()?;
    let fits = gate.is_none_or(|g| g.dims() == x.dims()) && mask.is_none_or(|m| m.dims() == [rows]);
    if dst.dims() != [c, rows] || dst.stride()[1] != 1 || !fits {
        bail!("planes {:?} of {:?}, gate {gate:?}, mask {mask:?}", dst.layout(), x.dims())
    }
    let x = x.contiguous()?;
    let gate = gate.map(Tensor::contiguous).transpose()?;
    let mask = mask.map(Tensor::contiguous).transpose()?;
    let params = [rows, c, c, c, dst.stride()[0]].map(|v| v as u32);
    Ok(Builder::new(&SHADER, "planes", &x, Output::Change(dst))?
        .input(&x)?
        .optional(gate.as_ref())?
        .optional(mask.as_ref())?
        .output()?
        .params(&[&params[..], &[gate.is_some().into(), mask.is_some().into()]].concat())
        .grid([rows.div_ceil(TILE), c.div_ceil(TILE), 1], THREADS))
}

/// The layer norm over the planes of `x`, a view `[c, rows]` -> `[rows, c]`; at most [`MAX_PLANES`].
pub fn planes_norm(x: &Tensor, scale: Option<&Tensor>, shift: Option<&Tensor>) -> Result<Job<'static>> {
    let (c, rows) = x.dims2()?;
    let fits = [scale, shift].into_iter().flatten().all(|t| t.dims() == [c]);
    if x.stride()[1] != 1 || c > MAX_PLANES || !fits {
        bail!("norm over the planes {:?} by {scale:?}, {shift:?}", x.layout())
    }
    let scale = scale.map(Tensor::contiguous).transpose()?;
    let shift = shift.map(Tensor::contiguous).transpose()?;
    let params = [rows as u32, c as u32, x.stride()[0] as u32, scale.is_some().into(), shift.is_some().into()];
    Ok(Builder::new(&SHADER, "planes_norm", x, Output::New((rows, c).into()))?
        .input(x)?
        .optional(scale.as_ref())?
        .optional(shift.as_ref())?
        .output()?
        .params(&[&params[..], &[(EPS as f32).to_bits()]].concat())
        .grid([rows.div_ceil(TILE), 1, 1], THREADS))
}
