//! Confidence head: AF3 SI Alg. 31, as OpenFold3 0.5.0, and the distogram head.
use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::batch::Batch;
use super::config::Config;
use super::embed::for_row_blocks;
use super::pairformer::Pairformer;
use crate::ops::{BiasOrder, Linear, Norm, add_in_place, norm_linear};
use crate::weights::{Param, Weights};

/// Distance bins of the predicted structure: 39 lower edges from 3.25 to 50.75 Å.
const N_DISTANCE: usize = 39;
const FIRST_EDGE: f32 = 3.25;
const LAST_EDGE: f32 = 50.75;

/// A norm, if there is one, and a projection.
#[derive(Debug)]
struct Head {
    norm: Option<Norm>,
    linear: Linear,
}

impl Head {
    fn load(c: usize, n: usize, w: &Weights) -> Result<Self> {
        Ok(Self { norm: Some(Norm::load(c, &w.at("norm"))?), linear: Linear::load(c, n, &w.at("linear"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.norm {
            Some(norm) => norm_linear(x, norm, &self.linear),
            None => self.linear.forward(x),
        }
    }

    /// Rows of a pair head.
    fn rows(&self, z: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
        self.forward(&z.narrow(1, rows.start, rows.len())?)
    }

    /// Rows of `y + y^T` of a pair head; the columns are projected again, so that `y` is never there as a whole.
    fn symmetric_rows(&self, z: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
        let y = self.rows(z, rows)?;
        let columns = z.narrow(2, rows.start, rows.len())?.transpose(1, 2)?.contiguous()?;
        add_in_place(&y, &self.forward(&columns)?)?;
        Ok(y)
    }
}

/// Distances of token pairs, from the trunk alone.
#[derive(Debug)]
pub struct DistogramHead(Head);

impl DistogramHead {
    /// The head of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self(Head { norm: None, linear: Linear::load(config.c_z, config.heads.n_distogram, &w.at("linear"))? }))
    }

    /// `z` `[1, n, n, c_z]` -> logits `[1, rows, n, n_distogram]` of some rows.
    pub fn forward(&self, z: &Tensor, rows: Range<usize>) -> Result<Tensor> {
        self.0.symmetric_rows(z, &rows)
    }
}

/// Confidence of a predicted structure.
#[derive(Debug)]
pub struct ConfidenceHead {
    s_i: Linear,
    s_j: Linear,
    /// `[c_z, 39]`.
    distance: Param,
    pairformer: Pairformer,
    pae: Head,
    pde: Head,
    plddt: Head,
    resolved: Head,
    max_atoms_per_token: usize,
}

/// Logits of one structure's atoms.
#[derive(Debug)]
pub struct AtomLogits {
    /// `s` of the confidence Pairformer, `[1, n_token, c_s]`.
    pub single: Tensor,
    /// `[1, n_atom, n_plddt]`.
    pub plddt: Tensor,
    /// `[1, n_atom, 2]`.
    pub resolved: Tensor,
}

/// Logits of some rows of one structure's token pairs.
#[derive(Debug)]
pub struct PairLogits {
    /// `[1, rows, n_token, n_pae]`.
    pub pae: Tensor,
    /// `[1, rows, n_token, n_pde]`.
    pub pde: Tensor,
}

impl ConfidenceHead {
    /// The head of `config`.
    pub fn load(config: &Config, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let (c_s, c_z, c_in) = (config.c_s, config.c_z, config.c_s_input());
        let heads = config.heads;
        let pairformer = w.at("pairformer");
        Ok(Self {
            s_i: Linear::load(c_in, c_z, &w.at("s_i"))?,
            s_j: Linear::load(c_in, c_z, &w.at("s_j"))?,
            distance: w.at("distance").param("weight", &[c_z, N_DISTANCE])?,
            pairformer: Pairformer::load(c_s, c_z, config.confidence, ending_bias, &pairformer)?,
            pae: Head::load(c_z, heads.n_pae, &w.at("pae"))?,
            pde: Head::load(c_z, heads.n_pde, &w.at("pde"))?,
            plddt: Head::load(c_s, heads.max_atoms_per_token * heads.n_plddt, &w.at("plddt"))?,
            resolved: Head::load(c_s, heads.max_atoms_per_token * 2, &w.at("resolved"))?,
            max_atoms_per_token: heads.max_atoms_per_token,
        })
    }

    /// Confidence of one structure, given by the positions of its tokens' representative atoms, `[n_token, 3]` in Å. The
    /// trunk's `z` `[1, n, n, c_z]` is overwritten by the head's own, which `pair_logits` takes.
    pub fn forward(
        &self,
        batch: &Batch,
        s_input: &Tensor,
        s: &Tensor,
        z: &Tensor,
        representatives: &[[f32; 3]],
    ) -> Result<AtomLogits> {
        self.embed(s_input, z, representatives)?;
        let s = s.force_contiguous()?;
        self.refine(batch, &s, z)?;
        self.atom_logits(batch, s)
    }

    /// Runs the head's own Pairformer on `s` `[1, n, c_s]` and `z` `[1, n, n, c_z]`, in place.
    pub fn refine(&self, batch: &Batch, s: &Tensor, z: &Tensor) -> Result<()> {
        self.pairformer.update(s, z, &batch.token_mask, &batch.pair_mask, &mut || Ok(()))
    }

    /// The output layers on the head's `s` `[1, n, c_s]`.
    pub fn atom_logits(&self, batch: &Batch, s: Tensor) -> Result<AtomLogits> {
        Ok(AtomLogits {
            plddt: self.per_atom(&self.plddt, &s, batch)?,
            resolved: self.per_atom(&self.resolved, &s, batch)?,
            single: s,
        })
    }

    /// The output layers on some rows of the head's `z` `[1, n, n, c_z]`.
    pub fn pair_logits(&self, z: &Tensor, rows: Range<usize>) -> Result<PairLogits> {
        Ok(PairLogits { pae: self.pae.rows(z, &rows)?, pde: self.pde.symmetric_rows(z, &rows)? })
    }

    /// Adds input and binned distances to the trunk's `z` in place: what the Pairformer starts from.
    pub fn embed(&self, s_input: &Tensor, z: &Tensor, x: &[[f32; 3]]) -> Result<()> {
        let (_, n, _, c) = z.dims4()?;
        let host = |t: Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (z_i, z_j) = (host(self.s_i.forward(s_input)?)?, host(self.s_j.forward(s_input)?)?);
        let weight = self.distance.columns()?;
        let edges = distance_edges();
        // Strictly between two edges, as the official comparison: a distance on an edge is in no bin.
        let above = |bin: usize| edges.get(bin + 1).copied().unwrap_or(1e9);
        for_row_blocks(z, |block, rows| {
            let mut added = vec![0f32; rows.len() * n * c];
            added.par_chunks_mut(c).enumerate().for_each(|(pair, out)| {
                let (i, j) = (rows.start + pair / n, pair % n);
                let parts = z_i[i * c..(i + 1) * c].iter().zip(&z_j[j * c..(j + 1) * c]);
                out.iter_mut().zip(parts).for_each(|(o, (a, b))| *o = a + b);
                let d = (0..3).map(|axis| (x[i][axis] - x[j][axis]).powi(2)).sum::<f32>();
                if let Some(bin) = (0..N_DISTANCE).find(|&bin| d > edges[bin] && d < above(bin)) {
                    out.iter_mut().zip(&weight[bin * c..(bin + 1) * c]).for_each(|(o, w)| *o += w);
                }
            });
            add_in_place(block, &Tensor::from_vec(added, (1, rows.len(), n, c), z.device())?)
        })
    }

    fn per_atom(&self, head: &Head, s: &Tensor, batch: &Batch) -> Result<Tensor> {
        of_real_atoms(&head.forward(s)?, self.max_atoms_per_token, batch)
    }
}

/// Of a head's `logits` `[1, n_token, max_atoms * bins]` those of each token's real atoms, `[1, n_atom, bins]`.
pub fn of_real_atoms(logits: &Tensor, max_atoms: usize, batch: &Batch) -> Result<Tensor> {
    let (_, n, c) = logits.dims3()?;
    let slots = batch.atoms.per_token.iter().enumerate();
    let index: Vec<u32> = slots.flat_map(|(t, &k)| (0..k).map(move |a| (t * max_atoms + a) as u32)).collect();
    let n_atom = index.len();
    let logits = logits.reshape((n * max_atoms, c / max_atoms))?;
    logits.index_select(&Tensor::from_vec(index, n_atom, logits.device())?, 0)?.unsqueeze(0)
}

/// Squared lower edges of the distance bins, rounded as `torch.linspace` rounds: from both ends to the middle.
fn distance_edges() -> [f32; N_DISTANCE] {
    let step = (LAST_EDGE - FIRST_EDGE) / (N_DISTANCE - 1) as f32;
    std::array::from_fn(|bin| {
        let edge = if bin < N_DISTANCE / 2 {
            FIRST_EDGE + bin as f32 * step
        } else {
            LAST_EDGE - (N_DISTANCE - 1 - bin) as f32 * step
        };
        edge * edge
    })
}
