//! `fold design --preset extended`: the second filter, by small networks of random numbers.
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::design::{Place, SAMPLES, json_lines, text};

const RUN: &str = "design crop.yaml --soluble --device cpu --n-step 3 --preset extended";
const TMPL: &str = "weights/protenix-mini-tmpl-0.5.0.safetensors";

impl Place {
    /// With the small weights of all filters: those of Protenix without the target's structure are those with it, less what embeds it.
    fn with_second() -> Self {
        let place = Self::with_filters();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/protenix");
        let (checkpoint, config) = (fixtures.join("tiny.pt"), fixtures.join("tiny_config.json"));
        place.succeed(&format!("weights convert protenix {} --config {}", checkpoint.display(), config.display()));
        let bytes = fs::read(place.path().join(TMPL)).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let all = SafeTensors::deserialize(&bytes).unwrap();
        for model in ["protenix-base", "protenix-mini"] {
            let tensors = all.tensors().into_iter().filter(|(name, _)| !name.starts_with("structure."));
            let mut metadata: HashMap<String, String> = header.metadata().clone().unwrap();
            metadata.insert("model".into(), model.into());
            let file = safetensors::serialize(tensors.collect::<Vec<_>>(), Some(metadata)).unwrap();
            fs::write(place.path().join(format!("weights/{model}-0.5.0.safetensors")), file).unwrap();
        }
        place
    }

    fn record(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path().join(path)).unwrap()).unwrap()
    }

    /// Changes numbers of a record.
    fn force(&self, path: &str, numbers: &[(&str, f64)]) {
        let mut record = self.record(path);
        numbers.iter().for_each(|(key, value)| record[*key] = (*value).into());
        fs::write(self.path().join(path), record.to_string()).unwrap();
    }
}

#[test]
fn a_second_network_judges_what_alphafold2_has_judged() {
    let place = Place::with_second();
    let run = format!("{RUN} --n-samples 4");
    let output = place.succeed(&format!("{run} --out alone --json"));
    let said = text(&output.stderr);
    assert!(said.contains("protenix-mini-tmpl is given it"), "a network of random numbers finds no target: {said}");
    assert!(said.contains("without an alignment"), "{said}");
    assert!(said.contains("crop: 0 pass both filters"), "{said}");
    let lines = json_lines(&output);
    let of_stage: Vec<&Value> = lines.iter().filter(|line| line["stage"] == "protenix").collect();
    assert_eq!((lines.len(), of_stage.len()), (16, 4));
    let record = place.record(&format!("alone/{SAMPLES}/ptx_pred/crop_sample_2.json"));
    assert_eq!((&record["network"], &record["target_given"]), (&"protenix-mini-tmpl".into(), &true.into()));
    assert_eq!(record["ptx_pred_design_rmsd"], of_stage[2]["ptx_pred_design_rmsd"]);
    assert!(record["target_rmsd"].as_f64().unwrap() > 2. && record["ptx_pred_design_rmsd"].as_f64().unwrap() > 0.);
    let complex = fs::read_to_string(place.path().join(format!("alone/{SAMPLES}/ptx_pred/crop_sample_2_complex.cif")));
    let complex = complex.unwrap();
    let cas: Vec<&str> = complex.lines().filter(|line| line.starts_with("ATOM ") && line.contains(" CA ")).collect();
    assert_eq!(cas.len(), 25 + 12);
    assert!(cas[0].contains(" A0 1 38 ") && cas[36].contains(" B0 2 12 "), "{}\n{}", cas[0], cas[36]);
    let table = place.table("alone");
    assert!(table.contains(",Protenix-success,Protenix-basic-success,af2_plddt,"), "{table}");
    assert!(table.contains(",ptx_plddt,ptx_ptm_binder,") && table.lines().count() == 5, "{table}");
    let info = place.record("alone/design_outputs/crop/task_info.json");
    assert_eq!(info, serde_json::json!({"mode": "Extended", "protenix": "Protenix-Mini-Templ"}));

    // Killed within the second filter, and finished in parts.
    let alone = place.results("alone");
    let mut child = place.start(&format!("{run} --out killed"));
    let second = place.path().join(format!("killed/{SAMPLES}/ptx_pred/crop_sample_0.json"));
    let started = Instant::now();
    while !second.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no result of the second filter");
        assert!(child.try_wait().unwrap().is_none(), "the run is over");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (message, code) = place.refused("design merge killed");
    assert!(code == 1 && message.contains("missing protenix of samples"), "{message}");
    assert!(message.contains("--preset extended"), "{message}");
    let parts: Vec<_> = (0..3).map(|i| place.start(&format!("{run} --out killed --shard {i}/3"))).collect();
    parts.into_iter().for_each(|mut part| assert!(part.wait().unwrap().success()));
    place.succeed("design merge killed");
    assert!(place.results("killed") == alone);

    // What was judged by AlphaFold2 alone is judged further.
    place.succeed(&format!("{} --n-samples 4 --out later", RUN.replace("extended", "preview")));
    place.succeed(&format!("{run} --out later"));
    assert!(place.results("later") == alone);
}

