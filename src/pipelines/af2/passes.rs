//! Recycling: the network again and again, each pass from the structure and the representations of the one before, until they have
//! been enough or the structure moves no more. As `RunModel.predict` of `alphafold-colabfold` 2.3.27, in float32 throughout; the
//! package rounds to float16 between passes.
use candle_core::{Result, Tensor};

use crate::features::af2::Af2Features;
use crate::models::af2::AlphaFold2;
use crate::models::af2::dropout::Dropout;
use crate::models::af2::network::Part;
use crate::models::af2::recycle::Recycled;
use crate::ops;
use crate::pipelines::host::host;
use crate::score::af2::{Af2Confidence, change};

/// How many passes, and what the first begins with.
#[derive(Debug, Clone, Default)]
pub struct Recycling {
    /// Passes after the first.
    pub n_recycle: usize,
    /// Stop after the second pass or a later one if it moved the structure by less, in Å: see [`change`]. 0 never stops.
    pub tolerance: f32,
    /// Atom37 `[n * 37]` in Å that the first pass takes for the structure of a pass before it.
    pub initial_guess: Option<Vec<[f32; 3]>>,
    /// Seed of the dropout, if there is any.
    pub dropout: Option<u32>,
}

/// What a pass has given.
#[derive(Debug)]
pub struct Pass {
    /// From 0.
    pub index: usize,
    /// How far it is from the pass before, in Å; none of the first.
    pub change: Option<f32>,
    /// Confidence in its structure.
    pub confidence: Af2Confidence,
    /// Its structure, and what else the next pass begins with. The pair representation is the one that the heads of pairs read.
    pub recycled: Recycled,
}

/// Runs the passes and gives the last. `features` are those of each pass, all of one query; `watch` is told of each part of a pass
/// (its number, what is done), `each` sees every pass.
///
/// # Errors
/// Those of the network, of `each`, and features whose residues the initial guess does not have.
pub fn run<E: From<candle_core::Error>>(
    model: &AlphaFold2,
    recycling: &Recycling,
    features: &mut dyn FnMut(usize) -> Af2Features,
    watch: &mut dyn FnMut(usize, Part),
    each: &mut dyn FnMut(&Pass) -> std::result::Result<(), E>,
) -> std::result::Result<Pass, E> {
    let mut index = 0;
    let mut first = features(0);
    let mut recycled = first_input(model, recycling, &first)?;
    loop {
        let features = if index == 0 { std::mem::take(&mut first) } else { features(index) };
        let before = recycled.positions.clone();
        let dropout = recycling.dropout.map_or_else(Dropout::default, |seed| Dropout::seeded(seed, index));
        let (confidence, next) = pass(model, &features, recycled, &dropout, &mut |part| watch(index, part))?;
        let moved = change(&before, &next.positions, &features.mask);
        let pass = Pass { index, change: (index > 0).then_some(moved), confidence, recycled: next };
        each(&pass)?;
        if index == recycling.n_recycle || pass.change.is_some_and(|moved| moved < recycling.tolerance) {
            return Ok(pass);
        }
        recycled = pass.recycled;
        index += 1;
    }
}

fn first_input(model: &AlphaFold2, recycling: &Recycling, features: &Af2Features) -> Result<Recycled> {
    let (network, n) = (model.network(), features.n_res());
    let guess = recycling.initial_guess.clone();
    Recycled::first(n, &network.config, guess, &network.device)
}

/// One pass.
fn pass(
    model: &AlphaFold2,
    features: &Af2Features,
    recycled: Recycled,
    dropout: &Dropout,
    watch: &mut dyn FnMut(Part),
) -> Result<(Af2Confidence, Recycled)> {
    let heads = &model.network().heads;
    let trunk = model.trunk(features, recycled, dropout, watch)?;
    ops::release_scratch();
    let folded = heads.fold(&trunk, features)?;
    let confidence = confidence(&folded.plddt, heads.pae(&trunk.pair)?.as_ref(), features)?;
    watch(Part::Heads);
    Ok((confidence, Recycled::new(trunk, folded.positions)?))
}

fn confidence(plddt: &Tensor, pae: Option<&Tensor>, features: &Af2Features) -> Result<Af2Confidence> {
    let pae = pae.map(host).transpose()?;
    let pae = pae.as_ref().map(|pae| pae.values());
    Ok(Af2Confidence::new(host(plddt)?.values(), pae, &features.asym_id, &features.mask))
}
