//! Atom attention encoder and decoder over windows of 32 queries and 128 keys: AF3 SI Alg. 5-7, as OpenFold3 0.5.0.
//!
//! Everything that does not depend on the noisy positions (conditioning, pair features, every bias, every gate) is computed
//! once by `prepare`.
use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::batch::{AtomFeatures, Batch};
use super::config::{Config, TransformerConfig};
use super::token_transformer::PairNorm;
use crate::ops::{
    AdaCondition, AdaNorm, Attention, ConditionedTransition, LayerCondition, Linear, LocalAttention, Norm,
    add_in_place, gate_add, norm_linear, pair_bias, relu, sigmoid,
};
use crate::weights::Weights;

/// What becomes of windows that reach beyond the first or the last atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowEnds {
    /// They are moved inwards and keep their number of keys, as OpenFold3 does.
    Shifted,
    /// They have fewer keys, as in Protenix and PXDesign.
    Cut,
}

/// Which atoms attend to which: block b of queries is `n_query` consecutive atoms, its keys `n_key` from `starts[b]`.
#[derive(Debug)]
pub struct AtomWindows {
    /// Queries in a block.
    pub n_query: usize,
    /// Keys in a block.
    pub n_key: usize,
    /// First key of each block. Keys beyond the last atom, and beyond the end of a window that is cut, are padding.
    pub starts: Vec<usize>,
    /// `[n_block, n_query, n_key, 1]`: 1 where query and key are real atoms.
    pub mask: Tensor,
    /// `[n_block, 1, n_query, n_key]`: 0 where real, -1e9 where not.
    pub bias: Tensor,
    /// Number of the first block: not 0 in a part.
    first: usize,
    query_atoms: Tensor,
    key_atoms: Tensor,
}

impl AtomWindows {
    /// Windows over atoms with this mask.
    pub fn new(atom_mask: &[f32], n_query: usize, n_key: usize, ends: WindowEnds, device: &Device) -> Result<Self> {
        let n = atom_mask.len();
        let n_real = atom_mask.iter().sum::<f32>() as usize;
        let n_block = n.div_ceil(n_query);
        // First key and end of each window.
        let spans: Vec<(usize, usize)> = (0..n_block)
            .map(|block| {
                let first = (block * n_query + n_query / 2) as isize - (n_key / 2) as isize;
                let end = first + n_key as isize;
                let inside = |atom: isize| atom.max(0) as usize;
                match ends {
                    WindowEnds::Shifted if first < 0 => (0, n_key),
                    WindowEnds::Shifted => {
                        let start = inside(first - (end - n_real as isize).max(0));
                        (start, start + n_key)
                    }
                    WindowEnds::Cut => (inside(first), inside(end)),
                }
            })
            .collect();
        let starts: Vec<usize> = spans.iter().map(|span| span.0).collect();
        let real = |atom: usize| atom_mask.get(atom).copied().unwrap_or(0.0);
        let mut mask = vec![0f32; n_block * n_query * n_key];
        for (pair, m) in mask.iter_mut().enumerate() {
            let (block, query, key) = (pair / (n_query * n_key), pair / n_key % n_query, pair % n_key);
            let key_atom = starts[block] + key;
            let inside = if key_atom < n_real.min(spans[block].1) { real(key_atom) } else { 0.0 };
            *m = real(block * n_query + query) * inside;
        }
        // Padding repeats the last atom; the mask takes it out again.
        let clamped = |atom: usize| atom.min(n.saturating_sub(1)) as u32;
        let query_atoms: Vec<u32> = (0..n_block * n_query).map(clamped).collect();
        let key_atoms: Vec<u32> = starts.iter().flat_map(|&s| (s..s + n_key).map(clamped)).collect();
        let mask = Tensor::from_vec(mask, (n_block, n_query, n_key, 1), device)?;
        Ok(Self {
            n_query,
            n_key,
            bias: mask.squeeze(3)?.unsqueeze(1)?.affine(1e9, -1e9)?,
            mask,
            first: 0,
            query_atoms: Tensor::from_vec(query_atoms, n_block * n_query, device)?,
            key_atoms: Tensor::from_vec(key_atoms, n_block * n_key, device)?,
            starts,
        })
    }

