//! The demonstration model through the command line: what it knows comes out as the experiment found it, with confidence;
//! what it does not know, without. Everything is computed from the files the program writes.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::geometry::{angle, distance, rmsd, superpose, tm_score};

type Point = [f64; 3];
/// (chain, residue number, atom) -> position and B factor.
type Atoms = BTreeMap<(String, usize, String), (Point, f64)>;

const SEEDS: &str = "1,2,3,4,5";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo").join(name)
}

/// Predicts a query file with one sample a seed; the folder of the results.
fn predict(folder: &Path, queries: &Value, seeds: &str, n_step: usize) -> PathBuf {
    let out = folder.join(format!("steps_{n_step}"));
    let query = folder.join("query.json");
    fs::write(&query, queries.to_string()).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_fold"))
        .args(["predict", "--model", "demo", "--n-samples", "1", "--seeds", seeds, "--n-steps", &n_step.to_string()])
        .arg(&query)
        .arg("--out")
        .arg(&out)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// The model files of one query, one a seed.
fn models(out: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(out.join(name)).expect("a folder").map(|e| e.expect("an entry").path());
    let samples = entries.filter(|p| p.is_dir()).map(|p| {
        let sample = p.file_name().expect("a name").to_string_lossy().into_owned();
        p.join(format!("{name}_{sample}_model.cif"))
    });
    samples.collect()
}

fn read_cif(path: &Path) -> Atoms {
    let text = fs::read_to_string(path).expect("a model");
    let rows: Vec<_> = text.lines().collect();
    let columns: Vec<_> = rows.iter().filter_map(|l| l.strip_prefix("_atom_site.")).map(str::trim).collect();
    let column = |name: &str| columns.iter().position(|c| *c == name).expect("the column");
    let (chain, number, atom) = (column("auth_asym_id"), column("label_seq_id"), column("label_atom_id"));
    let (xyz, b) = (["Cartn_x", "Cartn_y", "Cartn_z"].map(column), column("B_iso_or_equiv"));
    let atoms = rows.iter().filter(|l| l.starts_with("ATOM ")).map(|line| {
        let f: Vec<_> = line.split_whitespace().collect();
        let value = |i: usize| f[i].parse::<f64>().expect("a number");
        let key = (f[chain].to_owned(), f[number].parse().expect("a number"), f[atom].to_owned());
        (key, (xyz.map(value), value(b)))
    });
    atoms.collect()
}

fn read_pdb(path: &Path) -> Atoms {
    let text = fs::read_to_string(path).expect("a structure");
    let atoms = text.lines().filter(|l| l.starts_with("ATOM ")).map(|l| {
        let value = |from: usize, to: usize| l[from..to].trim().parse::<f64>().expect("a number");
        let key = (l[21..22].to_owned(), value(22, 26) as usize, l[12..16].trim().to_owned());
        (key, ([value(30, 38), value(38, 46), value(46, 54)], value(60, 66)))
    });
    atoms.collect()
}

/// RMS deviations of backbone bonds (Å) and angles (degrees) from the values of Engh and Huber (2001).
fn backbone(x: &Atoms) -> (f64, f64) {
    // The atom after a bond to the next residue is marked by +.
    const BONDS: [(&str, &str, f64); 4] =
        [("N", "CA", 1.459), ("CA", "C", 1.525), ("C", "O", 1.229), ("C", "+N", 1.336)];
    const ANGLES: [(&str, &str, &str, f64); 5] = [
        ("N", "CA", "C", 111.0),
        ("CA", "C", "O", 120.1),
        ("CA", "C", "+N", 117.2),
        ("O", "C", "+N", 122.7),
        ("C", "+N", "+CA", 121.7),
    ];
    let (mut bonds, mut angles) = (Vec::new(), Vec::new());
    for (chain, number, _) in x.keys().filter(|k| k.2 == "CA") {
        let place = |name: &str| {
            let next = usize::from(name.starts_with('+'));
            x.get(&(chain.clone(), number + next, name.trim_start_matches('+').to_owned())).map(|(p, _)| *p)
        };
        bonds.extend(BONDS.iter().filter_map(|(a, b, ideal)| Some(distance(place(a)?, place(b)?) - ideal)));
        angles
            .extend(ANGLES.iter().filter_map(|(a, b, c, ideal)| Some(angle(place(a)?, place(b)?, place(c)?) - ideal)));
    }
    let rms = |v: &[f64]| (v.iter().map(|d| d * d).sum::<f64>() / v.len() as f64).sqrt();
    (rms(&bonds), rms(&angles))
}

/// Mean B factor of each residue.
fn plddt(x: &Atoms) -> BTreeMap<(String, usize), f64> {
    let mut rows: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for ((chain, number, _), (_, b)) in x {
        rows.entry((chain.clone(), *number)).or_default().push(*b);
    }
    rows.into_iter().map(|(k, v)| (k, mean(&v))).collect()
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len() as f64
}

/// lDDT of each residue over the atoms that both have: distances below 15 Å in the truth, to other residues.
fn lddt(x: &Atoms, truth: &Atoms) -> BTreeMap<(String, usize), f64> {
    let both: Vec<_> = truth.iter().filter_map(|(k, (q, _))| Some((k, *q, x.get(k)?.0))).collect();
    let mut rows: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for (k, q, p) in &both {
        let others = both.iter().filter(|(l, r, _)| (&l.0, l.1) != (&k.0, k.1) && distance(*q, *r) < 15.0);
        let kept: Vec<_> = others
            .map(|(_, r, s)| (distance(*q, *r) - distance(*p, *s)).abs())
            .map(|off| [0.5, 1.0, 2.0, 4.0].iter().filter(|limit| off < **limit).count() as f64 / 4.0)
            .collect();
        if !kept.is_empty() {
            rows.entry((k.0.clone(), k.1)).or_default().push(mean(&kept));
        }
    }
    rows.into_iter().map(|(k, v)| (k, mean(&v))).collect()
}

/// Spearman's rank correlation.
fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |value: &dyn Fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let mut sorted: Vec<f64> = pairs.iter().map(value).collect();
        sorted.sort_by(f64::total_cmp);
        let below = |v: f64, equal: bool| sorted.partition_point(|x| if equal { *x <= v } else { *x < v }) as f64;
        pairs.iter().map(|p| (below(value(p), false) + below(value(p), true)) / 2.0).collect()
    };
    let (a, b) = (ranks(&|p| p.0), ranks(&|p| p.1));
    let (ma, mb) = (mean(&a), mean(&b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// Sequences of the same lengths as the known ones, of letters drawn by a small generator.
fn random_queries(known: &Value, n: usize) -> (Value, Vec<String>) {
    let mut state = 2026_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"ACDEFGHIKLMNPQRSTVWY"[(state >> 33) as usize % 20] as char
    };
    let names: Vec<_> = known.as_object().expect("queries").keys().cloned().collect();
    let mut queries = json!({});
    let mut models = Vec::new();
    for i in 0..n {
        let name = &names[i % names.len()];
        let mut query = known[name].clone();
        for chain in query["chains"].as_array_mut().expect("chains") {
            let length = chain["sequence"].as_str().expect("a sequence").len();
            chain["sequence"] = (0..length).map(|_| letter()).collect::<String>().into();
        }
        queries[format!("random{i}")] = query;
        models.push(name.clone());
    }
    (queries, models)
}

fn known() -> Value {
    let text = fs::read_to_string(fixture("queries.json")).expect("the queries");
    serde_json::from_str::<Value>(&text).expect("JSON")["queries"].take()
}

/// Every seed of every protein, at a number of steps: the fold, its hand, its backbone, its clashes, its confidence.
fn folds(n_step: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let known = known();
    let out = predict(folder.path(), &json!({ "queries": known }), SEEDS, n_step);
    for name in known.as_object().expect("queries").keys() {
        let truth = read_pdb(&fixture(&format!("structures/{name}.pdb")));
        let files = models(&out, name);
        assert_eq!(files.len(), SEEDS.split(',').count());
        for path in files {
            let x = read_cif(&path);
            let ca: Vec<_> = truth.iter().filter(|(k, _)| k.2 == "CA").map(|(k, (q, _))| (x[k].0, *q)).collect();
            let (p, q): (Vec<Point>, Vec<Point>) = ca.into_iter().unzip();
            let (tm, away) = (tm_score(&p, &q), rmsd(&p, &q));
            let (bonds, angles) = backbone(&x);
            let plddt = mean(&plddt(&x).into_values().collect::<Vec<_>>());
            let what = format!(
                "{}: TM {tm:.3}, CA RMSD {away:.2} A, bonds {bonds:.3} A, angles {angles:.1} degrees, pLDDT {plddt:.1}",
                path.display()
            );
            // A superposition is a rotation: a mirror image has a TM-score of 0.2 to 0.4.
            assert!(tm >= 0.8 && away <= 2.0, "{what}");
            assert!(bonds <= 0.1 && angles <= 10.0, "{what}");
            assert!(plddt >= 80.0, "{what}");
            let scores = path.with_file_name(
                path.file_name().expect("a name").to_string_lossy().replace("_model.cif", "_summary_confidences.json"),
            );
            let scores: Value = serde_json::from_slice(&fs::read(scores).expect("scores")).expect("JSON");
            assert_eq!(scores["has_clash"], 0.0, "{what}");
            assert!(scores["warning"].as_str().is_some_and(|w| w.starts_with("demonstration only")), "{scores}");
        }
    }
}

#[test]
fn known_proteins_fold_in_20_steps() {
    folds(20);
}

#[test]
fn known_proteins_fold_in_200_steps() {
    folds(200);
}

/// Random sequences have no structure: their lDDT is taken against the protein whose lengths they have.
#[test]
fn confidence_tells_the_known_from_the_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = known();
    let (random, lengths_of) = random_queries(&known, 20);
    let truth = |name: &str| read_pdb(&fixture(&format!("structures/{name}.pdb")));
    let out = predict(folder.path(), &json!({ "queries": known }), "1", 20);
    let mut pairs = Vec::new();
    let mut collect = |x: &Atoms, name: &str| {
        let (confidence, found) = (plddt(x), lddt(x, &truth(name)));
        pairs.extend(found.into_iter().map(|(k, v)| (confidence[&k], v)));
        mean(&confidence.into_values().collect::<Vec<_>>())
    };
    for name in known.as_object().expect("queries").keys() {
        collect(&read_cif(&models(&out, name)[0]), name);
    }
    let out = predict(folder.path(), &json!({ "queries": random }), "1", 20);
    for (i, name) in lengths_of.iter().enumerate() {
        let confidence = collect(&read_cif(&models(&out, &format!("random{i}"))[0]), name);
        assert!(confidence <= 50.0, "random{i}: pLDDT {confidence:.1}");
    }
    let correlation = spearman(&pairs);
    assert!(correlation >= 0.6, "pLDDT and lDDT: {correlation:.3}");
}

