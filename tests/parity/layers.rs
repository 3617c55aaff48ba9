//! fixtures/openfold3/layers.py: every layer of the small model on made-up inputs, two samples in a batch, masks with
//! zeros. A layer that runs on a `Batch`, which holds one query, is given the samples one after the other.
use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};
use fold::features::af3::N_RESTYPE;
use fold::features::af3::{Af3Features, Msa, N_TEMPLATE_BIN, Templates};
use fold::features::noise::{NoiseSource, TorchGenerator};
use fold::models::af3::atom_attention::WindowEnds;
use fold::models::af3::batch::Batch;
use fold::models::af3::conditioning::DiffusionConditioning;
use fold::models::af3::confidence::{ConfidenceHead, DistogramHead};
use fold::models::af3::config::Config;
use fold::models::af3::msa_module::{MsaBlock, MsaEmbedder, MsaModule};
use fold::models::af3::pairformer::{AttentionPairBias, PairBlock, Pairformer, PairformerBlock, mask_bias};
use fold::models::af3::relpos::RelativePositions;
use fold::models::af3::sample::{augment, noise_schedule};
use fold::models::af3::template::TemplateEmbedder;
use fold::models::af3::token_transformer::{PairNorm, TokenBlock, TokenTransformer};
use fold::ops::{
    AdaNorm, Attention, BiasOrder, ConditionedTransition, Edges, Node, OuterProductMean, PairWeightedAverage,
    SwiGluTransition, TriangleAttention, TriangleMultiplication, attention,
};

use crate::common::{Golden, assert_close, fixture, tiny};

/// Of the largest value of each tensor. The official float32 is up to 7e-6 from its own float64 (layers.json).
pub const LIMIT: f32 = 1e-5;
/// Samples in each golden tensor.
pub const N_SAMPLE: usize = 2;
/// Of release 0.5.0; the starting node has it in every release.
const ENDING_BIAS: BiasOrder = BiasOrder::QueryKey;
const TRUNK: &str = "pairformer.blocks.0";
const TOKEN: &str = "diffusion.transformer.blocks.0";

/// A recorded call of an official layer: both samples, or one of them.
pub struct Layer<'a> {
    name: &'a str,
    golden: &'a Golden,
    sample: Option<usize>,
}

impl<'a> Layer<'a> {
    pub fn new(golden: &'a Golden, name: &'a str) -> Self {
        Self { name, golden, sample: None }
    }

    /// The call as if it had been made with one sample.
    pub fn sample(&self, sample: usize) -> Self {
        Self { sample: Some(sample), ..*self }
    }

    /// Which sample it is.
    pub fn index(&self) -> usize {
        self.sample.unwrap_or(0)
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        let both = self.golden.get(&format!("{}.{name}", self.name))?;
        // A copy of its own: layers write in place.
        Ok(self.sample.map_or(Ok(both.clone()), |k| both.narrow(0, k, 1))?.force_contiguous()?)
    }

    pub fn input(&self, name: &str) -> Result<Tensor> {
        self.get(&format!("in.{name}"))
    }

    pub fn output(&self, name: &str) -> Result<Tensor> {
        self.get(&format!("out.{name}"))
    }

    pub fn check(&self, name: &str, got: &Tensor) -> Result<()> {
        self.check_against(name, got, &self.output(name)?)
    }

    pub fn check_against(&self, name: &str, got: &Tensor, want: &Tensor) -> Result<()> {
        assert_close(&format!("{}.{name}", self.name), got, want, LIMIT)
    }

    /// Compares what is real: `mask` is of the leading dimensions.
    pub fn check_where(&self, name: &str, got: &Tensor, mask: &Tensor) -> Result<()> {
        let masked = |x: &Tensor| x.broadcast_mul(&mask.unsqueeze(D::Minus1)?);
        self.check_against(name, &masked(got)?, &masked(&self.output(name)?)?)
    }

    /// What `add_to` adds to the input `name`.
    pub fn update(&self, name: &str, add_to: impl FnOnce(&Tensor) -> Result<()>) -> Result<Tensor> {
        let sum = self.input(name)?;
        add_to(&sum)?;
        Ok((sum - self.input(name)?)?)
    }
}

pub fn host(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_vec1()?)
}