    /// Blocks.
    pub fn n_block(&self) -> usize {
        self.starts.len()
    }

    /// Some of the blocks.
    fn part(&self, blocks: Range<usize>) -> Result<Self> {
        let some = |x: &Tensor| x.narrow(0, blocks.start, blocks.len());
        let atoms = |x: &Tensor, n: usize| x.narrow(0, blocks.start * n, blocks.len() * n)?.force_contiguous();
        Ok(Self {
            n_query: self.n_query,
            n_key: self.n_key,
            mask: some(&self.mask)?,
            bias: some(&self.bias)?,
            first: self.first + blocks.start,
            query_atoms: atoms(&self.query_atoms, self.n_query)?,
            key_atoms: atoms(&self.key_atoms, self.n_key)?,
            starts: self.starts[blocks].to_vec(),
        })
    }

    /// `[1, n_atom, c]` -> queries `[n_block, n_query, 1, c]`.
    fn queries(&self, x: &Tensor) -> Result<Tensor> {
        let c = x.dim(2)?;
        x.squeeze(0)?.contiguous()?.index_select(&self.query_atoms, 0)?.reshape((self.n_block(), self.n_query, 1, c))
    }

    /// `[1, n_atom, c]` -> keys `[n_block, 1, n_key, c]`.
    fn keys(&self, x: &Tensor) -> Result<Tensor> {
        let c = x.dim(2)?;
        x.squeeze(0)?.contiguous()?.index_select(&self.key_atoms, 0)?.reshape((self.n_block(), 1, self.n_key, c))
    }

    /// For each pair of each block: displacement of the reference positions, its inverse square distance, and whether both
    /// are of one reference conformer; `[n_block, n_query, n_key, 3]`, `[.., 1]`, `[.., 1]`.
    fn reference_pairs(&self, atoms: &AtomFeatures) -> Result<[Tensor; 3]> {
        let (n_block, nq, nk) = (self.n_block(), self.n_query, self.n_key);
        let mask = self.mask.flatten_all()?.to_vec1::<f32>()?;
        let n = n_block * nq * nk;
        let (mut offset, mut inverse, mut valid) = (vec![0f32; 3 * n], vec![0f32; n], vec![0f32; n]);
        let rows = offset.par_chunks_mut(3).zip(&mut inverse).zip(&mut valid).enumerate();
        rows.for_each(|(pair, ((offset, inverse), valid))| {
            let (block, query, key) = (pair / (nq * nk), pair / nk % nq, pair % nk);
            let (l, m) = ((self.first + block) * nq + query, self.starts[block] + key);
            if mask[pair] != 0.0 {
                for (axis, o) in offset.iter_mut().enumerate() {
                    *o = (atoms.positions[l][axis] - atoms.positions[m][axis]) * mask[pair];
                }
                *valid = if atoms.space[l] == atoms.space[m] { mask[pair] } else { 0.0 };
            }
            *inverse = 1.0 / (1.0 + offset.iter().map(|x| x * x).sum::<f32>());
        });
        let device = self.mask.device();
        let tensor = |values, c| Tensor::from_vec(values, (n_block, nq, nk, c), device);
        Ok([tensor(offset, 3)?, tensor(inverse, 1)?, tensor(valid, 1)?])
    }

    /// Token pair features to the pairs of each block: `[1, n_token, n_token, c]` -> `[n_block, n_query, n_key, c]`.
    fn token_pairs(&self, z: &Tensor, atoms: &AtomFeatures) -> Result<Tensor> {
        let (_, n, _, c) = z.dims4()?;
        let to_token = &atoms.to_token;
        let last = to_token.len() - 1;
        let mut index = Vec::with_capacity(self.n_block() * self.n_query * self.n_key);
        for (block, &start) in (self.first..).zip(&self.starts) {
            for query in block * self.n_query..(block + 1) * self.n_query {
                let row = to_token[query.min(last)] * n;
                index.extend((start..start + self.n_key).map(|key| (row + to_token[key.min(last)]) as u32));
            }
        }
        let index = Tensor::from_vec(index, self.n_block() * self.n_query * self.n_key, z.device())?;
        let pairs = z.reshape((n * n, c))?.index_select(&index, 0)?;
        pairs.reshape((self.n_block(), self.n_query, self.n_key, c))?.broadcast_mul(&self.mask)
    }
}

