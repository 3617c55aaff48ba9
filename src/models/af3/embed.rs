//! Input embedding and recycling: AF3 SI Alg. 2 and Alg. 1 lines 1-8 and 11.
use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::atom_attention::AtomEncoder;
use super::batch::Batch;
use super::config::Config;
use crate::ops::{Linear, Norm, add_in_place, norm_linear, norm_linear_in_place, settle};
use crate::weights::{Param, Weights};

/// What the two parts of the initial pair representation are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairSource {
    /// The input embedding, `c_s_input` channels, as AF3 and OpenFold3.
    Input,
    /// The initial single representation, `c_s` channels, as Protenix.
    Single,
}

/// Atom features and token features to the initial representations.
#[derive(Debug)]
pub struct InputEmbedder {
    atom_encoder: AtomEncoder,
    s: Linear,
    z_i: Linear,
    z_j: Linear,
    /// `[c_z, c_relpos]`.
    relpos: Param,
    /// `[c_z, 1]`.
    token_bonds: Param,
    pair_source: PairSource,
    c_z: usize,
}

/// The initial representations. The initial pair representation is kept as its parts and added where it is needed, since
/// recycling needs it in every cycle and the whole would take as much memory as the pair representation itself.
#[derive(Debug)]
pub struct InitialEmbedding {
    /// `[1, n, c_s_input]`.
    pub s_input: Tensor,
    /// `[1, n, c_s]`.
    pub s: Tensor,
    z_i: Vec<f32>,
    z_j: Vec<f32>,
    relpos: Vec<f32>,
    token_bonds: Vec<f32>,
    c_z: usize,
}

impl InputEmbedder {
    /// The embedder of `config`.
    pub fn load(config: &Config, pair_source: PairSource, w: &Weights) -> Result<Self> {
        let (c_z, c_in) = (config.c_z, config.c_s_input());
        let c_pair = match pair_source {
            PairSource::Input => c_in,
            PairSource::Single => config.c_s,
        };
        Ok(Self {
            atom_encoder: AtomEncoder::load_input(config, &w.at("atom_encoder"))?,
            s: Linear::load(c_in, config.c_s, &w.at("s"))?,
            z_i: Linear::load(c_pair, c_z, &w.at("z_i"))?,
            z_j: Linear::load(c_pair, c_z, &w.at("z_j"))?,
            relpos: w.at("relpos").param("weight", &[c_z, config.c_relpos()])?,
            token_bonds: w.at("token_bonds").param("weight", &[c_z, 1])?,
            pair_source,
            c_z,
        })
    }

    /// Alg. 1 lines 1-5.
    pub fn forward(&self, batch: &Batch) -> Result<InitialEmbedding> {
        let (atoms, _) = self.atom_encoder.prepare(batch, None)?;
        let tokens = self.atom_encoder.forward(batch, &atoms, None)?.tokens;
        let s_input = Tensor::cat(&[&tokens, &batch.token_features], 2)?;
        let host = |t: Tensor| t.flatten_all()?.to_vec1::<f32>();
        let s = self.s.forward(&s_input)?;
        let of_pair = match self.pair_source {
            PairSource::Input => &s_input,
            PairSource::Single => &s,
        };
        Ok(InitialEmbedding {
            z_i: host(self.z_i.forward(of_pair)?)?,
            z_j: host(self.z_j.forward(of_pair)?)?,
            s,
            relpos: self.relpos.columns()?,
            token_bonds: self.token_bonds.columns()?,
            s_input,
            c_z: self.c_z,
        })
    }
}

impl InitialEmbedding {
    /// The initial pair representation, `[1, n, n, c_z]`.
    pub fn pair(&self, batch: &Batch) -> Result<Tensor> {
        self.pair_rows(batch, 0..batch.n_token)
    }

    /// Adds the initial pair representation to `z` `[1, n, n, c_z]` in place, a block of rows at a time.
    pub fn add_pair_to(&self, z: &Tensor, batch: &Batch) -> Result<()> {
        for_row_blocks(z, |block, rows| add_in_place(block, &self.pair_rows(batch, rows)?))
    }

