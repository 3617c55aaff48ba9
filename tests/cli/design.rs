//! `fold design`: samples that survive anything. Weights are the small ones of fixtures/pxdesign.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::predict::files;

/// A folder with a task, its structure and converted weights.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pxdesign");
        ["crop.yaml", "5o45.cif"].iter().for_each(|name| {
            fs::copy(fixtures.join(name), place.path().join(name)).unwrap();
        });
        let config = serde_json::from_slice(&fs::read(fixtures.join("tiny_config.json")).unwrap()).unwrap();
        let (model, release) = (weights_convert::Model::PxDesign, &weights_convert::PXDESIGN);
        let options = weights_convert::Options { model, config: Some(config), ..Default::default() };
        fs::create_dir(place.path().join("weights")).unwrap();
        let file = format!("weights/{}-{}.safetensors", release.model, release.version);
        weights_convert::convert(&fixtures.join("tiny.pt"), &place.path().join(file), options).unwrap();
        place
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fold"));
        command.args(arguments.split_whitespace()).current_dir(self.path());
        command.env("FOLD_WEIGHTS", self.path().join("weights"));
        command
    }

    #[track_caller]
    pub fn succeed(&self, arguments: &str) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "fold {arguments}\n{}", text(&output.stderr));
        output
    }

    /// The message and exit code of a run that does not succeed.
    #[track_caller]
    pub fn refused(&self, arguments: &str) -> (String, i32) {
        let output = self.command(arguments).output().unwrap();
        let message = text(&output.stderr);
        assert!(!output.status.success(), "fold {arguments}\n{message}");
        (message, output.status.code().unwrap())
    }

    pub fn start(&self, arguments: &str) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Files of the samples and of the results, without settings.
    pub fn results(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = files(&self.path().join(folder));
        all.retain(|path, _| !path.ends_with("run.json"));
        all
    }

    fn n_sample(&self, folder: &str) -> usize {
        fs::read_dir(self.path().join(folder).join(SAMPLES)).map_or(0, |all| all.flatten().filter(is_sample).count())
    }
}

/// Where the samples of seed 42 are.
pub const SAMPLES: &str = "crop/seed_42/predictions";

