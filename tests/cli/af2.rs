//! `fold predict --model af2`: files, ranking, resuming, both styles, and what is refused. Weights are the small ones of fixtures/af2.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::predict::files;

/// A folder with queries and converted weights.
struct Place(tempfile::TempDir);

impl Place {
    /// Models 1 and 2, the second rounded, so that they differ; and a multimer model.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.convert("model_1_ptm", "params_model_1_ptm.npz", "f32");
        place.convert("model_1_ptm", "params_model_2_ptm.npz", "bf16");
        place.convert("model_1_multimer_v3", "params_model_1_multimer_v3.npz", "f32");
        fs::write(place.path().join("one.fasta"), ">one\nMKTAYIAKQRGWSTPLHE\n").unwrap();
        fs::write(place.path().join("pair.fasta"), ">pair\nMKTAYIAKQR:GWSTPLHE\n").unwrap();
        let rows: String = (0..30).map(|i| format!(">{i}\n{}\n", row(i))).collect();
        fs::write(place.path().join("deep.a3m"), format!(">query\nMKTAYIAKQRGWSTPLHE\n{rows}")).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn convert(&self, model: &str, name: &str, dtype: &str) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/af2");
        let source = self.path().join(name);
        fs::copy(fixtures.join(format!("params_{model}.npz")), &source).unwrap();
        let config = fixtures.join(format!("{model}_config.json"));
        let (source, config) = (source.display(), config.display());
        self.succeed(&format!("weights convert af2 {source} --config {config} --dtype {dtype}"));
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
        command.args(arguments.split_whitespace()).current_dir(self.path());
        command.env("FOLD_WEIGHTS", self.path().join("weights"));
        command
    }

    #[track_caller]
    fn succeed(&self, arguments: &str) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "fold {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The message and exit code of a run that is refused.
    #[track_caller]
    fn refused(&self, arguments: &str) -> (String, i32) {
        let output = self.command(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "fold {arguments}\n{message}");
        (message, output.status.code().unwrap())
    }

    fn written(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.path().join(folder))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path().join(path)).unwrap()).unwrap()
    }
}

