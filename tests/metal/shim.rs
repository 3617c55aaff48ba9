//! Runs the jobs of the Metal operations on the CPU: each shader compiled by `mslcpu`, once with and once without sanitizers.
use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use fold::ops::metal::{Arg, BLOCK, Job, Output, Shader, StandIn, stand_in};
use half::{bf16, f16};
use mslcpu::{Build, Order, Program, ready};

/// Where the programs are.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Says so and gives `false` where the shaders cannot be compiled and run.
pub fn present() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    let ready = *READY.get_or_init(|| ready(folder()));
    if !ready {
        println!("skipped: needs Linux on x86-64 and clang++ 17 or newer with its sanitizers");
    }
    ready
}

thread_local! {
    static SETTINGS: Cell<(Build, Order)> = const { Cell::new((Build::Plain, Order::Forward)) };
}

/// Calls `f` with the shim in place of the GPU.
pub fn with<R>(build: Build, order: Order, f: impl FnOnce() -> R) -> R {
    set(build, order);
    stand_in(of(execute, BLOCK), f)
}

/// As `with`, in blocks of so few bytes that every layer has several.
pub fn in_small_blocks<R>(f: impl FnOnce() -> R) -> R {
    set(Build::Plain, Order::Forward);
    stand_in(of(execute, 1 << 12), f)
}

/// The shim, by way of `run`.
pub fn of(run: fn(&Job) -> Result<Tensor>, block: usize) -> StandIn {
    StandIn { run, settle: || {}, block }
}

/// How `execute` builds and runs from now on, on this thread.
pub fn set(build: Build, order: Order) {
    SETTINGS.set((build, order));
}

/// `f` in each order of threads, all of which must give the same bits, and once sanitized.
pub fn in_every_order(what: &str, f: impl Fn() -> Result<Tensor>) -> Result<Tensor> {
    let first = with(Build::Plain, Order::Forward, &f)?;
    for order in &Order::FOUR[1..] {
        if bits(&with(Build::Plain, *order, &f)?)? != bits(&first)? {
            bail!("{what}: another result in order {order:?}")
        }
    }
    with(Build::Sanitized, Order::Forward, &f).map_err(|e| e.context(format!("{what}, sanitized")))?;
    Ok(first)
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.iter().map(|v| v.to_bits()).collect())
}

/// The compiled shader.
fn program(shader: &Shader, build: Build) -> Result<Program> {
    static PROGRAMS: Mutex<Option<HashMap<(&'static str, Build), Program>>> = Mutex::new(None);
    let mut programs = PROGRAMS.lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
    let programs = programs.get_or_insert_default();
    if let Some(program) = programs.get(&(shader.name, build)) {
        return Ok(program.clone());
    }
    let stem = shader.name.trim_end_matches(".metal");
    let program = Program::build(folder(), stem, shader.source, build).map_err(candle_core::Error::wrap)?;
    programs.insert((shader.name, build), program.clone());
    Ok(program)
}

/// What Metal's compiler would object to.
pub fn strict(shader: &Shader) -> Result<Vec<String>> {
    let stem = shader.name.trim_end_matches(".metal");
    Program::strict(folder(), stem, shader.source).map_err(candle_core::Error::wrap)
}

/// Runs a job on the CPU.
pub fn execute(job: &Job) -> Result<Tensor> {
    let (build, order) = SETTINGS.get();
    let launch = &job.launch;
    let program = program(launch.shader, build)?;
    let args = launch.args.iter().map(|arg| {
        Ok(match (arg, &job.output) {
            (Arg::In { input, offset }, _) => mslcpu::Arg::In(contents(&job.inputs[*input])?, *offset),
            // Ones throughout: a NaN where the kernel writes nothing.
            (Arg::Out { offset }, Output::New(shape)) => {
                mslcpu::Arg::InOut(vec![0xff; shape.elem_count() * job.dtype.size_in_bytes()], *offset)
            }
            (Arg::Out { offset }, Output::Change(dst)) => mslcpu::Arg::InOut(contents(dst)?, *offset),
            (Arg::Bytes(bytes), _) => mslcpu::Arg::In(bytes.clone(), 0),
        })
    });
    let args = args.collect::<Result<Vec<_>>>()?;
    let numbers = |v: [usize; 3]| v.map(|n| n as u32);
    let mut written = program
        .run(&launch.kernel, numbers(launch.groups), numbers(launch.threads), &args, order)
        .map_err(candle_core::Error::wrap)?;
    let Some(bytes) = written.pop() else { bail!("{}: nothing written", launch.kernel) };
    match &job.output {
        Output::New(shape) => match job.dtype {
            DType::F16 => Tensor::from_vec(halves(&bytes), shape.clone(), &Device::Cpu),
            DType::BF16 => Tensor::from_vec(bfloats(&bytes), shape.clone(), &Device::Cpu),
            _ => Tensor::from_vec(floats(&bytes), shape.clone(), &Device::Cpu),
        },
        Output::Change(dst) => {
            dst.inplace_op1(&Replace(bytes))?;
            Ok((*dst).clone())
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
}

fn bfloats(bytes: &[u8]) -> Vec<bf16> {
    bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]])).collect()
}

/// The whole array that a tensor is a view of.
fn contents(x: &Tensor) -> Result<Vec<u8>> {
    let (storage, _) = x.storage_and_layout();
    Ok(match &*storage {
        Storage::Cpu(CpuStorage::F32(v)) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Storage::Cpu(CpuStorage::F16(v)) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Storage::Cpu(CpuStorage::BF16(v)) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Storage::Cpu(CpuStorage::U32(v)) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => bail!("the shim has no buffers of {:?}", x.dtype()),
    })
}

/// Overwrites the whole array of a tensor.
struct Replace(Vec<u8>);

impl InplaceOp1 for Replace {
    fn name(&self) -> &'static str {
        "replace"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        match storage {
            CpuStorage::F32(values) => *values = floats(&self.0),
            CpuStorage::F16(values) => *values = halves(&self.0),
            CpuStorage::BF16(values) => *values = bfloats(&self.0),
            _ => bail!("the shim changes floats in place only"),
        }
        Ok(())
    }
}
