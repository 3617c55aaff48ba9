//! Arithmetic of each stage of a prediction, counted from the sizes: two operations for each multiplication of a product.
use super::config::{Config, PairConfig, PairformerConfig, TransformerConfig};
use crate::features::af3::Af3Features;

/// Floating-point operations of the matrix products of one pass through each stage; norms, gates and softmax are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Recycling and template embedder, in one cycle.
    pub template: f64,
    /// MSA module, in one cycle.
    pub msa: f64,
    /// One block of the Pairformer.
    pub block: f64,
    /// What the diffusion module computes once.
    pub conditioning: f64,
    /// One denoising step of all samples.
    pub step: f64,
    /// Confidence of one sample.
    pub confidence: f64,
}

/// Sizes of a query.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Tokens.
    pub n_token: usize,
    /// Atoms.
    pub n_atom: usize,
    /// Rows of the alignment in a cycle.
    pub n_row: usize,
    /// Different templates; all empty slots together are one.
    pub n_template: usize,
}

impl Sizes {
    /// Those of `features`.
    pub fn of(features: &Af3Features, config: &Config) -> Self {
        let given = features.templates.as_ref().map_or(0, |t| t.n);
        Self {
            n_token: features.n_token(),
            n_atom: features.n_atom(),
            n_row: features.msa.n_seq.min(config.msa.max_rows),
            n_template: given + usize::from(given < config.template.n_template),
        }
    }

    /// A guess for `n_token` residues of which no more is known.
    pub fn of_residues(n_token: usize) -> Self {
        Self { n_token, n_atom: 8 * n_token, n_row: 1, n_template: 1 }
    }
}

impl Cost {
    /// For a query of `sizes` and `n_sample` structures.
    pub fn new(c: &Config, sizes: Sizes, n_sample: usize) -> Self {
        let (tokens, atoms) = (sizes.n_token as f64, sizes.n_atom as f64);
        let (rows, samples) = (sizes.n_row as f64, n_sample as f64);
        let (c_s, c_z, c_t) = (c.c_s as f64, c.c_z as f64, c.c_t as f64);
        let pairs = tokens * tokens;
        let template_block = pair_block(tokens, c_t, c.template.pair);
        let templates = sizes.n_template as f64 * c.template.n_block as f64 * template_block;
        let block = pairformer_block(tokens, c_s, c_z, c.pairformer);
        let token = c.token_transformer;
        let token_biases = pairs * c_z * (token.n_head * token.n_block) as f64;
        let relpos = c.c_relpos() as f64;
        let widened = c.n_transition_conditioning as f64;
        let heads = pairs * c_z * (c.heads.n_pae + 2 * c.heads.n_pde) as f64;
        let step = samples * (token_step(tokens, c.c_token as f64, token) + atom_step(atoms, c))
            + token_level(tokens, c_s, c.c_token as f64, token)
            + 2.0 * 3.0 * tokens * c_s * widened * c_s;
        Self {
            template: 2.0 * (pairs * c_z * (c_z + 2.0 * c_t)) + templates,
            msa: msa_module(tokens, rows, c),
            block,
            conditioning: 2.0 * (pairs * c_z * (c_z + relpos + 2.0 * 3.0 * widened * c_z) + token_biases),
            step: 2.0 * step,
            confidence: pairformer_block(tokens, c_s, c_z, c.confidence) * c.confidence.n_block as f64 + 2.0 * heads,
        }
    }
}

/// Triangle updates and transition on `c` channels.
fn pair_block(n: f64, c: f64, config: PairConfig) -> f64 {
    let hidden = config.c_hidden_mul as f64;
    let heads = config.n_head as f64;
    let attended = heads * config.c_hidden_att as f64;
    let multiplication = n * n * c * (4.0 * hidden + hidden + c) + n * n * n * hidden;
    let attention = n * n * c * (5.0 * attended + heads) + 2.0 * n * n * n * attended;
    let transition = 3.0 * n * n * c * config.n_transition as f64 * c;
    2.0 * (2.0 * multiplication + 2.0 * attention + transition)
}

fn pairformer_block(n: f64, c_s: f64, c_z: f64, config: PairformerConfig) -> f64 {
    let attended = (config.n_head * config.c_hidden) as f64;
    let bias = n * n * c_z * config.n_head as f64;
    let attention = 5.0 * n * c_s * attended + 2.0 * n * n * attended;
    let transition = 3.0 * n * c_s * config.n_transition as f64 * c_s;
    pair_block(n, c_z, config.pair) + 2.0 * (bias + attention + transition)
}

/// The blocks of the MSA module; the last has no row update.
fn msa_module(n: f64, rows: f64, c: &Config) -> f64 {
    let config = c.msa;
    let (c_m, c_z, blocks) = (c.c_m as f64, c.c_z as f64, config.n_block as f64);
    let outer = config.c_hidden_opm as f64;
    let mean = rows * n * c_m * 2.0 * outer + n * n * outer * outer * (rows + c_z);
    let averaged = (config.n_head * config.c_hidden) as f64;
    let average = 3.0 * rows * n * c_m * averaged + n * n * (c_z * config.n_head as f64 + rows * averaged);
    let transition = 3.0 * rows * n * c_m * config.n_transition as f64 * c_m;
    blocks * (2.0 * mean + pair_block(n, c_z, config.pair)) + 2.0 * (blocks - 1.0).max(0.0) * (average + transition)
}

/// Multiplications of the token transformer for one sample.
fn token_step(n: f64, c: f64, config: TransformerConfig) -> f64 {
    let attended = (config.n_head * config.c_hidden) as f64;
    let block = 5.0 * n * c * attended + 2.0 * n * n * attended + 3.0 * n * c * config.n_transition as f64 * c;
    block * config.n_block as f64
}

/// Multiplications of the token transformer on the conditioning of a noise level: two norms of two layers, two gates.
fn token_level(n: f64, c_s: f64, c: f64, config: TransformerConfig) -> f64 {
    6.0 * n * c_s * c * config.n_block as f64
}

/// Multiplications of the atom encoder and decoder for one sample.
fn atom_step(n_atom: f64, c: &Config) -> f64 {
    let width = c.c_atom as f64;
    let blocks = [c.atom_encoder, c.atom_decoder].map(|config| {
        let attended = (config.n_head * config.c_hidden) as f64;
        let attention = 5.0 * width * attended + 2.0 * c.n_key as f64 * attended;
        (attention + 3.0 * width * config.n_transition as f64 * width) * config.n_block as f64
    });
    n_atom * (blocks[0] + blocks[1] + width * c.c_token as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::openfold3::config::release_0_5;

    /// A block of 128 channels at 256 tokens, multiplied out by hand: 6 + 6 projections of the multiplications, 5 + 5 and
    /// the biases of the attentions, 12 of the transition, two sums and four products over the third edge.
    #[test]
    fn pair_part_of_a_block() {
        let (n, c) = (256.0, 128.0);
        let projections = n * n * c * c * (12.0 + 10.0 + 12.0) + 2.0 * n * n * c * 4.0;
        let expected = 2.0 * (projections + 6.0 * n * n * n * c);
        assert_eq!(pair_block(n, c, release_0_5().pairformer.pair), expected);
    }

    #[test]
    fn samples_multiply_a_step_and_nothing_else() {
        let cost = |n_sample| Cost::new(&release_0_5(), Sizes::of_residues(100), n_sample);
        let (one, five) = (cost(1), cost(5));
        assert!(five.step > 4.0 * one.step && five.step < 5.0 * one.step);
        assert_eq!(Cost { step: 0.0, ..one }, Cost { step: 0.0, ..five });
    }
}