/// Whole numbers, as the golden files keep them.
pub fn whole<T: TryFrom<i64>>(x: &Tensor) -> Result<Vec<T>> {
    host(x)?.iter().map(|&v| T::try_from(v as i64).ok().with_context(|| format!("{v} is out of range"))).collect()
}

/// The index of the 1 along the last axis.
pub fn hot(x: &Tensor) -> Result<Vec<u8>> {
    Ok(x.argmax(D::Minus1)?.flatten_all()?.to_vec1::<u32>()?.into_iter().map(|i| i as u8).collect())
}

fn golden() -> Result<Golden> {
    Golden::open("openfold3/layers.safetensors")
}

/// Runs `test` on a layer of layers.safetensors.
fn with(name: &str, test: impl FnOnce(&Layer, Config, &fold::weights::Weights) -> Result<()>) -> Result<()> {
    let (config, weights) = tiny()?;
    test(&Layer::new(&golden()?, name), config, &weights)
}

/// Features of `n` tokens of one atom each, for layers that need a part of them.
fn blank(n: usize) -> Af3Features {
    let msa = Msa { profile: vec![0.; n * N_RESTYPE], deletion_mean: vec![0.; n], ..Msa::default() };
    Af3Features {
        token_index: (0..n as i32).collect(),
        residue_index: vec![1; n],
        asym_id: vec![1; n],
        entity_id: vec![1; n],
        sym_id: vec![1; n],
        restype: vec![0; n],
        token_mask: vec![1.; n],
        num_atoms_per_token: vec![1; n],
        start_atom_index: (0..n).collect(),
        cyclic_mask: vec![false; n],
        atom_mask: vec![1.; n],
        atom_to_token: (0..n).collect(),
        ref_pos: vec![[0.; 3]; n],
        ref_mask: vec![true; n],
        ref_element: vec![5; n],
        ref_charge: vec![0.; n],
        ref_atom_name: vec![[0; 4]; n],
        ref_space_uid: (0..n as u32).collect(),
        msa,
        ..Af3Features::default()
    }
}

/// One sample of a made-up feature dictionary of layers_atom.safetensors; names in `replaced` are of another one.
pub fn recorded(golden: &Golden, batch: &str, replaced: Option<&str>, sample: usize) -> Result<Af3Features> {
    let get = |name: &str| -> Result<Tensor> {
        let other = replaced.map(|r| format!("{r}.{name}")).filter(|name| golden.has(name));
        Ok(golden.get(&other.unwrap_or_else(|| format!("{batch}.{name}")))?.get(sample)?)
    };
    let bonds = get("token_bonds")?.to_vec2::<f32>()?;
    let bond = |i: usize| (0..i).map(move |j| (j, i));
    let bonded = (0..bonds.len()).flat_map(bond).filter(|&(j, i)| bonds[j][i] != 0.);
    let triples = host(&get("ref_pos")?)?.as_chunks::<3>().0.to_vec();
    let msa = Msa { profile: host(&get("profile")?)?, deletion_mean: host(&get("deletion_mean")?)?, ..Msa::default() };
    Ok(Af3Features {
        token_index: whole(&get("token_index")?)?,
        residue_index: whole(&get("residue_index")?)?,
        asym_id: whole(&get("asym_id")?)?,
        entity_id: whole(&get("entity_id")?)?,
        sym_id: whole(&get("sym_id")?)?,
        restype: hot(&get("restype")?)?,
        token_mask: host(&get("token_mask")?)?,
        num_atoms_per_token: whole(&get("num_atoms_per_token")?)?,
        start_atom_index: whole(&get("start_atom_index")?)?,
        token_bonds: bonded.map(|(j, i)| (j as u32, i as u32)).collect(),
        cyclic_mask: host(&get("cyclic_mask")?)?.iter().map(|&m| m != 0.).collect(),
        atom_mask: host(&get("atom_mask")?)?,
        atom_to_token: whole(&get("atom_to_token_index")?)?,
        ref_pos: triples,
        ref_mask: host(&get("ref_mask")?)?.iter().map(|&m| m != 0.).collect(),
        ref_element: hot(&get("ref_element")?)?,
        ref_charge: host(&get("ref_charge")?)?,
        ref_atom_name: hot(&get("ref_atom_name_chars")?)?.as_chunks::<4>().0.to_vec(),
        ref_space_uid: whole(&get("ref_space_uid")?)?,
        msa,
        ..Af3Features::default()
    })
}

