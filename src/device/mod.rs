//! Where the program computes and how much memory there is.
pub mod heap;

use std::str::FromStr;

use candle_core::Device;

/// The `--device` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The Apple GPU where there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The Apple GPU, or an error.
    Metal,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("{0:?} is not a device; the devices are auto, cpu and metal")]
    Unknown(String),
    /// There is no Apple GPU.
    #[error("there is no Metal device here; leave --device out, or give --device cpu")]
    NoMetal(#[source] candle_core::Error),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "metal" => Ok(Self::Metal),
            _ => Err(DeviceError::Unknown(name.to_owned())),
        }
    }
}

impl DeviceChoice {
    /// The device itself.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Metal => Device::new_metal(0).map_err(DeviceError::NoMetal),
            Self::Auto => Ok(Device::new_metal(0).unwrap_or(Device::Cpu)),
        }
    }
}

/// Memory of the machine, in bytes; inside a container the limit of the container.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What a program can still take.
    pub available: u64,
}

/// Reads the machine's memory; `None` where the system does not tell.
pub fn memory() -> Option<Memory> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let machine = Memory { total: system.total_memory(), available: system.available_memory() };
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 && limits.total_memory < machine.total => {
            Some(Memory { total: limits.total_memory, available: limits.free_memory.min(machine.available) })
        }
        _ => Some(machine),
    }
}

/// The most memory this process has held so far, in bytes; `None` where the system does not tell.
#[cfg(unix)]
pub fn peak_memory() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for one rusage, which the call fills when it returns 0.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } == 0;
    // SAFETY: filled by the call; all fields are plain integers.
    let usage = done.then(|| unsafe { usage.assume_init() })?;
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).ok().map(|n| n * unit)
}

/// The most memory this process has held so far; not known on this system.
#[cfg(not(unix))]
pub fn peak_memory() -> Option<u64> {
    None
}

/// Threads that the CPU works with; 0 before [`start`].
static THREADS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Threads that the CPU works with.
pub fn threads() -> usize {
    THREADS.load(std::sync::atomic::Ordering::Relaxed)
}

/// Settings that must be made before anything else runs: threads, and an allocator that keeps large blocks.
///
/// Candle reads `RAYON_NUM_THREADS` at every product and asks the system for its cores where it is not set, which costs
/// more than a small product; glibc returns every large block to the system at once, so that each tensor is paid for in
/// page faults. The largest it should return: kept, they would leave holes as large as themselves that others do not fit.
pub fn start(threads: Option<usize>) {
    let threads = threads
        .or_else(|| std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok())
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1)
        .max(1);
    THREADS.store(threads, std::sync::atomic::Ordering::Relaxed);
    // SAFETY: called at the start of `main`, before any other thread exists that could read the environment.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only stores three numbers; no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        // What the threads of the pool allocate lies beside the rest, not in regions of 64 MiB of their own.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    // That a pool is there already only happens in a program that made one itself.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK_BYTES).build_global();
}

/// Stack of a thread of the pool: that of a main thread, whose work one of them does.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` on a thread of the pool. From any other thread each of the thousands of parallel steps of a prediction waits until a
/// sleeping thread of the pool has woken, and then to be woken by it; a thread of the pool begins with its own share at once.
pub fn on_the_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
