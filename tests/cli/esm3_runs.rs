//! Runs of `fold esm3` over many samples and prompts: nothing that a sample is depends on what runs beside it, on order, processes or
//! kills; what is wrong with one prompt does not touch the others.
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::esm3::{Home, fixture, length};

const PROMPTS: &str = ">p\nMKT____KQR|ISFVK\n>q\nACDEFGHIKL__\n>r\nM_KV\n>s\n____________AY\n";
const WARM: [&str; 6] = ["--temperature", "2", "--no-annealing", "--num-steps", "3", "--format=cif,pdb"];

/// The files below a folder by path; hidden ones are unfinished.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Files that hold a sample.
fn samples(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    files(folder).into_iter().filter(|(name, _)| name.contains("_sample-")).collect()
}

#[test]
fn batches_orders_and_shards_change_nothing() {
    let home = Home::new();
    let prompts = home.write("p.fasta", PROMPTS);
    let run = |prompts: &str, more: &[&str]| {
        let common = ["esm3", "generate", prompts, "--n-samples", "3"];
        home.said(&[&common[..], &WARM, more].concat())
    };
    run(&prompts, &["-o", "all"]);
    let all = samples(&home.path("all"));
    assert_eq!(all.len(), 4 * 3 * 4, "{:?}", all.keys());
    let table = std::fs::read_to_string(home.path("all/samples.csv")).unwrap();
    assert!(table.lines().count() == 13 && table.contains("p,0,") && table.contains("s/s_sample-2.json"), "{table}");

    run(&prompts, &["-o", "alone", "--batch-tokens", "1"]);
    assert!(files(&home.path("alone")) == files(&home.path("all")), "one sample at a time");
    run(&prompts, &["-o", "some", "--batch-tokens", "40", "--threads", "1"]);
    assert!(files(&home.path("some")) == files(&home.path("all")), "a few samples at a time");

    home.said(&["weights", "quantise", "esm3", "--bits", "4"]);
    run(&prompts, &["-o", "four", "--dtype=int4"]);
    run(&prompts, &["-o", "four_alone", "--dtype=int4", "--batch-tokens", "1"]);
    assert!(samples(&home.path("four")) != all, "other weights");
    assert!(files(&home.path("four_alone")) == files(&home.path("four")), "quantised, one sample at a time");

    let mut records: Vec<String> = PROMPTS.split('>').skip(1).map(|record| format!(">{record}")).collect();
    records.reverse();
    let reversed = home.write("r.fasta", &records.concat());
    run(&reversed, &["-o", "reversed"]);
    assert!(samples(&home.path("reversed")) == all, "prompts in another order");

    for shard in ["2/3", "0/3", "1/3"] {
        let lines = run(&prompts, &["-o", "shards", "--shard", shard, "--json"]);
        assert_eq!(lines.lines().count(), 4, "{lines}");
    }
    assert!(samples(&home.path("shards")) == all, "three processes");
    assert_eq!(run(&prompts, &["-o", "shards", "--json"]), "", "all is there");
    assert!(files(&home.path("shards")) == files(&home.path("all")), "the run after three processes");
    home.refused(&["esm3", "generate", &prompts, "--shard", "3/3"], 2, "the last of 3 is 2/3");

    // More samples leave the first ones as they are, and other formats are made of what is there.
    let wider = [&["esm3", "generate", &prompts, "--n-samples=4", "-o", "alone"][..], &WARM].concat();
    home.said(&wider);
    let more = samples(&home.path("alone"));
    assert!(more.len() == 4 * 4 * 4 && all.iter().all(|(name, bytes)| more[name] == *bytes));
    for name in all.keys().filter(|name| name.ends_with(".pdb")) {
        std::fs::remove_file(home.path("all").join(name)).unwrap();
    }
    assert_eq!(run(&prompts, &["-o", "all", "--json"]), "");
    assert!(samples(&home.path("all")) == all, "structure files come back from the documents");
    home.refused(&[&["esm3", "generate", &prompts, "-o", "all", "--seed", "1"][..], &WARM].concat(), 2, "--overwrite");
    run(&prompts, &["-o", "all", "--seed=1", "--overwrite"]);
    assert!(samples(&home.path("all")) != all);
}

