//! Diffusion conditioning: AF3 SI Alg. 21 and 22.
use candle_core::{Device, Result, Tensor};

use super::batch::Batch;
use super::config::Config;
use super::embed::for_row_blocks;
use crate::ops::{Linear, Norm, SwiGluTransition, norm_linear};
use crate::weights::{Param, Weights};

/// Transitions after each projection.
const N_TRANSITION: usize = 2;
/// Trunk and noise level to the conditioning of the diffusion module.
#[derive(Debug)]
pub struct DiffusionConditioning {
    /// What makes `c_z` channels of the relative positions, in a file that has it; else they go into the norm as they are.
    relpos: Option<Linear>,
    norm_z: Norm,
    z: Linear,
    transition_z: Vec<SwiGluTransition>,
    norm_s: Norm,
    s: Linear,
    fourier_w: Param,
    fourier_b: Param,
    norm_n: Norm,
    n: Linear,
    transition_s: Vec<SwiGluTransition>,
    sigma_data: f32,
}

impl DiffusionConditioning {
    /// The layers of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let (c_s, c_z) = (config.c_s, config.c_z);
        let relpos =
            w.optional("relpos", &[c_z, config.c_relpos()])?.map(|weight| Linear::new(weight, None)).transpose()?;
        let c_z_in = c_z + relpos.as_ref().map_or(config.c_relpos(), Linear::n);
        let c_s_in = c_s + config.c_s_input();
        let transitions = |name: &str, c: usize| {
            let hidden = config.n_transition_conditioning * c;
            (0..N_TRANSITION).map(|i| SwiGluTransition::load(c, hidden, &w.at(name).at(i))).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            relpos,
            norm_z: Norm::load(c_z_in, &w.at("norm_z"))?,
            z: Linear::load(c_z_in, c_z, &w.at("z"))?,
            transition_z: transitions("transition_z", c_z)?,
            norm_s: Norm::load(c_s_in, &w.at("norm_s"))?,
            s: Linear::load(c_s_in, c_s, &w.at("s"))?,
            fourier_w: w.at("fourier").param("w", &[config.c_fourier])?,
            fourier_b: w.at("fourier").param("b", &[config.c_fourier])?,
            norm_n: Norm::load(config.c_fourier, &w.at("norm_n"))?,
            n: Linear::load(config.c_fourier, c_s, &w.at("n"))?,
            transition_s: transitions("transition_s", c_s)?,
            sigma_data: config.sampling.sigma_data,
        })
    }

    /// Alg. 21 lines 1-5: `z` `[1, n, n, c_z]` of the trunk -> the conditioned one. It does not depend on the noise level.
    pub fn pair(&self, batch: &Batch, z: &Tensor) -> Result<Tensor> {
        let conditioned = z.zeros_like()?;
        for_row_blocks(z, |block, rows| {
            let relpos = batch.relpos.one_hot(rows.clone(), z.device())?;
            let relpos = self.relpos.as_ref().map_or(Ok(relpos.clone()), |layer| layer.forward(&relpos))?;
            let both = Tensor::cat(&[block, &relpos], 3)?;
            conditioned.slice_set(&norm_linear(&both, &self.norm_z, &self.z)?, 1, rows.start)
        })?;
        self.transition_z.iter().try_for_each(|t| t.add_to(&conditioned, Some(&batch.pair_mask)))?;
        Ok(conditioned)
    }

    /// Alg. 21 lines 6-7: the part of the single conditioning that does not depend on the noise level, `[1, n, c_s]`.
    pub fn single(&self, s_trunk: &Tensor, s_input: &Tensor) -> Result<Tensor> {
        norm_linear(&Tensor::cat(&[s_trunk, s_input], 2)?, &self.norm_s, &self.s)
    }

    /// Alg. 21 lines 8-12 at noise level `t` in Å: `single` -> the conditioning `[1, n, c_s]`.
    pub fn at_level(&self, batch: &Batch, single: &Tensor, t: f32) -> Result<Tensor> {
        let level = 0.25 * (t / self.sigma_data).ln();
        let embedding = self.fourier(level)?.to_device(single.device())?;
        let s = single.broadcast_add(&norm_linear(&embedding, &self.norm_n, &self.n)?)?;
        self.transition_s.iter().try_for_each(|layer| layer.add_to(&s, Some(&batch.token_mask)))?;
        Ok(s)
    }

    /// Alg. 22: Fourier embedding of one number, `[1, 1, c_fourier]` on the host.
    pub fn fourier(&self, level: f32) -> Result<Tensor> {
        let (w, b) = (self.fourier_w.tensor(&Device::Cpu)?, self.fourier_b.tensor(&Device::Cpu)?);
        let values: Vec<f32> = w
            .to_vec1::<f32>()?
            .into_iter()
            .zip(b.to_vec1::<f32>()?)
            .map(|(w, b)| (2.0 * std::f32::consts::PI * (level * w + b)).cos())
            .collect();
        let n = values.len();
        Tensor::from_vec(values, (1, 1, n), &Device::Cpu)
    }
}
