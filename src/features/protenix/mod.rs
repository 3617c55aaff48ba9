//! Features of protein complexes as Protenix v0.5.0 makes them (`protenix/data/json_to_feature.py`, `featurizer.py`): the
//! family's features, with the conventions and the alignments of that program.
mod msa;

use std::sync::Arc;

pub use msa::species;

use super::af3::Af3Features;
use super::noise::NoiseSource;
use crate::chem::ccd::{Atom, Component};
use crate::chem::conformer::conformer;
use crate::chem::restype;
use crate::io::a3m::Alignment;

/// Length of the bond of the last residue's C and OXT, in Å.
const C_OXT: f32 = 1.34;
/// Draws from 0 to 1 have as many steps.
const UNIFORM_STEPS: u32 = 1 << 24;

/// Alignments of a chain, query first, over its whole sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChainAlignments {
    /// Its own homologues (`non_pairing.a3m`).
    pub main: Arc<Alignment>,
    /// Rows to be paired by species (`pairing.a3m`); needed where chains of different sequences have alignments.
    pub pairing: Option<Arc<Alignment>>,
}

/// A protein chain of a complex.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProteinChain {
    /// Letters of the 20 amino acids and X: all of it, whatever is kept.
    pub sequence: String,
    /// Numbers of the residues that are there, from 1, ascending.
    pub kept: Vec<usize>,
    /// Number of its entity, in the order of the input, from 0: chains of one entity are copies of each other.
    pub entity: usize,
    /// `None`: it stands in each row with its own sequence.
    pub alignments: Option<ChainAlignments>,
}

impl ProteinChain {
    /// A whole chain, an entity of its own.
    pub fn new(sequence: String, entity: usize) -> Self {
        Self { kept: (1..=sequence.len()).collect(), sequence, entity, alignments: None }
    }
}

/// What is wrong with the chains of a complex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// A residue that the sequence does not have.
    #[error("chain {chain}: residue {number} of a sequence of {length}")]
    Residue {
        /// Place of the chain in the input, from 1.
        chain: usize,
        /// The number.
        number: usize,
        /// Residues of the sequence.
        length: usize,
    },
    /// An alignment of something else.
    #[error("chain {chain}: {file} has {columns} columns, the sequence {length} residues")]
    Width {
        /// Place of the chain in the input, from 1.
        chain: usize,
        /// Which alignment.
        file: &'static str,
        /// Of the alignment.
        columns: usize,
        /// Of the sequence.
        length: usize,
    },
    /// Chains of different sequences have alignments, and one has none to pair.
    #[error(
        "chain {chain}: no pairing.a3m, which every chain with an alignment needs where their sequences differ; add it or leave \
         the alignments out"
    )]
    Pairing {
        /// Place of the chain in the input, from 1.
        chain: usize,
    },
}

/// All features of a complex: pure, so that the same chains and stream give the same.
///
/// Every array but `ref_pos` is that of Protenix. `noise` moves the reference conformers: for each residue three integers below
/// 2^24, a shift of -1 to 1 Å, then four normal values, a quaternion (w, x, y, z). Chains are numbered from 0 in `asym_id`, entities
/// as the program numbers them, by their decimal numbers from 1 sorted as text.
pub fn featurise(chains: &[ProteinChain], noise: &mut dyn NoiseSource) -> Result<Af3Features, ChainFault> {
    check(chains)?;
    let mut f = Af3Features::default();
    let entities = entity_ids(chains.iter().map(|c| c.entity + 1).max().unwrap_or(0));
    for (index, chain) in chains.iter().enumerate() {
        let sym_id = chains[..index].iter().filter(|c| c.entity == chain.entity).count();
        for &number in &chain.kept {
            let restype = letter(chain.sequence.as_bytes()[number - 1]);
            f.token_index.push(f.token_index.len() as i32);
            f.residue_index.push(number as i32);
            f.asym_id.push(index as i32);
            f.entity_id.push(entities[chain.entity]);
            f.sym_id.push(sym_id as i32);
            f.restype.push(restype);
            add_atoms(&mut f, restype, number == chain.sequence.len(), noise);
        }
    }
    let (n, n_atom) = (f.n_token(), f.n_atom());
    f.is_protein = vec![true; n];
    for flag in [&mut f.is_rna, &mut f.is_dna, &mut f.is_ligand, &mut f.is_atomized, &mut f.cyclic_mask] {
        *flag = vec![false; n];
    }
    (f.token_mask, f.atom_mask, f.ref_mask) = (vec![1.; n], vec![1.; n_atom], vec![true; n_atom]);
    f.msa = msa::alignment_rows(chains, &f)?;
    Ok(f)
}

fn check(chains: &[ProteinChain]) -> Result<(), ChainFault> {
    for (index, chain) in chains.iter().enumerate() {
        let (length, number) = (chain.sequence.len(), index + 1);
        if let Some(&residue) = chain.kept.iter().find(|&&k| k == 0 || k > length) {
            return Err(ChainFault::Residue { chain: number, number: residue, length });
        }
        let given = chain.alignments.iter();
        let files = given.flat_map(|a| [("non_pairing.a3m", Some(&a.main)), ("pairing.a3m", a.pairing.as_ref())]);
        for (file, alignment) in files {
            if let Some(columns) = alignment.map(|a| a.n_column).filter(|&columns| columns != length) {
                return Err(ChainFault::Width { chain: number, file, columns, length });
            }
        }
    }
    Ok(())
}