/// The features that several layers of layers.safetensors were called with.
fn batch_70(sample: usize) -> Result<Af3Features> {
    recorded(&Golden::open("openfold3/layers_atom.safetensors")?, "batch_70", None, sample)
}

/// A layer that is added to the fixtures is added here, too.
#[test]
fn every_layer_is_compared() -> Result<()> {
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("openfold3/layers.json"))?)?;
    let tests = concat!(include_str!("layers.rs"), include_str!("atoms.rs"));
    let missing = |name: &&String| !tests.contains(&format!("\"{name}\"")) && !tests.contains(&format!("{name} "));
    let missing: Vec<_> = list["layers"].as_object().context("layers")?.keys().filter(missing).collect();
    ensure!(missing.is_empty(), "no test of {missing:?}");
    Ok(())
}

// Pairs.

fn triangle_multiplication(name: &str, edges: Edges, ours: &str) -> Result<()> {
    with(name, |g, c, w| {
        let w = w.at(TRUNK).at("pair").at(ours);
        let layer = TriangleMultiplication::load(c.c_z, c.pairformer.pair.c_hidden_mul, edges, &w)?;
        g.check("x", &g.update("z", |z| Ok(layer.add_to(z, &g.input("mask")?)?))?)
    })
}

#[test]
fn triangle_outgoing() -> Result<()> {
    triangle_multiplication("triangle_outgoing", Edges::Outgoing, "tri_mul_out")
}

#[test]
fn triangle_incoming() -> Result<()> {
    triangle_multiplication("triangle_incoming", Edges::Incoming, "tri_mul_in")
}

fn triangle_attention(name: &str, node: Node, ours: &str) -> Result<()> {
    with(name, |g, c, w| {
        let (w, sizes) = (w.at(TRUNK).at("pair").at(ours), c.pairformer.pair);
        let layer = TriangleAttention::load(c.c_z, sizes.c_hidden_att, sizes.n_head, node, BiasOrder::QueryKey, &w)?;
        g.check("x", &g.update("x", |z| Ok(layer.add_to(z, &g.input("mask")?)?))?)
    })
}

#[test]
fn triangle_attention_start() -> Result<()> {
    triangle_attention("triangle_attention_start", Node::Starting, "tri_att_start")
}

#[test]
fn triangle_attention_end() -> Result<()> {
    triangle_attention("triangle_attention_end", Node::Ending, "tri_att_end")
}

// In `*_masked` some rows have no key at all. In float32 -1e9 swallows their logits, so that every key has the same
// weight: these rows are compared too.

#[test]
fn triangle_attention_start_masked() -> Result<()> {
    triangle_attention("triangle_attention_start_masked", Node::Starting, "tri_att_start")
}

#[test]
fn triangle_attention_end_masked() -> Result<()> {
    triangle_attention("triangle_attention_end_masked", Node::Ending, "tri_att_end")
}

#[test]
fn pair_transition() -> Result<()> {
    with("pair_transition", |g, c, w| {
        let hidden = c.pairformer.pair.n_transition * c.c_z;
        let layer = SwiGluTransition::load(c.c_z, hidden, &w.at(TRUNK).at("pair.transition"))?;
        g.check("x", &g.update("x", |z| Ok(layer.add_to(z, Some(&g.input("mask")?))?))?)
    })
}

#[test]
fn pair_block() -> Result<()> {
    with("pair_block", |g, c, w| {
        let block = PairBlock::load(c.c_z, c.pairformer.pair, ENDING_BIAS, &w.at(TRUNK).at("pair"))?;
        let z = g.input("z")?;
        block.update(&z, &g.input("pair_mask")?)?;
        g.check("x", &z)
    })
}

// Attention.

fn gated_attention(name: &str) -> Result<()> {
    with(name, |g, c, w| {
        let (w, sizes) = (w.at(TRUNK).at("pair.tri_att_start.attention"), c.pairformer.pair);
        let layer = Attention::load(c.c_z, c.c_z, sizes.c_hidden_att, sizes.n_head, &w)?;
        let x = g.input("x")?.flatten(0, 1)?; // [b * rows, n, c_z]
        let (mask_bias, bias) = flat_biases(g)?;
        g.check("x", &layer.forward(&x, &x, &[&mask_bias, &bias])?)
    })
}

