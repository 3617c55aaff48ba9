//! What only Protenix has of layers: the confidence head, and the embedder of given positions that mini_tmpl has.
use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::distances::Distances;
use crate::models::af3::batch::Batch;
use crate::models::af3::confidence::{AtomLogits, PairLogits, of_real_atoms};
use crate::models::af3::config::Config;
use crate::models::af3::embed::row_blocks;
use crate::models::af3::pairformer::Pairformer;
use crate::ops::{BiasOrder, Linear, Norm, SwiGluTransition, add_in_place, norm_linear, settle};
use crate::weights::{Param, Weights};

/// Distance bins of the predicted structure, and of a given one.
const N_DISTANCE: usize = 39;
/// The trunk's single representation is kept within this.
const SINGLE_LIMIT: f64 = 512.0;

/// Bins as a weights file has them: a distance is in those it is strictly inside of.
#[derive(Debug)]
struct Bins {
    lower: Param,
    upper: Param,
}

impl Bins {
    fn load(w: &Weights) -> Result<Self> {
        Ok(Self { lower: w.param("lower", &[N_DISTANCE])?, upper: w.param("upper", &[N_DISTANCE])? })
    }

    /// Edges on the host, in Å.
    fn edges(&self) -> Result<Vec<(f32, f32)>> {
        let host = |p: &Param| p.tensor(&candle_core::Device::Cpu)?.to_vec1::<f32>();
        Ok(host(&self.lower)?.into_iter().zip(host(&self.upper)?).collect())
    }
}

/// Confidence of a predicted structure: AF3 SI Alg. 31, as `protenix/model/modules/confidence.py`.
#[derive(Debug)]
pub struct ConfidenceHead {
    norm_s: Norm,
    s_i: Linear,
    s_j: Linear,
    bins: Bins,
    /// `[c_z, 39]`.
    distance_bin: Param,
    /// `[c_z, 1]`: of the distance itself.
    distance: Param,
    pairformer: Pairformer,
    pae: (Norm, Linear),
    pde: (Norm, Linear),
    plddt: (Norm, Linear),
    resolved: (Norm, Linear),
    max_atoms_per_token: usize,
}

impl ConfidenceHead {
    /// The head of `config`.
    pub fn load(config: &Config, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let (c_s, c_z, c_in) = (config.c_s, config.c_z, config.c_s_input());
        let heads = config.heads;
        let head = |name: &str, c: usize, n: usize| -> Result<(Norm, Linear)> {
            let w = w.at(name);
            Ok((Norm::load(c, &w.at("norm"))?, Linear::load(c, n, &w.at("linear"))?))
        };
        Ok(Self {
            norm_s: Norm::load(c_s, &w.at("norm_s"))?,
            s_i: Linear::load(c_in, c_z, &w.at("s_i"))?,
            s_j: Linear::load(c_in, c_z, &w.at("s_j"))?,
            bins: Bins::load(w)?,
            distance_bin: w.at("distance_bin").param("weight", &[c_z, N_DISTANCE])?,
            distance: w.at("distance").param("weight", &[c_z, 1])?,
            pairformer: Pairformer::load(c_s, c_z, config.confidence, ending_bias, &w.at("pairformer"))?,
            pae: head("pae", c_z, heads.n_pae)?,
            pde: head("pde", c_z, heads.n_pde)?,
            plddt: head("plddt", c_s, heads.max_atoms_per_token * heads.n_plddt)?,
            resolved: head("resolved", c_s, heads.max_atoms_per_token * 2)?,
            max_atoms_per_token: heads.max_atoms_per_token,
        })
    }

    /// Confidence of one structure, given by the positions of its tokens' representative atoms, `[n_token]` in Å. The trunk's
    /// `z` `[1, n, n, c_z]` is overwritten by the head's own, which `pair_logits` takes.
    pub fn forward(
        &self,
        batch: &Batch,
        s_input: &Tensor,
        s: &Tensor,
        z: &Tensor,
        representatives: &[[f32; 3]],
    ) -> Result<AtomLogits> {
        self.embed(s_input, z, representatives)?;
        let s = self.norm_s.forward(&s.clamp(-SINGLE_LIMIT, SINGLE_LIMIT)?)?;
        self.pairformer.update(&s, z, &batch.token_mask, &batch.pair_mask, &mut || Ok(()))?;
        let per_atom = |(norm, linear): &(Norm, Linear)| {
            of_real_atoms(&norm_linear(&s, norm, linear)?, self.max_atoms_per_token, batch)
        };
        Ok(AtomLogits { plddt: per_atom(&self.plddt)?, resolved: per_atom(&self.resolved)?, single: s })
    }

