//! Wrong input of every kind: the message names the file, the fault and what to do; the exit code tells its kind; nothing
//! is written.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::bad_queries;

const USAGE: i32 = 2;
const DATA: i32 = 65;
const NO_INPUT: i32 = 66;
const IO: i32 = 74;

const QUERY: &str =
    r#"{"queries": {"q": {"chains": [{"molecule_type": "protein", "chain_ids": "A", "sequence": "MKTV"}]}}}"#;

/// A fresh folder in which the program is run.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("q.json", QUERY);
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs the program without the user's weights; the words of `arguments` are separated by blanks.
    fn fold(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fold"))
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env("FOLD_WEIGHTS", self.0.path().join("weights"))
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// It fails with this code and says all these words on stderr, nothing on stdout, and leaves no results.
    #[track_caller]
    fn fails(&self, arguments: &str, code: i32, said: &[&str]) {
        let output = self.fold(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "fold {arguments}\n{stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "fold {arguments}: stdout");
        for words in said {
            assert!(stderr.contains(words), "fold {arguments}: no {words:?} in\n{stderr}");
        }
        assert!(!stderr.contains("panicked"), "fold {arguments}\n{stderr}");
        assert!(!self.0.path().join("out/q").exists(), "fold {arguments}: results were begun");
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A file of fixtures/, cut after a part of its bytes.
fn part_of(name: &str, numerator: usize, denominator: usize) -> Vec<u8> {
    let bytes = std::fs::read(fixture(name)).unwrap();
    bytes[..bytes.len() * numerator / denominator].to_vec()
}

#[test]
fn queries() {
    for case in bad_queries::cases() {
        println!("{}", case.name); // shown if it fails
        let folder = Folder::new();
        for (name, content) in &case.files {
            folder.write(name, content);
        }
        let said: Vec<_> = case.said.iter().copied().filter(|words| !words.ends_with(" faults")).collect();
        let code = if case.missing { NO_INPUT } else { DATA };
        folder.fails(&format!("predict {} --model untrained", case.files[0].0), code, &said);
    }
}

#[test]
fn a_query_that_is_not_there() {
    let folder = Folder::new();
    folder.fails("predict none.json --model untrained", NO_INPUT, &["fold: none.json: no such file"]);
    folder.write("folder/x", "");
    folder.fails("predict folder --model untrained", DATA, &["folder: is a folder"]);
}

#[test]
fn usage() {
    let folder = Folder::new();
    folder.fails("", USAGE, &["Usage: fold <COMMAND>"]);
    folder.fails("predikt q.json", USAGE, &["unrecognized subcommand 'predikt'", "predict"]);
    folder.fails("predict", USAGE, &["required arguments were not provided", "<QUERY>"]);
    folder.fails("predict q.json --sampels 3", USAGE, &["unexpected argument '--sampels'"]);
    folder.fails("predict q.json --device tpu", USAGE, &["'tpu'", "auto, cpu and metal"]);
    folder.fails("predict q.json --dtype f8 --model untrained", USAGE, &["--dtype f8"]);
    folder.fails("predict q.json --format xyz", USAGE, &["'xyz'", "the formats are cif and pdb"]);
    folder.fails("predict q.json --n-samples 0", USAGE, &["'0'", "--n-samples"]);
    folder.fails("predict q.json --n-steps -1", USAGE, &["-1"]);
    folder.fails("predict q.json --n-cycles many", USAGE, &["'many'", "--n-cycles"]);
    folder.fails("predict q.json --seeds 1,x", USAGE, &["'x'", "--seeds"]);
    folder.fails("predict q.json --seeds 4294967296", USAGE, &["4294967296"]);
    folder.fails("predict q.json --threads 0", USAGE, &["'0'", "--threads"]);
    folder.fails(
        "predict q.json --model af9",
        USAGE,
        &["\"af9\"", "the models are openfold3, af2, af2-multimer, demo and untrained"],
    );
    folder.fails("predict q.json --model untrained --weights w", USAGE, &["--model untrained takes no --weights"]);
    let template = format!(r#""templates": [{{"path": "{}"}}], "sequence""#, fixture("af2/template.cif").display());
    folder.write("t.json", QUERY.replace(r#""sequence""#, &template));
    folder.fails(
        "predict t.json --model untrained",
        USAGE,
        &["q: chain A has templates, which are for AlphaFold2's models"],
    );
    let chain = r#"{"chains": [{"molecule_type": "protein", "chain_ids": "A", "sequence": "MK"}]}"#;
    folder.write("two.json", format!(r#"{{"queries": {{"q": {chain}, "r": {chain}}}}}"#));
    folder.write("f.safetensors", "");
    let two = "predict two.json --model untrained";
    folder.fails(&format!("{two} --features f.safetensors"), USAGE, &["--features is for a file with one query"]);
    folder.fails(&format!("{two} --save-features g.safetensors"), USAGE, &["--save-features is for one query"]);
}

#[cfg(not(target_os = "macos"))]
#[test]
fn a_device_that_is_not_here() {
    Folder::new().fails("predict q.json --model untrained --device metal", USAGE, &["no Metal device here"]);
}

#[test]
fn weights() {
    let folder = Folder::new();
    folder.fails("predict q.json", NO_INPUT, &["weights"]);
    folder.fails("predict q.json --weights none.safetensors", NO_INPUT, &["none.safetensors"]);
    folder.write("text.safetensors", "these are no weights");
    folder.fails(
        "predict q.json --weights text.safetensors",
        DATA,
        &["text.safetensors", "not a whole safetensors file"],
    );
    folder.write("empty.safetensors", "");
    folder.fails("predict q.json --weights empty.safetensors", DATA, &["empty.safetensors"]);
    let weights = folder.0.path().join("tiny.safetensors");
    convert_tiny(&folder, &weights);
    let bytes = std::fs::read(&weights).unwrap();
    folder.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    folder.fails(
        "predict q.json --weights cut.safetensors",
        DATA,
        &["cut.safetensors", "not a whole safetensors file"],
    );
    folder.write("cut.safetensors", &bytes[..100]);
    folder.fails(
        "predict q.json --weights cut.safetensors",
        DATA,
        &["cut.safetensors", "not a whole safetensors file"],
    );
    let other = fixture("features/many.safetensors");
    folder.fails(&format!("predict q.json --weights {}", other.display()), DATA, &["many.safetensors", "convert"]);
    folder.fails("weights verify cut.safetensors", DATA, &["cut.safetensors"]);
    folder.fails("weights verify none.safetensors", NO_INPUT, &["none.safetensors"]);
    let mut bytes = bytes;
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    folder.write("flipped.safetensors", &bytes);
    folder.fails("weights verify flipped.safetensors", DATA, &["flipped.safetensors", "checksum"]);
}

fn convert_tiny(folder: &Folder, weights: &Path) {
    let config = fixture("openfold3/tiny_config.json");
    let checkpoint = fixture("openfold3/tiny.pt");
    let arguments = format!(
        "weights convert openfold3 {} --out {} --config {}",
        checkpoint.display(),
        weights.display(),
        config.display()
    );
    let output = folder.fold(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn checkpoints() {
    let folder = Folder::new();
    let convert = |name: &str, code: i32, said: &[&str]| {
        folder.fails(&format!("weights convert openfold3 {name} --out w.safetensors"), code, said);
        assert!(!folder.0.path().join("w.safetensors").exists());
    };
    convert("none.pt", NO_INPUT, &["none.pt"]);
    folder.write("text.pt", "this is no checkpoint");
    convert("text.pt", DATA, &["text.pt"]);
    folder.write("empty.pt", "");
    convert("empty.pt", DATA, &["empty.pt"]);
    folder.write("cut.pt", part_of("openfold3/tiny.pt", 2, 3));
    convert("cut.pt", DATA, &["cut.pt"]);
    folder.write("head.pt", part_of("openfold3/tiny.pt", 1, 1000));
    convert("head.pt", DATA, &["head.pt"]);
    convert(&fixture("convert/evil.pt").display().to_string(), DATA, &["evil.pt"]);
    convert(&fixture("openfold3/mini_flat.pt").display().to_string(), DATA, &["mini_flat.pt", "missing"]);
    // The small model without its sizes is not the release's.
    convert(&fixture("openfold3/tiny.pt").display().to_string(), DATA, &["tiny.pt"]);
    folder.write("wrong.json", "{\"c_s\": \"many\"}");
    let tiny = fixture("openfold3/tiny.pt").display().to_string();
    convert(&format!("{tiny} --config wrong.json"), DATA, &["wrong.json", "does not hold the sizes of a model"]);
    convert(&format!("{tiny} --config none.json"), NO_INPUT, &["none.json"]);
    folder.fails("weights convert af9 x.pt", USAGE, &["'af9'", "openfold3"]);
}

#[test]
fn features() {
    let folder = Folder::new();
    let given = |name: &str, code: i32, said: &[&str]| {
        folder.fails(&format!("predict q.json --model untrained --features {name}"), code, said);
    };
    given("none.safetensors", NO_INPUT, &["none.safetensors"]);
    folder.write("text.safetensors", "no features");
    given("text.safetensors", DATA, &["text.safetensors", "not a whole safetensors file"]);
    folder.write("cut.safetensors", part_of("openfold3/mono/features.safetensors", 1, 2));
    given("cut.safetensors", DATA, &["cut.safetensors", "not a whole safetensors file"]);
    // An array is missing, another is NaN, a third is of other length: all are told.
    let bytes = std::fs::read(fixture("openfold3/mono/features.safetensors")).unwrap();
    let text = |from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    folder.write("missing.safetensors", text("\"ref_charge\"", "\"ref_chorge\""));
    given("missing.safetensors", DATA, &["ref_charge is missing"]);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut nan = bytes.clone();
    nan[header + 8..header + 12].copy_from_slice(&f32::NAN.to_le_bytes()); // the first array after `seed` is atom_mask
    folder.write("nan.safetensors", nan);
    given("nan.safetensors", DATA, &["has NaN at [0]"]);
    let other = fixture("openfold3/mono/features.safetensors");
    given(
        &other.display().to_string(),
        DATA,
        &["features.safetensors", "12 tokens are not the 4 residues of the query"],
    );
}

#[test]
fn output_folder() {
    let folder = Folder::new();
    folder.write("file", "");
    folder.fails("predict q.json --model untrained --n-steps 1 --n-samples 1 --out file", IO, &["fold: file/"]);
}
