//! The report of a task: three plots, and a page that stands alone: settings, counts, plots, the ranked designs, the best of them in 3D.
//! All of it follows from the content of the run; a run in progress has one too.
mod figures;
mod page;
mod structures;

use std::path::Path;

use serde_json::{Value, json};

use super::survey::{Sample, Survey, below};
use super::{af2, complex};
use crate::features::pxdesign::DesignStructure;
use crate::geometry::Rigid;
use crate::pipelines::store::{self, StoreError};
use crate::score::design::clusters::Member;
use crate::score::design::rank::{Ranked, Ranking};
use crate::score::design::{Row, SecondModel};
use page::{Page, Plot};
use structures::{Complex, Hotspots, Layouts};

/// What the filters have made of the samples that are done.
#[derive(Debug, Clone)]
pub struct Scored {
    /// In the order of the samples that are done.
    pub rows: Vec<Row>,
    /// The best first.
    pub ranked: Vec<Ranked>,
    /// The cluster of each ranked design.
    pub members: Vec<Option<Member>>,
    /// The network of the second filter.
    pub second: Option<SecondModel>,
}

impl Scored {
    /// Designs that pass every filter.
    pub fn n_passing(&self) -> usize {
        self.ranked.iter().filter(|place| self.passes(place)).count()
    }

    fn passes(&self, place: &Ranked) -> bool {
        place.passes(Ranking::by(self.second))
    }
}

/// Section of `run.json` with what the report shows of the target; nothing that samples depend on.
pub const TARGET: &str = "target";
/// The key of the hotspots in it.
const HOTSPOTS: &str = "hotspots";
/// Designs that are shown in 3D at most.
const N_SHOWN: usize = 20;

/// The section of a complex.
pub fn target(structure: &DesignStructure) -> Value {
    let mut hotspots = Hotspots::new();
    for residue in structure.residues.iter().filter(|residue| residue.hotspot) {
        hotspots.entry(complex::file_id(&structure.chains[residue.chain])).or_default().insert(residue.number);
    }
    json!({ HOTSPOTS: hotspots })
}

/// Writes plots and page of a task into `out`, beside its table; `first` is the folder of the run in which that is. A run without scores has a
/// page without plots.
///
/// # Errors
/// A file that cannot be written. What cannot be read or drawn is left out.
pub fn write(survey: &Survey, scored: Option<&Scored>, first: &Path, out: &Path) -> Result<(), StoreError> {
    let mut plots = Vec::new();
    if let Some(scored) = scored {
        for (name, alt, png) in [
            ("ipae_iptm.png", "ipAE against ipTM of each design", figures::ipae_iptm(scored)),
            ("rmsd.png", "RMSD distributions", figures::rmsd(scored)),
            ("yield.png", "designs that pass against samples done", figures::yield_so_far(scored, survey.n_expected())),
        ] {
            if !png.is_empty() {
                store::write_shared(&out.join(name), &png)?;
                plots.push(Plot { name, alt, png });
            }
        }
    }
    let data = Data { survey, scored, first, out };
    let page = Page {
        survey,
        first,
        counts: scored.map(figures::counts),
        n_passing: scored.map(Scored::n_passing),
        plots: &plots,
        data: data.json(),
    };
    store::write_shared(&out.join("report.html"), page.html().as_bytes())
}

/// A column of the table: its key, what stands above it, and how its cells are shown.
type Column = (&'static str, String, &'static str);

/// What the page's script reads.
struct Data<'a> {
    survey: &'a Survey,
    scored: Option<&'a Scored>,
    first: &'a Path,
    out: &'a Path,
}

