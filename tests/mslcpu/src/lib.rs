//! Compiles Metal Shading Language with clang++ and runs the kernels on the CPU, for tests on machines without an Apple GPU.
//!
//! `clang++ -E` with stub headers, then `translate` turns the source into C++17, then clang++ compiles it with one header
//! (shim/msl.h) and a runtime (shim/rt.cpp) into a program that runs one dispatch: every thread is a fibre with its own
//! stack, 32 of them a SIMD group, threadgroup memory starts as NaN, buffers have their exact length.
//! docs/metal.md says what this notices and what not.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

mod translate;

const MSL_H: &str = include_str!("../shim/msl.h");
const PRE_H: &str = include_str!("../shim/pre/msl_pre.h");
const RUNTIME: &str = include_str!("../shim/rt.cpp");
/// Headers that a Metal source may include; here each is shim/pre/msl_pre.h.
const HEADERS: &[&str] = &["metal_stdlib", "metal_simdgroup", "metal_simdgroup_matrix", "metal_math"];
const WARNINGS: &[&str] =
    &["-Wno-everything", "-Wuninitialized", "-Wsometimes-uninitialized", "-Warray-bounds", "-Wreturn-type"];

/// Why a kernel was not built or did not run: what the compiler, the runtime or a sanitizer says.
#[derive(Debug)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self(e.to_string())
    }
}

type Result<T> = std::result::Result<T, Error>;

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Build {
    /// Optimised a little.
    Plain,
    /// With AddressSanitizer and UndefinedBehaviorSanitizer, which end the program at the first finding.
    Sanitized,
}

/// The order in which the threads of a group, and the groups, are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By number.
    Forward,
    /// Against it.
    Reverse,
    /// Drawn anew at every barrier, from this seed.
    Random(u32),
}

impl Order {
    /// Orders that must give the same bits.
    pub const FOUR: [Self; 4] = [Self::Forward, Self::Reverse, Self::Random(1), Self::Random(2)];
}

/// What is bound to a buffer number.
#[derive(Debug, Clone)]
pub enum Arg {
    /// Read only, bound at an offset in bytes.
    In(Vec<u8>, usize),
    /// Also written, bound at an offset in bytes; the contents come back.
    InOut(Vec<u8>, usize),
}

/// A compiled source.
#[derive(Debug, Clone)]
pub struct Program {
    exe: PathBuf,
    /// Names of its kernels.
    pub kernels: Vec<String>,
    /// What the translator found wrong without a compiler.
    pub lints: Vec<String>,
}

/// Can shaders be built and run here, with sanitizers? Tries it in `dir`. Debian: clang-19 libclang-rt-19-dev.
pub fn ready(dir: &Path) -> bool {
    let source = "kernel void nothing(device float* x [[buffer(0)]]) {}\n";
    let built = Program::build(dir, "ready", source, Build::Sanitized);
    built.is_ok_and(|p| p.run("nothing", [1; 3], [1; 3], &[Arg::InOut(vec![0; 4], 0)], Order::Forward).is_ok())
}

/// clang++ that knows `_Float16` and `__bf16` (17 or newer), where the runtime was tried: on x86-64 Linux. The environment
/// variable `MSL_CLANGXX` names another.
fn clang() -> Option<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return None;
    }
    let named = std::env::var("MSL_CLANGXX").into_iter();
    let mut candidates = named.chain((17..=23).rev().map(|v| format!("clang++-{v}"))).chain(["clang++".to_owned()]);
    candidates.find(|name| {
        let Ok(out) = Command::new(name).arg("-dumpversion").output() else { return false };
        let version = String::from_utf8_lossy(&out.stdout);
        version.split('.').next().and_then(|v| v.trim().parse::<u32>().ok()).is_some_and(|v| v >= 17)
    })
}