#[test]
fn designs_that_pass_the_second_filter_are_ranked_by_it() {
    let place = Place::with_second();
    fs::remove_file(place.path().join(TMPL)).unwrap();
    let run = format!("{RUN} --target-template-rmsd never --n-samples 3");
    place.succeed(&format!("{run} --out out"));
    let second = |sample: usize, ending: &str| format!("out/{SAMPLES}/ptx_pred/crop_sample_{sample}{ending}");
    let record = place.record(&second(1, ".json"));
    assert_eq!((&record["network"], &record["target_given"]), (&"protenix-base".into(), &false.into()));
    assert!(record["target_rmsd"].is_null() && record.get("final").is_none());
    let passing = [("ptx_iptm_binder", 0.9), ("ptx_ptm_binder", 0.9), ("ptx_pred_design_rmsd", 1.2), ("ptx_iptm", 0.8)];
    place.force(&second(1, ".json"), &passing);
    let both = [("pLDDT", 0.95), ("i_pTM", 0.9), ("i_pAE", 0.1), ("unscaled_i_pAE", 3.1), ("bound_unbound_RMSD", 0.5)];
    place.force(&format!("out/{SAMPLES}/af2_pred/crop_sample_2.json"), &both);
    place.force(&second(2, ".json"), &passing);
    for sample in [1, 2] {
        fs::copy(place.path().join(second(sample, "_complex.cif")), place.path().join(second(sample, "_final.cif")))
            .unwrap();
    }
    let said = text(&place.succeed("design merge out").stderr);
    assert!(said.contains("crop: 1 pass both filters"), "{said}");
    let table = place.table("out");
    let ends: Vec<&str> = table.lines().skip(1).map(|line| line.split(",ptx,").last().unwrap()).collect();
    assert_eq!(ends[..2], ["passing-Protenix-basic/rank_1.cif,1,True", "passing-Protenix-basic/rank_2.cif,,"]);
    assert!(ends[2].ends_with(",orig,orig_designed/rank_3.cif,,"), "{table}");
    let outputs = place.path().join("out/design_outputs/crop");
    let copied = fs::read(outputs.join("passing-Protenix-basic/rank_2.cif")).unwrap();
    assert_eq!(copied, fs::read(place.path().join(second(1, "_final.cif"))).unwrap());
    assert!(outputs.join("passing-AF2-IG-easy/rank_1.cif").is_file());
    assert!(!outputs.join("passing-AF2-IG-easy/rank_2.cif").exists());
    let page = fs::read_to_string(outputs.join("report.html")).unwrap();
    assert!(page.contains("passing-Protenix-basic/rank_2.cif") && page.contains("Protenix ipTM of binder"));
    assert!(page.contains("<dt>pass all filters</dt><dd>1 "), "one passes both");
    // Three are enough for --stop-after 1, which wants designs that pass both.
    let said = text(&place.succeed(&format!("{run} --stop-after 1 --out out")).stderr);
    assert!(said.contains("crop, seed 42: 1 designs pass"), "{said}");
}

#[test]
fn another_network_has_columns_of_its_own() {
    let place = Place::with_second();
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openfold3");
    let (file, config) = (checkpoint.join("tiny.pt"), checkpoint.join("tiny_config.json"));
    place.succeed(&format!("weights convert openfold3 {} --config {}", file.display(), config.display()));
    let run = format!("{RUN} --n-samples 2 --out out");
    place.succeed(&format!("{run} --second-filter openfold3"));
    let header = place.table("out").lines().next().unwrap().to_owned();
    assert!(header.contains(",OpenFold3-success,OpenFold3-basic-success,") && header.contains(",of3_iptm_binder,"));
    let info = place.record("out/design_outputs/crop/task_info.json");
    assert_eq!(info, serde_json::json!({"mode": "Extended", "openfold3": "OpenFold3"}));
    let before = fs::read(place.path().join(format!("out/{SAMPLES}/of3_pred/crop_sample_1_complex.cif"))).unwrap();
    let cas = text(&before).lines().filter(|line| line.starts_with("ATOM ") && line.contains(" CA ")).count();
    assert_eq!(cas, 25 + 12);
    // Both in one run: Protenix comes first.
    place.succeed(&format!("{run} --second-filter protenix-mini"));
    let header = place.table("out").lines().next().unwrap().to_owned();
    assert!(header.contains(",Protenix-mini-success,") && header.contains(",ptx_mini_iptm_binder,"), "{header}");
    assert_eq!(
        before,
        fs::read(place.path().join(format!("out/{SAMPLES}/of3_pred/crop_sample_1_complex.cif"))).unwrap()
    );
}

