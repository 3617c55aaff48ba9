//! Results as ColabFold 1.6.3 names and writes them (`colabfold/batch.py`, `predict_structure` and `run`): all files of all queries in
//! one folder, predictions with their rank in their names once a query is done. `<name>.run.json`, which ColabFold does not have, says
//! what is done and with which settings.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::output::{FREE_SETTINGS, Made, Target, beside_earlier, code, places};
use super::passes::Pass;
use super::predict::{Job, Plan};
use crate::chem::atom_layout::ATOM37;
use crate::features::af2::Family;
use crate::features::af2::N_ATOM37;
use crate::features::af2::monomer::GAP;
use crate::io::a3m::Alignment;
use crate::io::colabfold::{PdbResidue, Scores, format_pae, format_pdb, format_scores};
use crate::pipelines::output::pretty;
use crate::pipelines::predict::PredictError;
use crate::pipelines::store::{self, StoreError};
use crate::plot::{self, Coverage};
use crate::query::{Chain, Query};
use crate::score::af2::{Af2Confidence, Ranking};
use crate::score::interface::{Complex, Interface, interfaces};

/// Chain ids of the PDB files, by `asym_id`.
const CHAIN_IDS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// ColabFold's name of a prediction, such as `alphafold2_ptm_model_1_seed_000`; `release` is such as `model_1_ptm`.
pub fn tag(release: &str, number: usize, seed: u32) -> String {
    format!("{}_seed_{seed:03}", model_name(release, number))
}

/// ColabFold's name of a model, such as `alphafold2_ptm_model_1`.
fn model_name(release: &str, number: usize) -> String {
    let kind = if release.ends_with("_ptm") {
        "alphafold2_ptm"
    } else if release.contains("multimer") {
        "alphafold2_multimer_v3"
    } else {
        "alphafold2"
    };
    format!("{kind}_model_{number}")
}

impl Target<'_, '_> {
    fn tag(&self) -> String {
        tag(&self.file.release, self.file.number, self.seed)
    }

    /// Where a file is before it has a rank.
    fn path(&self, what: &str, extension: &str) -> PathBuf {
        self.job.folder.join(format!("{}_{what}_{}.{extension}", self.job.name, self.tag()))
    }
}

/// Settings, and what is done, of a query.
fn state_path(job: &Job) -> PathBuf {
    job.folder.join(format!("{}.run.json", job.name))
}

