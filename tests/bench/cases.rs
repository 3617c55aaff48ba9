//! The operations that are timed, at the sizes of OpenFold3 0.5.0, with weights and operands of random numbers.
use candle_core::{DType, Device, Result, Tensor};
use fold::models::af3::atom_attention::{AtomTransformer, AtomWindows, WindowEnds};
use fold::models::af3::config::Config;
use fold::models::af3::pairformer::{AttentionPairBias, PairBlock, mask_bias};
use fold::models::af3::token_transformer::{PairNorm, TokenBlock};
use fold::models::openfold3::config::release_0_5;
use fold::ops::{
    AdaNorm, Attention, BiasOrder, ConditionedTransition, Edges, Linear, LocalAttention, Node, Norm, OuterProductMean,
    PairWeightedAverage, ReluTransition, Rope, RopeAttention, SwiGluTransition, TriangleAttention,
    TriangleMultiplication, gate_add_reference, norm_linear, norm_linear_reference, pair_bias, pair_bias_reference,
    sigmoid_gate, sigmoid_gate_reference, softmax, softmax_reference,
};
use fold::weights::Weights;

/// Something to be timed.
pub type Run = Box<dyn Fn() -> Result<()>>;

/// An operation with its operands.
pub struct Case {
    /// Multiplications and additions of its matrix products.
    pub flop: f64,
    /// The operation.
    pub run: Run,
    /// The same in plain tensor operations.
    pub reference: Run,
}

/// Makes a case for a number of tokens.
pub type Make = fn(usize) -> Result<Case>;

/// Every operation by name.
pub const CASES: [(&str, Make); 27] = [
    ("pair_block", pair_block),
    ("triangle_multiplication_out", |n| triangle_multiplication(n, Edges::Outgoing)),
    ("triangle_multiplication_in", |n| triangle_multiplication(n, Edges::Incoming)),
    ("triangle_attention_start", |n| triangle_attention(n, Node::Starting)),
    ("triangle_attention_end", |n| triangle_attention(n, Node::Ending)),
    ("pair_transition", |n| transition(&[1, n, n, C_Z])),
    ("single_transition", |n| transition(&[1, n, C_S])),
    ("conditioned_transition", conditioned_transition),
    ("layer_norm", layer_norm),
    ("norm_linear", pair_norm_linear),
    ("linear_pair", |n| linear(&[1, n, n, C_Z], C_Z)),
    ("linear_token", |n| linear(&[1, n, C_TOKEN], 2 * C_TOKEN)),
    ("sigmoid_gate", pair_sigmoid_gate),
    ("pair_bias", biases_of_pairs),
    ("single_attention", single_attention),
    ("token_attention", |n| token_block(n, 1, false)),
    ("token_transformer_block", |n| token_block(n, 1, true)),
    ("token_transformer_block_5", |n| token_block(n, 5, true)),
    ("ada_norm", ada_norm),
    ("local_attention", local_attention),
    ("atom_transformer", atom_transformer),
    ("outer_product_mean_1", |n| outer_product_mean(n, 1)),
    ("outer_product_mean_256", |n| outer_product_mean(n, 256)),
    ("pair_weighted_average_256", |n| pair_weighted_average(n, 256)),
    ("relu_transition", relu_transition),
    ("softmax", softmax_of_heads),
    ("rope_attention", rope_attention),
];

const C_Z: usize = 128;
/// Channels and heads of ESM3's smallest model.
const ESM3: [usize; 2] = [1536, 24];
const C_S: usize = 384;
const C_M: usize = 64;
const C_TOKEN: usize = 768;
const C_ATOM: usize = 128;
const C_ATOMPAIR: usize = 16;
/// About as many heavy atoms as a residue has.
const ATOMS_A_TOKEN: usize = 8;

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1., dims, &Device::Cpu)
}

fn ones(dims: &[usize]) -> Result<Tensor> {
    Tensor::ones(dims, DType::F32, &Device::Cpu)
}