/// `mask_bias` and `bias` of rows `[b, rows, ..]` as of a batch of all rows.
fn flat_biases(g: &Layer) -> Result<(Tensor, Tensor)> {
    let (mask_bias, bias) = (g.input("mask_bias")?, g.input("bias")?);
    let (b, rows, ..) = mask_bias.dims5()?;
    let (_, _, h, n, m) = bias.dims5()?;
    Ok((mask_bias.flatten(0, 1)?, bias.broadcast_as((b, rows, h, n, m))?.contiguous()?.flatten(0, 1)?))
}

#[test]
fn attention_extreme() -> Result<()> {
    gated_attention("attention_extreme")
}

/// With rows that have no key, as above.
#[test]
fn attention_masked() -> Result<()> {
    gated_attention("attention_masked")
}

/// The official function leaves scaling to its caller. Heads are widened with zeros from 6 to 16 channels, so that our
/// factor of 1/4 is undone without rounding.
#[test]
fn attention_core() -> Result<()> {
    with("attention_core", |g, _, _| {
        let (b, rows, h, n, d) = g.input("q")?.dims5()?;
        let side_by_side = |name: &str| -> Result<Tensor> {
            let x = g.input(name)?.pad_with_zeros(4, 0, 16 - d)?.transpose(2, 3)?.contiguous()?; // [b, rows, n, h, 16]
            Ok(x.reshape((b * rows, n, h * 16))?)
        };
        let q = (side_by_side("q")? * 4.)?;
        let (mask_bias, bias) = flat_biases(g)?;
        let o = attention(&q, &side_by_side("k")?, &side_by_side("v")?, &[&mask_bias, &bias], None, h)?;
        let o = o.reshape((b, rows, n, h, 16))?.narrow(4, 0, d)?.transpose(2, 3)?.contiguous()?;
        g.check("x", &o)
    })
}

#[test]
fn attention_pair_bias() -> Result<()> {
    with("attention_pair_bias", |g, c, w| {
        let (sizes, w) = (c.pairformer, w.at(TRUNK).at("attention_pair_bias"));
        let layer = AttentionPairBias::load(c.c_s, c.c_z, sizes.c_hidden, sizes.n_head, &w)?;
        g.check("x", &layer.forward(&g.input("a")?, &g.input("z")?, &g.input("mask")?)?)
    })
}

// Trunk.

#[test]
fn single_transition() -> Result<()> {
    with("single_transition", |g, c, w| {
        let hidden = c.pairformer.n_transition * c.c_s;
        let layer = SwiGluTransition::load(c.c_s, hidden, &w.at(TRUNK).at("single_transition"))?;
        g.check("x", &g.update("x", |s| Ok(layer.add_to(s, Some(&g.input("mask")?))?))?)
    })
}

fn check_pairformer(g: &Layer, update: impl FnOnce([&Tensor; 4]) -> candle_core::Result<()>) -> Result<()> {
    let (s, z) = (g.input("s")?, g.input("z")?);
    update([&s, &z, &g.input("single_mask")?, &g.input("pair_mask")?])?;
    g.check("s", &s)?;
    g.check("z", &z)
}

#[test]
fn pairformer_block() -> Result<()> {
    with("pairformer_block", |g, c, w| {
        let block = PairformerBlock::load(c.c_s, c.c_z, c.pairformer, ENDING_BIAS, &w.at(TRUNK))?;
        check_pairformer(g, |[s, z, mask, pair_mask]| block.update(s, z, mask, pair_mask))
    })
}

#[test]
fn pairformer_stack() -> Result<()> {
    with("pairformer_stack", |g, c, w| {
        let stack = Pairformer::load(c.c_s, c.c_z, c.pairformer, ENDING_BIAS, &w.at("pairformer"))?;
        check_pairformer(g, |[s, z, mask, pair_mask]| stack.update(s, z, mask, pair_mask, &mut || Ok(())))
    })
}

#[test]
fn outer_product_mean() -> Result<()> {
    with("outer_product_mean", |g, c, w| {
        let w = w.at("msa.blocks.0.outer_product_mean");
        let layer = OuterProductMean::load(c.c_m, c.msa.c_hidden_opm, c.c_z, &w)?;
        let z = g.output("x")?.zeros_like()?;
        layer.add_to(&z, &g.input("m")?, &g.input("mask")?)?;
        g.check("x", &z)
    })
}

