//! Relative position encoding: AF3 SI Alg. 3, as OpenFold3 0.5.0 `core/utils/relpos.py`.
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::config::Config;
use crate::features::af3::Af3Features;

/// Which of the one-hot features of each token pair are 1: the encoding itself is never built for all pairs at once.
#[derive(Debug, Clone)]
pub struct RelativePositions {
    n_token: usize,
    n_feature: usize,
    /// For each pair the columns that are 1: residue, token, chain, and same entity where it holds.
    columns: Vec<[u8; 4]>,
}

/// Marks a pair of different entities: no fourth column.
const NO_COLUMN: u8 = u8::MAX;

impl RelativePositions {
    /// Columns are ordered residue offset, token offset, same entity, chain offset.
    pub fn new(features: &Af3Features, config: &Config) -> Self {
        let f = features;
        let n = f.token_index.len();
        let (r, s) = (config.r_max as i32, config.s_max as i32);
        let cyclic = cyclic_positions(f);
        let token_columns = 2 * r + 2;
        let entity_column = 2 * token_columns;
        let columns = (0..n * n).into_par_iter().map(|pair| {
            let (i, j) = (pair / n, pair % n);
            let same_chain = f.asym_id[i] == f.asym_id[j];
            let same_residue = same_chain && f.residue_index[i] == f.residue_index[j];
            let same_entity = f.entity_id[i] == f.entity_id[j];
            // Inside a cyclic chain every offset, the chain's included, is the wrapped one.
            let wrapped = match (&cyclic[i], &cyclic[j]) {
                (Some(a), Some(b)) if same_chain => Some(cyclic_offset(a.0, b.0, a.1)),
                _ => None,
            };
            let column = |condition: bool, offset: i32, clip: i32| {
                if condition { (wrapped.unwrap_or(offset) + clip).clamp(0, 2 * clip) } else { 2 * clip + 1 }
            };
            let residue = column(same_chain, f.residue_index[i] - f.residue_index[j], r);
            let token = column(same_residue, f.token_index[i] - f.token_index[j], r);
            let chain = column(same_entity, f.sym_id[i] - f.sym_id[j], s);
            let entity = if same_entity { entity_column as u8 } else { NO_COLUMN };
            [residue as u8, (token_columns + token) as u8, (entity_column + 1 + chain) as u8, entity]
        });
        Self { n_token: n, n_feature: config.c_relpos(), columns: columns.collect() }
    }

    /// The one-hot encoding of rows `rows` of the pair matrix, `[1, rows, n_token, n_feature]`.
    pub fn one_hot(&self, rows: std::ops::Range<usize>, device: &Device) -> Result<Tensor> {
        let n = self.n_token;
        let mut values = vec![0f32; rows.len() * n * self.n_feature];
        let pairs = &self.columns[rows.start * n..rows.end * n];
        values.par_chunks_mut(self.n_feature).zip(pairs).for_each(|(out, columns)| {
            columns.iter().filter(|&&c| c != NO_COLUMN).for_each(|&c| out[usize::from(c)] = 1.0);
        });
        Tensor::from_vec(values, (1, rows.len(), n, self.n_feature), device)
    }

    /// Adds `linear(one_hot)` of pair (i, j) to `out`, where `weight` is the linear layer's `[c, n_feature]` transposed.
    pub(super) fn add_embedding(&self, i: usize, j: usize, weight_t: &[f32], out: &mut [f32]) {
        let c = out.len();
        for &column in self.columns[i * self.n_token + j].iter().filter(|&&k| k != NO_COLUMN) {
            let row = &weight_t[usize::from(column) * c..][..c];
            out.iter_mut().zip(row).for_each(|(o, w)| *o += w);
        }
    }
}

/// For each token of a cyclic chain its place among the chain's cyclic tokens, and how many there are.
fn cyclic_positions(f: &Af3Features) -> Vec<Option<(i32, i32)>> {
    let count = |i: usize, until: usize| {
        (0..until).filter(|&k| f.cyclic_mask[k] && f.asym_id[k] == f.asym_id[i]).count() as i32
    };
    if !f.cyclic_mask.contains(&true) {
        return vec![None; f.cyclic_mask.len()];
    }
    let n = f.cyclic_mask.len();
    (0..n).map(|i| f.cyclic_mask[i].then(|| (count(i, i), count(i, n)))).collect()
}

/// Row 0 of a ring of `n` is 0, -1, .., -p, n-p-1, .., 1 with p = n/2 rounded half to even; row i is that rolled by i.
fn cyclic_offset(i: i32, j: i32, n: i32) -> i32 {
    let half = (f64::from(n) / 2.0).round_ties_even() as i32;
    let k = (j - i).rem_euclid(n);
    if k <= half { -k } else { n - k }
}

#[cfg(test)]
mod tests {
    use super::cyclic_offset;

    #[test]
    fn offsets_of_a_ring() {
        let row = |n| (0..n).map(|j| cyclic_offset(0, j, n)).collect::<Vec<_>>();
        assert_eq!(row(5), [0, -1, -2, 2, 1]); // 2.5 rounds to 2
        assert_eq!(row(6), [0, -1, -2, -3, 2, 1]);
        assert_eq!(row(7), [0, -1, -2, -3, -4, 2, 1]); // 3.5 rounds to 4
        assert_eq!(cyclic_offset(4, 0, 5), -1);
    }
}
