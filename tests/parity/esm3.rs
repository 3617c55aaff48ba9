//! fixtures/esm3: every layer, block and head of a small trunk, structure encoder, structure decoder and function decoder, as the
//! official modules have them from the same inputs; tokens of every track exactly.
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use fold::features::esm3::function::{Annotation, Site, function_tokens, residue_tokens};
use fold::features::esm3::sequence;
use fold::features::esm3::vocabulary::Vocabulary;
use fold::features::esm3::{Track, structure_id};
use fold::models::esm3::config::Config;
use fold::models::esm3::frames::{Frames, normalised};
use fold::models::esm3::function_decoder::FunctionDecoder;
use fold::models::esm3::structure_decoder::{StructureDecoder, oxygens};
use fold::models::esm3::structure_encoder::{StructureEncoder, neighbours};
use fold::models::esm3::tracks::Batch;
use fold::models::esm3::transformer::{Pass, UpdateScale};
use fold::models::esm3::trunk::Trunk;
use fold::ops::{Rope, same_sequence_bias};
use fold::weights::Weights;
use serde_json::Value;
use weights_convert::{ESM3, Options, convert, convert_esm3_data, esm3_files};

use crate::common::{Golden, assert_close, fixture};

/// Of the largest value of each tensor.
const LIMIT: f32 = 1e-5;
const TRACKS: [(Track, &str); 6] = [
    (Track::Sequence, "sequence_logits"),
    (Track::Structure, "structure_logits"),
    (Track::SecondaryStructure, "secondary_structure_logits"),
    (Track::Sasa, "sasa_logits"),
    (Track::Function, "function_logits"),
    (Track::ResidueAnnotations, "residue_logits"),
];

/// Converted checkpoints.
pub struct Case {
    fixtures: PathBuf,
    folder: tempfile::TempDir,
}

impl Case {
    /// The small models of fixtures/esm3.
    pub fn small() -> Result<Self> {
        let config: Value = serde_json::from_slice(&std::fs::read(fixture("esm3/small_config.json"))?)?;
        let part = |i: usize| config.as_object().and_then(|c| c.values().nth(i)?.as_object().cloned());
        Self::new(fixture("esm3"), part)
    }

    /// The full-size models made by fixtures/esm3/regen.py, in the folder FOLD_FULL_SIZE_ESM3.
    pub fn full() -> Result<Self> {
        let folder =
            std::env::var_os("FOLD_FULL_SIZE_ESM3").context("FOLD_FULL_SIZE_ESM3: see fixtures/esm3/README.md")?;
        Self::new(folder.into(), |_| None)
    }

    fn new(fixtures: PathBuf, config: impl Fn(usize) -> Option<serde_json::Map<String, Value>>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for (i, file) in esm3_files(&fixtures).into_iter().enumerate() {
            let file = file.with_context(|| format!("{}: checkpoint {i} is missing", fixtures.display()))?;
            // The checkpoints are bfloat16: nothing is rounded.
            let (model, dtype) = (weights_convert::Model::Esm3, weights_convert::Dtype::BF16);
            let options = Options { model, dtype, config: config(i), ..Default::default() };
            let report = convert(&file, &folder.path().join(i.to_string()), options)?;
            ensure!(report.release.model == ESM3[i].model, "{}: taken for {}", file.display(), report.release.model);
        }
        let missing = convert_esm3_data(&[&fixtures], &folder.path().join("data"))?;
        ensure!(missing.is_empty(), "{missing:?} not found");
        Ok(Self { fixtures, folder })
    }

    fn weights(&self, part: usize) -> Result<Weights> {
        Ok(Weights::open(&self.folder.path().join(part.to_string()), &Device::Cpu)?)
    }

    pub fn trunk(&self) -> Result<Trunk> {
        let w = self.weights(0)?;
        Ok(Trunk::load(&w.config()?, &w)?)
    }

