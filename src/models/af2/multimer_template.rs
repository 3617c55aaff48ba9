//! Template embedder of the multimer models: `TemplateEmbedding` and `template_embedding_1d` of the official `modules_multimer.py`.
use candle_core::{Device, Result, Tensor};

use super::columns::{FeatureLinear, add, pairs};
use super::config::{Config, TemplateConfig};
use super::dropout::Dropout;
use super::evoformer::PairBlock;
use super::template::{N_BIN, N_RESTYPE, TorsionRows, backbone_mask, distances, side_chain};
use crate::chem::atom_layout::{C, CA, N};
use crate::features::af2::torsion::{N_CHI, chi_angles};
use crate::features::af2::{Af2Features, Template};
use crate::geometry::{Rigid, Vec3, dot, minus, times};
use crate::ops::{Linear, Norm, add_in_place, norm_linear, relu};
use crate::weights::Weights;

/// Letter, sines, cosines, masks.
const N_TORSION_FEATURE: usize = N_RESTYPE + 3 * N_CHI;

/// Embeds templates, each of one chain, into the pair representation and into rows of the MSA.
#[derive(Debug)]
pub struct MultimerTemplateEmbedder {
    distogram: FeatureLinear,
    pseudo_beta_mask: FeatureLinear,
    restype_i: FeatureLinear,
    restype_j: FeatureLinear,
    axes: [FeatureLinear; 3],
    backbone_mask: FeatureLinear,
    norm_z: Norm,
    z: Linear,
    blocks: Vec<PairBlock>,
    norm: Norm,
    out: Linear,
    torsions: TorsionRows,
    c_t: usize,
}

impl MultimerTemplateEmbedder {
    /// The embedder of `config`; `template` is its part of it.
    pub fn load(config: &Config, template: &TemplateConfig, w: &Weights) -> Result<Self> {
        let (c_t, c_z) = (template.c_t, config.c_z);
        let layer = |name: &str, k| FeatureLinear::load(k, c_t, &w.at(name));
        let block = |i| PairBlock::load(c_t, template.pair, &w.at(format_args!("blocks.{i}")));
        Ok(Self {
            distogram: layer("distogram", N_BIN)?,
            pseudo_beta_mask: layer("pseudo_beta_mask", 1)?,
            restype_i: layer("restype_i", N_RESTYPE)?,
            restype_j: layer("restype_j", N_RESTYPE)?,
            axes: [layer("x", 1)?, layer("y", 1)?, layer("z_axis", 1)?],
            backbone_mask: layer("backbone_mask", 1)?,
            norm_z: Norm::load(c_z, &w.at("norm_z"))?,
            z: Linear::load(c_z, c_t, &w.at("z"))?,
            blocks: (0..template.n_block).map(block).collect::<Result<_>>()?,
            norm: Norm::load(c_t, &w.at("norm"))?,
            out: Linear::load(c_t, c_z, &w.at("out"))?,
            torsions: TorsionRows::load(N_TORSION_FEATURE, config.c_m, &w.at("torsions"))?,
            c_t,
        })
    }

    /// Adds the mean of all slots, empty ones included, to `z` `[1, n, n, c_z]` in place; `mask` `[1, n, n]`, 1 = real.
    pub fn add_to(&self, z: &Tensor, features: &Af2Features, mask: &Tensor, dropout: &Dropout) -> Result<()> {
        let z_t = self.project(z)?;
        let slots = &features.templates;
        let mut sum: Option<Tensor> = None;
        let mut last: Option<Tensor> = None;
        for (k, template) in slots.iter().enumerate() {
            // Slots that repeat, as empty ones do, give the same again.
            let same = k > 0 && template.mask == slots[k - 1].mask && template.restype == slots[k - 1].restype;
            let same = same && template.positions == slots[k - 1].positions;
            let t = match last.take().filter(|_| same) {
                Some(t) => t,
                None => self.embed(&z_t, template, features, mask, dropout)?,
            };
            match &sum {
                Some(sum) => add_in_place(sum, &t)?,
                None => sum = Some(t.copy()?),
            }
            last = Some(t);
        }
        let Some(sum) = sum else { return Ok(()) };
        self.out.add_to(z, &relu(&(sum / slots.len() as f64)?)?)
    }

