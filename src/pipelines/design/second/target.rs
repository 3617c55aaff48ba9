//! A task's target as the networks of the second filter read it: protein chains with their whole sequences, of which the crop is kept, and
//! alignments (`pxdesign/data/infer_data_pipeline.py`, `pxdbench/tools/ptx/ptx_utils.py`). Ligands, nucleic acids and residues without a
//! letter are left out, as in the first filter; of a modified residue the letter stands for it.
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::chem::restype::{CODES, GLY, LETTERS};
use crate::features::af2::design::KnownChain as DesignChain;
use crate::features::protenix::{ChainAlignments, ProteinChain};
use crate::features::pxdesign::DesignStructure;
use crate::geometry::Vec3;
use crate::models::af3::cost::Sizes;
use crate::pipelines::design::complex::{cas, file_id, known};
use crate::pipelines::protenix::filter::{KnownChain, Predicted, Settings};
use crate::query::pxdesign::{TargetChain, Task};
use crate::score::design::rmsd::{ChainCas, anchored, superposed};

/// The protein chains of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// In the order of the task; at least one.
    pub chains: Vec<Part>,
    /// Id of the binder in files.
    pub binder_id: String,
}

/// A protein chain of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its id in files, such as A0.
    pub id: String,
    /// Its sequence and alignments, the residues of the crop, whether they were seen or not.
    pub chain: ProteinChain,
    /// The residues of the crop that were seen, where a network takes their positions.
    pub seen: KnownChain,
    /// CA atoms that were seen, by the numbers of their residues.
    cas: BTreeMap<i32, (char, Vec3)>,
}

impl Target {
    /// Of a task; `None`: no chain of it is a protein.
    pub fn new(task: &Task, structure: &DesignStructure) -> Option<Self> {
        let ids: Vec<String> = structure.chains.iter().map(file_id).collect();
        let binder = structure.binder();
        let proteins: Vec<usize> = known(structure).into_iter().filter(|&chain| chain != binder).collect();
        let chains = proteins.iter().enumerate().map(|(entity, &at)| {
            let chain = &task.chains[at];
            // A chain without alignments has those of another of its sequence, as in the official program's cache.
            let source = |other: &&TargetChain| other.msa.is_some() && other.sequence == chain.sequence;
            let given = Some(chain).filter(source);
            let msa = given.or_else(|| task.chains.iter().find(source)).and_then(|chain| chain.msa.as_ref());
            let alignments =
                msa.map(|msa| ChainAlignments { main: msa.main.clone(), pairing: Some(msa.pairing.clone()) });
            let sequence = chain.sequence.clone();
            let whole = ProteinChain { sequence, kept: chain.within.clone(), entity, alignments };
            Part { id: ids[at].clone(), seen: seen(chain, entity), cas: seen_cas(chain), chain: whole }
        });
        let chains: Vec<Part> = chains.collect();
        (!chains.is_empty()).then(|| Self { chains, binder_id: ids[binder].clone() })
    }

    /// Chains without an alignment, by their ids in files.
    pub fn without_alignments(&self) -> Vec<&str> {
        self.chains.iter().filter(|part| part.chain.alignments.is_none()).map(|part| part.id.as_str()).collect()
    }

    /// Sizes of the complex with a binder of so many residues, each chain an average protein's; rows as the filter takes them.
    pub fn sizes(&self, n_binder: usize) -> Sizes {
        let n_row = self.n_row().min(Settings::FILTER.rows.most);
        let n_res = self.chains.iter().map(|part| part.chain.kept.len()).sum::<usize>() + n_binder;
        Sizes { n_row, ..Sizes::of_residues(n_res) }
    }

    /// Rows of the alignments, at most.
    pub fn n_row(&self) -> usize {
        let rows = |part: &Part| {
            let alignments = part.chain.alignments.iter();
            alignments.map(|a| a.main.n_row() + a.pairing.as_ref().map_or(0, |pairing| pairing.n_row())).sum::<usize>()
        };
        self.chains.iter().map(rows).sum::<usize>().max(1)
    }

