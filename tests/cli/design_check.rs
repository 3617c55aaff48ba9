//! `fold design check`: its table, its files, its messages.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fold(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fold")).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn the_example_of_the_readme() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("checked");
    let output = fold(&root(), &["design", "check", "examples/pdl1_binder.yaml", "-o", out.to_str().unwrap()]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for words in [
        "pdl1_binder: a binder of 80 residues against",
        "chain A: residues 1-116",
        "hotspots 40, 99, 107",
        "196 tokens, 1250 atoms",
    ] {
        assert!(stdout.contains(words), "no {words:?} in\n{stdout}");
    }
    let script = std::fs::read_to_string(out.join("pdl1_binder_target.pml")).unwrap();
    assert!(script.starts_with("cmd.load(\"pdl1_binder_target.cif\")\n"), "{script}");
    assert!(script.contains("select crop, (chain A and resi 1-116)\n"), "{script}");
    assert!(script.contains("select hotspots, (chain A and resi 40+99+107)\n"), "{script}");
    let cif = std::fs::read_to_string(out.join("pdl1_binder_target.cif")).unwrap();
    let marks =
        |mark: &str| cif.lines().filter(|l| l.starts_with("ATOM") && l.contains(&format!(" 1.0 {mark} "))).count();
    assert!(marks("100.00") > 15 && marks("50.00") > 800 && marks("0.00") > 50, "{cif:.2000}");
}

#[test]
fn json_has_both_numberings() {
    let folder = tempfile::tempdir().unwrap();
    let task = root().join("fixtures/pxdesign/pdbinput.yaml");
    let output = fold(folder.path(), &["design", "check", task.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["tokens"], &line["atoms"], &line["binder_length"]), (&33.into(), &219.into(), &9.into()));
    let chain = &line["chains"][0];
    assert_eq!((&chain["id"], &chain["output"], &chain["kept"]), (&"B".into(), &"A0".into(), &13.into()));
    assert_eq!((&chain["crop"], &chain["crop_author"]), (&"9-21".into(), &"15-27".into()));
    assert_eq!(
        (&chain["hotspots"], &chain["hotspots_author"]),
        (&serde_json::json!([11, 14]), &serde_json::json!(["17", "20"]))
    );
    assert!(folder.path().join("out/pdbinput_target.cif").is_file());
    assert_eq!(line["files"][0], "out/pdbinput_target.cif");
}

#[test]
fn faults_end_it_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let task = folder.path().join("t.yaml");
    std::fs::write(&task, "binder_length: 0\ntarget: {file: x.cif, chains: {A: all}}\n").unwrap();
    let output = fold(folder.path(), &["design", "check", "t.yaml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(65), "{stderr}");
    assert!(stderr.contains("t.yaml:1: binder_length: must be a whole number from 1 to 4096"), "{stderr}");
    assert!(stderr.contains("t.yaml:2: target.file: no such file: "), "{stderr}");
    assert!(!folder.path().join("out").exists());
    std::fs::write(folder.path().join("c.cif"), "nothing\n").unwrap();
    let output = fold(folder.path(), &["design", "check", "t.yaml", "--components", "c.cif"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&output.stderr).contains("c.cif: no chemical component dictionary"));
}
