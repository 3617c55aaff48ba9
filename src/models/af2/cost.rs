//! Arithmetic of each stage of a pass, counted from the sizes: two operations for each multiplication of a product.
use super::config::{Config, StackConfig, StructureConfig};
use crate::models::af3::config::PairConfig;

/// Floating-point operations of the matrix products of a block, by layer; norms, gates and softmax are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockCost {
    /// Attention along rows.
    pub row_attention: f64,
    /// Attention along columns.
    pub column_attention: f64,
    /// Transition of the MSA.
    pub msa_transition: f64,
    /// Outer product mean.
    pub outer_product_mean: f64,
    /// One triangle multiplication.
    pub triangle_multiplication: f64,
    /// One triangle attention.
    pub triangle_attention: f64,
    /// Transition of the pair representation.
    pub pair_transition: f64,
}

/// The same of each stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// A block of the extra MSA.
    pub extra_msa: BlockCost,
    /// A block of the Evoformer.
    pub evoformer: BlockCost,
    /// All iterations of the structure module.
    pub structure: f64,
    /// The head of the aligned error.
    pub pae: f64,
}

impl BlockCost {
    /// The whole block.
    pub fn total(&self) -> f64 {
        self.row_attention
            + self.column_attention
            + self.msa_transition
            + self.outer_product_mean
            + 2. * (self.triangle_multiplication + self.triangle_attention)
            + self.pair_transition
    }

    /// Of `rows` sequences of `n` residues; `column_attention` is what differs between the stacks.
    fn new(n: f64, rows: f64, (c_m, c_z): (f64, f64), config: &StackConfig, column_attention: f64) -> Self {
        let PairConfig { c_hidden_mul, c_hidden_att, n_head, n_transition } = config.pair;
        let (pairs, hidden, outer) = (n * n, c_hidden_mul as f64, config.c_hidden_opm as f64);
        let attended = (c_hidden_att * n_head) as f64;
        // The products and the weight, or with few sequences one side and the weight, and then the other side.
        let mean = (pairs * outer * outer * (rows + c_z)).min(rows * n * outer * c_z * (outer + n));
        Self {
            row_attention: 2. * (self_attention(rows, n, c_m) + pairs * c_z * config.n_head as f64),
            column_attention: 2. * column_attention,
            msa_transition: 4. * rows * n * config.n_transition as f64 * c_m * c_m,
            outer_product_mean: 2. * (2. * rows * n * c_m * outer + mean),
            triangle_multiplication: 2. * (pairs * c_z * (5. * hidden + c_z) + pairs * n * hidden),
            triangle_attention: 2. * (pairs * c_z * (5. * attended + n_head as f64) + 2. * pairs * n * attended),
            pair_transition: 4. * pairs * n_transition as f64 * c_z * c_z,
        }
    }
}

/// Multiplications of gated attention inside each of `rows` sequences of `n` members, all heads together as wide as the input.
fn self_attention(rows: f64, n: f64, c: f64) -> f64 {
    rows * n * c * (5. * c + 2. * n)
}

impl Cost {
    /// For `n` residues, `n_seq` cluster centres and `n_extra` other rows.
    pub fn new(c: &Config, n: usize, n_seq: usize, n_extra: usize) -> Self {
        let [n, rows, extra, c_m, c_e, c_z] = [n, n_seq, n_extra, c.c_m, c.c_e, c.c_z].map(|x| x as f64);
        let c_head = c_e / c.extra_msa.n_head as f64;
        let global = n * c_e * (c_e + 2. * extra * (c_head + c_e) + 2. * extra);
        Self {
            extra_msa: BlockCost::new(n, extra, (c_e, c_z), &c.extra_msa, global),
            evoformer: BlockCost::new(n, rows, (c_m, c_z), &c.evoformer, self_attention(n, rows, c_m)),
            structure: structure(n, c.c_s as f64, c_z, c.structure),
            pae: 2. * n * n * c_z * c.heads.n_pae.unwrap_or(0) as f64,
        }
    }
}

fn structure(n: f64, c_s: f64, c_z: f64, s: StructureConfig) -> f64 {
    let [h, c, qk, v, side] = [s.n_head, s.c_hidden, s.n_point_qk, s.n_point_v, s.c_sidechain].map(|x| x as f64);
    let projections = c_s * h * (3. * c + 6. * qk + 3. * v) + h * (c + 4. * v + c_z) * c_s;
    let attention = n * h * (c + 3. * qk + c + 3. * v + c_z);
    let sidechain = 2. * c_s * side + 4. * side * side + 14. * side;
    let iteration = n * (projections + attention + 3. * c_s * c_s + 6. * c_s + sidechain);
    2. * (s.n_iteration as f64 * iteration + n * n * c_z * h + n * c_s * c_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One residue, one sequence: what is left is the number of weights of the dense layers.
    #[test]
    fn one_residue_takes_each_weight_once() {
        let release = weights_convert::ALPHAFOLD2.iter().find(|r| r.version == "model_3_ptm").expect("a release");
        let config: Config = serde_json::from_str(release.config).expect("its sizes");
        let cost = Cost::new(&config, 1, 1, 1);
        let (c_m, c_z) = (256., 128.);
        let block = cost.evoformer;
        assert_eq!(block.msa_transition, 2. * 2. * c_m * 4. * c_m);
        assert_eq!(block.pair_transition, 2. * 2. * c_z * 4. * c_z);
        assert_eq!(block.triangle_multiplication, 2. * (6. * c_z * c_z + c_z));
        assert_eq!(block.triangle_attention, 2. * (c_z * (5. * c_z + 4.) + 2. * c_z));
        assert_eq!(block.row_attention, 2. * (c_m * (5. * c_m + 2.) + c_z * 8.));
        assert_eq!(block.outer_product_mean, 2. * (2. * c_m * 32. + 32. * 32. * (c_z + 1.)));
        assert_eq!(cost.extra_msa.column_attention, 2. * 64. * (64. + 2. * (8. + 64.) + 2.));
    }
}
