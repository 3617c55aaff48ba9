//! fixtures/mpnn: the official ProteinMPNN and ColabDesign's with random parameters of the published size. Inputs exactly, neighbours as
//! sets, everything else within 1e-5 of the largest value, the same sequences from the same random numbers.
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use fold::features::mpnn::{Backbone, Chain, N_LETTER, Rules, letter, read::read};
use fold::models::mpnn::binder::{Choice, random_order};
use fold::models::mpnn::decoder::Logits;
use fold::models::mpnn::encoder::Encoded;
use fold::models::mpnn::sample::{Constraints, Pssm, Sampled};
use fold::models::mpnn::{Place, ProteinMpnn, decoding_order, score};
use fold::weights::Weights;

use crate::common::{Golden, assert_close, fixture, mpnn};

const LIMIT: f32 = 1e-5;
/// Residues of which the golden files have edges.
const ROWS: [usize; 4] = [0, 7, 19, 33];

struct Case {
    golden: Golden,
    model: ProteinMpnn,
    backbone: Backbone,
    constraints: Constraints,
}

fn model(weights: &Weights) -> Result<ProteinMpnn> {
    Ok(ProteinMpnn::load(&weights.config()?, weights)?)
}

fn chains(structure: &str) -> Result<Vec<Chain>> {
    Ok(read(&std::fs::read_to_string(fixture(format!("mpnn/{structure}.pdb")))?)?)
}

/// Chains of a structure in this order.
fn backbone(structure: &str, order: &str, rules: Rules) -> Result<Backbone> {
    let chains = chains(structure)?;
    let of = |id: char| chains.iter().find(|c| c.id == id.to_string()).context("the chain");
    Ok(Backbone::new(&order.chars().map(of).collect::<Result<Vec<_>>>()?, rules))
}

impl Case {
    fn open(name: &str, weights: &str, structure: &str, order: &str) -> Result<Self> {
        let golden = Golden::open(format!("mpnn/{name}.safetensors"))?;
        let model = model(&mpnn::weights(weights)?)?;
        let backbone = backbone(structure, order, model.rules())?;
        let rows = |name: &str| -> Result<Vec<[f32; N_LETTER]>> {
            Ok(list(&golden, name)?.chunks(N_LETTER).map(|row| row.try_into().expect("a row of letters")).collect())
        };
        let flags = |rows: Vec<[f32; N_LETTER]>| rows.into_iter().map(|row| row.map(|v| v > 0.)).collect::<Vec<_>>();
        let pssm = Pssm {
            trust: list(&golden, "in/pssm_coef")?,
            probabilities: rows("in/pssm_bias")?,
            likely: flags(rows("in/pssm_odds")?),
            mixed: Some(0.6),
            suppressed: true,
        };
        let constraints = Constraints {
            designed: list(&golden, "in/designed")?.iter().map(|v| *v > 0.).collect(),
            omit: rows("in/omit_letters")?[0].map(|v| v > 0.),
            bias: rows("in/bias_letters")?[0].map(round),
            omit_at: flags(rows("in/omit")?),
            bias_at: rows("in/bias")?,
            tied: Vec::new(),
            pssm: Some(pssm),
        };
        Ok(Self { golden, model, backbone, constraints })
    }

    fn inputs(&self) -> Result<()> {
        let want = |name: &str| list(&self.golden, &format!("in/{name}"));
        let b = &self.backbone;
        ensure!(b.letters.iter().map(|l| f32::from(*l)).eq(want("S")?), "letters");
        ensure!(b.mask.iter().map(|m| f32::from(*m)).eq(want("mask")?), "mask");
        ensure!(b.residue_index.iter().map(|i| *i as f32).eq(want("residue")?), "residue index");
        ensure!(b.chain.iter().map(|c| *c as f32 + 1.).eq(want("chain")?), "chains");
        let atoms: Vec<f32> = if b.rules == Rules::CaOnly {
            b.atoms.iter().flat_map(|atoms| atoms[1]).collect()
        } else {
            b.atoms.iter().flatten().flatten().copied().collect()
        };
        ensure!(atoms == want("X")?, "atoms");
        Ok(())
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.golden.get(name)
    }

    fn close(&self, name: &str, got: &[f32]) -> Result<()> {
        let known: Vec<f32> = self.backbone.mask.iter().map(|m| f32::from(*m)).collect();
        let want = list(&self.golden, name)?;
        ensure!(got.len() == want.len(), "{name}: {} values for {}", got.len(), want.len());
        let width = got.len() / known.len();
        // A residue that is not known has neighbours by chance.
        let keep =
            |values: &[f32]| -> Vec<f32> { values.iter().enumerate().map(|(i, v)| v * known[i / width]).collect() };
        assert_close(name, &tensor(&keep(got))?, &tensor(&keep(&want))?, LIMIT)
    }

