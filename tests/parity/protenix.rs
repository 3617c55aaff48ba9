//! fixtures/protenix/regen.py: the whole small network on five complexes, from the official features, stage by stage.
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, IndexOp, Tensor};
use fold::features::af3::{Af3Features, Msa, N_RESTYPE};
use fold::features::noise::{NoiseSource, TorchGenerator};
use fold::models::af3::atom_attention::AtomEncoder;
use fold::models::af3::batch::Batch;
use fold::models::af3::conditioning::DiffusionConditioning;
use fold::models::af3::config::{Config, SamplingConfig};
use fold::models::af3::pairformer::Trunk;
use fold::models::protenix::heads::GivenPositions;
use fold::models::protenix::sample::{noise_levels, sample};
use fold::models::protenix::{Protenix, RowLimits};
use fold::score::{Confidence, PairErrors, Scorer, contact_probs};
use fold::weights::Weights;
use weights_convert::{Model, Options, convert};

use crate::common::{Golden, assert_close, fixture};
use crate::layers::{host, whole};

/// Of the largest value of each tensor.
const LIMIT: f32 = 1e-5;
/// Sampled coordinates, in Å.
const COORDINATES: f32 = 1e-3;

/// Of the pLDDT logits those of one atom in so many are recorded.
const ATOMS: usize = 3;

/// How a case was run.
#[derive(Debug, serde::Deserialize)]
struct Case {
    #[serde(rename = "N_cycle")]
    n_cycle: usize,
    #[serde(rename = "N_sample")]
    n_sample: usize,
    #[serde(rename = "N_step")]
    n_step: usize,
    gamma0: f32,
    step_scale_eta: f32,
    rows: [usize; 2],
    seed: u64,
}

/// What was recorded; of pair tensors every `pair_rows`th row.
struct Recorded {
    name: String,
    golden: Golden,
    rows: usize,
}

impl Recorded {
    fn check(&self, name: &str, got: &Tensor) -> Result<()> {
        assert_close(&format!("{}.{name}", self.name), got, &self.golden.get(name)?, LIMIT)
    }

    /// Compares the kept rows of a pair tensor `[1, n, n, c]`.
    fn check_pair(&self, name: &str, got: &Tensor) -> Result<()> {
        self.check(name, &every(self.rows, got)?)
    }
}

/// Each `step`th entry of the second dimension.
fn every(step: usize, x: &Tensor) -> candle_core::Result<Tensor> {
    let kept: Vec<u32> = (0..x.dim(1)? as u32).step_by(step).collect();
    x.index_select(&Tensor::new(kept.as_slice(), x.device())?, 1)
}

/// The network of fixtures/protenix/tiny.pt, converted once a test binary.
pub fn tiny() -> Result<(Config, Weights)> {
    static CONVERTED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = CONVERTED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny.safetensors");
        let config = std::fs::read(fixture("protenix/tiny_config.json")).expect("the sizes");
        let config = Some(serde_json::from_slice(&config).expect("sizes"));
        let options = Options { model: Model::Protenix, config, ..Options::default() };
        let report = convert(&fixture("protenix/tiny.pt"), &path, options).expect("tiny.pt converts");
        assert_eq!(report.release.model, "protenix-mini-tmpl");
        (folder, path)
    });
    let weights = Weights::open(path, &Device::Cpu)?;
    Ok((weights.config()?, weights))
}

