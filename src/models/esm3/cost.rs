//! Arithmetic of each stage, counted from the sizes: two operations for each multiplication of a product.
use super::config::{StructureDecoderConfig, StructureEncoderConfig, TrunkConfig};
use super::structure_decoder::{C_PAIR, N_FRAME, N_PAE, N_PLDDT};
use super::structure_encoder::N_NEIGHBOUR;
use super::tracks::{N_CODE, N_SEQUENCE};

/// Floating-point operations of the matrix products of a pass over one protein; norms, gates and softmax are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Attention of a block.
    pub attention: f64,
    /// Transition of a block.
    pub transition: f64,
    /// The geometric attention of the first block.
    pub geometric: f64,
    /// The sequence head.
    pub sequence_head: f64,
    /// The structure head.
    pub structure_head: f64,
}

/// Multiplications of attention inside `n` tokens of `c` channels, with its four dense layers.
fn attention(n: f64, c: f64) -> f64 {
    n * c * (4. * c + 2. * n)
}

/// Multiplications of geometric attention of `rows` rows of `n` residues.
fn geometric(rows: f64, n: f64, c: f64, n_head: f64) -> f64 {
    rows * n * n_head * (18. * c + 9. * n)
}

/// Multiplications of an output head of `n` rows.
fn head(n: f64, c: f64, n_out: usize) -> f64 {
    n * c * (c + n_out as f64)
}

impl Cost {
    /// For `n` tokens.
    pub fn new(config: &TrunkConfig, n: usize) -> Self {
        let [n, c, hidden, heads] = [n, config.c, config.c_transition, config.n_vector_head].map(|x| x as f64);
        Self {
            attention: 2. * attention(n, c),
            transition: 6. * n * c * hidden,
            geometric: 2. * geometric(1., n, c, heads),
            sequence_head: 2. * head(n, c, N_SEQUENCE),
            structure_head: 2. * head(n, c, N_CODE),
        }
    }
}

/// The same of the structure encoder and `n` residues.
pub fn structure_encoder(config: &StructureEncoderConfig, n: usize) -> f64 {
    let [rows, c, hidden, heads] = [n, config.c, config.c_transition, config.n_vector_head].map(|x| x as f64);
    let (near, blocks) = (n.min(N_NEIGHBOUR) as f64, config.n_block as f64);
    let layers = blocks * geometric(rows, near, c, heads);
    // Of the last block only the residue itself goes on.
    let transitions = ((blocks - 1.) * near + 1.) * rows * 3. * c * hidden;
    2. * (layers + transitions + rows * (c + config.n_code as f64) * config.c_code as f64)
}

/// The same of the structure decoder and `n` tokens.
pub fn structure_decoder(config: &StructureDecoderConfig, n: usize) -> f64 {
    let [n, c, hidden, blocks] = [n, config.c, config.c_transition, config.n_block].map(|x| x as f64);
    let pair = C_PAIR as f64;
    let pairs = n * c * pair + head(n * n, pair, N_PAE);
    2. * (blocks * (attention(n, c) + 3. * n * c * hidden) + head(n, c, N_FRAME) + head(n, c, N_PLDDT) + pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_small_sizes() {
        let config = TrunkConfig { c: 2, n_head: 1, n_vector_head: 3, n_block: 1, c_transition: 5 };
        let cost = Cost::new(&config, 10);
        assert_eq!(cost.attention, 2. * (4. * 40. + 2. * 200.));
        assert_eq!(cost.transition, 2. * (3. * 100.));
        assert_eq!(cost.geometric, 2. * (10. * 2. * 45. + 10. * 9. * 2. + 900. * 3.));
        assert_eq!(cost.sequence_head, 2. * 10. * (4. + 128.));
        assert!(cost.structure_head > cost.sequence_head);
    }

    #[test]
    fn a_second_block_costs_as_much_as_the_first_and_neighbours_end_at_sixteen() {
        let config = |n_block| StructureDecoderConfig { c: 8, n_head: 2, n_block, c_transition: 16 };
        let of = |n_block| structure_decoder(&config(n_block), 12);
        assert_eq!(of(3) - of(2), of(2) - of(1));
        let config =
            StructureEncoderConfig { c: 8, n_vector_head: 2, n_block: 2, c_transition: 32, c_code: 4, n_code: 9 };
        assert_eq!(structure_encoder(&config, 64), 2. * structure_encoder(&config, 32));
        assert!(structure_encoder(&config, 16) > 2. * structure_encoder(&config, 8));
    }
}