impl Data<'_> {
    fn json(&self) -> Value {
        let hotspots = self.hotspots();
        let columns: Vec<Value> =
            self.columns().into_iter().map(|(key, title, kind)| json!([key, title, kind])).collect();
        let rows: Vec<Value> = match self.scored {
            Some(scored) => {
                let folders = self.folders();
                (0..scored.ranked.len()).map(|i| self.scored_row(scored, i, &folders)).collect()
            }
            None => self.survey.done.iter().enumerate().map(|(i, sample)| self.plain_row(i, sample)).collect(),
        };
        let mut layouts = Layouts::default();
        let structures = self.structures(&hotspots, &mut layouts);
        json!({
            "columns": columns, "rows": rows, "hotspots": hotspots, "layouts": layouts.json(), "structures": structures,
        })
    }

    /// Of the run's settings; none in runs that do not tell.
    fn hotspots(&self) -> Hotspots {
        let section = self.survey.settings.sections.get(TARGET);
        section.and_then(|section| serde_json::from_value(section[HOTSPOTS].clone()).ok()).unwrap_or_default()
    }

    fn columns(&self) -> Vec<Column> {
        let column = |key, title: &str, kind| (key, title.to_owned(), kind);
        let mut all =
            vec![column("rank", "rank", "count"), column("sample", "sample", "count"), column("seed", "seed", "count")];
        if let Some(scored) = self.scored {
            all.extend([
                column("passes", "passes", "flags"),
                column("ipae", "ipAE, Å", "number"),
                column("iptm", "ipTM", "number"),
                column("plddt", "pLDDT", "number"),
                column("ptm", "pTM", "number"),
                column("monomer_plddt", "pLDDT alone", "number"),
                column("complex_rmsd", "complex to design, Å", "number"),
                column("binder_rmsd", "binder to design, Å", "number"),
                column("bound_unbound_rmsd", "alone to bound, Å", "number"),
            ]);
            if let Some(model) = scored.second {
                let title = model.title();
                all.extend([
                    ("second_iptm_binder", format!("{title} ipTM of binder"), "number"),
                    ("second_ptm_binder", format!("{title} pTM of binder"), "number"),
                    ("second_iptm", format!("{title} ipTM"), "number"),
                    ("second_plddt", format!("{title} pLDDT"), "number"),
                    ("second_rmsd", format!("{title} to design, Å"), "number"),
                ]);
            }
            all.extend([
                column("helix", "helix", "number"),
                column("strand", "strand", "number"),
                column("rg", "Rg, Å", "number"),
                column("cluster", "cluster", "cluster"),
                column("sequence", "sequence", "sequence"),
            ]);
        }
        all.push(column("files", "files", "files"));
        all
    }

    fn scored_row(&self, scored: &Scored, i: usize, folders: &[String]) -> Value {
        let place = &scored.ranked[i];
        let (row, sample) = (&scored.rows[place.row], &self.survey.done[place.row]);
        let flags: Vec<String> = figures::filters(scored.second)
            .into_iter()
            .filter(|(_, passes)| passes(&place.flags))
            .map(|(name, _)| name)
            .collect();
        let number = |v: f64| if v.is_finite() { json!(v) } else { Value::Null };
        let mut cells = vec![json!(i + 1), json!(sample.number), json!(sample.place.seed()), json!(flags)];
        let s = &row.first;
        let first = [s.unscaled_i_pae, s.iptm, s.plddt, s.ptm, s.monomer_plddt];
        cells.extend(first.into_iter().chain([s.complex_rmsd, s.binder_rmsd, s.bound_unbound_rmsd]).map(number));
        if scored.second.is_some() {
            let of = row.second.map_or([f64::NAN; 5], |s| [s.iptm_binder, s.ptm_binder, s.iptm, s.plddt, s.rmsd]);
            cells.extend(of.map(number));
        }
        cells.extend([row.elements[0], row.elements[1], row.rg].map(number));
        let member = scored.members.get(i).copied().flatten();
        cells.push(member.map_or(Value::Null, |member| json!([member.cluster, member.representative])));
        cells.extend([json!(row.sequence), json!(self.files(i + 1, sample, folders))]);
        cells.into()
    }

    fn plain_row(&self, i: usize, sample: &Sample) -> Value {
        let files: Vec<[String; 2]> = self
            .link(&sample.place.backbone(sample.number))
            .map(|path| ["backbone".to_owned(), path])
            .into_iter()
            .collect();
        json!([i + 1, sample.number, sample.place.seed(), files])
    }

    /// Folders of ranked structures, in the order of their names.
    fn folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.out).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Names and paths of the structures of a design that are there, from the folder of the page.
    fn files(&self, rank: usize, sample: &Sample, folders: &[String]) -> Vec<[String; 2]> {
        let ranked = folders.iter().map(|folder| (folder, format!("{folder}/rank_{rank}.cif")));
        let there = ranked.filter(|(_, path)| self.out.join(path).is_file());
        let mut files: Vec<[String; 2]> = there.map(|(folder, path)| [label(folder), path]).collect();
        let predicted = sample.place.file(af2::FOLDER, sample.number, af2::COMPLEX);
        files.extend(self.link(&predicted).map(|path| ["predicted".to_owned(), path]));
        files
    }

    /// A file of the first folder from the folder of the page; those of other folders have no address that stays.
    fn link(&self, path: &Path) -> Option<String> {
        let inside = below(path, self.first);
        let words: Vec<_> = inside.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        (inside != path && path.is_file()).then(|| format!("../../{}", words.join("/")))
    }

    /// The designs that pass, or else the best; without scores the first samples.
    fn structures(&self, hotspots: &Hotspots, layouts: &mut Layouts) -> Vec<Value> {
        let chosen: Vec<(usize, usize)> = match self.scored {
            Some(scored) => {
                let any = scored.ranked.iter().any(|place| scored.passes(place));
                let places = scored.ranked.iter().enumerate().filter(|(_, place)| !any || scored.passes(place));
                places.map(|(i, place)| (i + 1, place.row)).take(N_SHOWN).collect()
            }
            None => (0..self.survey.done.len().min(N_SHOWN)).map(|i| (i + 1, i)).collect(),
        };
        let mut frame: Option<(Complex, Rigid)> = None;
        let mut made = Vec::new();
        for (rank, row) in chosen {
            let Some(sample) = self.survey.done.get(row) else { continue };
            let read = |path| Complex::parse(&std::fs::read_to_string(path).ok()?);
            let design = read(sample.place.backbone(sample.number));
            let predicted = self.scored.and_then(|_| read(sample.place.file(af2::FOLDER, sample.number, af2::COMPLEX)));
            let is_predicted = predicted.is_some();
            let Some(shown) = predicted.or_else(|| design.clone()) else { continue };
            let rigid = match &frame {
                Some((first, onto)) => shown.laid_on(first, onto),
                None => shown.upright(),
            };
            let mut structure = shown.json(&rigid, hotspots, is_predicted, layouts);
            structure["rank"] = rank.into();
            let beside = design.filter(|_| is_predicted).map(|design| {
                let onto = design.laid_on(&shown, &rigid);
                design.binder().json(&onto, &Hotspots::new(), false, layouts)
            });
            structure["design"] = beside.unwrap_or_default();
            made.push(structure);
            frame.get_or_insert((shown, rigid));
        }
        made
    }
}

