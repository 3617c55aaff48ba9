//! Tokens to structure with pLDDT, pTM and PAE: `StructureTokenDecoder` (`esm/models/vqvae.py`), `Dim6RotStructureHead`
//! (`esm/layers/structure_proj.py`) and `esm/utils/structure/predicted_aligned_error.py`.
use candle_core::{Device, Result, Tensor};

use super::config::StructureDecoderConfig;
use super::frames::frame;
use super::heads::Head;
use super::tracks::N_STRUCTURE;
use super::transformer::{Block, Pass, UpdateScale};
use crate::features::esm3::{Backbone, structure_id};
use crate::geometry::{Rigid, Vec3, dot, plus, times};
use crate::ops::{Linear, Norm, Rope};
use crate::weights::{Param, Weights};

/// Å in the unit of the translation head.
const TRANSLATION: f64 = 10.;
/// Added to the length of a predicted axis before it divides.
const EPS_AXIS: f64 = 1e-5;
/// N, CA and C in the frame of their residue, in Å.
const BACKBONE: [Vec3; 3] = [[0.5256, 1.3612, 0.], [0.; 3], [-1.5251, 0., 0.]];
/// O in the frame of CA, C and the next N, in Å.
const OXYGEN: Vec3 = [0.6240, -1.0613, 0.0103];
/// Numbers of the frame head: translation, two axes, and seven torsions that are not used.
pub(super) const N_FRAME: usize = 23;
/// Classes of pLDDT.
pub(super) const N_PLDDT: usize = 50;
/// Classes of the aligned error.
pub(super) const N_PAE: usize = 64;
/// Width of a class of the aligned error in Å.
const PAE_WIDTH: f64 = 0.5;
/// Channels of a pair, and of the hidden layer of its head.
pub(super) const C_PAIR: usize = 128;
/// Values of pairs held at a time.
const PAIR_BLOCK: usize = 1 << 22;

/// The decoder.
#[derive(Debug)]
pub struct StructureDecoder {
    /// Sizes.
    pub config: StructureDecoderConfig,
    embed: Param,
    /// Blocks.
    pub blocks: Vec<Block>,
    norm: Norm,
    frame: Head,
    pair: PairHead,
    plddt: Head,
    device: Device,
    weights: Weights,
}

#[derive(Debug)]
struct PairHead {
    down: Linear,
    head: Head,
}

/// A decoded structure; one entry for each token, ends included.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// N, CA and C in Å.
    pub backbone: Vec<Backbone>,
    /// 0-1.
    pub plddt: Vec<f32>,
    /// 0-1.
    pub ptm: f32,
    /// `[n, n]` in Å: row i is the frame.
    pub pae: Vec<f32>,
}

impl StructureDecoder {
    /// Gives the memory of the mapped weights back until they are needed again; see [`Weights::rest`].
    pub fn rest(&self) {
        self.weights.rest();
    }

    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &StructureDecoderConfig, w: &Weights) -> Result<Self> {
        let c = config.c;
        let block = |i: usize| Block::load(c, config.n_head, config.c_transition, &w.at("blocks").at(i));
        let decoder = Self {
            embed: w.on(&Device::Cpu).at("embed").param("weight", &[N_STRUCTURE, c])?,
            blocks: (0..config.n_block).map(block).collect::<Result<_>>()?,
            norm: Norm::load(c, &w.at("norm"))?,
            frame: Head::load(c, c, N_FRAME, &w.at("frame"))?,
            pair: PairHead {
                down: Linear::load(c, C_PAIR, &w.at("pair.down"))?,
                head: Head::load(C_PAIR, C_PAIR, N_PAE, &w.at("pair"))?,
            },
            plddt: Head::load(c, c, N_PLDDT, &w.at("plddt"))?,
            device: w.device().clone(),
            weights: w.clone(),
            config: *config,
        };
        w.finish()?;
        Ok(decoder)
    }

    /// Decodes the tokens of a protein, which begin and end with their marks.
    pub fn forward(&self, tokens: &[u16]) -> Result<Decoded> {
        let x = self.trunk(tokens, &mut |_, _| Ok(()))?;
        let is_code: Vec<bool> = tokens.iter().map(|token| *token < structure_id::MASK).collect();
        let (pae, ptm) = self.pair.forward(&x, &is_code)?;
        Ok(Decoded { backbone: self.backbone(&x)?, plddt: self.plddt(&x)?, ptm, pae })
    }

    /// The normed representation `[1, n, c]` of tokens; `watch` sees it after each block, from 0.
    pub fn trunk(&self, tokens: &[u16], watch: &mut dyn FnMut(usize, &Tensor) -> Result<()>) -> Result<Tensor> {
        let (n, c) = (tokens.len(), self.config.c);
        if (tokens.first(), tokens.last()) != (Some(&structure_id::BOS), Some(&structure_id::EOS)) {
            candle_core::bail!("structure tokens that do not begin and end with their marks")
        }
        let mut x = Vec::with_capacity(n * c);
        for token in tokens {
            let row = self.embed.row(usize::from(*token))?;
            let Some(row) = row else { candle_core::bail!("{token} is no structure token") };
            x.extend_from_slice(&row);
        }
        let x = Tensor::from_vec(x, (1, n, c), &Device::Cpu)?.to_device(&self.device)?;
        let rope = Rope::new(n, c / self.config.n_head, &self.device)?;
        let pass = Pass { rope: &rope, bias: None, scale: &UpdateScale::new(1., &x)? };
        for (i, block) in self.blocks.iter().enumerate() {
            block.attend(&x, &pass)?;
            block.transit(&x, &pass)?;
            watch(i, &x)?;
        }
        self.norm.forward(&x)
    }

    fn backbone(&self, x: &Tensor) -> Result<Vec<Backbone>> {
        let numbers = self.frame.forward(x)?.flatten_all()?.to_vec1::<f32>()?;
        let atoms = |numbers: &[f32]| {
            let vector = |i: usize| [0, 1, 2].map(|x| f64::from(numbers[3 * i + x]));
            let axis = |v: Vec3| times(v, 1. / (dot(v, v).sqrt() + EPS_AXIS));
            let trans = times(vector(0), TRANSLATION);
            let rigid = frame([plus(axis(vector(2)), trans), trans, plus(axis(vector(1)), trans)]);
            BACKBONE.map(|atom| rigid.apply(atom).map(|x| x as f32))
        };
        Ok(numbers.chunks_exact(N_FRAME).map(atoms).collect())
    }

    fn plddt(&self, x: &Tensor) -> Result<Vec<f32>> {
        let logits = self.plddt.forward(x)?.flatten_all()?.to_vec1::<f32>()?;
        let middles: Vec<f64> = (0..N_PLDDT).map(|k| (k as f64 + 0.5) / N_PLDDT as f64).collect();
        Ok(logits.chunks_exact(N_PLDDT).map(|row| expectation(row, [&middles])[0] as f32).collect())
    }
}

