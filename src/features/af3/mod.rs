//! Features of the AlphaFold 3 family: tokens, atoms, alignment rows and templates as host arrays (AF3 SI Table 5).
//!
//! Names, shapes and types in a file are those of OpenFold3 0.5.0's feature dictionary, so that a recorded official
//! dictionary can be given instead of a query, and ours compared with it.
mod atom;
pub mod frame;
mod token;

use std::path::Path;

use super::array::{Array, ArrayFile, ArrayFileError, ArrayWriter};
use super::msa::msa_features;
use super::noise::{NoiseSource, TorchGenerator};
use crate::assembly::Assembly;
use crate::chem::restype::GAP;
use crate::query::Query;

/// Residue types: 20 amino acids, UNK, A G C U N, DA DG DC DT DN, gap.
pub const N_RESTYPE: usize = 32;
/// Atomic numbers 1..118, then unknown.
pub const N_ELEMENT: usize = 119;
/// Characters of an atom name and codes of each.
pub const ATOM_NAME: (usize, usize) = (4, 64);
/// Template slots of the model, filled or not.
pub const N_TEMPLATE: usize = 4;
/// Atoms of a token that the confidence heads have an output for.
pub const MAX_ATOMS_PER_TOKEN: usize = 23;
/// Residue numbers and ids beyond this are refused: their differences must fit an i32.
const MAX_ID: i64 = 100_000_000;
/// Distance bins of a template.
pub const N_TEMPLATE_BIN: usize = 39;

/// All features of one query; `n_token` and `n_atom` are the lengths of the token and atom vectors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Af3Features {
    /// `[n_token]` 0, 1, 2, ...
    pub token_index: Vec<i32>,
    /// `[n_token]` residue number in its chain, from 1.
    pub residue_index: Vec<i32>,
    /// `[n_token]` chain, from 1, by the sorted chain ids.
    pub asym_id: Vec<i32>,
    /// `[n_token]` distinct sequence, from 1, by the sorted sequences.
    pub entity_id: Vec<i32>,
    /// `[n_token]` copy within the entity, from 1.
    pub sym_id: Vec<i32>,
    /// `[n_token]` residue type, 0..31.
    pub restype: Vec<u8>,
    /// `[n_token]` of a protein chain.
    pub is_protein: Vec<bool>,
    /// `[n_token]` of an RNA chain.
    pub is_rna: Vec<bool>,
    /// `[n_token]` of a DNA chain.
    pub is_dna: Vec<bool>,
    /// `[n_token]` of a ligand.
    pub is_ligand: Vec<bool>,
    /// `[n_token]` one atom per token.
    pub is_atomized: Vec<bool>,
    /// `[n_token]` 1 = real.
    pub token_mask: Vec<f32>,
    /// `[n_token]` atoms of the token.
    pub num_atoms_per_token: Vec<usize>,
    /// `[n_token]` index of the token's first atom.
    pub start_atom_index: Vec<usize>,
    /// Bonded pairs of atomized tokens, first below second, sorted.
    pub token_bonds: Vec<(u32, u32)>,
    /// `[n_token]` of a cyclic chain.
    pub cyclic_mask: Vec<bool>,
    /// `[n_atom]` 1 = real.
    pub atom_mask: Vec<f32>,
    /// `[n_atom]` token of the atom.
    pub atom_to_token: Vec<usize>,
    /// `[n_atom]` reference conformer in Å, each residue in a frame of its own.
    pub ref_pos: Vec<[f32; 3]>,
    /// `[n_atom]` the reference conformer has the atom.
    pub ref_mask: Vec<bool>,
    /// `[n_atom]` atomic number - 1; 118 = unknown.
    pub ref_element: Vec<u8>,
    /// `[n_atom]` formal charge.
    pub ref_charge: Vec<f32>,
    /// `[n_atom]` four characters, each its ASCII code - 32 (0..63), padded with blanks.
    pub ref_atom_name: Vec<[u8; 4]>,
    /// `[n_atom]` index of the atom's residue or ligand in the whole complex.
    pub ref_space_uid: Vec<u32>,
    /// Alignment rows.
    pub msa: Msa,
    /// `None` = all template slots empty.
    pub templates: Option<Templates>,
}

