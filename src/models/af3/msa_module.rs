//! MSA module: AF3 SI Alg. 8-10, in OpenFold3 0.5.0's order (the averaging uses the pair representation that the outer
//! product mean has just updated, and the last block has no row update).
use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::batch::Batch;
use super::config::Config;
use super::pairformer::PairBlock;
use crate::features::af3::N_RESTYPE;
use crate::features::noise::NoiseSource;
use crate::ops::{BiasOrder, Linear, OuterProductMean, PairWeightedAverage, SwiGluTransition, settle};
use crate::weights::{Param, Weights};

/// Rows of the alignment to the MSA representation: Alg. 8 lines 1-4.
#[derive(Debug)]
pub struct MsaEmbedder {
    /// `[c_m, 34]`: restype, has_deletion, deletion_value.
    m: Param,
    s_input: Linear,
    c_m: usize,
    max_rows: usize,
}

impl MsaEmbedder {
    /// The embedder of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self {
            m: w.at("m").param("weight", &[config.c_m, N_RESTYPE + 2])?,
            s_input: Linear::load(config.c_s_input(), config.c_m, &w.at("s_input"))?,
            c_m: config.c_m,
            max_rows: config.msa.max_rows,
        })
    }

    /// The rows of one cycle, drawn as OpenFold3 draws them: the depth, then a permutation if there are enough rows.
    pub fn choose_rows(&self, batch: &Batch, noise: &mut dyn NoiseSource) -> Vec<usize> {
        let depth = noise.randint(self.max_rows as u32, self.max_rows as u32 + 1) as usize;
        let n = batch.n_token;
        let is_real = |&row: &usize| batch.msa.mask[row * n..(row + 1) * n].iter().any(|&m| m > 0.0);
        let (mut rows, padding): (Vec<usize>, Vec<usize>) = (0..batch.msa.n_seq).partition(is_real);
        if rows.len() >= depth {
            let order = noise.randperm(rows.len());
            order[..depth].iter().map(|&k| rows[k]).collect()
        } else {
            if !padding.is_empty() {
                let order = noise.randperm(padding.len());
                let missing = depth - rows.len();
                rows.extend(order.iter().take(missing).map(|&k| padding[k]));
            }
            rows
        }
    }

    /// The MSA representation `[1, n_row, n_token, c_m]` of `rows`, and its mask `[1, n_row, n_token]`.
    pub fn forward(&self, batch: &Batch, rows: &[usize], s_input: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, c) = (batch.n_token, self.c_m);
        let msa = &batch.msa;
        let weight = self.m.columns()?;
        let column = |k: usize| &weight[k * c..(k + 1) * c];
        let token = self.s_input.forward(s_input)?.flatten_all()?.to_vec1::<f32>()?;
        let mut m = vec![0f32; rows.len() * n * c];
        m.par_chunks_mut(n * c).zip(rows).for_each(|(out, &row)| {
            for (i, out) in out.chunks_exact_mut(c).enumerate() {
                let k = row * n + i;
                let (restype, has, value) = (usize::from(msa.rows[k]), msa.has_deletion[k], msa.deletion_value[k]);
                let parts = column(restype).iter().zip(column(N_RESTYPE)).zip(column(N_RESTYPE + 1));
                let parts = parts.zip(&token[i * c..(i + 1) * c]);
                for (o, (((r, h), v), t)) in out.iter_mut().zip(parts) {
                    *o = r + has * h + value * v + t;
                }
            }
        });
        let mask: Vec<f32> = rows.iter().flat_map(|&row| &msa.mask[row * n..(row + 1) * n]).copied().collect();
        let m = Tensor::from_vec(m, (1, rows.len(), n, c), &batch.device)?;
        Ok((m, Tensor::from_vec(mask, (1, rows.len(), n), &batch.device)?))
    }
}

/// Row update of a block; the last block has none.
#[derive(Debug)]
struct RowUpdate {
    average: PairWeightedAverage,
    transition: SwiGluTransition,
}

/// One block: Alg. 8 lines 6-13.
#[derive(Debug)]
pub struct MsaBlock {
    outer_product_mean: OuterProductMean,
    rows: Option<RowUpdate>,
    pair: PairBlock,
}

impl MsaBlock {
    /// Block `index`; the last does not update the rows, since nothing reads them after it.
    pub fn load(config: &Config, index: usize, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let c = &config.msa;
        let rows = if index + 1 < c.n_block {
            let average = w.at("pair_weighted_average");
            Some(RowUpdate {
                average: PairWeightedAverage::load(config.c_m, config.c_z, c.c_hidden, c.n_head, &average)?,
                transition: SwiGluTransition::load(config.c_m, c.n_transition * config.c_m, &w.at("msa_transition"))?,
            })
        } else {
            None
        };
        let opm = w.at("outer_product_mean");
        Ok(Self {
            outer_product_mean: OuterProductMean::load(config.c_m, c.c_hidden_opm, config.c_z, &opm)?,
            rows,
            pair: PairBlock::load(config.c_z, c.pair, ending_bias, &w.at("pair"))?,
        })
    }

    /// Updates `m` `[b, n_row, n, c_m]` and `z` `[b, n, n, c_z]` in place.
    pub fn update(&self, m: &Tensor, z: &Tensor, msa_mask: &Tensor, pair_mask: &Tensor) -> Result<()> {
        self.outer_product_mean.add_to(z, m, msa_mask)?;
        if let Some(rows) = &self.rows {
            rows.average.add_to(m, z, pair_mask)?;
            rows.transition.add_to(m, Some(msa_mask))?;
        }
        self.pair.update(z, pair_mask)
    }
}

/// The stack of blocks.
#[derive(Debug)]
pub struct MsaModule {
    blocks: Vec<MsaBlock>,
}

impl MsaModule {
    /// `config.msa.n_block` blocks.
    pub fn load(config: &Config, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let block = |i| MsaBlock::load(config, i, ending_bias, &w.at(format_args!("blocks.{i}")));
        Ok(Self { blocks: (0..config.msa.n_block).map(block).collect::<Result<_>>()? })
    }

    /// Updates `m` and `z` in place.
    pub fn update(&self, m: &Tensor, z: &Tensor, msa_mask: &Tensor, pair_mask: &Tensor) -> Result<()> {
        self.blocks.iter().try_for_each(|block| {
            block.update(m, z, msa_mask, pair_mask)?;
            settle(z)
        })
    }
}
