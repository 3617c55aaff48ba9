//! Iterative sampling: masked positions of a track are filled in a few passes of the trunk. `iterative_sampling_tokens`
//! (`esm/utils/generation.py`) of esm 3.2.1.
use candle_core::Result;

use super::sample::{Drawn, Draws, SampleError, Settings, choose, draw};
use super::tracks::Batch;
use super::trunk::Trunk;
use crate::features::esm3::{Token, Tokens, TrackError, sequence_id};

/// Why a protein cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Tracks of different lengths, or none.
    #[error(transparent)]
    Track(#[from] TrackError),
    /// Nothing can be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// What a step does to a protein.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What could be written everywhere.
    pub drawn: Drawn,
    /// Where it is written.
    pub chosen: Vec<usize>,
}

/// A protein one of whose tracks is being filled. Each pass of the trunk is a step; proteins in one pass need not be at the same
/// step, of the same track or of the same length.
#[derive(Debug, Clone)]
pub struct Filling {
    tokens: Tokens,
    settings: Settings,
    /// The track that is generated.
    track: Vec<Token>,
    /// Positions to be filled in all.
    n_total: usize,
    /// Steps that are done.
    step: usize,
}

/// Logits of the track that each of the proteins needs for its next step, `[tokens, ids]`.
pub fn logits(trunk: &Trunk, fillings: &[&Filling]) -> Result<Vec<Vec<f32>>> {
    let proteins: Vec<&Tokens> = fillings.iter().map(|filling| &filling.tokens).collect();
    let batch = Batch::of(&proteins).map_err(candle_core::Error::wrap)?;
    let x = trunk.forward(&batch)?;
    let mut start = 0;
    let mut all = Vec::with_capacity(fillings.len());
    for run in fillings.chunk_by(|a, b| a.settings.track == b.settings.track) {
        let rows: usize = run.iter().map(|filling| filling.n_token()).sum();
        let logits =
            trunk.logits(&x.narrow(1, start, rows)?, run[0].settings.track)?.flatten_all()?.to_vec1::<f32>()?;
        let width = logits.len() / rows;
        let mut at = 0;
        for filling in run {
            all.push(logits[at..at + filling.n_token() * width].to_vec());
            at += filling.n_token() * width;
        }
        start += rows;
    }
    Ok(all)
}

impl Filling {
    /// Tracks that are not given are masked.
    ///
    /// # Errors
    /// If the tracks do not fit each other, or nothing is masked on the one to be filled.
    pub fn new(tokens: Tokens, settings: Settings) -> std::result::Result<Self, GenerateError> {
        let (n, track) = (tokens.n_token()?, settings.track);
        settings.check()?;
        let given = tokens.track(track);
        let is_given = given.is_some();
        let all_masked = || {
            let mut tokens = vec![vec![track.mask(); track.depth()]; n];
            tokens[0].fill(track.ends()[0]);
            tokens[n - 1].fill(track.ends()[1]);
            tokens
        };
        let n_total = n_residue(&tokens, n);
        let mut filling = Self { track: given.unwrap_or_else(all_masked), n_total, tokens, settings, step: 0 };
        let n_masked = filling.masked().len();
        if n_masked == 0 {
            return Err(SampleError::NoMask.into());
        }
        if is_given {
            filling.n_total = n_masked;
        }
        if filling.n_total > 0 {
            filling.settings.n_step = filling.settings.n_step.min(filling.n_total);
        }
        Ok(filling)
    }

    /// Tokens of each track, ends included.
    pub fn n_token(&self) -> usize {
        self.track.len()
    }

    /// Steps that are left.
    pub fn n_step_left(&self) -> usize {
        self.settings.n_step - self.step
    }

    /// Writes the next step's tokens, drawn from the `logits` of its track.
    ///
    /// # Errors
    /// If nothing is left to be written, or to be drawn from.
    pub fn advance(&mut self, logits: &[f32], draws: &mut dyn Draws) -> std::result::Result<Step, SampleError> {
        let drawn = draw(logits, self.track.len(), self.step, &self.settings, draws)?;
        let chosen = choose(&self.masked(), &drawn.entropy, self.n_total, self.step, &self.settings, draws)?;
        chosen.iter().for_each(|i| self.track[*i].clone_from(&drawn.tokens[*i]));
        self.tokens.set_track(self.settings.track, &self.track);
        self.step += 1;
        Ok(Step { drawn, chosen })
    }

    /// The protein as it is now.
    pub fn into_tokens(self) -> Tokens {
        self.tokens
    }

    /// Positions between the ends whose token is to be found.
    fn masked(&self) -> Vec<usize> {
        let mask = self.settings.track.mask();
        let is_masked = |i: &usize| self.track[*i].iter().all(|id| *id == mask);
        (1..self.track.len().saturating_sub(1)).filter(is_masked).collect()
    }
}

/// Positions of a sequence that are neither ends, padding, chain breaks nor unknown; without one, all between the ends.
fn n_residue(tokens: &Tokens, n: usize) -> usize {
    const SPECIAL: [u16; 5] =
        [sequence_id::BOS, sequence_id::PAD, sequence_id::EOS, sequence_id::UNKNOWN, sequence_id::CHAIN_BREAK];
    let of = |ids: &Vec<u16>| ids.iter().filter(|id| !SPECIAL.contains(id)).count();
    tokens.sequence.as_ref().map_or(n.saturating_sub(2), of)
}