/// Alignment rows of the whole complex: the query, paired rows, main rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Msa {
    /// Number of rows.
    pub n_seq: usize,
    /// `[n_seq, n_token]` residue type, 0..31.
    pub rows: Vec<u8>,
    /// `[n_seq, n_token]` 1 = residues are deleted to the left.
    pub has_deletion: Vec<f32>,
    /// `[n_seq, n_token]` 2/π arctan(deletions / 3).
    pub deletion_value: Vec<f32>,
    /// `[n_seq, n_token]` 1 = real.
    pub mask: Vec<f32>,
    /// `[n_token, 32]` frequencies in the main alignment.
    pub profile: Vec<f32>,
    /// `[n_token]` mean deletions in the main alignment.
    pub deletion_mean: Vec<f32>,
    /// Rows that are the query or paired: they come first.
    pub n_paired: usize,
}

/// Structures of related chains.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Templates {
    /// Number of templates.
    pub n: usize,
    /// `[n, n_token]` residue type, 31 where nothing is aligned.
    pub restype: Vec<u8>,
    /// `[n, n_token]` 1 = the representative atom is there.
    pub pseudo_beta_mask: Vec<f32>,
    /// `[n, n_token]` 1 = N, CA and C are there.
    pub backbone_frame_mask: Vec<f32>,
    /// `[n, n_token, n_token, 39]` one-hot distance bins, zero beyond them.
    pub distogram: Vec<f32>,
    /// `[n, n_token, n_token, 3]` direction to the other token's CA in the token's frame.
    pub unit_vector: Vec<f32>,
}

/// The stream for the features of one seed: a generator seeded by the first integer of the seed's own generator, so that
/// reference conformers and the model's noise, which starts from the seed itself, have nothing in common.
pub fn feature_noise(seed: u32) -> TorchGenerator {
    TorchGenerator::new(TorchGenerator::new(seed.into()).next_u64())
}

/// All features of a query: pure, so that one query and one stream give the same features.
///
/// Every array but `ref_pos` is that of OpenFold3 0.5.0. `noise` chooses and moves the reference conformers; see
/// [`feature_noise`].
pub fn featurise(query: &Query, assembly: &Assembly, noise: &mut dyn NoiseSource) -> Af3Features {
    let mut features = Af3Features { msa: msa_features(query, assembly), ..Af3Features::default() };
    token::token_features(assembly, &mut features);
    atom::atom_features(assembly, noise, &mut features);
    features
}

impl Af3Features {
    /// Number of tokens.
    pub fn n_token(&self) -> usize {
        self.token_index.len()
    }

    /// Number of atoms.
    pub fn n_atom(&self) -> usize {
        self.atom_to_token.len()
    }

