//! `fold weights quantise`: what it writes, that it is listed, whole and of use, and what it refuses.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fold(&self, arguments: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_fold"));
        program.args(arguments).current_dir(self.folder.path()).env("FOLD_WEIGHTS", self.path("weights"));
        program.output().unwrap()
    }

    #[track_caller]
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.fold(arguments);
        assert!(output.status.success(), "fold {arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, expected: &str) {
        let output = self.fold(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "fold {arguments:?}\n{stderr}");
        assert!(stderr.contains(expected), "{expected:?} not in {stderr}");
    }

    fn convert(&self, dtype: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/esm3");
        let (source, config) = (source.display().to_string(), source.join("small_config.json").display().to_string());
        let convert = ["weights", "convert", "esm3", &source, "--config", &config, "--accept-licence"];
        self.said(&[&convert[..], &["--dtype", dtype]].concat());
    }

    fn tensors(&self, file: &str) -> BTreeMap<String, Tensor> {
        candle_core::safetensors::load(self.path(file), &Device::Cpu).unwrap().into_iter().collect()
    }
}

/// From converted to quantised weights, which are listed and whole, and from which proteins are made.
#[test]
fn esm3_is_quantised_and_runs() {
    let home = Home::new();
    home.refused(&["weights", "quantise", "esm3", "--bits", "4"], 2, "fold weights convert esm3 DIR");
    home.convert("f32");
    for bits in ["8", "4"] {
        let made = home.said(&["weights", "quantise", "esm3", "--bits", bits]);
        let parts = ["esm3-sm-open-v1", "esm3-structure-decoder-v0", "esm3-function-decoder-v0"];
        let files = parts.map(|part| home.path(&format!("weights/{part}-int{bits}.safetensors")).display().to_string());
        assert_eq!(made.lines().collect::<Vec<_>>(), files);
    }
    let listed = home.said(&["weights", "list"]);
    assert_eq!(listed.lines().filter(|line| line.contains(" INT4 ")).count(), 3, "{listed}");
    assert_eq!(listed.lines().filter(|line| line.contains(" INT8 ")).count(), 3, "{listed}");
    assert!(home.said(&["weights", "list", "--json"]).contains("affine, 4 bits, groups of 64"));
    assert!(home.said(&["weights", "verify"]).lines().all(|line| line.ends_with(": whole")));

    let prompt = home.path("p.fasta");
    std::fs::write(&prompt, ">p\nMKT____KQR|ISFVK\n").unwrap();
    let prompt = prompt.display().to_string();
    let mut logits = BTreeMap::new();
    for dtype in ["f32", "int8", "int4"] {
        home.said(&["esm3", "logits", &prompt, "-o", dtype, "--dtype", dtype]);
        let values = home.tensors(&format!("{dtype}/p_logits.safetensors"))["sequence"].flatten_all().unwrap();
        logits.insert(dtype, values.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap());
    }
    let near = |dtype: &str| {
        let [a, b] = [&logits["f32"], &logits[dtype]];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    assert!(near("int8") > 0.9999 && near("int8") < 1., "{}", near("int8"));
    assert!(near("int4") > 0.98 && near("int4") < near("int8"), "{}", near("int4"));

    let steps = ["--num-steps", "2", "--n-samples", "1", "--dtype", "int4"];
    home.said(
        &[&["esm3", "generate", &prompt, "-o", "g", "--track", "sequence,structure,function"], &steps[..]].concat(),
    );
    assert!(home.path("g/p/p_sample-0.cif").is_file());
}

/// Scales have the number format of what they are made from; every file is a third or less of what it was made from.
#[test]
fn scales_keep_the_format_of_the_weights() {
    let home = Home::new();
    home.convert("bf16");
    home.said(&["weights", "quantise", "esm3", "--bits", "4", "--group-size", "32"]);
    let tensors = home.tensors("weights/esm3-sm-open-v1-int4.safetensors");
    let (codes, scales) = (&tensors["blocks.1.transition.out.weight"], &tensors["blocks.1.transition.out.scales"]);
    assert_eq!((codes.dtype(), codes.dims()), (DType::U32, &[24, 32][..]));
    assert_eq!((scales.dtype(), scales.dims()), (DType::BF16, &[24, 8][..]));
    assert_eq!(tensors["blocks.1.transition.a.weight"].dtype(), DType::BF16, "rows of 24 are no whole groups");
    home.refused(&["weights", "quantise", "esm3", "--bits", "4", "--from", "f32"], 2, "--dtype f32");
    home.refused(&["weights", "quantise", "esm3", "--bits", "3"], 2, "possible values: 4, 8");
    let prompt = home.path("p.fasta");
    std::fs::write(&prompt, ">p\nMKT____KQR\n").unwrap();
    let prompt = prompt.display().to_string();
    home.refused(&["esm3", "embed", &prompt, "--dtype", "int8"], 66, "fold weights quantise esm3 --bits 8");
    home.said(&["esm3", "embed", &prompt, "--dtype", "int4"]);
}

/// A file cut short or of another model is refused, and nothing is left of what was begun.
#[test]
fn damaged_weights_are_refused() {
    let home = Home::new();
    home.convert("f32");
    let trunk = home.path("weights/esm3-sm-open-v1.safetensors");
    let whole = std::fs::read(&trunk).unwrap();
    std::fs::write(&trunk, &whole[..whole.len() - 100]).unwrap();
    home.refused(&["weights", "quantise", "esm3", "--bits", "8"], 65, "is damaged");
    std::fs::copy(home.path("weights/esm3-structure-encoder-v0.safetensors"), &trunk).unwrap();
    home.refused(
        &["weights", "quantise", "esm3", "--bits", "8"],
        65,
        "holds weights of esm3-structure-encoder, not of esm3",
    );
    let left = std::fs::read_dir(home.path("weights")).unwrap().map(|entry| entry.unwrap().path());
    assert!(left.into_iter().all(|path| !path.display().to_string().contains("int8")));
}
