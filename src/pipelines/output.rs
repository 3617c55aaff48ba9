//! Files of a prediction: names and layout of AlphaFold 3, one folder a sample.
//!
//! `<name>/seed-<s>_sample-<k>/<name>_seed-<s>_sample-<k>_{model.cif,confidences.json,summary_confidences.json}`, the best
//! sample once more as `<name>/<name>_{..}`, `<name>/<name>_ranking_scores.csv`, and `<name>/run.json`.
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use candle_core::Tensor;
use serde_json::{Value, json};

use super::host::host;
use super::store::{self, StoreError};
use crate::assembly::Assembly;
use crate::features::af3::Af3Features;
use crate::io::confidence::{Confidences, Summary, format_confidences, format_summary};
use crate::io::pdb::PdbError;
use crate::io::structure::{Atom, Chain, Entity, Origin, Structure};
use crate::io::{mmcif, pdb};
use crate::models::af3::confidence::PairLogits;
use crate::models::af3::embed::row_blocks;
use crate::score::{self, Confidence, PairErrors};
use crate::weights::demo;

/// A structure file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// mmCIF.
    Cif,
    /// PDB.
    Pdb,
}

impl Format {
    /// File name extension.
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Cif => "cif",
            Self::Pdb => "pdb",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cif" => Ok(Self::Cif),
            "pdb" => Ok(Self::Pdb),
            _ => Err("the formats are cif and pdb".to_owned()),
        }
    }
}

/// Settings in `run.json` that do not change a finished sample.
pub const FREE_SETTINGS: &[&str] = &["seeds", "threads", "formats"];

/// Where a sample's files are.
#[derive(Debug, Clone, Copy)]
pub struct SampleFiles<'a> {
    /// Folder of the query.
    pub folder: &'a Path,
    /// Name of the query, safe as a file name.
    pub name: &'a str,
    /// Seed.
    pub seed: u32,
    /// Sample, from 0.
    pub sample: usize,
}

impl SampleFiles<'_> {
    /// Path of the file that ends in `_{what}`.
    pub fn path(&self, what: &str) -> PathBuf {
        let sample = format!("seed-{}_sample-{}", self.seed, self.sample);
        self.folder.join(&sample).join(format!("{}_{sample}_{what}", self.name))
    }

    /// Are all files of the sample there? The summary is written last.
    pub fn done(&self, formats: &[Format]) -> bool {
        let structures = formats.iter().map(|f| format!("model.{}", f.extension()));
        let others = [CONFIDENCES, SUMMARY].map(str::to_owned);
        structures.chain(others).all(|what| self.path(&what).is_file())
    }
}

/// Why results cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file of the run.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The structure does not fit the PDB format.
    #[error(transparent)]
    Pdb(#[from] PdbError),
    /// A finished sample cannot be read back.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// JSON with one space of indentation, ended by a newline.
pub fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}

/// Per-atom and per-pair confidences.
pub(super) const CONFIDENCES: &str = "confidences.json";
/// Scores of the structure and its chains.
pub(super) const SUMMARY: &str = "summary_confidences.json";
/// What a reader of an untrained model's files must know.
const UNTRAINED: &str = "made with untrained random weights: this structure and its scores mean nothing";

/// Scores the structures of one query.
#[derive(Debug)]
pub struct Scorer<'a>(score::Scorer<'a>);

/// A structure and the confidence in it.
#[derive(Debug)]
pub struct Scored<'a> {
    /// The features it was made from.
    features: &'a Af3Features,
    /// `[n_token, n_token]`.
    contact_probs: &'a [f32],
    /// `[n_atom]` in Å.
    positions: Vec<[f32; 3]>,
    /// Its scores.
    pub confidence: Confidence,
}

impl Scored<'_> {
    /// `[n_atom]` in Å.
    pub fn positions(&self) -> &[[f32; 3]] {
        &self.positions
    }
}

