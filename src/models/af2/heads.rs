//! Output heads: AF2 SI 1.9.6 (Alg. 29), 1.9.7 to 1.9.10; each is computed when it is asked for.
use candle_core::{Device, Result, Tensor};

use super::atoms::atom37;
use super::config::Config;
use super::ipa::PointLength;
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

/// What the structure module and its confidence give.
#[derive(Debug)]
pub struct Folded {
    /// Of atom37, `[n * 37]` in Å; atoms that a residue lacks are at the origin.
    pub positions: Vec<[f32; 3]>,
    /// Logits `[1, n, n_plddt]`.
    pub plddt: Tensor,
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

    /// The structure, and pLDDT.
    pub fn fold(&self, trunk: &Trunk, features: &Af2Features) -> Result<Folded> {
        let structure =
            self.structure.forward(&trunk.single, &trunk.pair, &features.restype, &features.mask, &mut |_| Ok(()))?;
        let residues = features.restype.iter().zip(&structure.atom14);
        let positions = residues.flat_map(|(restype, atoms)| atom37(*restype, atoms)).collect();
        Ok(Folded { positions, plddt: self.plddt.forward(&structure.act)? })
    }

    /// Aligned error of a pair representation `[1, n, n, c_z]`: logits `[1, n, n, n_pae]`, row i is the frame, column j the residue.
    /// `None` in parameter sets without the head.
    pub fn pae(&self, pair: &Tensor) -> Result<Option<Tensor>> {
        self.pae.as_ref().map(|head| head.forward(pair)).transpose()
    }

    /// Logits `[1, n, n, n_distogram]`.
    pub fn distogram(&self, pair: &Tensor) -> Result<Tensor> {
        let half = self.distogram.forward(pair)?;
        &half + half.transpose(1, 2)?.contiguous()?
    }

    /// Letters of a masked alignment `[1, n_seq, n, c_m]`: logits `[1, n_seq, n, n_masked_msa]`.
    pub fn masked_msa(&self, msa: &Tensor) -> Result<Tensor> {
        self.masked_msa.forward(msa)
    }

    /// Which atoms of atom37 an experiment would show, from `single` `[1, n, c_s]`: logits `[1, n, 37]`.
    pub fn resolved(&self, single: &Tensor) -> Result<Tensor> {
        self.resolved.forward(single)
    }
}
