//! `fold esm3`: every subcommand on the small models of fixtures/esm3.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder with the converted small models, in which commands run.
pub struct Home {
    folder: tempfile::TempDir,
}

pub fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/esm3").join(name).display().to_string()
}

impl Home {
    pub fn new() -> Self {
        let home = Self::empty();
        let (source, config) = (fixture(""), fixture("small_config.json"));
        home.said(&["weights", "convert", "esm3", &source, "--config", &config, "--accept-licence"]);
        home
    }

    /// Without any models.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_fold"));
        program.args(arguments).current_dir(self.folder.path()).env("FOLD_WEIGHTS", self.path("weights"));
        program
    }

    pub fn fold(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self.fold(arguments);
        assert!(output.status.success(), "fold {arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub fn refused(&self, arguments: &[&str], code: i32, expected: &str) {
        let output = self.fold(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "fold {arguments:?}\n{stderr}");
        assert!(stderr.contains(expected), "{expected:?} not in {stderr}");
    }

    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

pub fn length(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// From a masked sequence to a structure file, as the README has it; the same seed gives the same bytes, and a second run does nothing.
#[test]
fn a_masked_sequence_becomes_a_structure() {
    let home = Home::new();
    let prompt = home.write("p.fasta", ">p\nMKT____KQR|ISFVK\n>q\nACDEFGHIKL__\n");
    let warm = ["--temperature", "3", "--no-annealing"];
    let steps = ["--num-steps", "3", "--n-samples", "2", "--format", "cif,pdb", "--json"];
    let generate = [&["esm3", "generate", &prompt], &steps[..], &warm].concat();
    let lines = home.said(&generate);
    assert_eq!(lines.lines().count(), 4, "{lines}");
    for name in ["p/p_sample-0", "p/p_sample-1", "q/q_sample-1"] {
        let result = home.json(&format!("out/{name}.json"));
        let sequence = result["sequence"].as_str().unwrap();
        assert!(!sequence.contains('_') && sequence.len() >= 12, "{sequence}");
        let n = sequence.len();
        assert_eq!([length(&result["plddt"]), length(&result["pae"]), length(&result["coordinates"])], [n; 3]);
        assert!(result["ptm"].as_f64().unwrap() > 0. && length(&result["entropy"]["structure"]) == n);
        let text = std::fs::read_to_string(home.path(&format!("out/{name}.pdb"))).unwrap();
        assert_eq!(
            text.lines().filter(|l| l.starts_with("ATOM") && &l[12..16] == " CA ").count(),
            n - sequence.matches('|').count()
        );
        assert!(home.path(&format!("out/{name}.cif")).is_file());
    }
    let p = home.json("out/p/p_sample-0.json");
    assert!(p["sequence"].as_str().unwrap().starts_with("MKT") && p["entropy"]["sequence"][0].is_null());
    assert_ne!(p["sequence"], home.json("out/p/p_sample-1.json")["sequence"]);

    assert_eq!(home.said(&generate), "", "all is there");
    let bytes = std::fs::read(home.path("out/p/p_sample-1.json")).unwrap();
    std::fs::remove_file(home.path("out/p/p_sample-1.json")).unwrap();
    assert_eq!(home.said(&generate).lines().count(), 1);
    // Alone it is what it was beside the others.
    assert!(std::fs::read(home.path("out/p/p_sample-1.json")).unwrap() == bytes);
    home.refused(&["esm3", "generate", &prompt, "--seed", "5"], 2, "--overwrite");
}

#[test]
fn folding_and_designing() {
    let home = Home::new();
    let prompt = home.write("p.fasta", ">p\nMKTAYIAKQR\n");
    home.said(&["esm3", "fold", &prompt, "--temperature", "0", "--strategy", "entropy", "--num-steps", "4"]);
    let folded = home.json("out/p/p_sample-0.json");
    assert_eq!(folded["sequence"], "MKTAYIAKQR");
    // A result is a prompt.
    let result = home.path("out/p/p_sample-0.json").display().to_string();
    home.said(&["esm3", "inverse-fold", &result, "-o", "designed", "--num-steps", "4"]);
    let designed = home.json("designed/p/p_sample-0.json");
    assert_eq!(designed["sequence"].as_str().unwrap().len(), 10);
    assert_eq!(designed["coordinates"], folded["coordinates"], "what was given stays as it was");
    let structure = fixture("made_up.pdb");
    home.said(&["esm3", "inverse-fold", &structure, "-o", "designed", "--structure-tokens", "--num-steps", "4"]);
    let designed = home.json("designed/made_up/made_up_sample-0.json");
    assert!(designed["coordinates"][9].is_null() && length(&designed["coordinates"]) == 27);
    home.said(&["esm3", "generate", &prompt, "-o", "f", "--track", "function,ss8", "--num-steps", "4"]);
    assert!(home.json("f/p/p_sample-0.json")["secondary_structure"].is_string());
}

#[test]
fn tokens_and_representations() {
    let home = Home::new();
    let structure = fixture("made_up.pdb");
    home.said(&["esm3", "encode", &structure, "-o", "e"]);
    let encoded = home.json("e/made_up.json");
    let golden = fixture("encode.safetensors");
    let golden = candle_core::safetensors::load(golden, &candle_core::Device::Cpu).unwrap();
    let want: Vec<i64> = golden["whole/tokens"].to_dtype(candle_core::DType::I64).unwrap().to_vec1().unwrap();
    let got: Vec<i64> = encoded["tokens"]["structure"].as_array().unwrap().iter().filter_map(Value::as_i64).collect();
    assert_eq!(got, want);
    home.said(&["esm3", "decode", &home.path("e/made_up.json").display().to_string(), "-o", "d", "--format", "pdb"]);
    assert!(home.path("d/made_up.pdb").is_file() && length(&home.json("d/made_up.json")["plddt"]) == 27);

    let prompt = home.write("p.json", r#"{"sequence": "MKTAY", "function": [{"label": "IPR000007", "start": 2, "end": 4}], "sasa": [1, null, 3, 4, 5]}"#);
    for (command, names) in [("embed", &["embeddings", "mean"][..]), ("logits", &["sequence", "structure", "function"])]
    {
        let path = home.said(&["esm3", command, &prompt, "-o", "r"]);
        let arrays = candle_core::safetensors::load(home.path(path.trim()), &candle_core::Device::Cpu).unwrap();
        for name in names {
            assert!(arrays.contains_key(*name), "{name} in {:?}", arrays.keys());
        }
        if command == "logits" {
            assert_eq!(arrays["function"].dims(), [7, 8, 260]);
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let home = Home::new();
    let whole = home.write("whole.fasta", ">w\nMKTAY\n");
    home.refused(&["esm3", "generate", &whole, "--track", "sequence"], 65, "nothing is masked");
    home.refused(&["esm3", "inverse-fold", &whole], 65, "has no structure");
    home.refused(&["esm3", "fold", &home.path("none.fasta").display().to_string()], 66, "none.fasta: cannot be read");
    home.refused(&["esm3", "fold", &home.write("p.txt", "x")], 65, "is no .fasta");
    home.refused(&["esm3", "fold", &home.write("bad.json", "{\"sequense\": 1}")], 65, "sequense");
    let bad = home.write("ss.json", r#"{"sequence": "MKT", "secondary_structure": "HXH"}"#);
    home.refused(&["esm3", "generate", &bad], 65, "'X' at position 2");
    let uneven = home.write("uneven.json", r#"{"sequence": "MKT", "secondary_structure": "HH"}"#);
    home.refused(&["esm3", "generate", &uneven], 65, "the sequence has 3 residues, the secondary structure has 2");
    let unknown =
        home.write("f.json", r#"{"sequence": "M_T", "function": [{"label": "no such", "start": 1, "end": 2}]}"#);
    home.refused(&["esm3", "generate", &unknown], 65, "\"no such\" is no keyword");
    home.refused(&["esm3", "embed", &fixture("made_up.pdb"), "--chain", "Z"], 65, "it has B");
    std::fs::remove_file(home.path("weights/esm3-structure-decoder-v0-bf16.safetensors")).unwrap();
    home.refused(&["esm3", "fold", &whole, "--num-steps", "2"], 66, "no weights of esm3-structure-decoder");
}