fn weights() -> Weights {
    Weights::untrained(1, &Device::Cpu)
}

/// Floating-point operations of a product of so many rows, channels in and channels out.
fn product(rows: usize, k: usize, n: usize) -> f64 {
    2. * rows as f64 * k as f64 * n as f64
}

fn case(
    flop: f64,
    run: impl Fn() -> Result<()> + 'static,
    reference: impl Fn() -> Result<()> + 'static,
) -> Result<Case> {
    Ok(Case { flop, run: Box::new(run), reference: Box::new(reference) })
}

/// Operations of a triangle multiplication, a triangle attention and a pair transition.
fn pair_flop(n: usize) -> [f64; 3] {
    let (pairs, c) = (n * n, C_Z);
    let multiplication = 6. * product(pairs, c, c) + product(pairs, n, c);
    let attention = 5. * product(pairs, c, c) + product(pairs, c, 4) + 2. * product(pairs, n, c);
    [multiplication, attention, 3. * product(pairs, c, 4 * c)]
}

/// The pair part of a Pairformer block: the model's own code.
fn pair_block(n: usize) -> Result<Case> {
    let (z, mask, w) = (random(&[1, n, n, C_Z])?, ones(&[1, n, n])?, weights());
    let block = PairBlock::load(C_Z, release_0_5().pairformer.pair, BiasOrder::KeyQuery, &w)?;
    let mul = |edges, name| TriangleMultiplication::load(C_Z, C_Z, edges, &w.at(name));
    let att = |node, order, name| TriangleAttention::load(C_Z, 32, 4, node, order, &w.at(name));
    let (out, incoming) = (mul(Edges::Outgoing, "tri_mul_out")?, mul(Edges::Incoming, "tri_mul_in")?);
    let start = att(Node::Starting, BiasOrder::QueryKey, "tri_att_start")?;
    let end = att(Node::Ending, BiasOrder::KeyQuery, "tri_att_end")?;
    let transition = SwiGluTransition::load(C_Z, 4 * C_Z, &w.at("transition"))?;
    let [of_mul, of_att, of_transition] = pair_flop(n);
    let (z_plain, mask_plain) = (z.copy()?, mask.clone());
    case(
        2. * of_mul + 2. * of_att + of_transition,
        move || block.update(&z, &mask),
        move || {
            let (z, mask) = (&z_plain, &mask_plain);
            out.add_to_reference(z, mask)?;
            incoming.add_to_reference(z, mask)?;
            start.add_to_reference(z, mask)?;
            end.add_to_reference(z, mask)?;
            transition.add_to_reference(z, Some(mask))
        },
    )
}

fn triangle_multiplication(n: usize, edges: Edges) -> Result<Case> {
    let (z, mask) = (random(&[1, n, n, C_Z])?, ones(&[1, n, n])?);
    let layer = TriangleMultiplication::load(C_Z, C_Z, edges, &weights())?;
    let (l, x, m) = (layer.clone(), z.copy()?, mask.clone());
    case(pair_flop(n)[0], move || layer.add_to(&z, &mask), move || l.add_to_reference(&x, &m))
}

fn triangle_attention(n: usize, node: Node) -> Result<Case> {
    let (z, mask) = (random(&[1, n, n, C_Z])?, ones(&[1, n, n])?);
    let layer = TriangleAttention::load(C_Z, 32, 4, node, BiasOrder::QueryKey, &weights())?;
    let (l, x, m) = (layer.clone(), z.copy()?, mask.clone());
    case(pair_flop(n)[1], move || layer.add_to(&z, &mask), move || l.add_to_reference(&x, &m))
}

fn transition(dims: &[usize]) -> Result<Case> {
    let (x, mask) = (random(dims)?, ones(&dims[..dims.len() - 1])?);
    let c = dims[dims.len() - 1];
    let layer = SwiGluTransition::load(c, 4 * c, &weights())?;
    let (l, y, m) = (layer.clone(), x.copy()?, mask.clone());
    let flop = 3. * product(mask.elem_count(), c, 4 * c);
    case(flop, move || layer.add_to(&x, Some(&mask)), move || l.add_to_reference(&y, Some(&m)))
}

