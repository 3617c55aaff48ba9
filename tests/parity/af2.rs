//! fixtures/af2: every layer, block, iteration and head of a small monomer and a small multimer model, as the official network has
//! them from the same inputs. Each is given the official inputs of its stage; `whole` runs from features to heads.
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor};
use fold::features::af2::{Af2Features, ExtraMsa, Msa, Template};
use fold::geometry::{Rigid, rotation_of_quaternion};
use fold::models::af2::config::Config;
use fold::models::af2::dropout::Dropout;
use fold::models::af2::evoformer::{Block, ColumnAttention, Masks, PairBlock};
use fold::models::af2::heads::{Folded, Heads, Trunk};
use fold::models::af2::monomer::Monomer;
use fold::models::af2::multimer::Multimer;
use fold::models::af2::recycle::Recycled;
use fold::models::af2::structure::Iteration;
use fold::score::af2::{Af2Confidence, Ranking, change};
use fold::weights::Weights;

use crate::common::{Golden, assert_close, fixture};

/// Of the largest value of each tensor.
const LIMIT: f32 = 1e-5;
pub const MONOMER: &str = "model_1_ptm";
pub const MULTIMER: &str = "model_1_multimer_v3";

/// How far the package's own float32 is from its float64, by stack or quantity, after each block or iteration.
type Distances = HashMap<String, Vec<f32>>;

/// A parameter set with what the official network makes of it.
pub struct Case {
    pub config: Config,
    pub weights: Weights,
    pub golden: Golden,
    second: Golden,
    distances: Distances,
    /// Å.
    position_limit: f32,
    _folder: tempfile::TempDir,
}

impl Case {
    /// The small model of fixtures/af2.
    pub fn small(model: &str) -> Result<Self> {
        let config = std::fs::read(fixture(format!("af2/{model}_config.json")))?;
        Self::new(&fixture("af2"), model, Some(serde_json::from_slice(&config)?), 1e-3)
    }

    /// The full-size model made by fixtures/af2/regen.py, in the folder FOLD_FULL_SIZE_AF2.
    fn full(model: &str) -> Result<Self> {
        let folder =
            std::env::var_os("FOLD_FULL_SIZE_AF2").context("FOLD_FULL_SIZE_AF2: see fixtures/af2/README.md")?;
        Self::new(Path::new(&folder), model, None, 1e-2)
    }

    fn new(
        folder: &Path,
        model: &str,
        config: Option<serde_json::Map<String, serde_json::Value>>,
        position_limit: f32,
    ) -> Result<Self> {
        let made = tempfile::tempdir()?;
        let target = made.path().join("weights.safetensors");
        let options =
            weights_convert::Options { model: weights_convert::Model::AlphaFold2, config, ..Default::default() };
        weights_convert::convert(&folder.join(format!("params_{model}.npz")), &target, options)?;
        let weights = Weights::open(&target, &Device::Cpu)?;
        Ok(Self {
            config: weights.config()?,
            weights,
            golden: Golden::open(folder.join(format!("{model}.safetensors")))?,
            second: Golden::open(folder.join(format!("{model}_second.safetensors")))?,
            distances: serde_json::from_slice(&std::fs::read(folder.join(format!("{model}_distance.json")))?)?,
            position_limit,
            _folder: made,
        })
    }

    fn monomer(&self) -> Result<Monomer> {
        Ok(Monomer::load(&self.config, &self.weights)?)
    }

    fn multimer(&self) -> Result<Multimer> {
        Ok(Multimer::load(&self.config, &self.weights)?)
    }

    /// The limit of a layer, or four times what the package's own float32 is away after block or iteration `k`.
    fn limit(&self, what: &str, k: usize) -> Result<f32> {
        let distance =
            self.distances.get(what).and_then(|d| d.get(k)).with_context(|| format!("no distance of {what}"))?;
        Ok(LIMIT.max(4. * distance))
    }

