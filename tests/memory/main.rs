//! What the layers ask for on the way they take on Metal, counted: buffers as candle makes them, none computed.
//!
//! On the Mac a buffer is as large as the next power of two, and a freed one waits in candle's pool for a request that it is
//! large enough for; the pool shrinks only at a wait. So what a layer holds in the end is, for each size, the most buffers of
//! that size that it had at once: an upper bound, because a request may also take a larger buffer that is free.
mod count;

use candle_core::{DType, Device, Result, Tensor};
use fold::ops::metal::{Job, Output, StandIn, buffer_bytes, stand_in};
use fold::ops::{
    BiasOrder, Edges, Linear, Node, Norm, OuterProductMean, PairWeightedAverage, ReluTransition, SwiGluTransition,
    TriangleAttention, TriangleMultiplication, norm_linear, pair_bias,
};
use fold::weights::Weights;

/// A result of the right size with nothing in it.
fn made(job: &Job) -> Result<Tensor> {
    match &job.output {
        Output::New(shape) => Tensor::zeros(shape, job.dtype, &Device::Cpu),
        Output::Change(dst) => Ok((*dst).clone()),
    }
}

/// Runs a layer once.
type Layer<'a> = &'a dyn Fn() -> Result<()>;

/// Bytes of a block of rows.
const BLOCK: usize = 1 << 19;

/// Calls `f` on the way that operations take on Metal, in blocks of so many bytes.
fn on_metal<R>(block: usize, f: impl FnOnce() -> R) -> R {
    stand_in(StandIn { run: made, settle: count::settle, block }, f)
}

/// Bytes of the buffers that the pool holds after `f`, beyond those that there were.
fn held(f: impl Fn() -> Result<()>) -> Result<u64> {
    on_metal(BLOCK, || {
        f()?; // what the products of the CPU keep for themselves is made now
        count::start();
        f()?;
        Ok(count::held())
    })
}

/// docs/metal.md, Memory: what each layer of the trunk holds beside the pair representation, in U and in blocks.
#[test]
fn layers_keep_to_their_share() -> Result<()> {
    fold::device::start(Some(1)); // a product with more threads needs more of its own
    pair_layers_keep_to_their_share()?;
    alignment_layers_keep_to_their_share()
}

fn pair_layers_keep_to_their_share() -> Result<()> {
    let (n, c) = (128, 128);
    let u = buffer_bytes((n * n * c * 4) as u64);
    let w = Weights::untrained(1, &Device::Cpu);
    let z = Tensor::ones((1, n, n, c), DType::F32, &Device::Cpu)?;
    let mask = Tensor::ones((1, n, n), DType::F32, &Device::Cpu)?;
    let multiplication = |edges| TriangleMultiplication::load(c, c, edges, &w);
    let attention = |node| TriangleAttention::load(c, 32, 4, node, BiasOrder::QueryKey, &w);
    let (outgoing, incoming) = (multiplication(Edges::Outgoing)?, multiplication(Edges::Incoming)?);
    let (starting, ending) = (attention(Node::Starting)?, attention(Node::Ending)?);
    let (swiglu, relu) = (SwiGluTransition::load(c, 4 * c, &w)?, ReluTransition::load(c, 4 * c, &w)?);
    let (norm, heads, half) = (Norm::load(c, &w.at("norm"))?, Linear::load(c, 16, &w)?, Linear::load(c, c / 2, &w)?);
    // a, then the product: 1 U; b and the product of a chunk: U / 8 each.
    let planes = u + u / 4;
    let layers: [(&str, u64, Layer); 9] = [
        ("triangle multiplication, outgoing", planes, &|| outgoing.add_to(&z, &mask)),
        ("triangle multiplication, incoming", planes, &|| incoming.add_to(&z, &mask)),
        ("triangle attention, starting", u / 32, &|| starting.add_to(&z, &mask)),
        ("triangle attention, ending", u / 32, &|| ending.add_to(&z, &mask)),
        ("SwiGLU transition", 0, &|| swiglu.add_to(&z, Some(&mask))),
        ("ReLU transition", 0, &|| relu.add_to(&z, Some(&mask))),
        ("bias of 16 heads", u / 8, &|| pair_bias(&z, Some(&norm), &heads).map(drop)),
        ("norm and layer", u / 2, &|| norm_linear(&z, &norm, &half).map(drop)),
        // As in a block of the Pairformer, after which there is a wait.
        ("pair layers of a block", planes + u / 16, &|| {
            outgoing.add_to(&z, &mask)?;
            incoming.add_to(&z, &mask)?;
            starting.add_to(&z, &mask)?;
            ending.add_to(&z, &mask)?;
            swiglu.add_to(&z, Some(&mask))
        }),
    ];
    layers.into_iter().try_for_each(|(what, whole, layer)| keeps_to(what, whole, u, layer))
}

/// The same for the layers of the alignment, beside its representation of `r n c_m` values.
fn alignment_layers_keep_to_their_share() -> Result<()> {
    let (r, n, c_m, c_z) = (256, 64, 64, 128);
    let alignment = buffer_bytes((r * n * c_m * 4) as u64);
    let w = Weights::untrained(1, &Device::Cpu);
    let ones = |dims: &[usize]| Tensor::ones(dims, DType::F32, &Device::Cpu);
    let (z, m) = (ones(&[1, n, n, c_z])?, ones(&[1, r, n, c_m])?);
    let (mask, pair_mask) = (ones(&[1, r, n])?, ones(&[1, n, n])?);
    let outer = OuterProductMean::load(c_m, 32, c_z, &w.at("outer"))?;
    let average = PairWeightedAverage::load(c_m, c_z, 32, 8, &w.at("average"))?;
    // a and b of half the channels each; a bias and a weight for each head and pair.
    keeps_to("outer product mean", alignment, alignment, &|| outer.add_to(&z, &m, &mask))?;
    let heads = 2 * buffer_bytes((8 * n * n * 4) as u64);
    keeps_to("pair-weighted average", heads, alignment, &|| average.add_to(&m, &z, &pair_mask))
}

/// Fails where `layer` holds less than `whole` bytes, or more than some blocks beyond.
fn keeps_to(what: &str, whole: u64, unit: u64, layer: Layer) -> Result<()> {
    let held = held(layer)?;
    let blocks = held.saturating_sub(whole) as f64 / BLOCK as f64;
    let [all, expected] = [held, whole].map(|bytes| bytes as f64 / unit as f64);
    println!("{what}: {all:.3} representations, {blocks:.1} blocks beyond {expected:.3}");
    assert!(held >= whole && blocks <= 6., "{what}: {held} bytes, {whole} expected and some blocks of {BLOCK}");
    Ok(())
}
