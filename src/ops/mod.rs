//! The fused operations and layers of the networks: one file each, with a kernel per device behind one function.
//!
//! Every operation has a `_reference` twin in plain tensor operations. It is what runs on a device without a kernel, and
//! what each kernel is tested against.
mod ada_norm;
mod attention;
mod check;
mod conditioned_attention;
mod cpu;
mod elementwise;
mod geometric_attention;
mod layer_norm;
mod linear;
mod local_attention;
pub mod metal;
mod msa_attention;
mod outer_product_mean;
mod pair_average;
mod peak;
mod point_attention;
mod rope;
mod rows;
#[cfg(test)]
mod testing;
mod transition;
mod triangle_attention;
mod triangle_multiplication;

pub use ada_norm::{AdaCondition, AdaNorm, ConditionedTransition, LayerCondition};
pub use attention::{Attention, attention, attention_reference, pair_bias, pair_bias_reference};
pub use check::{Check, check};
pub use conditioned_attention::ConditionedAttention;
pub use cpu::scratch::release as release_scratch;
pub use cpu::simd::{Isa, with_isa};
pub use elementwise::{
    add_in_place, add_in_place_reference, add_sigmoid_gate, add_sigmoid_gate_reference, gate_add, gate_add_reference,
    gelu, relu, sigmoid, sigmoid_gate, sigmoid_gate_reference, silu_gate, silu_gate_reference, softmax,
    softmax_reference,
};
pub use geometric_attention::GeometricAttention;
pub use layer_norm::{Norm, norm_linear, norm_linear_in_place, norm_linear_reference};
pub use linear::Linear;
pub use local_attention::LocalAttention;
pub use metal::settle;
pub use msa_attention::{MsaColumnAttention, MsaColumnGlobalAttention, MsaRowAttention};
pub use outer_product_mean::OuterProductMean;
pub use pair_average::PairWeightedAverage;
pub use peak::measured_gemm_peak;
pub use point_attention::{PointAttended, PointAttention};
pub use rope::{Rope, RopeAttention, norm_rotate, norm_rotate_reference, same_sequence_bias};
pub use rows::{RowLinear, gelu_rows};
pub use transition::{ReluTransition, SwiGluTransition};
pub use triangle_attention::{BiasOrder, Node, TriangleAttention};
pub use triangle_multiplication::{Edges, TriangleMultiplication};
