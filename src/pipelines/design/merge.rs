//! Ranking of what there is of a run: `summary.csv` and copies of the structures, in one folder. Samples stay where they are.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::complex::named;
use super::place::{self, Place};
use super::report::{self, Scored};
use super::survey::{Sample, Survey, below, tasks};
use super::{DesignError, af2, second, sequences};
use crate::chem::restype::amino_acid;
use crate::geometry::Vec3;
use crate::io::coordinates;
use crate::pipelines::output::pretty;
use crate::pipelines::store::{self, StoreError};
use crate::score::design::clusters::{Member, THRESHOLD, clusters};
use crate::score::design::rank::{Limits, Ranked, Ranking, rank};
use crate::score::design::summary::{Chosen, summary as table_of};
use crate::score::design::{Row, SecondModel};

/// A task that has been ranked.
#[derive(Debug)]
pub struct Merged {
    /// What there is.
    pub survey: Survey,
    /// The table that was written.
    pub summary: PathBuf,
    /// Designs that pass the filters, if they were filtered.
    pub n_passing: Option<usize>,
}

impl Merged {
    /// Are all samples done?
    pub fn is_whole(&self) -> bool {
        self.survey.missing.is_empty() && self.survey.failed.is_empty()
    }

    /// Numbers of the samples that are missing, by seed and stage.
    pub fn missing(&self) -> Vec<(u32, &'static str, Vec<usize>)> {
        self.survey.missing_by_stage()
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let missing = self.missing();
        let missing = missing.iter().map(|(seed, stage, n)| json!({"seed": seed, "stage": stage, "samples": n}));
        let failed = self.survey.failed.iter().map(|(sample, stage, reason)| {
            json!({"seed": sample.place.seed(), "sample": sample.number, "stage": stage, "error": reason})
        });
        json!({
            "task": self.survey.settings.task,
            "expected": self.survey.n_expected(),
            "done": self.survey.done.len(),
            "passing": self.n_passing,
            "missing": missing.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
            "summary": self.summary,
            "command": self.survey.settings.command,
        })
    }
}

/// Ranks every task of a run, whose parts may be in several folders.
///
/// # Errors
/// Folders without a run or of different ones, and files that cannot be read or written.
pub fn merge(folders: &[PathBuf]) -> Result<Vec<Merged>, DesignError> {
    tasks(folders)?.iter().map(|task| one(folders, task)).collect()
}

fn one(folders: &[PathBuf], task: &str) -> Result<Merged, DesignError> {
    let mut survey = Survey::new(folders, task)?;
    let out = place::outputs(&folders[0], task);
    let summary = out.join("summary.csv");
    let (table, scored) = if survey.settings.sections.contains_key(af2::NAME) {
        let rows = rows(&mut survey);
        let second = survey.second();
        let ranking = Ranking::by(second);
        let all = survey.n_expected();
        let ranked = rank(&rows, ranking, Limits { most: all, least: all });
        let structures = copies(&survey, &rows, &ranked, &out)?;
        let members = members(&survey, &ranked, ranking);
        store::write_shared(&out.join(INFO), &pretty(&info(&survey)))?;
        let table = table_of(&rows, &ranked, &chosen(structures, &members), second);
        (table, Some(Scored { rows, ranked, members, second }))
    } else {
        (plain_table(&survey, &folders[0]), None)
    };
    store::write_shared(&summary, table.as_bytes())?;
    report::write(&survey, scored.as_ref(), &folders[0], &out)?;
    Ok(Merged { survey, summary, n_passing: scored.map(|scored| scored.n_passing()) })
}

/// Scores of the samples that are done; one whose files cannot be read is noted among those that failed.
fn rows(survey: &mut Survey) -> Vec<Row> {
    let mut rows = Vec::with_capacity(survey.done.len());
    let second = survey.second();
    let last = second.map_or(af2::NAME, SecondModel::name);
    for sample in std::mem::take(&mut survey.done) {
        match row(&survey.settings.task, &sample, second) {
            Ok(row) => {
                rows.push(row);
                survey.done.push(sample);
            }
            Err(error) => survey.failed.push((sample, last, error)),
        }
    }
    rows
}

fn row(task: &str, sample: &Sample, second: Option<SecondModel>) -> Result<Row, String> {
    let (place, number) = (&sample.place, sample.number);
    let designed = sequences::record(place, number)?;
    let of = |key: &str| designed[key].as_f64().unwrap_or(f64::NAN);
    Ok(Row {
        task: task.to_owned(),
        sequence: designed["sequence"].as_str().unwrap_or_default().to_owned(),
        first: af2::scores_of(place, number)?,
        second: second.map(|model| second::scores_of(model, place, number)).transpose()?,
        elements: ["alpha", "beta", "loop"].map(of),
        rg: of("Rg"),
    })
}

/// Designs of `samples` that pass every filter, of those whose filters are done.
pub fn n_passing(
    task: &str,
    place: &Place,
    samples: impl Iterator<Item = usize>,
    second: Option<SecondModel>,
) -> usize {
    let done = samples.filter_map(|number| row(task, &Sample { place: place.clone(), number }, second).ok());
    let rows: Vec<Row> = done.collect();
    let (ranking, limits) = (Ranking::by(second), Limits { most: rows.len(), least: rows.len() });
    rank(&rows, ranking, limits).iter().filter(|place| place.passes(ranking)).count()
}