fn conditioned_transition(n: usize) -> Result<Case> {
    let (a, s) = (random(&[1, n, C_TOKEN])?, random(&[1, n, C_S])?);
    let layer = ConditionedTransition::load(C_TOKEN, C_S, 2 * C_TOKEN, &weights())?;
    let (l, x, t) = (layer.clone(), a.copy()?, s.clone());
    let flop = 3. * product(n, C_TOKEN, 2 * C_TOKEN) + 3. * product(n, C_S, C_TOKEN);
    case(flop, move || layer.add_to(&a, &s), move || l.add_with_reference(&x, &l.condition_reference(&t)?))
}

fn layer_norm(n: usize) -> Result<Case> {
    let (z, norm) = (random(&[1, n, n, C_Z])?, Norm::load(C_Z, &weights())?);
    let (x, plain) = (z.clone(), norm.clone());
    case(0., move || norm.forward(&z).map(drop), move || plain.forward_reference(&x).map(drop))
}

fn pair_norm_linear(n: usize) -> Result<Case> {
    let (z, w) = (random(&[1, n, n, C_Z])?, weights());
    let (norm, lin) = (Norm::load(C_Z, &w.at("norm"))?, Linear::load(C_Z, C_Z, &w.at("linear"))?);
    let (x, p, l) = (z.clone(), norm.clone(), lin.clone());
    case(
        product(n * n, C_Z, C_Z),
        move || norm_linear(&z, &norm, &lin).map(drop),
        move || norm_linear_reference(&x, &p, &l).map(drop),
    )
}

fn linear(dims: &[usize], c_out: usize) -> Result<Case> {
    let x = random(dims)?;
    let c = dims[dims.len() - 1];
    let layer = Linear::load(c, c_out, &weights())?;
    let (l, y) = (layer.clone(), x.clone());
    let flop = product(x.elem_count() / c, c, c_out);
    case(flop, move || layer.forward(&x).map(drop), move || l.forward_reference(&y).map(drop))
}

fn pair_sigmoid_gate(n: usize) -> Result<Case> {
    let (x, g) = (random(&[1, n, n, C_Z])?, random(&[1, n, n, C_Z])?);
    let (y, h) = (x.clone(), g.clone());
    case(0., move || sigmoid_gate(&x, &g).map(drop), move || sigmoid_gate_reference(&y, &h).map(drop))
}

fn biases_of_pairs(n: usize) -> Result<Case> {
    let (z, w) = (random(&[1, n, n, C_Z])?, weights());
    let (norm, lin) = (Norm::load(C_Z, &w.at("norm"))?, Linear::load(C_Z, 16, &w.at("bias"))?);
    let (x, p, l) = (z.clone(), norm.clone(), lin.clone());
    case(
        product(n * n, C_Z, 16),
        move || pair_bias(&z, Some(&norm), &lin).map(drop),
        move || pair_bias_reference(&x, Some(&p), &l).map(drop),
    )
}

/// Attention of the single representation with its norms and the bias from the pair representation: the model's own code.
fn single_attention(n: usize) -> Result<Case> {
    let (s, z, mask, w) = (random(&[1, n, C_S])?, random(&[1, n, n, C_Z])?, ones(&[1, n])?, weights());
    let layer = AttentionPairBias::load(C_S, C_Z, 24, 16, &w)?;
    let (norm, norm_z) = (Norm::load(C_S, &w.at("norm"))?, Norm::load(C_Z, &w.at("norm_z"))?);
    let bias = Linear::load(C_Z, 16, &w.at("bias"))?;
    let attention = Attention::load(C_S, C_S, 24, 16, &w.at("attention"))?;
    let (x, y, hidden) = (s.clone(), z.clone(), mask_bias(&mask)?);
    let flop = 5. * product(n, C_S, C_S) + 2. * product(n, n, C_S) + product(n * n, C_Z, 16);
    case(
        flop,
        move || layer.forward(&s, &z, &mask).map(drop),
        move || {
            let a = norm.forward_reference(&x)?;
            let bias = pair_bias_reference(&y, Some(&norm_z), &bias)?;
            attention.forward_reference(&a, &a, &[&hidden, &bias]).map(drop)
        },
    )
}

