//! Pairing of alignment rows between chains by species: AF2-Multimer's way, as OpenFold3 0.5.0
//! `core/data/primitives/sequence/msa.py:900-1080` has it.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Rows of one species that are kept of a chain.
const MAX_PER_SPECIES: usize = 600;

/// Which rows of each alignment stand side by side.
///
/// `species` per alignment: the species of its rows after the query, `None` where it is not known. `n_copy` per alignment:
/// the chains that use it. -> `[n_paired][n_alignment]` row numbers (the query is 0, so they start at 1), `None` for a
/// row of gaps. Species that all alignments have come first, then those of all but one, down to two; among them by name;
/// rows of one species in the order of the alignment. At most `max_rows`; beyond that the rows nearest to the top of
/// their alignments are kept, those in most chains first.
pub fn pair_rows(species: &[Vec<Option<&str>>], n_copy: &[usize], max_rows: usize) -> Vec<Vec<Option<usize>>> {
    let mut rows: Vec<BTreeMap<&str, VecDeque<usize>>> = vec![BTreeMap::new(); species.len()];
    for (rows, species) in rows.iter_mut().zip(species) {
        for (i, name) in species.iter().enumerate().filter_map(|(i, name)| Some((i, (*name)?))) {
            let of_species = rows.entry(name).or_default();
            if of_species.len() < MAX_PER_SPECIES {
                of_species.push_back(i + 1);
            }
        }
    }
    let names: BTreeSet<&str> = rows.iter().flat_map(|r| r.keys().copied()).collect();
    let mut paired = Vec::new();
    for n in (2..=species.len()).rev() {
        for name in &names {
            // Rows are only taken here, so that what is left tells how many chains still share the species.
            let left: Vec<_> = rows.iter().map(|r| r.get(name).map_or(0, VecDeque::len)).collect();
            if left.iter().filter(|&&k| k > 0).count() != n {
                continue;
            }
            let fewest = left.iter().copied().filter(|&k| k > 0).min().unwrap_or(0);
            for _ in 0..fewest {
                paired.push(rows.iter_mut().map(|r| r.get_mut(name).and_then(VecDeque::pop_front)).collect());
            }
        }
        if paired.len() >= max_rows {
            break;
        }
    }
    if paired.len() > max_rows {
        // Sorted by the number of chains without a row, then by the product of row numbers over all chains. The official
        // program orders equal products as numpy's unstable sort leaves them; here the earlier stays first.
        let key = |row: &Vec<Option<usize>>| {
            let absent: usize = row.iter().zip(n_copy).filter(|(r, _)| r.is_none()).map(|(_, n)| n).sum();
            let product = row.iter().zip(n_copy).flat_map(|(r, &n)| std::iter::repeat_n(r.map_or(-1, |r| r as i64), n));
            (absent, product.fold(1i64, i64::wrapping_mul).wrapping_abs())
        };
        sort_blocks(&mut paired, key);
        paired.truncate(max_rows);
    }
    paired
}

/// Sorts by the second key among the places of rows with the same first key, as the official program does.
fn sort_blocks<T: Clone>(rows: &mut [T], key: impl Fn(&T) -> (usize, i64)) {
    let keys: Vec<_> = rows.iter().map(&key).collect();
    let blocks: BTreeSet<_> = keys.iter().map(|k| k.0).collect();
    for block in blocks {
        let places: Vec<_> = (0..rows.len()).filter(|&i| keys[i].0 == block).collect();
        let mut order = places.clone();
        order.sort_by_key(|&i| keys[i].1);
        let sorted: Vec<_> = order.iter().map(|&i| rows[i].clone()).collect();
        for (place, row) in places.into_iter().zip(sorted) {
            rows[place] = row;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn species_in_all_chains_first_then_in_two() {
        let a = ["HUMAN", "HUMAN", "YEAST", "MOUSE"].map(Some).to_vec();
        let b = ["YEAST", "HUMAN", "ECOLI"].map(Some).to_vec();
        let c = vec![Some("HUMAN"), None, Some("ECOLI"), Some("HUMAN")];
        let paired = pair_rows(&[a, b, c], &[1, 1, 1], 100);
        let want = [
            [Some(1), Some(2), Some(1)], // HUMAN in all three: one row, as the second chain has one
            [None, Some(3), Some(3)],    // ECOLI
            [Some(2), None, Some(4)],    // what is left of HUMAN
            [Some(3), Some(1), None],    // YEAST
        ];
        assert_eq!(paired, want);
    }

    #[test]
    fn beyond_the_limit_rows_near_the_query_are_kept() {
        let a = ["A", "B", "C", "D"].map(Some).to_vec();
        let b = ["D", "C", "B", "A"].map(Some).to_vec();
        let paired = pair_rows(&[a, b], &[1, 1], 2);
        assert_eq!(paired, [[Some(1), Some(4)], [Some(4), Some(1)]]); // products 4, 6, 6, 4
    }
}