/// The official features of a case as ours.
pub fn official_features(g: &Golden) -> Result<(Af3Features, GivenPositions)> {
    let get = |name: &str| g.get(name);
    let token: Vec<usize> = whole(&get("atom_to_token_idx")?)?;
    let n = get("token_index")?.elem_count();
    let mut per_token = vec![0; n];
    token.iter().for_each(|&t| per_token[t] += 1);
    let starts = per_token.iter().scan(0, |start, &k| Some(std::mem::replace(start, *start + k)));
    ensure!(host(&get("token_bonds")?)?.iter().all(|&b| b == 0.0), "proteins alone have no bonds of tokens");
    let rows: Vec<u8> = whole(&get("msa")?)?;
    let msa = Msa {
        n_seq: rows.len() / n,
        has_deletion: host(&get("has_deletion")?)?,
        deletion_value: host(&get("deletion_value")?)?,
        mask: vec![1.0; rows.len()],
        profile: host(&get("profile")?)?,
        deletion_mean: host(&get("deletion_mean")?)?,
        n_paired: 0,
        rows,
    };
    let features = Af3Features {
        token_index: whole(&get("token_index")?)?,
        residue_index: whole(&get("residue_index")?)?,
        asym_id: whole(&get("asym_id")?)?,
        entity_id: whole(&get("entity_id")?)?,
        sym_id: whole(&get("sym_id")?)?,
        restype: whole(&get("restype")?)?,
        is_protein: vec![true; n],
        is_rna: vec![false; n],
        is_dna: vec![false; n],
        is_ligand: vec![false; n],
        is_atomized: vec![false; n],
        token_mask: vec![1.0; n],
        start_atom_index: starts.collect(),
        num_atoms_per_token: per_token,
        cyclic_mask: vec![false; n],
        atom_mask: vec![1.0; token.len()],
        ref_pos: host(&get("ref_pos")?)?.as_chunks::<3>().0.to_vec(),
        ref_mask: host(&get("ref_mask")?)?.iter().map(|&m| m != 0.0).collect(),
        ref_element: whole(&get("ref_element")?)?,
        ref_charge: host(&get("ref_charge")?)?,
        ref_atom_name: whole::<u8>(&get("ref_atom_name_chars")?)?.as_chunks::<4>().0.to_vec(),
        ref_space_uid: whole(&get("ref_space_uid")?)?,
        atom_to_token: token,
        msa,
        ..Af3Features::default()
    };
    ensure!(features.msa.profile.len() == n * N_RESTYPE, "a profile of 32 types");
    let given = match g.has("struct_cb_coords") {
        true => GivenPositions {
            positions: host(&get("struct_cb_coords")?)?.as_chunks::<3>().0.to_vec(),
            known: host(&get("struct_cb_mask")?)?.iter().map(|&m| m != 0.0).collect(),
        },
        false => GivenPositions::default(),
    };
    Ok((features, given))
}

/// For the callbacks of the model, whose errors are candle's.
fn in_callback(result: Result<()>) -> candle_core::Result<()> {
    result.map_err(|e| candle_core::Error::Msg(format!("{e:#}")))
}

/// The parts of the first cycle, one after the other.
fn first_cycle(
    model: &Protenix,
    batch: &Batch,
    given: &GivenPositions,
    limits: RowLimits,
    g: &Recorded,
    seed: u64,
) -> Result<()> {
    let initial = model.input.forward(batch)?;
    g.check("s_inputs", &initial.s_input)?;
    g.check("s_init", &initial.s)?;
    let z = model.recycling.pair(&initial, batch, None)?;
    if let (Some(embedder), true) = (&model.structure, g.golden.get("structure").is_ok_and(|x| nonzero(&x))) {
        let before = z.force_contiguous()?;
        embedder.add_to(&z, given)?;
        g.check_pair("structure", &(&z - before)?)?;
    }
    let rows = limits.choose(batch.msa.n_seq, &mut TorchGenerator::new(seed));
    let (m, mask) = model.msa_embedder.forward(batch, &rows, &initial.s_input)?;
    model.msa.update(&m, &z, &mask, &batch.pair_mask)?;
    let last = model.config.msa.n_block - 1; // which leaves the rows as they are
    if last > 0 {
        g.check(&format!("msa{}.m", last - 1), &m)?;
    }
    g.check_pair(&format!("msa{last}.z"), &z)
}

fn nonzero(x: &Tensor) -> bool {
    host(x).is_ok_and(|x| x.iter().any(|&v| v != 0.0))
}

