//! Files of a prediction in the layout of all models: a sample's number is the number of its model.
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::colabfold;
use super::parameters::{ParameterFile, family_name};
use super::passes::Pass;
use super::predict::{Job, Plan, Style};
use crate::chem::atom_layout::{ATOM37, residue};
use crate::chem::restype::CODES;
use crate::features::af2::N_ATOM37;
use crate::io::confidence::{Af2Summary, Confidences, format_af2_summary, format_confidences};
use crate::io::structure::{Atom, Chain, Entity, Origin, Structure};
use crate::io::{mmcif, pdb};
use crate::pipelines::host::host;
use crate::pipelines::output::{self, CONFIDENCES, Format, OutputError, SUMMARY, SampleFiles, pretty};
use crate::pipelines::predict::PredictError;
use crate::pipelines::store;
use crate::score::af2::{Af2Confidence, Ranking};
use crate::score::contact_probs;

/// Settings in `run.json` that do not change a finished prediction.
pub(super) const FREE_SETTINGS: &[&str] = &["seeds", "threads", "formats", "save_recycles"];

/// Where one prediction goes.
#[derive(Clone, Copy)]
pub(super) struct Target<'j, 'a> {
    pub job: &'j Job<'a>,
    pub file: &'j ParameterFile,
    pub seed: u32,
    pub style: Style,
    pub formats: &'j [Format],
}

/// What has been predicted.
pub(super) struct Made<'a> {
    pub pass: &'a Pass,
    /// Logits `[1, n, n, n_distogram]`.
    pub distogram: &'a Tensor,
    /// Wall time.
    pub seconds: f64,
}