    /// Writes the official feature dictionary as safetensors: one-hots expanded, without a batch axis.
    pub fn save(&self, path: &Path) -> Result<(), ArrayFileError> {
        let (t, n, r) = (self.n_token(), self.n_atom(), self.msa.n_seq);
        let ints = |v: &[usize]| v.iter().map(|&x| x as i32).collect::<Vec<_>>();
        let flags = |v: &[bool]| v.iter().map(|&x| i32::from(x)).collect::<Vec<_>>();
        let mut w = ArrayWriter::new();
        w.metadata("format", "OpenFold3 0.5.0 feature dictionary");
        w.metadata("writer", concat!("fold ", env!("CARGO_PKG_VERSION")));
        w.i32("token_index", &[t], &self.token_index);
        w.i32("residue_index", &[t], &self.residue_index);
        w.i32("asym_id", &[t], &self.asym_id);
        w.i32("entity_id", &[t], &self.entity_id);
        w.i32("sym_id", &[t], &self.sym_id);
        w.one_hot("restype", &[t], N_RESTYPE, &self.restype);
        w.i32("is_protein", &[t], flags(&self.is_protein));
        w.i32("is_rna", &[t], flags(&self.is_rna));
        w.i32("is_dna", &[t], flags(&self.is_dna));
        w.i32("is_ligand", &[t], flags(&self.is_ligand));
        w.i32("is_atomized", &[t], flags(&self.is_atomized));
        w.f32("token_mask", &[t], &self.token_mask);
        w.i32("num_atoms_per_token", &[t], ints(&self.num_atoms_per_token));
        w.i32("start_atom_index", &[t], ints(&self.start_atom_index));
        let mut bonds = vec![0i32; t * t];
        for &(i, j) in &self.token_bonds {
            let (i, j) = (i as usize, j as usize);
            (bonds[i * t + j], bonds[j * t + i]) = (1, 1);
        }
        w.i32("token_bonds", &[t, t], bonds);
        w.bool("cyclic_mask", &[t], &self.cyclic_mask);
        w.f32("atom_mask", &[n], &self.atom_mask);
        w.i32("atom_to_token_index", &[n], ints(&self.atom_to_token));
        w.f32("ref_pos", &[n, 3], self.ref_pos.as_flattened());
        w.i32("ref_mask", &[n], flags(&self.ref_mask));
        w.one_hot("ref_element", &[n], N_ELEMENT, &self.ref_element);
        w.f32("ref_charge", &[n], &self.ref_charge);
        w.one_hot("ref_atom_name_chars", &[n, ATOM_NAME.0], ATOM_NAME.1, self.ref_atom_name.as_flattened());
        w.i32("ref_space_uid", &[n], self.ref_space_uid.iter().map(|&x| x as i32).collect::<Vec<_>>());
        w.one_hot("msa", &[r, t], N_RESTYPE, &self.msa.rows);
        w.f32("has_deletion", &[r, t], &self.msa.has_deletion);
        w.f32("deletion_value", &[r, t], &self.msa.deletion_value);
        w.f32("msa_mask", &[r, t], &self.msa.mask);
        w.f32("profile", &[t, N_RESTYPE], &self.msa.profile);
        w.f32("deletion_mean", &[t], &self.msa.deletion_mean);
        w.i32("num_paired_seqs", &[1], vec![self.msa.n_paired as i32]);
        match &self.templates {
            Some(x) => {
                w.one_hot("template_restype", &[x.n, t], N_RESTYPE, &x.restype);
                w.f32("template_pseudo_beta_mask", &[x.n, t], &x.pseudo_beta_mask);
                w.f32("template_backbone_frame_mask", &[x.n, t], &x.backbone_frame_mask);
                w.f32("template_distogram", &[x.n, t, t, N_TEMPLATE_BIN], &x.distogram);
                w.f32("template_unit_vector", &[x.n, t, t, 3], &x.unit_vector);
            }
            None => {
                w.one_hot("template_restype", &[N_TEMPLATE, t], N_RESTYPE, vec![GAP; N_TEMPLATE * t]);
                w.zeros("template_pseudo_beta_mask", &[N_TEMPLATE, t]);
                w.zeros("template_backbone_frame_mask", &[N_TEMPLATE, t]);
                w.zeros("template_distogram", &[N_TEMPLATE, t, t, N_TEMPLATE_BIN]);
                w.zeros("template_unit_vector", &[N_TEMPLATE, t, t, 3]);
            }
        }
        w.write(path)
    }

    /// Reads a feature dictionary, ours or a recorded official one; every array may have a leading batch axis of 1, and
    /// arrays that are not features are passed over.
    ///
    /// Fails with everything that is wrong: missing, of another shape or type, not finite, not one-hot, out of range.
    pub fn load(path: &Path) -> Result<Self, ArrayFileError> {
        let mut f = ArrayFile::open(path)?;
        let features = Reader { file: &mut f, n: [None; 4] }.read();
        if f.is_sound() {
            features.check(&mut f);
        }
        f.finish().map(|()| features)
    }

