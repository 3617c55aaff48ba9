//! Speed of the fused operations at the sizes of OpenFold3: `cargo bench --bench ops [-- GROUP..]`.
//!
//! The groups are pair_block, single, msa, atoms and token_transformer.
//!
//! One JSON row an operation and size: the median and the best of eleven timings after a warm-up, and the arithmetic of its
//! products by the best one.
//! `cpu_ms` is the time of all threads together, the mean of the eleven.
use std::collections::HashMap;
use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use fold::ops::{
    AdaNorm, Attention, BiasOrder, ConditionedTransition, Edges, Linear, LocalAttention, Node, Norm, OuterProductMean,
    PairWeightedAverage, SwiGluTransition, TriangleAttention, TriangleMultiplication, gate_add, pair_bias, sigmoid,
};
use fold::weights::Weights;

/// Weights made up for the layers of a benchmark, in a file as a model has them.
#[derive(Default)]
struct Maker(HashMap<String, Tensor>);

impl Maker {
    fn tensor(&mut self, name: &str, dims: &[usize], scale: f64) -> Result<()> {
        let values = (Tensor::randn(0f32, 1., dims, &Device::Cpu)? * scale)?;
        self.0.insert(name.to_owned(), values);
        Ok(())
    }

    fn linear(mut self, name: &str, k: usize, n: usize) -> Result<Self> {
        self.tensor(&format!("{name}.weight"), &[n, k], 1. / (k as f64).sqrt())?;
        Ok(self)
    }

    fn biased(self, name: &str, k: usize, n: usize) -> Result<Self> {
        let mut made = self.linear(name, k, n)?;
        made.tensor(&format!("{name}.bias"), &[n], 0.1)?;
        Ok(made)
    }

    fn norm(mut self, name: &str, c: usize) -> Result<Self> {
        self.tensor(&format!("{name}.weight"), &[c], 1.)?;
        self.tensor(&format!("{name}.bias"), &[c], 0.1)?;
        Ok(self)
    }

    fn attention(self, name: &str, c: usize, hidden: usize) -> Result<Self> {
        let made = ["q", "k", "v", "gate"]
            .iter()
            .try_fold(self, |made, part| made.linear(&format!("{name}{part}"), c, hidden))?;
        made.linear(&format!("{name}out"), hidden, c)
    }

    fn weights(self) -> Result<Weights> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bench.safetensors");
        candle_core::safetensors::save(&self.0, &path)?;
        Ok(Weights::open(&path, &Device::Cpu)?) // mapped: the file may go
    }
}

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., dims, &Device::Cpu)
}

