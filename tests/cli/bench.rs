//! `fold bench`: a row for each stage of each length, as a table and as JSON lines.
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
    command.arg("bench").args(arguments.split_whitespace()).output().expect("the program runs")
}

const STAGES: [&str; 9] = [
    "input embedder",
    "templates",
    "msa module",
    "pairformer block",
    "trunk cycle",
    "conditioning",
    "denoising step",
    "confidence",
    "scores",
];

#[test]
fn json_rows_of_every_stage() {
    let output = bench("untrained --tokens 12,20 --msa-rows 3 --n-samples 2 --n-steps 3 --n-cycles 2 --json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect();
    let stages: Vec<_> = rows.iter().map(|r| r["stage"].as_str().expect("a name")).collect();
    assert_eq!(stages, [STAGES, STAGES].concat());
    for row in &rows {
        let n = row["tokens"].as_u64().expect("tokens");
        let calls = match row["stage"].as_str() {
            Some("pairformer block") => 4, // two of each cycle
            Some("denoising step") => 3,
            Some("templates" | "msa module" | "trunk cycle" | "confidence" | "scores") => 2,
            _ => 1,
        };
        assert_eq!(row["calls"], calls, "{row}");
        assert!(row["seconds"].as_f64() > Some(0.0), "{row}");
        // The pair representation is there from the trunk on, so no stage holds less; U is in step with the bytes.
        let (bytes, u) = (row["peak_bytes"].as_f64().expect("bytes"), row["peak_u"].as_f64().expect("U"));
        let pair = (n * n * 32 * 4) as f64;
        assert!(bytes > pair && (u - bytes / pair).abs() < 1e-3, "{row}");
        let counted = !matches!(row["stage"].as_str(), Some("input embedder" | "scores"));
        assert_eq!(counted, row["gflop"].as_f64() > Some(0.0) || row["fraction_of_gemm_peak"].is_number(), "{row}");
    }
}

/// Each layer of a block is a row of its own; the structure module is timed alone and with the heads.
#[test]
fn rows_of_alphafold2() {
    let output = bench("af2 --tokens 9 --msa-rows 3 --n-cycles 2 --n-blocks 2 --json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect();
    let of = |stage: &str| rows.iter().find(|row| row["stage"] == stage).expect(stage);
    for (stage, calls) in [
        ("embedder", 2),
        ("extra msa block", 8),
        ("evoformer block", 4),
        ("column attention", 4),
        ("pair transition", 4),
        ("structure module", 2),
        ("recycle", 2),
    ] {
        let row = of(stage);
        assert_eq!((&row["model"], &row["calls"]), (&Value::from("af2"), &Value::from(calls)), "{row}");
        assert!(row["seconds"].as_f64() > Some(0.0) && row["peak_u"].as_f64() > Some(1.0), "{row}");
    }
    assert!(of("evoformer block")["gflop"].as_f64() > of("tri mul in")["gflop"].as_f64());
}

/// The layers of a block, the trunk made of them, and the two networks of structure.
#[test]
fn rows_of_esm3() {
    let output = bench("esm3 --tokens 9 --n-cycles 2 --n-blocks 1 --json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect();
    assert_eq!(rows.len(), 10);
    for row in &rows {
        assert_eq!((&row["model"], &row["calls"], &row["tokens"]), (&"esm3".into(), &2.into(), &9.into()), "{row}");
        assert!(row["seconds"].as_f64() > Some(0.0) && row["peak_bytes"].as_u64() > Some(0), "{row}");
        assert!(row["atoms"].is_null() && row["peak_u"].is_null(), "{row}");
        assert_eq!(row["stage"] == "embedding", row["gflop"] == 0.0, "{row}");
    }
    let refused = bench("esm3 --n-steps 3");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bench esm3 takes no"));
}

#[test]
fn rows_of_a_design() {
    let output = bench("pxdesign --tokens 12 --n-samples 2 --n-steps 3 --n-blocks 1 --json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("a JSON line")).collect();
    let stages: Vec<_> = rows.iter().map(|row| (row["stage"].as_str(), row["calls"].as_u64())).collect();
    assert_eq!(stages, [(Some("conditioning"), Some(1)), (Some("denoising step"), Some(3))]);
    for row in rows {
        assert_eq!((&row["model"], &row["tokens"]), (&Value::from("pxdesign"), &Value::from(12)), "{row}");
        assert!(row["seconds"].as_f64() > Some(0.0) && row["gflop"].as_f64() > Some(0.0), "{row}");
    }
}

#[test]
fn a_table_by_default() {
    let output = bench("untrained --tokens 10 --n-steps 1");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.starts_with("f32 gemm peak "), "{text}");
    assert!(STAGES.iter().all(|stage| text.lines().any(|line| line.starts_with(stage))), "{text}");
}

#[test]
fn options_that_do_not_go_together() {
    for (arguments, word) in [
        ("boltz", "openfold3"),
        ("untrained --n-blocks 2", "--n-blocks"),
        ("--weights w.safetensors --n-blocks 2", "--n-blocks"),
        ("--tokens 0", "0"),
        ("af2 --n-steps 3", "--n-steps"),
        ("pxdesign --msa-rows 3", "--msa-rows"),
        ("af2 --weights w.safetensors --n-blocks 2", "--n-blocks"),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert!(text.contains(word), "{arguments}: {text}");
    }
    let output = bench("--weights no-such-file.safetensors");
    assert_eq!(output.status.code(), Some(66));
}

/// What a prediction is said to take before it is made, and what it took.
#[test]
fn the_estimate_is_not_below_the_measurement() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let n = 150;
    std::fs::write(folder.path().join("q.fasta"), format!(">q\n{}\n", "MKTAYIAKQR".repeat(n / 10))).expect("a query");
    let arguments = ["predict", "q.fasta", "--model", "untrained", "--n-samples", "1", "--dry-run"];
    let output = Command::new(env!("CARGO_BIN_EXE_fold")).args(arguments).current_dir(folder.path()).output();
    let plan: Value = serde_json::from_slice(&output.expect("the program runs").stdout).expect("a JSON line");
    let estimated = plan["estimated_peak_bytes"].as_u64().expect("bytes");

    let output = bench(&format!("untrained --tokens {n} --n-steps 1 --json"));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("a JSON line"));
    let measured = rows.filter_map(|row| row["peak_bytes"].as_u64()).max().expect("a row");
    assert!(measured <= estimated, "{measured} bytes, {estimated} estimated");
    // Most of so small a job is what the program takes whatever it predicts.
    assert!(estimated < measured + (100 << 20), "{measured} bytes, {estimated} estimated");
}