    /// What the arrays must be to each other, once each alone is as it should be.
    fn check(&self, f: &mut ArrayFile) {
        let (t, n) = (self.n_token(), self.n_atom());
        if t == 0 || n == 0 || self.msa.n_seq == 0 {
            f.fault(format!("empty: {t} tokens, {n} atoms, {} alignment rows", self.msa.n_seq));
        }
        let mut next = 0;
        for (i, (&start, &count)) in self.start_atom_index.iter().zip(&self.num_atoms_per_token).enumerate() {
            if start != next || start + count > n || count == 0 {
                let end = start + count;
                f.fault(format!("start_atom_index, num_atoms_per_token: token {i} has atoms {start}..{end} of {n}"));
                return;
            }
            if count > MAX_ATOMS_PER_TOKEN {
                f.fault(format!("num_atoms_per_token: token {i} has {count} atoms, more than {MAX_ATOMS_PER_TOKEN}"));
                return;
            }
            if let Some(k) = (start..start + count).find(|&k| self.atom_to_token[k] != i) {
                f.fault(format!("atom_to_token_index: atom {k} is of token {}, not {i}", self.atom_to_token[k]));
                return;
            }
            next += count;
        }
        if next != n {
            f.fault(format!("num_atoms_per_token adds up to {next}, there are {n} atoms"));
        }
        let mask = |name: &str, mask: &[f32], f: &mut ArrayFile| {
            if let Some(i) = mask.iter().position(|&m| m != 0. && m != 1.) {
                f.fault(format!("{name} has {} at value {i}, neither 0 nor 1", mask[i]));
            } else if mask.iter().all(|&m| m == 0.) {
                f.fault(format!("{name} is 0 throughout"));
            }
        };
        mask("token_mask", &self.token_mask, f);
        mask("atom_mask", &self.atom_mask, f);
        mask("msa_mask", &self.msa.mask, f);
        if self.msa.n_paired > self.msa.n_seq {
            f.fault(format!("num_paired_seqs is {}, msa has {} rows", self.msa.n_paired, self.msa.n_seq));
        }
    }
}

/// Axes that several arrays share.
#[derive(Clone, Copy)]
enum Axis {
    Token,
    Atom,
    Row,
    Template,
    Fixed(usize),
}
use Axis::{Atom, Fixed, Row, Template, Token};