    fn log_probs(&self, name: &str, got: &[Logits]) -> Result<()> {
        assert_close(name, &tensor(got.as_flattened())?, &self.tensor(name)?, LIMIT)
    }

    fn encoder(&self) -> Result<Encoded> {
        let (mut x, embedded) = self.model.encoder.embed(&self.backbone)?;
        let (k, c) = (x.k, x.nodes.len() / x.mask.len());
        let want = list(&self.golden, "forward/neighbours")?;
        for (i, (got, want)) in x.neighbours.chunks(k).zip(want.chunks(k)).enumerate().filter(|(i, _)| x.mask[*i]) {
            let sorted = |mut v: Vec<u32>| {
                v.sort_unstable();
                v
            };
            let want = want.iter().map(|j| *j as u32).collect();
            ensure!(sorted(got.to_vec()) == sorted(want), "neighbours of residue {i}");
        }
        let ordered = self.like_golden(&x)?;
        let rows =
            |values: &[f32]| -> Vec<f32> { ordered.iter().flat_map(|e| &values[e * c..][..c]).copied().collect() };
        assert_close("edges", &tensor(&rows(&embedded))?, &self.tensor("forward/edges")?, LIMIT)?;
        for l in 0..self.model.encoder.n_layer() {
            self.model.encoder.layer(l, &mut x)?;
            self.close(&format!("forward/encoder{l}/h_V"), &x.nodes)?;
            let name = format!("forward/encoder{l}/h_E");
            assert_close(&name, &tensor(&rows(&x.edges))?, &self.tensor(&name)?, LIMIT)?;
        }
        Ok(x)
    }

    /// The edges of [`ROWS`] in the order of the golden file: neighbours at one distance may be exchanged.
    fn like_golden(&self, x: &Encoded) -> Result<Vec<usize>> {
        let want = list(&self.golden, "forward/neighbours")?;
        let place = |i: usize, j: u32| x.neighbours[i * x.k..][..x.k].iter().position(|n| *n == j).map(|p| i * x.k + p);
        let all = ROWS.iter().flat_map(|i| want[i * x.k..][..x.k].iter().map(|j| place(*i, *j as u32)));
        all.collect::<Option<_>>().context("the neighbours")
    }

    fn forward(&self, x: &Encoded) -> Result<()> {
        let prepared = self.model.decoder.prepare(x);
        let b = &self.backbone;
        let free: Vec<bool> = self.constraints.designed.iter().zip(&b.mask).map(|(d, m)| *d && *m).collect();
        let keys = list(&self.golden, "forward/randn")?;
        let order = decoding_order(&free, &keys);
        ensure!(order.iter().map(|i| *i as f32).eq(list(&self.golden, "forward/order")?), "order");
        let mut layers = Vec::new();
        let got = self.model.log_probs_watched(&prepared, &b.letters, &order, &mut |h| layers.push(h.to_vec()))?;
        for (l, h) in layers.iter().enumerate() {
            self.close(&format!("forward/decoder{l}"), h)?;
        }
        self.log_probs("forward/log_probs", &got)?;
        for (name, counts) in [("forward/score", &free), ("forward/global_score", &b.mask)] {
            assert_close(name, &tensor(&[score(&got, &b.letters, counts)])?, &self.tensor(name)?, LIMIT)?;
        }
        self.log_probs("forward/unconditional", &self.model.unconditional(&prepared, b.n_res())?)?;
        if self.golden.has("forward/conditional") {
            let positions: Vec<usize> = (0..b.n_res()).filter(|i| free[*i]).collect();
            let conditional = |place| self.model.conditional(&prepared, &b.letters, &positions, &keys, place);
            self.log_probs("forward/conditional", &conditional(Place::Last)?)?;
            self.log_probs("forward/conditional_backbone", &conditional(Place::First)?)?;
        }
        Ok(())
    }