/// The weights in the program are what the converter makes of the official checkpoint, to the byte.
#[test]
fn the_weights_are_the_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("demo.safetensors");
    let output = Command::new(env!("CARGO_BIN_EXE_fold"))
        .args(["weights", "convert", "openfold3", "--dtype", "f16", "--out"])
        .arg(&out)
        .arg("--config")
        .arg(fixture("config.json"))
        .arg(fixture("demo.pt"))
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/weights/demo.safetensors");
    let embedded = fs::read(embedded).expect("weights");
    assert!(embedded.len() < 8_000_000);
    assert!(fs::read(out).expect("a file") == embedded, "other weights than those in the program");
}

/// The structure that openfold3 wrote with the same checkpoint, features and seed (`fixtures/demo/README.md`).
#[test]
fn the_official_program_writes_the_same_structure() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_fold"))
        .args(["predict", "--model", "demo", "--n-samples", "1", "--n-steps", "20", "--seeds", "42", "--features"])
        .arg(fixture("official/features.safetensors"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pdp7.json"))
        .arg("--out")
        .arg(folder.path())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let official = read_cif(&fixture("official/official/pdp7_seed_42_sample_1_model.cif"));
    let ours = read_cif(&folder.path().join("pdp7/pdp7_model.cif"));
    assert_eq!(ours.len(), official.len());
    let apart = official.iter().map(|(k, (p, plddt))| (distance(*p, ours[k].0), (plddt - ours[k].1).abs()));
    let (far, off) = apart.fold((0.0_f64, 0.0_f64), |(a, b), (x, y)| (a.max(x), b.max(y)));
    assert!(far <= 0.01 && off <= 0.1, "{far} A, pLDDT {off}");
}

/// The scores of this test themselves: a structure against itself, moved, and against its mirror image.
#[test]
fn a_mirror_image_is_not_the_structure() {
    let x = read_pdb(&fixture("structures/ubiquitin.pdb"));
    let q: Vec<Point> = x.iter().filter(|(k, _)| k.2 == "CA").map(|(_, (p, _))| *p).collect();
    let turned: Vec<Point> = q.iter().map(|[x, y, z]| [3.0 - y, x + 1.0, *z]).collect();
    let mirrored: Vec<Point> = q.iter().map(|[x, y, z]| [*x, *y, -z]).collect();
    assert!(tm_score(&turned, &q) > 0.999_999 && rmsd(&turned, &q) < 1e-6);
    assert!(tm_score(&mirrored, &q) < 0.5 && rmsd(&mirrored, &q) > 5.0);
    let moved = superpose(&turned, &q, &vec![true; q.len()]);
    assert!(moved.iter().zip(&q).all(|(a, b)| distance(*a, *b) < 1e-6));
    let (bonds, angles) = backbone(&x);
    assert!(bonds < 0.03 && angles < 4.0, "{bonds} {angles}");
    assert!((lddt(&x, &x).values().sum::<f64>() - 76.0).abs() < 1e-9);
}
