//! Input embedder: AF2 SI Alg. 3, with the relative positions of Alg. 4, and the extra MSA's features (Alg. 2 line 15).
use candle_core::{Device, Result, Tensor};

use super::columns::{Columns, FeatureLinear, add};
use super::config::Config;
use crate::features::af2::{Af2Features, N_LETTER, N_MSA_FEATURE};
use crate::weights::Weights;

/// Residues and alignment rows to the first representations.
#[derive(Debug)]
pub struct InputEmbedder {
    target: FeatureLinear,
    msa: FeatureLinear,
    left: FeatureLinear,
    right: FeatureLinear,
    relpos: FeatureLinear,
    /// Features in front of the letters.
    n_before: usize,
}

/// What is the same in every pair of a query: rows of the first pair representation.
#[derive(Debug)]
pub struct PairInput {
    left: Columns,
    right: Columns,
    relpos: Columns,
    n_before: usize,
}

impl InputEmbedder {
    /// The embedder of `config`, with `n_relpos` features of relative positions.
    pub fn load(config: &Config, n_relpos: usize, w: &Weights) -> Result<Self> {
        let c = config;
        Ok(Self {
            target: FeatureLinear::load(c.n_target, c.c_m, &w.at("target"))?,
            msa: FeatureLinear::load(N_MSA_FEATURE, c.c_m, &w.at("msa"))?,
            left: FeatureLinear::load(c.n_target, c.c_z, &w.at("left"))?,
            right: FeatureLinear::load(c.n_target, c.c_z, &w.at("right"))?,
            relpos: FeatureLinear::load(n_relpos, c.c_z, &w.at("relpos"))?,
            n_before: c.n_target - 21,
        })
    }

    /// The MSA representation `[1, n_seq, n, c_m]`.
    pub fn msa(&self, features: &Af2Features, device: &Device) -> Result<Tensor> {
        let (s, n) = (features.n_seq(), features.n_res());
        let mut m = self.msa.forward(&features.msa.features)?;
        let target = self.target.columns()?;
        let c = target.bias().len();
        for (at, m) in m.chunks_mut(c).enumerate() {
            add(m, target.bias());
            add(m, target.column(self.n_before + usize::from(features.restype[at % n])));
        }
        Tensor::from_vec(m, (1, s, n, c), device)
    }

    /// The layers of a pair, where the host can read them.
    pub fn pair(&self) -> Result<PairInput> {
        Ok(PairInput {
            left: self.left.columns()?,
            right: self.right.columns()?,
            relpos: self.relpos.columns()?,
            n_before: self.n_before,
        })
    }
}

impl PairInput {
    /// Adds what pair ij begins with; `relative` are the features of its relative position that are 1.
    pub fn add(&self, features: &Af2Features, (i, j): (usize, usize), relative: &[usize], out: &mut [f32]) {
        for (layer, residue) in [(&self.left, i), (&self.right, j)] {
            add(out, layer.bias());
            add(out, layer.column(self.n_before + usize::from(features.restype[residue])));
        }
        add(out, self.relpos.bias());
        relative.iter().for_each(|column| add(out, self.relpos.column(*column)));
    }
}

/// Rows without a cluster to their representation.
#[derive(Debug)]
pub struct ExtraMsaEmbedder(FeatureLinear);

impl ExtraMsaEmbedder {
    /// The embedder of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self(FeatureLinear::load(N_LETTER + 2, config.c_e, w)?))
    }

    /// `[1, n_extra, n, c_e]`.
    pub fn forward(&self, features: &Af2Features, device: &Device) -> Result<Tensor> {
        let columns = self.0.columns()?;
        let extra = &features.extra_msa;
        let mut m = columns.bias().repeat(extra.rows.len());
        for (at, m) in m.chunks_mut(columns.bias().len()).enumerate() {
            add(m, columns.column(usize::from(extra.rows[at])));
            columns.add(N_LETTER, extra.has_deletion[at], m);
            columns.add(N_LETTER + 1, extra.deletion_value[at], m);
        }
        Tensor::from_vec(m, (1, features.n_extra(), features.n_res(), columns.bias().len()), device)
    }
}