/// The layers of the diffusion module at the first step.
fn first_step(batch: &Batch, trunk: &Trunk, config: &Config, w: &Weights, g: &Recorded) -> Result<()> {
    let w = w.at("diffusion");
    let conditioning = DiffusionConditioning::load(config, &w.at("conditioning"))?;
    let pair = conditioning.pair(batch, &trunk.z)?;
    g.check_pair("cond.z", &pair)?;
    let t = host(&g.golden.get("step0.t")?)?[0];
    g.check("cond.s", &conditioning.at_level(batch, &conditioning.single(&trunk.s, &trunk.s_input)?, t)?)?;
    let encoder = AtomEncoder::load_diffusion(config, &w.at("atom_encoder"))?;
    let (atoms, _) = encoder.prepare(batch, Some((&trunk.s, &pair)))?;
    let scale = (256.0 + t * t).sqrt();
    let noisy = (g.golden.get("step0.noisy")?.reshape((1, batch.n_atom, 3))? / f64::from(scale))?;
    let encoded = encoder.forward(batch, &atoms, Some(&noisy))?;
    g.check("enc.a", &encoded.tokens)?;
    g.check("enc.q", &encoded.atoms)
}

/// Every stage of a recorded prediction.
fn whole_model(folder: &Path, config: Config, weights: &Weights) -> Result<()> {
    let case: Case = serde_json::from_slice(&std::fs::read(folder.join("case.json"))?)?;
    let golden = Golden::open(folder.join("run.safetensors"))?;
    let (features, given) = official_features(&Golden::open(folder.join("features.safetensors"))?)?;
    let rows = if features.n_token() <= 12 { 1 } else { 24 };
    let name = folder.file_name().context("a name")?.to_string_lossy().into_owned();
    let g = Recorded { name, golden, rows };
    let sampling = SamplingConfig { gamma_0: case.gamma0, step_scale: case.step_scale_eta, ..config.sampling };
    let limits = RowLimits { least: case.rows[0], most: case.rows[1] };
    let model = Protenix::load(&config, weights)?;
    let batch = model.batch(&features, &Device::Cpu)?;
    first_cycle(&model, &batch, &given, limits, &g, case.seed)?;

    let mut noise = TorchGenerator::new(case.seed);
    let trunk = model.trunk(&batch, Some(&given), case.n_cycle, limits, &mut noise, &mut |cycle, s, z| {
        in_callback(g.check(&format!("c{cycle}.s"), s))?;
        in_callback(g.check_pair(&format!("c{cycle}.z"), z))
    })?;
    first_step(&batch, &trunk, &config, weights, &g)?;

    let levels = noise_levels(&sampling, case.n_step);
    ensure!(levels.len() == case.n_step + 1 && levels[case.n_step] == 0.0, "levels {levels:?}");
    let pair = model.diffusion.condition_pair(&batch, &trunk.z)?;
    let diffusion = model.diffusion.condition(&batch, &trunk.s_input, &trunk.s, pair)?;
    let mut step = 0;
    let x = sample(&diffusion, &sampling, case.n_step, case.n_sample, &mut noise, &mut |s| {
        let positions = |x: &[f32]| Tensor::from_slice(x, (1, batch.n_atom, 3), &Device::Cpu);
        in_callback(g.check(&format!("step{step}.t"), &Tensor::new(&[s.t], &Device::Cpu)?))?;
        in_callback(g.check(&format!("step{step}.noisy"), &positions(s.noisy)?))?;
        in_callback(g.check(&format!("step{step}.denoised"), &positions(s.denoised)?))?;
        step += 1;
        Ok(())
    })?;
    let want = host(&g.golden.get("coordinate")?)?;
    let worst = x.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    println!("{}.coordinate: {worst:.2e} A", g.name);
    ensure!(x.len() == want.len() && worst <= COORDINATES, "coordinates differ by {worst} A");
    // The head's distances show the rounding of the positions (see `distances.rs`): it is given the official ones.
    confidence(&model, &features, &batch, &trunk, &want, &g)
}

