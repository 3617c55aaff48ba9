//! Random numbers as TensorFlow 2 draws them in a graph (Philox-4x32-10, Salmon et al. 2011; `tensorflow/core/lib/random` and
//! `core/kernels/random_op.cc`, `random_shuffle_op.cc`, `multinomial_op.cc`): the official monomer features are made with it.
//! Categorical draws are those of one thread.

/// The random operations of one graph, each with the number it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    /// Seed of the graph.
    pub seed: u32,
    /// Number of the operation in the graph.
    pub operation: u32,
}

/// What TensorFlow takes for the seeds (0, 0), which it keeps for itself.
const NO_SEED: u32 = i32::MAX as u32;
/// Values that an operation reserves for each it gives.
const RESERVED: u64 = 256;

/// Philox-4x32-10.
fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(c[0]) * 0xd251_1f53;
        let b = u64::from(c[2]) * 0xcd9e_8d57;
        c = [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    c
}

impl Philox {
    /// The block of four words at a counter.
    fn block(self, counter: u64) -> [u32; 4] {
        let seed = self.seed % NO_SEED;
        let operation = self.operation % NO_SEED;
        let operation = if (seed, operation) == (0, 0) { NO_SEED } else { operation };
        philox([counter as u32, (counter >> 32) as u32, operation, 0], [seed, 0])
    }

    /// Words from a block on.
    fn words(self, start: u64) -> impl Iterator<Item = u32> {
        (start..).flat_map(move |counter| self.block(counter))
    }

    /// `n` values of 0..1 as the `call`th run of `tf.random.uniform` gives them.
    pub fn uniform(self, n: usize, call: u64) -> Vec<f32> {
        let to_float = |word: u32| f32::from_bits(0x3f80_0000 | (word & 0x7f_ffff)) - 1.;
        self.words(call * n as u64 * RESERVED).take(n).map(to_float).collect()
    }

    /// The order that the `call`th run of `tf.random.shuffle` gives `n` things.
    pub fn shuffle(self, n: usize, call: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        let steps = n.saturating_sub(1);
        let words = self.words(call * steps.div_ceil(4) as u64).take(steps);
        for (i, word) in words.enumerate() {
            order.swap(i, i + word as usize % (n - i));
        }
        order
    }

    /// One class for each row of `logits` `[rows, n_class]`, as the `call`th run of `tf.random.categorical` draws them.
    pub fn categorical(self, logits: &[f32], n_class: usize, call: u64) -> Vec<usize> {
        let rows = logits.len() / n_class;
        let mut words = self.words(call * rows as u64 * 8 * RESERVED);
        let mut double = || {
            let [high, low] = [0; 2].map(|_| u64::from(words.next().expect("words do not end")));
            f64::from_bits(1023 << 52 | (high & 0xf_ffff) << 32 | low) - 1.
        };
        let draw = |row: &[f32]| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sums = row.iter().scan(0., |sum, x| {
                *sum += (f64::from(*x) - f64::from(largest)).exp();
                Some(*sum)
            });
            let sums: Vec<f64> = sums.collect();
            let found = double() * sums[n_class - 1];
            sums.iter().position(|sum| *sum > found).unwrap_or(0)
        };
        logits.chunks(n_class).map(draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kat_vectors` of Random123.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn shuffles_are_permutations() {
        for n in [0, 1, 2, 9] {
            let mut order = Philox { seed: 1, operation: 0 }.shuffle(n, 3);
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}