/// File that says what the designs were judged by, as PXDesign writes it.
const INFO: &str = "task_info.json";

/// What the designs were judged by; of a second filter also whether a network was given the target's structure.
fn info(survey: &Survey) -> Value {
    let Some(model) = survey.second() else { return json!({"mode": "Preview"}) };
    let given = |sample: &Sample| second::target_was_given(model, &sample.place, sample.number);
    let name = if survey.done.iter().any(given) { "Protenix-Mini-Templ" } else { model.title() };
    json!({"mode": "Extended", model.name().split('-').next().unwrap_or_default(): name})
}

/// Folder of the designed backbones, with their sequences.
const ORIGINAL: &str = "orig_designed";
/// Folder of AlphaFold2's structures of designs that pass.
const FIRST: &str = "passing-AF2-IG-easy";

/// Folder of the second network's structures of designs that pass.
fn second_folder(model: SecondModel) -> String {
    format!("passing-{}-basic", model.title())
}

/// Copies structures under their ranks, and removes those of ranks that are no more. Of each design what the table tells: whose structure
/// is the best that there is, and where it is.
fn copies(
    survey: &Survey,
    rows: &[Row],
    ranked: &[Ranked],
    out: &Path,
) -> Result<Vec<(&'static str, String)>, DesignError> {
    let mut kept = BTreeSet::new();
    let mut copy = |folder: &str, rank: usize, bytes: &[u8]| {
        let path = out.join(folder).join(format!("rank_{rank}.cif"));
        kept.insert(path.clone());
        store::write_shared(&path, bytes).map(|()| format!("{folder}/rank_{rank}.cif"))
    };
    let mut best = Vec::with_capacity(ranked.len());
    for (i, place) in ranked.iter().enumerate() {
        let sample = &survey.done[place.row];
        let read = |path: PathBuf| std::fs::read(&path).map_err(|source| StoreError::Read { path, source });
        let backbone = read(sample.place.backbone(sample.number))?;
        let sequence: Vec<u8> = rows[place.row].sequence.bytes().filter_map(amino_acid).collect();
        let original = named(&String::from_utf8_lossy(&backbone), &sequence);
        let mut chosen = ("orig", copy(ORIGINAL, i + 1, original.as_bytes())?);
        if place.passes_first {
            let complex = read(sample.place.file(af2::FOLDER, sample.number, af2::COMPLEX))?;
            chosen = ("af2", copy(FIRST, i + 1, &complex)?);
        }
        if let Some(model) = survey.second().filter(|_| place.passes_second) {
            let complex = read(sample.place.file(&second::folder(model), sample.number, second::FINAL))?;
            chosen = (model.prefix(), copy(&second_folder(model), i + 1, &complex)?);
        }
        best.push(chosen);
    }
    let of_second = SecondModel::ALL.map(second_folder);
    for folder in [ORIGINAL, FIRST].into_iter().chain(of_second.iter().map(String::as_str)) {
        let old = std::fs::read_dir(out.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_rank = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rank_"));
        old.filter(is_rank).filter(|path| !kept.contains(path)).for_each(|path| {
            let _ = std::fs::remove_file(path); // another merge may have been faster
        });
    }
    Ok(best)
}

/// Structure clusters of the designs that pass, in their order; nothing of the others.
fn members(survey: &Survey, ranked: &[Ranked], ranking: Ranking) -> Vec<Option<Member>> {
    let binders = ranked.iter().map(|place| place.passes(ranking).then(|| binder(&survey.done[place.row])));
    let binders: Vec<Option<Vec<Vec3>>> = binders.map(Option::flatten).collect();
    let known: Vec<Vec<Vec3>> = binders.iter().flatten().cloned().collect();
    let mut found = clusters(&known, THRESHOLD).into_iter();
    binders.iter().map(|binder| binder.as_ref().and_then(|_| found.next())).collect()
}

/// CA atoms of the binder, the last chain of a sample's file.
fn binder(sample: &Sample) -> Option<Vec<Vec3>> {
    let text = std::fs::read_to_string(sample.place.backbone(sample.number)).ok()?;
    let chains = coordinates::parse(&text).ok()?;
    let atoms = chains.last()?.residues.iter().flat_map(|residue| &residue.atoms);
    Some(atoms.filter(|atom| atom.name == "CA").map(|atom| atom.position.map(f64::from)).collect())
}

/// What the table tells of each design beside its scores.
fn chosen(structures: Vec<(&'static str, String)>, members: &[Option<Member>]) -> Vec<Chosen> {
    let all = structures.into_iter().zip(members).map(|((kind, path), member)| {
        let cluster = member.as_ref().map(|member| (member.cluster, member.representative));
        Chosen { kind: kind.to_owned(), path, cluster }
    });
    all.collect()
}

/// Without scores: the samples in their order.
fn plain_table(survey: &Survey, first: &Path) -> String {
    let rows = survey.done.iter().enumerate().map(|(i, sample)| {
        let path = sample.place.backbone(sample.number);
        let path = below(&path, first).display().to_string();
        let (seed, number) = (sample.place.seed(), sample.number);
        format!("{},{},{seed},{number},orig,{}\n", i + 1, quoted(&survey.settings.task), quoted(&path))
    });
    format!("rank,task_name,seed,sample,chosen_struct_type,chosen_struct_path\n{}", rows.collect::<String>())
}

/// A cell of a table with commas.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