#[test]
fn what_the_second_filter_lacks_is_said_before_anything_is_made() {
    let place = Place::with_second();
    let run = format!("{RUN} --n-samples 1 --out out");
    for (options, code, expected) in [
        ("--second-filter boltz", 2, "the networks are protenix, protenix-mini, openfold3"),
        ("--second-filter openfold3", 66, "fold weights pull openfold3"),
        ("--second-filter openfold3 --target-template-rmsd 1", 2, "only protenix has it"),
        ("--target-template-rmsd far", 2, "or never"),
    ] {
        let (message, found) = place.refused(&format!("{run} {options}"));
        assert!(found == code && message.contains(expected), "{options}: {found} {message}");
    }
    let (message, code) = place.refused(&format!("{} --second-filter protenix", run.replace("extended", "preview")));
    assert!(code == 2 && message.contains("--second-filter is for --preset extended"), "{message}");
    fs::remove_file(place.path().join(TMPL)).unwrap();
    let (message, code) = place.refused(&run);
    assert!(code == 66 && message.contains("protenix-mini-tmpl") && message.contains("never"), "{message}");
    fs::remove_file(place.path().join("weights/protenix-base-0.5.0.safetensors")).unwrap();
    let (message, code) = place.refused(&run);
    assert!(code == 66 && message.contains("fold weights pull protenix-base"), "{message}");
    assert!(!place.path().join("out").exists());

    // An alignment of another sequence is a fault of the task.
    fs::create_dir(place.path().join("msa")).unwrap();
    fs::write(place.path().join("msa/pairing.a3m"), ">q\nMK\n").unwrap();
    fs::write(place.path().join("msa/non_pairing.a3m"), "MK\n").unwrap();
    let task =
        fs::read_to_string(place.path().join("crop.yaml")).unwrap().replace("hotspots:", "msa: msa\n      hotspots:");
    fs::write(place.path().join("crop.yaml"), task).unwrap();
    let (message, code) = place.refused("design check crop.yaml");
    assert_eq!(code, 65, "{message}");
    assert!(message.contains("pairing.a3m: the first row must be the query: it has 2 columns"), "{message}");
    assert!(message.contains("non_pairing.a3m: line 1"), "{message}");
}

#[test]
fn a_dry_run_tells_the_memory_of_the_filters() {
    let place = Place::with_second();
    let line = &json_lines(&place.succeed(&format!("{RUN} --n-samples 3 --dry-run")))[0];
    let missing = serde_json::json!({"backbones": 3, "sequences": 3, "af2": 3, "protenix": 3});
    assert_eq!(line["missing_of_stages"], missing);
    let peaks = line["estimated_filter_bytes"].as_object().unwrap();
    assert_eq!(peaks.keys().collect::<Vec<_>>(), ["AlphaFold2", "Protenix"]);
    assert!(peaks.values().all(|bytes| bytes.as_u64().unwrap() > 1 << 20), "{peaks:?}");
}

/// The README's example, from the folder of the package.
#[test]
fn the_example_of_the_readme() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let block = readme.split("<!-- design -->").nth(1).unwrap().split("<!-- end -->").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("fold ")).collect();
    assert_eq!(commands.len(), 5);
    for command in commands {
        let here = |name: &str| folder.path().join(name).display().to_string();
        let command =
            ["small-design", "out-design"].iter().fold(command.to_owned(), |c, name| c.replace(name, &here(name)));
        let output = Command::new(env!("CARGO_BIN_EXE_fold"))
            .args(command.split_whitespace())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}\n{}", text(&output.stderr));
    }
    let table = fs::read_to_string(folder.path().join("out-design/design_outputs/crop/summary.csv")).unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
}