    /// The limit of what follows from the whole trunk.
    fn trunk_limit(&self) -> Result<f32> {
        self.limit("evoformer/pair", self.config.evoformer.n_block - 1)
    }
}

fn monomer() -> Result<(Case, Monomer)> {
    let case = Case::small(MONOMER)?;
    let model = case.monomer()?;
    Ok((case, model))
}

fn multimer() -> Result<(Case, Multimer)> {
    let case = Case::small(MULTIMER)?;
    let model = case.multimer()?;
    Ok((case, model))
}

/// A tensor of the file with a batch dimension in front, a copy of its own: layers write in place.
fn get(g: &Golden, name: &str) -> Result<Tensor> {
    Ok(g.get(name)?.force_contiguous()?.unsqueeze(0)?)
}

pub fn host(g: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(g.get(name)?.flatten_all()?.to_vec1()?)
}

fn whole<T: TryFrom<i64>>(g: &Golden, name: &str) -> Result<Vec<T>> {
    host(g, name)?.iter().map(|&v| T::try_from(v as i64).ok().with_context(|| format!("{name}: {v}"))).collect()
}

pub fn points(values: &[f32]) -> Vec<[f32; 3]> {
    values.as_chunks().0.to_vec()
}

fn templates(g: &Golden, masks: &str, real: &[f32]) -> Result<Vec<Template>> {
    let restype: Vec<u8> = whole(g, "features/template_aatype")?;
    let positions = points(&host(g, "features/template_all_atom_positions")?);
    let mask = host(g, masks)?;
    let n = restype.len() / real.len();
    let template = |(k, real): (usize, &f32)| Template {
        restype: restype[k * n..][..n].to_vec(),
        positions: positions[k * n * 37..][..n * 37].to_vec(),
        mask: mask[k * n * 37..][..n * 37].to_vec(),
        is_real: *real > 0.,
    };
    Ok(real.iter().enumerate().map(template).collect())
}

fn common_features(g: &Golden) -> Result<Af2Features> {
    Ok(Af2Features {
        restype: whole(g, "features/aatype")?,
        residue_index: whole(g, "features/residue_index")?,
        asym_id: whole(g, "features/asym_id")?,
        mask: host(g, "features/seq_mask")?,
        ..Af2Features::default()
    })
}

pub fn monomer_features(g: &Golden) -> Result<Af2Features> {
    Ok(Af2Features {
        msa: Msa { features: host(g, "features/msa_feat")?, mask: host(g, "features/msa_mask")? },
        extra_msa: ExtraMsa {
            rows: whole(g, "features/extra_msa")?,
            has_deletion: host(g, "features/extra_has_deletion")?,
            deletion_value: host(g, "features/extra_deletion_value")?,
            mask: host(g, "features/extra_msa_mask")?,
        },
        templates: templates(g, "features/template_all_atom_masks", &host(g, "features/template_mask")?)?,
        ..common_features(g)?
    })
}

pub fn multimer_features(g: &Golden) -> Result<Af2Features> {
    let (rows, extra): (Vec<u8>, Vec<u8>) = (whole(g, "features/msa")?, whole(g, "features/extra_msa")?);
    let (deletions, extra_deletions) =
        (host(g, "features/deletion_matrix")?, host(g, "features/extra_deletion_matrix")?);
    let (profile, mean) = (host(g, "features/cluster_profile")?, host(g, "features/cluster_deletion_mean")?);
    Ok(Af2Features {
        entity_id: whole(g, "features/entity_id")?,
        sym_id: whole(g, "features/sym_id")?,
        msa: Msa::new(&rows, &deletions, &profile, &mean, host(g, "features/msa_mask")?),
        extra_msa: ExtraMsa::new(extra, &extra_deletions, host(g, "features/extra_msa_mask")?),
        templates: templates(g, "features/template_all_atom_mask", &[1.; 3])?,
        ..common_features(g)?
    })
}

fn recycled(g: &Golden) -> Result<Recycled> {
    Ok(Recycled {
        msa_first_row: get(g, "features/prev_msa_first_row")?,
        pair: get(g, "features/prev_pair")?,
        positions: points(&host(g, "features/prev_pos")?),
    })
}

