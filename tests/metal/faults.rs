//! Faults put into a shader on purpose: each must be noticed, or the other tests of this folder prove little.
use candle_core::{Result, Tensor};
use fold::ops::metal::{BLOCK, Job, SHADERS, Shader, stand_in};
use fold::ops::{attention, attention_reference};
use mslcpu::{Build, Order};

use super::{Noise, close, shim};

/// Name, what is replaced in attention.metal, by what; the first is the shader as it is.
const FAULTS: [(&str, &str, &str); 10] = [
    ("nothing", "", ""),
    ("tiles loaded without bounds", "dst[i] = r < rows && c < d ? ", "dst[i] = c < d ? "),
    (
        "no barrier before the tiles are overwritten",
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    load_tile",
        "    load_tile",
    ),
    (
        "no barrier after the tiles are written",
        "    threadgroup_barrier(mem_flags::mem_threadgroup);\n\n    for (int j",
        "    for (int j",
    ),
    (
        "no barrier before the weights are read",
        "    simdgroup_barrier(mem_flags::mem_threadgroup);\n\n    simdgroup_matrix<float, 8, 8> scaling",
        "    simdgroup_matrix<float, 8, 8> scaling",
    ),
    ("a threadgroup array one short", "diagonals[SIMDS * 64]", "diagonals[SIMDS * 64 - 1]"),
    ("a row written past the end", "if (row < rows && c0 + j < p.d)", "if (row <= rows && c0 + j < p.d)"),
    ("a running maximum that starts at 0", "float largest = LOWEST", "float largest = 0.0f"),
    (
        "a SIMD function in a divergent branch",
        "    sum = sum * shrink + row_sum(tile_sum);",
        "    if (row < rows) sum = sum * shrink + row_sum(tile_sum);",
    ),
    ("a pointer in the wrong address space", "device const T* src, uint tile", "threadgroup const T* src, uint tile"),
];

thread_local! {
    static SHADER: std::cell::Cell<Option<&'static Shader>> = const { std::cell::Cell::new(None) };
}

/// The shim with the faulty shader in place of the true one.
fn faulty(job: &Job) -> Result<Tensor> {
    let mut job = job.clone();
    job.launch.shader = SHADER.get().expect("set before");
    shim::execute(&job)
}

#[test]
fn every_fault_is_noticed() -> Result<()> {
    if !shim::present() {
        return Ok(());
    }
    let mut noise = Noise(1);
    let (n, m, h, d) = (45, 45, 2, 32);
    let (q, k, v) = (noise.tensor(&[2, n, h * d])?, noise.tensor(&[2, m, h * d])?, noise.tensor(&[2, m, h * d])?);
    // Far below 0, where a maximum that starts too high leaves nothing.
    let bias = (noise.tensor(&[1, h, n, m])? - 200.)?;
    let want = attention_reference(&q, &k, &v, &[&bias], None, h)?;
    let sound = SHADERS.into_iter().find(|s| s.name == "attention.metal").expect("it is there");
    for (i, (what, from, to)) in FAULTS.into_iter().enumerate() {
        assert!(sound.source.contains(from), "{what}: the shader has changed");
        // Only the width that is run is compiled.
        let kept = |l: &&str| !l.starts_with("ENTRY(") || l.starts_with("ENTRY(32,");
        let source = sound.source.replacen(from, to, 1);
        let source = source.lines().filter(kept).collect::<Vec<_>>().join("\n");
        let shader: &'static Shader = Box::leak(Box::new(Shader {
            name: Box::leak(format!("fault{i}.metal").into_boxed_str()),
            source: Box::leak(source.into_boxed_str()),
        }));
        SHADER.set(Some(shader));
        let run = |build, order| {
            shim::set(build, order);
            let got = stand_in(shim::of(faulty, BLOCK), || attention(&q, &k, &v, &[&bias], None, h))?;
            close(what, &got, &want, 3e-5) // logits of -200 have a last digit of 1.5e-5
        };
        let noticed = || -> Option<String> {
            match shim::strict(shader) {
                Ok(findings) if findings.is_empty() => {}
                found => return Some(format!("the strict check: {found:?}")),
            }
            if let Err(e) = run(Build::Plain, Order::Forward) {
                return Some(format!("the result or the runtime: {e}"));
            }
            if let Err(e) = run(Build::Plain, Order::Reverse) {
                return Some(format!("another order: {e}"));
            }
            run(Build::Sanitized, Order::Forward).err().map(|e| format!("a sanitizer: {e}"))
        };
        match noticed() {
            None => assert_eq!(what, "nothing", "not noticed"),
            Some(by) => {
                assert_ne!(what, "nothing", "{by}");
                println!("{what}: noticed by {}", by.lines().take(2).collect::<Vec<_>>().join(" "));
            }
        }
    }
    Ok(())
}
