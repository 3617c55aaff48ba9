//! Structure module: AF2 SI Alg. 20 and 23. It runs on the host: eight small iterations over single residues, between which frames
//! are composed, are not worth the way to another device.
use candle_core::{Device, Result, Tensor};

use super::atoms::{Groups, atom14, groups};
use super::config::Config;
use super::ipa::{InvariantPointAttention, PointLength};
use crate::chem::atom_layout::{N_ATOM14, N_GROUP};
use crate::geometry::{Rigid, rotation_of_quaternion};
use crate::ops::{Linear, Norm, add_in_place, relu};
use crate::weights::Weights;

/// `(sin, cos)` of pre-omega, phi, psi, chi1 to chi4.
pub type Angles = [[f32; 2]; N_GROUP - 1];

/// Residual blocks of the side chain's layers.
const N_SIDECHAIN_BLOCK: usize = 2;

/// Single and pair representation to a structure.
#[derive(Debug)]
pub struct StructureModule {
    norm_s: Norm,
    norm_z: Norm,
    initial: Linear,
    attention: InvariantPointAttention,
    norm_attention: Norm,
    transition: [Linear; 3],
    norm_transition: Norm,
    backbone: Linear, // c_s -> 6: b, c, d of a quaternion (1, b, c, d), and a translation
    sidechain: SideChain,
    n_iteration: usize,
    position_scale: f64,
}

/// Representation to torsions.
#[derive(Debug)]
struct SideChain {
    act: Linear,
    initial: Linear,
    blocks: [(Linear, Linear); N_SIDECHAIN_BLOCK],
    angles: Linear,
}

/// One iteration.
#[derive(Debug, Clone)]
pub struct Iteration {
    /// The update by the attention, `[1, n, c_s]`.
    pub attention: Tensor,
    /// The representation after it, `[1, n, c_s]`.
    pub act: Tensor,
    /// `[n]`, in Å.
    pub backbone: Vec<Rigid>,
    /// `[n]`.
    pub angles: Vec<Angles>,
    /// `[n]`, in Å.
    pub groups: Vec<Groups>,
    /// `[n]`, in Å.
    pub atom14: Vec<[[f32; 3]; N_ATOM14]>,
}

impl StructureModule {
    /// The module of `config`; its parameters stay on the host.
    pub fn load(config: &Config, length: PointLength, w: &Weights) -> Result<Self> {
        let (w, c) = (&w.on(&Device::Cpu), config.c_s);
        let transition = |i: usize| Linear::load(c, c, &w.at(format_args!("transition.{i}")));
        Ok(Self {
            norm_s: Norm::load(c, &w.at("norm_s"))?,
            norm_z: Norm::load(config.c_z, &w.at("norm_z"))?,
            initial: Linear::load(c, c, &w.at("initial"))?,
            attention: InvariantPointAttention::load(config, length, &w.at("attention"))?,
            norm_attention: Norm::load(c, &w.at("norm_attention"))?,
            transition: [transition(0)?, transition(1)?, transition(2)?],
            norm_transition: Norm::load(c, &w.at("norm_transition"))?,
            backbone: Linear::load(c, 6, &w.at("backbone"))?,
            sidechain: SideChain::load(c, config.structure.c_sidechain, &w.at("sidechain"))?,
            n_iteration: config.structure.n_iteration,
            position_scale: config.structure.position_scale,
        })
    }