    pub fn structure_encoder(&self) -> Result<StructureEncoder> {
        let w = self.weights(1)?;
        Ok(StructureEncoder::load(&w.config()?, &w)?)
    }

    fn structure_decoder(&self) -> Result<StructureDecoder> {
        let w = self.weights(2)?;
        Ok(StructureDecoder::load(&w.config()?, &w)?)
    }

    fn function_decoder(&self) -> Result<FunctionDecoder> {
        let w = self.weights(3)?;
        Ok(FunctionDecoder::load(&w.config()?, &w)?)
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        Ok(Vocabulary::read(&self.folder.path().join("data"))?)
    }

    pub fn golden(&self, name: &str) -> Result<Golden> {
        Golden::open(self.fixtures.join(name))
    }

    pub fn json(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.fixtures.join(name))?)?)
    }
}

pub fn host(g: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(g.get(name)?.flatten_all()?.to_vec1()?)
}

pub fn whole<T: TryFrom<i64>>(g: &Golden, name: &str) -> Result<Vec<T>> {
    host(g, name)?.iter().map(|&v| T::try_from(v as i64).ok().with_context(|| format!("{name}: {v}"))).collect()
}

pub fn backbones(values: &[f32]) -> Vec<[[f32; 3]; 3]> {
    values.as_chunks::<3>().0.as_chunks::<3>().0.to_vec()
}

/// The inputs of a recorded forward pass; what is not given has the official defaults.
fn batch(g: &Golden) -> Result<Batch> {
    let given = |name: &str| g.has(&format!("in/{name}"));
    let ids = |name: &str| whole::<i64>(g, &format!("in/{name}"));
    let first = if given("sequence_tokens") { "in/sequence_tokens" } else { "in/structure_tokens" };
    let (b, n) = g.get(first)?.dims2()?;
    let mut batch = Batch::masked(b, n);
    let small = |name: &str| Ok::<_, anyhow::Error>(ids(name)?.into_iter().map(|id| id as u16).collect::<Vec<_>>());
    if given("sequence_tokens") {
        batch.sequence = small("sequence_tokens")?;
    }
    if given("structure_tokens") {
        let token = |id: i64| if id == -1 { structure_id::MASK } else { id as u16 };
        batch.structure = ids("structure_tokens")?.into_iter().map(token).collect();
    }
    if given("ss8_tokens") {
        batch.secondary_structure = small("ss8_tokens")?;
        batch.sasa = small("sasa_tokens")?;
        batch.function = small("function_tokens")?.as_chunks().0.to_vec();
        batch.residue_annotations = small("residue_annotation_tokens")?.as_chunks().0.to_vec();
        batch.average_plddt = host(g, "in/average_plddt")?;
        batch.plddt = host(g, "in/per_res_plddt")?;
        batch.backbone = backbones(&host(g, "in/structure_coords")?);
    }
    if given("sequence_id") {
        batch.sequence_id = Some(ids("sequence_id")?);
        batch.chain_id = ids("chain_id")?;
    }
    Ok(batch)
}

/// Embedding, every block, embeddings and every recorded head.
fn forward(case: &Case, model: &Trunk, name: &str) -> Result<()> {
    let g = case.golden(&format!("forward_{name}.safetensors"))?;
    let x = model.forward_with(&batch(&g)?, &mut |i, x| {
        let key = if i == 0 { "hidden/encoder".to_owned() } else { format!("hidden/block{}", i - 1) };
        let want = g.get(&key).map_err(candle_core::Error::msg)?;
        // Sums with one value for the whole batch are recorded for one row.
        assert_close(&format!("{name} {key}"), x, &want, LIMIT).map_err(candle_core::Error::msg)
    })?;
    assert_close(&format!("{name} embeddings"), &x, &g.get("out/embeddings")?, LIMIT)?;
    assert_close(&format!("{name} norm"), &model.norm.forward(&x)?, &g.get("hidden/norm")?, LIMIT)?;
    for (track, key) in TRACKS {
        if g.has(&format!("out/{key}")) {
            assert_close(&format!("{name} {key}"), &model.logits(&x, track)?, &g.get(&format!("out/{key}"))?, LIMIT)?;
        }
    }
    Ok(())
}