/// Times `run`, which does `flop` of multiplications and additions.
fn row(op: &str, n: usize, flop: f64, run: impl Fn() -> Result<()>) -> Result<()> {
    run()?;
    let mut times = vec![];
    let cpu = cpu_seconds();
    for _ in 0..11 {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    let cpu = (cpu_seconds() - cpu) / times.len() as f64;
    times.sort_by(f64::total_cmp);
    let (time, best) = (times[times.len() / 2], times[0]);
    let threads = rayon::current_num_threads();
    println!(
        "{{\"op\": \"{op}\", \"n\": {n}, \"threads\": {threads}, \"ms\": {:.3}, \"best_ms\": {:.3}, \"cpu_ms\": {:.3}, \
         \"gflop_per_s\": {:.0}, \"gflop_per_cpu_s\": {:.0}}}",
        1e3 * time,
        1e3 * best,
        1e3 * cpu,
        1e-9 * flop / best,
        1e-9 * flop / cpu
    );
    Ok(())
}

/// Processor time of all threads so far: on a machine that others use too, it says more than the clock.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// The layers of a Pairformer block on the pair representation.
fn pair_block(n: usize) -> Result<()> {
    let c = 128;
    let (z, mask) = (random(&[1, n, n, c])?, Tensor::ones((1, n, n), candle_core::DType::F32, &Device::Cpu)?);
    let nn = (n * n) as f64;
    let cc = (c * c) as f64;
    let cube = (n * c) as f64 * nn;

    let w = Maker::default()
        .norm("norm_in", c)?
        .linear("ab", c, 2 * c)?
        .linear("ab_gate", c, 2 * c)?
        .norm("norm_out", c)?
        .linear("out", c, c)?
        .linear("out_gate", c, c)?
        .weights()?;
    for (name, edges) in
        [("triangle_multiplication_out", Edges::Outgoing), ("triangle_multiplication_in", Edges::Incoming)]
    {
        let layer = TriangleMultiplication::load(c, c, edges, &w)?;
        row(name, n, 12. * nn * cc + 2. * cube, || layer.add_to(&z, &mask))?;
    }

    let w = Maker::default().norm("norm", c)?.linear("bias", c, 4)?.attention("attention.", c, c)?.weights()?;
    for (name, node) in [("triangle_attention_start", Node::Starting), ("triangle_attention_end", Node::Ending)] {
        let layer = TriangleAttention::load(c, 32, 4, node, BiasOrder::QueryKey, &w)?;
        row(name, n, 10. * nn * cc + 4. * cube, || layer.add_to(&z, &mask))?;
    }

    let w = Maker::default()
        .norm("norm", c)?
        .linear("a", c, 4 * c)?
        .linear("b", c, 4 * c)?
        .linear("out", 4 * c, c)?
        .weights()?;
    let layer = SwiGluTransition::load(c, 4 * c, &w)?;
    row("pair_transition", n, 24. * nn * cc, || layer.add_to(&z, Some(&mask.squeeze(0)?.unsqueeze(0)?)))?;

    let w = Maker::default().norm("norm", c)?.linear("bias", c, 16)?.weights()?;
    let (norm, bias) = (Norm::load(c, &w.at("norm"))?, Linear::load(c, 16, &w.at("bias"))?);
    row("pair_bias", n, 2. * nn * (c * 16) as f64, || pair_bias(&z, Some(&norm), &bias).map(drop))
}

/// The layers of the MSA module on `rows` sequences.
fn msa(n: usize, rows: usize) -> Result<()> {
    let (c_m, c_z) = (64, 128);
    let (z, m) = (random(&[1, n, n, c_z])?, random(&[1, rows, n, c_m])?);
    let mask = Tensor::ones((1, rows, n), candle_core::DType::F32, &Device::Cpu)?;
    let pair_mask = Tensor::ones((1, n, n), candle_core::DType::F32, &Device::Cpu)?;
    let nn = (n * n) as f64;
    let w = Maker::default()
        .norm("norm", c_m)?
        .linear("a", c_m, 32)?
        .linear("b", c_m, 32)?
        .biased("out", 1024, c_z)?
        .weights()?;
    let layer = OuterProductMean::load(c_m, 32, c_z, &w)?;
    let flop = 2. * nn * 1024. * (rows + c_z) as f64;
    row(&format!("outer_product_mean_{rows}"), n, flop, || layer.add_to(&z, &m, &mask))?;
    let w = Maker::default()
        .norm("norm_m", c_m)?
        .norm("norm_z", c_z)?
        .linear("bias", c_z, 8)?
        .linear("v", c_m, 64)?
        .linear("gate", c_m, 64)?
        .linear("out", 64, c_m)?
        .weights()?;
    let layer = PairWeightedAverage::load(c_m, c_z, 8, 8, &w)?;
    let flop = 2. * nn * (rows * 64) as f64 + 2. * nn * (c_z * 8) as f64 + 6. * (rows * n * c_m * 64) as f64;
    row(&format!("pair_weighted_average_{rows}"), n, flop, || layer.add_to(&m, &z, &pair_mask))
}

/// The 24 blocks of the token transformer, with weights of their own, as one denoising step runs them.
fn token_transformer(n: usize, samples: usize) -> Result<()> {
    let (c, c_s, n_head) = (768, 384, 16);
    struct Block {
        ada_norm: AdaNorm,
        out_gate: Linear,
        attention: Attention,
        transition: ConditionedTransition,
    }
    let ada = |made: Maker, name: &str| -> Result<Maker> {
        let mut made = made.biased(&format!("{name}.gain"), c_s, c)?.linear(&format!("{name}.shift"), c_s, c)?;
        made.tensor(&format!("{name}.norm_s.weight"), &[c_s], 1.)?;
        Ok(made)
    };
    let mut blocks = vec![];
    for _ in 0..24 {
        let made = ada(Maker::default(), "ada_norm")?.biased("out_gate", c_s, c)?.attention("attention.", c, c)?;
        let made = ada(made, "transition.ada_norm")?.biased("transition.gate", c_s, c)?;
        let made = made.linear("transition.a", c, 2 * c)?.linear("transition.b", c, 2 * c)?;
        let w = made.linear("transition.out", 2 * c, c)?.weights()?;
        blocks.push(Block {
            ada_norm: AdaNorm::load(c, c_s, &w.at("ada_norm"))?,
            out_gate: Linear::load(c_s, c, &w.at("out_gate"))?,
            attention: Attention::load(c, c, c / n_head, n_head, &w.at("attention"))?,
            transition: ConditionedTransition::load(c, c_s, 2 * c, &w.at("transition"))?,
        });
    }
    let (a, s) = (random(&[samples, n, c])?, random(&[1, n, c_s])?);
    let (bias, hidden) =
        (random(&[1, n_head, n, n])?, Tensor::zeros((1, 1, 1, n), candle_core::DType::F32, &Device::Cpu)?);
    let of_a = (11 * c * c * n * samples) as f64 + (2 * n * n * c * samples) as f64;
    let of_s = (6 * c * c_s * n) as f64;
    row(&format!("token_transformer_{samples}"), n, 24. * 2. * (of_a + of_s), || {
        for block in &blocks {
            let x = block.ada_norm.forward(&a, &s)?;
            let gate = sigmoid(&block.out_gate.forward(&s)?)?;
            gate_add(&a, &gate, &block.attention.forward(&x, &x, &[&hidden, &bias])?)?;
            block.transition.add_to(&a, &s)?;
        }
        Ok(())
    })
}

/// Attention of atoms in windows, about eight atoms a token.
fn atoms(n: usize, samples: usize) -> Result<()> {
    let (n_atom, c, n_head) = (8 * n, 128, 4);
    let starts: Vec<usize> =
        (0..n_atom.div_ceil(32)).map(|b| (32 * b).saturating_sub(48).min(n_atom.saturating_sub(128))).collect();
    let bias = random(&[1, starts.len(), n_head, 32, 128])?;
    let [q, k, v, gate] = [(); 4].map(|()| random(&[samples, n_atom, c]));
    let (q, k, v, gate) = (q?, k?, v?, gate?);
    let op = LocalAttention { q: &q, k: &k, v: &v, gate: Some(&gate), bias: &bias, starts: &starts };
    row(&format!("local_attention_{samples}"), n, 4. * (samples * n_atom * 128 * c) as f64, || op.forward().map(drop))
}

/// The single representation's layers of a Pairformer block.
fn single(n: usize) -> Result<()> {
    let c = 384;
    let s = random(&[1, n, c])?;
    let w = Maker::default()
        .norm("norm", c)?
        .linear("a", c, 4 * c)?
        .linear("b", c, 4 * c)?
        .linear("out", 4 * c, c)?
        .attention("attention.", c, c)?
        .weights()?;
    let transition = SwiGluTransition::load(c, 4 * c, &w)?;
    row("single_transition", n, (24 * n * c * c) as f64, || transition.add_to(&s, None))?;
    let attention = Attention::load(c, c, 24, 16, &w.at("attention"))?;
    let bias = random(&[1, 16, n, n])?;
    let flop = (10 * n * c * c + 4 * n * n * c) as f64;
    row("single_attention", n, flop, || attention.forward(&s, &s, &[&bias]).map(drop))
}

fn main() -> Result<()> {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    for n in [76, 256] {
        if wanted("pair_block") {
            pair_block(n)?;
        }
        if wanted("single") {
            single(n)?;
        }
        for rows in [2, 256] {
            if wanted("msa") {
                msa(n, rows)?;
            }
        }
        for samples in [1, 5] {
            if wanted("atoms") {
                atoms(n, samples)?;
            }
            if wanted("token_transformer") {
                token_transformer(n, samples)?;
            }
        }
    }
    Ok(())
}
