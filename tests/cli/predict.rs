//! `fold predict` and `fold doctor`: files, resuming, what changes a result and what does not.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
    command.args(arguments.split_whitespace()).current_dir(folder).env("FOLD_WEIGHTS", folder.join("no-weights"));
    command
}

fn fold(folder: &Path, arguments: &str) -> Output {
    command(folder, arguments).output().expect("the program runs")
}

fn succeed(folder: &Path, arguments: &str) -> Output {
    let output = fold(folder, arguments);
    assert!(output.status.success(), "fold {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Every file below a folder, by its path from there.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below the folder").to_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

const RUN: &str = "predict q.fasta --model untrained --n-cycles 1";

fn query() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("q.fasta"), ">small one\nMKTAYIAKQR:GWSTPLHE\n").expect("a query");
    folder
}

#[test]
fn a_run_writes_these_files_and_no_others() {
    let folder = query();
    let run = format!("{RUN} --n-steps 20 --n-samples 2 --seeds 1,9 --format cif,pdb --json --out out");
    let output = succeed(folder.path(), &run);
    let mut expected: Vec<PathBuf> = ["run.json", "small_ranking_scores.csv"].iter().map(PathBuf::from).collect();
    let kinds = ["model.cif", "model.pdb", "confidences.json", "summary_confidences.json"];
    for kind in kinds {
        expected.push(format!("small_{kind}").into());
        for sample in ["seed-1_sample-0", "seed-1_sample-1", "seed-9_sample-0", "seed-9_sample-1"] {
            expected.push(format!("{sample}/small_{sample}_{kind}").into());
        }
    }
    expected.sort();
    let written = files(&folder.path().join("out/small"));
    assert_eq!(written.keys().cloned().collect::<Vec<_>>(), expected);

    // One JSON object a sample on stdout, and the best sample is the one copied up.
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).expect("a JSON line"))
        .collect();
    assert_eq!(lines.len(), 4);
    let csv = String::from_utf8_lossy(&written[Path::new("small_ranking_scores.csv")]).into_owned();
    let mut rows = csv.lines();
    assert_eq!(rows.next(), Some("seed,sample,ranking_score"));
    let score = |row: &&str| row.rsplit(',').next().and_then(|s| s.parse::<f64>().ok()).expect("a score");
    let best = rows.max_by(|a, b| score(a).total_cmp(&score(b))).expect("a row");
    let mut parts = best.split(',');
    let name = format!("seed-{}_sample-{}", parts.next().expect("a seed"), parts.next().expect("a sample"));
    let original = format!("{name}/small_{name}_model.cif");
    assert_eq!(written[Path::new("small_model.cif")], written[Path::new(&original)]);

    let run: Value = serde_json::from_slice(&written[Path::new("run.json")]).expect("run.json");
    assert_eq!(run["n_steps"], 20);
    assert_eq!(run["seeds"], serde_json::json!([1, 9]));
    assert_eq!(run["model"], "untrained");
}

#[test]
fn the_number_of_seeds_and_a_second_run_change_nothing() {
    let folder = query();
    let run = format!("{RUN} --n-steps 3 --n-samples 1");
    succeed(folder.path(), &format!("{run} --seeds 5 --out one"));
    succeed(folder.path(), &format!("{run} --seeds 4,5 --out two"));
    let (one, two) = (files(&folder.path().join("one/small")), files(&folder.path().join("two/small")));
    for kind in ["model.cif", "confidences.json", "summary_confidences.json"] {
        let name = PathBuf::from(format!("seed-5_sample-0/small_seed-5_sample-0_{kind}"));
        assert_eq!(one[&name], two[&name], "{kind}");
        let other = PathBuf::from(format!("seed-4_sample-0/small_seed-4_sample-0_{kind}"));
        assert_ne!(two[&name], two[&other], "another seed, another structure");
    }
}

