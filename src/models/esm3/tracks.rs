//! All tracks of a batch into the trunk: `EncodeInputs` and the defaults of `ESM3.forward` (`esm/models/esm3.py`).
use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::config::TrunkConfig;
use crate::features::esm3::{
    Backbone, Coordinates, FUNCTION_DEPTH, PAD, RESIDUE_DEPTH, Tokens, TrackError, sequence_id, structure_id,
};
use crate::ops::Linear;
use crate::weights::{Param, Weights};

/// Tokens of each track's table.
pub const N_SEQUENCE: usize = 64;
/// Tokens of the structure table: codes and marks.
pub const N_STRUCTURE: usize = 4101;
/// Codes of structure.
pub const N_CODE: usize = 4096;
/// Tokens of secondary structure.
pub const N_SS8: usize = 11;
/// Tokens of surface.
pub const N_SASA: usize = 19;
/// Tokens of each of the function tables.
pub const N_FUNCTION: usize = 260;
/// Tokens of residue annotations.
pub const N_RESIDUE: usize = 1478;
/// Gaussians of a pLDDT between 0 and 1.
const N_RBF: usize = 16;

/// Tokens of all tracks: rows of one length, row after row, or proteins of any lengths one behind the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Rows.
    pub b: usize,
    /// Lengths of the proteins that the one row is made of; each has positions of its own and sees itself alone.
    pub packed: Option<Vec<usize>>,
    /// Amino acids.
    pub sequence: Vec<u16>,
    /// Codes of structure; where the sequence has a mark (an end, a chain break), the trunk reads that mark.
    pub structure: Vec<u16>,
    /// Classes of secondary structure.
    pub secondary_structure: Vec<u16>,
    /// Classes of surface.
    pub sasa: Vec<u16>,
    /// Functions.
    pub function: Vec<[u16; FUNCTION_DEPTH]>,
    /// Residue annotations.
    pub residue_annotations: Vec<[u16; RESIDUE_DEPTH]>,
    /// pLDDT of the whole, 0-1.
    pub average_plddt: Vec<f32>,
    /// pLDDT of each residue, 0-1; 0 without coordinates.
    pub plddt: Vec<f32>,
    /// Coordinates of N, CA and C in Å.
    pub backbone: Vec<Backbone>,
    /// Residues of different chains are hidden from each other in the geometric attention.
    pub chain_id: Vec<i64>,
    /// Residues of different sequences are hidden from each other; without it all of a row see each other.
    pub sequence_id: Option<Vec<i64>>,
}

impl Batch {
    /// `b` rows of `n` tokens of which nothing is known.
    pub fn masked(b: usize, n: usize) -> Self {
        let all = b * n;
        Self {
            b,
            packed: None,
            sequence: vec![sequence_id::MASK; all],
            structure: vec![structure_id::MASK; all],
            secondary_structure: vec![PAD; all],
            sasa: vec![PAD; all],
            function: vec![[PAD; FUNCTION_DEPTH]; all],
            residue_annotations: vec![[PAD; RESIDUE_DEPTH]; all],
            average_plddt: vec![1.; all],
            plddt: vec![0.; all],
            backbone: vec![[[f32::NAN; 3]; 3]; all],
            chain_id: vec![0; all],
            sequence_id: None,
        }
    }

    /// Proteins one behind the other: none sees another, there is no padding, and each gives what it gives alone. (The official
    /// code pads, and lets the padding take part.)
    pub fn of(proteins: &[&Tokens]) -> std::result::Result<Self, TrackError> {
        let lengths = proteins.iter().map(|p| p.n_token()).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut batch = Self::masked(1, lengths.iter().sum());
        let mut start = 0;
        for (protein, len) in proteins.iter().zip(&lengths) {
            batch.put(start..start + len, protein);
            start += len;
        }
        batch.packed = Some(lengths);
        Ok(batch)
    }

    /// Where each protein is among the tokens.
    pub fn sequences(&self) -> Vec<Range<usize>> {
        let rows = || vec![self.n(); self.b];
        let mut start = 0;
        let range = |len: usize| {
            start += len;
            start - len..start
        };
        self.packed.clone().unwrap_or_else(rows).into_iter().map(range).collect()
    }

    /// Puts a protein at a place as long as it is. A track that is not given is masked between its ends.
    fn put(&mut self, at: Range<usize>, protein: &Tokens) {
        fn copy<T: Copy>(to: &mut [T], from: Option<&Vec<T>>) {
            if let Some(from) = from {
                to.copy_from_slice(from);
            }
        }
        let ends = |to: &mut [u16], [first, last]: [u16; 2]| {
            if let [start, .., end] = to {
                (*start, *end) = (first, last);
            }
        };
        ends(&mut self.sequence[at.clone()], [sequence_id::BOS, sequence_id::EOS]);
        ends(&mut self.structure[at.clone()], [structure_id::BOS, structure_id::EOS]);
        copy(&mut self.sequence[at.clone()], protein.sequence.as_ref());
        copy(&mut self.structure[at.clone()], protein.structure.as_ref());
        copy(&mut self.secondary_structure[at.clone()], protein.secondary_structure.as_ref());
        copy(&mut self.sasa[at.clone()], protein.sasa.as_ref());
        copy(&mut self.function[at.clone()], protein.function.as_ref());
        copy(&mut self.residue_annotations[at.clone()], protein.residue_annotations.as_ref());
        if let Some(Coordinates { backbone, has_atom }) = &protein.coordinates {
            copy(&mut self.backbone[at.clone()], Some(backbone));
            self.plddt[at].iter_mut().zip(has_atom).for_each(|(plddt, has)| *plddt = f32::from(u8::from(*has)));
        }
    }