fn state(job: &Job) -> Value {
    let text = fs::read(state_path(job)).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// The file of a prediction under its rank, or without one.
fn find(job: &Job, what: &str, tag: &str, extension: &str, rank: Option<u64>) -> Option<PathBuf> {
    let path = |middle: &str| job.folder.join(format!("{}_{what}_{middle}{tag}.{extension}", job.name));
    let plain = path("");
    if plain.is_file() {
        return Some(plain);
    }
    rank.map(|rank| path(&format!("rank_{rank:03}_"))).filter(|path| path.is_file())
}

/// Is the prediction there, whole?
pub(super) fn done(target: &Target) -> bool {
    let (state, tag) = (state(target.job), target.tag());
    let Some(result) = state["results"].get(&tag) else { return false };
    let rank = result["rank"].as_u64();
    [("unrelaxed", "pdb"), ("scores", "json")].iter().all(|(what, e)| find(target.job, what, &tag, e, rank).is_some())
}

/// Checks the settings of a query that is there and writes those of this run; results of others are removed if that is wanted.
pub(super) fn open(plan: &Plan, job: &Job, settings: Value) -> Result<(), PredictError> {
    let path = state_path(job);
    let found = state(job);
    let (compared, mut written) = beside_earlier(&settings, &found);
    written["results"] = if found["results"].is_object() { found["results"].clone() } else { json!({}) };
    let free: Vec<&str> = FREE_SETTINGS.iter().copied().chain(["results"]).collect();
    if let Err(e) = store::check_settings_in(&path, &compared, &free) {
        if !plan.overwrite {
            return Err(e.into());
        }
        remove_results(job, &found)?;
        written = settings;
        written["results"] = json!({});
    }
    store::write(&path, &pretty(&written))?;
    store::write(&job.folder.join(format!("{}.a3m", job.name)), a3m(job.query).as_bytes())?;
    log(plan, &format!("Query {}: {} (length {})", number(plan, job), job.name, job.raw.n_res()))?;
    Ok(store::write(&plan.out.join("config.json"), config(plan).as_bytes())?)
}

/// The alignments of a query in one file, each sequence once: lengths and copies, paired rows, then each chain's own beside gaps. Of
/// letters left out only the number is known; they are written as x.
fn a3m(query: &Query) -> String {
    let mut chains: Vec<(&Chain, usize)> = Vec::new();
    for chain in &query.chains {
        match chains.iter_mut().find(|(known, _)| known.sequence == chain.sequence) {
            Some((_, copies)) => *copies += chain.ids.len(),
            None => chains.push((chain, chain.ids.len())),
        }
    }
    let list = |of: &dyn Fn(&(&Chain, usize)) -> usize| {
        chains.iter().map(|chain| of(chain).to_string()).collect::<Vec<_>>().join(",")
    };
    let mut text = format!("#{}\t{}\n", list(&|(chain, _)| chain.sequence.len()), list(&|(_, copies)| *copies));
    let paired: Vec<&Alignment> =
        chains.iter().filter_map(|(chain, _)| chain.paired_msas.first()).map(|file| &*file.alignment).collect();
    if paired.len() == chains.len() {
        for i in 0..paired.iter().map(|rows| rows.n_row()).min().unwrap_or(0) {
            // Rows that come from one file already have the names of all.
            let mut names: Vec<&str> = paired.iter().map(|rows| rows.names[i].as_str()).collect();
            names.dedup();
            let letters: String = paired.iter().map(|rows| letters(rows, i)).collect();
            text += &format!(">{}\n{letters}\n", names.join("\t"));
        }
    }
    for (k, (chain, _)) in chains.iter().enumerate() {
        let gaps = |range: &[(&Chain, usize)]| "-".repeat(range.iter().map(|(chain, _)| chain.sequence.len()).sum());
        let (before, after) = (gaps(&chains[..k]), gaps(&chains[k + 1..]));
        let mut row = |name: &str, letters: &str| text += &format!(">{name}\n{before}{letters}{after}\n");
        if chain.main_msas.is_empty() {
            row(&(101 + k).to_string(), &chain.sequence);
        }
        for rows in chain.main_msas.iter().map(|file| &file.alignment) {
            (0..rows.n_row()).for_each(|i| row(&rows.names[i], &letters(rows, i)));
        }
    }
    text
}

/// A row as it is written in an a3m.
fn letters(rows: &Alignment, i: usize) -> String {
    let columns = rows.row(i).iter().zip(rows.row_deletions(i));
    columns
        .map(|(letter, deletions)| "x".repeat((*deletions).into()) + char::from(*letter).encode_utf8(&mut [0; 4]))
        .collect()
}

/// Which of the queries it is.
fn number(plan: &Plan, job: &Job) -> String {
    let at = plan.queries.iter().position(|q| q.name == job.query.name).unwrap_or(0);
    format!("{}/{}", at + 1, plan.queries.len())
}

fn remove_results(job: &Job, found: &Value) -> Result<(), PredictError> {
    let prefix = |what: &str| format!("{}_{what}_", job.name);
    let tags: Vec<&String> = found["results"].as_object().into_iter().flat_map(Map::keys).collect();
    let fail = |path: &Path, source| StoreError::Write { path: path.to_owned(), source };
    let entries = fs::read_dir(&job.folder).map_err(|e| fail(&job.folder, e))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_result = ["unrelaxed", "scores"].iter().any(|what| name.starts_with(&prefix(what)))
            && tags.iter().any(|tag| name.contains(tag.as_str()));
        let of_all = ["predicted_aligned_error_v1.json", "pae.png", "plddt.png", "coverage.png"];
        let is_summary = of_all.iter().any(|end| name == format!("{}_{end}", job.name));
        if is_result || is_summary || name == format!("{}.done.txt", job.name) {
            fs::remove_file(entry.path()).map_err(|e| fail(&entry.path(), e))?;
        }
    }
    Ok(())
}

