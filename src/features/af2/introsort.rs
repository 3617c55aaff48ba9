//! The order in which equal keys come out of an unstable sort: that of introsort (Musser 1997) as GNU's C++ library has it, which JAX's
//! sort is on a CPU. Among thousands of random numbers of 23 bits some are equal, and their order decides what is drawn for them.

/// Parts that are no longer are left to an insertion sort.
const SHORT: usize = 16;

/// The places of `keys`, their values rising.
pub(super) fn order(keys: &[f32]) -> Vec<usize> {
    let mut items: Vec<usize> = (0..keys.len()).collect();
    let mut sort = Introsort { keys, items: &mut items };
    let n = keys.len();
    if n > SHORT {
        sort.part(0, n, 2 * n.ilog2());
    }
    // Each item is near its place; items with equal keys do not pass each other.
    for i in 1..n {
        let mut j = i;
        while j > 0 && sort.less(j, j - 1) {
            sort.items.swap(j, j - 1);
            j -= 1;
        }
    }
    items
}

struct Introsort<'a> {
    keys: &'a [f32],
    items: &'a mut [usize],
}

impl Introsort<'_> {
    fn less(&self, a: usize, b: usize) -> bool {
        self.keys[self.items[a]] < self.keys[self.items[b]]
    }

    /// Sorts from `first` to before `end`, but for parts that are short.
    fn part(&mut self, first: usize, mut end: usize, depth: u32) {
        let mut depth = depth;
        while end - first > SHORT {
            if depth == 0 {
                // Random keys never come here; GNU's library takes a heap sort.
                let keys = self.keys;
                self.items[first..end].sort_by(|a, b| keys[*a].total_cmp(&keys[*b]));
                return;
            }
            depth -= 1;
            let cut = self.partition(first, end);
            self.part(cut, end, depth);
            end = cut;
        }
    }

    /// Puts a median of three in front and divides the rest by it: where the larger ones begin.
    fn partition(&mut self, first: usize, end: usize) -> usize {
        let (a, b, c) = (first + 1, first + (end - first) / 2, end - 1);
        let median = match (self.less(a, b), self.less(b, c), self.less(a, c)) {
            (true, true, _) | (false, false, false) => b,
            (true, false, true) | (false, true, false) => c,
            (true, false, false) | (false, _, true) => a,
        };
        self.items.swap(first, median);
        let (mut low, mut high) = (first + 1, end);
        loop {
            while self.less(low, first) {
                low += 1;
            }
            high -= 1;
            while self.less(first, high) {
                high -= 1;
            }
            if low >= high {
                return low;
            }
            self.items.swap(low, high);
            low += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted() {
        for n in [0usize, 1, 2, 16, 17, 100, 1000] {
            let keys: Vec<f32> = (0..n).map(|i| ((i * 7919) % 31) as f32).collect();
            let mut places = order(&keys);
            assert!(places.windows(2).all(|w| keys[w[0]] <= keys[w[1]]));
            places.sort_unstable();
            assert_eq!(places, (0..n).collect::<Vec<_>>());
        }
    }

    /// What `jax.lax.sort_key_val(keys, iota, is_stable=False)` of JAX 0.10.2 gives on a CPU.
    #[test]
    fn equal_keys_come_as_from_jax() {
        let keys: Vec<f32> = (0..40).map(|i| ((i * i * 7 + i) % 11) as f32).collect();
        let want = [
            0, 3, 36, 33, 22, 14, 25, 11, 9, 20, 16, 27, 31, 5, 38, 28, 39, 30, 19, 17, 8, 6, 21, 15, 37, 4, 26, 10,
            32, 1, 2, 35, 34, 12, 13, 24, 23, 7, 29, 18,
        ];
        assert_eq!(order(&keys), want);
    }
}