    /// Tokens of a row.
    pub fn n(&self) -> usize {
        self.sequence.len() / self.b.max(1)
    }

    /// The structure token that the trunk reads at a place.
    fn structure_token(&self, at: usize) -> u16 {
        match self.sequence[at] {
            sequence_id::BOS => structure_id::BOS,
            sequence_id::PAD => structure_id::PAD,
            sequence_id::EOS => structure_id::EOS,
            sequence_id::CHAIN_BREAK => structure_id::CHAIN_BREAK,
            _ => self.structure[at],
        }
    }
}

/// Tables of all tracks; on the host, whatever the device: a sum of rows.
#[derive(Debug)]
pub struct TrackEmbedder {
    sequence: Param,
    structure: Param,
    ss8: Param,
    sasa: Param,
    function: Vec<Param>,
    residue: Param,
    average_plddt: Linear,
    plddt: Linear,
    c: usize,
}

impl TrackEmbedder {
    /// Reads the tables below `embed`.
    pub fn load(config: &TrunkConfig, w: &Weights) -> Result<Self> {
        let (w, c) = (&w.on(&Device::Cpu), config.c);
        let table = |name: &str, n: usize, c: usize| w.at(name).param("weight", &[n, c]);
        let function = (0..FUNCTION_DEPTH).map(|k| table(&format!("function.{k}"), N_FUNCTION, c / FUNCTION_DEPTH));
        Ok(Self {
            sequence: table("sequence", N_SEQUENCE, c)?,
            structure: table("structure", N_STRUCTURE, c)?,
            ss8: table("ss8", N_SS8, c)?,
            sasa: table("sasa", N_SASA, c)?,
            function: function.collect::<std::result::Result<_, _>>()?,
            residue: table("residue", N_RESIDUE, c)?,
            average_plddt: Linear::load(N_RBF, c, &w.at("average_plddt"))?,
            plddt: Linear::load(N_RBF, c, &w.at("plddt"))?,
            c,
        })
    }

    /// `[b, n, c]` on the host.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let (all, c) = (batch.sequence.len(), self.c);
        let rbf = |plddt: &[f32]| Tensor::from_vec(gaussians(plddt), (all, N_RBF), &Device::Cpu);
        let average = self.average_plddt.forward(&rbf(&batch.average_plddt)?)?.flatten_all()?.to_vec1::<f32>()?;
        let plddt = self.plddt.forward(&rbf(&batch.plddt)?)?.flatten_all()?.to_vec1::<f32>()?;
        let mut sums = vec![0.; all * c];
        for (i, sum) in sums.chunks_exact_mut(c).enumerate() {
            add(sum, &self.sequence, batch.sequence[i])?;
            for row in [&average[i * c..], &plddt[i * c..]] {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            add(sum, &self.structure, batch.structure_token(i))?;
            add(sum, &self.ss8, batch.secondary_structure[i])?;
            add(sum, &self.sasa, batch.sasa[i])?;
            let parts = sum.chunks_exact_mut(c / FUNCTION_DEPTH);
            for ((part, table), id) in parts.zip(&self.function).zip(batch.function[i]) {
                add(part, table, id)?;
            }
            // Unlike in the other tables, the row of the padding does not count.
            batch.residue_annotations[i]
                .iter()
                .filter(|id| **id != PAD)
                .try_for_each(|id| add(sum, &self.residue, *id))?;
        }
        Tensor::from_vec(sums, (batch.b, batch.n(), c), &Device::Cpu)
    }
}

/// Adds the row of a token.
fn add(sum: &mut [f32], table: &Param, id: u16) -> Result<()> {
    let Some(row) = table.row(usize::from(id))? else {
        candle_core::bail!("token {id} in a table of {:?}", table.shape())
    };
    sum.iter_mut().zip(row.iter()).for_each(|(sum, x)| *sum += x);
    Ok(())
}

/// Of each value, 16 bells between 0 and 1, each 1/16 wide (without the half of a normal distribution's exponent).
fn gaussians(values: &[f32]) -> Vec<f32> {
    let centre = |i: usize| i as f64 / (N_RBF - 1) as f64;
    let bell = |v: f32, i: usize| (-((f64::from(v) - centre(i)) * N_RBF as f64).powi(2)).exp() as f32;
    values.iter().flat_map(|v| (0..N_RBF).map(move |i| bell(*v, i))).collect()
}
