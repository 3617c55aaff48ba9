//! The files of a sample against those that the official program wrote for the same positions and logits
//! (fixtures/openfold3/<query>/official), and every score against its unrounded values.
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{IndexOp, Tensor};
use fold::assembly::Assembly;
use fold::features::af3::Af3Features;
use fold::models::af3::confidence::PairLogits;
use fold::pipelines::output::{Format, SampleFiles, Scored, Scorer, rank, remove_results, write_sample};
use fold::query::{self, Query};
use pdbtbx::{ContainsAtomConformer, ContainsAtomConformerResidue, ContainsAtomConformerResidueChain};
use serde_json::{Value, json};

use crate::common::{Golden, fixture};
use crate::scores::close;

const QUERIES: [&str; 5] = ["mono", "mono_msa", "homodimer", "hetero2", "hetero3"];

/// What the official run of a query made.
struct Official {
    name: &'static str,
    query: Query,
    features: Af3Features,
    confidence: Golden,
    /// `[n_sample, n_atom, 3]`.
    positions: Tensor,
    seed: u32,
}

impl Official {
    fn open(name: &'static str) -> Result<Self> {
        let folder = format!("openfold3/{name}");
        let mut queries = query::read(&fixture(format!("{folder}/query.json")))?.queries;
        let meta: Value = serde_json::from_slice(&std::fs::read(fixture(format!("{folder}/meta.json")))?)?;
        Ok(Self {
            name,
            query: queries.remove(0),
            features: Af3Features::load(&fixture(format!("{folder}/features.safetensors")))?,
            confidence: Golden::open(format!("{folder}/confidence.safetensors"))?,
            positions: Golden::open(format!("{folder}/diffusion.safetensors"))?.get("coords")?.squeeze(0)?,
            seed: meta["seed"].as_u64().context("a seed")? as u32,
        })
    }

    fn positions(&self, sample: usize) -> Result<Vec<[f32; 3]>> {
        Ok(self.positions.i(sample)?.flatten_all()?.to_vec1::<f32>()?.as_chunks::<3>().0.to_vec())
    }

    /// Recorded logits of a sample, `[1, ..]`.
    fn logits(&self, name: &str, sample: usize) -> Result<Tensor> {
        Ok(self.confidence.get(&format!("{name}_logits"))?.i(0)?.narrow(0, sample, 1)?)
    }

