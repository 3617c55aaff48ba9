//! Random numbers as JAX 0.10.2 draws them by default: Threefry-2x32 (Salmon et al. 2011) with a counter for each value
//! (`jax_threefry_partitionable`); `jax/_src/prng.py`, `jax/_src/random.py`. Older versions of JAX give other numbers for a seed.

/// A key of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u32; 2]);

/// Distances that words are rotated by, in two alternating groups of four rounds.
const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];

/// Threefry-2x32 with 20 rounds.
fn threefry([k0, k1]: [u32; 2], [x0, x1]: [u32; 2]) -> [u32; 2] {
    let keys = [k0, k1, k0 ^ k1 ^ 0x1bd1_1bda];
    let (mut x0, mut x1) = (x0.wrapping_add(k0), x1.wrapping_add(k1));
    for i in 0..5 {
        for r in ROTATIONS[i % 2] {
            x0 = x0.wrapping_add(x1);
            x1 = x1.rotate_left(r) ^ x0;
        }
        x0 = x0.wrapping_add(keys[(i + 1) % 3]);
        x1 = x1.wrapping_add(keys[(i + 2) % 3]).wrapping_add(i as u32 + 1);
    }
    [x0, x1]
}

impl Key {
    /// `jax.random.PRNGKey`.
    pub fn new(seed: u32) -> Self {
        Self([0, seed])
    }

    /// `jax.random.split` into `N`.
    pub fn split<const N: usize>(self) -> [Self; N] {
        std::array::from_fn(|i| self.fold_in(i as u32))
    }

    /// `jax.random.fold_in`: also what the `i`th key of a split is.
    pub fn fold_in(self, i: u32) -> Self {
        Self(threefry(self.0, [0, i]))
    }

    /// `jax.random.uniform` of shape `()`: 0 <= x < 1.
    pub fn uniform(self) -> f32 {
        let [high, low] = threefry(self.0, [0, 0]);
        f32::from_bits(0x3f80_0000 | ((high ^ low) >> 9)) - 1.
    }

    /// The two keys with which a pass samples rows and masks letters, from the seed of a prediction: each pass has one key of its own,
    /// from which Haiku, the recycling and the embedder split theirs (`alphafold/model/msa_sampling.py`).
    pub fn of_pass(seed: u32, pass: usize) -> (Self, Self) {
        let [mut next, mut key] = Self::new(seed).split();
        for _ in 0..pass {
            [next, key] = next.split();
        }
        let [_, of_haiku] = key.split();
        let [_, of_embedder] = of_haiku.split();
        let [_, sample, mask] = of_embedder.split();
        (sample, mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kat_vectors` of Random123.
    #[test]
    fn known_answers() {
        assert_eq!(threefry([0; 2], [0; 2]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn values_are_from_0_to_1() {
        let mean = (0..1000)
            .map(|i| Key::new(7).fold_in(i).uniform())
            .inspect(|u| assert!((0. ..1.).contains(u)))
            .sum::<f32>()
            / 1000.;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
    }
}
