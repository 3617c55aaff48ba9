//! Evoformer and extra-MSA blocks: AF2 SI Alg. 6 and 18. Monomer and multimer have the same layers; in multimer the outer product
//! mean comes first.
use candle_core::{Device, Result, Tensor};

use super::config::StackConfig;
use super::dropout::{Dropout, PAIR_RATE, ROW_ATTENTION_RATE, Shared};
use crate::features::af2::Af2Features;
use crate::models::af3::config::PairConfig;
use crate::models::triangles::Triangles;
use crate::ops::{
    BiasOrder, MsaColumnAttention, MsaColumnGlobalAttention, MsaRowAttention, OuterProductMean, ReluTransition, settle,
};
use crate::weights::Weights;

/// Triangle updates and transition of the pair representation.
#[derive(Debug)]
pub struct PairBlock {
    /// Alg. 11 to 14.
    pub triangles: Triangles,
    /// Alg. 15.
    pub transition: ReluTransition,
}

impl PairBlock {
    /// A block on `c_z` channels.
    pub fn load(c_z: usize, config: PairConfig, w: &Weights) -> Result<Self> {
        Ok(Self {
            triangles: Triangles::load(c_z, config, BiasOrder::KeyQuery, w)?,
            transition: ReluTransition::load(c_z, config.n_transition * c_z, &w.at("transition"))?,
        })
    }

    /// Updates `z` `[b, n, n, c_z]` in place; `mask` `[b, n, n]`, 1 = real. Multiplications first: Alg. 6, and multimer templates.
    pub fn update(&self, z: &Tensor, mask: &Tensor, dropout: &Dropout) -> Result<()> {
        self.multiply(z, mask, dropout)?;
        self.attend(z, mask, dropout)?;
        self.transition.add_to(z, None)
    }

    /// As `update`, attention first: monomer templates (Alg. 16).
    pub fn update_attention_first(&self, z: &Tensor, mask: &Tensor, dropout: &Dropout) -> Result<()> {
        self.attend(z, mask, dropout)?;
        self.multiply(z, mask, dropout)?;
        self.transition.add_to(z, None)
    }

    fn multiply(&self, z: &Tensor, mask: &Tensor, dropout: &Dropout) -> Result<()> {
        let Triangles { mul_out, mul_in, .. } = &self.triangles;
        dropout.apply(z, PAIR_RATE, Shared::Rows, || mul_out.add_to(z, mask))?;
        dropout.apply(z, PAIR_RATE, Shared::Rows, || mul_in.add_to(z, mask))
    }

    fn attend(&self, z: &Tensor, mask: &Tensor, dropout: &Dropout) -> Result<()> {
        let Triangles { att_start, att_end, .. } = &self.triangles;
        dropout.apply(z, PAIR_RATE, Shared::Rows, || att_start.add_to(z, mask))?;
        dropout.apply(z, PAIR_RATE, Shared::Columns, || att_end.add_to(z, mask))
    }
}

/// Attention along the columns of an MSA.
pub trait ColumnAttention: Sized {
    /// On `c_m` channels.
    fn load(c_m: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self>;
    /// Updates `m` `[b, r, n, c_m]` in place; `mask` `[b, r, n]`, 1 = real.
    fn add_to(&self, m: &Tensor, mask: &Tensor) -> Result<()>;
}

impl ColumnAttention for MsaColumnAttention {
    fn load(c_m: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        Self::load(c_m, c_head, n_head, w)
    }

    fn add_to(&self, m: &Tensor, mask: &Tensor) -> Result<()> {
        self.add_to(m, mask)
    }
}

impl ColumnAttention for MsaColumnGlobalAttention {
    fn load(c_m: usize, c_head: usize, n_head: usize, w: &Weights) -> Result<Self> {
        Self::load(c_m, c_head, n_head, w)
    }