/// Values of residues that are not masked; `axes` dimensions of residues behind the first.
fn real(x: &Tensor, mask: &[f32], axes: usize) -> Result<Tensor> {
    let n = mask.iter().filter(|m| **m > 0.).count();
    ensure!(mask[..n].iter().all(|m| *m > 0.), "masked residues are the last");
    let mut x = x.clone();
    for axis in 1..=axes {
        x = x.narrow(axis, 0, n)?;
    }
    Ok(x.contiguous()?)
}

/// One layer after the other, each from what the official one was given.
struct Chain<'a> {
    g: &'a Golden,
    stack: &'a str,
    m: Tensor,
    z: Tensor,
}

impl Chain<'_> {
    /// Runs a layer on the MSA or the pair representation and goes on with the official result.
    fn layer(
        &mut self,
        name: &str,
        is_pair: bool,
        run: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<()>,
    ) -> Result<()> {
        let before = if is_pair { self.z.copy()? } else { self.m.copy()? };
        run(&self.m, &self.z)?;
        let want = get(self.g, &format!("layer/{}/{name}", self.stack))?;
        let got = if is_pair { &self.z } else { &self.m };
        // The update alone: a small one is not to hide behind what it is added to.
        assert_close(&format!("{} {name}", self.stack), &(got - &before)?, &(&want - &before)?, LIMIT)?;
        if is_pair {
            self.z = want
        } else {
            self.m = want
        }
        Ok(())
    }

    fn pair(&mut self, block: &PairBlock, mask: &Tensor) -> Result<()> {
        self.layer("triangle_multiplication_outgoing", true, |_, z| block.triangles.mul_out.add_to(z, mask))?;
        self.layer("triangle_multiplication_incoming", true, |_, z| block.triangles.mul_in.add_to(z, mask))?;
        self.attention(block, mask)?;
        self.layer("pair_transition", true, |_, z| block.transition.add_to(z, None))
    }

    fn attention(&mut self, block: &PairBlock, mask: &Tensor) -> Result<()> {
        self.layer("triangle_attention_starting_node", true, |_, z| block.triangles.att_start.add_to(z, mask))?;
        self.layer("triangle_attention_ending_node", true, |_, z| block.triangles.att_end.add_to(z, mask))
    }

    fn msa<C: ColumnAttention>(&mut self, block: &Block<C>, masks: &Masks) -> Result<()> {
        self.layer("row_attention", false, |m, z| block.row_attention.add_to(m, z, &masks.msa))?;
        self.layer("column_attention", false, |m, _| block.column_attention.add_to(m, &masks.msa))?;
        self.layer("msa_transition", false, |m, _| block.msa_transition.add_to(m, None))
    }

    fn product<C: ColumnAttention>(&mut self, block: &Block<C>, masks: &Masks) -> Result<()> {
        self.layer("outer_product_mean", true, |m, z| block.outer_product_mean.add_to(z, m, &masks.msa))
    }
}

fn chain<'a>(g: &'a Golden, stack: &'a str, inputs: &str) -> Result<Chain<'a>> {
    Ok(Chain { g, stack, m: get(g, &format!("{inputs}/in/msa"))?, z: get(g, &format!("{inputs}/in/pair"))? })
}

fn masks(g: &Golden, features: &Af2Features) -> Result<(Masks, Masks)> {
    let masks = Masks::new(features, &Device::Cpu)?;
    let extra = Masks::of_extra(features, &masks.pair)?;
    Ok((Masks { msa: get(g, "evoformer/in/msa_mask")?, ..masks }, extra))
}