/// A block of the token transformer, or its attention alone, with the bias from the normalised pair representation and all
/// that depends on the conditioning, which a prediction computes once: the model's own code.
fn token_block(n: usize, samples: usize, whole: bool) -> Result<Case> {
    let (config, w) = (release_0_5(), weights());
    let (a, s) = (random(&[samples, n, C_TOKEN])?, random(&[1, n, C_S])?);
    let (z, hidden) = (random(&[1, n, n, C_Z])?, mask_bias(&ones(&[1, n])?)?);
    let block = TokenBlock::load(&config, config.token_transformer, PairNorm::Shared, &w)?;
    let at = w.at("attention_pair_bias");
    let norm = AdaNorm::load(C_TOKEN, C_S, &at.at("ada_norm"))?;
    let out_gate = Linear::load(C_S, C_TOKEN, &at.at("out_gate"))?;
    let bias = Linear::load(C_Z, 16, &at.at("bias"))?;
    let attention = Attention::load(C_TOKEN, C_TOKEN, 48, 16, &at.at("attention"))?;
    let transition = ConditionedTransition::load(C_TOKEN, C_S, 2 * C_TOKEN, &w.at("transition"))?;
    let (rows, c) = (samples * n, C_TOKEN);
    let of_attention = 5. * product(rows, c, c) + 2. * product(rows, n, c) + product(n * n, C_Z, 16);
    let of_transition = 3. * product(rows, c, 2 * c) + 3. * product(n, C_S, c);
    let flop = of_attention + 3. * product(n, C_S, c) + if whole { of_transition } else { 0. };
    let (x, t, y, h) = (a.copy()?, s.clone(), z.clone(), hidden.clone());
    case(
        flop,
        move || {
            let bias = block.bias(&z)?;
            let biases = [&hidden, &bias];
            if whole { block.update(&a, &s, &biases) } else { block.attend(&a, &s, &biases) }
        },
        move || {
            let normed = norm.apply_reference(&x, &norm.condition_reference(&t)?)?;
            let bias = pair_bias_reference(&y, None, &bias)?;
            let update = attention.forward_reference(&normed, &normed, &[&h, &bias])?;
            let gate = candle_nn::ops::sigmoid(&out_gate.forward_reference(&t)?)?;
            gate_add_reference(&x, &gate, &update)?;
            if whole { transition.add_with_reference(&x, &transition.condition_reference(&t)?) } else { Ok(()) }
        },
    )
}

fn ada_norm(n: usize) -> Result<Case> {
    let (a, s) = (random(&[1, n, C_TOKEN])?, random(&[1, n, C_S])?);
    let layer = AdaNorm::load(C_TOKEN, C_S, &weights())?;
    let (l, x, t) = (layer.clone(), a.clone(), s.clone());
    case(
        2. * product(n, C_S, C_TOKEN),
        move || layer.forward(&a, &s).map(drop),
        move || l.apply_reference(&x, &l.condition_reference(&t)?).map(drop),
    )
}

