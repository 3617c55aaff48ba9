//! Kernels for the Apple GPU. A launch is a value, made on every platform; `run` encodes it on macOS, and tests elsewhere
//! give it to a shim that runs the shaders on the CPU (docs/metal.md).
use std::cell::Cell;

use candle_core::{DType, Result, Tensor};

mod attention;
mod elementwise;
mod launch;
mod norm;
mod pair;
mod quantised;
mod rope;
#[cfg(target_os = "macos")]
mod run;
mod softmax;

pub(super) use attention::Attention;
pub(super) use elementwise::{Change, Map, change, map};
pub use launch::{Arg, Job, Launch, Output, Shader};
pub(super) use norm::layer_norm;
pub use pair::{MAX_PLANES, planes, planes_norm};
pub(super) use quantised::quantised;
pub(super) use rope::norm_rotate;
pub(super) use softmax::softmax;

/// Every shader of the program.
pub const SHADERS: [&Shader; 7] = [
    &norm::SHADER,
    &softmax::SHADER,
    &elementwise::SHADER,
    &attention::SHADER,
    &pair::SHADER,
    &rope::SHADER,
    &quantised::SHADER,
];

/// What takes the place of the GPU.
#[derive(Debug, Clone, Copy)]
pub struct StandIn {
    /// Runs a job: gives what it makes, or the tensor that it has changed.
    pub run: fn(&Job) -> Result<Tensor>,
    /// Stands for the wait of [`settle`].
    pub settle: fn(),
    /// Bytes of a block of rows, [`BLOCK`] on the GPU: fewer, so that small tensors have several.
    pub block: usize,
}

thread_local! {
    static STAND_IN: Cell<Option<StandIn>> = const { Cell::new(None) };
}

/// Calls `f` with another in place of the GPU: on this thread the operations take the way they take on Metal, with tensors
/// on the CPU.
pub fn stand_in<R>(other: StandIn, f: impl FnOnce() -> R) -> R {
    let before = STAND_IN.replace(Some(other));
    let result = f();
    STAND_IN.set(before);
    result
}

/// Do the kernels of this folder serve this tensor?
pub(super) fn served(x: &Tensor) -> bool {
    let here = STAND_IN.get().is_some() || (cfg!(target_os = "macos") && x.device().is_metal());
    // Indices are 32-bit.
    here && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16) && (1..1 << 32).contains(&x.elem_count())
}

/// Bytes that a block of rows of a layer may take for what it makes on the way.
pub const BLOCK: usize = 32 << 20;

/// How many of `n` rows keep intermediate values, `values` of f32 a row, to a bounded size; at least one.
pub(super) fn rows(n: usize, values: usize) -> usize {
    let block = STAND_IN.get().map_or(BLOCK, |other| other.block);
    (block / 4 / values.max(1)).clamp(1, n.max(1))
}

/// The ranges of `n` rows whose intermediate values, `values` of f32 a row, keep to a bounded size.
pub(super) fn blocks(n: usize, values: usize) -> impl Iterator<Item = (usize, usize)> {
    ranges(n, rows(n, values))
}

/// `0..n` in ranges of `len` and a rest: first, length.
pub(super) fn ranges(n: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(len.max(1)).map(move |start| (start, len.min(n - start)))
}

/// Bytes of the buffer that candle's Metal backend makes for `bytes`: the next power of two (candle 0.11.1,
/// `metal_backend/device.rs`, `buf_size`). Only what is uploaded from the host, as weights are, is as large as it is.
pub fn buffer_bytes(bytes: u64) -> u64 {
    bytes.next_power_of_two()
}

/// Waits for the GPU, after which candle's pool gives the buffers that nobody holds back to the system; nothing elsewhere.
///
/// Launches run later than they are encoded, and the pool only grows until then: called between blocks of a network it
/// bounds the memory of the run (docs/metal.md).
pub fn settle(x: &Tensor) -> Result<()> {
    if let Some(other) = STAND_IN.get() {
        (other.settle)();
    }
    if x.device().is_metal() { x.device().synchronize() } else { Ok(()) }
}

impl Job<'_> {
    /// Runs it: a new tensor, or the tensor that it has changed.
    pub fn run(&self) -> Result<Tensor> {
        match STAND_IN.get() {
            Some(other) => (other.run)(self),
            None => on_gpu(self),
        }
    }
}

#[cfg(target_os = "macos")]
fn on_gpu(job: &Job) -> Result<Tensor> {
    run::run(job)
}

#[cfg(not(target_os = "macos"))]
fn on_gpu(job: &Job) -> Result<Tensor> {
    candle_core::bail!("{}: Metal is on macOS only", job.launch.kernel)
}
