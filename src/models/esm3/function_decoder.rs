//! Function tokens to keywords and InterPro entries: `FunctionTokenDecoder` (`esm/models/function_decoder.py`).
use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor};

use super::config::FunctionDecoderConfig;
use super::heads::Head;
use crate::features::esm3::function::{Annotation, ranges};
use crate::features::esm3::vocabulary::{N_BIT, Vocabulary};
use crate::features::esm3::{FIRST_LABEL, FUNCTION_DEPTH, NONE, PAD, UNKNOWN};
use crate::ops::{Linear, Norm, Rope, RopeAttention, add_in_place, gelu, norm_linear};
use crate::weights::{Param, Weights};

/// Logit from which an InterPro entry counts: probability 0.1.
const INTERPRO_PROBABILITY: f64 = 0.1;
/// Logit from which a keyword counts: probability 0.5.
const KEYWORD_PROBABILITY: f64 = 0.5;
/// Residues decoded at a time.
const CHUNK: usize = 64;
/// Bits of a residue.
const N_TOKEN: usize = N_BIT * FUNCTION_DEPTH;

/// The decoder.
#[derive(Debug)]
pub struct FunctionDecoder {
    /// Sizes.
    pub config: FunctionDecoderConfig,
    embed: Param, // [128, c]: two rows for each bit
    blocks: Vec<Block>,
    norm: Norm,
    interpro: Head,
    keyword: Head,
    device: Device,
    weights: Weights,
}

#[derive(Debug)]
struct Block {
    attention: RopeAttention,
    transition: GeluTransition,
}

/// `out(gelu(a(norm(x))))`.
#[derive(Debug)]
struct GeluTransition {
    norm: Norm,
    a: Linear,
    out: Linear,
}

/// Logits of residues.
#[derive(Debug)]
pub struct FunctionLogits {
    /// `[m, n_interpro]`; entries in order of their ids.
    pub interpro: Tensor,
    /// `[m, n_keyword]`.
    pub keyword: Tensor,
}