/// Reads arrays and holds them to one length per axis.
struct Reader<'f> {
    file: &'f mut ArrayFile,
    /// Length of the token, atom, row and template axes and the array that set it.
    n: [Option<(usize, &'static str)>; 4],
}

impl Reader<'_> {
    fn read(mut self) -> Af3Features {
        let t = &[Token];
        let token_index = self.i32("token_index", t);
        let start_atom_index = self.usize("start_atom_index", t);
        let atom_to_token = self.usize("atom_to_token_index", &[Atom]);
        let rows = self.one_hot("msa", &[Row, Token], N_RESTYPE);
        let n_seq = self.n[Row.index()].map_or(0, |(n, _)| n);
        Af3Features {
            residue_index: self.i32("residue_index", t),
            asym_id: self.i32("asym_id", t),
            entity_id: self.i32("entity_id", t),
            sym_id: self.i32("sym_id", t),
            restype: self.one_hot("restype", t, N_RESTYPE),
            is_protein: self.flags("is_protein", t),
            is_rna: self.flags("is_rna", t),
            is_dna: self.flags("is_dna", t),
            is_ligand: self.flags("is_ligand", t),
            is_atomized: self.flags("is_atomized", t),
            token_mask: self.f32("token_mask", t),
            num_atoms_per_token: self.usize("num_atoms_per_token", t),
            token_bonds: self.bonds(),
            cyclic_mask: self.flags("cyclic_mask", t),
            atom_mask: self.f32("atom_mask", &[Atom]),
            ref_pos: self.f32("ref_pos", &[Atom, Fixed(3)]).as_chunks().0.to_vec(),
            ref_mask: self.flags("ref_mask", &[Atom]),
            ref_element: self.one_hot("ref_element", &[Atom], N_ELEMENT),
            ref_charge: self.f32("ref_charge", &[Atom]),
            ref_atom_name: {
                let codes = self.one_hot("ref_atom_name_chars", &[Atom, Fixed(ATOM_NAME.0)], ATOM_NAME.1);
                codes.as_chunks().0.to_vec()
            },
            ref_space_uid: self.whole("ref_space_uid", &[Atom], i32::MAX.into()).iter().map(|&v| v as u32).collect(),
            msa: Msa {
                n_seq,
                has_deletion: self.f32("has_deletion", &[Row, Token]),
                deletion_value: self.f32("deletion_value", &[Row, Token]),
                mask: self.f32("msa_mask", &[Row, Token]),
                profile: self.f32("profile", &[Token, Fixed(N_RESTYPE)]),
                deletion_mean: self.f32("deletion_mean", t),
                n_paired: self.usize("num_paired_seqs", &[Fixed(1)]).first().copied().unwrap_or(0),
                rows,
            },
            templates: self.templates(),
            token_index,
            start_atom_index,
            atom_to_token,
        }
    }

    fn templates(&mut self) -> Option<Templates> {
        let pair = [("template_distogram", N_TEMPLATE_BIN), ("template_unit_vector", 3)];
        let restype = self.one_hot("template_restype", &[Template, Token], N_RESTYPE);
        let pseudo_beta_mask = self.f32("template_pseudo_beta_mask", &[Template, Token]);
        let backbone_frame_mask = self.f32("template_backbone_frame_mask", &[Template, Token]);
        let n = self.n[Template.index()].map_or(0, |(n, _)| n);
        if n == 0 && self.file.is_sound() {
            self.file.fault("template_restype has no template slot; empty ones are gaps");
        }
        let empty = restype.iter().all(|&x| x == GAP)
            && pseudo_beta_mask.iter().chain(&backbone_frame_mask).all(|&x| x == 0.)
            && n == N_TEMPLATE
            && pair.iter().all(|&(name, width)| {
                // Not copied: the two take most of a file, nearly always zero.
                let shape = self.file.zeros(name, 4);
                shape.is_some_and(|shape| self.fits(name, &shape, &[Template, Token, Token, Fixed(width)]))
            });
        if empty || !self.file.is_sound() {
            return None;
        }
        let [distogram, unit_vector] =
            pair.map(|(name, width)| self.f32(name, &[Template, Token, Token, Fixed(width)]));
        Some(Templates { n, restype, pseudo_beta_mask, backbone_frame_mask, distogram, unit_vector })
    }

    fn bonds(&mut self) -> Vec<(u32, u32)> {
        let dense = self.whole("token_bonds", &[Token, Token], 1);
        let n = dense.len().isqrt();
        let mut bonds = Vec::new();
        for i in 0..n {
            for j in i..n {
                match (i == j, dense[i * n + j], dense[j * n + i]) {
                    (false, 1, 1) => bonds.push((i as u32, j as u32)),
                    (_, 0, 0) => {}
                    (true, ..) => self.file.fault(format!("token_bonds binds token {i} to itself")),
                    _ => self.file.fault(format!("token_bonds is not symmetric at [{i}, {j}]")),
                }
            }
        }
        bonds
    }

    fn f32(&mut self, name: &'static str, axes: &[Axis]) -> Vec<f32> {
        let array = self.file.f32(name, axes.len());
        self.take(name, array, axes)
    }

    fn i32(&mut self, name: &'static str, axes: &[Axis]) -> Vec<i32> {
        let array = self.file.whole(name, axes.len(), -MAX_ID..=MAX_ID);
        self.take(name, array, axes).into_iter().map(|v| v as i32).collect()
    }

    fn usize(&mut self, name: &'static str, axes: &[Axis]) -> Vec<usize> {
        self.whole(name, axes, i32::MAX.into()).into_iter().map(|v| v as usize).collect()
    }

    fn flags(&mut self, name: &'static str, axes: &[Axis]) -> Vec<bool> {
        self.whole(name, axes, 1).into_iter().map(|v| v == 1).collect()
    }

    /// Whole numbers 0..=`max`.
    fn whole(&mut self, name: &'static str, axes: &[Axis], max: i64) -> Vec<i64> {
        let array = self.file.whole(name, axes.len(), 0..=max);
        self.take(name, array, axes)
    }

    fn one_hot(&mut self, name: &'static str, axes: &[Axis], width: usize) -> Vec<u8> {
        let array = self.file.one_hot(name, axes.len() + 1, width);
        self.take(name, array, axes)
    }

    fn take<T>(&mut self, name: &'static str, array: Option<Array<T>>, axes: &[Axis]) -> Vec<T> {
        array.filter(|array| self.fits(name, &array.shape, axes)).map_or(Vec::new(), |array| array.data)
    }

    /// Does the shape agree with the arrays read before?
    fn fits(&mut self, name: &'static str, shape: &[usize], axes: &[Axis]) -> bool {
        for (&got, axis) in shape.iter().zip(axes) {
            let (want, by) = match axis {
                Fixed(n) => (*n, None),
                axis => {
                    let (n, by) = *self.n[axis.index()].get_or_insert((got, name));
                    (n, Some(by))
                }
            };
            if got != want {
                let by = by.map_or(String::new(), |by| format!(" as in {by}"));
                self.file.fault(format!("{name} has shape {shape:?}, {got} must be {want}{by}"));
                return false;
            }
        }
        true
    }
}