impl<'a> Scorer<'a> {
    /// `distogram` gives the logits of some rows, `[1, rows, n_token, n_bin]`.
    pub fn new(
        features: &'a Af3Features,
        distogram: &dyn Fn(Range<usize>) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Self> {
        let n = features.n_token();
        let mut contacts = Vec::with_capacity(n * n);
        for rows in row_blocks(n, ROW_CHANNELS) {
            let logits = distogram(rows)?;
            contacts.extend(score::contact_probs(host(&logits)?.values(), logits.dim(3)?));
        }
        Ok(Self(score::Scorer::new(features, contacts)))
    }

    /// Confidence in the structure with the atoms at `positions` `[n_atom]`, in Å; `plddt` are the logits
    /// `[1, n_atom, n_bin]`, `pairs` gives those of some rows.
    pub fn score(
        &self,
        positions: &[[f32; 3]],
        plddt: &Tensor,
        pairs: &dyn Fn(Range<usize>) -> candle_core::Result<PairLogits>,
    ) -> candle_core::Result<Scored<'_>> {
        let errors = self.errors(pairs)?;
        Ok(Scored {
            features: self.0.features(),
            contact_probs: self.0.contact_probs(),
            confidence: self.0.score(positions, host(plddt)?.values(), errors),
            positions: positions.to_vec(),
        })
    }

    /// The confidence alone, without disorder.
    pub fn score_ordered(
        &self,
        positions: &[[f32; 3]],
        plddt: &Tensor,
        pairs: &dyn Fn(Range<usize>) -> candle_core::Result<PairLogits>,
    ) -> candle_core::Result<Confidence> {
        Ok(self.0.score_ordered(positions, host(plddt)?.values(), self.errors(pairs)?))
    }

    fn errors(
        &self,
        pairs: &dyn Fn(Range<usize>) -> candle_core::Result<PairLogits>,
    ) -> candle_core::Result<PairErrors> {
        let mut errors = PairErrors::default();
        for rows in row_blocks(self.0.features().n_token(), ROW_CHANNELS) {
            let n_row = rows.len();
            let PairLogits { pae, pde } = pairs(rows)?;
            self.0.add_rows(&mut errors, n_row, host(&pae)?.values(), host(&pde)?.values());
        }
        Ok(errors)
    }
}

/// Values of a token pair that a block of rows of logits is measured by: what a pair head reads.
const ROW_CHANNELS: usize = 128;

/// Can structures of this complex be written in these formats? For a check before the work is done.
pub fn check_formats(assembly: &Assembly, formats: &[Format]) -> Result<(), OutputError> {
    if formats.contains(&Format::Pdb) {
        let longest = assembly.chains.iter().map(|c| c.residues.len()).max().unwrap_or(0);
        pdb::check(assembly.chains.iter().map(|c| c.id.as_str()), assembly.sites().count(), longest)?;
    }
    Ok(())
}

/// Writes the files of a sample, the summary last, and gives the record of them. `identity` has the model, its release and
/// the checksum of its weights.
pub fn write_sample(
    files: &SampleFiles<'_>,
    assembly: &Assembly,
    scored: &Scored<'_>,
    identity: &Value,
    formats: &[Format],
) -> Result<Value, OutputError> {
    let c = &scored.confidence;
    let structure = structure(files.name, assembly, scored, identity);
    let mut record = json!({ "query": files.name, "seed": files.seed, "sample": files.sample });
    let mut paths = Vec::new();
    for format in formats {
        let path = files.path(&format!("model.{}", format.extension()));
        let text = match format {
            Format::Cif => mmcif::format(&structure),
            Format::Pdb => pdb::format(&structure)?,
        };
        store::write(&path, text.as_bytes())?;
        paths.push((format!("model_{}", format.extension()), path));
    }
    let chains: Vec<&str> = structure.chains.iter().map(|c| c.id.as_str()).collect();
    let atom_chains: Vec<&str> = structure.atoms.iter().map(|a| chains[a.chain]).collect();
    let features = scored.features;
    let of_asym = |id: &i32| assembly.chains.iter().find(|c| c.asym_id as i32 == *id).map_or("", |c| c.id.as_str());
    let token_chains: Vec<&str> = features.asym_id.iter().map(of_asym).collect();
    let confidences = format_confidences(&Confidences {
        atom_chain_ids: &atom_chains,
        atom_plddts: &c.plddt,
        contact_probs: scored.contact_probs,
        pae: Some(&c.pae),
        token_chain_ids: &token_chains,
        token_res_ids: &features.residue_index,
        pde: Some(&c.pde),
    });
    store::write(&files.path(CONFIDENCES), confidences.as_bytes())?;
    paths.push(("confidences".to_owned(), files.path(CONFIDENCES)));
    store::write(&files.path(SUMMARY), format_summary(&summary(assembly, c, identity)).as_bytes())?;
    paths.push(("summary_confidences".to_owned(), files.path(SUMMARY)));
    let scores = [
        ("ranking_score", c.ranking_score),
        ("ptm", c.ptm),
        ("iptm", c.iptm),
        ("avg_plddt", c.mean_plddt()),
        ("gpde", c.gpde),
    ];
    for (key, value) in scores {
        record[key] = json!((f64::from(value) * 1e6).round() / 1e6);
    }
    for (key, path) in paths {
        record[key] = json!(path);
    }
    Ok(record)
}