#[test]
fn layers_of_a_monomer() -> Result<()> {
    let (Case { golden: g, .. }, model) = monomer()?;
    let (masks, extra) = masks(&g, &monomer_features(&g)?)?;
    let mut c = chain(&g, "extra_msa_stack", "extra")?;
    c.msa(&model.network.extra_msa[0], &extra)?;
    c.product(&model.network.extra_msa[0], &extra)?;
    c.pair(&model.network.extra_msa[0].pair, &extra.pair)?;
    let mut c = chain(&g, "evoformer_iteration", "evoformer")?;
    c.msa(&model.network.evoformer[0], &masks)?;
    c.product(&model.network.evoformer[0], &masks)?;
    c.pair(&model.network.evoformer[0].pair, &masks.pair)
}

#[test]
fn layers_of_a_multimer() -> Result<()> {
    let (Case { golden: g, .. }, model) = multimer()?;
    let (masks, extra) = masks(&g, &multimer_features(&g)?)?;
    let mut c = chain(&g, "extra_msa_stack", "extra")?;
    c.product(&model.network.extra_msa[0], &extra)?;
    c.msa(&model.network.extra_msa[0], &extra)?;
    c.pair(&model.network.extra_msa[0].pair, &extra.pair)?;
    let mut c = chain(&g, "evoformer_iteration", "evoformer")?;
    c.product(&model.network.evoformer[0], &masks)?;
    c.msa(&model.network.evoformer[0], &masks)?;
    c.pair(&model.network.evoformer[0].pair, &masks.pair)
}

/// Every block of a stack, one after the other from the stack's input.
fn blocks<C: ColumnAttention>(
    case: &Case,
    name: &str,
    stack: &[Block<C>],
    update: impl Fn(&Block<C>, &Tensor, &Tensor) -> candle_core::Result<()>,
) -> Result<()> {
    let g = &case.golden;
    let mask = host(g, "features/seq_mask")?;
    let (m, z) = (get(g, &format!("{name}/in/msa"))?, get(g, &format!("{name}/in/pair"))?);
    let (want_m, want_z) = (g.get(&format!("{name}/block/msa"))?, g.get(&format!("{name}/block/pair"))?);
    ensure!(want_m.dim(0)? == stack.len(), "{} blocks recorded", want_m.dim(0)?);
    for (i, block) in stack.iter().enumerate() {
        update(block, &m, &z)?;
        let of_msa = |x: &Tensor| real(&x.transpose(1, 2)?.contiguous()?, &mask, 1);
        let check = |what: &str, got: Tensor, want: Tensor| {
            let (name, limit) = (format!("{name}/{what}"), case.limit(&format!("{name}/{what}"), i)?);
            assert_close(&format!("{name} after block {i}"), &got, &want, limit)
        };
        check("msa", of_msa(&m)?, of_msa(&want_m.get(i)?.unsqueeze(0)?)?)?;
        check("pair", real(&z, &mask, 2)?, real(&want_z.get(i)?.unsqueeze(0)?, &mask, 2)?)?;
    }
    Ok(())
}

fn monomer_stacks(case: &Case, model: &Monomer) -> Result<()> {
    let (of_all, of_extra) = masks(&case.golden, &monomer_features(&case.golden)?)?;
    blocks(case, "extra", &model.network.extra_msa, |block, m, z| block.update(m, z, &of_extra, &Dropout::default()))?;
    blocks(case, "evoformer", &model.network.evoformer, |block, m, z| block.update(m, z, &of_all, &Dropout::default()))
}

fn multimer_stacks(case: &Case, model: &Multimer) -> Result<()> {
    let (of_all, of_extra) = masks(&case.golden, &multimer_features(&case.golden)?)?;
    blocks(case, "extra", &model.network.extra_msa, |block, m, z| {
        block.update_product_first(m, z, &of_extra, &Dropout::default())
    })?;
    blocks(case, "evoformer", &model.network.evoformer, |block, m, z| {
        block.update_product_first(m, z, &of_all, &Dropout::default())
    })
}

#[test]
fn stacks() -> Result<()> {
    let (case, model) = monomer()?;
    monomer_stacks(&case, &model)?;
    let (case, model) = multimer()?;
    multimer_stacks(&case, &model)
}

