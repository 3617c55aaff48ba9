//! fixtures/openfold3/layers.py: the layers over atoms, with fewer atoms than a window of keys has (30, 70) and more (150).
use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use fold::models::af3::atom_attention::{AtomDecoder, AtomEncoder, AtomTransformer, AtomWindows, WindowEnds};
use fold::models::af3::batch::Batch;
use fold::models::af3::config::Config;
use fold::models::af3::diffusion::DiffusionModule;
use fold::models::af3::embed::{InputEmbedder, PairSource};
use fold::models::af3::sample::Denoise;
use fold::weights::Weights;

use crate::common::{Golden, tiny};
use crate::layers::{Layer, N_SAMPLE, host, recorded, whole};

const N_QUERY: usize = 32;
const N_KEY: usize = 128;

/// Runs `test` on each sample of a layer and its batch.
fn each_sample(
    golden: &Golden,
    name: &str,
    batch: [&str; 2],
    test: impl Fn(&Layer, &Batch, &Config, &Weights) -> Result<()>,
) -> Result<()> {
    let (config, weights) = tiny()?;
    for k in 0..N_SAMPLE {
        let features = recorded(golden, batch[0], Some(batch[1]), k)?;
        let batch = Batch::new(&features, &config, WindowEnds::Shifted, &Device::Cpu)?;
        test(&Layer::new(golden, name).sample(k), &batch, &config, &weights)?;
    }
    Ok(())
}

fn golden() -> Result<Golden> {
    Golden::open("openfold3/layers_atom.safetensors")
}

/// First key of a window in the official program. With fewer atoms than keys it can be negative, and then the padding is
/// in front; ours is always behind.
fn official_start(block: usize, n_atom: usize) -> isize {
    let first = (block * N_QUERY + N_QUERY / 2) as isize - (N_KEY / 2) as isize;
    let beyond = first + N_KEY as isize - n_atom as isize;
    if first < 0 { 0 } else { first - beyond.max(0) }
}

/// Official pair features `[n_block, n_query, n_key, c]` with the keys in the places they have in our windows.
fn in_our_windows(p: &Tensor, windows: &AtomWindows, n_atom: usize) -> Result<Tensor> {
    let mut blocks = vec![];
    for (block, &start) in windows.starts.iter().enumerate() {
        let first = official_start(block, n_atom);
        let padding = if first < 0 { 0 } else { N_KEY as isize - 1 };
        let place = |key: usize| if key < n_atom { key as isize - first } else { padding };
        let index: Vec<u32> = (start..start + N_KEY).map(|key| place(key) as u32).collect();
        blocks.push(p.get(block)?.index_select(&Tensor::new(index, p.device())?, 1)?);
    }
    Ok(Tensor::stack(&blocks, 0)?)
}

/// The atoms that each window's queries attend to, by number: the order of the padding differs.
fn windows(n_atom: usize) -> Result<()> {
    let (golden, name) = (golden()?, format!("atom_windows_{n_atom}"));
    let layer = Layer::new(&golden, &name);
    let ours = AtomWindows::new(&host(&layer.input("atom_mask")?)?, N_QUERY, N_KEY, WindowEnds::Shifted, &Device::Cpu)?;
    let index: Vec<usize> = whole(&layer.output("key_index")?)?;
    let invalid = host(&layer.output("invalid")?)?;
    let mask = host(&ours.mask)?; // [n_block, n_query, n_key, 1]
    ensure!(index.len() == ours.n_block() * N_KEY, "{name}: {} windows", ours.n_block());
    let official = index.chunks_exact(N_KEY).zip(invalid.chunks_exact(N_KEY));
    for (block, ((index, invalid), &start)) in official.zip(&ours.starts).enumerate() {
        let valid: Vec<usize> = (0..N_KEY).filter(|&place| invalid[place] == 0.).collect();
        let want: Vec<usize> = valid.iter().map(|&place| index[place]).collect();
        let first = want[0] as isize - valid[0] as isize;
        ensure!(first == official_start(block, n_atom), "{name}: official window {block} starts at {first}");
        for query in 0..N_QUERY {
            let row = &mask[(block * N_QUERY + query) * N_KEY..][..N_KEY];
            let got: Vec<usize> = (start..).zip(row).filter(|(_, m)| **m == 1.).map(|(key, _)| key).collect();
            let want = if block * N_QUERY + query < n_atom { want.as_slice() } else { &[] };
            ensure!(got == want, "{name}: window {block}, query {query}: {got:?}");
        }
    }
    Ok(())
}

macro_rules! windows {
    ($($name:ident $n_atom:literal),* $(,)?) => {$(
        #[test]
        fn $name() -> Result<()> {
            windows($n_atom)
        }
    )*};
}
windows!(
    atom_windows_1 1, atom_windows_20 20, atom_windows_32 32, atom_windows_33 33, atom_windows_100 100,
    atom_windows_128 128, atom_windows_129 129, atom_windows_150 150, atom_windows_192 192, atom_windows_333 333,
);

#[test]
fn input_embedder() -> Result<()> {
    each_sample(&golden()?, "input_embedder", ["batch_150"; 2], |g, batch, c, w| {
        let initial = InputEmbedder::load(c, PairSource::Input, &w.at("input"))?.forward(batch)?;
        g.check("s_input", &initial.s_input)?;
        g.check("s_init", &initial.s)?;
        g.check("z_init", &initial.pair(batch)?)
    })
}

