//! AlphaFold2: monomer models 1 to 5 and multimer version 3, as `alphafold-colabfold` 2.3.27 has them, in float32.
pub mod atoms;
pub mod columns;
pub mod config;
pub mod cost;
pub mod dropout;
pub mod embed;
pub mod evoformer;
pub mod heads;
pub mod ipa;
pub mod monomer;
pub mod multimer;
pub mod multimer_template;
pub mod network;
pub mod recycle;
pub mod structure;
pub mod template;

use candle_core::Result;

use self::config::Config;
use self::dropout::Dropout;
use self::heads::Trunk;
use self::monomer::Monomer;
use self::multimer::Multimer;
use self::network::{Network, Part};
use self::recycle::Recycled;
use crate::features::af2::Af2Features;
use crate::weights::Weights;

/// A parameter set of either kind.
#[derive(Debug)]
pub enum AlphaFold2 {
    /// Models 1 to 5, with or without a head of the aligned error.
    Monomer(Box<Monomer>),
    /// Models 1 to 5 of multimer version 3.
    Multimer(Box<Multimer>),
}

impl AlphaFold2 {
    /// Builds the network of a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(match config.is_multimer() {
            false => Self::Monomer(Box::new(Monomer::load(config, w)?)),
            true => Self::Multimer(Box::new(Multimer::load(config, w)?)),
        })
    }

    /// The layers of both kinds.
    pub fn network(&self) -> &Network {
        match self {
            Self::Monomer(model) => &model.network,
            Self::Multimer(model) => &model.network,
        }
    }

    /// Embedders and stacks; `watch` is told of each part that is done.
    pub fn trunk(
        &self,
        features: &Af2Features,
        recycled: Recycled,
        dropout: &Dropout,
        watch: &mut dyn FnMut(Part),
    ) -> Result<Trunk> {
        match self {
            Self::Monomer(model) => model.trunk(features, recycled, dropout, watch),
            Self::Multimer(model) => model.trunk(features, recycled, dropout, watch),
        }
    }
}