fn is_sample(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| name.starts_with("crop_sample_") && name.ends_with(".cif"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A generator for moments at which runs are killed: another at each call.
fn noise() -> impl FnMut(u64) -> u64 {
    let mut state = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("noise of {state}");
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    }
}

const RUN: &str = "design crop.yaml --preset backbones --device cpu";

#[test]
fn parts_batches_and_threads_change_no_byte() {
    let place = Place::new();
    let run = format!("{RUN} --n-samples 7 --n-step 4");
    let results = json_lines(&place.succeed(&format!("{run} --out one --batch-size 1 --threads 1 --json")));
    let numbers: Vec<_> = results.iter().map(|r| r["sample"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(
        (&results[0]["task"], &results[0]["seed"], &results[0]["stage"]),
        (&"crop".into(), &42.into(), &"backbones".into())
    );
    let one = place.results("one");
    let mut names: Vec<PathBuf> = (0..7).map(|i| format!("{SAMPLES}/crop_sample_{i}.cif").into()).collect();
    names.extend(["report.html", "summary.csv"].map(|name| format!("design_outputs/crop/{name}").into()));
    names.sort();
    assert_eq!(one.keys().cloned().collect::<Vec<_>>(), names);
    let bytes = |i: usize| &one[Path::new(&format!("{SAMPLES}/crop_sample_{i}.cif"))];
    assert_ne!(bytes(0), bytes(1), "another number, another structure");

    place.succeed(&format!("{run} --out many --batch-size 5 --threads 2"));
    assert_eq!(place.results("many"), one);
    let said = text(&place.succeed(&format!("{run} --out parts --shard 1/2")).stderr);
    assert!(said.contains("3 samples are done") && said.contains("fold design merge parts"), "{said}");
    place.succeed(&format!("{run} --out parts --shard 0/2 --batch-size 3"));
    let merged = json_lines(&place.succeed("design merge parts --json"));
    assert_eq!((&merged[0]["done"], &merged[0]["expected"]), (&7.into(), &7.into()));
    assert_eq!(place.results("parts"), one);

    // More samples and more seeds later; of the first nothing changes, and nothing is made again.
    let more = json_lines(&place.succeed(&format!("{RUN} --n-samples 9 --n-step 4 --seeds 42,7 --out one --json")));
    assert_eq!(more.len(), 2 + 9);
    let grown = place.results("one");
    assert!(one.iter().filter(|(path, _)| path.starts_with(SAMPLES)).all(|(path, bytes)| grown[path] == *bytes));
    let table = text(&grown[Path::new("design_outputs/crop/summary.csv")]);
    assert_eq!(table.lines().count(), 1 + 18, "{table}");
}

/// Starts a run, kills it without warning at a moment that is another each time, and starts it again; then finishes it in three parts at
/// the same time. A watcher reads all that is there under a final name all the while: it must be whole, and never change.
fn survives(n_sample: usize, n_step: usize, n_kill: usize) {
    let place = Place::new();
    let run = format!("{RUN} --n-samples {n_sample} --n-step {n_step} --batch-size 2");
    place.succeed(&format!("{run} --out alone"));
    let alone = place.results("alone");
    let mut random = noise();
    let is_over = AtomicBool::new(false);
    let n_seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen: BTreeMap<PathBuf, ()> = BTreeMap::new();
            loop {
                let last = is_over.load(Ordering::Relaxed);
                let folder = place.path().join("killed").join(SAMPLES);
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten().filter(is_sample) {
                    let name = Path::new(SAMPLES).join(entry.file_name());
                    let bytes = fs::read(entry.path()).expect("a file under its final name stays");
                    assert!(bytes == alone[&name], "{} is not whole", name.display());
                    seen.insert(name, ());
                }
                if last {
                    return seen.len();
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        for k in 0..n_kill {
            // The moments are spread over most of the run.
            let (slice, late) = (4 * n_sample / (5 * n_kill), Duration::from_micros(random(30_000)));
            let wanted = k * slice + random(slice as u64) as usize;
            let mut child = place.start(&format!("{run} --out killed"));
            let started = Instant::now();
            while place.n_sample("killed") < wanted.max(1) {
                assert!(started.elapsed() < Duration::from_secs(120), "no {wanted} samples");
                assert!(child.try_wait().unwrap().is_none(), "the run was over before {wanted} samples");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(late);
            assert!(child.try_wait().unwrap().is_none(), "the run was over before it was killed");
            child.kill().unwrap();
            child.wait().unwrap();
            println!("kill {k}: {late:?} after {wanted} samples, {} there", place.n_sample("killed"));
        }
        let (message, code) = place.refused("design merge killed");
        assert!(code == 1 && message.contains("missing backbones of samples"), "{message}");
        assert!(message.contains(&format!("--n-samples {n_sample}")), "{message}");
        let parts: Vec<Child> = (0..3).map(|i| place.start(&format!("{run} --out killed --shard {i}/3"))).collect();
        parts.into_iter().for_each(|mut part| assert!(part.wait().unwrap().success()));
        is_over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert_eq!(n_seen, n_sample);
    place.succeed("design merge killed");
    let killed = place.results("killed");
    assert_eq!(killed.keys().collect::<Vec<_>>(), alone.keys().collect::<Vec<_>>(), "and nothing else is left");
    assert!(killed == alone);
}

#[test]
fn a_run_killed_three_times_is_finished_in_three_parts_with_the_same_bytes() {
    survives(40, 60, 3);
}

/// `cargo test --release --test cli -- --ignored two_hundred --nocapture`: about a minute.
#[test]
#[ignore = "takes minutes"]
fn two_hundred_samples_killed_ten_times_are_finished_in_three_parts_with_the_same_bytes() {
    survives(200, 100, 10);
}

#[test]
#[cfg(unix)]
fn a_signal_or_the_end_of_the_time_stops_between_two_steps() {
    let place = Place::new();
    let run = format!("{RUN} --n-samples 6 --n-step 300 --batch-size 1");
    for name in ["TERM", "INT"] {
        let out = format!("stopped-{name}");
        let mut child = place.command(&format!("{run} --out {out}")).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while place.n_sample(&out) < 1 {
            assert!(started.elapsed() < Duration::from_secs(120), "no sample");
            assert!(child.try_wait().unwrap().is_none(), "the run is over");
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{message}");
        assert!(message.contains("stopped by a signal") && message.contains("the same command goes on"), "{message}");
        assert!((1..6).contains(&place.n_sample(&out)));
    }
    let (message, code) = place.refused(&format!("{run} --out timed --max-time 0s"));
    assert!(code == 75 && message.contains("--max-time"), "{message}");
    place.succeed(&format!("{run} --out stopped-TERM"));
    place.succeed(&format!("{run} --out timed --max-time 1h"));
    assert_eq!(place.results("stopped-TERM"), place.results("timed"));
}

/// On a file system of 256 KiB in a mount namespace of its own, where the system lets a user make one.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one_line_and_loses_nothing() {
    let place = Place::new();
    let run = format!("{RUN} --n-samples 40 --n-step 3 --batch-size 4");
    place.succeed(&format!("{run} --out alone"));
    fs::create_dir(place.path().join("small")).unwrap();
    let program = env!("CARGO_BIN_EXE_fold");
    let script = format!(
        "mount -t tmpfs -o size=256k tmpfs small || exit 99\n{program} {run} --out small/out\ncode=$?\n\
         cp -r small/out kept; ls -A small/out/{SAMPLES} > listed; exit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]).current_dir(place.path());
    let Ok(output) = command.env("FOLD_WEIGHTS", place.path().join("weights")).output() else {
        eprintln!("skipped: there is no unshare");
        return;
    };
    let message = text(&output.stderr);
    let code = output.status.code();
    if code == Some(99) || message.contains("unshare:") {
        eprintln!("skipped: no file system can be mounted here: {message}");
        return;
    }
    assert_eq!(code, Some(74), "{message}");
    let last: Vec<&str> = message.lines().filter(|line| !line.contains('%')).collect();
    assert_eq!(last.len(), 1, "{message}");
    assert!(last[0].contains("finished results are kept") && last[0].contains("No space left"), "{message}");
    let listed = fs::read_to_string(place.path().join("listed")).unwrap();
    assert!(listed.lines().count() > 2 && listed.lines().all(|name| name.starts_with("crop_sample_")), "{listed}");
    let (kept, alone) = (place.results("kept"), place.results("alone"));
    assert!(kept.iter().all(|(path, bytes)| alone[path] == *bytes));
    place.succeed(&format!("{run} --out kept"));
    assert_eq!(place.results("kept"), alone);
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Place::new();
    place.succeed(&format!("{RUN} --n-samples 3 --n-step 2 --out out"));
    let before = place.results("out");
    for (options, code, expected) in [
        ("--n-samples 3 --n-step 3", 2, "n_step of the backbones was 2, now 3"),
        ("--n-samples 3 --n-step 2 --eta-type piecewise_65", 2, "eta_type of the backbones was \"const\""),
        ("--n-samples 2 --n-step 2", 2, "n_samples was 3, now 2"),
        ("--n-samples 3 --n-step 2 --shard 2/2", 2, "parts are counted from 0"),
        ("--n-samples 3 --n-step 2 --batch-size 100000000", 2, "samples fit the memory"),
        ("--n-samples 3 --n-step 2 --dtype bf16", 2, "bf16: is not served yet"),
        ("--n-samples 3 --n-step 2 --eta-min 0", 2, "give a number above 0"),
        ("--n-samples 3 --n-step 2 --eta-type steps", 2, "piecewise_70"),
        ("--n-samples 3 --n-step 2 --max-time soon", 2, "such as 23h"),
        ("--n-samples 3 --n-step 2 --weights none.safetensors", 66, "none.safetensors"),
    ] {
        let (message, found) = place.refused(&format!("{RUN} --out out {options}"));
        assert!(found == code && message.contains(expected), "{options}: {found} {message}");
    }
    let task = fs::read_to_string(place.path().join("crop.yaml")).unwrap();
    fs::write(place.path().join("crop.yaml"), task.replace("binder_length: 12", "binder_length: 11")).unwrap();
    let (message, code) = place.refused(&format!("{RUN} --n-samples 3 --n-step 2 --out out"));
    assert!(code == 2 && message.contains("of the backbones was"), "{message}");
    assert_eq!(place.results("out"), before);
    fs::remove_dir_all(place.path().join("weights")).unwrap();
    let (message, code) = place.refused(RUN);
    assert!(code == 66 && message.contains("fold weights convert pxdesign"), "{message}");
    let (message, code) = place.refused("design merge weights-that-are-not-there");
    assert!(code == 66, "{message}");
    assert_eq!(place.refused("design").1, 2);
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let place = Place::new();
    let lines = json_lines(&place.succeed(&format!("{RUN} --n-samples 30 --shard 1/3 --dry-run")));
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["tokens"], &lines[0]["missing"]), (&(25 + 12).into(), &10.into()));
    assert!(lines[0]["estimated_peak_bytes"].as_u64().unwrap() < lines[0]["available_bytes"].as_u64().unwrap());
    assert!(!place.path().join("out").exists());
}

#[test]
fn parts_in_folders_of_their_own_are_merged_where_they_are() {
    let place = Place::new();
    let run = format!("{RUN} --n-samples 5 --n-step 3");
    place.succeed(&format!("{run} --out first --shard 0/2"));
    let (message, code) = place.refused("design merge first");
    assert!(code == 1 && message.contains("missing backbones of samples 1, 3"), "{message}");
    place.succeed(&format!("{run} --out second --shard 1/2"));
    let second = place.results("second");
    let said = text(&place.succeed("design merge first second").stderr);
    assert!(said.contains("5 of 5 samples are ranked"), "{said}");
    assert_eq!(place.results("second"), second, "the others are only read");
    let table = fs::read_to_string(place.path().join("first/design_outputs/crop/summary.csv")).unwrap();
    assert!(table.contains("second/crop/seed_42/predictions/crop_sample_3.cif"), "{table}");
    assert!(!place.path().join("first").join(SAMPLES).join("crop_sample_3.cif").exists());
    place.succeed(&format!("{RUN} --n-samples 5 --n-step 4 --out other"));
    let (message, code) = place.refused("design merge first other");
    assert!(code == 2 && message.contains("n_step of the backbones"), "{message}");
}

impl Place {
    /// With the small weights of the later stages.
    pub fn with_filters() -> Self {
        let place = Self::new();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let parameters = place.path().join("params_model_1_ptm.npz");
        fs::copy(fixtures.join("af2/params_model_1_ptm.npz"), &parameters).unwrap();
        let config = fixtures.join("af2/model_1_ptm_config.json");
        place.succeed(&format!("weights convert af2 {} --config {}", parameters.display(), config.display()));
        let mpnn = fixtures.join("mpnn/soluble_model_weights/v_48_020.pt");
        let sizes = r#"{"c": 16, "n_encoder": 3, "n_decoder": 3, "n_neighbour": 48}"#;
        fs::write(place.path().join("mpnn.json"), sizes).unwrap();
        place.succeed(&format!("weights convert mpnn {} --config mpnn.json", mpnn.display()));
        place
    }

    pub fn table(&self, folder: &str) -> String {
        fs::read_to_string(self.path().join(folder).join("design_outputs/crop/summary.csv")).unwrap()
    }
}

const PREVIEW: &str = "design crop.yaml --soluble --device cpu --n-step 3";

#[test]
fn every_stage_is_kept_and_a_killed_run_is_finished_in_parts() {
    let place = Place::with_filters();
    let run = format!("{PREVIEW} --n-samples 5");
    let lines = json_lines(&place.succeed(&format!("{run} --out alone --json")));
    let stages: Vec<_> = lines.iter().map(|line| line["stage"].as_str().unwrap()).collect();
    let of = |stage: &str| stages.iter().filter(|s| **s == stage).count();
    assert_eq!(["backbones", "sequences", "af2"].map(of), [5; 3]);
    let sequence = lines[5]["sequence"].as_str().unwrap();
    assert!(sequence.len() == 12 && !sequence.contains('C'), "{sequence}");
    let alone = place.results("alone");
    let table = place.table("alone");
    assert!(table.starts_with("rank,task_name,sequence,AF2-IG-easy-success,AF2-IG-success,af2_plddt,"), "{table}");
    assert_eq!(table.lines().count(), 6, "{table}");
    let first: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((first[0], first[1]), ("1", "crop"));
    // The designed backbone has the residues of the sequence, and the atoms of the backbone.
    let ranked = text(&alone[Path::new("design_outputs/crop/orig_designed/rank_1.cif")]);
    assert!(!ranked.contains("xpb") && ranked.contains(" B0 2 12 "), "{ranked}");
    let backbones: Vec<String> =
        (0..5).map(|i| text(&alone[Path::new(&format!("{SAMPLES}/crop_sample_{i}.cif"))])).collect();
    let coordinates = |text: &str| -> Vec<String> {
        let atoms = text.lines().filter(|line| line.starts_with("ATOM "));
        atoms.map(|line| line.split(' ').skip(14).collect::<Vec<_>>().join(" ")).collect()
    };
    assert!(backbones.iter().any(|backbone| coordinates(backbone) == coordinates(&ranked)));

    let mut child = place.start(&format!("{run} --out killed"));
    let af2 = place.path().join("killed").join(SAMPLES).join("af2_pred/crop_sample_1.json");
    let started = Instant::now();
    while !af2.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no result of the filter");
        assert!(child.try_wait().unwrap().is_none(), "the run is over");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (message, code) = place.refused("design merge killed");
    assert!(code == 1 && message.contains("missing af2 of samples") && message.contains("--soluble"), "{message}");
    let parts: Vec<Child> = (0..2).map(|i| place.start(&format!("{run} --out killed --shard {i}/2"))).collect();
    parts.into_iter().for_each(|mut part| assert!(part.wait().unwrap().success()));
    place.succeed("design merge killed");
    assert_eq!(place.results("killed"), alone);

    // A stage whose files are taken away is made again, alone.
    ["sequences", "af2_pred"].iter().for_each(|stage| {
        fs::remove_dir_all(place.path().join("killed").join(SAMPLES).join(stage)).unwrap();
    });
    assert_eq!(json_lines(&place.succeed(&format!("{run} --out killed --json"))).len(), 10);
    assert_eq!(place.results("killed"), alone);

    // Backbones that were made alone are filtered later.
    place.succeed(&format!("{RUN} --n-samples 5 --n-step 3 --out later"));
    place.succeed(&format!("{run} --out later"));
    assert_eq!(place.results("later"), alone);
}

#[test]
fn designs_that_pass_are_first_and_may_end_the_run() {
    let place = Place::with_filters();
    place.succeed(&format!("{PREVIEW} --n-samples 3 --out out"));
    let before = place.table("out");
    let scores = place.path().join("out").join(SAMPLES).join("af2_pred/crop_sample_2.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&scores).unwrap()).unwrap();
    for (key, value) in
        [("pLDDT", 0.95), ("i_pTM", 0.9), ("i_pAE", 0.1), ("unscaled_i_pAE", 3.1), ("bound_unbound_RMSD", 0.5)]
    {
        record[key] = value.into();
    }
    fs::write(&scores, record.to_string()).unwrap();
    // The passing one is among the first ten: the next ten are not begun.
    let said = text(&place.succeed(&format!("{PREVIEW} --n-samples 30 --stop-after 1 --out out")).stderr);
    assert!(said.contains("1 designs pass") && said.contains("10 of 30 samples are ranked"), "{said}");
    assert_eq!(place.n_sample("out"), 10);
    let table = place.table("out");
    assert_ne!(before, table);
    assert_eq!(table.lines().count(), 11);
    let first = table.lines().nth(1).unwrap();
    assert!(first.contains(",True,") && first.ends_with("af2,passing-AF2-IG-easy/rank_1.cif,1,True"), "{first}");
    let outputs = place.path().join("out/design_outputs/crop");
    let passing = fs::read(outputs.join("passing-AF2-IG-easy/rank_1.cif")).unwrap();
    assert_eq!(passing, fs::read(scores.with_file_name("crop_sample_2_complex.cif")).unwrap());
    let (message, code) = place.refused("design crop.yaml --device cpu --n-step 3 --n-samples 30 --out out");
    assert!(code == 66 && message.contains("fold weights convert mpnn"), "{message}");
    let (message, code) = place.refused(&format!("{RUN} --stop-after 3"));
    assert!(code == 2 && message.contains("--stop-after is not for"), "{message}");
}