/// The norm of the keys: which one a model has, its weights file says.
#[derive(Debug)]
enum KeyNorm {
    /// `ada_norm_k`, of the atoms, as OpenFold3.
    OfAtoms(AdaNorm),
    /// `ada_norm_kv`, of the atoms that the norm of the queries has normalised, as Protenix and PXDesign.
    OfQueries(AdaNorm),
}

impl KeyNorm {
    fn load(c: usize, w: &Weights) -> Result<Self> {
        match w.has("ada_norm_k.norm_s.weight") {
            true => Ok(Self::OfAtoms(AdaNorm::load(c, c, &w.at("ada_norm_k"))?)),
            false => Ok(Self::OfQueries(AdaNorm::load(c, c, &w.at("ada_norm_kv"))?)),
        }
    }

    fn condition(&self, s: &Tensor) -> Result<AdaCondition> {
        match self {
            Self::OfAtoms(norm) | Self::OfQueries(norm) => norm.condition(s),
        }
    }

    /// `a`, and `a_q` as the queries have it -> as the keys have it.
    fn apply(&self, a: &Tensor, a_q: &Tensor, condition: &AdaCondition) -> Result<Tensor> {
        match self {
            Self::OfAtoms(norm) => norm.apply(a, condition),
            Self::OfQueries(norm) => norm.apply(a_q, condition),
        }
    }
}

/// Attention of one block with a bias from atom pairs: Alg. 24 with a norm of its own for queries and for keys.
#[derive(Debug)]
struct AtomBlock {
    ada_norm_q: AdaNorm,
    key_norm: KeyNorm,
    out_gate: Linear,
    /// Of the pairs; `None` where one norm stands before all blocks.
    norm_z: Option<Norm>,
    bias: Linear,
    attention: Attention,
    transition: ConditionedTransition,
}

/// What a block takes from the conditioning: constant over all denoising steps.
#[derive(Debug)]
struct AtomBlockCondition {
    q: AdaCondition,
    k: AdaCondition,
    out_gate: Tensor,
    bias: Tensor,
    transition: LayerCondition,
}

impl AtomBlock {
    fn load(config: &Config, sizes: TransformerConfig, pair_norm: PairNorm, w: &Weights) -> Result<Self> {
        let c = config.c_atom;
        let a = w.at("attention_pair_bias");
        Ok(Self {
            ada_norm_q: AdaNorm::load(c, c, &a.at("ada_norm_q"))?,
            key_norm: KeyNorm::load(c, &a)?,
            out_gate: Linear::load(c, c, &a.at("out_gate"))?,
            norm_z: pair_norm.of_block(config.c_atompair, &a)?,
            bias: Linear::load(config.c_atompair, sizes.n_head, &a.at("bias"))?,
            attention: Attention::load(c, c, sizes.c_hidden, sizes.n_head, &a.at("attention"))?,
            transition: ConditionedTransition::load(c, c, sizes.n_transition * c, &w.at("transition"))?,
        })
    }

    /// What depends on the conditioning; the bias is still that of the mask alone.
    fn condition(&self, s: &Tensor, windows: &AtomWindows) -> Result<AtomBlockCondition> {
        let shape = (windows.n_block(), self.bias.n(), windows.n_query, windows.n_key);
        Ok(AtomBlockCondition {
            q: self.ada_norm_q.condition(s)?,
            k: self.key_norm.condition(s)?,
            out_gate: sigmoid(&self.out_gate.forward(s)?)?,
            bias: windows.bias.broadcast_as(shape)?.force_contiguous()?.unsqueeze(0)?,
            transition: self.transition.condition(s)?,
        })
    }

    fn update(&self, a: &Tensor, condition: &AtomBlockCondition, windows: &AtomWindows) -> Result<()> {
        let a_q = self.ada_norm_q.apply(a, &condition.q)?;
        let a_k = self.key_norm.apply(a, &a_q, &condition.k)?;
        let heads = &self.attention;
        let gate = heads.gate.as_ref().map(|gate| gate.forward(&a_q)).transpose()?;
        let o = LocalAttention {
            q: &heads.q.forward(&a_q)?,
            k: &heads.k.forward(&a_k)?,
            v: &heads.v.forward(&a_k)?,
            gate: gate.as_ref(),
            bias: &condition.bias,
            starts: &windows.starts,
        };
        gate_add(a, &condition.out_gate, &heads.out.forward(&o.forward()?)?)?;
        self.transition.add_with(a, &condition.transition)
    }
}