/// Without trunk and noisy positions, as in the input embedder; gives the atom pairs.
fn encode_reference(g: &Layer, batch: &Batch, c: &Config, w: &Weights) -> Result<Tensor> {
    let encoder = AtomEncoder::load_input(c, &w.at("input.atom_encoder"))?;
    let (atoms, pairs) = encoder.prepare(batch, None)?;
    let encoded = encoder.forward(batch, &atoms, None)?;
    g.check("a", &encoded.tokens)?;
    g.check("q", &encoded.atoms)?;
    g.check("c", &atoms.single)?;
    Ok(pairs.blocks(0..batch.windows.n_block())?)
}

#[test]
fn atom_encoder_trunk_70() -> Result<()> {
    each_sample(&golden()?, "atom_encoder_trunk_70", ["batch_70"; 2], |g, batch, c, w| {
        let pair = encode_reference(g, batch, c, w)?;
        let want = in_our_windows(&g.output("p")?.squeeze(0)?, &batch.windows, batch.n_atom)?;
        g.check_against("p", &pair, &want)
    })
}

/// The second sample has 61 real atoms of 70, and a token without any. Its atom pairs are not recorded.
#[test]
fn atom_encoder_padded() -> Result<()> {
    each_sample(&golden()?, "atom_encoder_padded", ["batch_70", "batch_padded"], |g, batch, c, w| {
        encode_reference(g, batch, c, w).map(|_| ())
    })
}

fn encoder(n_atom: usize) -> Result<()> {
    let (name, batch) = (format!("atom_encoder_{n_atom}"), format!("batch_{n_atom}"));
    each_sample(&golden()?, &name, [&batch; 2], |g, batch, c, w| {
        let encoder = AtomEncoder::load_diffusion(c, &w.at("diffusion.atom_encoder"))?;
        let (atoms, pairs) = encoder.prepare(batch, Some((&g.input("s_trunk")?, &g.input("z")?)))?;
        let encoded = encoder.forward(batch, &atoms, Some(&g.input("r")?))?;
        g.check("a", &encoded.tokens)?;
        g.check("q", &encoded.atoms)?;
        g.check("c", &atoms.single)?;
        let want = in_our_windows(&g.output("p")?.squeeze(0)?, &batch.windows, batch.n_atom)?;
        g.check_against("p", &pairs.blocks(0..batch.windows.n_block())?, &want)
    })
}

/// `p` of the encoder of as many atoms, which the transformer and the decoder were called with.
fn encoder_pairs(golden: &Golden, sample: usize, batch: &Batch) -> Result<Tensor> {
    let p = golden.get(&format!("atom_encoder_{}.out.p", batch.n_atom))?.get(sample)?;
    in_our_windows(&p, &batch.windows, batch.n_atom)
}

fn transformer(n_atom: usize) -> Result<()> {
    let (golden, name, batch) = (golden()?, format!("atom_transformer_{n_atom}"), format!("batch_{n_atom}"));
    each_sample(&golden, &name, [&batch; 2], |g, batch, c, w| {
        let w = w.at("diffusion.atom_encoder.transformer");
        let layer = AtomTransformer::load(c, c.atom_encoder, &w)?;
        let p = encoder_pairs(&golden, g.index(), batch)?;
        let q = g.input("q")?;
        let some = |blocks: Range<usize>| p.narrow(0, blocks.start, blocks.len());
        layer.update(&q, &layer.condition(&g.input("c")?, &some, &batch.windows)?, &batch.windows)?;
        g.check("x", &q)
    })
}

fn decoder(n_atom: usize) -> Result<()> {
    let (golden, name, batch) = (golden()?, format!("atom_decoder_{n_atom}"), format!("batch_{n_atom}"));
    each_sample(&golden, &name, [&batch; 2], |g, batch, c, w| {
        let layer = AtomDecoder::load(c, &w.at("diffusion.atom_decoder"))?;
        let p = encoder_pairs(&golden, g.index(), batch)?;
        let some = |blocks: Range<usize>| p.narrow(0, blocks.start, blocks.len());
        let condition = layer.condition(&g.input("c")?, &some, &batch.windows)?;
        g.check("x", &layer.forward(batch, &condition, &g.input("a")?, &g.input("q")?)?)
    })
}

fn denoise(n_atom: usize) -> Result<()> {
    let (name, batch) = (format!("denoise_{n_atom}"), format!("batch_{n_atom}"));
    each_sample(&golden()?, &name, [&batch; 2], |g, batch, c, w| {
        let module = DiffusionModule::load(c, &w.at("diffusion"))?;
        let (s_input, s, z) = (g.input("s_input")?, g.input("s_trunk")?, g.input("z_trunk")?);
        let t = host(&g.input("t")?)?[0];
        let pair = module.condition_pair(batch, &z)?;
        let x = module.condition(batch, &s_input, &s, pair)?.denoise(&host(&g.input("x_noisy")?)?, 1, t)?;
        g.check("x", &Tensor::from_vec(x, (1, batch.n_atom, 3), &Device::Cpu)?)
    })
}

macro_rules! atoms {
    ($($name:ident = $layer:ident($n_atom:literal)),* $(,)?) => {$(
        #[test]
        fn $name() -> Result<()> {
            $layer($n_atom)
        }
    )*};
}
atoms!(
    atom_encoder_30 = encoder(30),
    atom_encoder_70 = encoder(70),
    atom_encoder_150 = encoder(150),
    atom_transformer_30 = transformer(30),
    atom_transformer_70 = transformer(70),
    atom_transformer_150 = transformer(150),
    atom_decoder_30 = decoder(30),
    atom_decoder_70 = decoder(70),
    atom_decoder_150 = decoder(150),
    denoise_30 = denoise(30),
    denoise_70 = denoise(70),
    denoise_150 = denoise(150),
);