/// Attention of atoms in windows, queries, keys, values, gate and biases given.
fn local_attention(n: usize) -> Result<Case> {
    let n_atom = ATOMS_A_TOKEN * n;
    let windows = AtomWindows::new(&vec![1.; n_atom], 32, 128, WindowEnds::Shifted, &Device::Cpu)?;
    let of_atoms = || random(&[1, n_atom, C_ATOM]);
    let (q, k, v, gate) = (of_atoms()?, of_atoms()?, of_atoms()?, of_atoms()?);
    let bias = random(&[1, windows.n_block(), 4, 32, 128])?;
    let attend = move |fused: bool| {
        let (gate, starts) = (Some(&gate), &windows.starts[..]);
        let op = LocalAttention { q: &q, k: &k, v: &v, gate, bias: &bias, starts };
        if fused { op.forward().map(drop) } else { op.forward_reference().map(drop) }
    };
    let attend = std::rc::Rc::new(attend);
    let plain = attend.clone();
    case(2. * product(n_atom, 128, C_ATOM), move || attend(true), move || plain(false))
}

/// An atom transformer of one block with all that depends on the conditioning: the model's own code.
fn atom_transformer(n: usize) -> Result<Case> {
    let (n_atom, c, w) = (ATOMS_A_TOKEN * n, C_ATOM, weights());
    let windows = AtomWindows::new(&vec![1.; n_atom], 32, 128, WindowEnds::Shifted, &Device::Cpu)?;
    let (a, s) = (random(&[1, n_atom, c])?, random(&[1, n_atom, c])?);
    let p = random(&[windows.n_block(), 32, 128, C_ATOMPAIR])?;
    let config: Config = release_0_5();
    let mut sizes = config.atom_encoder;
    sizes.n_block = 1;
    let layer = AtomTransformer::load(&config, sizes, &w)?;
    let plain = AtomReference::load(&w)?;
    let pairs = windows.n_block() * 32 * 128;
    let flop = 5. * product(n_atom, c, c) // projections
        + 2. * product(n_atom, 128, c)
        + 8. * product(n_atom, c, c) // two adaptive norms, a norm and its gate, the output gate, the transition's gate
        + 3. * product(n_atom, c, 2 * c)
        + product(pairs, C_ATOMPAIR, 4);
    let shared = std::rc::Rc::new((s, p, windows));
    let (mine, x) = (shared.clone(), a.copy()?);
    case(
        flop,
        move || {
            let (s, p, windows) = &*mine;
            let some = |blocks: std::ops::Range<usize>| p.narrow(0, blocks.start, blocks.len());
            layer.update(&a, &layer.condition(s, &some, windows)?, windows)
        },
        move || plain.update(&x, &shared.0, &shared.1, &shared.2),
    )
}

/// The layers of an atom transformer's block, composed of references.
struct AtomReference {
    norm_z: Norm,
    ada_norm_q: AdaNorm,
    ada_norm_k: AdaNorm,
    out_gate: Linear,
    bias: Linear,
    attention: Attention,
    transition: ConditionedTransition,
}

impl AtomReference {
    fn load(w: &Weights) -> Result<Self> {
        let (c, block) = (C_ATOM, w.at("blocks.0"));
        let at = block.at("attention_pair_bias");
        Ok(Self {
            norm_z: Norm::load(C_ATOMPAIR, &w.at("norm_z"))?,
            ada_norm_q: AdaNorm::load(c, c, &at.at("ada_norm_q"))?,
            ada_norm_k: AdaNorm::load(c, c, &at.at("ada_norm_k"))?,
            out_gate: Linear::load(c, c, &at.at("out_gate"))?,
            bias: Linear::load(C_ATOMPAIR, 4, &at.at("bias"))?,
            attention: Attention::load(c, c, 32, 4, &at.at("attention"))?,
            transition: ConditionedTransition::load(c, c, 2 * c, &block.at("transition"))?,
        })
    }