/// A pass is over: a line of the log, and its structure if that is asked for.
pub(super) fn pass(target: &Target, plan: &Plan, pass: &Pass) -> Result<(), PredictError> {
    let change = pass.change.map(|tol| format!(" tol={}", significant(tol))).unwrap_or_default();
    log(plan, &format!("{} recycle={}{}{change}", target.tag(), pass.index, line(target.job, pass)))?;
    if plan.save_recycles {
        let path = target.path("unrelaxed", &format!("r{}.pdb", pass.index));
        store::write(&path, Predicted::new(target.job, pass).pdb().as_bytes())?;
    }
    Ok(())
}

/// ` pLDDT=94.2 pTM=0.0567`, as ColabFold prints scores.
fn line(job: &Job, pass: &Pass) -> String {
    let c = &pass.confidence;
    let mut text = format!(" pLDDT={}", significant(c.mean_plddt));
    if let Some(errors) = &c.errors {
        text += &format!(" pTM={}", significant(errors.ptm));
        if job.raw.chains.len() > 1 {
            text += &format!(" ipTM={}", significant(errors.iptm));
        }
    }
    text
}

fn chain_id(asym: i32) -> char {
    char::from(CHAIN_IDS[asym as usize % CHAIN_IDS.len()])
}

/// A prediction of `n` residues, as its files need it.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    /// `[n]`, 0-20.
    pub restype: &'a [u8],
    /// `[n]`: the chain, from 0.
    pub asym_id: &'a [i32],
    /// `[n]`, from 0 in each chain.
    pub residue_index: &'a [i32],
    /// Atom37, `[n * 37]` in Å.
    pub positions: &'a [[f32; 3]],
    /// Its scores.
    pub confidence: &'a Af2Confidence,
}

impl<'a> Predicted<'a> {
    fn new(job: &'a Job, pass: &'a Pass) -> Self {
        let (raw, positions, confidence) = (&job.raw, &pass.recycled.positions, &pass.confidence);
        let (restype, asym_id, residue_index) = (&raw.restype, &raw.asym_id, &raw.residue_index);
        Self { restype, asym_id, residue_index, positions, confidence }
    }

    /// The PDB file.
    pub fn pdb(&self) -> String {
        let atom = |i: usize, place: usize| (ATOM37[place], self.positions[i * N_ATOM37 + place]);
        let residue = |i: usize| PdbResidue {
            code: code(self.restype[i]),
            chain: chain_id(self.asym_id[i]),
            number: self.residue_index[i] + 1,
            plddt: self.confidence.plddt[i],
            atoms: places(self.restype[i]).into_iter().map(|place| atom(i, place)).collect(),
        };
        format_pdb(&(0..self.restype.len()).map(residue).collect::<Vec<_>>())
    }

    /// The score file; complexes also have ipTM and the scores of their interfaces.
    pub fn scores(&self) -> String {
        let (c, is_complex) = (self.confidence, self.asym_id.iter().any(|asym| *asym > 0));
        let between = match &c.errors {
            Some(errors) if is_complex => interfaces(&Complex {
                pae: &errors.pae,
                plddt: &c.plddt,
                asym_id: self.asym_id,
                restype: self.restype,
                positions: self.positions,
            }),
            _ => Vec::new(),
        };
        let ids = |k: &Interface| (chain_id(k.first as i32), chain_id(k.second as i32));
        let between: Vec<_> = between.iter().map(|k| (ids(k), [k.ipsae, k.pdockq, k.pdockq2])).collect();
        format_scores(&Scores {
            plddt: &c.plddt,
            pae: c.errors.as_ref().map(|e| e.pae.as_slice()),
            ptm: c.errors.as_ref().map(|e| e.ptm),
            iptm: c.errors.as_ref().map(|e| e.iptm).filter(|_| is_complex),
            interfaces: &between,
        })
    }
}