/// Windows whose atom pairs are made at once: 8 MiB of f32 at full size.
const PAIR_BLOCKS: usize = 32;

/// Atom transformer: Alg. 7.
#[derive(Debug)]
pub struct AtomTransformer {
    /// Before all blocks, or in each.
    norm_z: Option<Norm>,
    blocks: Vec<AtomBlock>,
}

/// The conditioning of every block.
#[derive(Debug)]
pub struct AtomTransformerCondition(Vec<AtomBlockCondition>);

impl AtomTransformer {
    /// A transformer of `sizes`.
    pub fn load(config: &Config, sizes: TransformerConfig, w: &Weights) -> Result<Self> {
        let (norm_z, pair_norm) = PairNorm::load(config.c_atompair, w)?;
        let block = |i| AtomBlock::load(config, sizes, pair_norm, &w.at(format_args!("blocks.{i}")));
        Ok(Self { norm_z, blocks: (0..sizes.n_block).map(block).collect::<Result<_>>()? })
    }

    /// What depends on the conditioning alone: `s` `[1, n_atom, c_atom]`, and `pairs`, which gives `p` of some blocks of
    /// windows, `[blocks, n_query, n_key, c_atompair]`: it is never there as a whole.
    pub fn condition(
        &self,
        s: &Tensor,
        pairs: &dyn Fn(Range<usize>) -> Result<Tensor>,
        windows: &AtomWindows,
    ) -> Result<AtomTransformerCondition> {
        let conditions = self.blocks.iter().map(|block| block.condition(s, windows)).collect::<Result<Vec<_>>>()?;
        for start in (0..windows.n_block()).step_by(PAIR_BLOCKS) {
            let part = start..windows.n_block().min(start + PAIR_BLOCKS);
            let p = pairs(part.clone())?;
            let p = self.norm_z.as_ref().map_or(Ok(p.clone()), |norm| norm.forward(&p))?;
            for (block, condition) in self.blocks.iter().zip(&conditions) {
                let bias = condition.bias.narrow(1, part.start, part.len())?;
                add_in_place(&bias, &pair_bias(&p, block.norm_z.as_ref(), &block.bias)?.unsqueeze(0)?)?;
            }
        }
        Ok(AtomTransformerCondition(conditions))
    }

    /// Updates `a` `[b, n_atom, c_atom]` in place.
    pub fn update(&self, a: &Tensor, condition: &AtomTransformerCondition, windows: &AtomWindows) -> Result<()> {
        self.blocks.iter().zip(&condition.0).try_for_each(|(block, condition)| block.update(a, condition, windows))
    }
}

/// What the trunk adds to the atoms in the diffusion module: Alg. 5 lines 8-12.
#[derive(Debug)]
struct TrunkInput {
    norm_s: Norm,
    s: Linear,
    norm_z: Norm,
    z: Linear,
    positions: Linear,
}

impl TrunkInput {
    fn load(config: &Config, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm_s: Norm::load(config.c_s, &w.at("norm_s"))?,
            s: Linear::load(config.c_s, config.c_atom, &w.at("s"))?,
            norm_z: Norm::load(config.c_z, &w.at("norm_z"))?,
            z: Linear::load(config.c_z, config.c_atompair, &w.at("z"))?,
            positions: Linear::load(3, config.c_atom, &w.at("positions"))?,
        })
    }
}

/// Atom attention encoder: Alg. 5.
#[derive(Debug)]
pub struct AtomEncoder {
    ref_pos: Linear,
    ref_charge: Linear,
    ref_mask: Linear,
    ref_element: Linear,
    ref_atom_name_chars: Linear,
    ref_offset: Linear,
    ref_inverse_distance: Linear,
    ref_valid: Linear,
    trunk: Option<TrunkInput>,
    pair_l: Linear,
    pair_m: Linear,
    pair_mlp: [Linear; 3],
    transformer: AtomTransformer,
    out: Linear,
}