#[test]
fn embedders_of_a_monomer() -> Result<()> {
    let (Case { golden: g, .. }, model) = monomer()?;
    let features = monomer_features(&g)?;
    let (m, z) = model.embed(&features, &recycled(&g)?)?;
    assert_close("pair before templates", &z, &g.get("template/query")?, LIMIT)?;
    let extra = model.network.extra_msa_embedder.forward(&features, &Device::Cpu)?;
    assert_close("extra msa", &extra, &g.get("extra/in/msa")?, LIMIT)?;

    let masks = Masks::new(&features, &Device::Cpu)?;
    let template = model.template.as_ref().context("model 1 has templates")?;
    for (k, one) in features.templates.iter().enumerate() {
        let got = template.features(one, &[], &Device::Cpu)?;
        assert_close(&format!("features of template {k}"), &got, &g.get("template/stack_in")?.get(k)?, LIMIT)?;
        let got = template.embed(one, &[], &masks.pair, &Dropout::default())?;
        assert_close(&format!("template {k}"), &got, &g.get("template/single")?.get(k)?, LIMIT)?;
    }
    let query = get(&g, "template/query")?;
    let sum = query.copy()?;
    template.add_to(&sum, &features, &masks.pair, &Dropout::default())?;
    assert_close("templates", &(sum - query)?, &g.get("template/update")?, LIMIT)?;
    let rows = template.rows(&features, &Device::Cpu)?;
    let (m, masks) = masks.with_rows(m, Some(rows))?;
    assert_close("msa with templates", &m, &g.get("evoformer/in/msa")?, LIMIT)?;
    assert_close("its mask", &masks.msa, &g.get("evoformer/in/msa_mask")?, 0.)
}

#[test]
fn embedders_of_a_multimer() -> Result<()> {
    let (Case { golden: g, .. }, model) = multimer()?;
    let features = multimer_features(&g)?;
    let (m, z) = model.embed(&features, &recycled(&g)?)?;
    assert_close("pair before templates", &z, &g.get("template/query")?, LIMIT)?;
    let extra = model.network.extra_msa_embedder.forward(&features, &Device::Cpu)?;
    assert_close("extra msa", &extra, &g.get("extra/in/msa")?, LIMIT)?;

    let masks = Masks::new(&features, &Device::Cpu)?;
    let query = get(&g, "template/query")?;
    let z_t = model.template.project(&query)?;
    let n_block = g.get("template/stack_in")?.dim(0)? / features.templates.len();
    for (k, one) in features.templates.iter().enumerate() {
        let got = (model.template.features(one, &features, &Device::Cpu)? + &z_t)?;
        assert_close(
            &format!("features of template {k}"),
            &got,
            &g.get("template/stack_in")?.get(k * n_block)?,
            LIMIT,
        )?;
        let got = model.template.embed(&z_t, one, &features, &masks.pair, &Dropout::default())?;
        assert_close(&format!("template {k}"), &got, &g.get("template/single")?.get(k)?, LIMIT)?;
    }
    let sum = query.copy()?;
    model.template.add_to(&sum, &features, &masks.pair, &Dropout::default())?;
    assert_close("templates", &(sum - &query)?, &g.get("template/update")?, LIMIT)?;
    // A slot that repeats is embedded once and counted twice.
    let mut twice = features.clone();
    twice.templates.extend([twice.templates[2].clone(), Template { is_real: true, ..twice.templates[2].clone() }]);
    let (once, all) = (query.copy()?, query.copy()?);
    model.template.add_to(&all, &twice, &masks.pair, &Dropout::default())?;
    let mut apart = twice.clone();
    apart.templates.rotate_right(2);
    apart.templates.swap(1, 2);
    model.template.add_to(&once, &apart, &masks.pair, &Dropout::default())?;
    assert_close("repeated slots", &all, &once, 1e-6)?;
    let (m, masks) = masks.with_rows(m, Some(model.template.rows(&features, &Device::Cpu)?))?;
    assert_close("msa with templates", &m, &g.get("evoformer/in/msa")?, LIMIT)?;
    assert_close("its mask", &masks.msa, &g.get("evoformer/in/msa_mask")?, 0.)
}