#[test]
fn pair_weighted_averaging() -> Result<()> {
    with("pair_weighted_averaging", |g, c, w| {
        let w = w.at("msa.blocks.0.pair_weighted_average");
        let layer = PairWeightedAverage::load(c.c_m, c.c_z, c.msa.c_hidden, c.msa.n_head, &w)?;
        g.check("x", &g.update("m", |m| Ok(layer.add_to(m, &g.input("z")?, &g.input("mask")?)?))?)
    })
}

#[test]
fn msa_transition() -> Result<()> {
    with("msa_transition", |g, c, w| {
        let hidden = c.msa.n_transition * c.c_m;
        let layer = SwiGluTransition::load(c.c_m, hidden, &w.at("msa.blocks.0.msa_transition"))?;
        g.check("x", &g.update("x", |m| Ok(layer.add_to(m, Some(&g.input("mask")?))?))?)
    })
}

/// Runs an update of `m` and `z`; gives both.
fn msa_update(g: &Layer, update: impl FnOnce([&Tensor; 4]) -> candle_core::Result<()>) -> Result<[Tensor; 2]> {
    let (m, z) = (g.input("m")?, g.input("z")?);
    update([&m, &z, &g.input("msa_mask")?, &g.input("pair_mask")?])?;
    Ok([m, z])
}

#[test]
fn msa_block() -> Result<()> {
    with("msa_block", |g, c, w| {
        let block = MsaBlock::load(&c, 0, ENDING_BIAS, &w.at("msa.blocks.0"))?;
        let [m, z] = msa_update(g, |[m, z, msa_mask, pair_mask]| block.update(m, z, msa_mask, pair_mask))?;
        g.check("m", &m)?;
        g.check("z", &z)
    })
}

/// It has no row update.
#[test]
fn msa_block_last() -> Result<()> {
    with("msa_block_last", |g, c, w| {
        let last = c.msa.n_block - 1;
        let block = MsaBlock::load(&c, last, ENDING_BIAS, &w.at("msa.blocks").at(last))?;
        let [m, z] = msa_update(g, |[m, z, msa_mask, pair_mask]| block.update(m, z, msa_mask, pair_mask))?;
        ensure!(host(&m)? == host(&g.input("m")?)?, "the last block changed the rows");
        g.check("z", &z)
    })
}

#[test]
fn msa_module() -> Result<()> {
    with("msa_module", |g, c, w| {
        let module = MsaModule::load(&c, ENDING_BIAS, &w.at("msa"))?;
        let [_, z] = msa_update(g, |[m, z, msa_mask, pair_mask]| module.update(m, z, msa_mask, pair_mask))?;
        g.check("z", &z)
    })
}

#[test]
fn msa_module_embedder() -> Result<()> {
    with("msa_module_embedder", |g, c, w| {
        let embedder = MsaEmbedder::load(&c, &w.at("msa"))?;
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let (_, n_seq, n_token) = g.input("msa_mask")?.dims3()?;
            let mut features = blank(n_token);
            features.msa.n_seq = n_seq;
            features.msa.rows = hot(&g.input("msa")?)?;
            features.msa.has_deletion = host(&g.input("has_deletion")?)?;
            features.msa.deletion_value = host(&g.input("deletion_value")?)?;
            features.msa.mask = host(&g.input("msa_mask")?)?;
            let batch = Batch::new(&features, &c, WindowEnds::Shifted, &Device::Cpu)?;
            let rows = embedder.choose_rows(&batch, &mut TorchGenerator::new(0));
            ensure!(rows == [0, 1, 2, 3, 4], "fewer rows than are drawn: all are kept, not {rows:?}");
            let (m, mask) = embedder.forward(&batch, &rows, &g.input("s_input")?)?;
            g.check("m", &m)?;
            g.check("msa_mask", &mask)?;
        }
        Ok(())
    })
}

// Templates and positions.

/// Features of one sample of a template layer; `given` templates of the golden file's four.
fn template_features(g: &Layer, given: bool) -> Result<Af3Features> {
    let (_, n, n_token) = g.input("template_pseudo_beta_mask")?.dims3()?;
    let templates = Templates {
        n,
        restype: hot(&g.input("template_restype")?)?,
        pseudo_beta_mask: host(&g.input("template_pseudo_beta_mask")?)?,
        backbone_frame_mask: host(&g.input("template_backbone_frame_mask")?)?,
        distogram: host(&g.input("template_distogram")?)?,
        unit_vector: host(&g.input("template_unit_vector")?)?,
    };
    ensure!(templates.distogram.len() == n * n_token * n_token * N_TEMPLATE_BIN, "bins of the template distogram");
    let asym_id = whole(&g.input("asym_id")?)?;
    Ok(Af3Features { asym_id, templates: given.then_some(templates), ..blank(n_token) })
}