/// Logits and scores of every structure.
fn confidence(
    model: &Protenix,
    features: &Af3Features,
    batch: &Batch,
    trunk: &Trunk,
    x: &[f32],
    g: &Recorded,
) -> Result<()> {
    let n = batch.n_token;
    let distogram = model.distogram.forward(&trunk.z, 0..n)?;
    g.check_pair("distogram", &distogram)?;
    let scorer = Scorer::new(features, contact_probs(&host(&distogram)?, model.config.heads.n_distogram));
    let (atoms, _) = fold::features::af3::frame::representative_atoms(features);
    for (k, x) in x.chunks_exact(3 * batch.n_atom).enumerate() {
        let x = x.as_chunks::<3>().0;
        let representatives: Vec<[f32; 3]> = atoms.iter().map(|&a| x[a]).collect();
        let z = trunk.z.force_contiguous()?;
        let logits = model.confidence.forward(batch, &trunk.s_input, &trunk.s, &z, &representatives)?;
        let pairs = model.confidence.pair_logits(&z, 0..n)?;
        let of_sample = |name: &str| -> Result<Tensor> { Ok(g.golden.get(name)?.i(k)?) };
        let close =
            |name: &str, got: &Tensor| assert_close(&format!("{}.{name}{k}", g.name), got, &of_sample(name)?, LIMIT);
        close("plddt", &every(ATOMS, &logits.plddt)?)?;
        close("resolved", &logits.resolved)?;
        close("pae", &every(g.rows, &pairs.pae)?)?;
        close("pde", &every(g.rows, &pairs.pde)?)?;
        let mut errors = PairErrors::default();
        scorer.add_rows(&mut errors, n, &host(&pairs.pae)?, &host(&pairs.pde)?);
        scores(&scorer.score_ordered(x, &host(&logits.plddt)?, errors), k, g)?;
    }
    // Last, because it is the nearest to its limit: a probability is as far off as its logit, not in parts of the largest logit.
    let contacts = Tensor::from_slice(scorer.contact_probs(), (1, n, n, 1), &Device::Cpu)?;
    g.check_pair("full0.contact_probs", &contacts)
}

/// The scores of one structure.
fn scores(c: &Confidence, k: usize, g: &Recorded) -> Result<()> {
    let n_chain = c.asym_ids.len();
    let check = |name: &str, got: &[f32]| {
        let want = host(&g.golden.get(&format!("score{k}.{name}"))?)?;
        ensure!(got.len() == want.len(), "{name}: {} values, not {}", got.len(), want.len());
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0f32, f32::max);
        println!("{}.score{k}.{name}: {worst:.2e}", g.name);
        ensure!(worst <= LIMIT, "{}.score{k}.{name}: {got:?}, not {want:?}", g.name);
        Ok(())
    };
    check("plddt", &[c.mean_plddt()])?;
    check("gpde", &[c.gpde])?;
    check("ptm", &[c.ptm])?;
    check("iptm", &[c.iptm])?;
    check("chain_ptm", &c.chain_ptm)?;
    check("chain_iptm", &c.chain_iptm)?;
    check("chain_pair_iptm", &c.chain_pair_iptm)?;
    check("has_clash", &[f32::from(u8::from(c.has_clash))])?;
    check("ranking_score", &[c.ranking_score])?;
    ensure!(n_chain * n_chain == c.chain_pair_iptm.len(), "{n_chain} chains");
    Ok(())
}

macro_rules! cases {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let (config, weights) = tiny()?;
            whole_model(&fixture(concat!("protenix/", stringify!($name))), config, &weights).context(stringify!($name))
        }
    )*};
}

cases!(monomer, pair, complex, template, repeated);

/// Rows beyond the limits: the filter takes all rows up to its number, then exactly as many.
#[test]
fn rows_of_a_cycle() {
    let choose = |limits: RowLimits, n| limits.choose(n, &mut TorchGenerator::new(3));
    let sorted = |mut rows: Vec<usize>| {
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(choose(RowLimits::FILTER, 1)), [0]);
    assert_eq!(sorted(choose(RowLimits::FILTER, 1999)), (0..1999).collect::<Vec<_>>());
    assert_eq!(choose(RowLimits::FILTER, 2500).len(), 2000);
    let mut noise = TorchGenerator::new(3);
    let size = noise.randint(1, 2501) as usize;
    assert_eq!(choose(RowLimits::DEFAULT, 2500).len(), size);
}

/// The full-size networks, which are too large to be committed: `FOLD_FULL_PROTENIX` names a folder with
/// `weights.safetensors` and a case's golden files, as fixtures/protenix/README.md says.
#[test]
#[ignore = "needs the full-size goldens: see fixtures/protenix/README.md"]
fn full_size_protenix() -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("FOLD_FULL_PROTENIX").context("FOLD_FULL_PROTENIX is not set")?);
    let weights = Weights::open(&folder.join("weights.safetensors"), &Device::Cpu)?;
    whole_model(&folder, weights.config()?, &weights)
}