impl Target<'_, '_> {
    fn files(&self) -> SampleFiles<'_> {
        SampleFiles { folder: &self.job.folder, name: &self.job.name, seed: self.seed, sample: self.file.number }
    }

    /// Is the prediction there, whole?
    pub fn done(&self) -> bool {
        match self.style {
            Style::Common => self.files().done(self.formats),
            Style::ColabFold => colabfold::done(self),
        }
    }

    /// Writes the structure of a pass, if that is asked for.
    pub fn pass(&self, plan: &Plan, pass: &Pass) -> Result<(), PredictError> {
        match self.style {
            Style::ColabFold => colabfold::pass(self, plan, pass),
            Style::Common if plan.save_recycles => {
                let structure = self.structure(pass);
                for format in self.formats {
                    let what = format!("recycle-{}_model.{}", pass.index, format.extension());
                    store::write(&self.files().path(&what), structure_text(&structure, *format)?.as_bytes())?;
                }
                Ok(())
            }
            Style::Common => Ok(()),
        }
    }

    /// Writes the files of a prediction, that which says it is whole last, and gives the record of them.
    pub fn write(&self, plan: &Plan, made: &Made) -> Result<Value, PredictError> {
        match self.style {
            Style::Common => self.write_common(made),
            Style::ColabFold => colabfold::write(self, plan, made),
        }
    }

    /// Score that predictions are ranked by: pLDDT of 100, 0.8 ipTM + 0.2 pTM of 1.
    fn score(&self, confidence: &Af2Confidence) -> f32 {
        let score = confidence.ranking(self.job.ranking).unwrap_or(confidence.mean_plddt);
        if self.job.ranking == Ranking::Interface { score / 100. } else { score }
    }

    fn write_common(&self, made: &Made) -> Result<Value, PredictError> {
        let (files, pass, confidence) = (self.files(), made.pass, &made.pass.confidence);
        let structure = self.structure(pass);
        let mut record = self.record(made);
        for format in self.formats {
            let path = files.path(&format!("model.{}", format.extension()));
            store::write(&path, structure_text(&structure, *format)?.as_bytes())?;
            record[format!("model_{}", format.extension())] = json!(path);
        }
        let order = self.job.residues();
        let n = order.len();
        let contacts = contact_probs(host(made.distogram)?.values(), made.distogram.dim(3)?);
        let chain = |i: usize| self.job.raw.chains[self.job.raw.asym_id[i] as usize].id.as_str();
        let chains: Vec<&str> = order.iter().map(|&i| chain(i)).collect();
        let of_atom: Vec<&str> = structure.atoms.iter().map(|a| structure.chains[a.chain].id.as_str()).collect();
        let plddts: Vec<f32> = structure.atoms.iter().map(|a| a.plddt).collect();
        let pairs = |x: &[f32]| -> Vec<f32> {
            order.iter().flat_map(|&i| order.iter().map(move |&j| (i, j))).map(|(i, j)| x[i * n + j]).collect()
        };
        let pae = confidence.errors.as_ref().map(|e| pairs(&e.pae));
        let numbers: Vec<i32> = order.iter().map(|&i| self.job.raw.residue_index[i] + 1).collect();
        let text = format_confidences(&Confidences {
            atom_chain_ids: &of_atom,
            atom_plddts: &plddts,
            contact_probs: &pairs(&contacts),
            pae: pae.as_deref(),
            token_chain_ids: &chains,
            token_res_ids: &numbers,
            pde: None,
        });
        store::write(&files.path(CONFIDENCES), text.as_bytes())?;
        record["confidences"] = json!(files.path(CONFIDENCES));
        let ids: Vec<&str> = structure.chains.iter().map(|c| c.id.as_str()).collect();
        let summary = format_af2_summary(&Af2Summary {
            chain_pair_pae_min: pae.as_ref().map(|pae| least(pae, &chains, &ids)),
            chain_plddt: ids.iter().map(|id| mean(&order, &chains, id, &confidence.plddt)).collect(),
            chain_ids: ids,
            ptm: confidence.errors.as_ref().map(|e| e.ptm),
            iptm: confidence.errors.as_ref().map(|e| e.iptm),
            ranking_score: self.score(confidence),
            avg_plddt: confidence.mean_plddt,
            n_recycles: pass.index,
            change: pass.change,
            model: &self.file.release,
        });
        store::write(&files.path(SUMMARY), summary.as_bytes())?;
        record["summary_confidences"] = json!(files.path(SUMMARY));
        Ok(record)
    }

    /// What is said of a prediction, without its files.
    pub fn record(&self, made: &Made) -> Value {
        let (pass, c) = (made.pass, &made.pass.confidence);
        let rounded = |x: f32| json!((f64::from(x) * 1e6).round() / 1e6);
        let mut record = json!({
            "query": self.job.name,
            "model": self.file.release,
            "seed": self.seed,
            "sample": self.file.number,
            "n_recycles": pass.index,
            "ranking_score": rounded(self.score(c)),
            "avg_plddt": rounded(c.mean_plddt),
        });
        if let Some(errors) = &c.errors {
            record["ptm"] = rounded(errors.ptm);
            record["iptm"] = rounded(errors.iptm);
        }
        record
    }

    /// The structure of a pass, chains as the query has them.
    fn structure(&self, pass: &Pass) -> Structure {
        let (raw, assembly) = (&self.job.raw, &self.job.assembly);
        let entities = assembly.entities();
        let index_of = |id: u32| entities.iter().position(|e| e.id == id).unwrap_or(0);
        let chains: Vec<Chain> =
            assembly.chains.iter().map(|c| Chain { id: c.id.clone(), entity: index_of(c.entity_id) }).collect();
        let place = |id: &str| chains.iter().position(|c| c.id == id).unwrap_or(0);
        let mut atoms = Vec::new();
        for i in self.job.residues() {
            let chain = place(&raw.chains[raw.asym_id[i] as usize].id);
            for place in places(raw.restype[i]) {
                atoms.push(Atom {
                    chain,
                    residue: raw.residue_index[i] as usize + 1,
                    name: ATOM37[place].to_owned(),
                    element: ATOM37[place][..1].to_owned(),
                    position: pass.recycled.positions[i * N_ATOM37 + place],
                    plddt: pass.confidence.plddt[i],
                });
            }
        }
        let name = self.job.name.clone();
        Structure {
            title: format!("Predicted structure of {name}"),
            name,
            origin: Origin {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                model: "AlphaFold2".to_owned(),
                release: self.file.release.clone(),
            },
            entities: entities
                .iter()
                .map(|e| Entity {
                    description: e.chains[0].description.clone(),
                    components: e.chains[0].residues.iter().map(|r| r.component.code.to_owned()).collect(),
                    sequence: e.chains[0].sequence(),
                })
                .collect(),
            ptm: pass.confidence.errors.as_ref().map(|e| e.ptm),
            iptm: pass.confidence.errors.as_ref().map(|e| e.iptm).filter(|_| chains.len() > 1),
            chains,
            atoms,
        }
    }
}

impl Job<'_> {
    /// The residues of the features in the order of the query's chains.
    pub fn residues(&self) -> Vec<usize> {
        let asym = |id: &str| self.raw.chains.iter().position(|c| c.id == id).unwrap_or(0) as i32;
        let of = |id: &str| {
            let asym = asym(id);
            (0..self.raw.n_res()).filter(move |&i| self.raw.asym_id[i] == asym)
        };
        self.assembly.chains.iter().flat_map(|c| of(&c.id)).collect()
    }
}

/// Places in atom37 of the atoms of a residue, ascending.
pub(super) fn places(restype: u8) -> Vec<usize> {
    let mut places: Vec<usize> = residue(restype).atoms.iter().map(|atom| atom.atom37).collect();
    places.sort_unstable();
    places
}

/// Three letters of a residue type.
pub(super) fn code(restype: u8) -> &'static str {
    CODES[usize::from(restype)]
}

