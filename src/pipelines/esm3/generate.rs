//! Masked tracks to proteins: each prompt, each sample, one track after the other.
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Esm3Error;
use super::document::{Document, Prompt, TRACKS, TokenLists, whole};
use super::models::Models;
use super::output;
use crate::features::esm3::{Tokens, Track, structure_id};
use crate::features::noise::TorchGenerator;
use crate::models::esm3::generate::{self, Step, generate};
use crate::models::esm3::sample::{Schedule, Settings, Strategy};
use crate::pipelines::output::{Format, pretty};
use crate::pipelines::progress::Progress;
use crate::pipelines::store;

/// Tokens of all proteins in a pass, at most; one protein may have more.
const BATCH_TOKENS: usize = 4096;

/// A generation with every option resolved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is given.
    pub prompts: Vec<Prompt>,
    /// Tracks in the order in which they are generated.
    pub tracks: Vec<Settings>,
    /// Should the trunk see the structure tokens of given coordinates, beside the coordinates?
    pub uses_structure_tokens: bool,
    /// Proteins of each prompt.
    pub n_sample: usize,
    /// Sample k of every prompt draws from `seed + k`.
    pub seed: u64,
    /// Folder for the results.
    pub out: PathBuf,
    /// Structure files to write.
    pub formats: Vec<Format>,
    /// Replace results of other settings.
    pub overwrite: bool,
}

/// Settings in `run.json` that do not change a finished sample.
const FREE_SETTINGS: &[&str] = &["n_samples", "formats"];

/// A protein to be made.
struct Job {
    prompt: usize,
    sample: usize,
    /// Of its files, without the extension.
    base: PathBuf,
    /// What `run.json` beside them will say.
    settings: Rc<Value>,
}

/// Makes every protein of the plan that is not there yet.
///
/// # Errors
/// The first prompt that cannot be used, before any is generated; what fails later.
pub fn run(plan: &Plan, models: &mut Models, progress: &mut dyn Progress) -> Result<(), Esm3Error> {
    progress.stage("loading");
    let mut tokens = Vec::new();
    for prompt in &plan.prompts {
        tokens.push(models.encode(prompt, plan.uses_structure_tokens)?);
    }
    let identity = models.identity()?;
    let mut jobs = Vec::new();
    for (i, prompt) in plan.prompts.iter().enumerate() {
        let name = store::file_name(prompt.name());
        let folder = plan.out.join(&name);
        let settings = settings(plan, prompt, &identity);
        let fits = store::check_settings(&folder, &settings, FREE_SETTINGS);
        if !plan.overwrite {
            fits?;
        }
        let settings = Rc::new(settings);
        for sample in 0..plan.n_sample {
            let base = folder.join(format!("{name}_sample-{sample}"));
            let is_done = !plan.overwrite && folder.join(format!("{name}_sample-{sample}.json")).is_file();
            if !is_done {
                jobs.push(Job { prompt: i, sample, base, settings: settings.clone() });
            }
        }
    }
    let steps = |job: &Job| plan.tracks.iter().map(|t| t.n_step.min(length(&tokens[job.prompt])) as u64).sum::<u64>();
    progress.begin(jobs.iter().map(steps).sum());
    let mut rest = &jobs[..];
    while !rest.is_empty() {
        let longest = |n: usize| rest[..n].iter().map(|job| length(&tokens[job.prompt])).max().unwrap_or(0);
        let fits = (1..=rest.len()).take_while(|n| n * longest(*n) <= BATCH_TOKENS).last().unwrap_or(1);
        let (batch, later) = rest.split_at(fits);
        together(plan, batch, &tokens, models, progress)?;
        rest = later;
    }
    Ok(())
}

fn length(tokens: &Tokens) -> usize {
    tokens.n_token().unwrap_or_default()
}