/// Atom representations that do not change while a structure is denoised.
#[derive(Debug)]
pub struct AtomConditioning {
    /// `c` of Alg. 5, `[1, n_atom, c_atom]`.
    pub single: Tensor,
    transformer: AtomTransformerCondition,
}

/// The atom pairs of a query, made for some windows at a time.
#[derive(Debug)]
pub struct AtomPairs<'a> {
    encoder: &'a AtomEncoder,
    batch: &'a Batch,
    /// What the two atoms of a pair add to it, `[1, n_atom, c_atompair]` each.
    ends: [Tensor; 2],
    /// What their tokens add, `[1, n_token, n_token, c_atompair]`.
    of_tokens: Option<Tensor>,
}

/// What the encoder hands on.
#[derive(Debug)]
pub struct EncodedAtoms {
    /// `[b, n_token, c_token]`.
    pub tokens: Tensor,
    /// `q` of Alg. 5, `[b, n_atom, c_atom]`.
    pub atoms: Tensor,
}

impl AtomEncoder {
    /// The encoder of the input embedder: reference conformers alone.
    pub fn load_input(config: &Config, w: &Weights) -> Result<Self> {
        Self::load(config, config.input_atoms, config.c_token_input, None, w)
    }

    /// The encoder of the diffusion module: also takes the trunk and noisy positions.
    pub fn load_diffusion(config: &Config, w: &Weights) -> Result<Self> {
        let trunk = TrunkInput::load(config, &w.at("trunk"))?;
        Self::load(config, config.atom_encoder, config.c_token, Some(trunk), w)
    }

    fn load(
        config: &Config,
        sizes: TransformerConfig,
        c_token: usize,
        trunk: Option<TrunkInput>,
        w: &Weights,
    ) -> Result<Self> {
        let (c, c_pair) = (config.c_atom, config.c_atompair);
        let linear = |name: &str, k, n| Linear::load(k, n, &w.at(name));
        Ok(Self {
            ref_pos: linear("ref_pos", 3, c)?,
            ref_charge: linear("ref_charge", 1, c)?,
            ref_mask: linear("ref_mask", 1, c)?,
            ref_element: linear("ref_element", 119, c)?,
            ref_atom_name_chars: linear("ref_atom_name_chars", 256, c)?,
            ref_offset: linear("ref_offset", 3, c_pair)?,
            ref_inverse_distance: linear("ref_inverse_distance", 1, c_pair)?,
            ref_valid: linear("ref_valid", 1, c_pair)?,
            trunk,
            pair_l: linear("pair_l", c, c_pair)?,
            pair_m: linear("pair_m", c, c_pair)?,
            // Numbered as in the official file: a ReLU stands between each two.
            pair_mlp: [
                linear("pair_mlp.1", c_pair, c_pair)?,
                linear("pair_mlp.3", c_pair, c_pair)?,
                linear("pair_mlp.5", c_pair, c_pair)?,
            ],
            transformer: AtomTransformer::load(config, sizes, &w.at("transformer"))?,
            out: linear("out", c, c_token)?,
        })
    }