/// What a link to a ranked structure says.
fn label(folder: &str) -> String {
    match folder {
        "orig_designed" => "design".to_owned(),
        other => other.strip_prefix("passing-").unwrap_or(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::design::place::Place;
    use crate::pipelines::design::settings::Settings;
    use crate::score::design::rank::{Limits, rank};
    use crate::score::design::tests::row;
    use crate::score::design::{FirstScores, SecondScores};

    /// Designs of six kinds in turn: passing all, AF2-IG alone, easy alone, the second filter's lower thresholds alone, without a second
    /// filter, and without any number.
    pub fn rows(n: usize) -> Vec<Row> {
        let passing = row();
        let (good, second) = (passing.first, passing.second.expect("a second filter"));
        let row = |k: usize| {
            let mut row = Row { task: "t".to_owned(), ..passing.clone() };
            let far = SecondScores { rmsd: 9., ..second };
            match k % 6 {
                0 => {}
                1 => (row.first.iptm, row.second) = (0.4, Some(far)),
                2 => (row.first.plddt, row.second) = (0.85, Some(far)),
                3 => (row.first.plddt, row.second) = (0.1, Some(SecondScores { iptm_binder: 0.82, ..second })),
                4 => row.second = None,
                _ => {
                    let none = f64::NAN;
                    row.first =
                        FirstScores { unscaled_i_pae: none, iptm: none, plddt: f64::INFINITY, i_pae: none, ..good };
                    row.second = Some(SecondScores { rmsd: none, iptm_binder: f64::NEG_INFINITY, ..second });
                    (row.elements, row.rg) = ([none; 3], none);
                }
            }
            row
        };
        (0..n).map(row).collect()
    }

    pub fn scored(rows: &[Row], second: Option<SecondModel>) -> Scored {
        let ranking = Ranking::by(second);
        let ranked = rank(rows, ranking, Limits { most: rows.len(), least: rows.len() });
        Scored { rows: rows.to_vec(), members: vec![None; ranked.len()], ranked, second }
    }

    fn survey(task: &str, n: usize, out: &Path) -> Survey {
        let Value::Object(sections) = json!({"backbones": {"n_step": 3}, "target": {"hotspots": {"A0": [40]}}}) else {
            panic!("an object")
        };
        let command = "fold design 'a & b.yaml' --out '</script>'".to_owned();
        let settings = Settings { task: task.to_owned(), n_sample: n, seeds: [42].into(), command, sections };
        let place = Place::new(out, task, 42);
        let done = (0..n).map(|number| Sample { place: place.clone(), number }).collect();
        Survey { settings, done, failed: Vec::new(), missing: Vec::new() }
    }

    fn outputs(folder: &Path) -> std::path::PathBuf {
        crate::pipelines::design::place::outputs(folder, "t")
    }

    fn data_of(html: &str) -> Value {
        let start = html.split("<script type=\"application/json\" id=\"data\">").nth(1).expect("data");
        serde_json::from_str(start.split("</script>").next().expect("an end")).expect("JSON")
    }

    #[test]
    fn any_scores_make_a_report_that_is_the_same_again() -> anyhow::Result<()> {
        for (n, second) in
            [(0, None), (1, None), (40, None), (0, Some(SecondModel::Protenix)), (40, Some(SecondModel::OpenFold3))]
        {
            let folder = tempfile::tempdir()?;
            let survey = survey("t", n, folder.path());
            let rows = rows(n);
            let scored = scored(&rows, second);
            let read = || -> anyhow::Result<Vec<Vec<u8>>> {
                write(&survey, Some(&scored), folder.path(), &outputs(folder.path()))?;
                let names = ["ipae_iptm.png", "rmsd.png", "yield.png", "report.html"];
                Ok(names
                    .map(|name| std::fs::read(outputs(folder.path()).join(name)))
                    .into_iter()
                    .collect::<Result<_, _>>()?)
            };
            let made = read()?;
            assert!(made == read()?, "{n} designs");
            let html = String::from_utf8(made[3].clone())?;
            let data = data_of(&html);
            let rows = data["rows"].as_array().expect("rows");
            assert_eq!(rows.len(), n);
            let width = data["columns"].as_array().expect("columns").len();
            assert!(rows.iter().all(|row| row.as_array().is_some_and(|row| row.len() == width)));
            assert_eq!(width, if second.is_some() { 23 } else { 18 });
            assert_eq!(html.matches("<img ").count(), 3);
            assert!(!html.contains(&*folder.path().to_string_lossy()));
        }
        Ok(())
    }

    #[test]
    fn names_are_text_and_nothing_else() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let hostile =
            "</title></script><script>alert(1)</script><img src=x onerror='alert(\"2\")'>{{data}}&lt;\u{2028}";
        let mut survey = survey(hostile, 3, folder.path());
        let sample = survey.done.pop().expect("a sample");
        let reason = format!("{}/x: {hostile}", folder.path().display());
        survey.failed.push((sample, "af2", reason));
        survey.missing.push((survey.done.pop().expect("a sample"), "backbones"));
        let mut rows = rows(1);
        rows[0].sequence = hostile.to_owned();
        write(&survey, Some(&scored(&rows, None)), folder.path(), &outputs(folder.path()))?;
        let html = std::fs::read_to_string(outputs(folder.path()).join("report.html"))?;
        let ours = html.matches("<script").count();
        assert_eq!((ours, html.matches("</script").count()), (4, 4), "licence and data, and two that run");
        assert!(
            !html.contains("<script>alert") && !html.contains("<img src=x") && !html.contains("{{data}}&lt;\u{2028}\"")
        );
        assert!(html.contains("&lt;/title&gt;&lt;/script&gt;&lt;script&gt;alert(1)"));
        assert!(html.contains("fold design &#39;a &amp; b.yaml&#39; --out &#39;&lt;/script&gt;&#39;"));
        let data = data_of(&html);
        let row = data["rows"][0].as_array().expect("cells");
        assert_eq!(row[row.len() - 2], hostile);
        assert!(!html.contains(&*folder.path().to_string_lossy()), "no path of this machine");
        Ok(())
    }

    #[test]
    fn a_run_without_scores_has_a_page_without_plots() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let survey = survey("t", 25, folder.path());
        let out = outputs(folder.path());
        write(&survey, None, folder.path(), &out)?;
        let html = std::fs::read_to_string(out.join("report.html"))?;
        assert!(!html.contains("<img ") && !html.contains("fold design &#39;"), "whole: no command");
        assert_eq!(std::fs::read_dir(&out)?.count(), 1);
        assert_eq!(data_of(&html)["rows"].as_array().map(Vec::len), Some(25));
        Ok(())
    }
}