fn template_embedding(name: &str, given: bool) -> Result<()> {
    with(name, |g, c, w| {
        let embedder = TemplateEmbedder::load(&c, ENDING_BIAS, &w.at("template"))?;
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let mut features = template_features(&g, given)?;
            let pair_mask = g.input("pair_mask")?.squeeze(0)?.to_vec2::<f32>()?;
            features.token_mask = pair_mask.iter().enumerate().map(|(i, row)| row[i]).collect();
            let batch = Batch::new(&features, &c, WindowEnds::Shifted, &Device::Cpu)?;
            g.check("x", &g.update("z", |z| Ok(embedder.add_to(z, &batch)?))?)?;
        }
        Ok(())
    })
}

/// As inference without templates has it: four slots of gaps.
#[test]
fn template_embedder_empty() -> Result<()> {
    template_embedding("template_embedder_empty", false)
}

#[test]
fn template_embedder() -> Result<()> {
    template_embedding("template_embedder", true)
}

#[test]
fn template_pair_embedder() -> Result<()> {
    with("template_pair_embedder", |g, c, w| {
        let embedder = TemplateEmbedder::load(&c, ENDING_BIAS, &w.at("template"))?;
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let batch = Batch::new(&template_features(&g, true)?, &c, WindowEnds::Shifted, &Device::Cpu)?;
            let templates = batch.templates.as_ref().context("no templates")?;
            let features = (0..templates.n).map(|k| embedder.features(&batch, Some((templates, k))));
            let features = Tensor::stack(&features.collect::<candle_core::Result<Vec<_>>>()?, 1)?; // [1, t, n, n, c_t]
            g.check("x", &features.broadcast_add(&embedder.project(&g.input("z")?)?.unsqueeze(1)?)?)?;
        }
        Ok(())
    })
}

#[test]
fn template_pair_stack() -> Result<()> {
    with("template_pair_stack", |g, c, w| {
        let embedder = TemplateEmbedder::load(&c, ENDING_BIAS, &w.at("template"))?;
        let (b, t, n, _, _) = g.input("t")?.dims5()?;
        let mask = g.input("mask")?.broadcast_as((b, t, n, n))?.contiguous()?.flatten(0, 1)?;
        let t = g.input("t")?.flatten(0, 1)?.force_contiguous()?;
        embedder.stack(&t, &mask)?;
        g.check("x", &t)
    })
}

fn relative_positions(name: &str) -> Result<()> {
    with(name, |g, c, _| {
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let n = g.input("asym_id")?.dim(1)?;
            let features = Af3Features {
                residue_index: whole(&g.input("residue_index")?)?,
                asym_id: whole(&g.input("asym_id")?)?,
                entity_id: whole(&g.input("entity_id")?)?,
                sym_id: whole(&g.input("sym_id")?)?,
                token_index: whole(&g.input("token_index")?)?,
                cyclic_mask: host(&g.input("cyclic_mask")?)?.iter().map(|&m| m != 0.).collect(),
                ..blank(n)
            };
            let got = RelativePositions::new(&features, &c).one_hot(0..n, &Device::Cpu)?;
            g.check("x", &got)?;
            ensure!(host(&got)? == host(&g.output("x")?)?, "{name}: ones and zeros must be the same");
        }
        Ok(())
    })
}

#[test]
fn relpos() -> Result<()> {
    relative_positions("relpos")
}

#[test]
fn relpos_cyclic() -> Result<()> {
    relative_positions("relpos_cyclic")
}

// Diffusion over tokens.

#[test]
fn ada_layer_norm() -> Result<()> {
    with("ada_layer_norm", |g, c, w| {
        let layer = AdaNorm::load(c.c_token, c.c_s, &w.at(TOKEN).at("attention_pair_bias.ada_norm"))?;
        g.check("x", &layer.forward(&g.input("a")?, &g.input("s")?)?)
    })
}

