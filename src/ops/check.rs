//! Each fused operation on a device against its reference in plain tensor operations on the CPU.
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};

use super::*;
use crate::weights::{CodeLayout, Format, Param, Quantised, Weights};

/// One operation at one size.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The operation.
    pub name: &'static str,
    /// Largest difference from the reference, of the reference's largest value; infinite if there is a NaN.
    pub difference: f32,
    /// Time of the operation on the device with its results read back; the first also compiles its shader.
    pub elapsed: Duration,
}

impl Check {
    /// Differences of single precision stay below this; a wrong kernel goes far beyond.
    pub const LIMIT: f32 = 1e-5;

    /// Is the difference one of rounding?
    pub fn passed(&self) -> bool {
        self.difference <= Self::LIMIT
    }
}

/// The operation with operands on a device, or its reference with the same on the CPU.
type Side = fn(&Place) -> Result<Tensor>;

/// [`attention`] or its reference.
type Attend = fn(&Tensor, &Tensor, &Tensor, &[&Tensor], Option<&Tensor>, usize) -> Result<Tensor>;

/// [`RopeAttention`] or its reference.
type Turn = fn(&RopeAttention, &Tensor, &Rope, &Tensor) -> Result<Tensor>;

/// Name, operation, reference.
const CASES: [(&str, Side, Side); 28] = [
    ("layer norm", |p| p.norm(C)?.forward(&p.x()?), |p| p.norm(C)?.forward_reference(&p.x()?)),
    (
        "adaptive norm",
        |p| p.ada_norm()?.forward(&p.x()?, &p.s()?),
        |p| {
            let norm = p.ada_norm()?;
            norm.apply_reference(&p.x()?, &norm.condition_reference(&p.s()?)?)
        },
    ),
    ("sigmoid gate", |p| sigmoid_gate(&p.x()?, &p.y()?), |p| sigmoid_gate_reference(&p.x()?, &p.y()?)),
    ("silu gate", |p| silu_gate(&p.x()?, &p.y()?), |p| silu_gate_reference(&p.x()?, &p.y()?)),
    ("softmax", |p| softmax(&p.x()?), |p| softmax_reference(&p.x()?)),
    (
        "sum in place",
        |p| p.changed(p.x()?, |x| add_in_place(x, &p.s()?)),
        |p| p.changed(p.x()?, |x| add_in_place_reference(x, &p.s()?)),
    ),
    (
        "gated sum in place",
        |p| p.changed(p.x()?, |x| gate_add(x, &p.s()?, &p.y()?)),
        |p| p.changed(p.x()?, |x| gate_add_reference(x, &p.s()?, &p.y()?)),
    ),
    (
        "sigmoid-gated sum in place",
        |p| p.changed(p.x()?, |x| add_sigmoid_gate(x, &p.y()?, &p.s()?)),
        |p| p.changed(p.x()?, |x| add_sigmoid_gate_reference(x, &p.y()?, &p.s()?)),
    ),
    ("attention, heads of 24", |p| p.attention(24, attention), |p| p.attention(24, attention_reference)),
    ("attention, heads of 32", |p| p.attention(32, attention), |p| p.attention(32, attention_reference)),
    ("attention, heads of 48", |p| p.attention(48, attention), |p| p.attention(48, attention_reference)),
    ("attention, heads of 128", |p| p.attention(128, attention), |p| p.attention(128, attention_reference)),
    ("attention in windows", |p| p.windows(|op| op.forward()), |p| p.windows(|op| op.forward_reference())),
    (
        "rotary attention",
        |p| p.rope(|layer, x, rope, bias| layer.forward(x, rope, Some(bias))),
        |p| p.rope(|layer, x, rope, bias| layer.forward_reference(x, rope, Some(bias))),
    ),
    (
        "pair bias",
        |p| pair_bias(&p.z()?, Some(&p.norm(C_Z)?), &p.linear(8)?),
        |p| pair_bias_reference(&p.z()?, Some(&p.norm(C_Z)?), &p.linear(8)?),
    ),
    (
        "triangle multiplication, outgoing",
        |p| p.changed(p.z()?, |z| p.multiplication(Edges::Outgoing)?.add_to(z, &p.mask()?)),
        |p| p.changed(p.z()?, |z| p.multiplication(Edges::Outgoing)?.add_to_reference(z, &p.mask()?)),
    ),
    (
        "triangle multiplication, incoming",
        |p| p.changed(p.z()?, |z| p.multiplication(Edges::Incoming)?.add_to(z, &p.mask()?)),
        |p| p.changed(p.z()?, |z| p.multiplication(Edges::Incoming)?.add_to_reference(z, &p.mask()?)),
    ),
    (
        "triangle attention, starting",
        |p| p.changed(p.z()?, |z| p.triangle(Node::Starting, BiasOrder::QueryKey)?.add_to(z, &p.mask()?)),
        |p| p.changed(p.z()?, |z| p.triangle(Node::Starting, BiasOrder::QueryKey)?.add_to_reference(z, &p.mask()?)),
    ),
    (
        "triangle attention, ending",
        |p| p.changed(p.z()?, |z| p.triangle(Node::Ending, BiasOrder::KeyQuery)?.add_to(z, &p.mask()?)),
        |p| p.changed(p.z()?, |z| p.triangle(Node::Ending, BiasOrder::KeyQuery)?.add_to_reference(z, &p.mask()?)),
    ),
    (
        "layer norm and dense layer",
        |p| norm_linear(&p.z()?, &p.norm(C_Z)?, &p.linear(48)?),
        |p| norm_linear_reference(&p.z()?, &p.norm(C_Z)?, &p.linear(48)?),
    ),
    ("quantised layer, 4 bits", |p| p.quantised(4)?.forward(&p.z()?), |p| p.quantised(4)?.forward_reference(&p.z()?)),
    (
        "quantised layer, 8 bits, few rows",
        |p| p.quantised(8)?.forward(&p.z()?.narrow(2, 0, 1)?.narrow(1, 0, 3)?),
        |p| p.quantised(8)?.forward_reference(&p.z()?.narrow(2, 0, 1)?.narrow(1, 0, 3)?),
    ),
    (
        "ReLU transition",
        |p| p.changed(p.z()?, |z| p.relu_transition()?.add_to(z, Some(&p.mask()?))),
        |p| p.changed(p.z()?, |z| p.relu_transition()?.add_to_reference(z, Some(&p.mask()?))),
    ),
    (
        "SwiGLU transition",
        |p| p.changed(p.z()?, |z| p.transition()?.add_to(z, Some(&p.mask()?))),
        |p| p.changed(p.z()?, |z| p.transition()?.add_to_reference(z, Some(&p.mask()?))),
    ),
    (
        "conditioned attention",
        |p| p.changed(p.x()?, |x| p.conditioned_attention()?.add_to(x, &p.s()?, &[&p.pairs()?])),
        |p| {
            let layer = p.conditioned_attention()?;
            let condition = layer.condition_reference(&p.s()?)?;
            p.changed(p.x()?, |x| layer.add_with_reference(x, &condition, &[&p.pairs()?]))
        },
    ),
    (
        "conditioned transition",
        |p| p.changed(p.x()?, |x| p.conditioned()?.add_to(x, &p.s()?)),
        |p| {
            let layer = p.conditioned()?;
            p.changed(p.x()?, |x| layer.add_with_reference(x, &layer.condition_reference(&p.s()?)?))
        },
    ),
    (
        "outer product mean",
        |p| p.changed(p.z()?, |z| p.outer()?.add_to(z, &p.m()?, &p.msa_mask()?)),
        |p| p.changed(p.z()?, |z| p.outer()?.add_to_reference(z, &p.m()?, &p.msa_mask()?)),
    ),
    (
        "pair-weighted average",
        |p| p.changed(p.m()?, |m| p.average()?.add_to(m, &p.z()?, &p.mask()?)),
        |p| p.changed(p.m()?, |m| p.average()?.add_to_reference(m, &p.z()?, &p.mask()?)),
    ),
];