/// What a reader of this model's files must know.
fn warning(identity: &Value) -> Option<String> {
    match identity["model"].as_str() {
        Some("untrained") => Some(UNTRAINED.to_owned()),
        Some("demo") => Some(demo::warning()),
        _ => None,
    }
}

fn structure(name: &str, assembly: &Assembly, scored: &Scored<'_>, identity: &Value) -> Structure {
    let text = |key: &str| identity[key].as_str().unwrap_or("unknown").to_owned();
    let entities = assembly.entities();
    let entity = |chains: &[&crate::assembly::Chain]| Entity {
        description: chains[0].description.clone(),
        components: chains[0].residues.iter().map(|r| r.component.code.to_owned()).collect(),
        sequence: chains[0].sequence(),
    };
    let index_of = |id: u32| entities.iter().position(|e| e.id == id).unwrap_or(0);
    let chains = assembly.chains.iter().map(|c| Chain { id: c.id.clone(), entity: index_of(c.entity_id) });
    let chain_of = |id: u32| assembly.chains.iter().position(|c| c.asym_id == id).unwrap_or(0);
    let sites = assembly.sites().zip(&scored.positions).zip(&scored.confidence.plddt);
    let atoms = sites.map(|((site, &position), &plddt)| Atom {
        chain: chain_of(site.chain.asym_id),
        residue: site.residue.number as usize,
        name: site.atom.name.to_owned(),
        element: site.atom.element.to_owned(),
        position,
        plddt,
    });
    let model = match identity["model"].as_str() {
        Some("untrained") => "untrained (random weights)",
        Some("demo") => "OpenFold3 (demonstration weights)",
        _ => "OpenFold3",
    };
    let title = match warning(identity) {
        Some(warning) => format!("{name}: {warning}"),
        None => format!("Predicted structure of {name}"),
    };
    Structure {
        name: name.to_owned(),
        title,
        origin: Origin {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: model.to_owned(),
            release: text("release"),
        },
        entities: entities.iter().map(|e| entity(&e.chains)).collect(),
        chains: chains.collect(),
        atoms: atoms.collect(),
        ptm: Some(scored.confidence.ptm),
        iptm: (assembly.chains.len() > 1).then_some(scored.confidence.iptm),
    }
}

/// The scores with the chains in the user's order.
fn summary<'a>(assembly: &'a Assembly, c: &Confidence, identity: &'a Value) -> Summary<'a> {
    let n = c.asym_ids.len();
    let place = |id: u32| c.asym_ids.iter().position(|&a| a == id as i32);
    let order: Vec<usize> = assembly.chains.iter().filter_map(|chain| place(chain.asym_id)).collect();
    let one = |x: &[f32]| order.iter().map(|&a| x[a]).collect::<Vec<_>>();
    let two = |x: &[f32]| order.iter().flat_map(|&a| order.iter().map(move |&b| x[a * n + b])).collect::<Vec<_>>();
    // AlphaFold 3 has a chain's own score on the diagonal.
    let mut pair_iptm = c.chain_pair_iptm.clone();
    (0..n).for_each(|a| pair_iptm[a * n + a] = c.chain_ptm[a]);
    Summary {
        chain_ids: assembly.chains.iter().map(|c| c.id.as_str()).collect(),
        chain_iptm: one(&c.chain_iptm),
        chain_pair_iptm: two(&pair_iptm),
        chain_pair_pae_min: two(&c.chain_pair_pae_min),
        chain_ptm: one(&c.chain_ptm),
        fraction_disordered: c.disorder,
        has_clash: c.has_clash,
        iptm: c.iptm,
        ptm: c.ptm,
        ranking_score: c.ranking_score,
        avg_plddt: c.mean_plddt(),
        gpde: c.gpde,
        bespoke_iptm: two(&c.bespoke_iptm),
        model: identity["model"].as_str().unwrap_or("unknown"),
        warning: warning(identity),
    }
}