/// Generates a batch, track after track, and writes what comes out.
fn together(
    plan: &Plan,
    jobs: &[Job],
    tokens: &[Tokens],
    models: &mut Models,
    progress: &mut dyn Progress,
) -> Result<(), Esm3Error> {
    let mut proteins: Vec<Tokens> = jobs.iter().map(|job| tokens[job.prompt].clone()).collect();
    let seed = |job: &Job| plan.seed.wrapping_add(job.sample as u64);
    let mut generators: Vec<TorchGenerator> = jobs.iter().map(|job| TorchGenerator::new(seed(job))).collect();
    let mut entropies: Vec<serde_json::Map<String, Value>> = vec![serde_json::Map::new(); jobs.len()];
    for settings in &plan.tracks {
        let name = TRACKS.iter().find(|(track, _)| *track == settings.track).map_or("", |(_, name)| *name);
        progress.stage(&format!("{} {name}", plan.prompts[jobs[0].prompt].name()));
        let mut found: Vec<Vec<Option<f32>>> = proteins.iter().map(|p| vec![None; length(p)]).collect();
        let mut prompts: Vec<generate::Prompt<'_>> = proteins
            .iter()
            .zip(&mut generators)
            .map(|(tokens, draws)| generate::Prompt { tokens: tokens.clone(), settings: settings.clone(), draws })
            .collect();
        let mut watch = |step: Step<'_>| {
            step.chosen.iter().for_each(|i| found[step.row][*i] = Some(step.drawn.entropy[*i] as f32));
            progress.advance(1);
        };
        let made = generate(models.trunk()?, &mut prompts, &mut watch)?;
        drop(prompts);
        for (i, made) in made.into_iter().enumerate() {
            let prompt = plan.prompts[jobs[i].prompt].name();
            proteins[i] = made.map_err(Esm3Error::generate(&format!("{prompt}, {name}")))?;
            let inner = &found[i][1..found[i].len() - 1];
            entropies[i].insert(name.to_owned(), json!(inner));
        }
    }
    for ((job, protein), entropy) in jobs.iter().zip(&proteins).zip(entropies) {
        let document = Document {
            name: Some(plan.prompts[job.prompt].name().to_owned()),
            sample: Some(job.sample),
            seed: Some(seed(job)),
            entropy,
            ..finished(plan, job, protein, models)?
        };
        store::write(&job.base.with_file_name("run.json"), &pretty(&job.settings))?;
        let files = output::write(&job.base, &document, &plan.formats)?;
        let record = json!({
            "name": document.name,
            "sample": job.sample,
            "sequence": document.sequence,
            "ptm": document.ptm,
            "mean_plddt": document.plddt.as_ref().map(|p| p.iter().sum::<f32>() / p.len().max(1) as f32),
            "files": files,
        });
        progress.result(&record);
    }
    Ok(())
}

/// The document of a protein. A structure that was given and not generated is passed on as it is, not decoded from its tokens.
fn finished(plan: &Plan, job: &Job, protein: &Tokens, models: &mut Models) -> Result<Document, Esm3Error> {
    let makes = |track: Track| plan.tracks.iter().any(|t| t.track == track);
    let prompt = &plan.prompts[job.prompt];
    let mut protein = protein.clone();
    let given = prompt.atoms.as_ref().filter(|_| !makes(Track::Structure));
    let structure = protein.structure.take_if(|_| given.is_some());
    // Tokens of functions do not lead back to the labels they were made of.
    let function = protein.function.take_if(|_| !makes(Track::Function));
    let mut document = models.decode(&protein)?;
    if function.is_some() {
        document.function.clone_from(&prompt.document.function);
    }
    if let Some((backbone, _)) = given {
        document.coordinates = Some(whole(backbone));
    }
    // The other tracks follow from their texts, which may be edited before the document is a prompt again.
    let all = document.tokens.take().unwrap_or_default();
    let structure = structure.or(all.structure).filter(|ids| !ids.contains(&structure_id::MASK));
    let function = function.map(|ids| ids.iter().map(|ids| ids.to_vec()).collect());
    document.tokens = Some(TokenLists { structure, function: function.or(all.function), ..TokenLists::default() });
    Ok(document)
}

/// What the results depend on.
fn settings(plan: &Plan, prompt: &Prompt, identity: &Value) -> Value {
    let track = |s: &Settings| {
        json!({
            "track": TRACKS.iter().find(|(track, _)| *track == s.track).map(|(_, name)| *name),
            "n_steps": s.n_step,
            "schedule": match s.schedule { Schedule::Cosine => "cosine", Schedule::Linear => "linear" },
            "strategy": match s.strategy { Strategy::Random => "random", Strategy::Entropy => "entropy" },
            "temperature": s.temperature,
            "annealed": s.is_annealed,
            "top_p": s.top_p,
            "invalid_ids": s.invalid_ids,
        })
    };
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&prompt.document).expect("a document is JSON"));
    for value in prompt.atoms.iter().flat_map(|(atoms, _)| atoms).flatten().flatten() {
        hash.update(value.to_le_bytes());
    }
    let sum: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    json!({
        "model": "esm3",
        "version": env!("CARGO_PKG_VERSION"),
        "weights_sha256": identity,
        "prompt_sha256": sum,
        "tracks": plan.tracks.iter().map(track).collect::<Vec<_>>(),
        "structure_tokens": plan.uses_structure_tokens,
        "seed": plan.seed,
        "n_samples": plan.n_sample,
        "formats": plan.formats.iter().map(Format::extension).collect::<Vec<_>>(),
    })
}
