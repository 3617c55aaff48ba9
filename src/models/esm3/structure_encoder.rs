//! Structure to tokens: `StructureTokenEncoder` (`esm/models/vqvae.py`). Each residue sees its 16 nearest; nothing but geometry
//! and how far apart residues are numbered goes in.
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::config::StructureEncoderConfig;
use super::frames::Frames;
use super::transformer::{GeometricLayer, Groups, Kept};
use crate::features::esm3::Backbone;
use crate::ops::{Linear, SwiGluTransition, add_in_place};
use crate::weights::{Param, Weights};

/// Residues that a residue sees, itself included.
pub(super) const N_NEIGHBOUR: usize = 16;
/// Offsets in numbering are clipped to this.
const MAX_OFFSET: i64 = 32;
/// The distance of a pair of which one has no frame, and what each step between them along the chain adds.
const FAR: (f32, f32) = (1e6, 100.);
/// Residues whose neighbourhoods are encoded at a time.
const CHUNK: usize = 64;

/// The encoder.
#[derive(Debug)]
pub struct StructureEncoder {
    /// Sizes.
    pub config: StructureEncoderConfig,
    relative_position: Param, // [66, c]
    blocks: Vec<(GeometricLayer, SwiGluTransition)>,
    pre_vq: Linear,
    codebook: Param, // [n_code, c_code]
    device: Device,
}

/// A structure's codes and what they are of.
#[derive(Debug)]
pub struct Encoded {
    /// Of each residue; residues without a frame all have the same.
    pub tokens: Vec<u16>,
    /// Of each residue before the nearest code is taken, `[n, c_code]` on the host.
    pub codes: Tensor,
}

impl StructureEncoder {
    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &StructureEncoderConfig, w: &Weights) -> Result<Self> {
        let (c, host) = (config.c, w.on(&Device::Cpu));
        let block = |i: usize| {
            let w = w.at("blocks").at(i);
            let geometric = GeometricLayer::load(c, config.n_vector_head, &w.at("geometric"))?;
            Ok((geometric, SwiGluTransition::load(c, config.c_transition, &w.at("transition"))?))
        };
        let rows = 2 * MAX_OFFSET as usize + 2;
        let encoder = Self {
            relative_position: host.at("relative_position").param("weight", &[rows, c])?,
            blocks: (0..config.n_block).map(block).collect::<Result<_>>()?,
            pre_vq: Linear::load(c, config.c_code, &w.at("pre_vq"))?,
            codebook: host.param("codebook", &[config.n_code, config.c_code])?,
            device: w.device().clone(),
            config: *config,
        };
        w.finish()?;
        Ok(encoder)
    }

    /// Codes of the residues of a structure in its own frame (see [`super::frames::normalised`]); `residue_index` are their numbers.
    pub fn forward(&self, residues: &[Backbone], residue_index: &[i64]) -> Result<Encoded> {
        let frames = Frames::new(residues);
        let neighbours = neighbours(residues, &frames.has_frame);
        let all: Vec<usize> = (0..residues.len()).collect();
        let mut codes = Vec::with_capacity(residues.len());
        for chunk in all.chunks(CHUNK) {
            codes.push(self.codes(chunk, &neighbours, &frames, residue_index)?);
        }
        let codes = Tensor::cat(&codes, 0)?.to_device(&Device::Cpu)?;
        Ok(Encoded { tokens: self.nearest(&codes)?, codes })
    }

    /// `[residues of the chunk, c_code]`.
    fn codes(
        &self,
        chunk: &[usize],
        neighbours: &[Vec<usize>],
        frames: &Frames,
        residue_index: &[i64],
    ) -> Result<Tensor> {
        let (b, k, c) = (chunk.len(), neighbours[chunk[0]].len(), self.config.c);
        let table = self.relative_position.as_slice()?;
        let mut x = Vec::with_capacity(b * k * c);
        let mut local = Frames { rotations: Vec::new(), translations: Vec::new(), has_frame: Vec::new() };
        for &i in chunk {
            let centre = frames.translations[i];
            for &j in &neighbours[i] {
                let offset = (residue_index[j] - residue_index[i]).clamp(-MAX_OFFSET, MAX_OFFSET);
                let row = (offset + MAX_OFFSET + 1) as usize; // row 0 is not used
                x.extend_from_slice(&table[row * c..][..c]);
                local.rotations.push(frames.rotations[j]);
                // Only differences count, and small numbers keep them exact.
                local.translations.push([0, 1, 2].map(|x| frames.translations[j][x] - centre[x]));
                local.has_frame.push(frames.has_frame[j]);
            }
        }
        let mut x = Tensor::from_vec(x, (b, k, c), &Device::Cpu)?.to_device(&self.device)?;
        let zeros = vec![0; b * k];
        let groups = Groups { packed: None, sequence_id: &zeros, chain_id: &zeros };
        for (i, (geometric, transition)) in self.blocks.iter().enumerate() {
            add_in_place(&x, &geometric.forward(&x, &local, groups, Kept::All)?)?;
            if i + 1 == self.blocks.len() {
                x = x.narrow(1, 0, 1)?.force_contiguous()?; // the residue itself: its neighbours have been read
            }
            transition.add_to(&x, None)?;
        }
        let there: Vec<f32> = chunk.iter().map(|&i| f32::from(u8::from(frames.has_frame[i]))).collect();
        let there = Tensor::from_vec(there, (b, 1), &Device::Cpu)?.to_device(&self.device)?;
        self.pre_vq.forward(&x.reshape((b, c))?.broadcast_mul(&there)?)
    }

    /// Number of the code nearest to each of `codes` `[n, c_code]`.
    fn nearest(&self, codes: &Tensor) -> Result<Vec<u16>> {
        let (book, c) = (self.codebook.as_slice()?, self.config.c_code);
        let squares: Vec<f64> = book.chunks_exact(c).map(|code| product(code, code)).collect();
        let codes = codes.flatten_all()?.to_vec1::<f32>()?;
        let nearest = |z: &[f32]| {
            let far = |i: usize| squares[i] - 2. * product(z, &book[i * c..][..c]);
            (0..squares.len()).map(|i| (i, far(i))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i as u16)
        };
        Ok(codes.par_chunks_exact(c).map(nearest).collect())
    }
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The nearest residues of each by CA, itself first; pairs of which one has no frame come last, by their distance along the chain.
pub fn neighbours(residues: &[Backbone], has_frame: &[bool]) -> Vec<Vec<usize>> {
    let n = residues.len();
    let of = |i: usize| {
        let distance = |j: usize| {
            if !(has_frame[i] && has_frame[j]) {
                return FAR.0 + FAR.1 * i.abs_diff(j) as f32;
            }
            let [a, b] = [residues[i][1], residues[j][1]];
            (0..3).map(|x| (a[x] - b[x]).powi(2)).sum::<f32>().sqrt()
        };
        let distances: Vec<f32> = (0..n).map(distance).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
        order.truncate(N_NEIGHBOUR);
        order
    };
    (0..n).into_par_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residues_without_a_frame_come_last() {
        let at = |x: f32| [[x, 0., 0.]; 3];
        let residues: Vec<Backbone> = [0., 9., 1., 2., 30.].map(at).to_vec();
        let found = neighbours(&residues, &[true, true, false, true, true]);
        assert_eq!(found[0], [0, 3, 1, 4, 2]);
        assert_eq!(found[2][0], 2);
    }
}
