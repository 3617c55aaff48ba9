//! What one pass hands to the next: AF2 SI Alg. 32.
use candle_core::{Device, Result, Tensor};

use super::columns::{Columns, Distances, FeatureLinear, add};
use super::config::Config;
use super::heads::Trunk;
use crate::chem::atom_layout::pseudo_beta;
use crate::features::af2::{Af2Features, N_ATOM37};
use crate::ops::{Norm, add_in_place};
use crate::weights::Weights;

/// Bins of the distances between side chains of the pass before.
const N_BIN: usize = 15;
const FIRST_EDGE: f32 = 3.25;
const LAST_EDGE: f32 = 20.75;

/// Result of a pass that the next begins with.
#[derive(Debug, Clone)]
pub struct Recycled {
    /// First row of the MSA representation, `[1, n, c_m]`.
    pub msa_first_row: Tensor,
    /// `[1, n, n, c_z]`.
    pub pair: Tensor,
    /// `[n * 37]`, Å; atoms that a residue lacks are at the origin.
    pub positions: Vec<[f32; 3]>,
}

impl Recycled {
    /// What a pass gives: its trunk, and the positions of its structure.
    pub fn new(trunk: Trunk, positions: Vec<[f32; 3]>) -> Result<Self> {
        let msa_first_row = trunk.msa.get(0)?.narrow(0, 0, 1)?.force_contiguous()?;
        Ok(Self { msa_first_row, pair: trunk.pair, positions })
    }

    /// What the first pass begins with: nothing, or an initial guess of the positions, `[n * 37]`.
    pub fn first(n: usize, config: &Config, positions: Option<Vec<[f32; 3]>>, device: &Device) -> Result<Self> {
        if let Some(guess) = positions.as_ref().filter(|guess| guess.len() != n * N_ATOM37) {
            candle_core::bail!("the initial guess has {} residues, the query {n}", guess.len() / N_ATOM37);
        }
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, device);
        Ok(Self {
            msa_first_row: zeros(&[1, n, config.c_m])?,
            pair: zeros(&[1, n, n, config.c_z])?,
            positions: positions.unwrap_or_else(|| vec![[0.; 3]; n * N_ATOM37]),
        })
    }
}

/// Adds the result of the pass before to the representations.
#[derive(Debug)]
pub struct RecyclingEmbedder {
    distogram: FeatureLinear,
    norm_m: Norm,
    norm_z: Norm,
}

/// The layer of the distances, where the host can read it, and the points.
#[derive(Debug)]
pub struct RecycledDistances {
    columns: Columns,
    bins: Distances,
    points: Vec<[f32; 3]>,
}

impl RecyclingEmbedder {
    /// The embedder of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self {
            distogram: FeatureLinear::load(N_BIN, config.c_z, &w.at("distogram"))?,
            norm_m: Norm::load(config.c_m, &w.at("norm_m"))?,
            norm_z: Norm::load(config.c_z, &w.at("norm_z"))?,
        })
    }

    /// Distances of the side chains that `recycled` has.
    pub fn distances(&self, features: &Af2Features, recycled: &Recycled) -> Result<RecycledDistances> {
        let point = |(i, restype): (usize, &u8)| recycled.positions[i * N_ATOM37 + pseudo_beta(*restype)];
        Ok(RecycledDistances {
            columns: self.distogram.columns()?,
            bins: Distances::new(FIRST_EDGE, LAST_EDGE, N_BIN),
            points: features.restype.iter().enumerate().map(point).collect(),
        })
    }

    /// Adds the normalised representations of the pass before to `m` `[1, n_seq, n, c_m]` and `z` `[1, n, n, c_z]`.
    pub fn add_to(&self, m: &Tensor, z: &Tensor, recycled: &Recycled) -> Result<()> {
        add_in_place(&m.get(0)?.narrow(0, 0, 1)?, &self.norm_m.forward(&recycled.msa_first_row)?)?;
        add_in_place(z, &self.norm_z.forward(&recycled.pair)?)
    }
}

impl RecycledDistances {
    /// Adds the embedding of the distance of i and j.
    pub fn add(&self, (i, j): (usize, usize), out: &mut [f32]) {
        add(out, self.columns.bias());
        if let Some(bin) = self.bins.bin(self.points[i], self.points[j]) {
            add(out, self.columns.column(bin));
        }
    }
}
