//! The decoder: residue by residue, each layer's state kept, so that a step updates one residue; or all at once where letters are known.
use candle_core::Result;
use rayon::prelude::*;

use super::config::Config;
use super::encoder::Encoded;
use super::layers::{Message, NodeUpdate};
use crate::features::mpnn::N_LETTER;
use crate::ops::RowLinear;
use crate::weights::Weights;

/// Logits of the letters of a residue.
pub type Logits = [f32; N_LETTER];

/// Layers and heads of the decoder.
#[derive(Debug)]
pub struct Decoder {
    c: usize,
    layers: Vec<Layer>,
    out: RowLinear,
}

#[derive(Debug)]
struct Layer {
    message: Message,
    update: NodeUpdate,
    /// `[n_letter, c]`: what a known letter of a neighbour adds to the first layer of its message.
    letters: Vec<f32>,
}

/// A backbone with what the decoder needs of it in each layer, once for all samples.
#[derive(Debug)]
pub struct Prepared<'a> {
    encoded: &'a Encoded,
    /// Of each layer, `[n_res, k, c]`: what the edges add to the first layer of their messages.
    edges: Vec<Vec<f32>>,
    /// Of each layer, `[n_res, c]`: what a neighbour adds that is not decoded yet.
    undecoded: Vec<Vec<f32>>,
}

/// A sequence in the making.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Of each layer but the last, `[n_res, c]`: the residues behind it.
    nodes: Vec<Vec<f32>>,
    /// Of each layer, `[n_res, c]`: what a residue adds that is decoded.
    decoded: Vec<Vec<f32>>,
    /// `[n_res]`
    is_decoded: Vec<bool>,
}

impl Decoder {
    /// Reads the decoder.
    ///
    /// # Errors
    /// If a tensor cannot be placed.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c = config.c;
        let table = w.at("letter").param("weight", &[N_LETTER, c])?;
        let layer = |i: usize| {
            let w = w.at(format!("decoder.{i}"));
            let message = Message::load_with_letter(c, &w.at("message"))?;
            let mut letters = vec![0f32; N_LETTER * c];
            // A file that lacks the table has been noted; the model is not used.
            if let (Some(layer), Ok(table)) = (&message.letter, table.as_slice()) {
                layer.set(table, &mut letters);
            }
            Ok(Layer { message, update: NodeUpdate::load(c, &w)?, letters })
        };
        let layers = (0..config.n_decoder).map(layer).collect::<Result<_>>()?;
        Ok(Self { c, layers, out: RowLinear::load(c, N_LETTER, &w.at("out"))? })
    }

    /// What all samples of a backbone share.
    pub fn prepare<'a>(&self, encoded: &'a Encoded) -> Prepared<'a> {
        let c = self.c;
        let each = |layer: &RowLinear, rows: &[f32]| {
            let mut y = vec![0f32; rows.len()];
            y.par_chunks_mut(64 * c).zip(rows.par_chunks(64 * c)).for_each(|(y, x)| layer.set(x, y));
            y
        };
        Prepared {
            encoded,
            edges: self.layers.iter().map(|l| each(&l.message.edge, &encoded.edges)).collect(),
            undecoded: self.layers.iter().map(|l| each(&l.message.neighbour, &encoded.nodes)).collect(),
        }
    }

    /// Nothing decoded.
    pub(super) fn start(&self, x: &Prepared) -> State {
        let zeros = || vec![0f32; x.encoded.nodes.len()];
        let each = |n: usize| (0..n).map(|_| zeros()).collect();
        let n = self.layers.len();
        State { nodes: each(n.saturating_sub(1)), decoded: each(n), is_decoded: vec![false; x.encoded.mask.len()] }
    }

    /// The residue `i` through all layers -> logits.
    pub(super) fn step(&self, x: &Prepared, state: &mut State, i: usize) -> Result<Logits> {
        let c = self.c;
        let mut h = x.encoded.nodes[i * c..][..c].to_vec();
        for l in 0..self.layers.len() {
            self.through(l, x, i, &mut h, |j| {
                let known = if state.is_decoded[j] { &state.decoded[l] } else { &x.undecoded[l] };
                &known[j * c..][..c]
            })?;
            if let Some(nodes) = state.nodes.get_mut(l) {
                nodes[i * c..][..c].copy_from_slice(&h);
            }
        }
        Ok(self.logits(&h))
    }

    /// From now on the others see residue `i` as decoded; its letter, if it has one already.
    pub(super) fn show(&self, x: &Prepared, state: &mut State, i: usize, letter: Option<u8>) {
        let c = self.c;
        for (l, layer) in self.layers.iter().enumerate() {
            let decoded = &mut state.decoded[l][i * c..][..c];
            if l == 0 {
                decoded.copy_from_slice(&x.undecoded[0][i * c..][..c]);
            } else {
                layer.message.neighbour.set(&state.nodes[l - 1][i * c..][..c], decoded);
            }
            if let Some(letter) = letter {
                let row = &layer.letters[usize::from(letter) * c..][..c];
                decoded.iter_mut().zip(row).for_each(|(d, x)| *d += x);
            }
        }
        state.is_decoded[i] = true;
    }

    /// Logits `[n_res]` with known letters: `sees(i, j)` says if residue `i` knows that `j` is decoded. Also what `watch` is told of:
    /// the residues behind each layer.
    pub(super) fn all_at_once(
        &self,
        x: &Prepared,
        letters: &[u8],
        sees: impl Fn(usize, usize) -> bool + Sync,
        watch: &mut dyn FnMut(&[f32]),
    ) -> Result<Vec<Logits>> {
        let c = self.c;
        let mut nodes = x.encoded.nodes.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            let mut decoded = vec![0f32; nodes.len()];
            decoded.par_chunks_mut(c).zip(nodes.par_chunks(c)).zip(letters).for_each(|((y, h), letter)| {
                layer.message.neighbour.set(h, y);
                y.iter_mut().zip(&layer.letters[usize::from(*letter) * c..]).for_each(|(y, x)| *y += x);
            });
            nodes.par_chunks_mut(c).enumerate().try_for_each(|(i, h)| {
                self.through(l, x, i, h, |j| &(if sees(i, j) { &decoded } else { &x.undecoded[l] })[j * c..][..c])
            })?;
            watch(&nodes);
        }
        Ok(nodes.par_chunks(c).map(|h| self.logits(h)).collect())
    }

    /// One layer for the residue `i`; `part(j)` is what its neighbour `j` adds to the first layer of its message.
    fn through<'s>(
        &self,
        l: usize,
        x: &Prepared,
        i: usize,
        h: &mut [f32],
        part: impl Fn(usize) -> &'s [f32],
    ) -> Result<()> {
        let (c, k, layer) = (self.c, x.encoded.k, &self.layers[l]);
        let mut own = vec![0f32; c];
        layer.message.node.set(h, &mut own);
        let mut pre = x.edges[l][i * k * c..][..k * c].to_vec();
        for (row, j) in pre.chunks_mut(c).zip(&x.encoded.neighbours[i * k..]) {
            row.iter_mut().zip(&own).zip(part(*j as usize)).for_each(|((row, own), part)| *row += own + part);
        }
        let (mut room, mut messages) = (vec![0f32; k * c], vec![0f32; c]);
        layer.message.hidden(&mut pre, &mut room);
        layer.message.sum(&pre, |_| true, &mut messages);
        layer.update.apply(h, &messages, x.encoded.mask[i])
    }

    fn logits(&self, h: &[f32]) -> Logits {
        let mut logits = [0f32; N_LETTER];
        self.out.set(h, &mut logits);
        logits
    }
}