#[test]
fn forward_of_all_tracks() -> Result<()> {
    let case = Case::small()?;
    let model = case.trunk()?;
    ["all", "packed", "sequence", "structure"].iter().try_for_each(|name| forward(&case, &model, name))
}

/// Each layer of the first block from what the official one was given; updates before they are scaled.
#[test]
fn layers_of_the_first_block() -> Result<()> {
    let case = Case::small()?;
    let model = case.trunk()?;
    for name in ["all", "packed"] {
        let g = case.golden(&format!("forward_{name}.safetensors"))?;
        let (batch, block) = (batch(&g)?, &model.blocks[0]);
        let get = |key: &str| anyhow::Ok(g.get(&format!("hidden/{key}"))?.force_contiguous()?);
        let x = get("encoder")?;
        let (b, n, c) = x.dims3()?;
        let rope = Rope::new(n, c / model.config.n_head, &Device::Cpu)?;
        let ids = batch.sequence_id.as_ref().map(|ids| Tensor::from_slice(ids, (b, n), &Device::Cpu)).transpose()?;
        let bias = ids.map(|ids| same_sequence_bias(&ids)).transpose()?;
        let update = block.attention.forward(&x, &rope, bias.as_ref())?;
        assert_close(&format!("{name} attention"), &update, &get("block0/attn")?, LIMIT)?;
        let scale = (36. / model.config.n_block as f64).sqrt();
        let x = (x + (get("block0/attn")? * scale)?)?;
        let update = model.geometric_update(&x, &batch)?.context("there are frames")?;
        assert_close(&format!("{name} geometric attention"), &update, &get("block0/geom_attn")?, LIMIT)?;
        let x = (x + (get("block0/geom_attn")? * scale)?)?;
        let (before, one) = (x.copy()?, UpdateScale::new(1., &x)?);
        block.transit(&x, &Pass { rope: &rope, bias: None, scale: &one })?;
        assert_close(&format!("{name} transition"), &(x - before)?, &get("block0/ffn")?, LIMIT)?;
    }
    Ok(())
}

/// Each protein gives beside others, to the bit, what it gives alone, whatever their order: in the official code padding is seen.
#[test]
fn proteins_in_a_batch_do_not_see_each_other() -> Result<()> {
    use fold::features::esm3::{Coordinates, Tokens};
    let case = Case::small()?;
    let model = case.trunk()?;
    let protein = |text: &str| Tokens { sequence: Some(sequence::sequence(text)), ..Tokens::default() };
    let mut folded = protein("MKTAYIAKQRQISFVK");
    let place = |i: usize| [0., 1., 2.].map(|x| [i as f32 * 3. + x, (i * i % 7) as f32 - x, (i % 5) as f32 + 0.5 * x]);
    let n = folded.n_token()?;
    let backbone = (0..n).map(|i| if (4..n - 1).contains(&i) { place(i) } else { [[f32::NAN; 3]; 3] }).collect();
    folded.coordinates = Some(Coordinates { backbone, has_atom: (0..n).map(|i| (4..n - 1).contains(&i)).collect() });
    let proteins = [protein("MK_AY"), folded, protein("ACDEFGHIKLMN"), protein("MK_AW")];
    let bits = |x: &Tensor| Ok::<_, anyhow::Error>(x.flatten_all()?.to_vec1::<f32>()?);
    let alone = proteins.iter().map(|p| bits(&model.forward(&Batch::of(&[p])?)?)).collect::<Result<Vec<_>>>()?;
    for order in [[0, 1, 2, 3], [3, 0, 2, 1], [1, 2, 3, 0]] {
        let batch = Batch::of(&order.map(|i| &proteins[i]))?;
        let x = model.forward(&batch)?;
        for (i, range) in order.into_iter().zip(batch.sequences()) {
            ensure!(bits(&x.narrow(1, range.start, range.len())?)? == alone[i], "protein {i} in {order:?}");
        }
    }
    Ok(())
}