    fn add_to(&self, m: &Tensor, mask: &Tensor) -> Result<()> {
        self.add_to(m, mask)
    }
}

/// One block; `C` is its attention along columns.
#[derive(Debug)]
pub struct Block<C> {
    /// Alg. 10.
    pub outer_product_mean: OuterProductMean,
    /// Alg. 7.
    pub row_attention: MsaRowAttention,
    /// Alg. 8 or 19.
    pub column_attention: C,
    /// Alg. 9.
    pub msa_transition: ReluTransition,
    /// The pair half.
    pub pair: PairBlock,
}

/// A block of the Evoformer.
pub type EvoformerBlock = Block<MsaColumnAttention>;
/// A block of the extra MSA.
pub type ExtraMsaBlock = Block<MsaColumnGlobalAttention>;

/// Masks of a stack.
#[derive(Debug, Clone)]
pub struct Masks {
    /// `[1, n_seq, n]`, 1 = real.
    pub msa: Tensor,
    /// `[1, n, n]`.
    pub pair: Tensor,
}

impl Masks {
    /// Of a query's alignment.
    pub fn new(features: &Af2Features, device: &Device) -> Result<Self> {
        let n = features.n_res();
        let mask = Tensor::from_slice(&features.mask, (1, n), device)?;
        let pair = mask.unsqueeze(2)?.broadcast_mul(&mask.unsqueeze(1)?)?;
        Ok(Self { msa: Tensor::from_slice(&features.msa.mask, (1, features.n_seq(), n), device)?, pair })
    }

    /// Of its rows without a cluster.
    pub fn of_extra(features: &Af2Features, pair: &Tensor) -> Result<Self> {
        let shape = (1, features.n_extra(), features.n_res());
        Ok(Self { msa: Tensor::from_slice(&features.extra_msa.mask, shape, pair.device())?, pair: pair.clone() })
    }

    /// With rows of templates, and their mask, below `m` `[1, n_seq, n, c_m]`.
    pub fn with_rows(self, m: Tensor, rows: Option<(Tensor, Tensor)>) -> Result<(Tensor, Self)> {
        match rows {
            Some((rows, mask)) if rows.dim(1)? > 0 => {
                let masks = Self { msa: Tensor::cat(&[&self.msa, &mask], 1)?, pair: self.pair };
                Ok((Tensor::cat(&[&m, &rows], 1)?, masks))
            }
            _ => Ok((m, self)),
        }
    }
}

impl<C: ColumnAttention> Block<C> {
    /// A block on `c_m` and `c_z` channels.
    pub fn load(c_m: usize, c_z: usize, config: &StackConfig, w: &Weights) -> Result<Self> {
        let (h, d) = (config.n_head, c_m / config.n_head);
        Ok(Self {
            outer_product_mean: OuterProductMean::load(c_m, config.c_hidden_opm, c_z, &w.at("outer_product_mean"))?,
            row_attention: MsaRowAttention::load(c_m, c_z, d, h, &w.at("row_attention"))?,
            column_attention: C::load(c_m, d, h, &w.at("column_attention"))?,
            msa_transition: ReluTransition::load(c_m, config.n_transition * c_m, &w.at("msa_transition"))?,
            pair: PairBlock::load(c_z, config.pair, &w.at("pair"))?,
        })
    }

    /// Updates `m` `[1, n_seq, n, c_m]` and `z` `[1, n, n, c_z]` in place, as Alg. 6 has it.
    pub fn update(&self, m: &Tensor, z: &Tensor, masks: &Masks, dropout: &Dropout) -> Result<()> {
        self.update_msa(m, z, masks, dropout)?;
        self.outer_product_mean.add_to(z, m, &masks.msa)?;
        self.pair.update(z, &masks.pair, dropout)?;
        settle(z)
    }

    /// As `update`, the outer product mean first: multimer.
    pub fn update_product_first(&self, m: &Tensor, z: &Tensor, masks: &Masks, dropout: &Dropout) -> Result<()> {
        self.outer_product_mean.add_to(z, m, &masks.msa)?;
        self.update_msa(m, z, masks, dropout)?;
        self.pair.update(z, &masks.pair, dropout)?;
        settle(z)
    }

    fn update_msa(&self, m: &Tensor, z: &Tensor, masks: &Masks, dropout: &Dropout) -> Result<()> {
        dropout.apply(m, ROW_ATTENTION_RATE, Shared::Rows, || self.row_attention.add_to(m, z, &masks.msa))?;
        self.column_attention.add_to(m, &masks.msa)?;
        self.msa_transition.add_to(m, None)
    }
}

/// `config.n_block` blocks.
pub fn stack<C: ColumnAttention>(c_m: usize, c_z: usize, config: &StackConfig, w: &Weights) -> Result<Vec<Block<C>>> {
    (0..config.n_block).map(|i| Block::load(c_m, c_z, config, &w.at(format_args!("blocks.{i}")))).collect()
}
