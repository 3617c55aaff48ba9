//! Speed of the fused operations at the sizes of OpenFold3: `cargo bench --bench ops [-- [NAME..] [--tokens 256,384]
//! [--reference] [--isa avx2] [--threads 2]]`.
//!
//! One JSON row an operation and size: the best and the median of its timings after a warm-up, the arithmetic of its
//! products by the best one, and that as a fraction of the most that a large square product has reached so far in the same
//! run. `cpu_ms` is the time of all threads together, the mean of the timings. NAME keeps the operations whose names
//! contain it; `--reference` also times the plain composition of tensor operations that each is tested against;
//! `--isa` restricts the kernels (and the products they are compared with) to an instruction set.
mod cases;

use std::time::Instant;

use candle_core::{Result, bail};
use fold::ops::{Isa, measured_gemm_peak, with_isa};

use cases::{CASES, Case, Run};

/// What the command line asks for.
struct Options {
    names: Vec<String>,
    tokens: Vec<usize>,
    reference: bool,
    isa: Option<Isa>,
    threads: Option<usize>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self { names: vec![], tokens: vec![256, 384], reference: false, isa: None, threads: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| candle_core::Error::msg(format!("{arg} needs a value")));
            let number =
                |text: &str| text.parse::<usize>().map_err(|e| candle_core::Error::msg(format!("{text}: {e}")));
            match arg.as_str() {
                "--bench" => {} // cargo's own
                "--reference" => options.reference = true,
                "--tokens" => options.tokens = value()?.split(',').map(number).collect::<Result<_>>()?,
                "--threads" => options.threads = Some(number(&value()?)?),
                "--isa" => {
                    let name = value()?;
                    let named = |isa: &Isa| format!("{isa:?}").eq_ignore_ascii_case(&name);
                    options.isa = Some(match Isa::available().into_iter().find(named) {
                        Some(isa) => isa,
                        None => bail!("{name}: this machine has {:?}", Isa::available()),
                    });
                }
                name if !name.starts_with('-') => options.names.push(name.to_owned()),
                _ => bail!("{arg} is not an option"),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Seconds of each call, sorted, and the processor seconds of all together.
struct Times {
    wall: Vec<f64>,
    cpu: f64,
}

/// At least five calls after a warm-up, and more while they fit in half a second.
fn time(run: &Run) -> Result<Times> {
    run()?;
    let (mut wall, cpu, begun) = (vec![], cpu_seconds(), Instant::now());
    while wall.len() < 5 || (wall.len() < 200 && begun.elapsed().as_secs_f64() < 0.5) {
        let start = Instant::now();
        run()?;
        wall.push(start.elapsed().as_secs_f64());
    }
    let cpu = cpu_seconds() - cpu;
    wall.sort_by(f64::total_cmp);
    Ok(Times { wall, cpu })
}

/// Processor time of all threads so far: on a machine that others use too, it says more than the clock.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

fn row(name: &str, n: usize, case: &Case, peak: f64, reference: bool) -> Result<()> {
    let Times { wall, cpu } = time(&case.run)?;
    let (best, count) = (wall[0], wall.len() as f64);
    print!(
        "{{\"op\": \"{name}\", \"n\": {n}, \"threads\": {}, \"best_ms\": {:.3}, \"ms\": {:.3}, \"cpu_ms\": {:.3}, \
         \"gflop\": {:.4}, \"gflop_per_s\": {:.1}, \"peak_gflop_per_s\": {:.1}, \"fraction_of_peak\": {:.3}",
        rayon::current_num_threads(),
        1e3 * best,
        1e3 * wall[wall.len() / 2],
        1e3 * cpu / count,
        1e-9 * case.flop,
        1e-9 * case.flop / best,
        1e-9 * peak,
        case.flop / best / peak
    );
    if reference {
        print!(", \"candle_ms\": {:.3}", 1e3 * time(&case.reference)?.wall[0]);
    }
    println!("}}");
    Ok(())
}

fn run(options: &Options) -> Result<()> {
    let mut peak = measured_gemm_peak(5)?;
    for &n in &options.tokens {
        for (name, make) in CASES.iter().filter(|(name, _)| options.wants(name)) {
            peak = peak.max(measured_gemm_peak(2)?);
            row(name, n, &make(n)?, peak, options.reference)?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let options = Options::parse()?;
    fold::device::start(options.threads); // as the program starts
    match options.isa {
        Some(isa) => with_isa(isa, || run(&options)),
        None => run(&options),
    }
}
