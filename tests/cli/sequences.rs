//! `fold design sequences` and the weights it needs: the official program's own FASTA files from its seed, restart, messages.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::common::{Golden, fixture, mpnn};

/// A folder with full-size weights, made once.
fn weights() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for (release, golden) in [("mpnn", "monomer"), ("mpnn-ca", "ca")] {
            let golden = Golden::open(format!("mpnn/{golden}.safetensors")).unwrap();
            let path = folder.path().join(format!("{release}-v_48_020.safetensors"));
            mpnn::write_full(release, &golden, &path).unwrap();
        }
        folder
    });
    folder.path()
}

fn structure(name: &str) -> String {
    fixture(format!("mpnn/{name}.pdb")).display().to_string()
}

fn fold(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
    command.current_dir(home).env("FOLD_WEIGHTS", weights()).args(["design", "sequences"]).args(arguments);
    command.output().unwrap()
}

#[track_caller]
fn done(home: &Path, arguments: &[&str]) {
    let output = fold(home, arguments);
    assert!(output.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn refused(home: &Path, arguments: &[&str], code: i32, message: &str) {
    let output = fold(home, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stderr}");
    assert!(stderr.contains(message), "{arguments:?}\n{stderr}");
}

/// The official file, with our name where it has its commit.
fn official(name: &str) -> String {
    let text = std::fs::read_to_string(fixture(format!("mpnn/command_line/{name}.fa"))).unwrap();
    text.replace("git_hash=unknown", concat!("git_hash=fold-", env!("CARGO_PKG_VERSION")))
}

fn settings(name: &str) -> String {
    fixture(format!("mpnn/command_line/{name}.jsonl")).display().to_string()
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_official_sequences_from_its_seed() {
    let home = tempfile::tempdir().unwrap();
    let (fixed, omit, bias) =
        (settings("complex_fixed_positions"), settings("complex_omit_AA"), settings("complex_bias_AA"));
    let file = structure("complex");
    let common = ["--chains", "A,B", "-n", "2", "--temperature", "0.1,0.3", "--omit", "XC"];
    let mut with_files =
        vec![file.as_str(), "--fixed-positions-jsonl", &fixed, "--omit-AA-jsonl", &omit, "--bias-AA-jsonl", &bias];
    with_files.extend(common);
    done(home.path(), &with_files);
    let seqs = home.path().join("out/seqs");
    assert_eq!(std::fs::read_to_string(seqs.join("complex.fa")).unwrap(), official("complex"));
    let record = json(seqs.join("complex.json"));
    assert_eq!(record["samples"].as_array().unwrap().len(), 4);
    assert_eq!((&record["fixed_chains"], &record["model"]), (&serde_json::json!(["C"]), &Value::from("mpnn")));
    // The same, asked for by options.
    let mut with_options = vec![
        file.as_str(),
        "-o",
        "b",
        "--fixed",
        "A1-3,A23,A25,B10,B11",
        "--omit",
        "A30-32:GPC",
        "--bias",
        "D:-1.39,A:0.4",
    ];
    with_options.extend(common);
    done(home.path(), &with_options);
    assert_eq!(std::fs::read_to_string(home.path().join("b/seqs/complex.fa")).unwrap(), official("complex"));
}

#[test]
fn tied_chains_and_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let (dimer, monomer, table) = (structure("dimer"), structure("monomer"), settings("dimer_tied_positions"));
    let common = ["-n", "2", "--temperature", "0.1,0.3"];
    let mut tied = vec![dimer.as_str(), "--tied", "A,B"];
    tied.extend(common);
    done(home.path(), &tied);
    let fasta = home.path().join("out/seqs/dimer.fa");
    assert_eq!(std::fs::read_to_string(&fasta).unwrap(), official("dimer"));
    let mut by_table = vec![dimer.as_str(), "-o", "b", "--tied-positions-jsonl", &table];
    by_table.extend(common);
    done(home.path(), &by_table);
    assert_eq!(std::fs::read_to_string(home.path().join("b/seqs/dimer.fa")).unwrap(), official("dimer"));
    // What is done is left alone, what is not is done, in whatever order; other settings are refused.
    let before = std::fs::metadata(&fasta).unwrap().modified().unwrap();
    let mut more = vec![monomer.as_str(), dimer.as_str()];
    more.extend(common);
    refused(home.path(), &more, 2, "tied was [\"A,B\"], now []");
    refused(
        home.path(),
        &[&dimer, "-n", "2", "--temperature", "0.1,0.3", "--tied", "A,B", "--seed", "3"],
        2,
        "seed was 37, now 3",
    );
    done(home.path(), &tied);
    assert_eq!(std::fs::metadata(&fasta).unwrap().modified().unwrap(), before);
    more.extend(["-o", "c"]);
    done(home.path(), &more);
    let alone = home.path().join("d");
    done(home.path(), &[&[dimer.as_str(), "-o", "d"][..], &common].concat());
    assert_eq!(
        std::fs::read(alone.join("seqs/dimer.fa")).unwrap(),
        std::fs::read(home.path().join("c/seqs/dimer.fa")).unwrap(),
        "other files change nothing"
    );
}

#[test]
fn scores_probabilities_and_other_weights() {
    let home = tempfile::tempdir().unwrap();
    let monomer = structure("monomer");
    let golden = Golden::open("mpnn/monomer.safetensors").unwrap();
    let fasta = home.path().join("given.fasta");
    std::fs::write(&fasta, format!(">all_alanine\n{}\n", "A".repeat(71))).unwrap();
    done(home.path(), &[&monomer, "--score-only", "--sequences", fasta.to_str().unwrap(), "-n", "3"]);
    let scores = json(home.path().join("out/scores/monomer.json"));
    let native = &scores["sequences"][0];
    let (mean, std) = (native["score"]["mean"].as_f64().unwrap(), native["score"]["std"].as_f64().unwrap());
    let want = f64::from(golden.get("forward/score").unwrap().to_vec1::<f32>().unwrap()[0]);
    assert!(std > 0. && (mean - want).abs() < 0.3, "{mean} +- {std}; {want} in another order");
    assert_eq!(
        (native["scores"].as_array().unwrap().len(), &scores["sequences"][1]["sequence"]),
        (3, &Value::from("all_alanine"))
    );
    done(home.path(), &[&monomer, "--probabilities", "unconditional", "-o", "p"]);
    let bytes = std::fs::read(home.path().join("p/probs/monomer.safetensors")).unwrap();
    let made = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let log_p = made.tensor("log_p").unwrap();
    let got: Vec<f32> = log_p.data().chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let got = candle_core::Tensor::new(got, &candle_core::Device::Cpu).unwrap();
    crate::common::assert_close("unconditional", &got, &golden.get("forward/unconditional").unwrap(), 1e-5).unwrap();
    done(home.path(), &[&monomer, "--weights", "ca", "--save-probabilities", "-o", "ca"]);
    let text = std::fs::read_to_string(home.path().join("ca/seqs/monomer.fa")).unwrap();
    assert!(text.contains("CA_model_name=v_48_020") && home.path().join("ca/probs/monomer.safetensors").is_file());
}

#[test]
fn what_is_wrong_is_said() {
    let home = tempfile::tempdir().unwrap();
    let (complex, monomer) = (structure("complex"), structure("monomer"));
    let empty = home.path().join("empty.pdb");
    std::fs::write(&empty, "REMARK\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, code, message) in [
        (vec![complex.as_str(), "--chains", "Q"], 65, "complex.pdb: there is no chain Q: it has A, B, C"),
        (vec![&complex, "--fixed", "A39-45"], 65, "chain A has residues 1-40, not 39-45"),
        (vec![&complex, "--fixed", "17"], 2, "\"17\": write a chain and places from 1, such as A1-8"),
        (vec![&complex, "--omit", "AB"], 65, "'B' is no letter"),
        (vec![&complex, "--omit", "ACDEFGHIKLMNPQRSTVWYX"], 65, "residue A1 has no letter left"),
        (vec![&complex, "--tied", "A,B"], 65, "tied chains differ in length (A has 40, B has 35)"),
        (vec![&complex, "--temperature", "0"], 2, "--temperature 0: write a number above 0"),
        (vec![&complex, "--bias", "D"], 2, "write a letter and a number, such as D:1.39"),
        (vec![&complex, "--weights", "v_48_099"], 2, "there are no weights v_48_099: write v_48_002"),
        (vec![&complex, "--weights", "soluble"], 66, "fold weights convert mpnn"),
        (vec![empty], 65, "empty.pdb: holds no residue of a protein"),
        (vec!["absent.pdb"], 66, "absent.pdb: cannot be read"),
        (vec![&complex, &complex], 2, "two files are called complex"),
    ] {
        refused(home.path(), &arguments, code, message);
    }
    // One bad file does not stop the others.
    refused(home.path(), &[empty, &monomer], 1, "empty.pdb: holds no residue");
    assert!(home.path().join("out/seqs/monomer.fa").is_file());
}

#[test]
fn checkpoints_of_several_variants_side_by_side() {
    let home = tempfile::tempdir().unwrap();
    let sizes = home.path().join("sizes.json");
    let convert = |folder: &str, c: usize| {
        std::fs::write(&sizes, format!("{{\"c\": {c}, \"n_encoder\": 3, \"n_decoder\": 3, \"n_neighbour\": 48}}"))
            .unwrap();
        let checkpoint = fixture(format!("mpnn/{folder}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
        command.env("FOLD_WEIGHTS", home.path()).args(["weights", "convert", "mpnn"]).arg(checkpoint);
        let output = command.arg("--config").arg(&sizes).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(convert("soluble_model_weights", 16).ends_with("mpnn-soluble-v_48_020.safetensors\n"));
    assert!(convert("ca_model_weights/v_48_002.pt", 8).ends_with("mpnn-ca-v_48_002.safetensors\n"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
    let output = command.env("FOLD_WEIGHTS", home.path()).args([
        "design",
        "sequences",
        &structure("dimer"),
        "--weights",
        "soluble",
    ]);
    let output = output.current_dir(home.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json(home.path().join("out/seqs/dimer.json"))["model"], "mpnn-soluble");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
    let other = fixture("openfold3/tiny.pt");
    let output =
        command.env("FOLD_WEIGHTS", home.path()).args(["weights", "convert", "mpnn"]).arg(other).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no checkpoint of ProteinMPNN"));
}