    /// Rows of the initial pair representation, `[1, rows, n, c_z]`.
    fn pair_rows(&self, batch: &Batch, rows: Range<usize>) -> Result<Tensor> {
        let (n, c) = (batch.n_token, self.c_z);
        let mut bonded = vec![Vec::new(); n];
        batch.token_bonds.iter().for_each(|&(i, j)| bonded[i].push(j));
        let mut z = vec![0f32; rows.len() * n * c];
        z.par_chunks_mut(n * c).zip(rows.clone()).for_each(|(row, i)| {
            let z_i = &self.z_i[i * c..(i + 1) * c];
            for (j, out) in row.chunks_exact_mut(c).enumerate() {
                batch.relpos.add_embedding(i, j, &self.relpos, out);
                let z_j = &self.z_j[j * c..(j + 1) * c];
                out.iter_mut().zip(z_i).zip(z_j).for_each(|((o, a), b)| *o += a + b);
            }
            for &j in &bonded[i] {
                row[j * c..(j + 1) * c].iter_mut().zip(&self.token_bonds).for_each(|(o, w)| *o += w);
            }
        });
        Tensor::from_vec(z, (1, rows.len(), n, c), &batch.device)
    }
}

/// Values in a block of rows of the pair representation: 8 MiB of f32.
const BLOCK_VALUES: usize = 2 << 20;

/// The rows of a pair representation of `n` tokens and `c` channels in blocks, so that what is made for a block does not
/// take the memory of the whole.
pub fn row_blocks(n: usize, c: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = (BLOCK_VALUES / (n * c).max(1)).clamp(1, n.max(1));
    (0..n).step_by(rows).map(move |start| start..(start + rows).min(n))
}

/// Calls `task` with views of consecutive rows of `z` `[1, n, n, c]` and their numbers.
pub(super) fn for_row_blocks(z: &Tensor, mut task: impl FnMut(&Tensor, Range<usize>) -> Result<()>) -> Result<()> {
    let (_, n, _, c) = z.dims4()?;
    row_blocks(n, c).try_for_each(|rows| {
        task(&z.narrow(1, rows.start, rows.len())?, rows)?;
        settle(z) // what came from the host for these rows
    })
}

/// Recycling: what the previous cycle made, normalised and projected, is added to the initial representations.
#[derive(Debug)]
pub struct Recycling {
    norm_s: Norm,
    s: Linear,
    norm_z: Norm,
    z: Linear,
}

impl Recycling {
    /// The layers of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm_s: Norm::load(config.c_s, &w.at("norm_s"))?,
            s: Linear::load(config.c_s, config.c_s, &w.at("s"))?,
            norm_z: Norm::load(config.c_z, &w.at("norm_z"))?,
            z: Linear::load(config.c_z, config.c_z, &w.at("z"))?,
        })
    }

    /// Alg. 1 line 8, in the memory of the previous representation; `None` before the first cycle, when that is zero.
    pub fn pair(&self, initial: &InitialEmbedding, batch: &Batch, previous: Option<Tensor>) -> Result<Tensor> {
        match previous {
            Some(z) => {
                norm_linear_in_place(&z, &self.norm_z, &self.z)?;
                initial.add_pair_to(&z, batch)?;
                Ok(z)
            }
            None => {
                let z = initial.pair(batch)?;
                let zero = Tensor::zeros((1, 1, z.dim(3)?), z.dtype(), z.device())?;
                add_in_place(&z, &norm_linear(&zero, &self.norm_z, &self.z)?.flatten_all()?)?;
                Ok(z)
            }
        }
    }

    /// Alg. 1 line 11.
    pub fn single(&self, initial: &InitialEmbedding, previous: Option<Tensor>) -> Result<Tensor> {
        let previous = match previous {
            Some(previous) => previous,
            None => initial.s.zeros_like()?,
        };
        initial.s.add(&norm_linear(&previous, &self.norm_s, &self.s)?)
    }
}