    fn update(&self, a: &Tensor, s: &Tensor, p: &Tensor, windows: &AtomWindows) -> Result<()> {
        let bias = pair_bias_reference(&self.norm_z.forward_reference(p)?, None, &self.bias)?;
        let heads = &self.attention;
        let a_q = self.ada_norm_q.apply_reference(a, &self.ada_norm_q.condition_reference(s)?)?;
        let a_k = self.ada_norm_k.apply_reference(a, &self.ada_norm_k.condition_reference(s)?)?;
        let gate = heads.gate.as_ref().map(|gate| gate.forward_reference(&a_q)).transpose()?;
        let o = LocalAttention {
            q: &heads.q.forward_reference(&a_q)?,
            k: &heads.k.forward_reference(&a_k)?,
            v: &heads.v.forward_reference(&a_k)?,
            gate: gate.as_ref(),
            bias: &bias.broadcast_add(&windows.bias)?.unsqueeze(0)?,
            starts: &windows.starts,
        };
        let out_gate = candle_nn::ops::sigmoid(&self.out_gate.forward_reference(s)?)?;
        gate_add_reference(a, &out_gate, &heads.out.forward_reference(&o.forward_reference()?)?)?;
        self.transition.add_with_reference(a, &self.transition.condition_reference(s)?)
    }
}

fn outer_product_mean(n: usize, rows: usize) -> Result<Case> {
    let (z, m) = (random(&[1, n, n, C_Z])?, random(&[1, rows, n, C_M])?);
    let mask = ones(&[1, rows, n])?;
    let layer = OuterProductMean::load(C_M, 32, C_Z, &weights())?;
    let (l, x, y, k) = (layer.clone(), z.copy()?, m.clone(), mask.clone());
    // Whichever is less: the outer products and their projection, or the weight times a and that times b.
    let plain = product(n * n, rows, 32 * 32) + product(n * n, 32 * 32, C_Z);
    let weight_first = product(rows * n, 32, 32 * C_Z) + product(n * n, rows * 32, C_Z);
    let flop = plain.min(weight_first) + 2. * product(rows * n, C_M, 32);
    case(flop, move || layer.add_to(&z, &m, &mask), move || l.add_to_reference(&x, &y, &k))
}

fn pair_weighted_average(n: usize, rows: usize) -> Result<Case> {
    let (z, m, mask) = (random(&[1, n, n, C_Z])?, random(&[1, rows, n, C_M])?, ones(&[1, n, n])?);
    let layer = PairWeightedAverage::load(C_M, C_Z, 8, 8, &weights())?;
    let (l, x, y, k) = (layer.clone(), m.copy()?, z.clone(), mask.clone());
    let flop = product(rows * n, n, 64) + product(n * n, C_Z, 8) + 3. * product(rows * n, C_M, 64);
    case(flop, move || layer.add_to(&m, &z, &mask), move || l.add_to_reference(&x, &y, &k))
}

/// The pair transition of AlphaFold 2.
fn relu_transition(n: usize) -> Result<Case> {
    let (z, mask) = (random(&[1, n, n, C_Z])?, ones(&[1, n, n])?);
    let layer = ReluTransition::load(C_Z, 4 * C_Z, &weights())?;
    let (l, x, m) = (layer.clone(), z.copy()?, mask.clone());
    let flop = 2. * product(n * n, C_Z, 4 * C_Z);
    case(flop, move || layer.add_to(&z, Some(&mask)), move || l.add_to_reference(&x, Some(&m)))
}

fn softmax_of_heads(n: usize) -> Result<Case> {
    let x = random(&[1, 16, n, n])?;
    let y = x.clone();
    case(0., move || softmax(&x).map(drop), move || softmax_reference(&y).map(drop))
}

fn rope_attention(n: usize) -> Result<Case> {
    let [c, heads] = ESM3;
    let (x, rope) = (random(&[1, n, c])?, Rope::new(n, c / heads, &Device::Cpu)?);
    let layer = RopeAttention::load(c, heads, &weights())?;
    let (l, y, r) = (layer.clone(), x.clone(), rope.clone());
    let flop = 4. * product(n, c, c) + 2. * product(n, n, c);
    case(flop, move || layer.forward(&x, &rope, None).map(drop), move || l.forward_reference(&y, &r, None).map(drop))
}