/// Writes the files of a prediction and notes that it is done.
pub(super) fn write(target: &Target, plan: &Plan, made: &Made) -> Result<Value, PredictError> {
    let (job, pass) = (target.job, made.pass);
    let (c, predicted) = (&pass.confidence, Predicted::new(job, pass));
    let structure = target.path("unrelaxed", "pdb");
    store::write(&structure, predicted.pdb().as_bytes())?;
    let path = target.path("scores", "json");
    store::write(&path, predicted.scores().as_bytes())?;
    let mut state = state(job);
    state["results"][target.tag()] = json!({
        "ranking_confidence": c.ranking(job.ranking).unwrap_or(c.mean_plddt),
        "line": line(job, pass),
    });
    if let Some(results) = state["results"].as_object_mut() {
        results.sort_keys();
    }
    store::write(&state_path(job), &pretty(&state))?;
    log(plan, &format!("{} took {:.1}s ({} recycles)", target.tag(), made.seconds, pass.index))?;
    let mut record = target.record(made);
    record["model_pdb"] = json!(structure);
    record["scores"] = json!(path);
    Ok(record)
}

/// The names of predictions by their scores, best first.
pub fn by_rank(mut results: Vec<(String, f64)>) -> Vec<String> {
    // In ColabFold's order, seed by seed; of equals the last is the best, as numpy's sort, turned round, has it.
    let key = |tag: &str| tag.rsplit_once("_seed_").map(|(model, seed)| (seed.parse::<u32>().ok(), model.to_owned()));
    results.sort_by_key(|(tag, _)| key(tag));
    results.sort_by(|a, b| a.1.total_cmp(&b.1));
    results.into_iter().rev().map(|(tag, _)| tag).collect()
}

/// The predictions of a query by rank, best first: tag, rank before this ranking, what the log says of it.
fn ranked(job: &Job) -> Vec<(String, Option<u64>, String)> {
    let state = state(job);
    let results = &state["results"];
    let score = |result: &Value| result["ranking_confidence"].as_f64().unwrap_or(f64::NEG_INFINITY);
    let scores = results.as_object().into_iter().flatten().map(|(tag, result)| (tag.clone(), score(result)));
    let row = |tag: String| {
        let (rank, line) = (results[&tag]["rank"].as_u64(), results[&tag]["line"].as_str().unwrap_or_default());
        (tag, rank, line.to_owned())
    };
    by_rank(scores.collect()).into_iter().map(row).collect()
}