#[test]
fn a_killed_run_goes_on() {
    let home = Home::new();
    let prompts = home.write("p.fasta", PROMPTS);
    let run =
        ["esm3", "generate", &prompts, "--n-samples", "25", "--batch-tokens", "64", "--num-steps", "4", "-T", "2"];
    let run: Vec<&str> = run.into_iter().map(|a| if a == "-T" { "--temperature" } else { a }).collect();
    home.said(&[&run[..], &["-o", "whole"]].concat());
    let whole = files(&home.path("whole"));
    let mut kills = 0;
    for least in [1, 40, 90, 200] {
        let mut child =
            home.command(&[&run[..], &["-o", "killed"]].concat()).stderr(std::process::Stdio::null()).spawn().unwrap();
        while samples(&home.path("killed")).len() < least && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        let found = samples(&home.path("killed"));
        assert!(found.iter().all(|(name, bytes)| whole[name] == *bytes), "what is there is whole");
        assert!(found.len() >= least.min(whole.len() - 10));
    }
    assert!(kills >= 2, "{kills} of four runs were killed in time");
    home.said(&[&run[..], &["-o", "killed"]].concat());
    assert!(files(&home.path("killed")) == whole);
}

#[test]
fn a_wrong_prompt_does_not_stop_the_others() {
    let home = Home::new();
    let list = home.write(
        "list.json",
        r#"[{"name": "one", "sequence": "MK_AY"},
 {"name": "bad", "sequence": "MKJAY"},
 {"name": "typo", "sequense": "MK"},
 {"name": "one", "sequence": "MK_"},
 {"sequence": "M__V", "generate": [{"track": "sequence", "num_steps": 1}, {"track": "ss8", "temperature": 0}]},
 {"name": "full", "sequence": "MKV", "generate": [{"track": "sequence"}]},
 {"name": "steps", "sequence": "M_V", "generate": [{"track": "sequence", "num_steps": 0}]}]"#,
    );
    let output = home.fold(&["esm3", "generate", &list, "--num-steps", "2", "--json"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    let failed = home.json("out/failed.json");
    let names: Vec<&str> = failed.as_array().unwrap().iter().filter_map(|f| f["prompt"].as_str()).collect();
    assert_eq!(names, ["bad", "typo", "one", "full", "steps"]);
    for line in [
        "bad: sequence: \"J\" at position 3 is no amino acid",
        "list.json: document 3: line 3, column 28: unknown field `sequense`",
        "one: prompt 4 has the name of prompt 1",
        "steps: generate[0]: num_steps is 1 or more",
        "full: sequence: nothing is masked on the track",
        "5 of 7 prompts failed: out/failed.json",
    ] {
        assert_eq!(stderr.lines().filter(|l| l.contains(line)).count(), 1, "{line:?} in\n{stderr}");
    }
    let own = home.json("out/list_5/list_5_sample-0.json");
    assert!(own["secondary_structure"].as_str().unwrap().len() == 4 && own["coordinates"].is_null());
    assert_eq!(home.json("out/list_5/run.json")["tracks"][0]["num_steps"], 1);
    // Reading commands go on as well.
    let output = home.fold(&["esm3", "embed", &list]);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).lines().count()), (Some(1), 4));
    // When all is well the list goes.
    home.said(&["esm3", "generate", &home.write("fine.json", r#"{"sequence": "M_V"}"#), "--num-steps", "2"]);
    assert!(!home.path("out/failed.json").exists());
}

#[test]
fn what_does_not_fit_is_refused_before_it_begins() {
    let home = Home::new();
    let prompts = home.write("p.fasta", PROMPTS);
    home.refused(&["esm3", "generate", &prompts, "--max-memory", "0"], 2, "--max-memory is more than 0");
    let one = home.write("one.fasta", ">o\nMK__Y\n");
    home.refused(&["esm3", "generate", &one, "--max-memory", "0.001"], 71, "larger machine");
    let long = home.write("long.fasta", &format!(">l\n{}\n", "_".repeat(3000)));
    home.refused(&["esm3", "generate", &long, "--max-memory", "0.3"], 71, "residues fit: shorten it");
    home.refused(&["esm3", "embed", &long, "--max-memory", "0.3"], 71, "needs about");
    assert!(!home.path("out").join("l").exists());
    let lines = home.said(&["esm3", "generate", &prompts, "--dry-run", "--n-samples", "2"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), &first["missing"], &first["residues"]), (4, &2.into(), &16.into()));
    assert_eq!((&first["fits"], &first["steps"]), (&true.into(), &(4 + 15).into()));
    assert!(first["estimated_peak_bytes"].as_u64() > Some(1 << 20) && !home.path("out").exists());
}

#[test]
fn masks_and_added_tracks() {
    let home = Home::new();
    let structure = fixture("made_up.pdb");
    let steps = ["--num-steps", "2", "--track"];
    let encode = |more: &[&str]| {
        home.said(&[&["esm3", "encode", &structure, "-o", "e"], more].concat());
        home.json("e/made_up.json")
    };
    let plain = encode(&[]);
    let masked = encode(&["--mask-sequence", "2-4,27-", "--mask-structure", "6"]);
    let sequence = |v: &Value| v["sequence"].as_str().unwrap().to_owned();
    let (old, new) = (sequence(&plain), sequence(&masked));
    assert_eq!(new, format!("{}___{}_", &old[..1], &old[4..26]));
    assert!(masked["coordinates"][5].is_null() && !plain["coordinates"][5].is_null());
    assert_eq!((&masked["tokens"]["structure"][6], &masked["tokens"]["sequence"][2]), (&4096.into(), &32.into()));

    let tracks = format!(
        r#"{{"secondary_structure": "{}", "residue_annotations": [{{"label": "Active site", "start": 5, "end": 6}}]}}"#,
        "H".repeat(27)
    );
    let label = home.write("with.json", &tracks);
    let description = site_label();
    let label = home.write("with.json", &std::fs::read_to_string(label).unwrap().replace("Active site", &description));
    let encoded = encode(&["--with", &label, "--mask", "1"]);
    let sites = encoded["tokens"]["residue_annotations"].as_array().unwrap();
    assert!(
        sites[5][0].as_u64() >= Some(4)
            && sites[4][0] == 3
            && sites[6] == sites[5]
            && encoded["sequence"].as_str().unwrap().starts_with('_')
    );
    // The design keeps what is not masked; structures of files next to a document; ids that are not drawn.
    home.said(&[&["esm3", "inverse-fold", &structure, "--mask-sequence", "3", "-o", "i"], &steps[..2]].concat());
    let designed = sequence(&home.json("i/made_up/made_up_sample-0.json"));
    assert!(designed.starts_with(&old[..2]) && designed.ends_with(&old[3..]), "{designed}");
    std::fs::copy(&structure, home.path("s.pdb")).unwrap();
    let document = home.write(
        "d.json",
        r#"{"structure_file": "s.pdb", "chain": "B", "mask": {"sequence": "1-20"}, "residue_annotations": []}"#,
    );
    let hydrophobic = "--invalid-ids=A,C,F,I,L,M,V,W,Y,sequence:G";
    home.said(&[&["esm3", "generate", &document, hydrophobic, "-o", "d"], &steps[..], &["sequence"]].concat());
    let designed = sequence(&home.json("d/d/d_sample-0.json"));
    assert!(designed.ends_with(&old[20..]) && !designed[..20].contains(['A', 'C', 'G', 'L', 'V']), "{designed}");

    let refused = |arguments: &[&str], code: i32, expected: &str| {
        home.refused(&[&["esm3", "generate"], arguments].concat(), code, expected);
    };
    refused(&[&structure, "--mask", "20-30"], 65, "residues 20-30 are not in the protein, which has 27");
    refused(&[&structure, "--mask", "x"], 65, "\"x\" is no range of residues");
    refused(&[&structure, "--invalid-ids", "1C"], 2, "--invalid-ids: \"1C\" is no token of the sequence track");
    refused(&[&structure, "--invalid-ids", "beta:C"], 2, "the tracks are sequence");
    refused(&[&structure, "--num-steps", "2,3,4"], 2, "--num-steps has 3 numbers for 2 tracks");
    refused(&[&structure, "--top-p", "2"], 2, "--top-p 2: it is more than 0");
    refused(&[&structure, "--with", &home.write("two.json", "[{}, {}]")], 65, "holds several documents");
    let wrong = home.write(
        "w.json",
        r#"{"sequence": "M_KV", "residue_annotations": [{"label": "no such", "start": 1, "end": 1}]}"#,
    );
    refused(&[&wrong], 65, "\"no such\" is no label");
    let wrong = home.write("w.json", &format!(r#"{{"sequence": "M_KV", "residue_annotations": [{{"label": "{description}", "start": 3, "end": 3, "residues": "A"}}]}}"#));
    refused(&[&wrong], 65, "the sequence has K there, not A");
    refused(&[&home.write("w.json", r#"{"structure_file": "none.pdb"}"#)], 65, "none.pdb: cannot be read");
    refused(&[&home.write("w.json", r#"{"sequence": "M_", "chain": "A"}"#)], 65, "chain is of a structure_file");
    refused(&[&home.write("w.json", r#"{"sequence": "M_|"}"#)], 65, "a chain is empty");
    refused(&[&home.write("w.json", r#"{"sequence": "M_", "sasa": [1, -2]}"#)], 65, "sasa: -2 at position 2");
    refused(&[&home.write("w.json", r#"{"tokens": {"structure": [4098, 9000, 4097]}}"#)], 65, "9000 in entry 2");
    refused(
        &[&home.write("w.json", "{\"sequence\": \"M_\",\n \"sasa\": \"x\"}")],
        65,
        "w.json: line 2, column 12: invalid type",
    );
    let none = home.write("f.json", r#"{"sequence": "M_K", "generate": [{"track": "function", "temperature": 0}]}"#);
    refused(&[&none], 65, "function: the function track needs a temperature above 0");
}

/// A description of the made-up list of sites.
fn site_label() -> String {
    let table = fixture("data/uniref90_and_mgnify90_residue_annotations_gt_1k_proteins.csv");
    let table = std::fs::read_to_string(table).unwrap();
    table.lines().nth(1).unwrap().split('"').nth(1).unwrap().to_owned()
}

#[test]
fn scores_and_functions() {
    let home = Home::new();
    let prompt = home.write("p.fasta", ">p\nMKT_YIXKQR\n>q\nACDEF\n");
    let lines = home.said(&["esm3", "score", &prompt, "--json"]);
    let scores: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let likelihood = scores[0]["log_likelihood"].as_array().unwrap();
    assert!(likelihood[3].is_null() && likelihood[6].is_null() && scores.len() == 2);
    let sum: f64 = likelihood.iter().filter_map(Value::as_f64).sum();
    assert!(sum < 0. && (sum - scores[0]["pseudo_log_likelihood"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(home.json("out/p_score.json"), scores[0]);
    // As from the logits of the sequence with one residue masked.
    home.said(&[
        "esm3",
        "logits",
        &home.write("m.fasta", ">m\nAC_EF\n"),
        "--track",
        "sequence,residue-annotations",
        "-o",
        "l",
    ]);
    let arrays =
        candle_core::safetensors::load(home.path("l/m_logits.safetensors"), &candle_core::Device::Cpu).unwrap();
    assert_eq!(arrays["residue_annotations"].dims(), [7, 1478]);
    let logits: Vec<f32> = arrays["sequence"].get(3).unwrap().to_vec1().unwrap();
    let sum = logits[4..24].iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
    let want = f64::from(logits[13]) - sum;
    assert!((scores[1]["log_likelihood"][2].as_f64().unwrap() - want).abs() < 1e-5, "{want}");
    home.refused(&["esm3", "score", &home.write("n.fasta", ">n\n___\n")], 65, "no amino acid to score");

    let lines = home.said(&["esm3", "annotate", &prompt, "--num-steps", "2", "--json", "-o", "a"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(first["function"].is_array() || first["function"].is_null());
    assert_eq!(length(&home.json("a/p/p_sample-0.json")["tokens"]["function"]), 12);
}

/// The commands of the README: from a masked sequence to a structure file.
#[test]
fn the_readme_runs() {
    let home = Home::empty();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let block = readme.split("<!-- esm3 -->").nth(1).unwrap().split("<!-- end -->").next().unwrap();
    let commands: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("fold ")).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let words = command.split_whitespace().map(|word| match word.split_once('/') {
            Some(("fixtures" | "examples", _)) => root.join(word).display().to_string(),
            _ => word.to_owned(),
        });
        let words: Vec<String> = words.collect();
        home.said(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let result = home.json("out-esm3/masked/masked_sample-0.json");
    assert!(!result["sequence"].as_str().unwrap().contains('_') && length(&result["plddt"]) == 76);
    assert!(home.path("out-esm3/masked/masked_sample-0.cif").is_file());
}
