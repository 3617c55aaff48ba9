//! Template embedder of the monomer models: AF2 SI Alg. 16 and 17, and the rows of template torsions (Alg. 2 lines 7-8).
use candle_core::{Device, Result, Tensor};

use super::columns::{Distances, FeatureLinear, add, pairs};
use super::config::{Config, TemplateConfig};
use super::dropout::Dropout;
use super::evoformer::PairBlock;
use crate::chem::atom_layout::{C, CA, N, pseudo_beta};
use crate::features::af2::torsion::Torsions;
use crate::features::af2::{Af2Features, Template};
use crate::ops::{Attention, Linear, Norm, add_in_place, relu};
use crate::weights::Weights;

/// Letters of a template: 20 amino acids, unknown, gap.
pub(super) const N_RESTYPE: usize = 22;
/// Bins of the distances of side chains.
pub(super) const N_BIN: usize = 39;
const FIRST_EDGE: f32 = 3.25;
const LAST_EDGE: f32 = 50.75;
/// Distances, pseudo-beta mask, two letters, a unit vector that is never used, backbone mask.
const N_PAIR_FEATURE: usize = N_BIN + 1 + 2 * N_RESTYPE + 3 + 1;
/// Letter, angles, angles under the other names, masks.
const N_TORSION_FEATURE: usize = N_RESTYPE + 14 + 14 + 7;

/// Pairs of residues a block of the attention to templates takes.
const BLOCK: usize = 1 << 14;

/// Distances of the side chains of a template.
pub(super) fn distances() -> Distances {
    Distances::new(FIRST_EDGE, LAST_EDGE, N_BIN)
}

/// Position and mask of the atom that stands for a residue's side chain.
pub(super) fn side_chain(template: &Template, i: usize) -> ([f32; 3], f32) {
    template.atom(i, pseudo_beta(template.restype[i]))
}

/// Are N, CA and C of a residue known?
pub(super) fn backbone_mask(template: &Template, i: usize) -> f32 {
    [N, CA, C].into_iter().map(|place| template.atom(i, place).1).product()
}

/// Features of each residue of each template to rows of the MSA.
#[derive(Debug)]
pub struct TorsionRows {
    a: FeatureLinear,
    b: Linear,
}

impl TorsionRows {
    /// Rows from `n_feature` features.
    pub(super) fn load(n_feature: usize, c_m: usize, w: &Weights) -> Result<Self> {
        Ok(Self { a: FeatureLinear::load(n_feature, c_m, &w.at("a"))?, b: Linear::load(c_m, c_m, &w.at("b"))? })
    }

    /// `features` `[n_template, n, n_feature]` -> `[1, n_template, n, c_m]`.
    pub(super) fn forward(&self, features: &[f32], n_template: usize, device: &Device) -> Result<Tensor> {
        let rows = self.a.forward(features)?;
        let rows = Tensor::from_vec(rows, ((), self.b.k()), device)?;
        self.b.forward(&relu(&rows)?)?.reshape((1, n_template, (), self.b.n()))
    }
}

/// Embeds templates into the pair representation and into rows of the MSA.
#[derive(Debug)]
pub struct TemplateEmbedder {
    pair: FeatureLinear,
    blocks: Vec<PairBlock>,
    norm: Norm,
    attention: Attention,
    torsions: TorsionRows,
    c_t: usize,
}

impl TemplateEmbedder {
    /// The embedder of `config`; `template` is its part of it.
    pub fn load(config: &Config, template: &TemplateConfig, w: &Weights) -> Result<Self> {
        let c_t = template.c_t;
        let Some(point) = template.attention else { candle_core::bail!("a monomer model has attention to templates") };
        let block = |i| PairBlock::load(c_t, template.pair, &w.at(format_args!("blocks.{i}")));
        Ok(Self {
            pair: FeatureLinear::load(N_PAIR_FEATURE, c_t, &w.at("pair"))?,
            blocks: (0..template.n_block).map(block).collect::<Result<_>>()?,
            norm: Norm::load(c_t, &w.at("norm"))?,
            attention: Attention::load(config.c_z, c_t, point.c_hidden, point.n_head, &w.at("attention"))?,
            torsions: TorsionRows::load(N_TORSION_FEATURE, config.c_m, &w.at("torsions"))?,
            c_t,
        })
    }

