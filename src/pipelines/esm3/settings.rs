//! How tracks are generated: as a document says it, resolved over the command's settings, and as `run.json` tells it.
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::document::{Prompt, track_name, track_of};
use super::generate::Plan;
use crate::features::esm3::{FIRST_CLASS, Track, sequence};
use crate::models::esm3::sample::{Schedule, Settings, Strategy};
use crate::pipelines::output::Format;

/// Ids of the letters X B U Z O . - of the sequence track, which are not drawn unless asked for.
pub const UNUSUAL_LETTERS: std::ops::Range<u16> = 24..31;

/// An id of a track: a number, or a letter of the sequence or the secondary structure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// The id.
    Number(u16),
    /// What it stands for.
    Letter(String),
}

/// A track to generate, as a document names it; what is absent is as the command has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackSettings {
    /// Name of the track.
    pub track: String,
    /// Passes.
    pub num_steps: Option<usize>,
    /// Of the first pass.
    pub temperature: Option<f64>,
    /// Does the temperature fall?
    pub temperature_annealing: Option<bool>,
    /// `cosine` or `linear`.
    pub schedule: Option<String>,
    /// `random` or `entropy`.
    pub strategy: Option<String>,
    /// Probability of the tokens that are drawn from.
    pub top_p: Option<f64>,
    /// What is not drawn.
    pub invalid_ids: Option<Vec<Id>>,
}

impl TrackSettings {
    /// Over the settings that the command has for a track.
    ///
    /// # Errors
    /// What is wrong with a field.
    pub fn resolve(&self, command: impl Fn(Track) -> Settings) -> Result<Settings, String> {
        let track = track_of(&self.track).ok_or_else(|| format!("track {:?}: {TRACK_NAMES}", self.track))?;
        let mut settings = command(track);
        if let Some(name) = &self.schedule {
            settings.schedule = match name.as_str() {
                "cosine" => Schedule::Cosine,
                "linear" => Schedule::Linear,
                _ => return Err(format!("schedule {name:?}: the schedules are cosine and linear")),
            };
        }
        if let Some(name) = &self.strategy {
            settings.strategy = match name.as_str() {
                "random" => Strategy::Random,
                "entropy" => Strategy::Entropy,
                _ => return Err(format!("strategy {name:?}: the strategies are random and entropy")),
            };
        }
        settings.n_step = self.num_steps.unwrap_or(settings.n_step);
        settings.temperature = self.temperature.unwrap_or(settings.temperature);
        settings.is_annealed = self.temperature_annealing.unwrap_or(settings.is_annealed) && settings.temperature > 0.;
        settings.top_p = self.top_p.unwrap_or(settings.top_p);
        for id in self.invalid_ids.iter().flatten() {
            settings.invalid_ids.push(id.of(track)?);
        }
        check(&settings)?;
        Ok(settings)
    }
}

/// What is said of a track that is none.
pub const TRACK_NAMES: &str = "the tracks are sequence, structure, secondary_structure (or ss8), sasa and function";

impl Id {
    /// Its number on a track.
    ///
    /// # Errors
    /// If the track has no such id.
    pub fn of(&self, track: Track) -> Result<u16, String> {
        match self {
            Self::Number(id) => Ok(*id),
            Self::Letter(text) => match text.parse() {
                Ok(id) => Ok(id),
                Err(_) => letter_id(text, track).ok_or_else(|| {
                    format!("{text:?} is no token of the {} track: give its letter or number", track_name(track))
                }),
            },
        }
    }
}

fn letter_id(text: &str, track: Track) -> Option<u16> {
    match track {
        Track::Sequence => sequence::SEQUENCE.iter().position(|name| *name == text).map(|id| id as u16),
        Track::SecondaryStructure if text.len() == 1 => {
            sequence::SS8.find(text).map(|class| FIRST_CLASS + class as u16)
        }
        _ => None,
    }
}

/// What is wrong with settings.
///
/// # Errors
/// A line about it.
pub fn check(s: &Settings) -> Result<(), String> {
    if s.n_step == 0 {
        return Err("num_steps is 1 or more".to_owned());
    }
    if !(s.temperature >= 0. && s.temperature.is_finite()) {
        return Err(format!("temperature {}: it is 0 or more", s.temperature));
    }
    if !(s.top_p > 0. && s.top_p <= 1.) {
        return Err(format!("top_p {}: it is more than 0 and at most 1", s.top_p));
    }
    Ok(())
}

/// What a prompt's results depend on.
pub(super) fn run_settings(plan: &Plan, prompt: &Prompt, tracks: &[Settings], identity: &Value) -> Value {
    let track = |s: &Settings| {
        json!({
            "track": track_name(s.track),
            "num_steps": s.n_step,
            "schedule": match s.schedule { Schedule::Cosine => "cosine", Schedule::Linear => "linear" },
            "strategy": match s.strategy { Strategy::Random => "random", Strategy::Entropy => "entropy" },
            "temperature": s.temperature,
            "temperature_annealing": s.is_annealed,
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
        "tracks": tracks.iter().map(track).collect::<Vec<_>>(),
        "structure_tokens": plan.uses_structure_tokens,
        "seed": plan.seed,
        "n_samples": plan.n_sample,
        "formats": plan.formats.iter().map(Format::extension).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Settings, String> {
        let settings: TrackSettings = serde_json::from_str(text).map_err(|e| e.to_string())?;
        settings.resolve(|track| Settings { temperature: 0.7, ..Settings::new(track) })
    }

    #[test]
    fn documents_change_what_they_name() {
        let s = resolved(r#"{"track": "ss8", "num_steps": 4, "schedule": "linear", "invalid_ids": ["H", 5, "9"]}"#)
            .unwrap();
        assert_eq!((s.track, s.n_step, s.schedule), (Track::SecondaryStructure, 4, Schedule::Linear));
        assert_eq!((s.temperature, s.is_annealed, s.invalid_ids), (0.7, true, vec![4, 5, 9]));
        let s = resolved(r#"{"track": "sequence", "temperature": 0, "invalid_ids": ["C"]}"#).unwrap();
        assert_eq!((s.is_annealed, s.invalid_ids), (false, vec![23]));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (text, expected) in [
            (r#"{"track": "sequense"}"#, "track \"sequense\": the tracks are"),
            (r#"{"track": "sequence", "schedule": "sine"}"#, "schedule \"sine\""),
            (r#"{"track": "sequence", "strategy": "best"}"#, "strategy \"best\""),
            (r#"{"track": "sequence", "num_steps": 0}"#, "num_steps is 1 or more"),
            (r#"{"track": "sequence", "temperature": -1}"#, "temperature -1"),
            (r#"{"track": "sequence", "top_p": 1.5}"#, "top_p 1.5"),
            (r#"{"track": "structure", "invalid_ids": ["C"]}"#, "\"C\" is no token of the structure track"),
            (r#"{"track": "structure", "steps": 3}"#, "unknown field `steps`"),
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