/// The samples of a folder, by seed and number.
fn samples(folder: &Path) -> Result<Vec<(u32, usize)>, OutputError> {
    let fail = |source| OutputError::Read { path: folder.to_owned(), source };
    let mut samples = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let parts = name.to_str().and_then(|n| n.strip_prefix("seed-")).and_then(|n| n.split_once("_sample-"));
        if let Some((Ok(seed), Ok(sample))) = parts.map(|(seed, sample)| (seed.parse(), sample.parse())) {
            samples.push((seed, sample));
        }
    }
    samples.sort_unstable();
    Ok(samples)
}

/// Ranks the whole samples of a query's folder: writes `<name>_ranking_scores.csv` and copies the files of the best one up.
pub fn rank(folder: &Path, name: &str) -> Result<(), OutputError> {
    let mut rows = Vec::new();
    for (seed, sample) in samples(folder)? {
        let files = SampleFiles { folder, name, seed, sample };
        let path = files.path(SUMMARY);
        match fs::read(&path) {
            // A summary without score (it is not a number) goes last.
            Ok(text) => {
                let summary: Value = serde_json::from_slice(&text).unwrap_or_default();
                rows.push((summary["ranking_score"].as_f64(), files));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(OutputError::Read { path, source }),
        }
    }
    let line = |(score, files): &(Option<f64>, SampleFiles<'_>)| {
        let score = score.map(|s| s.to_string()).unwrap_or_default();
        format!("{},{},{score}\n", files.seed, files.sample)
    };
    let table = rows.iter().map(line).collect::<String>();
    let table = format!("seed,sample,ranking_score\n{table}");
    store::write(&folder.join(format!("{name}_ranking_scores.csv")), table.as_bytes())?;
    let value = |score: Option<f64>| score.unwrap_or(f64::NEG_INFINITY);
    let better = |a: &&(Option<f64>, SampleFiles<'_>), b: &&(Option<f64>, SampleFiles<'_>)| {
        // Of equals the first.
        value(a.0).total_cmp(&value(b.0)).then((b.1.seed, b.1.sample).cmp(&(a.1.seed, a.1.sample)))
    };
    let Some((_, best)) = rows.iter().max_by(better) else { return Ok(()) };
    for what in RESULTS {
        let (from, to) = (best.path(what), folder.join(format!("{name}_{what}")));
        match fs::read(&from) {
            Ok(bytes) => store::write(&to, &bytes)?,
            // Of an earlier best one, in a format that this one does not have.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => remove(&to)?,
            Err(source) => return Err(OutputError::Read { path: from, source }),
        }
    }
    Ok(())
}

/// What a sample's files and the copies of the best end in.
const RESULTS: [&str; 4] = ["model.cif", "model.pdb", CONFIDENCES, SUMMARY];

/// Removes the results of a query, and nothing that another program has put there.
pub fn remove_results(folder: &Path, name: &str) -> Result<(), OutputError> {
    if !folder.is_dir() {
        return Ok(());
    }
    // The summaries go first: a sample that is half removed is not taken for a whole one.
    for (seed, sample) in samples(folder)? {
        let files = SampleFiles { folder, name, seed, sample };
        for what in RESULTS.iter().rev() {
            remove(&files.path(what))?;
        }
        for pass in 0.. {
            let structures = ["cif", "pdb"].map(|e| files.path(&format!("recycle-{pass}_model.{e}")));
            if !structures.iter().any(|path| path.exists()) {
                break;
            }
            structures.iter().try_for_each(|path| remove(path))?;
        }
        let _ = fs::remove_dir(folder.join(format!("seed-{seed}_sample-{sample}"))); // stays if it holds something else
    }
    for what in RESULTS.iter().chain(&["ranking_scores.csv"]) {
        remove(&folder.join(format!("{name}_{what}")))?;
    }
    remove(&folder.join("run.json"))
}

fn remove(path: &Path) -> Result<(), OutputError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Write { path: path.to_owned(), source: e }.into())
        }
        _ => Ok(()),
    }
}