    /// Adds the templates to `z` `[1, n, n, c_z]` in place; `mask` `[1, n, n]`, 1 = real.
    pub fn add_to(&self, z: &Tensor, features: &Af2Features, mask: &Tensor, dropout: &Dropout) -> Result<()> {
        let real = features.templates.iter().filter(|t| t.is_real);
        let embedded =
            real.map(|t| self.embed(t, &features.template_group, mask, dropout)).collect::<Result<Vec<_>>>()?;
        if embedded.is_empty() { Ok(()) } else { self.attend(z, &embedded) }
    }

    /// Alg. 16: one template, `[1, n, n, c_t]`; `groups` as [`Af2Features::template_group`].
    pub fn embed(&self, template: &Template, groups: &[i32], mask: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let t = self.features(template, groups, mask.device())?;
        self.blocks.iter().try_for_each(|block| block.update_attention_first(&t, mask, dropout))?;
        self.norm.forward(&t)
    }

    /// The pair features of a template, embedded: `[1, n, n, c_t]`.
    pub fn features(&self, template: &Template, groups: &[i32], device: &Device) -> Result<Tensor> {
        let n = template.restype.len();
        let (columns, bins) = (self.pair.columns()?, distances());
        let beta: Vec<_> = (0..n).map(|i| side_chain(template, i)).collect();
        let backbone: Vec<f32> = (0..n).map(|i| backbone_mask(template, i)).collect();
        pairs(n, self.c_t, device, |i, j, out| {
            add(out, columns.bias());
            if groups.get(i) != groups.get(j) {
                return;
            }
            let both = backbone[i] * backbone[j]; // of all features
            if both == 0. {
                return;
            }
            if let Some(bin) = bins.bin(beta[i].0, beta[j].0) {
                columns.add(bin, both, out);
            }
            columns.add(N_BIN, beta[i].1 * beta[j].1 * both, out);
            columns.add(N_BIN + 1 + usize::from(template.restype[j]), both, out);
            columns.add(N_BIN + 1 + N_RESTYPE + usize::from(template.restype[i]), both, out);
            columns.add(N_PAIR_FEATURE - 1, both * both, out);
        })
    }

    /// Alg. 17: each pair attends to the templates' pairs, in blocks of rows.
    fn attend(&self, z: &Tensor, templates: &[Tensor]) -> Result<()> {
        let z = z.get(0)?;
        let (n, _, c_z) = z.dims3()?;
        let rows = (BLOCK / n).max(1);
        for start in (0..n).step_by(rows) {
            let len = rows.min(n - start);
            let z = z.narrow(0, start, len)?;
            let flat = templates.iter().map(|t| t.get(0)?.narrow(0, start, len)?.reshape((len * n, self.c_t)));
            let kv = Tensor::stack(&flat.collect::<Result<Vec<_>>>()?, 1)?; // [pairs, n_template, c_t]
            let update = self.attention.forward(&z.reshape((len * n, 1, c_z))?, &kv, &[])?;
            add_in_place(&z, &update.reshape((len, n, c_z))?)?;
        }
        Ok(())
    }

    /// Rows of the MSA `[1, n_template, n, c_m]`, empty slots included, and their mask `[1, n_template, n]`.
    pub fn rows(&self, features: &Af2Features, device: &Device) -> Result<(Tensor, Tensor)> {
        let (n, n_template) = (features.n_res(), features.templates.len());
        let mut values = vec![0.; n_template * n * N_TORSION_FEATURE];
        let mut mask = Vec::with_capacity(n_template * n);
        for (at, out) in values.chunks_mut(N_TORSION_FEATURE).enumerate() {
            let template = &features.templates[at / n];
            let torsions = Torsions::new(template, at % n);
            let (letter, rest) = out.split_at_mut(N_RESTYPE);
            letter[usize::from(template.restype[at % n])] = 1.;
            let angles = torsions.angles.as_flattened().iter().chain(torsions.alternative.as_flattened());
            rest.iter_mut().zip(angles.chain(&torsions.mask)).for_each(|(out, v)| *out = *v);
            mask.push(torsions.mask[2]); // psi needs atoms of one residue only
        }
        let rows = self.torsions.forward(&values, n_template, device)?;
        Ok((rows, Tensor::from_vec(mask, (1, n_template, n), device)?))
    }
}
