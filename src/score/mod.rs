//! Logits and positions to confidences, by OpenFold3 0.5.0's formulas (AF3 SI 4.3.2, 5.7, 5.9): `core/metrics/confidence.py`,
//! `sample_ranking.py`, `rasa.py`.
pub mod af2;
pub mod af2_design;
mod bins;
mod clash;
pub mod design;
mod disorder;
mod frame;
pub mod interface;
mod sasa;
mod tm;

use rayon::prelude::*;

use crate::features::af3::Af3Features;
use bins::Bins;
use tm::{TmScores, TmSums, TmWeights};

pub use disorder::disorder;
pub use sasa::{atom_radius, solvent_accessible_area};

/// Largest PAE and PDE, in Å.
const MAX_ERROR: f32 = 32.0;
/// Edges of the first and last distance bin of the distogram, in Å.
const DISTOGRAM_RANGE: (f32, f32) = (2.0, 22.0);
/// Tokens nearer than this are in contact, in Å.
const CONTACT: f32 = 8.0;

/// What the pair logits of one structure say, gathered row by row: the logits themselves would take more memory than the pair
/// representation they are made from.
#[derive(Debug, Default)]
pub struct PairErrors {
    /// `[rows, n_token]` in Å.
    pae: Vec<f32>,
    /// `[rows, n_token]` in Å.
    pde: Vec<f32>,
    /// `[rows]`.
    tm: Vec<TmSums>,
}

/// Confidence in one structure. Chains are in the order of `asym_ids`.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    /// `[n_atom]`, 0-100.
    pub plddt: Vec<f32>,
    /// `[n_token, n_token]` in Å: error of token j when aligned on token i.
    pub pae: Vec<f32>,
    /// `[n_token, n_token]` in Å: error of the distance.
    pub pde: Vec<f32>,
    /// PDE in Å averaged over the contacts that the trunk predicts.
    pub gpde: f32,
    /// 0-1.
    pub ptm: f32,
    /// 0-1; 0 for a single chain.
    pub iptm: f32,
    /// Fraction of the residues that are disordered: 0 without protein, NaN if it cannot be computed.
    pub disorder: f32,
    /// Do two polymer chains overlap?
    pub has_clash: bool,
    /// 0.8 ipTM + 0.2 pTM + 0.5 disorder - 100 clash.
    pub ranking_score: f32,
    /// The chains, ascending; `n` of them below.
    pub asym_ids: Vec<i32>,
    /// `[n]`.
    pub chain_ptm: Vec<f32>,
    /// `[n]` mean of the ipTM with each other chain, each weighted by the chains that have a frame; 0 for a single chain.
    pub chain_iptm: Vec<f32>,
    /// `[n, n]` symmetric; the diagonal is 0.
    pub chain_pair_iptm: Vec<f32>,
    /// `[n, n]`: mean of both chains' `chain_iptm`, or that of the ligand; the diagonal is 0.
    pub bespoke_iptm: Vec<f32>,
    /// `[n, n]` in Å: least PAE of a token of the second chain when aligned on a token of the first.
    pub chain_pair_pae_min: Vec<f32>,
}

impl Confidence {
    /// Mean over all atoms, 0-100.
    pub fn mean_plddt(&self) -> f32 {
        (self.plddt.iter().map(|&x| f64::from(x)).sum::<f64>() / self.plddt.len() as f64) as f32
    }
}

/// Scores the structures of one query.
#[derive(Debug)]
pub struct Scorer<'a> {
    features: &'a Af3Features,
    chains: Chains,
    /// `[n_token, n_token]`.
    contact_probs: Vec<f32>,
}

/// The chains of a complex.
#[derive(Debug)]
struct Chains {
    /// Ascending.
    asym_ids: Vec<i32>,
    /// `[n_token]` index into `asym_ids`.
    of_token: Vec<usize>,
    /// `[n_chain]` real tokens.
    n_token: Vec<usize>,
}

impl Chains {
    fn new(features: &Af3Features) -> Self {
        let mut asym_ids = features.asym_id.clone();
        asym_ids.sort_unstable();
        asym_ids.dedup();
        let index = |id: &i32| asym_ids.binary_search(id).expect("an id of the list");
        let of_token: Vec<usize> = features.asym_id.iter().map(index).collect();
        let mut n_token = vec![0; asym_ids.len()];
        for (&chain, &mask) in of_token.iter().zip(&features.token_mask) {
            n_token[chain] += usize::from(mask > 0.0);
        }
        Self { asym_ids, of_token, n_token }
    }

    fn len(&self) -> usize {
        self.asym_ids.len()
    }
}

impl<'a> Scorer<'a> {
    /// For structures of `features`; `contact_probs` `[n_token, n_token]` are the trunk's, of [`contact_probs`].
    pub fn new(features: &'a Af3Features, contact_probs: Vec<f32>) -> Self {
        Self { features, chains: Chains::new(features), contact_probs }
    }

