//! The first filter: AlphaFold2 on target and binder from an initial guess, and on the binder alone, with PXDesign's settings and scores
//! (PXDesignBench `tools/af2/main_af2_complex.py`, `main_af2_monomer.py`).
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::complex::{cas, cif_of_chains, file_id, known, known_chains, positions};
use super::place::Place;
use super::sequences::sequence_of;
use super::stage::{Fault, Made, Stage, one_by_one};
use super::{DesignError, causes, read_record, read_text};
use crate::chem::atom_layout::residue;
use crate::features::af2::N_ATOM37;
use crate::features::af2::design::{Design, KnownChain, Shown};
use crate::features::pxdesign::DesignStructure;
use crate::geometry::Vec3;
use crate::models::af2::config::Config;
use crate::models::af2::cost::Cost;
use crate::models::af2::network::Part;
use crate::pipelines::af2::filter::{Evaluated, Filter, FilterError};
use crate::pipelines::output::pretty;
use crate::score::design::rmsd::superposed;
use crate::score::design::{FirstScores, rounded};

/// Name of the stage.
pub const NAME: &str = "af2";
/// Folder of its files, as in PXDesign.
pub const FOLDER: &str = "af2_pred";
/// The predicted complex and the predicted binder.
pub const COMPLEX: &str = "_complex.cif";
/// See [`COMPLEX`].
pub const ALONE: &str = "_monomer.cif";
/// Passes after the first.
pub const N_RECYCLE: usize = 3;
/// What errors are fractions of, in Å.
pub const LARGEST_ERROR: f64 = 31.;

/// The stage of one task and seed.
pub struct Af2Stage<'a> {
    /// Over `model_1_ptm`.
    pub filter: Filter<'a>,
    /// Its sizes.
    pub config: &'a Config,
    /// The complex.
    pub structure: &'a DesignStructure,
    /// Where samples are.
    pub place: &'a Place,
}

impl From<FilterError> for Fault {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::Stopped => Self::Stopped,
            error => Self::Sample(causes(&error)),
        }
    }
}

impl Af2Stage<'_> {
    /// Work of a pass of so many residues: of a block, and of all.
    fn work(&self, n_res: usize) -> Work {
        let cost = Cost::new(self.config, n_res, 1, 1);
        let unit = |flop: f64| (flop / 1e6).ceil() as u64;
        let (extra, block) = (unit(cost.extra_msa.total()), unit(cost.evoformer.total()));
        let heads = unit(cost.structure + cost.pae);
        let pass = self.config.extra_msa.n_block as u64 * extra + self.config.evoformer.n_block as u64 * block + heads;
        Work { extra, block, heads, pass }
    }

    fn sizes(&self) -> (usize, usize) {
        let binder = self.structure.binder();
        let n_binder = self.structure.residues.iter().filter(|residue| residue.chain == binder).count();
        (self.structure.residues.len(), n_binder)
    }

    fn one(&self, sample: usize, tick: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Made, Fault> {
        let text = read_text(&self.place.backbone(sample))?;
        let made = positions(&text, self.structure)?;
        let sequence = sequence_of(self.place, sample)?;
        let (target, binder) = known_chains(self.structure, &made);
        let (n_res, n_binder) = self.sizes();
        let design = Design {
            target: target.clone(),
            binder: binder.clone(),
            sequence: sequence.clone(),
            target_shown: Shown::Backbone,
            binder_shown: Shown::Backbone,
            shows_interface: false,
        };
        let parts = self.work(n_res);
        let mut watch = |_: usize, part: Part| match part {
            Part::Embedders => tick(0),
            Part::ExtraBlock => tick(parts.extra),
            Part::Block => tick(parts.block),
            Part::Heads => tick(parts.heads),
        };
        let complex = self.filter.complex(&design, &mut watch)?;
        let pass = self.work(n_binder).pass;
        let mut watch = |_: usize, part: Part| if part == Part::Heads { tick(pass) } else { tick(0) };
        let alone = self.filter.alone(&sequence, &mut watch)?;
        Ok(self.made(sample, &target, &binder, &sequence, &complex, &alone)?)
    }

    /// The files of a sample.
    fn made(
        &self,
        sample: usize,
        target: &[KnownChain],
        binder: &KnownChain,
        sequence: &[u8],
        complex: &Evaluated,
        alone: &Evaluated,
    ) -> Result<Made, String> {
        let record = scores(target, binder, complex, alone);
        let mut chains: Vec<KnownChain> = target.to_vec();
        chains.push(KnownChain { restype: sequence.to_vec(), ..binder.clone() });
        let mut rest = &complex.positions[..];
        for chain in &mut chains {
            let (of_chain, others) = rest.split_at_checked(chain.positions.len()).ok_or("residues are missing")?;
            rest = others;
            predicted(chain, of_chain);
        }
        let ids: Vec<String> = self.chain_ids();
        let name = self.place.name(sample);
        let complex_text = cif_of_chains(&name, &ids, &chains, &complex.confidence.plddt);
        let mut monomer = chains.pop().unwrap_or_default();
        predicted(&mut monomer, &alone.positions);
        let own = [ids.last().cloned().unwrap_or_default()];
        let alone_text = cif_of_chains(&name, &own, &[monomer], &alone.confidence.plddt);
        let file = |ending: &str| self.place.file(FOLDER, sample, ending);
        Ok(Made {
            files: vec![
                (file(COMPLEX), complex_text.into_bytes()),
                (file(ALONE), alone_text.into_bytes()),
                (file(".json"), pretty(&record)),
            ],
            record,
        })
    }

    /// Ids of the chains that have letters, as in the files of the backbones.
    fn chain_ids(&self) -> Vec<String> {
        known(self.structure).iter().map(|&i| file_id(&self.structure.chains[i])).collect()
    }
}