/// Adds a residue's atoms to the last token; the last of a chain has OXT.
fn add_atoms(f: &mut Af3Features, restype: u8, is_last: bool, noise: &mut dyn NoiseSource) {
    const OXT: Atom = Atom { name: "OXT", element: "O", number: 8, charge: 0 };
    let token = f.n_token() - 1;
    let component = Component::amino_acid(restype);
    let mut reference = conformer(restype, 0).to_vec();
    if is_last {
        reference.push(oxt(&reference));
    }
    f.start_atom_index.push(f.n_atom());
    f.num_atoms_per_token.push(reference.len());
    f.ref_pos.extend(moved(&reference, noise));
    for atom in component.atoms.iter().chain(is_last.then_some(&OXT)) {
        f.atom_to_token.push(token);
        f.ref_element.push(atom.number - 1);
        f.ref_charge.push(f32::from(atom.charge));
        let mut name = [0; 4];
        name.iter_mut().zip(atom.name.bytes()).for_each(|(code, c)| *code = c - 32);
        f.ref_atom_name.push(name);
        f.ref_space_uid.push(token as u32);
    }
}

fn letter(letter: u8) -> u8 {
    restype::amino_acid(letter).unwrap_or(restype::UNKNOWN)
}

/// Where OXT is in a residue of N, CA, C, O and so on: O mirrored at the line of CA and C.
fn oxt(x: &[[f32; 3]]) -> [f32; 3] {
    let minus = |a: [f32; 3], b: [f32; 3]| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let (line, o) = (minus(x[2], x[1]), minus(x[3], x[2]));
    let along = dot(o, line) / dot(line, line);
    let scale = C_OXT / dot(o, o).sqrt();
    std::array::from_fn(|d| x[2][d] + scale * (2. * along * line[d] - o[d]))
}

/// Centred, shifted and turned at random: `protenix/utils/geometry.py`, `random_transform`.
fn moved(x: &[[f32; 3]], noise: &mut dyn NoiseSource) -> Vec<[f32; 3]> {
    let half = UNIFORM_STEPS as f32 / 2.;
    let shift: [f32; 3] = std::array::from_fn(|_| noise.randint(0, UNIFORM_STEPS) as f32 / half - 1.);
    let q = noise.randn(4);
    let norm = q.iter().map(|v| v * v).sum::<f32>().sqrt();
    let [w, i, j, k] = [q[0], q[1], q[2], q[3]].map(|v| v / norm);
    let rotation = [
        [w * w + i * i - j * j - k * k, 2. * (i * j - w * k), 2. * (i * k + w * j)],
        [2. * (i * j + w * k), w * w - i * i + j * j - k * k, 2. * (j * k - w * i)],
        [2. * (i * k - w * j), 2. * (j * k + w * i), w * w - i * i - j * j + k * k],
    ];
    let mean: [f32; 3] = std::array::from_fn(|d| x.iter().map(|p| p[d]).sum::<f32>() / x.len() as f32);
    let place = |p: &[f32; 3]| -> [f32; 3] {
        let p: [f32; 3] = std::array::from_fn(|d| p[d] - mean[d] + shift[d]);
        std::array::from_fn(|d| (0..3).map(|e| rotation[d][e] * p[e]).sum())
    };
    x.iter().map(place).collect()
}

/// Ids of `n` entities, from 0, by their decimal numbers 1..n sorted as text: with ten or more, 10 comes before 2.
fn entity_ids(n: usize) -> Vec<i32> {
    let mut names: Vec<(String, usize)> = (0..n).map(|i| ((i + 1).to_string(), i)).collect();
    names.sort();
    let mut ids = vec![0; n];
    names.iter().enumerate().for_each(|(id, (_, i))| ids[*i] = id as i32);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::noise::TorchGenerator;

    #[test]
    fn entities_are_sorted_as_text() {
        assert_eq!(entity_ids(11), [0, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]);
    }

    #[test]
    fn the_end_of_a_chain_has_two_oxygens_at_120_degrees() {
        let x = conformer(0, 0);
        let end = oxt(x);
        let far = |a: [f32; 3], b: [f32; 3]| (0..3).map(|d| (a[d] - b[d]).powi(2)).sum::<f32>().sqrt();
        assert!((far(end, x[2]) - C_OXT).abs() < 1e-4);
        assert!((2.1..2.4).contains(&far(end, x[3])), "{}", far(end, x[3]));
        let mut noise = TorchGenerator::new(1);
        let f = featurise(&[ProteinChain::new("GAG".into(), 0)], &mut noise).expect("a chain");
        assert_eq!(f.num_atoms_per_token, [4, 5, 5]);
        let cropped = ProteinChain { kept: vec![2], ..ProteinChain::new("GAG".into(), 0) };
        assert_eq!(featurise(&[cropped], &mut noise).expect("a chain").num_atoms_per_token, [5]);
    }

    #[test]
    fn faults_name_the_chain() {
        let mut noise = TorchGenerator::new(1);
        let short = ProteinChain { kept: vec![4], ..ProteinChain::new("GAG".into(), 0) };
        let fault = featurise(&[short], &mut noise).expect_err("a residue too many").to_string();
        assert_eq!(fault, "chain 1: residue 4 of a sequence of 3");
        let aligned = |sequence: &str, entity| ProteinChain {
            alignments: Some(ChainAlignments {
                main: Arc::new(Alignment::of_query("q", sequence.as_bytes())),
                pairing: None,
            }),
            ..ProteinChain::new(sequence.into(), entity)
        };
        let fault = featurise(&[aligned("GAG", 0), aligned("AG", 1)], &mut noise).expect_err("nothing to pair");
        assert_eq!(fault, ChainFault::Pairing { chain: 1 });
    }
}