/// Killed without warning once the first sample is there: the same command makes the rest, and the files are those of a
/// run that was left alone.
#[test]
fn a_killed_run_goes_on() {
    let folder = query();
    let run = format!("{RUN} --n-steps 200 --n-samples 1 --seeds 1,2,3,4,5,6");
    let mut child =
        command(folder.path(), &format!("{run} --out killed")).stderr(Stdio::null()).spawn().expect("a run");
    let first = folder.path().join("killed/small/seed-1_sample-0/small_seed-1_sample-0_summary_confidences.json");
    let started = Instant::now();
    while !first.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no first sample");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("kill -9");
    child.wait().expect("an end");
    let before = fs::metadata(&first).expect("the first sample").modified().expect("a time");
    let last = folder.path().join("killed/small/seed-6_sample-0");
    assert!(!last.exists(), "the run was over before it was killed");

    let output = succeed(folder.path(), &format!("{run} --out killed"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("seed 1 is done already"));
    assert_eq!(fs::metadata(&first).expect("the first sample").modified().expect("a time"), before);
    succeed(folder.path(), &format!("{run} --out alone"));
    assert_eq!(files(&folder.path().join("killed")), files(&folder.path().join("alone")));
}

#[test]
fn results_of_other_settings_are_kept_unless_told() {
    let folder = query();
    succeed(folder.path(), &format!("{RUN} --n-steps 2 --n-samples 1 --out out"));
    let before = files(&folder.path().join("out"));
    let refused = fold(folder.path(), &format!("{RUN} --n-steps 3 --n-samples 1 --out out"));
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("n_steps was 2, now 3") && message.contains("--overwrite"), "{message}");
    assert_eq!(files(&folder.path().join("out")), before);
    succeed(folder.path(), &format!("{RUN} --n-steps 3 --n-samples 1 --out out --overwrite"));
    let after = files(&folder.path().join("out"));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_ne!(before[Path::new("small/small_model.cif")], after[Path::new("small/small_model.cif")]);
}

/// A complex that no machine has the memory for is refused before anything is computed; beside others it is listed, and
/// they are done.
#[test]
fn a_query_that_does_not_fit_is_refused() {
    let folder = query();
    let huge = "A".repeat(60_000);
    fs::write(folder.path().join("huge.fasta"), format!(">huge\n{huge}\n")).expect("a query");
    let refused = fold(folder.path(), "predict huge.fasta --model untrained --out out");
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(71), "{message}");
    assert!(message.contains("60000 tokens") && message.contains("tokens fit"), "{message}");

    fs::write(folder.path().join("both.fasta"), format!(">huge\n{huge}\n>small\nMKT\n")).expect("a query");
    let both = fold(folder.path(), "predict both.fasta --model untrained --n-steps 1 --n-samples 1 --out both");
    assert_eq!(both.status.code(), Some(1), "{}", String::from_utf8_lossy(&both.stderr));
    let failed: Value =
        serde_json::from_slice(&fs::read(folder.path().join("both/failed.json")).expect("a list")).expect("JSON");
    assert_eq!(failed[0]["query"], "huge");
    assert!(folder.path().join("both/small/small_model.cif").is_file());
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let folder = query();
    let output = succeed(folder.path(), &format!("{RUN} --dry-run --out out"));
    let line: Value = serde_json::from_slice(&output.stdout).expect("a JSON line");
    assert_eq!((&line["tokens"], &line["fits"], &line["missing"]), (&18.into(), &true.into(), &2.into()));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn without_weights_the_ways_on_are_named() {
    let folder = query();
    let output = fold(folder.path(), "predict q.fasta");
    assert_eq!(output.status.code(), Some(66));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("fold weights pull openfold3") && message.contains("--model demo"), "{message}");
}

#[test]
fn the_doctor_finds_this_machine_sound() {
    let folder = query();
    let output = succeed(folder.path(), "doctor --device cpu");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for what in ["device   cpu", "memory ", "weights  none", "check    ok"] {
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn the_doctor_compares_each_operation() {
    let folder = query();
    let output = succeed(folder.path(), "doctor --device cpu --kernels");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sound = text.lines().filter(|line| line.starts_with("ok ")).count();
    let verdict = format!("{sound} operations, 0 wrong");
    for what in ["no Metal kernel was run", "triangle attention, ending", &verdict] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(sound >= 25, "{text}");
}