    /// The features it was made for.
    pub fn features(&self) -> &'a Af3Features {
        self.features
    }

    /// `[n_token, n_token]` probability that two tokens are nearer than 8 Å, from the trunk.
    pub fn contact_probs(&self) -> &[f32] {
        &self.contact_probs
    }

    /// Adds the next `rows` to `errors`: logits `pae` `[rows, n_token, n_bin]`, row = token aligned on, and `pde` of the same
    /// form.
    pub fn add_rows(&self, errors: &mut PairErrors, rows: usize, pae: &[f32], pde: &[f32]) {
        let (chains, mask, n) = (&self.chains, &self.features.token_mask, self.features.n_token());
        let first = errors.tm.len();
        let bins = |logits: &[f32]| Bins::new(0.0, MAX_ERROR, logits.len() / (rows * n));
        errors.pde.extend(bins(pde).expect(pde));
        let bins = bins(pae);
        let weights = TmWeights::new(&bins, &chains.n_token);
        errors.pae.resize((first + rows) * n, 0.0);
        let row = |(i, (pae, logits)): (usize, (&mut [f32], &[f32]))| {
            let mut sums = TmSums::new(chains.len());
            let mut probs = vec![0f32; bins.len()];
            for (j, logits) in logits.chunks_exact(bins.len()).enumerate() {
                bins::softmax(logits, &mut probs);
                pae[j] = bins.mean(&probs);
                if mask[j] > 0.0 {
                    sums.add(&weights, chains.of_token[first + i], chains.of_token[j], &probs);
                }
            }
            sums
        };
        let added = errors.pae[first * n..].par_chunks_mut(n).zip(pae.par_chunks_exact(n * bins.len()));
        errors.tm.extend(added.enumerate().map(row).collect::<Vec<_>>());
    }

    /// Confidence in the structure with the atoms at `positions` `[n_atom]`, in Å, from its logits `plddt` `[n_atom, n_bin]`
    /// and the errors of all rows.
    pub fn score(&self, positions: &[[f32; 3]], plddt: &[f32], errors: PairErrors) -> Confidence {
        self.score_with(disorder(self.features, positions), positions, plddt, errors)
    }

    /// As [`score`](Self::score), without disorder, which is 0: as Protenix, whose ranking has no term of it.
    pub fn score_ordered(&self, positions: &[[f32; 3]], plddt: &[f32], errors: PairErrors) -> Confidence {
        self.score_with(0.0, positions, plddt, errors)
    }

    fn score_with(&self, disorder: f32, positions: &[[f32; 3]], plddt: &[f32], errors: PairErrors) -> Confidence {
        let (features, chains) = (self.features, &self.chains);
        assert_eq!(positions.len(), features.n_atom(), "a position for each atom");
        assert_eq!(errors.tm.len(), features.n_token(), "a row for each token");
        let plddt_bins = Bins::new(0.0, 1.0, plddt.len() / features.n_atom());
        let PairErrors { pae, pde, tm } = errors;
        let framed = frame::has_frame(features, positions);
        let framed: Vec<bool> = framed.iter().zip(&features.token_mask).map(|(&f, &m)| f && m > 0.0).collect();
        let tm = TmScores::new(&tm, chains, &framed, &tm::ligand_chains(features, chains));
        let has_clash = clash::has_clash(features, positions);
        let clash = if has_clash { 100.0 } else { 0.0 };
        Confidence {
            plddt: plddt_bins.expect(plddt).into_iter().map(|x| 100.0 * x).collect(),
            gpde: weighted_mean(&pde, &self.contact_probs),
            ranking_score: 0.8 * tm.iptm + 0.2 * tm.ptm + 0.5 * disorder - clash,
            ptm: tm.ptm,
            iptm: tm.iptm,
            disorder,
            has_clash,
            asym_ids: chains.asym_ids.clone(),
            chain_pair_pae_min: chain_pair_min(&pae, chains, &features.token_mask),
            chain_ptm: tm.chain_ptm,
            chain_iptm: tm.chain_iptm,
            chain_pair_iptm: tm.chain_pair_iptm,
            bespoke_iptm: tm.bespoke_iptm,
            pae,
            pde,
        }
    }
}

/// Probability that two tokens are nearer than 8 Å: that of the distogram's bins that end below. `logits` `[pairs, n_bin]` ->
/// `[pairs]`.
pub fn contact_probs(logits: &[f32], n_bin: usize) -> Vec<f32> {
    const PAIRS: usize = 512;
    let width = (DISTOGRAM_RANGE.1 - DISTOGRAM_RANGE.0) / n_bin as f32;
    let n_contact = (1..=n_bin).take_while(|&bin| DISTOGRAM_RANGE.0 + bin as f32 * width <= CONTACT).count();
    let some = |logits: &[f32]| {
        let mut probs = vec![0f32; n_bin];
        let pair = |logits: &[f32]| {
            bins::softmax(logits, &mut probs);
            probs[..n_contact].iter().sum::<f32>()
        };
        logits.chunks_exact(n_bin).map(pair).collect::<Vec<_>>()
    };
    logits.par_chunks(PAIRS * n_bin).flat_map_iter(some).collect()
}

/// Mean of `x` with weights `w`.
fn weighted_mean(x: &[f32], w: &[f32]) -> f32 {
    let pairs = x.iter().zip(w).map(|(&x, &w)| (f64::from(x), f64::from(w)));
    let (sum, weight) = pairs.fold((0.0, 0.0), |(sum, weight), (x, w)| (sum + x * w, weight + w));
    (sum / (weight + 1e-8)) as f32
}

/// Least value for each pair of chains; NaN for a chain without tokens. `x` `[n_token, n_token]` -> `[n_chain, n_chain]`.
fn chain_pair_min(x: &[f32], chains: &Chains, mask: &[f32]) -> Vec<f32> {
    let (n, n_chain) = (mask.len(), chains.len());
    let mut least = vec![f32::NAN; n_chain * n_chain];
    for (i, row) in x.chunks_exact(n).enumerate().filter(|(i, _)| mask[*i] > 0.0) {
        for (j, &value) in row.iter().enumerate().filter(|(j, _)| mask[*j] > 0.0) {
            let cell = &mut least[chains.of_token[i] * n_chain + chains.of_token[j]];
            *cell = cell.min(value); // `min` takes the number of a number and a NaN
        }
    }
    least
}