/// All of a query is done: files get their ranks, and what is made from the best ones is written.
pub(super) fn finish(plan: &Plan, job: &Job) -> Result<(), PredictError> {
    let ranked = ranked(job);
    let by = if job.ranking == Ranking::Interface { "multimer" } else { "plddt" };
    log(plan, &format!("reranking models by '{by}' metric"))?;
    rename(job, &ranked)?;
    let mut best = Vec::new();
    for (k, (tag, _, line)) in ranked.iter().enumerate() {
        let rank = k as u64 + 1;
        log(plan, &format!("rank_{rank:03}_{tag}{line}"))?;
        if k < 5 {
            best.extend(find(job, "scores", tag, "json", Some(rank)));
        }
    }
    let read = |path: &PathBuf| -> Result<Value, PredictError> {
        let text = fs::read(path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    };
    let scores = best.iter().map(read).collect::<Result<Vec<Value>, _>>()?;
    if let Some(first) = scores.first().filter(|s| s["pae"].is_array()) {
        let path = job.folder.join(format!("{}_predicted_aligned_error_v1.json", job.name));
        store::write(&path, format_pae(first).as_bytes())?;
    }
    plots(job, &scores)?;
    Ok(store::write(&job.folder.join(format!("{}.done.txt", job.name)), b"")?)
}

/// Pictures of the five best, from their score files.
fn plots(job: &Job, scores: &[Value]) -> Result<(), PredictError> {
    let lengths: Vec<usize> = job.raw.chains.iter().map(|c| c.n_res).collect();
    let numbers = |list: &Value| -> Vec<f32> {
        list.as_array().into_iter().flatten().map(|x| x.as_f64().unwrap_or(f64::NAN) as f32).collect()
    };
    let of = |values: Vec<Vec<f32>>| -> Vec<(String, Vec<f32>)> {
        values.into_iter().zip(1..).map(|(values, rank)| (format!("rank_{rank}"), values)).collect()
    };
    let lines = of(scores.iter().map(|s| numbers(&s["plddt"])).collect());
    let of_pairs = |s: &Value| s["pae"].as_array().into_iter().flatten().flat_map(&numbers).collect();
    let errors = of(scores.iter().filter(|s| s["pae"].is_array()).map(of_pairs).collect());
    let path = |what: &str| job.folder.join(format!("{}_{what}.png", job.name));
    let write = |what: &str, png: Vec<u8>| if png.is_empty() { Ok(()) } else { store::write(&path(what), &png) };
    write("plddt", plot::plddt(&lines, &lengths))?;
    if !errors.is_empty() {
        write("pae", plot::pae(&errors, &lengths))?;
    }
    Ok(write("coverage", plot::coverage(&Coverage { rows: &job.raw.alignment.rows, gap: GAP, lengths: &lengths }))?)
}

/// Gives the files their ranks: first none has one, then each its own, so that a run that is killed here finds them all.
fn rename(job: &Job, ranked: &[(String, Option<u64>, String)]) -> Result<(), PredictError> {
    let fail = |path: &Path, source| PredictError::from(StoreError::Write { path: path.to_owned(), source });
    let name = |what: &str, middle: &str, tag: &str, extension: &str| {
        job.folder.join(format!("{}_{what}_{middle}{tag}.{extension}", job.name))
    };
    let kinds = |tag: &str, rank: Option<u64>| {
        let recycles = (0..).map(|r| format!("r{r}.pdb"));
        let recycles = recycles.take_while(|e| find(job, "unrelaxed", tag, e, rank).is_some());
        let mut kinds: Vec<(&str, String)> = recycles.map(|e| ("unrelaxed", e)).collect();
        kinds.extend([("unrelaxed", "pdb".to_owned()), ("scores", "json".to_owned())]);
        kinds
    };
    let to = |tag: &str, from: Option<u64>, to: &str| -> Result<(), PredictError> {
        for (what, extension) in kinds(tag, from) {
            let target = name(what, to, tag, &extension);
            match find(job, what, tag, &extension, from) {
                Some(path) if path != target => fs::rename(&path, &target).map_err(|e| fail(&path, e))?,
                _ => {}
            }
        }
        Ok(())
    };
    let moved = |k: usize, rank: Option<u64>| rank.is_some_and(|rank| rank != k as u64 + 1);
    for (_, (tag, rank, _)) in ranked.iter().enumerate().filter(|(k, row)| moved(*k, row.1)) {
        to(tag, *rank, "")?;
    }
    let mut state = state(job);
    for (k, (tag, ..)) in ranked.iter().enumerate() {
        state["results"][tag]["rank"] = json!(k + 1);
    }
    store::write(&state_path(job), &pretty(&state))?;
    for (k, (tag, ..)) in ranked.iter().enumerate() {
        let rank = k as u64 + 1;
        to(tag, Some(rank), &format!("rank_{rank:03}_"))?;
    }
    Ok(())
}

/// `config.json`: the settings under ColabFold's names.
fn config(plan: &Plan) -> String {
    let release = plan.models.first().map_or("", |m| m.release.as_str());
    let kind = model_name(release, 0).replace("_model_0", "");
    let is_complex = plan.queries.iter().any(|q| q.chains.iter().map(|c| c.ids.len()).sum::<usize>() > 1);
    let by = if is_complex && kind != "alphafold2" { "multimer" } else { "plddt" };
    let default = if plan.family == Family::Multimer { (508, 2048) } else { (512, 5120) };
    let (max_seq, max_extra_seq) = plan.max_msa.unwrap_or(default);
    let value = json!({
        "num_queries": plan.queries.len(),
        "use_templates": plan.queries.iter().any(|q| q.chains.iter().any(|c| !c.templates.is_empty())),
        "num_relax": 0,
        "model_type": kind,
        "num_models": plan.models.len(),
        "num_recycles": plan.n_recycle,
        "recycle_early_stop_tolerance": plan.tolerance,
        "num_ensemble": 1,
        "model_order": plan.models.iter().map(|m| m.number).collect::<Vec<_>>(),
        "keep_existing_results": !plan.overwrite,
        "rank_by": by,
        "max_seq": max_seq,
        "max_extra_seq": max_extra_seq,
        "random_seed": plan.seeds.first(),
        "num_seeds": plan.seeds.len(),
        "use_dropout": plan.use_dropout,
        "use_bfloat16": false,
        "version": format!("fold {}", env!("CARGO_PKG_VERSION")),
    });
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
    serde::Serialize::serialize(&value, &mut writer).map_or(String::new(), |()| String::from_utf8_lossy(&text).into())
}

/// Adds a line to `log.txt`, with the time in UTC.
fn log(plan: &Plan, text: &str) -> Result<(), PredictError> {
    let path = plan.out.join("log.txt");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let line = format!("{},{:03} {text}\n", date(now.as_secs()), now.subsec_millis());
    let open = || fs::OpenOptions::new().create(true).append(true).open(&path);
    let written = open().and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
    Ok(written.map_err(|source| StoreError::Write { path: path.clone(), source })?)
}

/// `2026-11-21 00:49:12` of seconds since 1970.
fn date(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the odd day is the last; eras of 400 years.
    let from_march = days + 719_468;
    let (era, day) = (from_march / 146_097, from_march % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month_of_year) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month_of_year < 3);
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month_of_year:02}-{day:02} {h:02}:{m:02}:{s:02}")
}