    /// The samples of a run, from its random numbers.
    fn sample(&self, x: &Encoded, run: &str, temperature: f64, constraints: &Constraints) -> Result<()> {
        let prepared = self.model.decoder.prepare(x);
        let b = &self.backbone;
        let noise = list(&self.golden, &format!("{run}/noise"))?;
        let mut tape = noise.chunks(N_LETTER);
        let mut draw = || {
            let row = tape.next().expect("as many draws as the official program's");
            std::array::from_fn(|l| f64::from(row[l]))
        };
        let keys = list(&self.golden, &format!("{run}/randn"))?;
        let Sampled { letters, probabilities, order } =
            self.model.sample(&prepared, (&b.letters, &b.mask), constraints, temperature, &keys, &mut draw)?;
        ensure!(tape.next().is_none(), "{run}: fewer draws than the official program's");
        let want = |name: &str| list(&self.golden, &format!("{run}/{name}"));
        ensure!(order.iter().map(|i| *i as f32).eq(want("order")?), "{run}: order");
        ensure!(letters.iter().map(|l| f32::from(*l)).eq(want("S")?), "{run}: letters");
        // A probability at 1e-4 is that of two logits ten thousand times as far apart.
        if temperature > 1e-3 {
            let limit = (1e-5 / temperature) as f32;
            let name = format!("{run}/probs");
            assert_close(&name, &tensor(probabilities.as_flattened())?, &self.tensor(&name)?, limit)?;
        }
        let log_probs = self.model.log_probs(&prepared, &letters, &order)?;
        self.log_probs(&format!("{run}/log_probs"), &log_probs)?;
        let free: Vec<bool> = constraints.designed.iter().zip(&b.mask).map(|(d, m)| *d && *m).collect();
        for (name, counts) in [("score", &free), ("global_score", &b.mask)] {
            let name = format!("{run}/{name}");
            assert_close(&name, &tensor(&[score(&log_probs, &letters, counts)])?, &self.tensor(&name)?, LIMIT)?;
        }
        Ok(())
    }

    /// Inputs, encoder, log-probabilities and samples.
    fn all(mut self) -> Result<()> {
        let pssm = self.constraints.pssm.take();
        self.inputs()?;
        let x = self.encoder()?;
        self.forward(&x)?;
        for (run, temperature) in [("T0.1", 0.1), ("T0.0001", 0.0001)] {
            self.sample(&x, run, temperature, &self.constraints)?;
        }
        if self.golden.has("pssm/S") {
            self.sample(&x, "pssm", 0.3, &Constraints { pssm, ..self.constraints.clone() })?;
        }
        Ok(())
    }
}

fn list(golden: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(golden.get(name)?.flatten_all()?.to_vec1()?)
}

fn tensor(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, values.len(), &Device::Cpu)?)
}

/// A number that was written in decimal, out of its f32.
fn round(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}

#[test]
fn monomer() -> Result<()> {
    Case::open("monomer", "mpnn", "monomer", "A")?.all()
}

/// Fixed residues and chains, letters omitted everywhere and somewhere, biases, a PSSM, a gap and a residue without O.
#[test]
fn complex() -> Result<()> {
    Case::open("complex", "mpnn", "complex", "ABC")?.all()
}

#[test]
fn tied() -> Result<()> {
    let mut case = Case::open("tied", "mpnn", "dimer", "AB")?;
    let beta = list(&case.golden, "in/beta")?;
    let n = case.backbone.n_res() / 2;
    case.constraints.tied = (1..n).map(|i| vec![(i, beta[i]), (n + i, beta[n + i])]).collect();
    case.all()
}

#[test]
fn ca_only() -> Result<()> {
    Case::open("ca", "mpnn-ca", "complex", "ABC")?.all()
}

/// A checkpoint in the published layout, other sizes.
#[test]
fn small_checkpoints() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let convert = |source: &str, soluble: bool| -> Result<Weights> {
        let target = folder.path().join("small.safetensors");
        let c = if source.starts_with("ca") { 8 } else { 16 };
        let config = serde_json::json!({"c": c, "n_encoder": 3, "n_decoder": 3, "n_neighbour": 48});
        let options = weights_convert::Options {
            model: weights_convert::Model::ProteinMpnn { soluble },
            config: config.as_object().cloned(),
            ..Default::default()
        };
        weights_convert::convert(&fixture(format!("mpnn/{source}")), &target, options)?;
        Ok(Weights::open(&target, &Device::Cpu)?)
    };
    let weights = convert("ca_model_weights/v_48_002.pt", false)?;
    ensure!((weights.metadata("model"), weights.metadata("release")) == (Some("mpnn-ca"), Some("v_48_002")));
    model(&weights)?;
    let weights = convert("soluble_model_weights/v_48_020.pt", true)?;
    ensure!((weights.metadata("model"), weights.metadata("release")) == (Some("mpnn-soluble"), Some("v_48_020")));
    let mut case = Case::open("small", "mpnn", "dimer", "AB")?;
    case.model = model(&weights)?;
    case.all()
}

