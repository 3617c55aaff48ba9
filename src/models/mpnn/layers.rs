//! What encoder and decoder share: messages along edges, summed and scaled, and the transition of a residue.
use candle_core::Result;

use crate::ops::{Norm, RowLinear, gelu_rows};
use crate::weights::Weights;

/// What sums of messages are divided by, however many neighbours there are.
const SCALE: f32 = 30.;

/// The three layers of a message; the first is taken apart into what meets the residue, the edge and the neighbour.
#[derive(Debug)]
pub(super) struct Message {
    /// With the bias.
    pub node: RowLinear,
    pub edge: RowLinear,
    pub neighbour: RowLinear,
    /// The letter of a neighbour; of the decoder.
    pub letter: Option<RowLinear>,
    hidden: RowLinear,
    out: RowLinear,
}

impl Message {
    pub fn load(c: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            node: RowLinear::load(c, c, &w.at("node"))?,
            edge: RowLinear::load(c, c, &w.at("edge"))?,
            neighbour: RowLinear::load(c, c, &w.at("neighbour"))?,
            letter: None,
            hidden: RowLinear::load(c, c, &w.at("hidden"))?,
            out: RowLinear::load(c, c, &w.at("out"))?,
        })
    }

    pub fn load_with_letter(c: usize, w: &Weights) -> Result<Self> {
        Ok(Self { letter: Some(RowLinear::load(c, c, &w.at("letter"))?), ..Self::load(c, w)? })
    }

    /// `pre` `[k, c]`, what the parts of the first layer add up to -> the second layer of each edge, in place.
    pub fn hidden(&self, pre: &mut [f32], room: &mut [f32]) {
        gelu_rows(pre);
        room.copy_from_slice(pre);
        self.hidden.set(room, pre);
        gelu_rows(pre);
    }

    /// The third layer of each edge.
    pub fn out(&self, hidden: &[f32], y: &mut [f32]) {
        self.out.set(hidden, y);
    }

    /// The sum of the third layer over the edges that count, scaled: the layer is linear, so the sum is taken before it.
    pub fn sum(&self, hidden: &[f32], counts: impl Fn(usize) -> bool, y: &mut [f32]) {
        let c = y.len();
        let mut sum = vec![0f32; c];
        let mut n = 0.;
        for (_, row) in hidden.chunks(c).enumerate().filter(|(j, _)| counts(*j)) {
            n += 1.;
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let bias = self.out.bias();
        y.iter_mut().enumerate().for_each(|(i, y)| *y = bias.map_or(0., |b| n * b[i]));
        self.out.add(&sum, y);
        y.iter_mut().for_each(|y| *y /= SCALE);
    }
}

/// How a residue takes its messages: residual, norm, transition, norm.
#[derive(Debug)]
pub(super) struct NodeUpdate {
    message_norm: Norm,
    a: RowLinear,
    out: RowLinear,
    transition_norm: Norm,
}

impl NodeUpdate {
    pub fn load(c: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            message_norm: Norm::load(c, &w.at("message_norm"))?,
            a: RowLinear::load(c, 4 * c, &w.at("transition.a"))?,
            out: RowLinear::load(4 * c, c, &w.at("transition.out"))?,
            transition_norm: Norm::load(c, &w.at("transition_norm"))?,
        })
    }

    /// `h` `[c]`, the residue, takes the summed `messages` `[c]`; zero if it is not known.
    pub fn apply(&self, h: &mut [f32], messages: &[f32], known: bool) -> Result<()> {
        if !known {
            h.fill(0.);
            return Ok(());
        }
        h.iter_mut().zip(messages).for_each(|(h, d)| *h += d);
        self.message_norm.rows(h)?;
        let mut wide = vec![0.; self.a.n()];
        self.a.set(h, &mut wide);
        gelu_rows(&mut wide);
        let mut d = vec![0.; h.len()];
        self.out.set(&wide, &mut d);
        h.iter_mut().zip(d).for_each(|(h, d)| *h += d);
        self.transition_norm.rows(h)
    }
}
