//! `fold weights`: the folder, its list, and whether its files are whole.
use std::path::Path;
use std::process::{Command, Output};

fn fold(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fold")).args(arguments).env("FOLD_WEIGHTS", folder).output().unwrap()
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openfold3").join(name).display().to_string()
}

/// Stdout of a run that succeeds.
#[track_caller]
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = fold(folder, arguments);
    assert!(output.status.success(), "fold {arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn weights_are_converted_listed_and_verified() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("weights");
    let none = fold(&folder, &["weights", "list"]);
    assert!(none.status.success());
    let built_in = String::from_utf8_lossy(&none.stdout).into_owned();
    assert!(built_in.starts_with("demo ") && built_in.contains("demonstration only: knows"), "{built_in}");
    assert_eq!(built_in.lines().count(), 1);
    assert!(String::from_utf8_lossy(&none.stderr).contains("fold weights pull"));

    let (checkpoint, config) = (fixture("tiny.pt"), fixture("tiny_config.json"));
    for (dtype, file) in [("f32", "openfold3-0.5.0.safetensors"), ("bf16", "openfold3-0.5.0-bf16.safetensors")] {
        let convert = ["weights", "convert", "openfold3", &checkpoint, "--config", &config, "--dtype", dtype];
        assert_eq!(said(&folder, &convert), format!("{}\n", folder.join(file).display()));
    }
    let text = said(&folder, &["weights", "list"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().next().unwrap().starts_with("openfold3 0.5.0 BF16 "), "{text}");
    for line in said(&folder, &["weights", "list", "--json"]).lines().take(2) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&row["model"], &row["source_file"]), (&"openfold3".into(), &"tiny.pt".into()));
    }
    assert_eq!(said(&folder, &["weights", "verify"]).lines().filter(|l| l.ends_with(": whole")).count(), 2);

    // One damaged file does not hide another, nor a whole one.
    for name in ["a.safetensors", "b.safetensors"] {
        std::fs::write(folder.join(name), "damaged").unwrap();
    }
    let output = fold(&folder, &["weights", "verify"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{stderr}");
    assert!(stderr.contains("a.safetensors") && stderr.contains("b.safetensors"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    assert_eq!(said(&folder, &["weights", "list"]).lines().count(), 3);
}

/// A small model is not taken for the released one.
#[test]
fn weights_of_other_sizes_than_the_releases_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let output = fold(home.path(), &["weights", "convert", "openfold3", &fixture("tiny.pt")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(65), "{stderr}");
    assert!(stderr.contains("do not make a model") && stderr.contains("the model needs [128, 3]"), "{stderr}");
    assert!(stderr.contains("more"), "{stderr}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

/// A parameter file of AlphaFold2 alone, and two in an archive; a name that does not say what it is.
#[test]
fn alphafold2_is_converted() {
    let home = tempfile::tempdir().unwrap();
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/af2").join(name);
    let text = |path: &Path| path.display().to_string();
    let (source, config) = (text(&fixture("params_model_1_ptm.npz")), text(&fixture("model_1_ptm_config.json")));
    let folder = home.path().join("weights");
    let made = said(&folder, &["weights", "convert", "af2", &source, "--config", &config, "--dtype", "f16"]);
    assert_eq!(made, format!("{}\n", text(&folder.join("af2-model_1_ptm-f16.safetensors"))));
    assert!(said(&folder, &["weights", "list"]).starts_with("af2 model_1_ptm F16 "));

    // The sizes given are not those of the released file.
    let output = fold(&folder, &["weights", "convert", "af2", &source]);
    assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("do not make a model"));

    let renamed = home.path().join("mine.npz");
    std::fs::copy(&source, &renamed).unwrap();
    let output = fold(&folder, &["weights", "convert", "af2", &text(&renamed), "--config", &config]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(65) && stderr.contains("call it params_model_1_ptm.npz"), "{stderr}");
    let output = fold(&folder, &["weights", "convert", "af2", &source, "--config", &config, "--ignore-checksums"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("for checkpoints of torch"));

    let archive = home.path().join("params.tar");
    let names = ["params_model_1_ptm.npz", "params_model_2_ptm.npz"];
    for name in names {
        std::fs::copy(&source, home.path().join(name)).unwrap();
    }
    let tar = Command::new("tar").arg("-C").arg(home.path()).arg("-cf").arg(&archive).args(names).status().unwrap();
    assert!(tar.success());
    let out = text(&home.path().join("all"));
    let made = said(&folder, &["weights", "convert", "af2", &text(&archive), "--config", &config, "-o", &out]);
    let files: Vec<_> = made.lines().collect();
    assert_eq!(files, ["1", "2"].map(|n| format!("{out}/af2-model_{n}_ptm.safetensors")));
    assert_eq!(std::fs::read_dir(out).unwrap().count(), 2);
}

/// The four checkpoints and the tables of ESM3, after the licence has been accepted once; a part that is missing is named.
#[test]
fn esm3_is_converted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("weights");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/esm3");
    let (source, config) = (source.display().to_string(), source.join("small_config.json").display().to_string());
    let convert = ["weights", "convert", "esm3", &source, "--config", &config];

    let output = fold(&folder, &convert);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("Non-Commercial") && stderr.contains("--accept-licence") && !folder.exists(), "{stderr}");

    let names = [
        "esm3-sm-open-v1-bf16.safetensors",
        "esm3-structure-encoder-v0-bf16.safetensors",
        "esm3-structure-decoder-v0-bf16.safetensors",
        "esm3-function-decoder-v0-bf16.safetensors",
        "esm3-data-v1.safetensors",
    ];
    let made = said(&folder, &[&convert[..], &["--accept-licence"]].concat());
    let want: Vec<String> = names.iter().map(|name| folder.join(name).display().to_string()).collect();
    assert_eq!(made.lines().collect::<Vec<_>>(), want);
    assert!(said(&folder, &["weights", "list"]).contains("esm3 sm-open-v1 BF16 "), "as the checkpoints are");
    let made = said(&folder, &[&convert[..], &["--dtype", "f32"]].concat());
    assert_eq!(made.lines().count(), 5, "{made}");
    let checked = said(&folder, &["doctor"]);
    assert_eq!(checked.lines().filter(|line| line.starts_with("weights  esm3")).count(), 9, "{checked}");
    assert_eq!(said(&folder, &["weights", "verify"]).lines().filter(|l| l.ends_with(": whole")).count(), 9);

    let part = home.path().join("part");
    std::fs::create_dir_all(&part).unwrap();
    let text = part.display().to_string();
    let output = fold(&folder, &["weights", "convert", "esm3", &text, "--config", &config]);
    assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stderr));
    let name = "esm3_structure_encoder_v0.pth";
    std::fs::copy(Path::new(&source).join("data/weights").join(name), part.join(name)).unwrap();
    let output = fold(&folder, &["weights", "convert", "esm3", &text, "--config", &config]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.contains("esm3_sm_open_v1.pth is not there"), "{stderr}");
    assert!(stderr.contains("no keyword_vocabulary_safety_filtered_58641.txt"), "{stderr}");
    // Sizes of another model are refused.
    let output = fold(&folder, &["weights", "convert", "esm3", &text]);
    assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Which of the releases a checkpoint is of, its names say.
#[test]
fn protenix_is_converted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("weights");
    let file =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/protenix").join(name).display().to_string();
    let (checkpoint, config) = (file("tiny.pt"), file("tiny_config.json"));
    let made = said(&folder, &["weights", "convert", "protenix", &checkpoint, "--config", &config]);
    assert_eq!(made, format!("{}\n", folder.join("protenix-mini-tmpl-0.5.0.safetensors").display()));
    let output = fold(&folder, &["weights", "convert", "protenix", &checkpoint]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("tiny.pt"), "{stderr}");
    let output = fold(&folder, &["weights", "convert", "protenix", &fixture("tiny.pt")]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("is no checkpoint of Protenix"), "{stderr}");
}