/// From coordinates as they are in a file to codes; neighbours; the vector of each code.
fn encoder(case: &Case, model: &StructureEncoder, name: &str) -> Result<()> {
    let g = case.golden("encode.safetensors")?;
    let get = |key: &str| g.get(&format!("{name}/{key}"));
    let missing = |x: f32| if x >= 1e9 { f32::NAN } else { x };
    let atoms = |key: &str| {
        let values = get(key)?.narrow(1, 0, 3)?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        anyhow::Ok(backbones(&values.into_iter().map(missing).collect::<Vec<_>>()))
    };
    let residues = normalised(&atoms("atom37")?);
    // The official tensors have one more row at each end.
    let want = atoms("normalised")?;
    for (got, want) in residues.iter().zip(&want[1..]) {
        for (got, want) in got.as_flattened().iter().zip(want.as_flattened()) {
            ensure!((got - want).abs() < 1e-4 || (got.is_nan() && want.is_nan()), "{name}: {got}, expected {want} Å");
        }
    }
    let frames = Frames::new(&residues);
    let edges: Vec<usize> = whole(&g, &format!("{name}/edges"))?;
    let found = neighbours(&residues, &frames.has_frame);
    for (i, (got, want)) in found.iter().zip(edges.chunks(found[0].len())).enumerate() {
        // Residues without a frame are equally far on both sides, and nobody attends to them.
        let framed = |order: &[usize]| order.iter().copied().filter(|j| frames.has_frame[*j]).collect::<Vec<_>>();
        ensure!(framed(got) == framed(want) || !frames.has_frame[i], "{name}: neighbours of {i}: {got:?}, {want:?}");
    }
    let index: Vec<i64> = (1..=residues.len() as i64).collect();
    let encoded = model.forward(&residues, &index)?;
    assert_close(&format!("{name} vectors"), &encoded.codes, &get("pre_vq")?, LIMIT)?;
    let want: Vec<u16> = whole(&g, &format!("{name}/tokens"))?;
    ensure!(encoded.tokens == want[1..want.len() - 1], "{name}: {:?}, expected {want:?}", encoded.tokens);
    Ok(())
}

#[test]
fn structures_are_encoded() -> Result<()> {
    let case = Case::small()?;
    let model = case.structure_encoder()?;
    ["whole", "short", "sparse"].iter().try_for_each(|name| encoder(&case, &model, name))
}

