//! The f32 arithmetic that products reach on this machine: what the speed of every operation is a fraction of.
use std::time::Instant;

use candle_core::{Device, Result, Tensor};

use super::Linear;
use super::cpu::simd::Isa;
use crate::weights::Param;

/// Rows and columns of the products timed, and how often in a round: the smaller stays in the caches and may reach more,
/// the larger is 16 MB an operand.
const SIZES: [(usize, usize); 2] = [(512, 8), (2048, 1)];

/// The most floating-point operations a second (a multiplication and an addition are two) that a square f32 product
/// reaches on the CPU, with the threads that the operations use.
///
/// The best of `rounds` rounds, at least one, of products of two sizes by the `gemm` crate and by [`Linear`] each, into
/// memory that is there already. A round takes about a tenth of a second on two cores; the machine should have nothing
/// else to do. Inside [`with_isa`](super::with_isa), which the crate knows nothing of, only [`Linear`] is timed.
///
/// # Errors
///
/// Those of [`Linear`], which a machine with 100 MB to spare does not meet.
pub fn measured_gemm_peak(rounds: usize) -> Result<f64> {
    let mut peak = 0f64;
    for (size, repeats) in SIZES {
        let seconds = best_seconds(size, 1 + rounds.max(1) * repeats)?;
        peak = peak.max(2. * (size as f64).powi(3) / seconds);
    }
    Ok(peak)
}

/// The shortest time of a product of two `[size, size]` matrices, the first of `rounds` not counted.
fn best_seconds(size: usize, rounds: usize) -> Result<f64> {
    let values =
        |seed: usize| (0..size * size).map(|i| ((i * 31 + seed) % 257) as f32 / 257. - 0.5).collect::<Vec<_>>();
    let (x, w, mut y) = (values(1), values(2), values(3));
    let layer = Linear::new(Param::from_vec(w.clone(), &[size, size])?, None)?;
    let x_tensor = Tensor::from_vec(x.clone(), (size, size), &Device::Cpu)?;
    let y_tensor = Tensor::from_vec(y.clone(), (size, size), &Device::Cpu)?;
    let restricted = Isa::available()[0] != Isa::best();
    let mut best = f64::INFINITY;
    for round in 0..rounds {
        let start = Instant::now();
        layer.add_to(&y_tensor, &x_tensor)?;
        let mut seconds = start.elapsed().as_secs_f64();
        if !restricted {
            let start = Instant::now();
            gemm_product(size, &x, &w, &mut y);
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        if round > 0 {
            best = best.min(seconds); // the first round brings the operands near and wakes threads
        }
    }
    Ok(best)
}

/// `y = x w` by the `gemm` crate, all `[n, n]`.
fn gemm_product(n: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
    assert!([x.len(), w.len(), y.len()] == [n * n; 3]);
    let row = n as isize;
    let threads = gemm::Parallelism::Rayon(rayon::current_num_threads());
    let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
    // SAFETY: the three matrices are as large as the sizes and strides say, and `y` is apart from the others.
    unsafe { gemm::gemm(n, n, n, y, 1, row, false, x, 1, row, w, 1, row, 0., 1., false, false, false, threads) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between a processor of twenty years ago and any yet made.
    #[test]
    fn peak_is_a_speed() -> Result<()> {
        let peak = measured_gemm_peak(1)?;
        assert!((1e9..1e15).contains(&peak), "{peak}");
        Ok(())
    }
}
