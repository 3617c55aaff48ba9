//! Random numbers in the order and to the bit in which the official programs draw them: torch's CPU generator
//! (mt19937, `aten/src/ATen/native/cpu/DistributionTemplates.h` and `core/DistributionsHelper.h` of PyTorch 2).

/// What a model draws from: a seeded generator, or a tape recorded from an official run.
pub trait NoiseSource {
    /// `n` standard normal values, as one `torch.randn` call of `n` elements.
    fn randn(&mut self, n: usize) -> Vec<f32>;
    /// One integer in `low..high`, as `torch.randint(low, high, (1,))`; the span is below 2^32.
    fn randint(&mut self, low: u32, high: u32) -> u32;
    /// A permutation of `0..n`, as `torch.randperm(n)`; `n` is below 2^32 / 20.
    fn randperm(&mut self, n: usize) -> Vec<usize>;
    /// `n` uniform values in [0, 1) with 24 random bits each, as `torch.rand` in f32.
    fn rand(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.randint(0, 1 << 24) as f32 / (1u32 << 24) as f32).collect()
    }
}

const STATE: usize = 624;
const SHIFT: usize = 397;

/// The 32-bit Mersenne twister of Matsumoto and Nishimura, seeded as `init_genrand`.
#[derive(Debug, Clone)]
struct Mt19937 {
    state: [u32; STATE],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [0; STATE];
        state[0] = seed;
        for i in 1..STATE {
            let previous: u32 = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: STATE }
    }

    /// Seeded with several words, as `init_by_array`.
    fn of_words(words: &[u32]) -> Self {
        let mut twister = Self::new(19_650_218);
        let state = &mut twister.state;
        let mixed = |before: u32, factor: u32| (before ^ (before >> 30)).wrapping_mul(factor);
        let mut i = 1;
        for k in 0..STATE.max(words.len()) {
            let j = k % words.len();
            let word = words[j].wrapping_add(j as u32);
            state[i] = (state[i] ^ mixed(state[i - 1], 1_664_525)).wrapping_add(word);
            i += 1;
            if i == STATE {
                state[0] = state[STATE - 1];
                i = 1;
            }
        }
        for _ in 1..STATE {
            state[i] = (state[i] ^ mixed(state[i - 1], 1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == STATE {
                state[0] = state[STATE - 1];
                i = 1;
            }
        }
        state[0] = 1 << 31;
        twister
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..STATE {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % STATE] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// `torch.Generator("cpu")`: one seed gives the official program's own sequence.
#[derive(Debug, Clone)]
pub struct TorchGenerator {
    twister: Mt19937,
    /// The second value of the last scalar Box-Muller pair; it survives from one call to the next.
    second: Option<f64>,
}

impl TorchGenerator {
    /// As `torch.manual_seed(seed)`: the generator takes the low 32 bits.
    pub fn new(seed: u64) -> Self {
        Self { twister: Mt19937::new(seed as u32), second: None }
    }

    /// A stream of its own for sample `index` of a run with `seed`: the twister seeded with the words seed, index (low, high). torch
    /// has no such seeding; streams of different pairs have nothing in common.
    pub fn of_sample(seed: u32, index: usize) -> Self {
        let index = index as u64;
        Self { twister: Mt19937::of_words(&[seed, index as u32, (index >> 32) as u32]), second: None }
    }

    /// The stream of what all samples of a run with `seed` have in common: the twister seeded with the word seed.
    pub fn of_task(seed: u32) -> Self {
        Self { twister: Mt19937::of_words(&[seed]), second: None }
    }

    /// One uniform value in [0, 1) with 24 random bits, as `torch.rand` in f32.
    pub fn uniform(&mut self) -> f32 {
        (self.twister.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// 64 random bits, as torch's `random64`: the first word is the high one.
    pub fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.twister.next_u32());
        (high << 32) | u64::from(self.twister.next_u32())
    }

    fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// Passes over words: as many uniform values in f32 as another part of a program has drawn.
    pub fn skip(&mut self, n: usize) {
        for _ in 0..n {
            self.twister.next_u32();
        }
    }

    /// One value of the exponential distribution, as `exponential_` of a double tensor draws each.
    pub fn exponential(&mut self) -> f64 {
        -(-self.uniform_f64()).ln_1p()
    }

    /// Below 16 values torch runs Box-Muller in f64, cosine first, and keeps the sine for the next call.
    fn normal_scalar(&mut self) -> f64 {
        if let Some(value) = self.second.take() {
            return value;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * std::f64::consts::PI * u1;
        self.second = Some(radius * theta.sin());
        radius * theta.cos()
    }

    /// From 16 values on torch transforms blocks of 16 uniforms in f32, element j with j + 8.
    fn normal_block(block: &mut [f32]) {
        let (first, second) = block.split_at_mut(8);
        for (a, b) in first.iter_mut().zip(second) {
            let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
            let theta = 2.0 * std::f32::consts::PI * *b;
            (*a, *b) = (radius * theta.cos(), radius * theta.sin());
        }
    }
}

impl NoiseSource for TorchGenerator {
    fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < 16 {
            return (0..n).map(|_| self.normal_scalar() as f32).collect();
        }
        let mut values: Vec<f32> = (0..n).map(|_| self.uniform()).collect();
        values.chunks_exact_mut(16).for_each(Self::normal_block);
        if !n.is_multiple_of(16) {
            let tail = &mut values[n - 16..];
            tail.fill_with(|| self.uniform());
            Self::normal_block(tail);
        }
        values
    }

    fn randint(&mut self, low: u32, high: u32) -> u32 {
        low + self.twister.next_u32() % (high - low)
    }

    fn randperm(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in 0..n.saturating_sub(1) {
            let j = i + self.twister.next_u32() as usize % (n - i);
            order.swap(i, j);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference output of the algorithm's authors for seed 5489: the 10,000th word.
    #[test]
    fn twister_matches_its_authors() {
        let mut twister = Mt19937::new(5489);
        assert_eq!(twister.next_u32(), 3_499_211_612);
        let word = (1..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(word, Some(4_123_659_995));
    }

    /// The first words that the algorithm's authors give for this seed of four words.
    #[test]
    fn several_words_seed_as_in_its_authors_code() {
        let mut twister = Mt19937::of_words(&[0x123, 0x234, 0x345, 0x456]);
        let first: Vec<u32> = (0..5).map(|_| twister.next_u32()).collect();
        assert_eq!(first, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
    }

    #[test]
    fn samples_have_streams_of_their_own() {
        let of = |seed, index| TorchGenerator::of_sample(seed, index).randn(4);
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(2, 1));
        assert_ne!(of(1, 0), TorchGenerator::new(1).randn(4));
    }

    #[test]
    fn high_bits_of_the_seed_are_ignored() {
        let (mut a, mut b) = (TorchGenerator::new(5), TorchGenerator::new((1 << 32) + 5));
        assert_eq!(a.randn(20), b.randn(20));
    }

    #[test]
    fn a_permutation_has_every_index_once() {
        let mut order = TorchGenerator::new(0).randperm(100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
        assert!(TorchGenerator::new(0).randperm(0).is_empty());
    }
}