    /// The part of `z` in every template's pair representation: `[1, n, n, c_t]`.
    pub fn project(&self, z: &Tensor) -> Result<Tensor> {
        norm_linear(z, &self.norm_z, &self.z)
    }

    /// One template, `[1, n, n, c_t]`.
    pub fn embed(
        &self,
        z_t: &Tensor,
        template: &Template,
        features: &Af2Features,
        mask: &Tensor,
        dropout: &Dropout,
    ) -> Result<Tensor> {
        let t = self.features(template, features, mask.device())?;
        add_in_place(&t, z_t)?;
        self.blocks.iter().try_for_each(|block| block.update(&t, mask, dropout))?;
        self.norm.forward(&t)
    }

    /// The pair features of a template, embedded, without the part of `z`: `[1, n, n, c_t]`.
    pub fn features(&self, template: &Template, features: &Af2Features, device: &Device) -> Result<Tensor> {
        let n = template.restype.len();
        let bins = distances();
        let (distogram, beta_mask) = (self.distogram.columns()?, self.pseudo_beta_mask.columns()?);
        let (restype_i, restype_j) = (self.restype_i.columns()?, self.restype_j.columns()?);
        let backbone_layer = self.backbone_mask.columns()?;
        let axes = self.axes.iter().map(FeatureLinear::columns).collect::<Result<Vec<_>>>()?;
        let beta: Vec<_> = (0..n).map(|i| side_chain(template, i)).collect();
        let backbone: Vec<f32> = (0..n).map(|i| backbone_mask(template, i)).collect();
        let frames: Vec<Rigid> = (0..n).map(|i| frame(template, i)).collect();
        let layers = [&distogram, &beta_mask, &restype_i, &restype_j, &backbone_layer];
        let mut bias = vec![0.; self.c_t];
        layers.into_iter().chain(&axes).for_each(|layer| add(&mut bias, layer.bias()));
        pairs(n, self.c_t, device, |i, j, out| {
            add(out, &bias);
            restype_j.add(usize::from(template.restype[j]), 1., out);
            restype_i.add(usize::from(template.restype[i]), 1., out);
            if features.asym_id[i] != features.asym_id[j] {
                return;
            }
            let both = beta[i].1 * beta[j].1;
            if let Some(bin) = bins.bin(beta[i].0, beta[j].0) {
                distogram.add(bin, both, out);
            }
            beta_mask.add(0, both, out);
            let both = backbone[i] * backbone[j];
            let direction = unit(frames[i].invert(frames[j].trans));
            axes.iter().zip(direction).for_each(|(axis, x)| axis.add(0, x as f32 * both, out));
            backbone_layer.add(0, both, out);
        })
    }

    /// Rows of the MSA `[1, n_template, n, c_m]` and their mask `[1, n_template, n]`.
    pub fn rows(&self, features: &Af2Features, device: &Device) -> Result<(Tensor, Tensor)> {
        let (n, n_template) = (features.n_res(), features.templates.len());
        let mut values = vec![0.; n_template * n * N_TORSION_FEATURE];
        let mut row_mask = Vec::with_capacity(n_template * n);
        for (at, out) in values.chunks_mut(N_TORSION_FEATURE).enumerate() {
            let template = &features.templates[at / n];
            let (angles, mask) = chi_angles(template, at % n);
            let (letter, rest) = out.split_at_mut(N_RESTYPE);
            letter[usize::from(template.restype[at % n])] = 1.;
            let values = angles.iter().map(|a| a[0]).chain(angles.iter().map(|a| a[1])).chain(mask);
            rest.iter_mut().zip(values).for_each(|(out, v)| *out = v);
            row_mask.push(mask[0]);
        }
        let rows = self.torsions.forward(&values, n_template, device)?;
        Ok((rows, Tensor::from_vec(row_mask, (1, n_template, n), device)?))
    }
}

/// Origin CA, x axis to C, N in the xy plane.
fn frame(template: &Template, i: usize) -> Rigid {
    let [n, ca, c] = [N, CA, C].map(|place| template.atom(i, place).0.map(f64::from));
    Rigid::from_two_vectors(minus(c, ca), minus(n, ca), ca, unit)
}

/// Length 1; a vector shorter than 1e-6 stays short.
fn unit(v: Vec3) -> Vec3 {
    times(v, 1. / dot(v, v).max(1e-12).sqrt())
}