/// The backbone of a residue as the recording has it.
fn rotation(values: &[f32]) -> [f32; 9] {
    let rows = match values {
        [w, x, y, z, ..] if values.len() == 7 => rotation_of_quaternion([*w, *x, *y, *z].map(f64::from)),
        _ => [0, 1, 2].map(|i| [0, 1, 2].map(|j| f64::from(values[4 * i + j]))),
    };
    let mut out = [0.; 9];
    rows.as_flattened().iter().zip(&mut out).for_each(|(v, out)| *out = *v as f32);
    out
}

fn tensor(values: Vec<f32>, n: usize) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, (1, n, ()), &Device::Cpu)?)
}

fn flat(frames: impl Iterator<Item = Rigid>) -> Vec<f32> {
    let row = |f: &Rigid, i: usize| [f.rot[i][0], f.rot[i][1], f.rot[i][2], f.trans[i]];
    frames.flat_map(|f| [row(&f, 0), row(&f, 1), row(&f, 2)]).flatten().map(|v| v as f32).collect()
}

/// The structure module after each iteration, from the official trunk; masked residues attend to nothing in particular. Differences
/// grow from iteration to iteration, in the package's own float32 as here: the limit is four times what that is from its float64.
fn structure(case: &Case, heads: &Heads, features: &Af2Features) -> Result<()> {
    let (n, mask, g) = (features.n_res(), &features.mask, &case.golden);
    let mut k = 0;
    let mut watch = |step: &Iteration| {
        let check = |what: &str, got: &Tensor, want: Tensor| -> Result<()> {
            let limit = case.limit(if what == "rotation" { "frames" } else { what }, k)?;
            let n_real = mask.iter().filter(|m| **m > 0.).count();
            let part = |x: &Tensor| x.narrow(1, 0, n_real)?.contiguous();
            assert_close(&format!("iteration {k}, {what}"), &part(got)?, &part(&want)?, limit)
        };
        let of =
            |name: &str| -> Result<Tensor> { Ok(get(g, &format!("structure/{name}"))?.get(0)?.get(k)?.unsqueeze(0)?) };
        let compare = || -> Result<()> {
            check("attention", &step.attention, of("attention")?)?;
            check("act", &step.act, of("act")?)?;
            let backbone = of("backbone")?;
            let wanted = backbone.reshape((n, ()))?.to_vec2::<f32>()?;
            let got = step.backbone.iter().flat_map(|f| f.rot).flatten().map(|v| v as f32).collect();
            check("rotation", &tensor(got, n)?, tensor(wanted.iter().flat_map(|v| rotation(v)).collect(), n)?)?;
            let got = step.angles.as_flattened().as_flattened().to_vec();
            check("angles", &tensor(got, n)?, of("angles")?.reshape((1, n, ()))?)?;
            let groups = flat(step.groups.iter().flatten().copied());
            check("frames", &tensor(groups, n)?, of("frames")?.reshape((1, n, ()))?)?;
            let atoms = step.atom14.as_flattened().as_flattened().to_vec();
            check("atom14", &tensor(atoms, n)?, of("atom14")?.reshape((1, n, ()))?)
        };
        let result = compare().map_err(|e| candle_core::Error::Msg(format!("{e:#}")));
        k += 1;
        result
    };
    let (single, pair) = (get(g, "trunk/single")?, get(g, "trunk/pair")?);
    heads.structure.forward(&single, &pair, &features.restype, mask, &mut watch)?;
    ensure!(k == 8, "{k} iterations");
    Ok(())
}

#[test]
fn structure_modules() -> Result<()> {
    let (case, model) = monomer()?;
    structure(&case, &model.network.heads, &monomer_features(&case.golden)?)?;
    let (case, model) = multimer()?;
    structure(&case, &model.network.heads, &multimer_features(&case.golden)?)
}

