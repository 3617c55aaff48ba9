//! The network on the features of one query and one seed: trunk, structures, confidences. What it makes is handed on sample
//! by sample; what it needs is at most 2.5 pair representations at any time.
use std::path::Path;

use candle_core::Device;

use super::aside::Aside;
use super::output::{Scored, Scorer};
use super::predict::PredictError;
use crate::features::af3::{Af3Features, frame};
use crate::features::noise::TorchGenerator;
use crate::models::af3::pairformer::Trunk;
use crate::models::af3::sample::sample;
use crate::models::openfold3::{OpenFold3, TrunkProgress};
use crate::ops;

/// One run of the network.
pub(super) struct Inference<'a> {
    pub model: &'a OpenFold3,
    pub device: &'a Device,
    pub features: &'a Af3Features,
    pub seed: u32,
    pub n_cycle: usize,
    pub n_step: usize,
    pub n_sample: usize,
    /// Samples whose confidence is wanted, ascending.
    pub wanted: &'a [usize],
    /// Folder on whose file system large tensors are put aside.
    pub folder: &'a Path,
}

/// What has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Trunk(TrunkProgress),
    /// What the diffusion module computes once.
    Conditioning,
    /// So many denoising steps.
    Step(usize),
    /// So many samples have been through the confidence head, or need not.
    Confidence(usize),
    /// So many samples have been scored and handed on.
    Scored(usize),
}

impl Inference<'_> {
    /// Runs it. `watch` is told of each part and may end the run with an error; `take` gets each wanted sample with its number.
    pub fn run(
        &self,
        watch: &mut dyn FnMut(Done) -> candle_core::Result<()>,
        take: &mut dyn FnMut(usize, &Scored<'_>) -> Result<(), PredictError>,
    ) -> Result<(), PredictError> {
        let (model, features) = (self.model, self.features);
        let batch = model.batch(features, self.device)?;
        let mut noise = TorchGenerator::new(self.seed.into());
        let trunk =
            model.trunk(&batch, self.n_cycle, &mut noise, &mut |at| watch(Done::Trunk(at)), &mut |_, _, _| Ok(()))?;
        let Trunk { s_input, s, z } = trunk;
        ops::release_scratch();
        let scorer = Scorer::new(features, &|rows| model.distogram.forward(&z, rows))?;
        let pair = model.diffusion.condition_pair(&batch, &z)?;
        // Denoising needs the memory for attention biases, each confidence for its own representation.
        let mut z = Some(Aside::put(z, self.folder)?);
        let diffusion = model.diffusion.condition(&batch, &s_input, &s, pair)?;
        ops::release_scratch();
        watch(Done::Conditioning)?;
        let sampling = &model.config.sampling;
        let positions = sample(&diffusion, sampling, self.n_step, self.n_sample, &mut noise, &mut |step| {
            watch(Done::Step(step.index + 1))
        })?;
        drop(diffusion);
        ops::release_scratch();
        let (representatives, _) = frame::representative_atoms(features);
        for (k, x) in positions.chunks_exact(3 * batch.n_atom).enumerate() {
            if self.wanted.contains(&k) {
                let x = x.as_chunks().0;
                let centres: Vec<[f32; 3]> = representatives.iter().map(|&atom| x[atom]).collect();
                // The head works in the memory of what it is given: for the last sample, in the trunk's own.
                let last = self.wanted.last() == Some(&k);
                let own = if last { z.take().map(Aside::take) } else { z.as_ref().map(Aside::copy) };
                let Some(own) = own.transpose()? else { break };
                let atoms = model.confidence.forward(&batch, &s_input, &s, &own, &centres)?;
                watch(Done::Confidence(k + 1))?;
                take(k, &scorer.score(x, &atoms.plddt, &|rows| model.confidence.pair_logits(&own, rows))?)?;
            } else {
                watch(Done::Confidence(k + 1))?;
            }
            watch(Done::Scored(k + 1))?;
        }
        Ok(())
    }
}