/// PXDesign's settings: chains in the order target, binder; the target's letters kept, no cysteine.
#[test]
fn colabdesign() -> Result<()> {
    let golden = Golden::open("mpnn/colabdesign.safetensors")?;
    let model = model(&mpnn::weights("mpnn")?)?;
    let b = backbone("complex", "BCA", Rules::ColabDesign)?;
    const RESTYPES: &[u8; 21] = b"ARNDCQEGHILKMFPSTWYVX";
    let theirs = |l: u8| letter(RESTYPES[usize::from(l)]).expect("a letter");
    let codes = |name: &str| -> Result<Vec<u8>> { Ok(list(&golden, name)?.iter().map(|l| theirs(*l as u8)).collect()) };
    ensure!(b.letters == codes("in/S")?, "letters");
    ensure!(b.residue_index.iter().map(|i| *i as f32).eq(list(&golden, "in/residue_idx")?), "residue index");
    ensure!(b.mask.iter().map(|m| f32::from(*m)).eq(list(&golden, "in/mask")?), "mask");
    let atoms: Vec<f32> = b.atoms.iter().flatten().flatten().copied().collect();
    ensure!(atoms == list(&golden, "in/X")?, "atoms");
    let fixed = list(&golden, "in/fix_pos")?;
    let encoded = model.encode(&b)?;
    let prepared = model.decoder.prepare(&encoded);
    for (run, temperature) in [("T0.0001", 1e-4), ("T0.1", 0.1)] {
        let mut choice =
            Choice { fixed: vec![false; b.n_res()], removed: [false; N_LETTER], bias: Vec::new(), temperature };
        fixed.iter().for_each(|i| choice.fixed[*i as usize] = true);
        choice.removed[1] = true; // cysteine
        let order: Vec<usize> = list(&golden, &format!("{run}/order"))?.iter().map(|i| *i as usize).collect();
        let kept_first = random_order(&b, &choice, &vec![0.5; b.n_res()]);
        ensure!(
            kept_first[..fixed.len()].iter().all(|i| choice.fixed[*i])
                && order[..fixed.len()].iter().all(|i| choice.fixed[*i])
        );
        let gumbel = list(&golden, &format!("{run}/gumbel"))?;
        let mut tape = gumbel.chunks(N_LETTER);
        let mut draw = || tape.next().and_then(|row| row.try_into().ok()).expect("a draw for each residue");
        let chosen = model.choose(&prepared, &b, &choice, &order, &mut draw)?;
        ensure!(chosen.letters == codes(&format!("{run}/S"))?, "{run}: letters");
        let want: Vec<Vec<f32>> =
            list(&golden, &format!("{run}/logits"))?.chunks(N_LETTER).map(<[f32]>::to_vec).collect();
        let got: Vec<f32> = chosen
            .logits
            .iter()
            .flat_map(|row| RESTYPES.iter().map(|l| row[usize::from(letter(*l).expect("a letter"))]))
            .collect();
        assert_close(&format!("{run}/logits"), &tensor(&got)?, &tensor(&want.concat())?, LIMIT)?;
        for (name, value) in [("score", chosen.score), ("seqid", chosen.recovery)] {
            let want = list(&golden, &format!("{run}/{name}"))?[0];
            ensure!((value - want).abs() < 1e-5, "{run}: {name} {value} for {want}");
        }
    }
    Ok(())
}

/// What the design pipeline calls: a seed and an index give one sequence, without cysteine, whatever else runs.
#[test]
fn a_binder_follows_from_seed_and_index() -> Result<()> {
    let model = model(&mpnn::weights("mpnn")?)?;
    let mut chains = chains("complex")?;
    chains.rotate_left(1);
    let first = model.binder(&chains, 7, 3)?;
    let known = chains[2].residues.iter().filter(|r| r.atoms[0].is_some()).count();
    ensure!(first.sequence.len() == known && !first.sequence.contains(['C', 'X']) && first.score.is_finite());
    ensure!(model.binder(&chains, 7, 3)? == first);
    ensure!(
        model.binder(&chains, 7, 4)?.sequence != first.sequence
            && model.binder(&chains, 8, 3)?.sequence != first.sequence
    );
    ensure!(model.binder(&chains, 7, 3)?.sequence == first.sequence);
    Ok(())
}
