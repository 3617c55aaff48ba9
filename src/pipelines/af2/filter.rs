//! The filter of designed binders: the monomer network on target and binder from an initial guess, and on the binder alone, scored
//! as ColabDesign does. A caller rounds, compares and decides.
use std::ops::ControlFlow;

use super::memory::{self, Sizes};
use super::parameters::ParameterFile;
use crate::features::af2::Af2Features;
use crate::features::af2::design::{Design, DesignError, single_sequence};
use crate::models::af2::AlphaFold2;
use crate::models::af2::dropout::Dropout;
use crate::models::af2::monomer::Monomer;
use crate::models::af2::network::Part;
use crate::models::af2::recycle::Recycled;
use crate::ops;
use crate::pipelines::host::host;
use crate::score::af2::Af2Confidence;
use crate::score::af2_design::{DesignScores, on_target};

/// Runs a parameter set on designs.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    model: &'a Monomer,
    /// Passes after the first.
    n_recycle: usize,
}

/// A prediction with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// Atom37, `[n * 37]` in Å, of a complex on the target's known structure; atoms that a residue lacks are at the origin.
    pub positions: Vec<[f32; 3]>,
    /// Of each residue; target and binder are its chains.
    pub confidence: Af2Confidence,
    /// What designs are judged by.
    pub scores: DesignScores,
}

/// Is told of each part of each pass, and says when to break off.
pub type Watch<'a> = dyn FnMut(usize, Part) -> ControlFlow<()> + 'a;

/// Why a design cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A parameter set that the filter does not run on.
    #[error("the filter runs on monomer models with aligned errors: use model_1_ptm or model_2_ptm")]
    Model,
    /// A parameter set without templates.
    #[error("these weights have no template embedder, which shows the target: use model_1_ptm or model_2_ptm")]
    NoTemplates,
    /// The design.
    #[error(transparent)]
    Design(#[from] DesignError),
    /// Its watcher broke it off.
    #[error("the evaluation was broken off")]
    Stopped,
    /// The network failed.
    #[error("the network cannot be run")]
    Network(#[from] candle_core::Error),
}

/// The most bytes that a complex of so many residues takes, weights included.
pub fn peak(file: &ParameterFile, n_res: usize) -> u64 {
    let sizes = Sizes { n_res, n_seq: 1, n_template: 1, n_extra: 1, has_dropout: false };
    memory::peak(&file.config, &sizes, file.bytes)
}

impl<'a> Filter<'a> {
    /// Over a loaded parameter set.
    ///
    /// # Errors
    /// A multimer model, or one without the head of the aligned error.
    pub fn new(model: &'a AlphaFold2, n_recycle: usize) -> Result<Self, FilterError> {
        match model {
            AlphaFold2::Monomer(model) if model.network.config.heads.n_pae.is_some() => Ok(Self { model, n_recycle }),
            _ => Err(FilterError::Model),
        }
    }

    /// Target and binder, from the known structure; `watch` is told of each part of each pass.
    ///
    /// # Errors
    /// A parameter set without templates, a design without features, and what the network reports.
    pub fn complex(&self, design: &Design, watch: &mut Watch<'_>) -> Result<Evaluated, FilterError> {
        if self.model.template.is_none() {
            return Err(FilterError::NoTemplates);
        }
        let made = design.features()?;
        let n = made.features.n_res();
        let chains: Vec<i32> = (0..n).map(|i| i32::from(i >= made.n_target)).collect();
        let (positions, confidence) = self.passes(&made.features, Some(made.guess.clone()), &chains, watch)?;
        let (rigid, rmsd) = on_target(&positions, &made.guess, &made.known, made.n_target);
        let laid = |x: [f32; 3]| if x == [0.; 3] { x } else { rigid.apply(x.map(f64::from)).map(|v| v as f32) };
        Ok(Evaluated {
            positions: positions.into_iter().map(laid).collect(),
            scores: DesignScores::of_complex(&confidence, made.n_target, rmsd).ok_or(FilterError::Model)?,
            confidence,
        })
    }

    /// The binder alone, `sequence` of letters 0-19; templates of the parameter set are not used.
    ///
    /// # Errors
    /// A letter beyond the twenty, and what the network reports.
    pub fn alone(&self, sequence: &[u8], watch: &mut Watch<'_>) -> Result<Evaluated, FilterError> {
        let features = single_sequence(sequence)?;
        let (positions, confidence) = self.passes(&features, None, &features.asym_id, watch)?;
        let scores = DesignScores::alone(&confidence).ok_or(FilterError::Model)?;
        Ok(Evaluated { positions, confidence, scores })
    }

    /// All passes; positions and confidence of the last. The chains of the confidence are not those of the features, by which the
    /// network would tell how far residues are apart.
    fn passes(
        &self,
        features: &Af2Features,
        guess: Option<Vec<[f32; 3]>>,
        chains: &[i32],
        watch: &mut Watch<'_>,
    ) -> Result<(Vec<[f32; 3]>, Af2Confidence), FilterError> {
        let network = &self.model.network;
        let mut recycled = Recycled::first(features.n_res(), &network.config, guess, &network.device)?;
        let mut pass = 0;
        loop {
            let mut flow = ControlFlow::Continue(());
            let told = &mut |part| {
                if flow.is_continue() {
                    flow = watch(pass, part);
                }
            };
            let trunk = self.model.trunk(features, recycled, &Dropout::default(), told)?;
            if flow.is_break() {
                return Err(FilterError::Stopped);
            }
            ops::release_scratch();
            let folded = network.heads.fold(&trunk, features)?;
            if watch(pass, Part::Heads).is_break() {
                return Err(FilterError::Stopped);
            }
            if pass == self.n_recycle {
                let pae = network.heads.pae(&trunk.pair)?;
                let pae = pae.as_ref().map(host).transpose()?;
                let pae = pae.as_ref().map(|pae| pae.values());
                let confidence = Af2Confidence::new(host(&folded.plddt)?.values(), pae, chains, &features.mask);
                return Ok((folded.positions, confidence));
            }
            recycled = Recycled::new(trunk, folded.positions)?;
            pass += 1;
        }
    }
}
