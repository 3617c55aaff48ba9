//! ProteinMPNN (Dauparas et al. 2022), a sequence for a backbone: the official program's network (8907e66), its rules of sampling, and
//! those of ColabDesign 1.1.1. It runs on the CPU on every machine: a step of its decoder is smaller than a launch.
pub mod binder;
pub mod config;
pub mod decoder;
pub mod encoder;
mod layers;
pub mod sample;

use candle_core::{Device, Result};

use crate::features::mpnn::{Backbone, N_LETTER, Rules};
use crate::weights::Weights;
use config::Config;
use decoder::{Decoder, Logits, Prepared};
use encoder::{Encoded, Encoder};

/// The network.
#[derive(Debug)]
pub struct ProteinMpnn {
    config: Config,
    /// Backbone to graph.
    pub encoder: Encoder,
    /// Graph to letters.
    pub decoder: Decoder,
}

impl ProteinMpnn {
    /// Builds the network over a weights file, of backbones or of CA atoms as its metadata say, and checks that every tensor of the file
    /// belongs to it.
    ///
    /// # Errors
    /// A file of another model or other sizes.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let w = w.on(&Device::Cpu);
        let ca_only = w.metadata("model") == Some("mpnn-ca");
        let model =
            Self { config: *config, encoder: Encoder::load(config, ca_only, &w)?, decoder: Decoder::load(config, &w)? };
        w.finish()?;
        Ok(model)
    }

    /// Which rules of reading a backbone go with the weights in the official program.
    pub fn rules(&self) -> Rules {
        if self.encoder.ca_only() { Rules::CaOnly } else { Rules::Official }
    }

    /// See [`Config::n_initial`].
    pub fn n_initial(&self) -> usize {
        self.config.n_initial(self.encoder.ca_only())
    }

    /// The encoder.
    ///
    /// # Errors
    /// A backbone for the other network.
    pub fn encode(&self, backbone: &Backbone) -> Result<Encoded> {
        self.encoder.forward(backbone)
    }

    /// Log-probabilities `[n_res]` of all letters where `letters` are decoded in this `order`.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn log_probs(&self, x: &Prepared, letters: &[u8], order: &[usize]) -> Result<Vec<Logits>> {
        self.log_probs_watched(x, letters, order, &mut |_| {})
    }

    /// As [`ProteinMpnn::log_probs`]; `watch` is told of the residues `[n_res, c]` behind each layer.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn log_probs_watched(
        &self,
        x: &Prepared,
        letters: &[u8],
        order: &[usize],
        watch: &mut dyn FnMut(&[f32]),
    ) -> Result<Vec<Logits>> {
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(p, i)| place[*i] = p);
        let logits = self.decoder.all_at_once(x, letters, |i, j| place[j] < place[i], watch)?;
        Ok(logits.into_iter().map(log_softmax).collect())
    }

    /// Log-probabilities `[n_res]` from the backbone alone.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn unconditional(&self, x: &Prepared, n_res: usize) -> Result<Vec<Logits>> {
        let logits = self.decoder.all_at_once(x, &vec![0; n_res], |_, _| false, &mut |_| {})?;
        Ok(logits.into_iter().map(log_softmax).collect())
    }

    /// Log-probabilities of each of `positions` where it is decoded last, or first if it is to know of the backbone alone; `keys`
    /// `[n_res]` order the rest. Zero for other residues.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn conditional(
        &self,
        x: &Prepared,
        letters: &[u8],
        positions: &[usize],
        keys: &[f32],
        place: Place,
    ) -> Result<Vec<Logits>> {
        let mut made = vec![[0f32; N_LETTER]; letters.len()];
        for &i in positions {
            let late: Vec<bool> = (0..letters.len()).map(|j| (i == j) == (place == Place::Last)).collect();
            made[i] = self.log_probs(x, letters, &decoding_order(&late, keys))?[i];
        }
        Ok(made)
    }
}

/// When a residue is decoded whose conditional probabilities are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It knows all other letters.
    Last,
    /// It knows none.
    First,
}

/// The official order: by the size of normal random numbers `keys` `[n_res]`, those of residues that are not designed made small.
pub fn decoding_order(designed: &[bool], keys: &[f32]) -> Vec<usize> {
    let key = |i: usize| (f32::from(designed[i]) + 0.0001) * keys[i].abs();
    let mut order: Vec<usize> = (0..designed.len()).collect();
    order.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
    order
}

/// Mean negative log-probability of `letters` over the residues that `counts` says; NaN over none.
pub fn score(log_probs: &[Logits], letters: &[u8], counts: &[bool]) -> f32 {
    let each = log_probs.iter().zip(letters).zip(counts).filter(|(_, counts)| **counts);
    let (sum, n) =
        each.fold((0f64, 0f64), |(sum, n), ((row, letter), _)| (sum - f64::from(row[usize::from(*letter)]), n + 1.));
    (sum / n) as f32
}

/// Of a row.
pub fn log_softmax(logits: Logits) -> Logits {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - most).exp()).sum();
    logits.map(|x| x - most - sum.ln())
}