    /// Alg. 5 lines 1-10 and 13-14: all that does not depend on the noisy positions, and the atom pairs. `trunk` is the raw
    /// single representation of the trunk `[1, n, c_s]` and the conditioned pair representation `[1, n, n, c_z]`.
    pub fn prepare<'a>(
        &'a self,
        batch: &'a Batch,
        trunk: Option<(&Tensor, &Tensor)>,
    ) -> Result<(AtomConditioning, AtomPairs<'a>)> {
        let atoms = &batch.atoms;
        let c = self.ref_pos.forward(&atoms.ref_pos)?;
        self.ref_charge.add_to(&c, &atoms.ref_charge)?;
        self.ref_mask.add_to(&c, &atoms.ref_mask)?;
        self.ref_element.add_to(&c, &atoms.ref_element)?;
        self.ref_atom_name_chars.add_to(&c, &atoms.ref_atom_name_chars)?;
        let mut of_tokens = None;
        if let (Some(layers), Some((s, z))) = (&self.trunk, trunk) {
            add_in_place(&c, &atoms.broadcast(&norm_linear(s, &layers.norm_s, &layers.s)?)?)?;
            of_tokens = Some(norm_linear(z, &layers.norm_z, &layers.z)?);
        }
        let c_relu = relu(&c)?;
        let ends = [self.pair_l.forward(&c_relu)?, self.pair_m.forward(&c_relu)?];
        let pairs = AtomPairs { encoder: self, batch, ends, of_tokens };
        let transformer = self.transformer.condition(&c, &|blocks| pairs.blocks(blocks), &batch.windows)?;
        Ok((AtomConditioning { single: c, transformer }, pairs))
    }

    /// Alg. 5 lines 11 and 15-16; `positions` are the scaled noisy positions `[b, n_atom, 3]` of the diffusion module.
    pub fn forward(&self, batch: &Batch, atoms: &AtomConditioning, positions: Option<&Tensor>) -> Result<EncodedAtoms> {
        let q = match (&self.trunk, positions) {
            (Some(layers), Some(positions)) => layers.positions.forward(positions)?.broadcast_add(&atoms.single)?,
            _ => atoms.single.force_contiguous()?,
        };
        self.transformer.update(&q, &atoms.transformer, &batch.windows)?;
        let q = q.broadcast_mul(&batch.atoms.mask)?;
        let tokens = batch.atoms.mean_per_token(&relu(&self.out.forward(&q)?)?)?;
        Ok(EncodedAtoms { tokens, atoms: q })
    }
}

impl AtomPairs<'_> {
    /// `p` of some blocks of windows, `[blocks, n_query, n_key, c_atompair]`: Alg. 5 lines 2-7, 9-10 and 13-14.
    pub fn blocks(&self, blocks: Range<usize>) -> Result<Tensor> {
        let (layers, atoms) = (self.encoder, &self.batch.atoms);
        let windows = self.batch.windows.part(blocks)?;
        let [offset, inverse, valid] = windows.reference_pairs(atoms)?;
        let p = layers.ref_offset.forward(&offset)?;
        layers.ref_inverse_distance.add_to(&p, &inverse)?;
        layers.ref_valid.add_to(&p, &valid)?;
        let p = p.broadcast_mul(&valid)?;
        if let Some(z) = &self.of_tokens {
            add_in_place(&p, &windows.token_pairs(z, atoms)?)?;
        }
        let (l, m) = (windows.queries(&self.ends[0])?, windows.keys(&self.ends[1])?);
        add_in_place(&p, &l.broadcast_add(&m)?.broadcast_mul(&windows.mask)?)?;
        let mut h = p.clone();
        for layer in &layers.pair_mlp {
            h = layer.forward(&relu(&h)?)?;
        }
        (p + h)?.broadcast_mul(&windows.mask)
    }
}

/// Atom attention decoder: Alg. 6.
#[derive(Debug)]
pub struct AtomDecoder {
    token: Linear,
    transformer: AtomTransformer,
    norm: Norm,
    out: Linear,
}

impl AtomDecoder {
    /// The decoder of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c = config.c_atom;
        Ok(Self {
            token: Linear::load(config.c_token, c, &w.at("token"))?,
            transformer: AtomTransformer::load(config, config.atom_decoder, &w.at("transformer"))?,
            norm: Norm::load(c, &w.at("norm"))?,
            out: Linear::load(c, 3, &w.at("out"))?,
        })
    }

    /// What depends on the encoder's conditioning alone: its `c`, and its `p` of some blocks of windows.
    pub fn condition(
        &self,
        c: &Tensor,
        pairs: &dyn Fn(Range<usize>) -> Result<Tensor>,
        windows: &AtomWindows,
    ) -> Result<AtomTransformerCondition> {
        self.transformer.condition(c, pairs, windows)
    }

    /// `tokens` `[b, n_token, c_token]` and the encoder's atoms to the position update `[b, n_atom, 3]`.
    pub fn forward(
        &self,
        batch: &Batch,
        condition: &AtomTransformerCondition,
        tokens: &Tensor,
        atoms: &Tensor,
    ) -> Result<Tensor> {
        let q = batch.atoms.broadcast(&self.token.forward(tokens)?)?;
        add_in_place(&q, atoms)?;
        self.transformer.update(&q, condition, &batch.windows)?;
        norm_linear(&q, &self.norm, &self.out)
    }
}