// The official transition multiplies its update by the token mask. Ours takes no mask, because all tokens of a prediction
// are real: tokens that are not are left out of the comparison, here and in the blocks around it.

#[test]
fn conditioned_transition() -> Result<()> {
    with("conditioned_transition", |g, c, w| {
        let hidden = c.token_transformer.n_transition * c.c_token;
        let layer = ConditionedTransition::load(c.c_token, c.c_s, hidden, &w.at(TOKEN).at("transition"))?;
        let update = g.update("a", |a| Ok(layer.add_to(a, &g.input("s")?)?))?;
        g.check_where("x", &update, &g.input("mask")?)
    })
}

#[test]
fn diffusion_attention() -> Result<()> {
    with("diffusion_attention", |g, c, w| {
        let block = TokenBlock::load(&c, c.token_transformer, PairNorm::Shared, &w.at(TOKEN))?;
        let biases = [&mask_bias(&g.input("mask")?)?, &block.bias(&g.input("z")?)?];
        g.check("x", &g.update("a", |a| Ok(block.attend(a, &g.input("s")?, &biases)?))?)
    })
}

#[test]
fn diffusion_transformer_block() -> Result<()> {
    with("diffusion_transformer_block", |g, c, w| {
        let block = TokenBlock::load(&c, c.token_transformer, PairNorm::Shared, &w.at(TOKEN))?;
        let (a, mask) = (g.input("a")?, g.input("mask")?);
        block.update(&a, &g.input("s")?, &[&mask_bias(&mask)?, &block.bias(&g.input("z")?)?])?;
        g.check_where("x", &a, &mask)
    })
}

#[test]
fn diffusion_transformer() -> Result<()> {
    with("diffusion_transformer", |g, c, w| {
        let stack = TokenTransformer::load(&c, &w.at("diffusion.transformer"))?;
        let (a, mask) = (g.input("a")?, g.input("mask")?);
        stack.update(&a, &g.input("s")?, &stack.condition(g.input("z")?)?, &mask_bias(&mask)?)?;
        g.check_where("x", &a, &mask)
    })
}

#[test]
fn fourier_embedding() -> Result<()> {
    with("fourier_embedding", |g, c, w| {
        let layer = DiffusionConditioning::load(&c, &w.at("diffusion.conditioning"))?;
        let levels = host(&g.input("x")?)?;
        let rows = levels.iter().map(|&level| layer.fourier(level)).collect::<candle_core::Result<Vec<_>>>()?;
        g.check("x", &Tensor::cat(&rows, 1)?)
    })
}

#[test]
fn diffusion_conditioning() -> Result<()> {
    with("diffusion_conditioning", |g, c, w| {
        let layer = DiffusionConditioning::load(&c, &w.at("diffusion.conditioning"))?;
        for k in 0..N_SAMPLE {
            let g = g.sample(k);
            let batch = Batch::new(&batch_70(k)?, &c, WindowEnds::Shifted, &Device::Cpu)?;
            let t = host(&g.input("t")?)?[0];
            g.check("z", &layer.pair(&batch, &g.input("z_trunk")?)?)?;
            let single = layer.single(&g.input("s_trunk")?, &g.input("s_input")?)?;
            g.check("s", &layer.at_level(&batch, &single, t)?)?;
        }
        Ok(())
    })
}

fn schedule(name: &str, n_step: usize) -> Result<()> {
    with(name, |g, c, _| {
        let levels = noise_schedule(&c.sampling, n_step);
        g.check("sigma", &Tensor::new(levels.as_slice(), &Device::Cpu)?)?;
        // Each level of its own size, too: the last ones are a ten-millionth of the first.
        for (i, (got, want)) in levels.iter().zip(host(&g.output("sigma")?)?).enumerate() {
            ensure!((got - want).abs() <= LIMIT * want, "{name}: level {i} is {got}, not {want}");
        }
        Ok(())
    })
}

#[test]
fn noise_schedule_20() -> Result<()> {
    schedule("noise_schedule_20", 20)
}

#[test]
fn noise_schedule_200() -> Result<()> {
    schedule("noise_schedule_200", 200)
}

/// Recorded draws, given out in their order.
struct Tape(std::collections::VecDeque<Vec<f32>>);

impl NoiseSource for Tape {
    fn randn(&mut self, n: usize) -> Vec<f32> {
        let draw = self.0.pop_front().expect("the tape has another draw");
        assert_eq!(draw.len(), n, "values of a recorded draw");
        draw
    }

