//! Diffusion module: AF3 SI Alg. 20.
use candle_core::{Result, Tensor};

use super::atom_attention::{AtomConditioning, AtomDecoder, AtomEncoder, AtomTransformerCondition};
use super::batch::Batch;
use super::conditioning::DiffusionConditioning;
use super::config::Config;
use super::pairformer::mask_bias;
use super::sample::Denoise;
use super::token_transformer::{PairBiases, TokenTransformer};
use crate::ops::{Linear, Norm, add_in_place, norm_linear};
use crate::weights::Weights;

/// Predicts the denoised positions from noisy ones.
#[derive(Debug)]
pub struct DiffusionModule {
    conditioning: DiffusionConditioning,
    atom_encoder: AtomEncoder,
    norm_s: Norm,
    s: Linear,
    transformer: TokenTransformer,
    norm_a: Norm,
    atom_decoder: AtomDecoder,
    sigma_data: f32,
}

/// The module bound to a query and its trunk: everything that is the same in all steps and samples is computed.
#[derive(Debug)]
pub struct ConditionedDiffusion<'a> {
    module: &'a DiffusionModule,
    batch: &'a Batch,
    single: Tensor,
    pair_biases: PairBiases,
    atoms: AtomConditioning,
    decoder: AtomTransformerCondition,
    mask_bias: Tensor,
}

impl DiffusionModule {
    /// The module of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self {
            conditioning: DiffusionConditioning::load(config, &w.at("conditioning"))?,
            atom_encoder: AtomEncoder::load_diffusion(config, &w.at("atom_encoder"))?,
            norm_s: Norm::load(config.c_s, &w.at("norm_s"))?,
            s: Linear::load(config.c_s, config.c_token, &w.at("s"))?,
            transformer: TokenTransformer::load(config, &w.at("transformer"))?,
            norm_a: Norm::load(config.c_token, &w.at("norm_a"))?,
            atom_decoder: AtomDecoder::load(config, &w.at("atom_decoder"))?,
            sigma_data: config.sampling.sigma_data,
        })
    }

    /// The conditioned pair representation of the trunk's `z`, both `[1, n, n, c_z]`; after it `z` is not needed here.
    pub fn condition_pair(&self, batch: &Batch, z: &Tensor) -> Result<Tensor> {
        self.conditioning.pair(batch, z)
    }

    /// Binds the module to a trunk's output: `s_input` `[1, n, c_s_input]`, `s` `[1, n, c_s]`, and `pair` of
    /// [`condition_pair`](Self::condition_pair).
    pub fn condition<'a>(
        &'a self,
        batch: &'a Batch,
        s_input: &Tensor,
        s: &Tensor,
        pair: Tensor,
    ) -> Result<ConditionedDiffusion<'a>> {
        let (atoms, pairs) = self.atom_encoder.prepare(batch, Some((s, &pair)))?;
        let decoder = self.atom_decoder.condition(&atoms.single, &|blocks| pairs.blocks(blocks), &batch.windows)?;
        drop(pairs);
        Ok(ConditionedDiffusion {
            module: self,
            batch,
            single: self.conditioning.single(s, s_input)?,
            pair_biases: self.transformer.condition(pair)?,
            mask_bias: mask_bias(&batch.token_mask)?,
            decoder,
            atoms,
        })
    }
}

impl Denoise for ConditionedDiffusion<'_> {
    fn n_atom(&self) -> usize {
        self.batch.n_atom
    }

    fn atom_mask(&self) -> &[f32] {
        &self.batch.atoms.mask_values
    }

    fn denoise(&self, noisy: &[f32], n_sample: usize, t: f32) -> Result<Vec<f32>> {
        let (module, batch) = (self.module, self.batch);
        let variance = module.sigma_data * module.sigma_data;
        let scale = (t * t + variance).sqrt();
        let noisy = Tensor::from_slice(noisy, (n_sample, batch.n_atom, 3), &batch.device)?;
        let noisy = noisy.broadcast_mul(&batch.atoms.mask)?;
        let scaled = (&noisy / f64::from(scale))?;

        let s = module.conditioning.at_level(batch, &self.single, t)?;
        let encoded = module.atom_encoder.forward(batch, &self.atoms, Some(&scaled))?;
        let a = encoded.tokens; // [n_sample, n_token, c_token]
        add_in_place(&a, &norm_linear(&s, &module.norm_s, &module.s)?)?;
        module.transformer.update(&a, &s, &self.pair_biases, &self.mask_bias)?;
        let a = module.norm_a.forward(&a)?;
        let update = module.atom_decoder.forward(batch, &self.decoder, &a, &encoded.atoms)?;

        let keep = noisy.affine(f64::from(variance / (variance + t * t)), 0.0)?;
        let step = update.affine(f64::from(module.sigma_data * t / (variance + t * t).sqrt()), 0.0)?;
        (keep + step)?.broadcast_mul(&batch.atoms.mask)?.flatten_all()?.to_vec1()
    }
}