    /// Checksum of all that a prediction sees of it.
    pub fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        for part in &self.chains {
            hash.update(format!("{} {:?}", part.chain.sequence, part.chain.kept));
            let alignments = part.chain.alignments.iter();
            for alignment in alignments.flat_map(|a| [Some(&a.main), a.pairing.as_ref()]).flatten() {
                hash.update(format!("{:?}", alignment.names));
                hash.update(&alignment.letters);
                alignment.deletions.iter().for_each(|n| hash.update(n.to_le_bytes()));
            }
            for x in &part.seen.representatives {
                x.unwrap_or_default().iter().for_each(|v| hash.update(v.to_le_bytes()));
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How far the target alone, as it was predicted, is from its structure: over the CA atoms that both have, Å; NaN if they are too few
    /// (`align_and_calculate_target_rmsd`).
    pub fn rmsd_alone(&self, predicted: &Predicted) -> f64 {
        let both: Vec<_> = chains_of(predicted).iter().zip(&self.chains).map(|(a, b)| shared(a, &b.cas)).collect();
        let (ours, theirs): (Vec<ChainCas>, Vec<ChainCas>) = both.into_iter().unzip();
        let places = anchored(&ours, &theirs).map_or((0..ours.len()).collect(), |found| found.chains);
        let all = |chains: Vec<&ChainCas>| -> Vec<Vec3> { chains.iter().flat_map(|chain| chain.cas.clone()).collect() };
        superposed(&all(ours.iter().collect()), &all(places.iter().map(|&i| &theirs[i]).collect()))
    }

    /// How far a predicted complex, whose chains stand in `order` with the binder last, is from the design, laid on a chain of the
    /// target: over the CA atoms that both have, Å; NaN without such a chain (`permute_generated_min_complex_rmsd`).
    ///
    /// The official program compares chains of the same residues alone: where one within the crop has no coordinates, it reports 0.
    pub fn rmsd(&self, predicted: &Predicted, order: &[usize], made: &[DesignChain], binder: &DesignChain) -> f64 {
        let designed = order.iter().map(|&i| &made[i]).chain([binder]);
        let both: Vec<_> = chains_of(predicted).iter().zip(designed).map(|(a, b)| shared(a, &design_cas(b))).collect();
        let (ours, theirs): (Vec<ChainCas>, Vec<ChainCas>) = both.into_iter().unzip();
        anchored(&ours, &theirs).map_or(f64::NAN, |found| found.rmsd)
    }
}

/// Places of the target's chains as the official program predicts them beside a binder: chains whose residues in the design are the same
/// stand together.
pub fn order(made: &[DesignChain]) -> Vec<usize> {
    let first = |i: usize| (0..i).find(|&k| made[k].restype == made[i].restype).unwrap_or(i);
    let mut order: Vec<usize> = (0..made.len()).collect();
    order.sort_by_key(|&i| first(i));
    order
}

/// The residues of a chain that were seen, with CB, CA of glycine.
fn seen(chain: &TargetChain, entity: usize) -> KnownChain {
    let residues = || chain.residues.iter().filter(|residue| residue.kept);
    let representatives = residues().map(|residue| {
        let name = if residue.name == CODES[usize::from(GLY)] { "CA" } else { "CB" };
        residue.atoms.iter().find(|atom| atom.name == name).and_then(|atom| atom.position)
    });
    let kept = residues().filter_map(|residue| usize::try_from(residue.number).ok()).collect();
    KnownChain {
        representatives: representatives.collect(),
        chain: ProteinChain { sequence: chain.sequence.clone(), kept, entity, alignments: None },
    }
}

fn seen_cas(chain: &TargetChain) -> BTreeMap<i32, (char, Vec3)> {
    let residues = chain.residues.iter().filter(|residue| residue.kept);
    let found = residues.filter_map(|residue| {
        let ca = residue.atoms.iter().find(|atom| atom.name == "CA").and_then(|atom| atom.position)?;
        Some((residue.number, (letter(residue.restype), ca.map(f64::from))))
    });
    found.collect()
}

fn letter(restype: u8) -> char {
    LETTERS.get(usize::from(restype)).copied().map_or('X', char::from)
}

/// CA atoms of a designed chain by the numbers of their residues; the binder's letters are those of the design, glycines.
fn design_cas(chain: &DesignChain) -> BTreeMap<i32, (char, Vec3)> {
    let letters = chain.restype.iter().map(|&restype| letter(restype));
    chain.residue_index.iter().copied().zip(letters.zip(cas(&chain.positions))).collect()
}

/// CA atoms of each predicted chain by the numbers of their residues.
fn chains_of(predicted: &Predicted) -> Vec<Vec<(i32, char, Vec3)>> {
    let f = &predicted.features;
    let mut tokens = 0..f.n_token();
    let chains = predicted.cas().into_iter().map(|chain| {
        let residues = chain.into_iter().zip(tokens.by_ref());
        residues.map(|(ca, token)| (f.residue_index[token], letter(f.restype[token]), ca.map(f64::from))).collect()
    });
    chains.collect()
}

/// The residues that both have, of the one and of the other.
fn shared(predicted: &[(i32, char, Vec3)], known: &BTreeMap<i32, (char, Vec3)>) -> (ChainCas, ChainCas) {
    let (mut ours, mut theirs) = (ChainCas::default(), ChainCas::default());
    for (number, letter, ca) in predicted {
        let Some((other, position)) = known.get(number) else { continue };
        ours.sequence.push(*letter);
        ours.cas.push(*ca);
        theirs.sequence.push(*other);
        theirs.cas.push(*position);
    }
    (ours, theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_one_sequence_stand_together() {
        let chain = |restype: &[u8]| DesignChain { restype: restype.to_vec(), ..DesignChain::default() };
        assert_eq!(order(&[chain(&[1, 2]), chain(&[3]), chain(&[1, 2]), chain(&[3]), chain(&[4])]), [0, 2, 1, 3, 4]);
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn what_both_have_is_compared() {
        let predicted: Vec<_> = (1..5).map(|i| (i, 'A', [f64::from(i), 0., 0.])).collect();
        let known = BTreeMap::from([(2, ('A', [0.; 3])), (4, ('G', [1.; 3])), (9, ('A', [2.; 3]))]);
        let (ours, theirs) = shared(&predicted, &known);
        assert_eq!((ours.sequence.as_str(), theirs.sequence.as_str()), ("AA", "AG"));
        assert_eq!((ours.cas, theirs.cas), (vec![[2., 0., 0.], [4., 0., 0.]], vec![[0.; 3], [1.; 3]]));
    }
}
