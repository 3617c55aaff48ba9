//! fixtures/esm3/generate: iterative sampling with the official random numbers gives every token of every step.
use anyhow::{Context, Result, ensure};
use fold::features::esm3::{Coordinates, Tokens, Track};
use fold::models::esm3::generate::{Filling, Step, logits};
use fold::models::esm3::sample::{Draws, Schedule, Settings, Strategy};
use serde_json::Value;

use crate::common::Golden;
use crate::esm3::{Case, backbones, host, whole};

const TRACKS: [(Track, &str); 5] = [
    (Track::Sequence, "sequence"),
    (Track::Structure, "structure"),
    (Track::SecondaryStructure, "secondary_structure"),
    (Track::Sasa, "sasa"),
    (Track::Function, "function"),
];

/// The numbers that the official run was given, step by step.
struct Tape {
    uniform: std::vec::IntoIter<Vec<f32>>,
    orders: std::vec::IntoIter<Vec<usize>>,
}

impl Draws for Tape {
    fn uniform(&mut self, n: usize) -> Vec<f64> {
        let row = self.uniform.next().unwrap_or_default();
        assert_eq!(row.len(), n, "a number for each position");
        row.into_iter().map(f64::from).collect()
    }

    fn permutation(&mut self, n: usize) -> Vec<usize> {
        let order = self.orders.next().unwrap_or_default();
        assert_eq!(order.len(), n, "an order of the masked positions");
        order
    }
}

fn tape(g: &Golden, name: &str, row: usize) -> Result<Tape> {
    let (mut uniform, mut orders) = (Vec::new(), Vec::new());
    for step in 0.. {
        let key = |what: &str| format!("{name}/step{step}/row{row}/{what}");
        if !g.has(&key("sampled")) {
            break;
        }
        if g.has(&key("u")) {
            uniform.push(host(g, &key("u"))?);
        }
        if g.has(&key("perm")) {
            orders.push(whole(g, &key("perm"))?);
        }
    }
    Ok(Tape { uniform: uniform.into_iter(), orders: orders.into_iter() })
}

