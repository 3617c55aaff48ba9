//! The second filter of designed binders: Protenix on target and binder, on the target alone, and again with more steps on designs
//! that are kept, as PXDesignBench does (`tools/ptx/ptx.py`, `ptx_utils.py`). A caller rounds, compares and decides.
//!
//! What is needed at any time is at most 2.5 pair representations: the trunk's lies on the disk while structures are sampled.
use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;

use crate::features::af3::{Af3Features, feature_noise, frame};
use crate::features::noise::TorchGenerator;
use crate::features::protenix::{ChainFault, ProteinChain, featurise};
use crate::models::af3::config::SamplingConfig;
use crate::models::af3::pairformer::Trunk;
use crate::models::af3::sample::Step;
use crate::models::protenix::heads::GivenPositions;
use crate::models::protenix::sample::sample;
use crate::models::protenix::{Protenix, RowLimits};
use crate::ops;
use crate::pipelines::aside::Aside;
use crate::pipelines::output::Scorer;
use crate::pipelines::predict::PredictError;
use crate::score::Confidence;

/// From this RMSD of the target alone on, in Å, its structure is given to the network.
pub const TEMPLATE_RMSD: f64 = 2.0;
/// Seed of the last prediction of a design that is kept.
pub const FINAL_SEED: u64 = 2025;

/// How a structure is predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Passes through the trunk.
    pub n_cycle: usize,
    /// Denoising steps.
    pub n_step: usize,
    /// Noise added back above the model's least level, relative to the level.
    pub gamma_0: f32,
    /// η of AF3 SI Alg. 18.
    pub step_scale: f32,
    /// Rows of the alignment in a cycle.
    pub rows: RowLimits,
}

impl Settings {
    /// For every design.
    pub const FILTER: Self = Self { n_cycle: 4, n_step: 2, gamma_0: 0.0, step_scale: 1.0, rows: RowLimits::FILTER };
    /// For designs that are kept.
    pub const FINAL: Self = Self { n_step: 20, ..Self::FILTER };
}

/// Predicts complexes with loaded weights.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// Base or mini; mini_tmpl where positions are given.
    pub model: &'a Protenix,
    /// Where its weights are.
    pub device: &'a Device,
    /// Folder on whose file system a large tensor is put aside.
    pub folder: &'a Path,
}

/// A chain of the target as its structure shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownChain {
    /// Its sequence and the residues that are kept; of a chain that is given to the network, those with an atom that was seen.
    pub chain: ProteinChain,
    /// Of each kept residue CB, CA of glycine, in Å; `None`: not seen.
    pub representatives: Vec<Option<[f32; 3]>>,
}

/// A predicted complex.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// What it was made from: tokens are residues, with the atoms that each has.
    pub features: Af3Features,
    /// `[n_atom]` in Å.
    pub positions: Vec<[f32; 3]>,
    /// Of the complex, its chains in the order of the input, and their pairs.
    pub confidence: Confidence,
}

/// What a design is judged by, beside its distance from the prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComplexScores {
    /// 0-100, mean over all atoms.
    pub plddt: f32,
    /// Of the complex.
    pub ptm: f32,
    /// Of the complex.
    pub iptm: f32,
    /// Of the binder, the last chain.
    pub ptm_binder: f32,
    /// Mean of the binder's with each other chain.
    pub iptm_binder: f32,
    /// Mean over the other chains.
    pub ptm_target: f32,
}

/// Is told how many of the `n_cycle + n_step` parts are done, and says when to break off.
pub type Watch<'a> = dyn FnMut(usize) -> ControlFlow<()> + 'a;