impl FunctionDecoder {
    /// Gives the memory of the mapped weights back until they are needed again; see [`Weights::rest`].
    pub fn rest(&self) {
        self.weights.rest();
    }

    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &FunctionDecoderConfig, w: &Weights) -> Result<Self> {
        let c = config.c;
        let block = |i: usize| {
            let w = w.at("blocks").at(i);
            let (attention, w) = (RopeAttention::load(c, config.n_head, &w.at("attention"))?, w.at("transition"));
            let transition = GeluTransition {
                norm: Norm::load(c, &w.at("norm"))?,
                a: Linear::load(c, 4 * c, &w.at("a"))?,
                out: Linear::load(4 * c, c, &w.at("out"))?,
            };
            Ok(Block { attention, transition })
        };
        let decoder = Self {
            embed: w.on(&Device::Cpu).at("embed").param("weight", &[2 * N_TOKEN, c])?,
            blocks: (0..config.n_block).map(block).collect::<Result<_>>()?,
            norm: Norm::load(c, &w.at("norm"))?,
            interpro: Head::load(c, 4 * c, config.n_interpro, &w.at("heads.interpro"))?,
            keyword: Head::load(c, 4 * c, config.n_keyword, &w.at("heads.keyword"))?,
            device: w.device().clone(),
            weights: w.clone(),
            config: *config,
        };
        w.finish()?;
        Ok(decoder)
    }

    /// Logits of residues, each by itself.
    pub fn forward(&self, residues: &[[u16; FUNCTION_DEPTH]]) -> Result<FunctionLogits> {
        let (m, c) = (residues.len(), self.config.c);
        let mut x = Vec::with_capacity(m * N_TOKEN * c);
        for row in residues.iter().flat_map(bits) {
            x.extend_from_slice(&self.embed.row(row)?.expect("bits have rows"));
        }
        let x = Tensor::from_vec(x, (m, N_TOKEN, c), &Device::Cpu)?.to_device(&self.device)?;
        let rope = Rope::new(N_TOKEN, c / self.config.n_head, &self.device)?;
        for Block { attention, transition: t } in &self.blocks {
            add_in_place(&x, &attention.forward(&x, &rope, None)?)?;
            t.out.add_to(&x, &gelu(&norm_linear(&x, &t.norm, &t.a)?)?)?;
        }
        let x = self.norm.forward(&x)?.mean(D::Minus2)?;
        Ok(FunctionLogits { interpro: self.interpro.forward(&x)?, keyword: self.keyword.forward(&x)? })
    }

    /// Keywords, then InterPro entries, of the tokens of a protein with its ends; residues count from 1.
    pub fn annotations(&self, tokens: &[[u16; FUNCTION_DEPTH]], vocabulary: &Vocabulary) -> Result<Vec<Annotation>> {
        if (vocabulary.keywords.len(), vocabulary.interpro_names.len())
            != (self.config.n_keyword, self.config.n_interpro)
        {
            candle_core::bail!(
                "a function decoder of {} keywords and {} InterPro entries with a vocabulary of {} and {}",
                self.config.n_keyword,
                self.config.n_interpro,
                vocabulary.keywords.len(),
                vocabulary.interpro_names.len()
            )
        }
        let labels = self.labels(tokens)?;
        let of = |pick: fn(&Labels) -> &Vec<usize>| {
            let found = labels.iter().enumerate().filter_map(|(i, of)| of.as_ref().map(|of| (i, pick(of))));
            ranges(found.flat_map(|(i, of)| of.iter().map(move |label| (i, *label))))
        };
        let entries: Vec<(&String, &String)> = vocabulary.interpro_names.iter().collect();
        let keyword = |label: usize| vocabulary.keywords[label].clone();
        let entry = |label: usize| format!("{} ({})", entries[label].1, entries[label].0);
        let keywords =
            of(|l| &l.keywords).into_iter().map(|(l, start, end)| Annotation { label: keyword(l), start, end });
        let entries = of(|l| &l.entries).into_iter().map(|(l, start, end)| Annotation { label: entry(l), start, end });
        Ok(keywords.chain(entries).collect())
    }

    /// What each residue has; `None` where no function is known. Equal residues are decoded once.
    fn labels(&self, tokens: &[[u16; FUNCTION_DEPTH]]) -> Result<Vec<Option<Labels>>> {
        let is_known = |residue: &&[u16; FUNCTION_DEPTH]| !residue.iter().any(|t| [PAD, UNKNOWN, NONE].contains(t));
        let mut found: BTreeMap<[u16; FUNCTION_DEPTH], Labels> = BTreeMap::new();
        tokens.iter().filter(is_known).for_each(|residue| {
            found.entry(*residue).or_default();
        });
        let distinct: Vec<_> = found.keys().copied().collect();
        for chunk in distinct.chunks(CHUNK) {
            let logits = self.forward(chunk)?;
            let [interpro, keyword] = [logits.interpro, logits.keyword].map(|l| l.to_vec2::<f32>());
            for ((residue, interpro), keyword) in chunk.iter().zip(interpro?).zip(keyword?) {
                let labels = Labels {
                    keywords: likely(&keyword, KEYWORD_PROBABILITY),
                    entries: likely(&interpro, INTERPRO_PROBABILITY),
                };
                found.insert(*residue, labels);
            }
        }
        Ok(tokens.iter().map(|residue| found.get(residue).cloned()).collect())
    }
}

/// Numbers of keywords and InterPro entries.
#[derive(Debug, Clone, Default)]
struct Labels {
    keywords: Vec<usize>,
    entries: Vec<usize>,
}

/// Which logits are of at least this probability.
fn likely(logits: &[f32], probability: f64) -> Vec<usize> {
    let least = (probability / (1. - probability)).ln();
    logits.iter().enumerate().filter(|(_, logit)| f64::from(**logit) >= least).map(|(i, _)| i).collect()
}

/// Rows of the table for the bits of a residue: the lowest bit of all eight tokens first. A residue with a token that is no hash
/// has row 0 throughout.
fn bits(tokens: &[u16; FUNCTION_DEPTH]) -> [usize; N_TOKEN] {
    if tokens.iter().any(|token| *token < FIRST_LABEL) {
        return [0; N_TOKEN];
    }
    std::array::from_fn(|i| {
        let (bit, table) = (i / FUNCTION_DEPTH, i % FUNCTION_DEPTH);
        2 * i + usize::from((tokens[table] - FIRST_LABEL) >> bit & 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_all_tokens_come_together() {
        let rows = bits(&[4 + 0b1, 4, 4 + 0b10, 4, 4, 4, 4, 4 + 0x80]);
        assert_eq!((rows[0], rows[1], rows[8 + 2], rows[63], rows[62]), (1, 2, 21, 127, 124));
        assert_eq!(bits(&[3, 200, 4, 4, 4, 4, 4, 4]), [0; 64]);
    }

    #[test]
    fn thresholds_are_probabilities() {
        assert_eq!(likely(&[-0.01, 0., 3.], 0.5), [1, 2]);
        assert_eq!(likely(&[-2.2, -2.19], 0.1), [1]);
    }
}