/// A row of an alignment of 18 columns.
fn row(i: usize) -> String {
    let letter = |k: usize| match (i * 7 + k * 3) % 11 {
        0 => "-".to_owned(),
        1 => "aK".to_owned(),
        x => char::from(b"ACDEFGHIKLM"[x]).to_string(),
    };
    (0..18).map(letter).collect()
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn models_and_seeds_are_written_ranked_and_the_best_is_copied() {
    let place = Place::new();
    let run =
        "predict one.fasta --model af2 --num-models 2 --seeds 3,5 --num-recycle 1 --format cif,pdb --json --out out";
    let results = lines(&place.succeed(run));
    let of: Vec<_> = results.iter().map(|r| (r["model"].as_str().unwrap(), r["seed"].as_u64().unwrap())).collect();
    let expected = [("model_1_ptm", 3), ("model_1_ptm", 5), ("model_2_ptm", 3), ("model_2_ptm", 5)];
    assert_eq!(of, expected);

    let mut names: Vec<PathBuf> = ["run.json", "one_ranking_scores.csv"].iter().map(PathBuf::from).collect();
    for kind in ["model.cif", "model.pdb", "confidences.json", "summary_confidences.json"] {
        names.push(format!("one_{kind}").into());
        for sample in ["seed-3_sample-1", "seed-3_sample-2", "seed-5_sample-1", "seed-5_sample-2"] {
            names.push(format!("{sample}/one_{sample}_{kind}").into());
        }
    }
    names.sort();
    let written = place.written("out/one");
    assert_eq!(written.keys().cloned().collect::<Vec<_>>(), names);

    let best = results
        .iter()
        .max_by(|a, b| a["ranking_score"].as_f64().unwrap().total_cmp(&b["ranking_score"].as_f64().unwrap()));
    let best = best.unwrap();
    assert_eq!(best["ranking_score"], best["avg_plddt"], "a single chain is ranked by its pLDDT");
    let model = fs::read(place.path().join(best["model_cif"].as_str().unwrap())).unwrap();
    assert_eq!(model, written[Path::new("one_model.cif")]);
    let summary = place.json("out/one/one_summary_confidences.json");
    assert_eq!((&summary["model"], &summary["n_recycles"]), (&best["model"], &1.into()));
    assert!(summary["recycle_change"].as_f64().unwrap() > 0.);
    let confidences = place.json("out/one/one_confidences.json");
    assert_eq!(confidences["pae"].as_array().unwrap().len(), 18);
    assert_eq!(confidences["contact_probs"][17].as_array().unwrap().len(), 18);
    let run = place.json("out/one/run.json");
    assert_eq!((&run["model"], &run["n_recycles"], &run["max_msa"]), (&"af2".into(), &1.into(), &"1:1".into()));
}

/// Dropout makes other structures, the same for a seed, and no mixture with those made without.
#[test]
fn dropout_is_a_setting_of_the_run() {
    let place = Place::new();
    let run = |out: &str, more: &str| {
        let run = format!("predict one.fasta --model af2 --num-models 1 --num-recycle 1 --seeds 3 --out {out} {more}");
        place.succeed(&run);
        fs::read(place.path().join(out).join("one/one_model.cif")).unwrap()
    };
    let plain = run("plain", "");
    let lost = run("lost", "--use-dropout");
    assert_ne!(plain, lost);
    assert_eq!(lost, run("again", "--use-dropout"));
    assert_eq!(place.json("lost/one/run.json")["use_dropout"], true);
    let (message, code) =
        place.refused("predict one.fasta --model af2 --num-models 1 --num-recycle 1 --seeds 3 --out lost");
    assert!(code == 2 && message.contains("use_dropout") && message.contains("--overwrite"), "{message}");
}

#[test]
fn a_complex_is_ranked_by_its_interface_in_both_kinds_of_models() {
    let place = Place::new();
    for model in ["af2", "af2-multimer"] {
        let run = format!("predict pair.fasta --model {model} --num-models 1 --num-recycle 2 --json --out {model}");
        let result = &lines(&place.succeed(&run))[0];
        let of = |key: &str| result[key].as_f64().unwrap();
        let score = 0.8 * of("iptm") + 0.2 * of("ptm");
        assert!((of("ranking_score") - score).abs() < 1e-6 && of("iptm") > 0., "{result}");
        let summary = place.json(&format!("{model}/pair/pair_summary_confidences.json"));
        assert_eq!(summary["chain_ids"], serde_json::json!(["A", "B"]));
        assert_eq!(summary["chain_pair_pae_min"].as_array().unwrap().len(), 2);
        let confidences = place.json(&format!("{model}/pair/pair_confidences.json"));
        assert_eq!(confidences["token_chain_ids"][10], "B");
        assert_eq!(confidences["token_res_ids"][10], 1);
    }
}

#[test]
fn recycling_stops_early_and_each_pass_can_be_kept() {
    let place = Place::new();
    let all = "predict one.fasta --model af2 --num-models 1 --num-recycle 4 --save-recycles --json";
    let full = lines(&place.succeed(&format!("{all} --out full")));
    assert_eq!(full[0]["n_recycles"], 4);
    let early = lines(&place.succeed(&format!("{all} --recycle-early-stop-tolerance 1000 --out early")));
    assert_eq!(early[0]["n_recycles"], 1, "after the second pass");
    let pass = |k: usize| PathBuf::from(format!("seed-0_sample-1/one_seed-0_sample-1_recycle-{k}_model.cif"));
    let (full, early) = (place.written("full/one"), place.written("early/one"));
    assert_eq!(full[&pass(1)], early[&pass(1)]);
    assert_ne!(full[&pass(0)], full[&pass(1)]);
    assert!(full.contains_key(&pass(4)) && !full.contains_key(&pass(5)) && !early.contains_key(&pass(2)));
    let last = Path::new("seed-0_sample-1/one_seed-0_sample-1_model.cif");
    assert_eq!(full[&pass(4)], full[last], "the last pass is the prediction");
    // Results of other settings are kept unless told, and then nothing is left of them.
    let (message, code) = place.refused(&format!("{all} --recycle-early-stop-tolerance 1000 --out full"));
    assert!(code == 2 && message.contains("recycle_early_stop_tolerance was 0"), "{message}");
    place.succeed(&format!("{all} --recycle-early-stop-tolerance 1000 --out full --overwrite"));
    assert_eq!(place.written("full/one").keys().collect::<Vec<_>>(), early.keys().collect::<Vec<_>>());
}

#[test]
fn the_number_of_rows_is_that_of_max_msa() {
    let place = Place::new();
    let rows = |options: &str| {
        let run = format!("predict deep.a3m --model af2 --num-models 1 --dry-run {options}");
        lines(&place.succeed(&run))[0]["max_msa"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (rows(""), rows("--max-msa 8:16"), rows("--max-msa 8:64")),
        ("31:1".into(), "8:16".into(), "8:23".into())
    );
    let predict = |options: &str, out: &str| {
        place.succeed(&format!("predict deep.a3m --model af2 --num-models 1 --num-recycle 0 {options} --out {out}"));
        place.written(out)[Path::new("deep/deep_model.cif")].clone()
    };
    let (all, few, again) = (predict("", "a"), predict("--max-msa 4:8", "b"), predict("--max-msa 4:8", "c"));
    assert_ne!(all, few);
    assert_eq!(few, again);
    let (message, code) = place.refused("predict deep.a3m --model af2 --max-msa 512");
    assert!(code == 2 && message.contains("512:1024"), "{message}");
}

/// A seed gives the same bytes whatever was run beside it; models and seeds can be added to a finished run.
#[test]
fn a_finished_run_can_be_extended() {
    let place = Place::new();
    let run = "predict one.fasta --model af2 --num-recycle 1";
    place.succeed(&format!("{run} --num-models 1 --seed 2 --out grown"));
    let before = place.written("grown/one");
    let output = place.succeed(&format!("{run} --num-models 2 --seed 1 --num-seeds 2 --out grown"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 4 predictions are done already"));
    let first = Path::new("seed-2_sample-1/one_seed-2_sample-1_model.cif");
    assert_eq!(before[first], place.written("grown/one")[first]);
    place.succeed(&format!("{run} --num-models 2 --seeds 1,2 --out once"));
    assert_eq!(place.written("grown"), place.written("once"));
    // Other weights under the same name are other settings.
    let name = "weights/af2-model_1_ptm.safetensors";
    let text = String::from_utf8_lossy(&fs::read(place.path().join(name)).unwrap()).into_owned();
    let at = text.find("data_sha256\":\"").unwrap() + 14;
    let mut bytes = fs::read(place.path().join(name)).unwrap();
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    fs::write(place.path().join(name), bytes).unwrap();
    let (message, code) = place.refused(&format!("{run} --num-models 1 --seed 1 --out once"));
    assert!(code == 2 && message.contains("weights_sha256 was"), "{message}");
}

/// Twenty sequences of 20 to 58 residues.
fn batch() -> String {
    let letters = b"ACDEFGHIKLMNPQRSTVWY";
    let sequence = |i: usize| -> String {
        (0..20 + 2 * i).map(|k| char::from(letters[(i * i + 3 * k + k * k / 7) % 20])).collect()
    };
    (0..20).map(|i| format!(">seq{i:02}\n{}\n", sequence(i))).collect()
}

/// Killed twice without warning, at moments that are others each time: finished, the files are those of a run that was left alone.
#[test]
fn a_batch_killed_twice_is_finished_with_the_same_bytes() {
    let place = Place::new();
    fs::write(place.path().join("batch.fasta"), batch()).unwrap();
    for style in ["common", "colabfold"] {
        let run =
            format!("predict batch.fasta --model af2 --num-models 2 --num-recycle 1 --output-style {style} --json");
        let mut noise = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        let mut random = |n: u64| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise % n
        };
        let killed = format!("{style}-killed");
        for n_result in [1 + random(12), 14 + random(20)] {
            let late = Duration::from_micros(random(15_000));
            println!("{style}: killed {late:?} after {n_result} results");
            let out = place.path().join("killed.log");
            let mut child = place
                .command(&format!("{run} --out {killed}"))
                .stdout(fs::File::create(&out).unwrap())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let n_before = n_done(&place, &killed);
            let started = Instant::now();
            while n_before + fs::read_to_string(&out).unwrap().lines().count() < n_result as usize {
                assert!(started.elapsed() < Duration::from_secs(120), "no {n_result} results");
                assert!(child.try_wait().unwrap().is_none(), "the run was over before {n_result} results");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(late);
            assert!(child.try_wait().unwrap().is_none(), "the run was over before it was killed");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let n_before = n_done(&place, &killed);
        let made = lines(&place.succeed(&format!("{run} --out {killed}")));
        assert_eq!(made.len() + n_before, 40, "what was done is not done again");
        place.succeed(&format!("{run} --out {style}-alone"));
        let kept = |folder: &str| {
            let mut files = place.written(folder);
            // Its lines have times.
            files.remove(Path::new("log.txt"));
            files.retain(|path, _| !path.to_string_lossy().ends_with(".partial"));
            files
        };
        let (killed, alone) = (kept(&killed), kept(&format!("{style}-alone")));
        assert_eq!(killed.keys().collect::<Vec<_>>(), alone.keys().collect::<Vec<_>>());
        killed.iter().for_each(|(path, bytes)| assert!(*bytes == alone[path], "{style}: {} differs", path.display()));
    }
}

/// Predictions that are whole.
fn n_done(place: &Place, folder: &str) -> usize {
    if !place.path().join(folder).is_dir() {
        return 0;
    }
    let written = place.written(folder);
    let is_summary = |path: &&PathBuf| {
        path.components().count() == 3 && path.to_string_lossy().ends_with("_summary_confidences.json")
    };
    let of_state = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        let state: Value = serde_json::from_slice(bytes).unwrap_or_default();
        path.to_string_lossy().ends_with(".run.json").then(|| state["results"].as_object().map_or(0, |r| r.len()))
    };
    written.keys().filter(is_summary).count() + written.iter().filter_map(of_state).sum::<usize>()
}

/// A structure as template and as the beginning of the first pass; both change the prediction, and must fit the query.
#[test]
fn templates_and_an_initial_guess() {
    let place = Place::new();
    let run = "predict one.fasta --model af2 --num-models 1 --num-recycle 0 --format pdb";
    place.succeed(&format!("{run} --out first"));
    let first = "first/one/one_model.pdb";
    let model = |out: &str| place.written(out)[Path::new("one/one_model.pdb")].clone();
    place.succeed(&format!("{run} --templates {first} --out template"));
    place.succeed(&format!("{run} --initial-guess {first} --out guess"));
    assert_ne!(model("template"), model("first"));
    assert_ne!(model("guess"), model("first"));
    assert_ne!(model("guess"), model("template"));
    let foreseen = lines(&place.succeed(&format!("{run} --templates {first} --dry-run")));
    assert_eq!(foreseen[0]["templates"], 1);
    // Both are part of what a result was made with.
    for option in ["--templates", "--initial-guess"] {
        let (message, code) = place.refused(&format!("{run} {option} {first} --out first"));
        assert!(code == 2 && message.contains("holds results of other settings"), "{message}");
    }
    for (arguments, code, part) in [
        (format!("predict pair.fasta --model af2 --num-models 1 --templates {first}"), 2, "in a JSON query"),
        (format!("predict pair.fasta --model af2 --num-models 1 --initial-guess {first}"), 0, ""),
        ("predict deep.a3m --model af2 --num-models 1 --initial-guess one.fasta".to_owned(), 65, "one.fasta: "),
        (format!("{run} --templates nowhere.cif"), 66, "nowhere.cif: cannot be read"),
        (format!("{run} --templates {first},{first},{first},{first},{first}"), 2, "AF2 takes 4"),
    ] {
        let output = place.command(&format!("{arguments} --out more")).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {message}");
        assert!(message.contains(part), "{arguments}: {message}");
    }
    fs::write(place.path().join("short.fasta"), ">short\nMKTAYIAKQRGW\n").unwrap();
    let (message, code) =
        place.refused(&format!("predict short.fasta --model af2 --num-models 1 --initial-guess {first}"));
    assert!(code == 65 && message.contains("18 residues") && message.contains("12"), "{message}");
}

/// The commands of the README.
#[test]
fn the_example_runs() {
    let place = Place(tempfile::tempdir().unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let of_example =
        |line: &&str| line.starts_with("fold ") && (line.contains("fixtures/af2") || line.contains("peptides.fasta"));
    let section = readme.split("\n## AlphaFold2\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = section.lines().filter(of_example).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let words = command.split_whitespace().skip(1).map(|word| match word.split_once('/') {
            Some(("fixtures" | "examples", _)) => root.join(word).display().to_string(),
            _ => word.to_owned(),
        });
        place.succeed(&words.collect::<Vec<_>>().join(" "));
    }
    for name in ["5AWL_1", "6A5J", "both"] {
        assert!(place.path().join(format!("out-af2/{name}.done.txt")).is_file(), "{name}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_a_way_on() {
    let place = Place::new();
    for (arguments, code, parts) in [
        (
            "one.fasta --model af2",
            66,
            &["model_3_ptm, model_4_ptm, model_5_ptm", "convert af2 params_model_3_ptm.npz", "--num-models 2"][..],
        ),
        ("one.fasta --model af2 --weights nowhere.safetensors", 66, &["nowhere.safetensors: cannot be read"]),
        (
            "one.fasta --model af2 --weights weights/af2-multimer-model_1_multimer_v3.safetensors",
            2,
            &["is of af2-multimer"],
        ),
        (
            "one.fasta --model af2 --weights weights/af2-model_1_ptm.safetensors --num-models 2",
            2,
            &["is one parameter set"],
        ),
        ("one.fasta --model af2 --num-models 6", 2, &["--num-models"]),
        (
            "one.fasta --model af2 --num-models 1 --n-samples 2",
            2,
            &["--n-samples is not for --model af2", "--num-models"],
        ),
        ("one.fasta --model af2 --num-models 1 --n-cycles 2", 2, &["--num-recycle"]),
        ("one.fasta --model openfold3 --num-models 1", 2, &["--num-models is for --model af2"]),
        ("one.fasta --model af2 --num-models 1 --seeds 1,2 --num-seeds 2", 2, &["--num-seeds counts from one seed"]),
        ("one.fasta --model af2 --num-models 1 --recycle-early-stop-tolerance=-1", 2, &["give a distance"]),
        ("one.fasta --model af2 --num-models 1 --output-style af3", 2, &["common and colabfold"]),
        (
            "one.fasta --model af2 --num-models 1 --output-style colabfold --format cif",
            2,
            &["ColabFold's files are PDB"],
        ),
    ] {
        let (message, got) = place.refused(&format!("predict {arguments} --out refused"));
        assert_eq!(got, code, "{arguments}: {message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{arguments}: no {part:?} in {message}"));
    }
    assert!(!place.path().join("refused").exists());
}

#[test]
fn a_query_that_does_not_fit_is_listed_and_the_others_are_done() {
    let place = Place::new();
    let text = format!(">huge\n{}\n>small\nMKTAYIAKQR\n", "A".repeat(90_000));
    fs::write(place.path().join("both.fasta"), text).unwrap();
    let (message, code) = place.refused("predict both.fasta --model af2 --num-models 1 --num-recycle 0 --out both");
    assert!(code == 1 && message.contains("residues fit"), "{message}");
    assert_eq!(place.json("both/failed.json")[0]["query"], "huge");
    assert!(place.path().join("both/small/small_model.cif").is_file());
}

/// Random weights do not give the published scores of the peptides: the doctor says so, and what the scores are.
#[test]
fn the_doctor_tells_random_weights_from_the_published() {
    let place = Place::new();
    let output = place.command("doctor --weights af2 --device cpu").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for what in
        ["af2 model_1_ptm", "5AWL_1 YYDPETGTWY, pLDDT ", "published 94.2", "6A5J IKKILSKIKKLLK", "published 0.0455"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert_eq!(text.matches("FAILED").count(), 2, "{text}");

    // All weights of the folder are looked at, whatever their model.
    let output = place.succeed("doctor --device cpu");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("weights  af2 model_2_ptm") && text.contains("weights  af2-multimer model_1_multimer_v3"),
        "{text}"
    );

    fs::remove_dir_all(place.path().join("weights")).unwrap();
    let (message, code) = place.refused("doctor --weights af2");
    assert!(code == 66 && message.contains("params_model_1_ptm.npz"), "{message}");
    let (message, code) = place.refused("doctor --weights openfold3");
    assert!(code == 2 && message.contains("af2"), "{message}");
}

/// The files of ColabFold, under its names, ranked; models added later get their place among them.
#[test]
fn colabfolds_files_and_names() {
    let place = Place::new();
    let run = "predict pair.fasta --model af2 --num-recycle 1 --save-recycles --output-style colabfold --out out";
    place.succeed(&format!("{run} --num-models 1 --num-seeds 2"));
    let names = |folder: &str| place.written(folder).into_keys().map(|p| p.display().to_string()).collect::<Vec<_>>();
    let of_all = [
        "config.json",
        "log.txt",
        "pair.a3m",
        "pair.done.txt",
        "pair.run.json",
        "pair_coverage.png",
        "pair_pae.png",
        "pair_plddt.png",
        "pair_predicted_aligned_error_v1.json",
    ];
    let expected = |ranked: &[&str]| {
        let mut names: Vec<String> = of_all.iter().map(ToString::to_string).collect();
        for (k, tag) in ranked.iter().enumerate() {
            let tag = format!("rank_{:03}_{tag}", k + 1);
            names.push(format!("pair_scores_{tag}.json"));
            names.extend(["", ".r0", ".r1"].map(|r| format!("pair_unrelaxed_{tag}{r}.pdb")));
        }
        names.sort();
        names
    };
    let ranked = |folder: &str| -> Vec<String> {
        let state = place.json(&format!("{folder}/pair.run.json"));
        let results = state["results"].as_object().unwrap();
        let mut order: Vec<_> = results.iter().collect();
        order.sort_by(|a, b| {
            b.1["ranking_confidence"].as_f64().unwrap().total_cmp(&a.1["ranking_confidence"].as_f64().unwrap())
        });
        order.into_iter().map(|(tag, _)| tag.clone()).collect()
    };
    let order = ranked("out");
    assert_eq!(order.len(), 2);
    assert_eq!(names("out"), expected(&order.iter().map(String::as_str).collect::<Vec<_>>()));

    let best = |folder: &str, what: &str, extension: &str| {
        place.path().join(folder).join(format!("pair_{what}_rank_001_{}.{extension}", ranked(folder)[0]))
    };
    let scores: Value = serde_json::from_slice(&fs::read(best("out", "scores", "json")).unwrap()).unwrap();
    let keys: Vec<_> = scores.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["plddt", "max_pae", "pae", "ptm", "iptm", "ipsae", "pdockq", "pdockq2"]);
    let pae = place.json("out/pair_predicted_aligned_error_v1.json");
    assert_eq!(pae["predicted_aligned_error"], scores["pae"]);
    let pdb = fs::read_to_string(best("out", "unrelaxed", "pdb")).unwrap();
    assert!(pdb.starts_with("MODEL     1 ") && pdb.lines().filter(|l| l.starts_with("TER ")).count() == 2);
    assert_eq!(fs::read_to_string(place.path().join("out/pair.a3m")).unwrap().lines().next(), Some("#10,8\t1,1"));
    for plot in ["coverage", "pae", "plddt"] {
        let image = fs::read(place.path().join(format!("out/pair_{plot}.png"))).unwrap();
        assert!(image.starts_with(b"\x89PNG") && image.len() > 2000, "{plot}");
    }
    let log = fs::read_to_string(place.path().join("out/log.txt")).unwrap();
    let has = |text: &str| log.lines().any(|line| line.contains(text));
    assert!(has("Query 1/1: pair (length 18)") && has("alphafold2_ptm_model_1_seed_001 recycle=1 pLDDT="), "{log}");
    assert!(has("reranking models by 'multimer' metric") && has(&format!("rank_001_{} pLDDT=", order[0])), "{log}");
    let config = place.json("out/config.json");
    assert_eq!((&config["model_type"], &config["rank_by"]), (&"alphafold2_ptm".into(), &"multimer".into()));

    // A second model joins; the same as all at once.
    place.succeed(&format!("{run} --num-models 2 --num-seeds 2"));
    let order = ranked("out");
    assert_eq!(names("out"), expected(&order.iter().map(String::as_str).collect::<Vec<_>>()));
    let once = run.replace("--out out", "--out once");
    place.succeed(&format!("{once} --num-models 2 --num-seeds 2"));
    let kept = |folder: &str| {
        let mut files = place.written(folder);
        files.remove(Path::new("log.txt"));
        files
    };
    let (grown, once) = (kept("out"), kept("once"));
    assert_eq!(grown.keys().collect::<Vec<_>>(), once.keys().collect::<Vec<_>>());
    grown.iter().for_each(|(path, bytes)| assert!(*bytes == once[path], "{} differs", path.display()));

    // Other settings are refused; told to, nothing is left of them.
    let other = run.replace("--num-recycle 1 --save-recycles", "--num-recycle 0");
    let (message, code) = place.refused(&format!("{other} --num-models 1"));
    assert!(code == 2 && message.contains("n_recycles was 1, now 0"), "{message}");
    place.succeed(&format!("{other} --num-models 1 --overwrite"));
    assert_eq!(names("out").len(), of_all.len() + 2);
}