    fn randint(&mut self, _: u32, _: u32) -> u32 {
        panic!("no integer is recorded")
    }

    fn randperm(&mut self, _: usize) -> Vec<usize> {
        panic!("no permutation is recorded")
    }
}

#[test]
fn centre_random_augmentation() -> Result<()> {
    with("centre_random_augmentation", |g, _, _| {
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let (x, mask) = (g.input("x")?, host(&g.input("atom_mask")?)?);
            let (_, n_structure, ..) = x.dims4()?;
            let mut tape = Tape([host(&g.input("quaternion")?)?, host(&g.input("shift")?)?].into());
            let mut turned = host(&x)?;
            augment(&mut turned, n_structure, &mask, &mut tape);
            ensure!(tape.0.is_empty(), "{} draws are left on the tape", tape.0.len());
            g.check("x", &Tensor::from_vec(turned, x.dims(), &Device::Cpu)?)?;
        }
        Ok(())
    })
}

// Confidence.

fn confidence_head(c: &Config, w: &fold::weights::Weights) -> Result<ConfidenceHead> {
    Ok(ConfidenceHead::load(c, ENDING_BIAS, &w.at("confidence"))?)
}

#[test]
fn head_distogram() -> Result<()> {
    with("head_distogram", |g, c, w| {
        let head = DistogramHead::load(&c, &w.at("distogram"))?;
        let z = g.input("z")?;
        g.check("x", &head.forward(&z, 0..z.dim(1)?)?)
    })
}

/// The four heads of the confidence module, on the same `s` and `z`.
#[test]
fn confidence_heads() -> Result<()> {
    let (golden, (c, w)) = (golden()?, tiny()?);
    let head = confidence_head(&c, &w)?;
    let [pae, pde, plddt, resolved] = ["head_pae", "head_pde", "head_plddt", "head_experimentally_resolved"];
    for k in 0..N_SAMPLE {
        let layer = |name| Layer::new(&golden, name).sample(k);
        let features = batch_70(k)?;
        let slots = host(&layer(plddt).input("slot_mask")?)?;
        let taken: Vec<usize> =
            slots.chunks_exact(c.heads.max_atoms_per_token).map(|s| s.iter().sum::<f32>() as usize).collect();
        ensure!(taken == features.num_atoms_per_token, "slot_mask is of other atoms than batch_70");
        let batch = Batch::new(&features, &c, WindowEnds::Shifted, &Device::Cpu)?;
        let logits = head.atom_logits(&batch, layer(plddt).input("s")?)?;
        let pairs = head.pair_logits(&layer(pae).input("z")?, 0..batch.n_token)?;
        layer(pae).check("x", &pairs.pae)?;
        layer(pde).check("x", &pairs.pde)?;
        layer(plddt).check("x", &logits.plddt)?;
        layer(resolved).check("x", &logits.resolved)?;
    }
    Ok(())
}

fn positions(x: &Tensor) -> Result<Vec<[f32; 3]>> {
    Ok(host(x)?.as_chunks::<3>().0.to_vec())
}

#[test]
fn confidence_embed_z() -> Result<()> {
    with("confidence_embed_z", |g, c, w| {
        let head = confidence_head(&c, w)?;
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let z = g.input("z")?.force_contiguous()?;
            head.embed(&g.input("s_input")?, &z, &positions(&g.input("x_pred")?)?)?;
            g.check("z", &z)?;
        }
        Ok(())
    })
}

#[test]
fn confidence_embedding() -> Result<()> {
    with("confidence_embedding", |g, c, w| {
        let head = confidence_head(&c, w)?;
        for g in (0..N_SAMPLE).map(|k| g.sample(k)) {
            let token_mask = host(&g.input("single_mask")?)?;
            let features = Af3Features { token_mask: token_mask.clone(), ..blank(token_mask.len()) };
            let batch = Batch::new(&features, &c, WindowEnds::Shifted, &Device::Cpu)?;
            let z = g.input("z")?.force_contiguous()?;
            head.embed(&g.input("s_input")?, &z, &positions(&g.input("x_pred")?)?)?;
            let s = g.input("s")?;
            head.refine(&batch, &s, &z)?;
            g.check("s", &s)?;
            g.check("z", &z)?;
        }
        Ok(())
    })
}
