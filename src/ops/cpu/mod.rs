//! Kernels for the CPU: leaf computations on slices, vectorised, and the fused operations made of them.
use rayon::prelude::*;

pub(crate) mod attention;
pub(crate) mod columns;
pub(crate) mod dense;
pub(crate) mod layer;
pub(crate) mod msa;
pub(crate) mod pair;
pub(crate) mod pointwise;
pub(crate) mod product;
pub(crate) mod relu;
pub(crate) mod rope;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod tensors;
pub(crate) mod unpack;

/// Added to the variance in a layer norm.
const EPS: f32 = super::layer_norm::EPS as f32;

/// Values that a task of an elementwise operation takes.
pub(crate) const BAND: usize = 1 << 14;

/// Calls `task` with the number and the values of each stretch of `band` values, in parallel if there are many.
pub(crate) fn by_bands(values: &mut [f32], band: usize, task: impl Fn(usize, &mut [f32]) + Send + Sync) {
    if values.len() > 2 * BAND {
        values.par_chunks_mut(band).enumerate().for_each(|(i, values)| task(i, values));
    } else {
        values.chunks_mut(band).enumerate().for_each(|(i, values)| task(i, values));
    }
}
