//! Two short peptides for which ColabFold publishes what the real weights give (its tests, `tests/test_colabfold.py`): a check for those
//! who have the weights.
use std::time::{Duration, Instant};

use super::parameters::ParameterFile;
use super::passes::{Pass, Recycling, run};
use crate::device::DeviceChoice;
use crate::features::af2::monomer::Sampling;
use crate::features::af2::{Family, Raw};
use crate::models::af2::AlphaFold2;
use crate::pipelines::predict::PredictError;
use crate::query::{Chain, Query};

/// A peptide with its published scores: `model_1_ptm` without templates, a single sequence, seed 0, 3 recycles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// Its entry in the PDB.
    pub name: &'static str,
    /// Its letters.
    pub sequence: &'static str,
    /// Mean, 0-100.
    pub plddt: f32,
    /// 0-1.
    pub ptm: f32,
}

/// The peptides.
pub const PEPTIDES: [Published; 2] = [
    Published { name: "5AWL_1", sequence: "YYDPETGTWY", plddt: 94.2, ptm: 0.0567 },
    Published { name: "6A5J", sequence: "IKKILSKIKKLLK", plddt: 90.8, ptm: 0.0455 },
];

/// The parameter set they were made with.
pub const RELEASE: &str = "model_1_ptm";
const SEED: u32 = 0;
const N_RECYCLE: usize = 3;

/// What this machine makes of a peptide.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What it should be.
    pub published: Published,
    /// Mean, 0-100.
    pub plddt: f32,
    /// 0-1.
    pub ptm: f32,
    /// Of all passes, without loading.
    pub elapsed: Duration,
}

impl Check {
    /// Most that pLDDT may be away: ColabFold computes the trunk in bfloat16, this program in float32.
    pub const PLDDT_LIMIT: f32 = 1.;
    /// The same for pTM.
    pub const PTM_LIMIT: f32 = 0.003;

    /// Are the published scores met?
    pub fn passed(&self) -> bool {
        let (plddt, ptm) = (self.plddt - self.published.plddt, self.ptm - self.published.ptm);
        plddt.abs() <= Self::PLDDT_LIMIT && ptm.abs() <= Self::PTM_LIMIT
    }
}

/// Predicts the peptides.
///
/// # Errors
/// If the file is not that of `model_1_ptm`, cannot be loaded, or the network fails.
pub fn check(file: &ParameterFile, device: DeviceChoice) -> Result<Vec<Check>, PredictError> {
    if file.release != RELEASE {
        let (path, release) = (file.path.display(), &file.release);
        return Err(PredictError::Usage(format!("{path}: is {release}; the published scores are of {RELEASE}")));
    }
    let model = file.load(&device.open()?)?;
    PEPTIDES.iter().map(|published| one(&model, *published)).collect()
}

fn one(model: &AlphaFold2, published: Published) -> Result<Check, PredictError> {
    let started = Instant::now();
    let chain = Chain::new(vec!["A".to_owned()], published.sequence.to_owned());
    let query = Query::new(published.name.to_owned(), vec![chain]);
    let raw = Raw::new(&query, Family::Monomer).map_err(|e| PredictError::Query(query.name.clone(), e.to_string()))?;
    let sampling = Sampling { max_msa: 1, max_extra_msa: 1, seed: SEED, n_pass: N_RECYCLE + 1 };
    let recycling = Recycling { n_recycle: N_RECYCLE, ..Recycling::default() };
    let mut features = |pass| raw.pass(&sampling, pass);
    let last: Pass = run::<PredictError>(model, &recycling, &mut features, &mut |_, _| (), &mut |_| Ok(()))?;
    let confidence = last.confidence;
    let ptm = confidence.errors.map_or(f32::NAN, |errors| errors.ptm);
    Ok(Check { published, plddt: confidence.mean_plddt, ptm, elapsed: started.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_near_the_published_ones_pass() {
        let published = PEPTIDES[0];
        let check = |plddt, ptm| Check { published, plddt, ptm, elapsed: Duration::ZERO }.passed();
        assert!(check(94.2, 0.0567) && check(93.5, 0.0545));
        assert!(!check(92.9, 0.0567) && !check(94.2, 0.07) && !check(f32::NAN, 0.0567) && !check(94.2, f32::NAN));
    }
}