/// All that a pass gives.
struct Outputs {
    trunk: Trunk,
    folded: Folded,
    pae: Tensor,
}

impl Outputs {
    fn new(heads: &Heads, trunk: Trunk, features: &Af2Features) -> Result<Self> {
        let pae = heads.pae(&trunk.pair)?.context("these models have a head of the aligned error")?;
        Ok(Self { folded: heads.fold(&trunk, features)?, trunk, pae })
    }

    fn recycled(&self) -> Result<Recycled> {
        Ok(Recycled::new(self.trunk.clone(), self.folded.positions.clone())?)
    }
}

fn outputs(case: &Case, heads: &Heads, p: &Outputs, g: &Golden, mask: &[f32]) -> Result<()> {
    let (n, limit) = (mask.len(), case.trunk_limit()?);
    let check = |what: &str, got: &Tensor, axes: usize| {
        let want = get(g, &format!("heads/{what}"))?;
        assert_close(what, &real(got, mask, axes)?, &real(&want, mask, axes)?, limit)
    };
    check("distogram", &heads.distogram(&p.trunk.pair)?, 2)?;
    check("pae", &p.pae, 2)?;
    check("experimentally_resolved", &heads.resolved(&p.trunk.single)?, 1)?;
    check("predicted_lddt", &p.folded.plddt, 1)?;
    let of_msa = |x: &Tensor| real(&x.transpose(1, 2)?.contiguous()?, mask, 1);
    let masked_msa = of_msa(&heads.masked_msa(&p.trunk.msa)?)?;
    assert_close("masked_msa", &masked_msa, &of_msa(&get(g, "heads/masked_msa")?)?, limit)?;
    let got = tensor(p.folded.positions.as_flattened().to_vec(), n)?;
    let want = real(&get(g, "heads/positions")?.reshape((1, n, ()))?, mask, 1)?;
    let far = (real(&got, mask, 1)? - want)?.abs()?.flatten_all()?.max(D::Minus1)?.to_scalar::<f32>()?;
    println!("positions: {far:.2e} A");
    ensure!(far <= case.position_limit, "positions differ by {far} A");
    Ok(())
}

/// Scores within 1e-3, as they are shown: pLDDT of 100, errors in Å, TM scores of 1.
fn scores(p: &Outputs, g: &Golden, features: &Af2Features, before: &[[f32; 3]]) -> Result<()> {
    let host = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
    let got = Af2Confidence::new(&host(&p.folded.plddt)?, Some(&host(&p.pae)?), &features.asym_id, &features.mask);
    let errors = got.errors.as_ref().context("these models have a head of the aligned error")?;
    let by = if features.sym_id.is_empty() { Ranking::Plddt } else { Ranking::Interface };
    let ranking = got.ranking(by).context("and can be ranked by it")?;
    let moved = change(before, &p.folded.positions, &features.mask);
    let n_real = features.mask.iter().filter(|m| **m > 0.).count();
    for (what, got, n) in [
        ("plddt", &got.plddt[..n_real], n_real),
        ("mean_plddt", &[got.mean_plddt], 1),
        ("ptm", &[errors.ptm], 1),
        ("iptm", &[errors.iptm], 1),
        ("ranking_confidence", &[ranking], 1),
        ("tol", &[moved], 1),
        ("pae", &errors.pae, errors.pae.len()),
    ] {
        let want = &g.get(&format!("score/{what}"))?.flatten_all()?.to_vec1::<f32>()?[..n];
        let n_res = features.n_res();
        let is_real = |k: usize| what != "pae" || (k / n_res < n_real && k % n_res < n_real);
        let far = got.iter().zip(want).enumerate().filter(|(k, _)| is_real(*k)).map(|(_, (a, b))| (a - b).abs());
        let far = far.fold(0., f32::max);
        println!("{what}: {far:.2e}");
        ensure!(far <= 1e-3, "{what} differs by {far}");
    }
    Ok(())
}