impl Axis {
    fn index(self) -> usize {
        match self {
            Token | Fixed(_) => 0,
            Atom => 1,
            Row => 2,
            Template => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tokens: an alanine's N, CA and a bonded single atom.
    fn small() -> Af3Features {
        Af3Features {
            token_index: vec![0, 1],
            residue_index: vec![1, 1],
            asym_id: vec![1, 2],
            entity_id: vec![1, 2],
            sym_id: vec![1, 1],
            restype: vec![0, 20],
            is_protein: vec![true, false],
            is_rna: vec![false; 2],
            is_dna: vec![false; 2],
            is_ligand: vec![false, true],
            is_atomized: vec![false, true],
            token_mask: vec![1.; 2],
            num_atoms_per_token: vec![2, 1],
            start_atom_index: vec![0, 2],
            token_bonds: vec![(0, 1)],
            cyclic_mask: vec![false; 2],
            atom_mask: vec![1.; 3],
            atom_to_token: vec![0, 0, 1],
            ref_pos: vec![[0., 1., 2.], [3., 4., 5.], [6., 7., 8.]],
            ref_mask: vec![true; 3],
            ref_element: vec![6, 5, 118],
            ref_charge: vec![0., 1., -1.],
            ref_atom_name: vec![[46, 0, 0, 0], [35, 33, 0, 0], [63, 0, 0, 0]],
            ref_space_uid: vec![0, 0, 1],
            msa: Msa {
                n_seq: 2,
                rows: vec![0, 20, 3, 31],
                has_deletion: vec![0., 0., 1., 0.],
                deletion_value: vec![0., 0., 0.2, 0.],
                mask: vec![1.; 4],
                profile: (0..64).map(|i| i as f32 / 64.).collect(),
                deletion_mean: vec![0.5, 0.],
                n_paired: 1,
            },
            templates: None,
        }
    }

    #[test]
    fn reads_what_it_wrote_with_and_without_templates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        let mut features = small();
        features.save(&path).unwrap();
        assert_eq!(Af3Features::load(&path).unwrap(), features);
        features.templates = Some(Templates {
            n: 4,
            restype: vec![5; 8],
            pseudo_beta_mask: vec![1.; 8],
            backbone_frame_mask: vec![0.; 8],
            distogram: vec![0.; 4 * 4 * 39],
            unit_vector: vec![0.25; 4 * 4 * 3],
        });
        features.save(&path).unwrap();
        assert_eq!(Af3Features::load(&path).unwrap(), features);
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        small().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let _ = Af3Features::load(&path);
        };
        for end in (0..bytes.len()).step_by(97) {
            read(&bytes[..end]);
        }
        for (at, byte) in (0..header).step_by(23).flat_map(|at| [b'0', b'9', b'}', 0xff].map(|byte| (at, byte))) {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            read(&bytes);
        }
        for (at, byte) in (header..bytes.len().min(header + 3000)).step_by(29).flat_map(|at| [1, 0x7f].map(|b| (at, b)))
        {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            read(&bytes);
        }
    }

    #[test]
    fn all_faults_of_a_file_are_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        let mut features = small();
        features.ref_pos[1][2] = f32::NAN;
        features.sym_id.push(3);
        features.ref_charge.pop();
        features.save(&path).unwrap_err(); // shapes that do not hold the values are not written
        features.sym_id.pop();
        features.ref_charge.push(f32::INFINITY);
        features.num_atoms_per_token = vec![1, 1];
        features.save(&path).unwrap();
        let message = Af3Features::load(&path).unwrap_err().to_string();
        assert!(message.contains("ref_pos has NaN at [1, 2]"), "{message}");
        assert!(message.contains("ref_charge has inf at [2]"), "{message}");
        features.ref_pos[1][2] = 0.;
        features.ref_charge[2] = 0.;
        features.save(&path).unwrap();
        let message = Af3Features::load(&path).unwrap_err().to_string();
        assert!(message.contains("token 1 has atoms 2..3"), "{message}");
    }
}