    /// The output layers on some rows of the head's `z` `[1, n, n, c_z]`.
    pub fn pair_logits(&self, z: &Tensor, rows: Range<usize>) -> Result<PairLogits> {
        let of_rows = z.narrow(1, rows.start, rows.len())?.contiguous()?;
        let pae = norm_linear(&of_rows, &self.pae.0, &self.pae.1)?;
        let columns = z.narrow(2, rows.start, rows.len())?.transpose(1, 2)?.contiguous()?;
        let pde = norm_linear(&(of_rows + columns)?, &self.pde.0, &self.pde.1)?;
        Ok(PairLogits { pae, pde })
    }

    /// Adds input and distances to the trunk's `z` in place: what the Pairformer starts from.
    fn embed(&self, s_input: &Tensor, z: &Tensor, x: &[[f32; 3]]) -> Result<()> {
        let (_, n, _, c) = z.dims4()?;
        let host = |t: Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (z_i, z_j) = (host(self.s_i.forward(s_input)?)?, host(self.s_j.forward(s_input)?)?);
        let (of_bin, of_distance) = (self.distance_bin.columns()?, self.distance.columns()?);
        let (edges, distances) = (self.bins.edges()?, Distances::new(x));
        for rows in row_blocks(n, c) {
            let mut added = vec![0f32; rows.len() * n * c];
            added.par_chunks_mut(c).enumerate().for_each(|(pair, out)| {
                let (i, j) = (rows.start + pair / n, pair % n);
                let d = distances.between(i, j);
                let parts = z_i[i * c..(i + 1) * c].iter().zip(&z_j[j * c..(j + 1) * c]).zip(&of_distance);
                out.iter_mut().zip(parts).for_each(|(o, ((a, b), w))| *o = a + b + d * w);
                add_bins(d, &edges, &of_bin, out);
            });
            let added = Tensor::from_vec(added, (1, rows.len(), n, c), z.device())?;
            add_in_place(&z.narrow(1, rows.start, rows.len())?, &added)?;
            settle(z)?;
        }
        Ok(())
    }
}

/// Adds to `out` the column of `weight_t` `[bins, c]` of each bin that `d` is in.
fn add_bins(d: f32, edges: &[(f32, f32)], weight_t: &[f32], out: &mut [f32]) {
    for (column, (lower, upper)) in weight_t.chunks_exact(out.len()).zip(edges) {
        if d > *lower && d < *upper {
            out.iter_mut().zip(column).for_each(|(o, w)| *o += w);
        }
    }
}

/// Known positions of a query's tokens: what mini_tmpl takes instead of templates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GivenPositions {
    /// `[n_token]` CB, CA of glycine, in Å.
    pub positions: Vec<[f32; 3]>,
    /// `[n_token]`: is the position known?
    pub known: Vec<bool>,
}

/// Embeds known positions: `NoisyStructureEmbedder` of `protenix/model/modules/pairformer.py`.
#[derive(Debug)]
pub struct StructureEmbedder {
    bins: Bins,
    /// `[c_z / 2, 40]`: 39 bins, then whether both positions are known.
    distance: Param,
    norm_z: Norm,
    z: Linear,
    transition: SwiGluTransition,
}

impl StructureEmbedder {
    /// The embedder for `c_z` channels.
    pub fn load(c_z: usize, w: &Weights) -> Result<Self> {
        let c = c_z / 2;
        Ok(Self {
            bins: Bins::load(w)?,
            distance: w.at("distance").param("weight", &[c, N_DISTANCE + 1])?,
            norm_z: Norm::load(c_z, &w.at("norm_z"))?,
            z: Linear::load(c_z, c, &w.at("z"))?,
            transition: SwiGluTransition::load(c_z, 2 * c_z, &w.at("transition"))?,
        })
    }

    /// Adds the update to `z` `[1, n, n, c_z]` in place; there is none if no position is known.
    pub fn add_to(&self, z: &Tensor, given: &GivenPositions) -> Result<()> {
        if !given.known.contains(&true) {
            return Ok(());
        }
        let (_, n, _, c_z) = z.dims4()?;
        let c = c_z / 2;
        let (weight, edges) = (self.distance.columns()?, self.bins.edges()?);
        let distances = Distances::new(&given.positions);
        for rows in row_blocks(n, c_z) {
            let mut embedded = vec![0f32; rows.len() * n * c];
            embedded.par_chunks_mut(c).enumerate().for_each(|(pair, out)| {
                let (i, j) = (rows.start + pair / n, pair % n);
                if given.known[i] && given.known[j] {
                    out.copy_from_slice(&weight[N_DISTANCE * c..]);
                    add_bins(distances.between(i, j), &edges, &weight, out);
                }
            });
            let embedded = Tensor::from_vec(embedded, (1, rows.len(), n, c), z.device())?;
            let block = z.narrow(1, rows.start, rows.len())?;
            let both = Tensor::cat(&[&norm_linear(&block, &self.norm_z, &self.z)?, &embedded], 3)?;
            let update = self.transition.forward(&both)?;
            add_in_place(&block, &update)?;
            settle(z)?;
        }
        Ok(())
    }
}