/// From features to heads, and once more from what that pass hands on.
fn passes(
    case: &Case,
    features: &Af2Features,
    trunk: impl Fn(Recycled) -> candle_core::Result<Trunk>,
    heads: &Heads,
) -> Result<()> {
    let (g, limit) = (&case.golden, case.trunk_limit()?);
    let before = recycled(g)?;
    let made = trunk(before.clone())?;
    let check = |name: &str, got: &Tensor, axes: usize| {
        let want = get(g, &format!("trunk/{name}"))?;
        assert_close(name, &real(got, &features.mask, axes)?, &real(&want, &features.mask, axes)?, limit)
    };
    check("single", &made.single, 1)?;
    check("pair", &made.pair, 2)?;
    let first = Outputs::new(heads, made, features)?;
    outputs(case, heads, &first, g, &features.mask)?;
    scores(&first, g, features, &before.positions)?;
    let second = Outputs::new(heads, trunk(first.recycled()?)?, features)?;
    outputs(case, heads, &second, &case.second, &features.mask)?;
    scores(&second, &case.second, features, &first.folded.positions)
}

#[test]
fn whole_monomer() -> Result<()> {
    let (case, model) = monomer()?;
    let features = monomer_features(&case.golden)?;
    passes(
        &case,
        &features,
        |before| model.trunk(&features, before, &Dropout::default(), &mut |_| ()),
        &model.network.heads,
    )
}

#[test]
fn whole_multimer() -> Result<()> {
    let (case, model) = multimer()?;
    let features = multimer_features(&case.golden)?;
    passes(
        &case,
        &features,
        |before| model.trunk(&features, before, &Dropout::default(), &mut |_| ()),
        &model.network.heads,
    )
}

/// The trunk of the first pass, with the updates lost that `fixtures/af2/record.py` lets the official layers lose.
#[test]
fn dropout_takes_what_the_official_layers_lose() -> Result<()> {
    let pattern = || Dropout::from_fn(|_, i, rate| i64::from(i) * 7 % 20 >= (20. * rate).round() as i64);
    let check = |name: &str, trunk: &Trunk, features: &Af2Features| -> Result<()> {
        let golden = Golden::open(format!("af2/{name}_dropout.safetensors"))?;
        for (part, got, axes) in [("single", &trunk.single, 1), ("pair", &trunk.pair, 2)] {
            let want = get(&golden, &format!("trunk/{part}"))?;
            let (got, want) = (real(got, &features.mask, axes)?, real(&want, &features.mask, axes)?);
            assert_close(part, &got, &want, 1e-5)?;
        }
        Ok(())
    };
    let (case, model) = monomer()?;
    let features = monomer_features(&case.golden)?;
    check(MONOMER, &model.trunk(&features, recycled(&case.golden)?, &pattern(), &mut |_| ())?, &features)?;
    let (case, model) = multimer()?;
    let features = multimer_features(&case.golden)?;
    check(MULTIMER, &model.trunk(&features, recycled(&case.golden)?, &pattern(), &mut |_| ())?, &features)
}

/// The released sizes: fixtures/af2/README.md says how the files are made.
#[test]
#[ignore = "needs the full-size model"]
fn full_size_monomer() -> Result<()> {
    let case = Case::full(MONOMER)?;
    let (model, features) = (case.monomer()?, monomer_features(&case.golden)?);
    monomer_stacks(&case, &model)?;
    structure(&case, &model.network.heads, &features)?;
    passes(
        &case,
        &features,
        |before| model.trunk(&features, before, &Dropout::default(), &mut |_| ()),
        &model.network.heads,
    )
}

#[test]
#[ignore = "needs the full-size model"]
fn full_size_multimer() -> Result<()> {
    let case = Case::full(MULTIMER)?;
    let (model, features) = (case.multimer()?, multimer_features(&case.golden)?);
    multimer_stacks(&case, &model)?;
    structure(&case, &model.network.heads, &features)?;
    passes(
        &case,
        &features,
        |before| model.trunk(&features, before, &Dropout::default(), &mut |_| ()),
        &model.network.heads,
    )
}