/// Puts predicted atoms, atom37, in place of those of the design.
fn predicted(chain: &mut KnownChain, positions: &[[f32; 3]]) {
    chain.positions = positions.to_vec();
    for (restype, mask) in chain.restype.iter().zip(chain.mask.chunks_mut(N_ATOM37)) {
        let residue = residue(*restype);
        mask.iter_mut()
            .enumerate()
            .for_each(|(place, mask)| *mask = f32::from(u8::from(residue.atom14(place).is_some())));
    }
}

/// Scores as PXDesignBench's JSON files have them, rounded as there.
fn scores(target: &[KnownChain], binder: &KnownChain, complex: &Evaluated, alone: &Evaluated) -> Value {
    let designed: Vec<Vec3> = target.iter().chain([binder]).flat_map(|chain| cas(&chain.positions)).collect();
    let n_target = designed.len() - binder.restype.len();
    let (together, single) = (cas(&complex.positions), cas(&alone.positions));
    let i_pae = f64::from(complex.scores.i_pae.unwrap_or(f32::NAN));
    let of = |v: f32, digits| rounded(f64::from(v), digits);
    json!({
        "pLDDT": of(complex.scores.plddt, 2),
        "pTM": of(complex.scores.ptm, 2),
        "i_pTM": of(complex.scores.i_ptm, 2),
        "pAE": of(complex.scores.pae, 2),
        "i_pAE": rounded(i_pae, 2),
        "unscaled_i_pAE": rounded(LARGEST_ERROR * i_pae, 2),
        "af2_complex_pred_design_rmsd": rounded(superposed(&together, &designed), 2),
        "pLDDT_MONOMER": of(alone.scores.plddt, 3),
        "pTM_MONOMER": of(alone.scores.ptm, 3),
        "pAE_MONOMER": of(alone.scores.pae, 3),
        "bound_unbound_RMSD": rounded(superposed(&single, &together[n_target..]), 2),
        "af2_binder_pred_design_rmsd": rounded(superposed(&single, &designed[n_target..]), 2),
    })
}

#[derive(Debug, Clone, Copy)]
struct Work {
    extra: u64,
    block: u64,
    heads: u64,
    pass: u64,
}

impl Stage for Af2Stage<'_> {
    fn title(&self) -> &str {
        "AlphaFold2"
    }

    fn name(&self) -> &str {
        NAME
    }

    fn batch(&self) -> usize {
        1
    }

    fn units(&self) -> u64 {
        let (n_res, n_binder) = self.sizes();
        (N_RECYCLE as u64 + 1) * (self.work(n_res).pass + self.work(n_binder).pass)
    }

    fn is_done(&self, sample: usize) -> bool {
        self.place.file(FOLDER, sample, ".json").is_file()
    }

    fn make(
        &mut self,
        samples: &[usize],
        tick: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Vec<Result<Made, String>>>, DesignError> {
        one_by_one(samples, |sample| self.one(sample, tick))
    }
}

/// What this stage has written of a sample.
///
/// # Errors
/// A file that is not there or is not one of this program, in words.
pub fn scores_of(place: &Place, sample: usize) -> Result<FirstScores, String> {
    let record = read_record(&place.file(FOLDER, sample, ".json"))?;
    let of = |key: &str| record[key].as_f64().unwrap_or(f64::NAN);
    Ok(FirstScores {
        plddt: of("pLDDT"),
        ptm: of("pTM"),
        iptm: of("i_pTM"),
        pae: of("pAE"),
        i_pae: of("i_pAE"),
        unscaled_i_pae: of("unscaled_i_pAE"),
        monomer_plddt: of("pLDDT_MONOMER"),
        monomer_ptm: of("pTM_MONOMER"),
        monomer_pae: of("pAE_MONOMER"),
        bound_unbound_rmsd: of("bound_unbound_RMSD"),
        binder_rmsd: of("af2_binder_pred_design_rmsd"),
        complex_rmsd: of("af2_complex_pred_design_rmsd"),
    })
}
