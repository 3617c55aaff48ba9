//! How much memory a prediction takes, before it is made.
use candle_core::Device;

use crate::models::af3::config::Config;
use crate::models::af3::cost::Sizes;
use crate::models::af3::token_transformer::kept_bias_bytes;
use crate::ops::metal;

const FLOAT: u64 = size_of::<f32>() as u64;

/// Arrays of a block of rows that are there at once on a GPU, each of [`metal::BLOCK`] bytes.
const METAL_BLOCKS: u64 = 5;
/// Channels of the triangle multiplication's second operand that are there at once take at most this on the CPU.
const OPERAND_BYTES: u64 = 64 << 20;
/// What is there whatever the query: the program, its threads, small arrays.
const BASE: u64 = 64 << 20;

/// Memory of a job on a device.
pub(super) struct Estimate<'a> {
    pub config: &'a Config,
    pub device: &'a Device,
    pub n_sample: usize,
    /// The weights file, which is mapped or on the GPU.
    pub weight_bytes: u64,
}

impl Estimate<'_> {
    /// The most bytes that are held in any stage, for a query of `sizes` whose alignment has `n_seq` rows in all.
    pub fn peak(&self, sizes: &Sizes, n_seq: usize) -> u64 {
        let c = self.config;
        let (n, n_atom, rows) = (sizes.n_token as u64, sizes.n_atom as u64, sizes.n_row as u64);
        let pairs = n * n;
        let pair = self.array(pairs * c.c_z as u64 * FLOAT);
        let blocks = if self.device.is_metal() {
            METAL_BLOCKS * metal::BLOCK as u64 + (pair / 4).max(2 * metal::BLOCK as u64)
        } else {
            pair.min(OPERAND_BYTES) + pair / 4
        };
        // A representation and an operand of the triangle multiplication.
        let pair_layers = 2 * pair + blocks;
        // The alignment, and what its layers make of all of it.
        let msa = 3 * self.array(rows * n * c.c_m as u64 * FLOAT);
        let biases = self.array(pairs * kept_bias_bytes(c, sizes.n_token) as u64);
        let samples = self.n_sample as u64 * FLOAT * (n_atom * 12 * c.c_atom as u64 + n * 8 * c.c_token as u64);
        // The conditioned representation beside the trunk's, then beside all that is kept for the steps.
        let diffusion = pair + pair.max(biases + self.atoms(n_atom) + samples) + blocks;
        // Contacts, PAE and PDE of a sample, their text, columns of relative positions.
        let results = 32 * pairs + 16 * n_seq as u64 * n;
        self.weight_bytes + BASE + results + diffusion.max(pair_layers + msa)
    }

    /// The largest number of tokens, of a query of these proportions, that takes no more than `available` bytes; 0 if none does.
    pub fn largest(&self, sizes: &Sizes, n_seq: usize, available: u64) -> usize {
        let scaled = |n: usize| Sizes { n_token: n, n_atom: sizes.n_atom * n / sizes.n_token.max(1), ..*sizes };
        let (mut fits, mut too_large) = (0, sizes.n_token + 1);
        while too_large - fits > 1 {
            let middle = fits.midpoint(too_large);
            if self.peak(&scaled(middle), n_seq) <= available {
                fits = middle;
            } else {
                too_large = middle;
            }
        }
        fits
    }

    /// What the atom transformers keep: biases of the windows, and the conditioning of each atom in each block.
    fn atoms(&self, n_atom: u64) -> u64 {
        let c = self.config;
        let blocks = (c.atom_encoder.n_block + c.atom_decoder.n_block) as u64;
        let biases = c.n_key as u64 * blocks * c.atom_encoder.n_head as u64;
        let condition = blocks * 8 * c.c_atom as u64;
        let features = 400; // name and element one-hot, positions, masks
        n_atom * FLOAT * (biases + condition + features)
    }

    /// Bytes that an array of `bytes` takes.
    fn array(&self, bytes: u64) -> u64 {
        if self.device.is_metal() { metal::buffer_bytes(bytes) } else { bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::openfold3::config::release_0_5;

    #[test]
    fn long_chains_take_two_and_a_half_pair_representations() {
        let config = release_0_5();
        let estimate = Estimate { config: &config, device: &Device::Cpu, n_sample: 1, weight_bytes: 1000 };
        let peak = |n| estimate.peak(&Sizes::of_residues(n), 1) as f64;
        let pair = |n: usize| (n * n * 128 * 4) as f64;
        // `fold bench` measured 1268 MB of 1,024 tokens and 368 MB of 512.
        assert!((1268e6..1.2 * 1268e6).contains(&peak(1024)), "{}", peak(1024));
        assert!((368e6..1.6 * 368e6).contains(&peak(512)), "{}", peak(512));
        assert!(peak(4096) < 2.5 * pair(4096), "{}", peak(4096) / pair(4096));
    }

    #[test]
    fn the_largest_that_fits() {
        let config = release_0_5();
        let estimate = Estimate { config: &config, device: &Device::Cpu, n_sample: 5, weight_bytes: 1 << 30 };
        let sizes = Sizes::of_residues(3000);
        let n = estimate.largest(&sizes, 1, 8 << 30);
        assert!((1000..3000).contains(&n), "{n}");
        assert!(estimate.peak(&Sizes::of_residues(n), 1) <= 8 << 30);
        assert!(estimate.peak(&Sizes::of_residues(n + 1), 1) > 8 << 30);
        assert_eq!(estimate.largest(&sizes, 1, 1 << 20), 0);
    }
}
