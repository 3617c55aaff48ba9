//! Output heads: AF2 SI 1.9.6 (Alg. 29), 1.9.7 to 1.9.10; and what a pass gives, by all of them.
use candle_core::{Device, Result, Tensor};

use super::atoms::atom37;
use super::config::Config;
use super::ipa::PointLength;
use super::recycle::Recycled;
use super::structure::StructureModule;
use crate::features::af2::Af2Features;
use crate::ops::{Linear, Norm, norm_linear, relu};
use crate::weights::Weights;

/// What the trunk gives.
#[derive(Debug, Clone)]
pub struct Trunk {
    /// `[1, n, c_s]`.
    pub single: Tensor,
    /// `[1, n, n, c_z]`.
    pub pair: Tensor,
    /// Rows of the alignment, without those of templates: `[1, n_seq, n, c_m]`.
    pub msa: Tensor,
}

/// What a pass gives.
#[derive(Debug)]
pub struct Prediction {
    /// `[1, n, n, n_distogram]`.
    pub distogram: Tensor,
    /// `[1, n_seq, n, n_masked_msa]`.
    pub masked_msa: Tensor,
    /// Of atom37, `[1, n, 37]`.
    pub resolved: Tensor,
    /// `[1, n, n_plddt]`.
    pub plddt: Tensor,
    /// `[1, n, n, n_pae]`: row i is the frame, column j the residue.
    pub pae: Option<Tensor>,
    /// Positions, and what else the next pass begins with.
    pub recycled: Recycled,
}

/// pLDDT of a residue: Alg. 29.
#[derive(Debug)]
struct PlddtHead {
    norm: Norm,
    a: Linear,
    b: Linear,
    out: Linear,
}

/// Structure module and heads.
#[derive(Debug)]
pub struct Heads {
    /// The structure.
    pub structure: StructureModule,
    plddt: PlddtHead,
    distogram: Linear,
    masked_msa: Linear,
    resolved: Linear,
    pae: Option<Linear>,
}

impl Trunk {
    /// From the last representations; the first `n_seq` rows of `m` `[1, rows, n, c_m]` are the alignment's.
    pub fn new(m: &Tensor, pair: Tensor, n_seq: usize, single: &Linear) -> Result<Self> {
        let msa = m.narrow(1, 0, n_seq)?.contiguous()?;
        Ok(Self { single: single.forward(&msa.get(0)?.narrow(0, 0, 1)?)?, pair, msa })
    }
}

impl PlddtHead {
    fn load(config: &Config, w: &Weights) -> Result<Self> {
        let (w, c) = (&w.on(&Device::Cpu), config.heads.c_plddt);
        Ok(Self {
            norm: Norm::load(config.c_s, &w.at("norm"))?,
            a: Linear::load(config.c_s, c, &w.at("a"))?,
            b: Linear::load(c, c, &w.at("b"))?,
            out: Linear::load(c, config.heads.n_plddt, &w.at("out"))?,
        })
    }

    fn forward(&self, act: &Tensor) -> Result<Tensor> {
        let x = relu(&norm_linear(act, &self.norm, &self.a)?)?;
        self.out.forward(&relu(&self.b.forward(&x)?)?)
    }
}

impl Heads {
    /// The heads of `config`, from the root of a weights file.
    pub fn load(config: &Config, length: PointLength, w: &Weights) -> Result<Self> {
        let (c, heads) = (config, w.at("heads"));
        let pae = c.heads.n_pae.map(|n| Linear::load(c.c_z, n, &heads.at("pae"))).transpose()?;
        Ok(Self {
            structure: StructureModule::load(c, length, &w.at("structure"))?,
            plddt: PlddtHead::load(c, &heads.at("plddt"))?,
            distogram: Linear::load(c.c_z, c.heads.n_distogram, &heads.at("distogram"))?,
            masked_msa: Linear::load(c.c_m, c.heads.n_masked_msa, &heads.at("masked_msa"))?,
            resolved: Linear::load(c.c_s, 37, &heads.at("resolved"))?,
            pae,
        })
    }

    /// All that follows from the trunk.
    pub fn forward(&self, trunk: Trunk, features: &Af2Features) -> Result<Prediction> {
        let structure =
            self.structure.forward(&trunk.single, &trunk.pair, &features.restype, &features.mask, &mut |_| Ok(()))?;
        let residues = features.restype.iter().zip(&structure.atom14);
        let positions = residues.flat_map(|(restype, atoms)| atom37(*restype, atoms)).collect();
        let half = self.distogram.forward(&trunk.pair)?;
        Ok(Prediction {
            distogram: (&half + half.transpose(1, 2)?.contiguous()?)?,
            masked_msa: self.masked_msa.forward(&trunk.msa)?,
            resolved: self.resolved.forward(&trunk.single)?,
            plddt: self.plddt.forward(&structure.act)?,
            pae: self.pae.as_ref().map(|head| head.forward(&trunk.pair)).transpose()?,
            recycled: Recycled {
                msa_first_row: trunk.msa.get(0)?.narrow(0, 0, 1)?.force_contiguous()?,
                pair: trunk.pair,
                positions,
            },
        })
    }
}