fn decoder(case: &Case, model: &StructureDecoder, name: &str, position_limit: f32) -> Result<()> {
    let g = case.golden("decode.safetensors")?;
    let get = |key: &str| g.get(&format!("{name}/{key}"));
    let tokens: Vec<u16> = whole(&g, &format!("{name}/tokens"))?;
    let x = model.trunk(&tokens, &mut |i, x| {
        let want = get(&format!("block{i}")).map_err(candle_core::Error::msg)?;
        assert_close(&format!("{name} block {i}"), x, &want, LIMIT).map_err(candle_core::Error::msg)
    })?;
    assert_close(&format!("{name} norm"), &x, &get("norm")?, LIMIT)?;
    let decoded = model.forward(&tokens)?;
    let on_host = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
    let positions = on_host(decoded.backbone.as_flattened().as_flattened())?;
    let want = get("bb_pred")?;
    let far = (positions.reshape(want.dims())? - &want)?.abs()?.max_all()?.to_scalar::<f32>()?;
    println!("{name} coordinates: {far:.1e} Å");
    ensure!(far <= position_limit, "{name}: coordinates differ by {far} Å");
    assert_close(&format!("{name} plddt"), &on_host(&decoded.plddt)?, &get("plddt")?, LIMIT)?;
    assert_close(&format!("{name} pae"), &on_host(&decoded.pae)?, &get("predicted_aligned_error")?, LIMIT)?;
    assert_close(&format!("{name} ptm"), &on_host(&[decoded.ptm])?, &get("ptm")?, LIMIT)?;
    if g.has(&format!("{name}/atom37")) {
        let atoms = get("atom37")?;
        let chain = &decoded.backbone[1..tokens.len() - 1];
        let oxygen = oxygens(chain);
        let want = atoms.narrow(1, 4, 1)?.narrow(0, 0, chain.len() - 1)?.contiguous()?;
        let got = on_host(oxygen.as_flattened())?.reshape(want.dims())?;
        let far = (got - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
        ensure!(far <= position_limit, "{name}: oxygens differ by {far} Å");
    }
    Ok(())
}

#[test]
fn structures_are_decoded() -> Result<()> {
    let case = Case::small()?;
    let model = case.structure_decoder()?;
    ["plain", "marked"].iter().try_for_each(|name| decoder(&case, &model, name, 1e-3))
}

fn functions(case: &Case, model: &FunctionDecoder) -> Result<()> {
    let g = case.golden("function_decoder.safetensors")?;
    let tokens: Vec<[u16; 8]> = whole::<u16>(&g, "tokens")?.as_chunks().0.to_vec();
    let rows: Vec<usize> = whole(&g, "rows")?;
    let logits = model.forward(&rows.iter().map(|row| tokens[*row]).collect::<Vec<_>>())?;
    assert_close("interpro", &logits.interpro, &g.get("interpro_logits")?, LIMIT)?;
    let want = g.get("keyword_logits")?;
    for (i, row) in rows.iter().enumerate() {
        // The official decoder hides keywords of residues without a function.
        if !tokens[*row].iter().any(|token| [0, 2, 3].contains(token)) {
            assert_close("keywords", &logits.keyword.get(i)?, &want.get(i)?, LIMIT)?;
        }
    }
    let found = model.annotations(&tokens, &case.vocabulary()?)?;
    let want = case.json("function_decoder.json")?;
    let want: Vec<Annotation> = want["annotations"].as_array().context("a list")?.iter().map(annotation).collect();
    ensure!(found == want, "{found:?}, expected {want:?}");
    Ok(())
}

#[test]
fn functions_are_decoded() -> Result<()> {
    let case = Case::small()?;
    functions(&case, &case.function_decoder()?)
}

fn annotation(row: &Value) -> Annotation {
    let number = |i: usize| row[i].as_u64().unwrap_or_default() as usize;
    Annotation { label: row[0].as_str().unwrap_or_default().to_owned(), start: number(1), end: number(2) }
}

fn ids(value: &Value) -> Vec<u16> {
    value.as_array().into_iter().flatten().filter_map(|id| Some(id.as_u64()? as u16)).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[test]
fn tokens_of_sequences_structures_and_surfaces() -> Result<()> {
    let g = Case::small()?.json("tokens.json")?;
    let pairs = |key: &str| g[key].as_array().cloned().unwrap_or_default();
    ensure!(pairs("sequence").len() == 10 && pairs("ss8").len() == 3);
    for (row, decoded) in pairs("sequence").iter().zip(strings(&g["sequence_decoded"])) {
        let text = row[0].as_str().context("a text")?;
        assert_eq!(sequence::sequence(text), ids(&row[1]), "{text}");
        assert_eq!(sequence::sequence_text(&ids(&row[1])), decoded, "{text}");
    }
    for (row, decoded) in pairs("ss8").iter().zip(strings(&g["ss8_decoded"])) {
        let text = row[0].as_str().context("a text")?;
        assert_eq!(sequence::secondary_structure(text), Ok(ids(&row[1])), "{text}");
        // A class that is not known is "<pad>" in the official text.
        assert_eq!(sequence::secondary_structure_text(&ids(&row[1])), decoded.replace("<pad>", "_"), "{text}");
    }
    let numbers = |value: &Value| -> Vec<Option<f32>> {
        value.as_array().into_iter().flatten().map(|v| v.as_f64().map(|v| v as f32)).collect()
    };
    let row = &g["sasa"];
    assert_eq!(sequence::sasa(&numbers(&row[0])), ids(&row[1]));
    assert_eq!(sequence::sasa_values(&ids(&row[1])), numbers(&row[2]));
    Ok(())
}

#[test]
fn tokens_of_functions_and_sites() -> Result<()> {
    let case = Case::small()?;
    let (g, vocabulary) = (case.json("tokens.json")?, case.vocabulary()?);
    let sequence = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ";
    let cases = g["functions"].as_array().context("a list")?;
    ensure!(cases.len() == 5);
    for case in cases {
        let annotations: Vec<Annotation> = case[1].as_array().into_iter().flatten().map(annotation).collect();
        let got = function_tokens(&annotations, sequence.len(), &vocabulary)?;
        let want: Vec<Vec<u16>> = case[2].as_array().into_iter().flatten().map(ids).collect();
        assert_eq!(got.iter().map(|row| row.to_vec()).collect::<Vec<_>>(), want, "{}", case[0]);
    }
    let unknown = [Annotation { label: "no such thing".into(), start: 1, end: 2 }];
    assert!(
        function_tokens(&unknown, 5, &vocabulary).unwrap_err().to_string().contains("\"no such thing\" is no keyword")
    );
    let outside = [Annotation { label: "x".into(), start: 3, end: 6 }];
    assert!(function_tokens(&outside, 5, &vocabulary).unwrap_err().to_string().contains("the protein has 5"));

    assert_eq!(vocabulary.residue_labels, strings(&g["residue_vocabulary"])[4..]);
    let sample = &g["residues"][0];
    let (descriptions, residues) =
        (strings(&sample["interpro_site_descriptions"]), strings(&sample["interpro_site_residues"]));
    let (starts, ends) = (ids(&sample["interpro_site_starts"]), ids(&sample["interpro_site_ends"]));
    let site = |i: usize| Site {
        description: descriptions[i].clone(),
        start: starts[i].into(),
        end: ends[i].into(),
        residues: residues[i].clone(),
    };
    let mut sites: Vec<Site> = (0..descriptions.len()).map(site).collect();
    let got = residue_tokens(&sites, sequence, &vocabulary);
    for (got, want) in got.iter().zip(g["residues"][1].as_array().context("a list")?) {
        let sorted = |mut ids: Vec<u16>| {
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(got.to_vec()), sorted(ids(want)));
    }
    sites[0].residues = "KTT".into();
    assert!(residue_tokens(&sites, sequence, &vocabulary).iter().flatten().all(|id| *id == 0));
    Ok(())
}

#[test]
fn small_sizes_are_read() -> Result<()> {
    let config: Config = serde_json::from_slice(&std::fs::read(fixture("esm3/small_config.json"))?)?;
    assert_eq!(config.trunk, Case::small()?.trunk()?.config);
    Ok(())
}

/// How far the models of the released sizes are from the official ones.
#[test]
#[ignore = "needs the full-size checkpoints"]
fn full_size_esm3() -> Result<()> {
    let case = Case::full()?;
    {
        let model = case.trunk()?;
        ["all", "packed", "sequence", "structure"].iter().try_for_each(|name| forward(&case, &model, name))?;
    }
    ["whole", "short", "sparse"].iter().try_for_each(|name| encoder(&case, &case.structure_encoder()?, name))?;
    let model = case.structure_decoder()?;
    ["plain", "marked"].iter().try_for_each(|name| decoder(&case, &model, name, 1e-2))?;
    functions(&case, &case.function_decoder()?)
}