impl Program {
    /// Compiles `source` in a folder of `dir`, which holds the program and its jobs; `name` is free.
    pub fn build(dir: &Path, name: &str, source: &str, build: Build) -> Result<Self> {
        let dir = &dir.join(format!("{name}-{build:?}"));
        let (compiler, translated) = prepare(dir, name, source, false)?;
        let (cpp, exe) = (dir.join(format!("{name}.cpp")), dir.join(name));
        std::fs::write(&cpp, &translated.cpp)?;
        let mut command = Command::new(compiler);
        // Floats as in Metal: literals are f32, half is not widened, nothing is fused; unset locals are NaN.
        command.args(["-std=c++17", "-O1", "-g1", "-fno-math-errno", "-ffp-contract=off"]);
        command.args(["-ftrivial-auto-var-init=pattern", "-Xclang", "-ffloat16-excess-precision=none"]);
        command.args(["-Xclang", "-cl-single-precision-constant"]).args(WARNINGS).arg("-I").arg(dir);
        if build == Build::Sanitized {
            command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]);
            command.arg("-fno-sanitize=function,vptr,float-divide-by-zero");
        }
        output(command.arg(&cpp).arg(dir.join("rt.cpp")).arg("-o").arg(&exe).arg("-lm"))?;
        Ok(Self { exe, kernels: translated.kernels, lints: translated.lints })
    }

    /// What Metal's compiler would refuse: address spaces are kept, nothing is run. Empty if nothing was found.
    pub fn strict(dir: &Path, name: &str, source: &str) -> Result<Vec<String>> {
        let dir = &dir.join(format!("{name}-strict"));
        let (compiler, translated) = prepare(dir, name, source, true)?;
        let cpp = dir.join(format!("{name}.cpp"));
        std::fs::write(&cpp, &translated.cpp)?;
        let mut command = Command::new(compiler);
        command.args(["-std=c++17", "-fsyntax-only", "-DMSL_STRICT", "-ferror-limit=0", "-fno-caret-diagnostics"]);
        command.args(["-Xclang", "-cl-single-precision-constant"]).args(WARNINGS).arg("-I").arg(dir).arg(&cpp);
        let mut findings = translated.lints;
        if let Err(Error(text)) = output(&mut command) {
            findings.extend(text.lines().filter(|l| l.contains("error:")).map(str::to_owned));
        }
        Ok(findings)
    }

    /// Runs `groups` threadgroups of `threads` threads; the contents of the `InOut` buffers, in order of their numbers.
    pub fn run(
        &self,
        kernel: &str,
        groups: [u32; 3],
        threads: [u32; 3],
        args: &[Arg],
        order: Order,
    ) -> Result<Vec<Vec<u8>>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.exe.with_extension(format!("{}-{id}.{kind}", std::process::id()));
        let (job_path, out_path) = (path("job"), path("out"));
        std::fs::File::create(&job_path)?.write_all(&job(kernel, groups, threads, args))?;
        let mut command = Command::new(&self.exe);
        command.arg(&job_path).arg(&out_path);
        command.env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0");
        match order {
            Order::Forward => {}
            Order::Reverse => drop(command.env("MSL_SCHED", "rev")),
            Order::Random(seed) => drop(command.env("MSL_SCHED", format!("rand{seed}"))),
        }
        let done = output(&mut command);
        let written = std::fs::read(&out_path);
        let _ = std::fs::remove_file(&job_path);
        let _ = std::fs::remove_file(&out_path);
        done?;
        let mut written = written?;
        let mut results = Vec::new();
        for arg in args {
            if let Arg::InOut(bytes, _) = arg {
                let rest = written.split_off(bytes.len());
                results.push(std::mem::replace(&mut written, rest));
            }
        }
        Ok(results)
    }
}

/// Writes the shim to `dir` and translates `source`; gives the compiler too.
fn prepare(dir: &Path, name: &str, source: &str, strict: bool) -> Result<(String, translate::Translated)> {
    let compiler = clang().ok_or_else(|| Error("there is no clang++ 17 or newer".to_owned()))?;
    let pre = dir.join("pre");
    std::fs::create_dir_all(&pre)?;
    std::fs::write(dir.join("msl.h"), MSL_H)?;
    std::fs::write(dir.join("rt.cpp"), RUNTIME)?;
    std::fs::write(pre.join("msl_pre.h"), PRE_H)?;
    for header in HEADERS {
        std::fs::write(pre.join(header), "#include \"msl_pre.h\"\n")?;
    }
    let path = dir.join(format!("{name}.metal"));
    std::fs::write(&path, source)?;
    let mut command = Command::new(&compiler);
    command.args(["-E", "-x", "c++", "-std=c++17", "-nostdinc", "-undef", "-I"]).arg(pre).arg(&path);
    Ok((compiler, translate::translate(&output(&mut command)?, strict)))
}

/// What shim/rt.cpp reads: the kernel's name, the grid, no function constants, no dynamic memory, the buffers.
fn job(kernel: &str, groups: [u32; 3], threads: [u32; 3], args: &[Arg]) -> Vec<u8> {
    let mut job = kernel.as_bytes().to_vec();
    job.push(0);
    let numbers = |job: &mut Vec<u8>, values: &[u32]| job.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    numbers(&mut job, &[0]);
    numbers(&mut job, &groups);
    numbers(&mut job, &threads);
    numbers(&mut job, &[0, 0, args.len() as u32]);
    for (i, arg) in args.iter().enumerate() {
        let (bytes, offset, written) = match arg {
            Arg::In(bytes, offset) => (bytes, *offset, 0),
            Arg::InOut(bytes, offset) => (bytes, *offset, 1),
        };
        numbers(&mut job, &[i as u32, written]);
        job.extend((offset as u64).to_le_bytes());
        job.extend((bytes.len() as u64).to_le_bytes());
        job.extend(bytes);
    }
    job
}

/// Runs a command to its end; what it printed, as a value or, where it failed, as the error.
fn output(command: &mut Command) -> Result<String> {
    let out = command.output().map_err(|e| Error(format!("{command:?}: {e}")))?;
    let text = String::from_utf8_lossy(&out.stdout);
    if out.status.success() {
        return Ok(text.into_owned());
    }
    Err(Error(format!("{text}{}", String::from_utf8_lossy(&out.stderr))))
}
