//! Encodes a job: the only file that touches Metal. Type-checked for the Apple target; not run by us.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::metal_backend::DeviceId;
use candle_core::op::BackpropOp;
use candle_core::{Error, MetalDevice, MetalStorage, Result, Storage, Tensor, bail};
use candle_metal_kernels::metal::{Buffer, ComputeCommandEncoder, ComputePipeline, Library};
use objc2_metal::{MTLCompileOptions, MTLMathFloatingPointFunctions, MTLMathMode, MTLSize};

use super::launch::{Arg, Job, Launch, Output};

/// Shaders and kernels that are compiled already. As many as the program has: nothing in a name depends on the input.
#[derive(Default)]
struct Cache {
    libraries: HashMap<(DeviceId, &'static str), Library>,
    pipelines: HashMap<(DeviceId, String), ComputePipeline>,
}

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

fn fault(e: impl std::fmt::Display) -> Error {
    Error::Msg(format!("Metal: {e}"))
}

/// Compiles a shader once for a device, and each of its kernels once.
fn pipeline(device: &MetalDevice, launch: &Launch) -> Result<ComputePipeline> {
    let mut guard = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = guard.get_or_insert_default();
    let key = (device.id(), launch.kernel.clone());
    if let Some(pipeline) = cache.pipelines.get(&key) {
        return Ok(pipeline.clone());
    }
    let library = match cache.libraries.entry((device.id(), launch.shader.name)) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let source = launch.shader.source;
            let library = device.metal_device().new_library_with_source(source, Some(&options())).map_err(fault)?;
            entry.insert(library)
        }
    };
    let function = library.get_function(&launch.kernel, None).map_err(fault)?;
    let pipeline = device.metal_device().new_compute_pipeline_state_with_function(&function).map_err(fault)?;
    cache.pipelines.insert(key, pipeline.clone());
    Ok(pipeline)
}

/// No fast math, which candle's own kernels have: sums are made in the order in which they are written (as in the tests
/// of the shaders), infinities and NaN behave, `exp` and `sqrt` are precise.
fn options() -> objc2::rc::Retained<MTLCompileOptions> {
    let options = MTLCompileOptions::new();
    if objc2::available!(macos = 15) {
        options.setMathMode(MTLMathMode::Safe);
        options.setMathFloatingPointFunctions(MTLMathFloatingPointFunctions::Precise);
    } else {
        #[allow(deprecated, reason = "what macOS before 15 has")]
        options.setFastMathEnabled(false);
    }
    options
}

/// Encodes the job; it runs when candle commits its command buffer.
pub fn run(job: &Job) -> Result<Tensor> {
    let launch = &job.launch;
    // A tensor changed in place is locked for reading only: what changes is GPU memory, ordered by candle's barriers.
    let guards: Vec<_> = job.inputs.iter().map(|x| x.storage_and_layout().0).collect();
    let inputs = guards.iter().map(|storage| metal(storage)).collect::<Result<Vec<_>>>()?;
    let target = match &job.output {
        Output::Change(dst) => Some(dst.storage_and_layout().0),
        Output::New(_) => None,
    };
    let device = match (&target, inputs.first()) {
        (Some(storage), _) => metal(storage)?.device().clone(),
        (None, Some(storage)) => storage.device().clone(),
        (None, None) => bail!("{}: no tensors", launch.kernel),
    };
    let pipeline = pipeline(&device, launch)?;
    let (threads, most) = (launch.threads.iter().product::<usize>(), pipeline.max_total_threads_per_threadgroup());
    if threads > most {
        bail!("{}: {threads} threads in a threadgroup, this GPU allows {most}", launch.kernel)
    }
    let count = match &job.output {
        Output::New(shape) => shape.elem_count(),
        Output::Change(_) => 0,
    };
    // Before the encoder, which holds the lock that a new buffer needs.
    let made = match &job.output {
        Output::New(_) => Some(device.new_buffer_builder().with_size_for(count, job.dtype).build()?),
        Output::Change(_) => None,
    };
    let out: &Buffer = match (&made, &target) {
        (Some(buffer), _) => buffer,
        (None, Some(storage)) => metal(storage)?.buffer(),
        (None, None) => bail!("{}: no output", launch.kernel),
    };
    {
        let commands = device.command_encoder()?;
        let encoder: &ComputeCommandEncoder = commands.as_ref();
        encoder.set_compute_pipeline_state(&pipeline);
        for (i, arg) in launch.args.iter().enumerate() {
            match arg {
                Arg::In { input, offset } => encoder.set_input_buffer(i, Some(inputs[*input].buffer()), *offset),
                Arg::Out { offset } => encoder.set_output_buffer(i, Some(out), *offset),
                Arg::Bytes(bytes) => encoder.set_bytes_directly(i, bytes.len(), bytes.as_ptr().cast()),
            }
        }
        let size = |v: [usize; 3]| MTLSize { width: v[0], height: v[1], depth: v[2] };
        encoder.dispatch_thread_groups(size(launch.groups), size(launch.threads));
    }
    match (&job.output, made) {
        (Output::New(shape), Some(buffer)) => {
            let storage = Storage::Metal(MetalStorage::new(buffer, device, count, job.dtype));
            Ok(Tensor::from_storage(storage, shape.clone(), BackpropOp::none(), false))
        }
        (Output::Change(dst), _) => Ok((*dst).clone()),
        (Output::New(_), None) => bail!("{}: no output", launch.kernel),
    }
}

fn metal(storage: &Storage) -> Result<&MetalStorage> {
    match storage {
        Storage::Metal(storage) => Ok(storage),
        _ => Err(fault("a tensor is not on the GPU")),
    }
}