    fn score<T>(&self, f: impl Fn(usize, &Scored<'_>, &Assembly) -> Result<T>) -> Result<Vec<T>> {
        let assembly = Assembly::new(&self.query);
        let distogram = self.confidence.get("distogram_logits")?.i(0)?;
        let some = |x: &Tensor, rows: Range<usize>| x.narrow(1, rows.start, rows.len());
        let scorer = Scorer::new(&self.features, &|rows| some(&distogram, rows))?;
        (0..self.positions.dim(0)?)
            .map(|k| {
                let [plddt, pae, pde] = ["plddt", "pae", "pde"].map(|name| self.logits(name, k));
                let (pae, pde) = (pae?, pde?);
                let pairs =
                    |rows: Range<usize>| Ok(PairLogits { pae: some(&pae, rows.clone())?, pde: some(&pde, rows)? });
                f(k, &scorer.score(&self.positions(k)?, &plddt?, &pairs)?, &assembly)
            })
            .collect()
    }

    /// `official/<query>_seed_<seed>_sample_<k>_<what>`; the official program counts samples from 1.
    fn file(&self, sample: usize, what: &str) -> Result<String> {
        let name = format!("{}_seed_{}_sample_{}_{what}", self.name, self.seed, sample + 1);
        let path = fixture(format!("openfold3/{}/official/{name}", self.name));
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

fn floats(value: &Value) -> Result<Vec<f32>> {
    match value {
        Value::Array(items) => Ok(items.iter().map(floats).collect::<Result<Vec<_>>>()?.concat()),
        value => Ok(vec![value.as_f64().with_context(|| format!("{value} is no number"))? as f32]),
    }
}

fn within(what: &str, got: &Value, want: &Value, limit: f32) -> Result<()> {
    let (got, want) = (floats(got)?, floats(want)?);
    ensure!(got.len() == want.len(), "{what}: {} values, not {}", got.len(), want.len());
    let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
    ensure!(worst <= limit, "{what}: differs by {worst}");
    Ok(())
}

#[test]
fn every_score_of_every_query() -> Result<()> {
    for name in QUERIES {
        let official = Official::open(name)?;
        official.score(|k, scored, _| {
            let c = &scored.confidence;
            let want = |key: &str| -> Result<Vec<f32>> {
                Ok(official.confidence.get(&format!("score.{key}"))?.i((0, k))?.flatten_all()?.to_vec1()?)
            };
            let arrays = [("plddt", &c.plddt), ("pae", &c.pae), ("pde", &c.pde)];
            for (key, got) in arrays {
                close(&format!("{name} {key}"), got, &want(key)?)?;
            }
            let clash = f32::from(u8::from(c.has_clash));
            let single = [
                ("gpde", c.gpde),
                ("ptm", c.ptm),
                ("iptm", c.iptm),
                ("sample_ranking_score", c.ranking_score),
                ("disorder", c.disorder),
                ("has_clash", clash),
            ];
            for (key, got) in single {
                close(&format!("{name} {key}"), &[got], &want(key)?)?;
            }
            ensure!(c.disorder == want("disorder")?[0], "{name}: disorder");
            let n = c.asym_ids.len();
            for (a, i) in c.asym_ids.iter().enumerate() {
                close(&format!("{name} chain_ptm {i}"), &[c.chain_ptm[a]], &want(&format!("chain_ptm.{i}"))?)?;
                for (b, j) in c.asym_ids.iter().enumerate().skip(a + 1) {
                    let pairs = [("chain_pair_iptm", &c.chain_pair_iptm), ("bespoke_iptm", &c.bespoke_iptm)];
                    for (key, got) in pairs {
                        close(&format!("{name} {key}"), &[got[a * n + b]], &want(&format!("{key}.({i},{j})"))?)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Atoms of an mmCIF file: chain, residue, atom, position, B factor.
type AtomLine = (String, isize, String, String, [f64; 3], f64);

fn read_structure(text: &str, format: pdbtbx::Format) -> Result<Vec<AtomLine>> {
    let mut options = pdbtbx::ReadOptions::default();
    options.set_level(pdbtbx::StrictnessLevel::Loose).set_format(format);
    let (pdb, _) = options.read_raw(BufReader::new(text.as_bytes())).map_err(|e| anyhow!("{e:?}"))?;
    let line = |a: pdbtbx::AtomConformerResidueChainModel<'_>| {
        let residue = a.residue();
        let (chain, name) = (a.chain().id().to_owned(), residue.name().unwrap_or("").to_owned());
        let (x, y, z) = a.atom().pos();
        (chain, residue.serial_number(), name, a.atom().name().to_owned(), [x, y, z], a.atom().b_factor())
    };
    Ok(pdb.atoms_with_hierarchy().map(line).collect())
}

fn same_atoms(what: &str, got: &[AtomLine], want: &[AtomLine]) -> Result<()> {
    ensure!(got.len() == want.len(), "{what}: {} atoms, not {}", got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        ensure!((&g.0, g.1, &g.2, &g.3) == (&w.0, w.1, &w.2, &w.3), "{what}: {g:?} is not {w:?}");
        let far = g.4.iter().zip(w.4).any(|(a, b)| (a - b).abs() > 5.1e-4);
        ensure!(!far && (g.5 - w.5).abs() < 5.1e-3, "{what}: {g:?} is not {w:?}");
    }
    Ok(())
}

/// Structures atom by atom, arrays and scores, up to the decimals that either program writes.
#[test]
fn files_hold_what_the_official_ones_hold() -> Result<()> {
    for name in QUERIES {
        let official = Official::open(name)?;
        let folder = tempfile::tempdir()?;
        let identity = json!({"model": "openfold3", "release": "0.5.0", "weights_sha256": "x"});
        let formats = [Format::Cif, Format::Pdb];
        official.score(|k, scored, assembly| {
            let files = SampleFiles { folder: folder.path(), name, seed: official.seed, sample: k };
            let record = write_sample(&files, assembly, scored, &identity, &formats)?;
            ensure!(files.done(&formats), "{name}: {record}");
            let read = |what: &str| Ok::<_, anyhow::Error>(std::fs::read_to_string(files.path(what))?);

            let want = read_structure(&official.file(k, "model.cif")?, pdbtbx::Format::Mmcif)?;
            same_atoms(name, &read_structure(&read("model.cif")?, pdbtbx::Format::Mmcif)?, &want)?;
            same_atoms(name, &read_structure(&read("model.pdb")?, pdbtbx::Format::Pdb)?, &want)?;

            let got: Value = serde_json::from_str(&read("confidences.json")?)?;
            let want: Value = serde_json::from_str(&official.file(k, "confidences.json")?)?;
            within("plddt", &got["atom_plddts"], &want["plddt"], 0.0051)?;
            within("pae", &got["pae"], &want["pae"], 0.0051)?;
            within("pde", &got["pde"], &want["pde"], 0.0051)?;

            let got: Value = serde_json::from_str(&read("summary_confidences.json")?)?;
            let want: Value = serde_json::from_str(&official.file(k, "confidences_aggregated.json")?)?;
            let keys = ["avg_plddt", "gpde", "iptm", "ptm", "disorder", "has_clash", "sample_ranking_score"];
            for key in keys {
                let ours = match key {
                    "disorder" => "fraction_disordered",
                    "sample_ranking_score" => "ranking_score",
                    key => key,
                };
                within(key, &got[ours], &want[key], 1e-5 * want[key].as_f64().unwrap_or(1.0).abs().max(1.0) as f32)?;
            }
            let ids: Vec<&str> = assembly.chains.iter().map(|c| c.id.as_str()).collect();
            for (a, id) in ids.iter().enumerate() {
                within(id, &got["chain_ptm"][a], &want["chain_ptm"][id], 2e-6)?;
                for (b, other) in ids.iter().enumerate().filter(|(_, other)| id < *other) {
                    let pair = format!("({id}, {other})");
                    for key in ["chain_pair_iptm", "bespoke_iptm"] {
                        within(&pair, &got[key][a][b], &want[key][&pair], 2e-6)?;
                    }
                }
            }
            Ok(())
        })?;
        check_folder(&official, folder.path(), &formats)?;
    }
    Ok(())
}

/// The ranking names the best sample and copies it up; results can be removed without touching other files.
fn check_folder(official: &Official, folder: &Path, formats: &[Format]) -> Result<()> {
    let name = official.name;
    std::fs::write(folder.join("notes.txt"), "mine")?;
    rank(folder, name)?;
    let table = std::fs::read_to_string(folder.join(format!("{name}_ranking_scores.csv")))?;
    let mut lines = table.lines();
    ensure!(lines.next() == Some("seed,sample,ranking_score"), "{table}");
    let mut best: Option<(f64, usize)> = None;
    for (k, line) in lines.enumerate() {
        let score = line.strip_prefix(&format!("{},{k},", official.seed)).context(line.to_owned())?.parse()?;
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, k));
        }
    }
    let (_, sample) = best.context("no samples")?;
    let files = SampleFiles { folder, name, seed: official.seed, sample };
    for what in ["model.cif", "model.pdb", "confidences.json", "summary_confidences.json"] {
        let copy = std::fs::read(folder.join(format!("{name}_{what}")))?;
        ensure!(copy == std::fs::read(files.path(what))?, "{name}: {what} is not the best sample's");
    }
    // A sample without its summary is not whole, and is not ranked.
    std::fs::remove_file(files.path("summary_confidences.json"))?;
    ensure!(!files.done(formats), "{name}: half a sample");
    rank(folder, name)?;
    let table = std::fs::read_to_string(folder.join(format!("{name}_ranking_scores.csv")))?;
    ensure!(!table.contains(&format!("{},{sample},", official.seed)), "{table}");
    remove_results(folder, name)?;
    let left: Vec<_> = std::fs::read_dir(folder)?.map(|e| Ok(e?.file_name())).collect::<Result<_>>()?;
    ensure!(left == ["notes.txt"], "{left:?}");
    Ok(())
}