/// Three significant digits, as Python's `%.3g`.
fn significant(x: f32) -> String {
    if x == 0. || !x.is_finite() {
        return format!("{x}");
    }
    let rounded: f64 = format!("{x:.2e}").parse().unwrap_or(f64::NAN);
    let exponent = rounded.abs().log10().floor() as i32;
    if !(-4..3).contains(&exponent) {
        let text = format!("{x:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_are_written_as_pythons() {
        for (x, want) in [(94.16, "94.2"), (0.056_74, "0.0567"), (0.1, "0.1"), (100., "100"), (3.0, "3"), (0., "0")] {
            assert_eq!(significant(x), want);
        }
        assert_eq!(
            (significant(0.000_012_34), significant(1234.), significant(99.96)),
            ("1.23e-05".into(), "1.23e+03".into(), "100".into())
        );
        assert_eq!((date(0), date(951_782_400)), ("1970-01-01 00:00:00".into(), "2000-02-29 00:00:00".into()));
        assert_eq!(date(1_795_221_123), "2026-11-21 00:32:03");
    }

    #[test]
    fn alignments_are_written_in_one_file() {
        let path = std::path::Path::new("q.a3m");
        let of = |text: &str| a3m(&crate::query::parse(path, text.as_bytes()).expect("a query").queries[0]);
        assert_eq!(of(">q\nMKTV\n>h\nM-abTV\n"), "#4\t1\n>q\nMKTV\n>h\nM-xxTV\n");
        let text = "#3,2\t2,1\n>101\t102\nMKTVV\n>a\tb\nM-TcV-\n>101\nMKT--\n>x\nMRT--\n>102\n---VV\n>y\n---V-\n";
        // Read again it is the same complex with the same rows.
        let parse = |text: &str| crate::query::parse(path, text.as_bytes()).expect("a query").queries.remove(0);
        let (first, again) = (parse(text), parse(&of(text)));
        for (a, b) in first.chains.iter().zip(&again.chains) {
            assert_eq!((&a.ids, &a.sequence), (&b.ids, &b.sequence));
            for (a, b) in a.main_msas.iter().chain(&a.paired_msas).zip(b.main_msas.iter().chain(&b.paired_msas)) {
                assert_eq!(
                    (&a.alignment.letters, &a.alignment.deletions),
                    (&b.alignment.letters, &b.alignment.deletions)
                );
            }
        }
        assert!(of(text).starts_with("#3,2\t2,1\n>101\t102\nMKTVV\n>a\tb\nM-T"), "{}", of(text));
        let fasta = crate::query::parse(std::path::Path::new("q.fasta"), b">q\nMK:GST:MK\n").expect("a query");
        assert_eq!(a3m(&fasta.queries[0]), "#2,3\t2,1\n>101\nMK---\n>102\n--GST\n");
    }

    #[test]
    fn models_have_colabfolds_names() {
        assert_eq!(model_name("model_3_ptm", 3), "alphafold2_ptm_model_3");
        assert_eq!(model_name("model_2", 2), "alphafold2_model_2");
        assert_eq!(model_name("model_1_multimer_v3", 1), "alphafold2_multimer_v3_model_1");
    }
}