    /// `single` `[1, n, c_s]`, `pair` `[1, n, n, c_z]`, `restype` and `mask` `[n]` -> the last iteration; `watch` sees each.
    pub fn forward(
        &self,
        single: &Tensor,
        pair: &Tensor,
        restype: &[u8],
        mask: &[f32],
        watch: &mut dyn FnMut(&Iteration) -> Result<()>,
    ) -> Result<Iteration> {
        let initial = self.norm_s.forward(&single.to_device(&Device::Cpu)?)?;
        let pair = self.attention.pair(&self.norm_z.forward(&pair.to_device(&Device::Cpu)?)?)?;
        let mut act = self.initial.forward(&initial)?;
        let mut frames = vec![Rigid::IDENTITY; restype.len()];
        let mut last = None;
        for _ in 0..self.n_iteration {
            let attention = self.attention.forward(&act, &pair, &frames, mask)?;
            add_in_place(&act, &attention)?;
            act = self.transition(&act)?;
            self.move_backbone(&act, &mut frames)?;
            let angles = self.sidechain.forward(&act, &initial)?;
            let backbone: Vec<Rigid> = frames.iter().map(|f| f.scale_translation(self.position_scale)).collect();
            let residues = restype.iter().zip(&backbone).zip(&angles);
            let groups: Vec<Groups> = residues.map(|((r, backbone), angles)| groups(*r, backbone, angles)).collect();
            let atom14 = restype.iter().zip(&groups).map(|(r, groups)| atom14(*r, groups)).collect();
            let iteration = Iteration { attention, act: act.copy()?, backbone, angles, groups, atom14 };
            watch(&iteration)?;
            last = Some(iteration);
        }
        last.ok_or_else(|| candle_core::Error::Msg("a structure module without iterations".into()))
    }

    fn transition(&self, act: &Tensor) -> Result<Tensor> {
        let act = self.norm_attention.forward(act)?;
        let [a, b, c] = &self.transition;
        let update = c.forward(&relu(&b.forward(&relu(&a.forward(&act)?)?)?)?)?;
        add_in_place(&act, &update)?;
        self.norm_transition.forward(&act)
    }

    /// Alg. 23, composed on the right.
    fn move_backbone(&self, act: &Tensor, frames: &mut [Rigid]) -> Result<()> {
        let update = self.backbone.forward(act)?.flatten_all()?.to_vec1::<f32>()?;
        for (frame, update) in frames.iter_mut().zip(update.as_chunks::<6>().0) {
            let [b, c, d, x, y, z] = update.map(f64::from);
            *frame = frame.compose(&Rigid { rot: rotation_of_quaternion([1., b, c, d]), trans: [x, y, z] });
        }
        Ok(())
    }
}

impl SideChain {
    fn load(c_s: usize, c: usize, w: &Weights) -> Result<Self> {
        let block = |i: usize| -> Result<(Linear, Linear)> {
            let w = w.at(format_args!("blocks.{i}"));
            Ok((Linear::load(c, c, &w.at("a"))?, Linear::load(c, c, &w.at("b"))?))
        };
        Ok(Self {
            act: Linear::load(c_s, c, &w.at("act"))?,
            initial: Linear::load(c_s, c, &w.at("initial"))?,
            blocks: [block(0)?, block(1)?],
            angles: Linear::load(c, 2 * (N_GROUP - 1), &w.at("angles"))?,
        })
    }

    /// Alg. 20 lines 11-14.
    fn forward(&self, act: &Tensor, initial: &Tensor) -> Result<Vec<Angles>> {
        let x = self.act.forward(&relu(act)?)?;
        add_in_place(&x, &self.initial.forward(&relu(initial)?)?)?;
        for (a, b) in &self.blocks {
            let update = b.forward(&relu(&a.forward(&relu(&x)?)?)?)?;
            add_in_place(&x, &update)?;
        }
        let angles = self.angles.forward(&relu(&x)?)?.flatten_all()?.to_vec1::<f32>()?;
        let unit = |[sin, cos]: [f32; 2]| {
            let length = (sin * sin + cos * cos).max(1e-12).sqrt();
            [sin / length, cos / length]
        };
        let residue = |x: &[f32; 14]| {
            let mut angles = [[0.; 2]; N_GROUP - 1];
            angles.iter_mut().zip(x.as_chunks::<2>().0).for_each(|(angle, x)| *angle = unit(*x));
            angles
        };
        Ok(angles.as_chunks::<14>().0.iter().map(residue).collect())
    }
}
