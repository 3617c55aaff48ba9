//! How much memory a pass takes, before it is made.
use crate::models::af2::config::Config;

const FLOAT: u64 = size_of::<f32>() as u64;
/// What is there whatever the query: the program, its threads, small arrays.
const BASE: u64 = 64 << 20;
/// Blocks of rows that layers of the pair representation work on, and their second operands, take at most this much.
const BLOCKS: u64 = 128 << 20;

/// Sizes of a query in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Residues.
    pub n_res: usize,
    /// Rows of the alignment.
    pub n_seq: usize,
    /// Rows of templates below them.
    pub n_template: usize,
    /// Rows without a cluster.
    pub n_extra: usize,
    /// Are updates lost?
    pub has_dropout: bool,
}

/// The most bytes that are held at any time, weights of `weight_bytes` included.
pub(super) fn peak(c: &Config, sizes: &Sizes, weight_bytes: u64) -> u64 {
    let n = sizes.n_res as u64;
    let pairs = n * n * FLOAT;
    let pair = pairs * c.c_z as u64;
    let rows = |n_row: usize, channels: usize| n_row as u64 * n * channels as u64 * FLOAT;
    // The representation, that of the pass before, and its norm.
    let embedders = 3 * pair;
    // The representation, and what the layers make of parts of it.
    let layers = 2 * pair + pair.min(BLOCKS);
    let msa = 3 * rows(sizes.n_seq + sizes.n_template, c.c_m).max(rows(sizes.n_extra, c.c_e));
    // What an update changes, before it; the update; what is taken back of it.
    let lost = if sizes.has_dropout { 3 * pair.max(msa / 3) } else { 0 };
    // The structure module normalises a copy; logits and values of each pair.
    let n_logit = c.heads.n_pae.unwrap_or(0).max(c.structure.n_head * 4) as u64;
    let heads = 2 * pair + pairs * n_logit;
    // Features: letters and their profiles; errors and their text.
    let host = rows(sizes.n_seq, 64) + rows(sizes.n_extra, 4) + 8 * pairs;
    weight_bytes + BASE + host + embedders.max(layers + msa + lost).max(heads)
}

/// The most residues, with as many rows, that take no more than `available` bytes; 0 if none does.
pub(super) fn largest(c: &Config, sizes: &Sizes, weight_bytes: u64, available: u64) -> usize {
    let (mut fits, mut too_large) = (0, sizes.n_res + 1);
    while too_large - fits > 1 {
        let middle = fits.midpoint(too_large);
        if peak(c, &Sizes { n_res: middle, ..*sizes }, weight_bytes) <= available {
            fits = middle;
        } else {
            too_large = middle;
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits() {
        let release = weights_convert::ALPHAFOLD2.iter().find(|r| r.version == "model_1_ptm").unwrap();
        let config: Config = serde_json::from_str(release.config).unwrap();
        let sizes = Sizes { n_res: 4000, n_seq: 512, n_template: 4, n_extra: 1024, has_dropout: false };
        let n = largest(&config, &sizes, 1 << 30, 8 << 30);
        assert!((500..4000).contains(&n), "{n}");
        let of = |n_res| peak(&config, &Sizes { n_res, ..sizes }, 1 << 30);
        assert!(of(n) <= 8 << 30 && of(n + 1) > 8 << 30);
        assert_eq!(largest(&config, &sizes, 1 << 30, 1 << 20), 0);
        let with = |has_dropout| peak(&config, &Sizes { n_res: 300, has_dropout, ..sizes }, 0);
        assert!(with(true) > with(false));
    }
}
