//! Alignment rows of a complex: the query, paired rows, main rows; profile and mean deletions of the main alignment.
//!
//! As OpenFold3 0.5.0 `core/data/pipelines/sample_processing/msa.py` and `core/data/primitives/featurization/msa.py`
//! do at inference, where main rows are not subsampled. One addition: `use_main_msas: false`, which makes the official program
//! fail, leaves the chain's own sequence as its only main row.
use std::collections::HashSet;
use std::f32::consts::PI;

use super::af3::{Msa, N_RESTYPE};
use super::pairing::pair_rows;
use crate::assembly::Assembly;
use crate::chem::restype::{GAP, alignment_letter};
use crate::io::a3m::Alignment;
use crate::query::{MAIN_ORDER, PAIRING_NAME, Query, Representative, species};

/// Paired rows of a complex.
const MAX_PAIRED: usize = 8191;
/// All rows of a complex.
const MAX_ROWS: usize = 16_384;

/// Column statistics of one chain's main alignment.
struct Profile {
    /// `[n_column, 32]`
    frequency: Vec<f32>,
    /// `[n_column]`
    deletion_mean: Vec<f32>,
}

/// The alignment features of a query; `assembly` is the query's. Tokens are its residues.
pub fn msa_features(query: &Query, assembly: &Assembly) -> Msa {
    let n_token = assembly.n_residue();
    if !query.use_msas {
        return Rows::gaps(1, n_token).finish(vec![0.; n_token * N_RESTYPE], vec![0.; n_token], 1);
    }
    let representatives = query.representatives();
    let paired = if query.use_paired_msas { paired(query, &representatives) } else { None };
    let n_paired = paired.as_ref().map_or(0, |paired| paired.first().map_or(0, Alignment::n_row));
    let mut main = Vec::new();
    let mut profiles = Vec::new();
    for (k, representative) in representatives.iter().enumerate() {
        let mut rows = main_rows(query, representative);
        profiles.push(profile(&rows));
        if let Some(paired) = &paired {
            let seen: HashSet<_> = (0..paired[k].n_row()).map(|i| paired[k].row(i)).collect();
            rows = filtered(&rows, |row| !seen.contains(row));
        }
        main.push(rows);
    }
    let max_main = MAX_ROWS.saturating_sub(n_paired + 1);
    let n_main = main.iter().map(|rows| rows.n_row().min(max_main)).max().unwrap_or(0);
    let mut rows = Rows::gaps(1 + n_paired + n_main, n_token);
    let (mut frequency, mut deletion_mean) = (Vec::with_capacity(n_token * N_RESTYPE), Vec::with_capacity(n_token));
    let mut start = 0;
    for chain in &assembly.chains {
        let k = representatives.iter().position(|r| r.chains.contains(&chain.source)).unwrap_or(0);
        let sequence = query.chains[chain.source].sequence.as_bytes();
        rows.set(0, start, sequence, &vec![0; sequence.len()]);
        if let Some(paired) = &paired {
            (0..n_paired).for_each(|i| rows.set(1 + i, start, paired[k].row(i), paired[k].row_deletions(i)));
        }
        for i in 0..main[k].n_row().min(max_main) {
            rows.set(1 + n_paired + i, start, main[k].row(i), main[k].row_deletions(i));
        }
        frequency.extend_from_slice(&profiles[k].frequency);
        deletion_mean.extend_from_slice(&profiles[k].deletion_mean);
        start += sequence.len();
    }
    rows.finish(frequency, deletion_mean, n_paired + 1)
}

/// Rows of a complex while they are filled.
struct Rows {
    n_seq: usize,
    n_token: usize,
    letters: Vec<u8>,
    deletions: Vec<u16>,
}

impl Rows {
    fn gaps(n_seq: usize, n_token: usize) -> Self {
        Self { n_seq, n_token, letters: vec![GAP; n_seq * n_token], deletions: vec![0; n_seq * n_token] }
    }

    fn set(&mut self, row: usize, start: usize, letters: &[u8], deletions: &[u16]) {
        let range = row * self.n_token + start..row * self.n_token + start + letters.len();
        for (to, &letter) in self.letters[range.clone()].iter_mut().zip(letters) {
            *to = alignment_letter(letter);
        }
        self.deletions[range].copy_from_slice(deletions);
    }

    fn finish(self, profile: Vec<f32>, deletion_mean: Vec<f32>, n_paired: usize) -> Msa {
        let value = |&d: &u16| (f32::from(d) / 3.).atan() * (2. / PI);
        Msa {
            n_seq: self.n_seq,
            has_deletion: self.deletions.iter().map(|&d| f32::from(u8::from(d != 0))).collect(),
            deletion_value: self.deletions.iter().map(value).collect(),
            mask: vec![1.; self.n_seq * self.n_token],
            rows: self.letters,
            profile,
            deletion_mean,
            n_paired,
        }
    }
}

