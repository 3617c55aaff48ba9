//! The report of `fold design`: its plots and its page.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::design::Place;
use crate::predict::files;

const PREVIEW: &str = "design crop.yaml --soluble --device cpu --n-step 3";
const PLOTS: [&str; 3] = ["ipae_iptm.png", "rmsd.png", "yield.png"];

/// The page, and what its script reads.
fn page(outputs: &Path) -> (String, Value) {
    let html = fs::read_to_string(outputs.join("report.html")).unwrap();
    let data = html.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    let data = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    (html, data)
}

/// The cells of a column of the page's table.
fn column(data: &Value, key: &str) -> Vec<Value> {
    let at = data["columns"].as_array().unwrap().iter().position(|column| column[0] == key).unwrap();
    data["rows"].as_array().unwrap().iter().map(|row| row[at].clone()).collect()
}

/// Cells of a column of `summary.csv`.
fn of_table(table: &str, name: &str) -> Vec<String> {
    let at = table.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    table.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().to_owned()).collect()
}

/// The number in a tile of the page.
fn tile(html: &str, name: &str) -> usize {
    let rest = html.split(&format!("<dt>{name}</dt><dd>")).nth(1).unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

fn names(outputs: &Path) -> BTreeSet<String> {
    files(outputs).keys().map(|path| path.display().to_string()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Every link of the table leads to a file.
fn assert_links(outputs: &Path, data: &Value, n: usize) {
    let links = column(data, "files");
    let links: Vec<PathBuf> =
        links.iter().flat_map(|l| l.as_array().unwrap()).map(|l| l[1].as_str().unwrap().into()).collect();
    assert_eq!(links.len(), n);
    assert!(links.iter().all(|path| path.is_relative() && outputs.join(path).is_file()), "{links:?}");
}

#[test]
fn a_filtered_run_has_plots_and_a_page_that_agree_with_the_table() {
    let place = Place::with_filters();
    place.succeed(&format!("{PREVIEW} --n-samples 4 --out out"));
    let outputs = place.path().join("out/design_outputs/crop");
    let expected = ["summary.csv", "task_info.json", "report.html", "ipae_iptm.png", "rmsd.png", "yield.png"];
    let ranks = [
        "orig_designed/rank_1.cif",
        "orig_designed/rank_2.cif",
        "orig_designed/rank_3.cif",
        "orig_designed/rank_4.cif",
    ];
    let all = set(&[&expected[..], &ranks[..]].concat());
    assert_eq!(names(&outputs), all);
    for (name, size) in PLOTS.iter().zip([(1167, 1178), (1223, 1023), (1306, 834)]) {
        let image = tiny_skia::Pixmap::decode_png(&fs::read(outputs.join(name)).unwrap()).unwrap();
        assert_eq!((image.width(), image.height()), size, "{name}");
    }
    let (html, data) = page(&outputs);
    assert_eq!(html.matches("<img ").count(), 3);
    assert_eq!([tile(&html, "expected"), tile(&html, "done"), tile(&html, "pass all filters")], [4, 4, 0]);
    assert_eq!(data["structures"].as_array().unwrap().len(), 4, "the best, where none passes");
    assert_eq!(data["hotspots"]["A0"], serde_json::json!([40, 99, 103]));
    assert!(!html.contains("What is missing") && !html.contains("--n-samples"), "a whole run needs no command");
    assert_links(&outputs, &data, 8);

    // One design passes.
    let scores = place.path().join("out/crop/seed_42/predictions/af2_pred/crop_sample_2.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&scores).unwrap()).unwrap();
    for (key, value) in
        [("pLDDT", 0.85), ("i_pTM", 0.9), ("i_pAE", 0.3), ("unscaled_i_pAE", 9.3), ("bound_unbound_RMSD", 0.5)]
    {
        record[key] = value.into();
    }
    fs::write(&scores, record.to_string()).unwrap();
    place.succeed("design merge out");
    let mut with_passing = all.clone();
    with_passing.insert("passing-AF2-IG-easy/rank_1.cif".to_owned());
    assert_eq!(names(&outputs), with_passing);
    let table = fs::read_to_string(outputs.join("summary.csv")).unwrap();
    let (html, data) = page(&outputs);
    for (tile_name, csv) in [("pass AF2-IG-easy", "AF2-IG-easy-success"), ("pass AF2-IG", "AF2-IG-success")] {
        let n = of_table(&table, csv).iter().filter(|cell| *cell == "True").count();
        assert_eq!(tile(&html, tile_name), n, "{csv}");
    }
    assert_eq!(tile(&html, "pass all filters"), 1);
    for (key, csv) in [
        ("rank", "rank"),
        ("sequence", "sequence"),
        ("ipae", "af2_ipAE"),
        ("complex_rmsd", "af2_complex_pred_design_rmsd"),
    ] {
        let of_page: Vec<String> = column(&data, key)
            .iter()
            .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned).replace("null", ""))
            .collect();
        assert_eq!(of_page, of_table(&table, csv), "{key}");
    }
    assert_eq!(
        (&column(&data, "sample")[0], &column(&data, "passes")[0]),
        (&2.into(), &serde_json::json!(["AF2-IG-easy"]))
    );
    assert_eq!(data["structures"].as_array().unwrap().len(), 1, "the one that passes");
    assert!(data["structures"][0]["plddt"].is_string() && data["structures"][0]["design"].is_object());
    assert_links(&outputs, &data, 9);

    // The same run, the same bytes.
    let before = files(&outputs);
    place.succeed("design merge out");
    assert_eq!(files(&outputs), before);
}

#[test]
fn a_run_in_progress_tells_what_is_missing() {
    let place = Place::with_filters();
    place.succeed(&format!("{PREVIEW} --n-samples 4 --out out --shard 0/2"));
    let output = place.command("design merge out").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let outputs = place.path().join("out/design_outputs/crop");
    let (html, data) = page(&outputs);
    assert_eq!(["expected", "done", "missing"].map(|name| tile(&html, name)), [4, 2, 2]);
    assert_eq!(column(&data, "sample").len(), 2);
    assert!(html.contains("<li>seed 42: backbones of samples 1, 3</li>"));
    assert!(html.contains("<pre>fold design crop.yaml --out out --n-samples 4"));
    assert!(PLOTS.iter().all(|name| outputs.join(name).is_file()));

    // Nothing is scored yet: the plots say so.
    fs::remove_dir_all(place.path().join("out/crop/seed_42/predictions/af2_pred")).unwrap();
    assert_eq!(place.command("design merge out").output().unwrap().status.code(), Some(1));
    let (html, data) = page(&outputs);
    assert_eq!((tile(&html, "done"), column(&data, "rank").len()), (0, 0));
    assert!(PLOTS.iter().all(|name| tiny_skia::Pixmap::decode_png(&fs::read(outputs.join(name)).unwrap()).is_ok()));
}

#[test]
fn a_name_that_is_markup_stays_text_and_backbones_have_a_page_too() {
    let place = Place::new();
    place.succeed("design crop.yaml --preset backbones --device cpu --n-step 2 --n-samples 3 --out out");
    // Task files with such a name are refused; the settings of a run are a file like any other.
    let settings = place.path().join("out/crop/run.json");
    let mut run: Value = serde_json::from_slice(&fs::read(&settings).unwrap()).unwrap();
    run["task_name"] = "</script><script>alert(1)</script> & 'a'".into();
    fs::write(&settings, run.to_string()).unwrap();
    place.succeed("design merge out");
    let outputs = place.path().join("out/design_outputs/crop");
    assert_eq!(names(&outputs), set(&["report.html", "summary.csv"]));
    let (html, data) = page(&outputs);
    assert!(!html.contains("<script>alert"));
    assert!(html.contains("<h1>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;a&#39;</h1>"));
    assert_eq!(html.matches("</script").count(), 4);
    assert_eq!(column(&data, "sample"), [0, 1, 2].map(Value::from));
    assert!(data["structures"].as_array().unwrap().iter().all(|structure| structure["plddt"].is_null()));
    assert_links(&outputs, &data, 3);
}
