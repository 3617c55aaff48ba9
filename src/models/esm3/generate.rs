//! Iterative sampling: masked positions of a track are filled in a few passes of the trunk. `iterative_sampling_tokens`
//! (`esm/utils/generation.py`) of esm 3.2.1.
use candle_core::{IndexOp, Result};

use super::sample::{Drawn, Draws, SampleError, Settings, choose, draw};
use super::tracks::Batch;
use super::trunk::Trunk;
use crate::features::esm3::{Token, Tokens, Track, TrackError, sequence_id};

/// A protein with masks, and how they are to be filled.
pub struct Prompt<'a> {
    /// Its tracks; those that are not given are masked.
    pub tokens: Tokens,
    /// What to generate and how.
    pub settings: Settings,
    /// Its random numbers.
    pub draws: &'a mut dyn Draws,
}

/// Why a prompt gives no protein.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Tracks of different lengths, or none.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// Nothing can be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// What a step does to a prompt.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// From 0.
    pub step: usize,
    /// Number of the prompt.
    pub row: usize,
    /// What could be written everywhere.
    pub drawn: &'a Drawn,
    /// Where it is written.
    pub chosen: &'a [usize],
}

/// A prompt on its way.
struct State {
    tokens: Tokens,
    settings: Settings,
    /// The track that is generated.
    track: Vec<Token>,
    /// Positions to be filled in all.
    n_total: usize,
}

/// Fills the masked positions of each prompt's track; `watch` sees each step of each. Only that track of a result differs from
/// its prompt. A prompt that cannot be filled does not disturb the others.
pub fn generate(
    trunk: &Trunk,
    prompts: &mut [Prompt<'_>],
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<std::result::Result<Tokens, GenerateError>>> {
    let mut states: Vec<std::result::Result<State, GenerateError>> = prompts.iter().map(State::new).collect();
    let n_step = states.iter().flatten().map(|state| state.settings.n_step).max().unwrap_or(0);
    for step in 0..n_step {
        let active: Vec<usize> =
            (0..states.len()).filter(|i| states[*i].as_ref().is_ok_and(|state| step < state.settings.n_step)).collect();
        let proteins: Vec<&Tokens> = active.iter().flat_map(|i| &states[*i]).map(|state| &state.tokens).collect();
        let batch = Batch::of(&proteins).map_err(candle_core::Error::wrap)?;
        let x = trunk.forward(&batch)?;
        for (row, &i) in active.iter().enumerate() {
            let Ok(state) = &mut states[i] else { continue };
            let x = x.i(row..=row)?.narrow(1, 0, state.track.len())?.contiguous()?;
            let logits = trunk.logits(&x, state.settings.track)?.flatten_all()?.to_vec1::<f32>()?;
            let draws = &mut *prompts[i].draws;
            if let Err(e) =
                state.advance(&logits, step, draws, &mut |drawn, chosen| watch(Step { step, row: i, drawn, chosen }))
            {
                states[i] = Err(e.into());
            }
        }
    }
    let finish =
        |(state, prompt): (std::result::Result<State, GenerateError>, &Prompt<'_>)| state.map(|s| s.finish(prompt));
    Ok(states.into_iter().zip(&*prompts).map(finish).collect())
}

impl State {
    fn new(prompt: &Prompt<'_>) -> std::result::Result<Self, GenerateError> {
        let (tokens, settings) = (prompt.tokens.clone(), prompt.settings.clone());
        let (n, track) = (tokens.n_token()?, settings.track);
        if track == Track::ResidueAnnotations {
            return Err(SampleError::Track.into());
        }
        let given = tokens.track(track);
        let is_given = given.is_some();
        let all_masked = || {
            let mut tokens = vec![vec![track.mask(); track.depth()]; n];
            tokens[0].fill(track.ends()[0]);
            tokens[n - 1].fill(track.ends()[1]);
            tokens
        };
        let mut state =
            Self { track: given.unwrap_or_else(all_masked), n_total: n_residue(&tokens, n), tokens, settings };
        if is_given {
            state.n_total = state.masked().len();
        }
        if state.masked().is_empty() {
            return Err(SampleError::NoMask.into());
        }
        if state.n_total > 0 {
            state.settings.n_step = state.settings.n_step.min(state.n_total);
        }
        Ok(state)
    }

    /// Positions between the ends whose token is to be found.
    fn masked(&self) -> Vec<usize> {
        let mask = self.settings.track.mask();
        let is_masked = |i: &usize| self.track[*i].iter().all(|id| *id == mask);
        (1..self.track.len().saturating_sub(1)).filter(is_masked).collect()
    }

    fn advance(
        &mut self,
        logits: &[f32],
        step: usize,
        draws: &mut dyn Draws,
        watch: &mut dyn FnMut(&Drawn, &[usize]),
    ) -> std::result::Result<(), SampleError> {
        let drawn = draw(logits, self.track.len(), step, &self.settings, draws)?;
        let chosen = choose(&self.masked(), &drawn.entropy, self.n_total, step, &self.settings, draws)?;
        watch(&drawn, &chosen);
        chosen.into_iter().for_each(|i| self.track[i].clone_from(&drawn.tokens[i]));
        self.tokens.set_track(self.settings.track, &self.track);
        Ok(())
    }

    /// The prompt with its track as it is now.
    fn finish(self, prompt: &Prompt<'_>) -> Tokens {
        let mut tokens = prompt.tokens.clone();
        tokens.set_track(self.settings.track, &self.track);
        tokens
    }
}

/// Positions of a sequence that are neither ends, padding, chain breaks nor unknown; without one, all between the ends.
fn n_residue(tokens: &Tokens, n: usize) -> usize {
    const SPECIAL: [u16; 5] =
        [sequence_id::BOS, sequence_id::PAD, sequence_id::EOS, sequence_id::UNKNOWN, sequence_id::CHAIN_BREAK];
    let of = |ids: &Vec<u16>| ids.iter().filter(|id| !SPECIAL.contains(id)).count();
    tokens.sequence.as_ref().map_or(n.saturating_sub(2), of)
}