/// Distinct rows of a representative's main alignments, in the stacking order.
fn main_rows(query: &Query, representative: &Representative) -> Alignment {
    let chain = &query.chains[representative.main];
    let named = |name: &str| chain.main_msas.iter().find(|f| f.name == name);
    let files: Vec<_> = MAIN_ORDER.iter().filter_map(|(name, limit)| Some((named(name)?, *limit))).collect();
    let own = Alignment::of_query("query", chain.sequence.as_bytes());
    let alignments: Vec<(&Alignment, usize)> = if files.is_empty() || !query.use_main_msas {
        vec![(&own, 1)]
    } else {
        files.iter().map(|(f, limit)| (f.alignment.as_ref(), *limit)).collect()
    };
    let mut seen = HashSet::new();
    let mut rows = Alignment { n_column: own.n_column, ..Alignment::default() };
    for (alignment, limit) in alignments {
        for i in 0..alignment.n_row().min(limit) {
            if seen.insert(alignment.row(i)) {
                rows.push(String::new(), alignment.row(i), alignment.row_deletions(i));
            }
        }
    }
    rows
}

fn filtered(alignment: &Alignment, keep: impl Fn(&[u8]) -> bool) -> Alignment {
    let mut rows = Alignment { n_column: alignment.n_column, ..Alignment::default() };
    for i in (0..alignment.n_row()).filter(|&i| keep(alignment.row(i))) {
        rows.push(String::new(), alignment.row(i), alignment.row_deletions(i));
    }
    rows
}

/// Frequencies of residue types and mean deletions, column by column: `profile` and `deletion_mean` of AF3 SI Table 5.
fn profile(rows: &Alignment) -> Profile {
    let n = rows.n_row() as f64;
    let mut counts = vec![0u32; rows.n_column * N_RESTYPE];
    let mut deletions = vec![0u64; rows.n_column];
    for i in 0..rows.n_row() {
        for (j, (&letter, &d)) in rows.row(i).iter().zip(rows.row_deletions(i)).enumerate() {
            counts[j * N_RESTYPE + usize::from(alignment_letter(letter))] += 1;
            deletions[j] += u64::from(d);
        }
    }
    Profile {
        frequency: counts.into_iter().map(|c| (f64::from(c) / n) as f32).collect(),
        deletion_mean: deletions.into_iter().map(|d| (d as f64 / n) as f32).collect(),
    }
}

/// Paired rows of each representative, as many for each; `None`: nothing is paired.
fn paired(query: &Query, representatives: &[Representative]) -> Option<Vec<Alignment>> {
    let width = |r: &Representative| query.chains[r.main].sequence.len();
    if representatives.iter().any(|r| r.paired.is_some()) {
        let given = |r: &Representative| r.paired.map(|c| &query.chains[c].paired_msas[0].alignment);
        let n_row = representatives.iter().filter_map(|r| given(r).map(|a| a.n_row())).max()?.min(MAX_PAIRED);
        let rows = representatives.iter().map(|r| {
            let mut rows = Alignment { n_column: width(r), ..Alignment::default() };
            let gaps = (vec![b'-'; width(r)], vec![0; width(r)]);
            for i in 0..n_row {
                match given(r).filter(|a| i < a.n_row()) {
                    Some(a) => rows.push(String::new(), a.row(i), a.row_deletions(i)),
                    None => rows.push(String::new(), &gaps.0, &gaps.1),
                }
            }
            rows
        });
        return Some(rows.collect());
    }
    let hits = |r: &Representative| {
        let file = query.chains[r.main].main_msas.iter().find(|f| f.name == PAIRING_NAME.0)?;
        (file.alignment.n_row() > 1).then_some(&file.alignment)
    };
    let with_hits: Vec<_> = (0..representatives.len()).filter(|&k| hits(&representatives[k]).is_some()).collect();
    if with_hits.len() < 2 {
        return None;
    }
    let names = |k: &usize| {
        let rows = hits(&representatives[*k]).map_or(&[][..], |a| &a.names[1..]);
        rows.iter().map(|name| species(name)).collect::<Vec<_>>()
    };
    let species: Vec<_> = with_hits.iter().map(names).collect();
    let n_copy = |r: &Representative| r.chains.iter().map(|&c| query.chains[c].ids.len()).sum::<usize>();
    let n_copies: Vec<_> = with_hits.iter().map(|&k| n_copy(&representatives[k])).collect();
    let row_numbers = pair_rows(&species, &n_copies, MAX_PAIRED);
    if row_numbers.is_empty() {
        return None;
    }
    let rows = representatives.iter().enumerate().map(|(k, r)| {
        let column = with_hits.iter().position(|&w| w == k);
        let mut rows = Alignment { n_column: width(r), ..Alignment::default() };
        let gaps = (vec![b'-'; width(r)], vec![0; width(r)]);
        for numbers in &row_numbers {
            match (column.and_then(|c| numbers[c]), hits(r)) {
                (Some(i), Some(a)) => rows.push(String::new(), a.row(i), a.row_deletions(i)),
                _ => rows.push(String::new(), &gaps.0, &gaps.1),
            }
        }
        rows
    });
    Some(rows.collect())
}