fn structure_text(structure: &Structure, format: Format) -> Result<String, OutputError> {
    match format {
        Format::Cif => Ok(mmcif::format(structure)),
        Format::Pdb => Ok(pdb::format(structure)?),
    }
}

/// Least error of each chain's residues when aligned on one of another's: `[n_chain, n_chain]`.
fn least(pae: &[f32], chains: &[&str], ids: &[&str]) -> Vec<f32> {
    let place: Vec<usize> = chains.iter().map(|c| ids.iter().position(|id| id == c).unwrap_or(0)).collect();
    let mut out = vec![f32::INFINITY; ids.len() * ids.len()];
    for (i, row) in pae.chunks(place.len()).enumerate() {
        for (j, error) in row.iter().enumerate() {
            let least = &mut out[place[i] * ids.len() + place[j]];
            *least = least.min(*error);
        }
    }
    out
}

/// Mean pLDDT of a chain.
fn mean(order: &[usize], chains: &[&str], id: &str, plddt: &[f32]) -> f32 {
    let of: Vec<f32> = order.iter().zip(chains).filter(|(_, c)| **c == id).map(|(&i, _)| plddt[i]).collect();
    of.iter().sum::<f32>() / of.len() as f32
}

/// Everything that a result depends on, and what it was made with.
pub(super) fn settings(plan: &Plan, job: &Job, device: &Device) -> Value {
    let chains: Vec<_> = job.query.chains.iter().map(|c| json!({"chain_ids": c.ids, "sequence": c.sequence})).collect();
    let weights: serde_json::Map<_, _> = plan.models.iter().map(|m| (m.release.clone(), m.checksums.clone())).collect();
    let formats: Vec<_> = plan.formats.iter().map(Format::extension).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "query": job.query.name,
        "model": family_name(plan.family),
        "weights_sha256": weights,
        "chains": chains,
        "input_sha256": checksum(job),
        "max_msa": format!("{}:{}", job.rows.0, job.rows.1),
        "initial_guess_sha256": job.guess.as_ref().map(|x| hex(x.as_flattened().iter().flat_map(|v| v.to_le_bytes()))),
        "n_recycles": plan.n_recycle,
        "use_dropout": plan.use_dropout,
        "recycle_early_stop_tolerance": plan.tolerance,
        "output_style": if plan.style == Style::Common { "common" } else { "colabfold" },
        "seeds": plan.seeds,
        "device": if device.is_cpu() { "cpu" } else { "metal" },
        "dtype": "f32",
        "threads": plan.n_thread,
        "formats": formats,
        "save_recycles": plan.save_recycles,
    })
}

fn hex(bytes: impl Iterator<Item = u8>) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes.collect::<Vec<u8>>());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of what the network is given, before anything is drawn.
fn checksum(job: &Job) -> String {
    let (raw, mut hash) = (&job.raw, Sha256::new());
    hash.update(&raw.restype);
    hash.update(&raw.alignment.rows);
    raw.alignment.deletions.iter().for_each(|d| hash.update(d.to_le_bytes()));
    for ids in [&raw.residue_index, &raw.asym_id, &raw.entity_id, &raw.sym_id] {
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    }
    for template in &raw.templates {
        hash.update(&template.restype);
        template.positions.as_flattened().iter().chain(&template.mask).for_each(|x| hash.update(x.to_le_bytes()));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Models may be added to a finished run, or left out: the settings of this run that `found`, those of earlier ones, are to be compared
/// with, and what is to be written, with the checksums of all models.
pub(super) fn beside_earlier(settings: &Value, found: &Value) -> (Value, Value) {
    let (mut compared, mut written) = (settings.clone(), settings.clone());
    let (Some(ours), Some(earlier)) = (settings["weights_sha256"].as_object(), found["weights_sha256"].as_object())
    else {
        return (compared, written);
    };
    let both = earlier.iter().map(|(model, of)| (model.clone(), ours.get(model).unwrap_or(of).clone()));
    compared["weights_sha256"] = both.collect();
    let mut all = ours.clone();
    earlier.iter().filter(|(model, _)| !ours.contains_key(*model)).for_each(|(model, of)| {
        all.insert(model.clone(), of.clone());
    });
    all.sort_keys();
    written["weights_sha256"] = all.into();
    (compared, written)
}

/// Checks the settings of the query's folder and writes those of this run.
pub(super) fn open(job: &Job, settings: Value, overwrite: bool) -> Result<(), PredictError> {
    let path = job.folder.join("run.json");
    let found: Value = std::fs::read(&path).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
    let (compared, mut written) = beside_earlier(&settings, &found);
    match store::check_settings(&job.folder, &compared, FREE_SETTINGS) {
        Ok(()) => {}
        Err(_) if overwrite => {
            output::remove_results(&job.folder, &job.name)?;
            written = settings;
        }
        Err(e) => return Err(e.into()),
    }
    Ok(store::write(&path, &pretty(&written))?)
}
