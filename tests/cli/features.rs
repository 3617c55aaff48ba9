//! `--save-features` and `--features`: a run from a features file is the run from the query.
use std::path::Path;
use std::process::Command;

use fold::features::af3::Af3Features;

fn fold(folder: &Path, arguments: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_fold"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "fold {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_features_file_gives_the_run_of_its_query() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("q.fasta"), ">q a dimer\nMKT:GWS\n").unwrap();
    let run = "predict q.fasta --model untrained --n-steps 2 --n-samples 1 --n-cycles 1 --seeds 7";
    fold(folder.path(), &format!("{run} --out one --save-features f.safetensors"));
    fold(folder.path(), &format!("{run} --out two --features f.safetensors"));
    fold(folder.path(), &format!("{run} --out three"));
    let features = Af3Features::load(&at("f.safetensors")).unwrap();
    assert_eq!((features.n_token(), features.msa.n_seq), (6, 2));
    let structure = |out: &str| std::fs::read_to_string(at(&format!("{out}/q/q_model.cif"))).unwrap();
    let coordinates =
        |text: &str| text.lines().filter(|l| l.starts_with("ATOM")).map(str::to_owned).collect::<Vec<_>>();
    let one = coordinates(&structure("one"));
    assert_eq!(one.len(), features.n_atom());
    assert_eq!(one, coordinates(&structure("two")), "from the file");
    assert_eq!(one, coordinates(&structure("three")), "a second time");
}
