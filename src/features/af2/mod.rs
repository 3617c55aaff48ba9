//! What AF2's network is given: host arrays, monomer and multimer alike.
pub mod atom37;
mod clusters;
pub mod design;
mod entity;
pub mod guess;
mod introsort;
pub mod monomer;
pub mod multimer;
pub mod philox;
pub mod raw;
pub mod template;
pub mod threefry;
pub mod torsion;

pub use raw::{ChainCopy, Family, Raw, RawError};

use crate::chem::atom_layout::residue;

/// Letters of an MSA row: 20 amino acids, unknown, gap, masked.
pub const N_LETTER: usize = 23;
/// Features of a cluster's residue: letter, deletion, deletions, profile, mean of deletions (AF2 SI Table 1, `msa_feat`).
pub const N_MSA_FEATURE: usize = 2 * N_LETTER + 3;
/// Places of a residue in atom37.
pub const N_ATOM37: usize = 37;

/// One query, with the alignment of one pass.
#[derive(Debug, Clone, Default)]
pub struct Af2Features {
    /// `[n]`, 0-20.
    pub restype: Vec<u8>,
    /// `[n]`, from 0 in each chain (multimer), or as the monomer models count.
    pub residue_index: Vec<i32>,
    /// `[n]`: the chain.
    pub asym_id: Vec<i32>,
    /// `[n]`: equal sequences have the same.
    pub entity_id: Vec<i32>,
    /// `[n]`: which of the chains of an entity.
    pub sym_id: Vec<i32>,
    /// `[n]`, 1 = real.
    pub mask: Vec<f32>,
    /// Cluster centres, the query first.
    pub msa: Msa,
    /// The other rows.
    pub extra_msa: ExtraMsa,
    /// Template slots, empty ones included: multimer counts them.
    pub templates: Vec<Template>,
    /// `[n]`, or empty: monomer templates say nothing of pairs of residues of different groups.
    pub template_group: Vec<i32>,
}

/// Rows with a cluster each.
#[derive(Debug, Clone, Default)]
pub struct Msa {
    /// `[n_seq, n, 49]`.
    pub features: Vec<f32>,
    /// `[n_seq, n]`, 1 = real.
    pub mask: Vec<f32>,
}

/// Rows without a cluster; a pass without any still has one, masked.
#[derive(Debug, Clone, Default)]
pub struct ExtraMsa {
    /// `[n_seq, n]`, 0-22.
    pub rows: Vec<u8>,
    /// `[n_seq, n]`: are there deletions to the left?
    pub has_deletion: Vec<f32>,
    /// `[n_seq, n]`: as [`deletion_value`].
    pub deletion_value: Vec<f32>,
    /// `[n_seq, n]`, 1 = real.
    pub mask: Vec<f32>,
}

/// A structure laid on the query; an empty slot is all zero.
#[derive(Debug, Clone, Default)]
pub struct Template {
    /// `[n]`, 0-21: a gap is 21.
    pub restype: Vec<u8>,
    /// `[n * 37]`, Å.
    pub positions: Vec<[f32; 3]>,
    /// `[n * 37]`, 1 = known.
    pub mask: Vec<f32>,
    /// Is it a template at all? Monomer models leave others out.
    pub is_real: bool,
}

impl Af2Features {
    /// Residues.
    pub fn n_res(&self) -> usize {
        self.restype.len()
    }

    /// Heavy atoms of the residues.
    pub fn n_atom(&self) -> usize {
        self.restype.iter().map(|restype| residue(*restype).atoms.len()).sum()
    }

    /// Cluster centres.
    pub fn n_seq(&self) -> usize {
        self.msa.mask.len() / self.n_res().max(1)
    }

    /// Rows without a cluster.
    pub fn n_extra(&self) -> usize {
        self.extra_msa.mask.len() / self.n_res().max(1)
    }
}

/// Deletions on a scale from 0 to 1: `2/π atan(d / 3)`.
pub fn deletion_value(deletions: f32) -> f32 {
    (deletions / 3.).atan() * std::f32::consts::FRAC_2_PI
}

impl Msa {
    /// Features of cluster centres: `rows` `[n_seq, n]` letters, `deletions` the same shape, `profile` `[n_seq, n, 23]`, `deletion_mean`
    /// `[n_seq, n]`, `mask` `[n_seq, n]`. As `create_msa_feat` of the official package.
    pub fn new(rows: &[u8], deletions: &[f32], profile: &[f32], deletion_mean: &[f32], mask: Vec<f32>) -> Self {
        let mut features = Vec::with_capacity(rows.len() * N_MSA_FEATURE);
        for (i, (&letter, &count)) in rows.iter().zip(deletions).enumerate() {
            let start = features.len();
            features.resize(start + N_LETTER, 0.);
            features[start + usize::from(letter)] = 1.;
            features.push(count.clamp(0., 1.));
            features.push(deletion_value(count));
            features.extend_from_slice(&profile[i * N_LETTER..][..N_LETTER]);
            features.push(deletion_value(deletion_mean[i]));
        }
        Self { features, mask }
    }
}

impl ExtraMsa {
    /// Features of rows `[n_seq, n]` with their deletions.
    pub fn new(rows: Vec<u8>, deletions: &[f32], mask: Vec<f32>) -> Self {
        let has_deletion = deletions.iter().map(|d| d.clamp(0., 1.)).collect();
        let deletion_value = deletions.iter().copied().map(deletion_value).collect();
        Self { rows, has_deletion, deletion_value, mask }
    }

    /// What stands for no row at all: one row of `n_res` residues, masked.
    pub fn masked(n_res: usize) -> Self {
        Self::new(vec![0; n_res], &vec![0.; n_res], vec![0.; n_res])
    }
}

impl Template {
    /// An empty slot of `n_res` residues.
    pub fn empty(n_res: usize) -> Self {
        Self {
            restype: vec![0; n_res],
            positions: vec![[0.; 3]; n_res * N_ATOM37],
            mask: vec![0.; n_res * N_ATOM37],
            is_real: false,
        }
    }

    /// Position and mask of the atom of residue `i` at `place` in atom37.
    pub fn atom(&self, i: usize, place: usize) -> ([f32; 3], f32) {
        let at = i * N_ATOM37 + place;
        (self.positions[at], self.mask[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_features() {
        let profile: Vec<f32> = (0..46).map(|i| i as f32).collect();
        let msa = Msa::new(&[22, 3], &[0., 4.], &profile, &[3., 0.], vec![1.; 2]);
        assert_eq!(msa.features.len(), 2 * N_MSA_FEATURE);
        assert_eq!((msa.features[22], msa.features[23], msa.features[24]), (1., 0., 0.));
        assert_eq!(msa.features[25..28], [0., 1., 2.]);
        assert!((msa.features[48] - 0.5).abs() < 1e-6);
        assert_eq!((msa.features[49 + 3], msa.features[49 + 23]), (1., 1.));
        let extra = ExtraMsa::new(vec![1, 2], &[0., 3.], vec![1.; 2]);
        assert_eq!((extra.has_deletion[1], extra.deletion_value[0]), (1., 0.));
    }
}