/// Why a complex cannot be predicted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The chains.
    #[error(transparent)]
    Chains(#[from] ChainFault),
    /// Positions for a network that does not take them.
    #[error("these weights take no positions of the target: use those of protenix_mini_tmpl_v0.5.0")]
    NoPositions,
    /// As many positions as residues are needed.
    #[error("chain {chain}: {positions} positions for {residues} residues")]
    Positions {
        /// Place of the chain in the target, from 1.
        chain: usize,
        /// That were given.
        positions: usize,
        /// That are kept.
        residues: usize,
    },
    /// Its watcher broke it off.
    #[error("the prediction was broken off")]
    Stopped,
    /// The network failed, or the disk.
    #[error(transparent)]
    Predict(#[from] PredictError),
}

impl From<candle_core::Error> for FilterError {
    fn from(e: candle_core::Error) -> Self {
        Self::Predict(e.into())
    }
}

impl Filter<'_> {
    /// Predicts a complex of these chains; the target alone is one without the binder.
    ///
    /// # Errors
    /// Chains without features, and what the network and the disk report.
    pub fn predict(
        &self,
        chains: &[ProteinChain],
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        self.predict_features(features_of(chains, seed)?, None, settings, seed, watch)
    }

    /// As [`predict`](Self::predict), for a target whose structure is given to the network, and a binder. Alignments are not used.
    ///
    /// # Errors
    /// As there, and of weights that take no positions.
    pub fn predict_with_target(
        &self,
        target: &[KnownChain],
        binder: &ProteinChain,
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        if self.model.structure.is_none() {
            return Err(FilterError::NoPositions);
        }
        let mut given = GivenPositions::default();
        for (i, known) in target.iter().enumerate() {
            let (positions, residues) = (known.representatives.len(), known.chain.kept.len());
            if positions != residues {
                return Err(FilterError::Positions { chain: i + 1, positions, residues });
            }
            given.known.extend(known.representatives.iter().map(Option::is_some));
            given.positions.extend(known.representatives.iter().map(|x| x.unwrap_or_default()));
        }
        let n = given.known.len() + binder.kept.len();
        given.known.resize(n, false);
        given.positions.resize(n, [0.0; 3]);
        let alone = |chain: &ProteinChain| ProteinChain { alignments: None, ..chain.clone() };
        let chains: Vec<ProteinChain> = target.iter().map(|known| &known.chain).chain([binder]).map(alone).collect();
        self.predict_features(features_of(&chains, seed)?, Some(&given), settings, seed, watch)
    }

    /// As [`predict`](Self::predict), from features, and from positions for a network that takes them.
    ///
    /// # Errors
    /// What the network and the disk report.
    pub fn predict_features(
        &self,
        features: Af3Features,
        given: Option<&GivenPositions>,
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        let (model, n_cycle) = (self.model, settings.n_cycle);
        let batch = model.batch(&features, self.device)?;
        let mut noise = TorchGenerator::new(seed);
        // The network ends with an error where its watcher breaks it off.
        let is_stopped = Cell::new(false);
        let mut told = |done: usize| {
            is_stopped.set(watch(done).is_break());
            if is_stopped.get() { candle_core::bail!("broken off") } else { Ok(()) }
        };
        let stopped = |error: candle_core::Error| {
            if is_stopped.get() { FilterError::Stopped } else { error.into() }
        };
        let after_cycle = &mut |cycle: usize, _: &_, _: &_| told(cycle + 1);
        let trunk = model.trunk(&batch, given, n_cycle, settings.rows, &mut noise, after_cycle).map_err(stopped)?;
        let Trunk { s_input, s, z } = trunk;
        ops::release_scratch();
        let scorer = Scorer::new(&features, &|rows| model.distogram.forward(&z, rows))?;
        let pair = model.diffusion.condition_pair(&batch, &z)?;
        let z = Aside::put(z, self.folder)?;
        let diffusion = model.diffusion.condition(&batch, &s_input, &s, pair)?;
        let sampling =
            SamplingConfig { gamma_0: settings.gamma_0, step_scale: settings.step_scale, ..model.config.sampling };
        let after_step = &mut |step: &Step<'_>| told(n_cycle + step.index + 1);
        let x = sample(&diffusion, &sampling, settings.n_step, 1, &mut noise, after_step).map_err(stopped)?;
        drop(diffusion);
        ops::release_scratch();
        let z = z.take()?;
        let positions: Vec<[f32; 3]> = x.as_chunks().0.to_vec();
        let (atoms, _) = frame::representative_atoms(&features);
        let centres: Vec<[f32; 3]> = atoms.iter().map(|&atom| positions[atom]).collect();
        let logits = model.confidence.forward(&batch, &s_input, &s, &z, &centres)?;
        let pairs = |rows| model.confidence.pair_logits(&z, rows);
        let confidence = scorer.score_ordered(&positions, &logits.plddt, &pairs)?;
        drop(scorer);
        Ok(Predicted { positions, confidence, features })
    }
}

/// Features of a seed: the network's numbers, which start from the seed itself, have nothing in common with those that move conformers.
fn features_of(chains: &[ProteinChain], seed: u64) -> Result<Af3Features, ChainFault> {
    featurise(chains, &mut feature_noise(seed as u32))
}

impl Predicted {
    /// Scores of a complex whose last chain is the binder; `None` without one.
    pub fn scores(&self) -> Option<ComplexScores> {
        let c = &self.confidence;
        let (&ptm_binder, others) = c.chain_ptm.split_last()?;
        Some(ComplexScores {
            plddt: c.mean_plddt(),
            ptm: c.ptm,
            iptm: c.iptm,
            ptm_binder,
            iptm_binder: *c.chain_iptm.last()?,
            ptm_target: others.iter().sum::<f32>() / others.len() as f32,
        })
    }

    /// CA atoms of each chain, in Å: of every residue the second atom.
    pub fn cas(&self) -> Vec<Vec<[f32; 3]>> {
        let f = &self.features;
        let mut chains = vec![Vec::new(); self.confidence.asym_ids.len()];
        for (asym_id, start) in f.asym_id.iter().zip(&f.start_atom_index) {
            if let Ok(chain) = self.confidence.asym_ids.binary_search(asym_id) {
                chains[chain].push(self.positions[start + 1]);
            }
        }
        chains
    }
}