fn settings(row: &Value) -> Result<Settings> {
    let name = row["track"].as_str().context("a track")?;
    let (track, _) = TRACKS.into_iter().find(|(_, n)| *n == name).context("a known track")?;
    let defaults = Settings::new(track);
    Ok(Settings {
        n_step: row["num_steps"].as_u64().map_or(defaults.n_step, |n| n as usize),
        schedule: if row["schedule"] == "linear" { Schedule::Linear } else { Schedule::Cosine },
        strategy: if row["strategy"] == "entropy" { Strategy::Entropy } else { Strategy::Random },
        temperature: row["temperature"].as_f64().unwrap_or(1.),
        is_annealed: row["temperature_annealing"].as_bool().unwrap_or(true),
        top_p: row["top_p"].as_f64().unwrap_or(1.),
        invalid_ids: row["invalid_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| Some(v.as_u64()? as u16))
            .collect(),
        ..defaults
    })
}

/// A track of the file, one row a residue.
fn track(g: &Golden, key: &str, track: Track) -> Result<Vec<Vec<u16>>> {
    Ok(whole::<u16>(g, key)?.chunks(track.depth()).map(<[u16]>::to_vec).collect())
}

fn tokens(g: &Golden, prefix: &str, keeps_structure: bool) -> Result<Tokens> {
    let mut tokens = Tokens::default();
    for (t, name) in TRACKS {
        let key = format!("{prefix}/{name}");
        if g.has(&key) {
            tokens.set_track(t, &track(g, &key, t)?);
        }
    }
    let key = format!("{prefix}/coordinates");
    if g.has(&key) {
        let atoms = g.get(&key)?;
        let missing = |x: f32| if x >= 1e9 { f32::NAN } else { x };
        let values: Vec<f32> = atoms.flatten_all()?.to_vec1::<f32>()?.into_iter().map(missing).collect();
        let has_atom = |residue: &[f32]| residue.chunks(3).any(|x| x.iter().all(|v| v.is_finite()));
        let backbone = values.chunks(37 * 3).flat_map(|residue| residue[..9].to_vec()).collect::<Vec<_>>();
        let has_atom = values.chunks(37 * 3).map(has_atom).collect();
        tokens.coordinates = Some(Coordinates { backbone: backbones(&backbone), has_atom });
        if !keeps_structure {
            tokens.structure = None;
        }
    }
    Ok(tokens)
}

/// Runs a case and compares tokens, entropies and chosen positions of each step, and the results.
fn run(case: &Case, name: &str) -> Result<()> {
    let (g, info) = (case.golden("generate.safetensors")?, case.json("generate.json")?);
    let rows = info[name]["settings"].as_array().context("settings")?.clone();
    let trunk = case.trunk()?;
    let mut tapes = (0..rows.len()).map(|row| tape(&g, name, row)).collect::<Result<Vec<_>>>()?;
    let mut fillings = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let keeps_structure = row["condition_on_coordinates_only"] == false;
        let tokens = tokens(&g, &format!("{name}/prompt{i}"), keeps_structure)?;
        fillings.push(Filling::new(tokens, settings(row)?));
    }
    let mut problems = Vec::new();
    let mut n_seen = 0;
    let mut watch = |n: usize, i: usize, step: &Step| {
        let key = |what: &str| format!("{name}/step{n}/row{i}/{what}");
        let row = &rows[i];
        let (of, _) = TRACKS.into_iter().find(|(_, n)| row["track"] == *n).expect("found before");
        let check = || {
            let sampled = track(&g, &key("sampled"), of)?;
            let chosen: Vec<usize> =
                whole::<u8>(&g, &key("chosen"))?.iter().enumerate().filter(|(_, c)| **c > 0).map(|(i, _)| i).collect();
            let entropy = host(&g, &key("entropy"))?;
            let mut ours = step.chosen.to_vec();
            ours.sort_unstable();
            ensure!(ours == chosen, "{}: {ours:?}, expected {chosen:?}", key("chosen"));
            for i in chosen {
                let (ours, want) = (&step.drawn.tokens[i], &sampled[i]);
                ensure!(ours == want, "{}: {ours:?}, expected {want:?}", key(&i.to_string()));
                let far = (step.drawn.entropy[i] as f32 - entropy[i]).abs();
                let (ours, want) = (step.drawn.entropy[i], entropy[i]);
                ensure!(far < 1e-4, "{}: entropy {ours} expected {want}", key(&i.to_string()));
            }
            Ok(())
        };
        n_seen += 1;
        problems.extend(check().err());
    };
    for n in 0.. {
        let is_going = |i: &usize| fillings[*i].as_ref().is_ok_and(|f| f.n_step_left() > 0);
        let going: Vec<usize> = (0..fillings.len()).filter(is_going).collect();
        if going.is_empty() {
            break;
        }
        let batch: Vec<&Filling> = going.iter().flat_map(|i| &fillings[*i]).collect();
        let logits = logits(&trunk, &batch)?;
        for (i, logits) in going.into_iter().zip(logits) {
            let step = fillings[i].as_mut().expect("going").advance(&logits, &mut tapes[i]);
            match step {
                Ok(step) => watch(n, i, &step),
                Err(e) => fillings[i] = Err(e.into()),
            }
        }
    }
    let results: Vec<_> = fillings.into_iter().map(|filling| filling.map(Filling::into_tokens)).collect();
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    ensure!(n_seen > 0, "{name}: no step");
    for (i, (result, error)) in results.iter().zip(info[name]["errors"].as_array().context("errors")?).enumerate() {
        let Ok(result) = result else {
            ensure!(error.is_string(), "{name}: {:?}", result.as_ref().err());
            continue;
        };
        let (of, key) = TRACKS.into_iter().find(|(_, n)| rows[i]["track"] == *n).context("a known track")?;
        let want = track(&g, &format!("{name}/result{i}/{key}"), of)?;
        ensure!(result.track(of).as_ref() == Some(&want), "{name}: result {i}");
    }
    Ok(())
}

#[test]
fn every_token_of_every_step() -> Result<()> {
    let case = Case::small()?;
    let info = case.json("generate.json")?;
    let names: Vec<&String> = info.as_object().context("cases")?.keys().collect();
    ensure!(names.len() == 15);
    names.into_iter().try_for_each(|name| run(&case, name))
}

/// Greedy generation of a sequence and of a structure with the models of the released sizes.
#[test]
#[ignore = "needs the full-size checkpoints"]
fn full_size_esm3_generates() -> Result<()> {
    let case = Case::full()?;
    ["sequence_greedy", "structure_greedy"].iter().try_for_each(|name| run(&case, name))
}
