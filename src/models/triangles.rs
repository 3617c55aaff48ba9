//! Triangle updates of a pair representation, as every model of the AlphaFold line has them: AF2 SI Alg. 11-14, AF3 SI Alg. 12-15.
use candle_core::{Result, Tensor};

use super::af3::config::PairConfig;
use crate::ops::{BiasOrder, Edges, Node, TriangleAttention, TriangleMultiplication};
use crate::weights::Weights;

/// The four layers, of which every block of a pair representation has one each.
#[derive(Debug)]
pub struct Triangles {
    /// AF2 SI Alg. 11.
    pub mul_out: TriangleMultiplication,
    /// Alg. 12.
    pub mul_in: TriangleMultiplication,
    /// Alg. 13.
    pub att_start: TriangleAttention,
    /// Alg. 14.
    pub att_end: TriangleAttention,
}

impl Triangles {
    /// On `c_z` channels; the ending node's bias has the order of `ending_bias`.
    pub fn load(c_z: usize, config: PairConfig, ending_bias: BiasOrder, w: &Weights) -> Result<Self> {
        let mul = |edges, name| TriangleMultiplication::load(c_z, config.c_hidden_mul, edges, &w.at(name));
        let att = |node, order, name| {
            TriangleAttention::load(c_z, config.c_hidden_att, config.n_head, node, order, &w.at(name))
        };
        Ok(Self {
            mul_out: mul(Edges::Outgoing, "tri_mul_out")?,
            mul_in: mul(Edges::Incoming, "tri_mul_in")?,
            att_start: att(Node::Starting, BiasOrder::QueryKey, "tri_att_start")?,
            att_end: att(Node::Ending, ending_bias, "tri_att_end")?,
        })
    }

    /// Both multiplications: updates `z` `[b, n, n, c_z]` in place; `mask` `[b, n, n]`, 1 = real.
    pub fn multiply(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        self.mul_out.add_to(z, mask)?;
        self.mul_in.add_to(z, mask)
    }

    /// Both attentions, in the same way.
    pub fn attend(&self, z: &Tensor, mask: &Tensor) -> Result<()> {
        self.att_start.add_to(z, mask)?;
        self.att_end.add_to(z, mask)
    }
}