impl PairHead {
    /// Aligned errors `[n, n]` in Å of `x` `[1, n, c]`, and pTM over the residues that are codes. Pairs with another token have
    /// all classes alike.
    fn forward(&self, x: &Tensor, is_code: &[bool]) -> Result<(Vec<f32>, f32)> {
        let n = is_code.len();
        let n_code = is_code.iter().filter(|is| **is).count();
        let d0 = 1.24 * (n_code.max(19) as f64 - 15.).cbrt() - 1.8;
        let middles: Vec<f64> = (0..N_PAE).map(|k| PAE_WIDTH * (k as f64 + 0.5)).collect();
        let scores: Vec<f64> = middles.iter().map(|error| 1. / (1. + (error / d0).powi(2))).collect();
        let uniform = middles.iter().sum::<f64>() / N_PAE as f64;
        let (mut pae, mut ptm) = (Vec::with_capacity(n * n), 0f64);
        let down = self.down.forward(x)?.squeeze(0)?;
        let rows = (PAIR_BLOCK / (n * C_PAIR).max(1)).clamp(1, n.max(1));
        for start in (0..n).step_by(rows) {
            let logits = self.logits(&down, start, rows.min(n - start))?;
            for (i, row) in logits.chunks_exact(n * N_PAE).enumerate() {
                let mut sum = 0.;
                for (j, logits) in row.chunks_exact(N_PAE).enumerate() {
                    if !(is_code[start + i] && is_code[j]) {
                        pae.push(uniform as f32);
                        continue;
                    }
                    let [error, tm] = expectation(logits, [&middles, &scores]);
                    pae.push(error as f32);
                    sum += tm;
                }
                ptm = ptm.max(sum / (1e-10 + n_code as f64));
            }
        }
        Ok((pae, ptm as f32))
    }

    /// Logits of the pairs of rows `start..start + rows`, `[rows, n, 64]`.
    fn logits(&self, down: &Tensor, start: usize, rows: usize) -> Result<Vec<f32>> {
        let half = C_PAIR / 2;
        let q = down.narrow(1, 0, half)?.unsqueeze(0)?.contiguous()?; // [1, n, 64]: of the column
        let k = down.narrow(1, half, half)?.narrow(0, start, rows)?.unsqueeze(1)?.contiguous()?; // of the row
        let pairs = Tensor::cat(&[q.broadcast_mul(&k)?, q.broadcast_sub(&k)?], 2)?;
        self.head.forward(&pairs)?.flatten_all()?.to_vec1::<f32>()
    }
}

/// Expected values of quantities that each class has, from the classes' logits.
fn expectation<const N: usize>(logits: &[f32], of: [&[f64]; N]) -> [f64; N] {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let mut sums = [0.; N];
    let mut total = 0.;
    for (k, logit) in logits.iter().enumerate() {
        let p = f64::from(logit - largest).exp();
        total += p;
        sums.iter_mut().zip(of).for_each(|(sum, value)| *sum += p * value[k]);
    }
    sums.map(|sum| sum / total)
}

/// O of each residue of a chain but the last, from its CA and C and the next N: `ProteinChain.infer_oxygen`.
pub fn oxygens(chain: &[Backbone]) -> Vec<[f32; 3]> {
    let precise = |x: [f32; 3]| x.map(f64::from);
    let place = |pair: &[Backbone]| {
        let rigid: Rigid = frame([precise(pair[1][0]), precise(pair[0][2]), precise(pair[0][1])]);
        rigid.apply(OXYGEN).map(|x| x as f32)
    };
    chain.windows(2).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_values() {
        assert_eq!(expectation(&[0., 0., f32::MIN], [&[0., 1., 9.], &[1., 2., 9.]]), [0.5, 1.5]);
    }
}
