//! Kernels for the Apple GPU. A launch is a value, made on every platform; `run` encodes it on macOS, and tests elsewhere
//! give it to a shim that runs the shaders on the CPU (docs/metal.md).
use std::cell::Cell;

use candle_core::{DType, Result, Tensor};

mod elementwise;
mod launch;
mod norm;
#[cfg(target_os = "macos")]
mod run;

pub(super) use elementwise::{Change, Map, change, map};
pub use launch::{Arg, Job, Launch, Output, Shader};
pub(super) use norm::layer_norm;

/// Every shader of the program.
pub const SHADERS: [&Shader; 2] = [&norm::SHADER, &elementwise::SHADER];

/// Runs a job: gives what it makes, or the tensor that it has changed.
pub type Executor = fn(&Job) -> Result<Tensor>;

thread_local! {
    static STAND_IN: Cell<Option<Executor>> = const { Cell::new(None) };
}

/// Calls `f` with `executor` in place of the GPU: on this thread the operations take the way they take on Metal, with
/// tensors on the CPU.
pub fn stand_in<R>(executor: Executor, f: impl FnOnce() -> R) -> R {
    let before = STAND_IN.replace(Some(executor));
    let result = f();
    STAND_IN.set(before);
    result
}

/// Do the kernels of this folder serve this tensor?
pub(super) fn served(x: &Tensor) -> bool {
    let here = STAND_IN.get().is_some() || (cfg!(target_os = "macos") && x.device().is_metal());
    // Indices are 32-bit.
    here && matches!(x.dtype(), DType::F32 | DType::F16) && (1..1 << 32).contains(&x.elem_count())
}

impl Job<'_> {
    /// Runs it: a new tensor, or the tensor that it has changed.
    pub fn run(&self) -> Result<Tensor> {
        match STAND_IN.get() {
            Some(executor) => executor(self),
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