/// Runs every operation on `device`; an error stands for an operation that cannot run.
pub fn check(device: &Device) -> Vec<Result<Check>> {
    let run = |(name, operation, reference): (&'static str, Side, Side)| {
        let started = Instant::now();
        let got = operation(&Place { device })?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let elapsed = started.elapsed();
        let want = reference(&Place { device: &Device::Cpu })?.flatten_all()?.to_vec1::<f32>()?;
        Ok(Check { name, difference: difference(&got, &want), elapsed })
    };
    CASES.into_iter().map(|case| run(case).map_err(|e: candle_core::Error| e.context(case.0))).collect()
}

fn difference(got: &[f32], want: &[f32]) -> f32 {
    let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max) / largest;
    // A NaN is lost in a maximum.
    let sound = got.len() == want.len() && got.iter().chain(want).all(|v| v.is_finite());
    if sound { worst } else { f32::INFINITY }
}

/// Tokens, which fill no tile; rows of the alignment; channels of the pair representation and of all others.
const N: usize = 37;
const N_SEQ: usize = 5;
const C_Z: usize = 128;
const C: usize = 96;

/// Makes the same operands and layers, wherever it is asked.
struct Place<'a> {
    device: &'a Device,
}

impl Place<'_> {
    /// About normally distributed numbers, others for each `seed`.
    fn tensor(&self, seed: u64, dims: &[usize]) -> Result<Tensor> {
        let mut state = seed;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let mut value = || (uniform() + uniform() + uniform() + uniform() - 2.) * 1.7;
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| value()).collect();
        Tensor::from_vec(values, dims, self.device)
    }

    /// Ones, and a zero now and then; those of the second row throughout.
    fn ones(&self, seed: u64, dims: &[usize]) -> Result<Tensor> {
        let mask = self.tensor(seed, dims)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let hidden = |i: usize| (N..2 * N).contains(&i);
        let mask: Vec<f32> = mask.iter().enumerate().map(|(i, v)| f32::from(*v > -1. && !hidden(i))).collect();
        Tensor::from_vec(mask, dims, self.device)
    }

    fn weights(&self) -> Weights {
        Weights::untrained(1, self.device)
    }

    fn x(&self) -> Result<Tensor> {
        self.tensor(1, &[2, N, C])? * 3.
    }

    fn y(&self) -> Result<Tensor> {
        self.tensor(2, &[2, N, C])
    }

    fn s(&self) -> Result<Tensor> {
        self.tensor(3, &[1, N, C])
    }

    fn z(&self) -> Result<Tensor> {
        self.tensor(4, &[1, N, N, C_Z])
    }

    fn m(&self) -> Result<Tensor> {
        self.tensor(5, &[1, N_SEQ, N, C])
    }

    fn mask(&self) -> Result<Tensor> {
        self.ones(6, &[1, N, N])
    }

    fn msa_mask(&self) -> Result<Tensor> {
        self.ones(7, &[1, N_SEQ, N])
    }

    /// What `change` adds to `x`: a small update is not hidden by what it is added to.
    fn changed(&self, x: Tensor, change: impl Fn(&Tensor) -> Result<()>) -> Result<Tensor> {
        let before = x.force_contiguous()?;
        change(&x)?;
        x - before
    }

    fn norm(&self, c: usize) -> Result<Norm> {
        Norm::load(c, &self.weights().at("norm"))
    }

    fn linear(&self, n: usize) -> Result<Linear> {
        Linear::load(C_Z, n, &self.weights().at("linear"))
    }

    /// A layer of codes, all of them and the numbers with them made up.
    fn quantised(&self, bits: usize) -> Result<Linear> {
        let (n, layout) = (50, CodeLayout { bits, group: 64, of: Format::F32 });
        let values = |seed, n: usize| self.tensor(seed, &[n])?.to_device(&Device::Cpu)?.to_vec1::<f32>();
        let floats = |seed, scale: f32| {
            let bytes = values(seed, n * C_Z / layout.group)?.into_iter().flat_map(|v| (scale * v).to_le_bytes());
            Ok::<_, candle_core::Error>(bytes.collect::<Vec<u8>>())
        };
        let codes = values(8, n * layout.row_bytes(C_Z))?.into_iter().map(|v| (v * 100.) as i32 as u8).collect();
        let weight = Quantised::new([n, C_Z], layout, codes, floats(9, 0.2 / (1 << bits) as f32)?, floats(10, 0.1)?)?;
        Linear::new(Param::from(weight).to_device(self.device)?, None)
    }

    fn ada_norm(&self) -> Result<AdaNorm> {
        AdaNorm::load(C, C, &self.weights().at("ada_norm"))
    }

    /// Masked keys, a pair bias, one that hides all keys of some queries.
    fn attention(&self, d: usize, op: Attend) -> Result<Tensor> {
        let (b, h) = (2, 3);
        let x = |seed| self.tensor(seed, &[b, N, h * d]);
        let (q, k, v, gate) = (x(1)?, x(2)?, x(3)?, x(4)?);
        let pair = (self.tensor(5, &[1, h, N, N])? * 5.)?;
        let keys = ((self.ones(6, &[b, 1, 1, N])? - 1.)? * 1e9)?;
        let queries = ((self.ones(7, &[1, 1, N, 1])? - 1.)? * 1e9)?;
        op(&q, &k, &v, &[&keys, &pair, &queries], Some(&gate), h)
    }

    fn windows(&self, op: fn(&LocalAttention) -> Result<Tensor>) -> Result<Tensor> {
        let (b, n, h, d) = (2, 100, 4, 32);
        let x = |seed| self.tensor(seed, &[b, n, h * d]);
        let (q, k, v, gate) = (x(1)?, x(2)?, x(3)?, x(4)?);
        let bias = (self.tensor(5, &[1, 4, h, 32, 128])? * 3.)?;
        op(&LocalAttention { q: &q, k: &k, v: &v, gate: Some(&gate), bias: &bias, starts: &[0, 0, 16, 48] })
    }

    /// Two sequences in a row.
    fn rope(&self, op: Turn) -> Result<Tensor> {
        let layer = RopeAttention::load(C, 3, &self.weights().at("rope"))?;
        let id: Vec<u32> = (0..2 * N).map(|i| u32::from(i % N >= N / 3)).collect();
        let bias = same_sequence_bias(&Tensor::from_vec(id, (2, N), self.device)?)?;
        op(&layer, &self.x()?, &Rope::new(N, C / 3, self.device)?, &bias)
    }

    fn multiplication(&self, edges: Edges) -> Result<TriangleMultiplication> {
        TriangleMultiplication::load(C_Z, C_Z, edges, &self.weights().at("multiplication"))
    }

    fn triangle(&self, node: Node, order: BiasOrder) -> Result<TriangleAttention> {
        TriangleAttention::load(C_Z, 32, 4, node, order, &self.weights().at("triangle"))
    }

    fn transition(&self) -> Result<SwiGluTransition> {
        SwiGluTransition::load(C_Z, 2 * C_Z, &self.weights().at("transition"))
    }

    fn relu_transition(&self) -> Result<ReluTransition> {
        ReluTransition::load(C_Z, 4 * C_Z, &self.weights().at("relu"))
    }

    fn conditioned_attention(&self) -> Result<ConditionedAttention> {
        ConditionedAttention::load(C, C, C / 3, 3, &self.weights().at("conditioned_attention"))
    }

    /// A pair bias of three heads.
    fn pairs(&self) -> Result<Tensor> {
        self.tensor(5, &[1, 3, N, N])? * 5.
    }

    fn conditioned(&self) -> Result<ConditionedTransition> {
        ConditionedTransition::load(C, C, 2 * C, &self.weights().at("conditioned"))
    }

    fn outer(&self) -> Result<OuterProductMean> {
        OuterProductMean::load(C, 16, C_Z, &self.weights().at("outer"))
    }

    fn average(&self) -> Result<PairWeightedAverage> {
        PairWeightedAverage::load(C, C_Z, 8, 4, &self.weights().at("average"))
    }
}
