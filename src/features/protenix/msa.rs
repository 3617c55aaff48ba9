//! Alignment rows of a complex as Protenix v0.5.0 (`protenix/data/msa_utils.py`, `msa_featurizer.py`): per sequence the rows
//! once each; rows of different chains paired by species as in AlphaFold-Multimer; paired rows first, then each chain's others.
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::f32::consts::PI;

use super::{ChainFault, ProteinChain};
use crate::chem::restype::{GAP, UNKNOWN, amino_acid};
use crate::features::af3::{Af3Features, Msa, N_RESTYPE};
use crate::io::a3m::Alignment;

/// Rows of a complex, paired or not.
const MAX_ROWS: usize = 16384;
/// A species with more rows in a chain is not paired.
const MAX_PER_SPECIES: usize = 600;

/// Restype of a letter of an alignment: B is D, Z is E, U is C, other letters are unknown.
fn letter(letter: u8) -> u8 {
    match letter {
        b'-' => GAP,
        b'B' => 3,
        b'Z' => 6,
        b'U' => 4,
        letter => amino_acid(letter).unwrap_or(UNKNOWN),
    }
}

/// The rows of one alignment, each once.
#[derive(Debug, Clone, Default)]
struct Rows {
    /// `[n_row][n_column]` restypes.
    types: Vec<Vec<u8>>,
    /// `[n_row][n_column]`.
    deletions: Vec<Vec<u16>>,
    /// `[n_row]` empty: not known.
    species: Vec<String>,
}

impl Rows {
    /// Rows that differ in their letters.
    fn distinct(alignment: &Alignment) -> Self {
        let mut seen = HashSet::new();
        let mut rows = Self::default();
        for i in (0..alignment.n_row()).filter(|&i| seen.insert(alignment.row(i))) {
            rows.types.push(alignment.row(i).iter().map(|&c| letter(c)).collect());
            rows.deletions.push(alignment.row_deletions(i).to_vec());
            rows.species.push(species(&alignment.names[i]).to_owned());
        }
        rows
    }

    fn len(&self) -> usize {
        self.types.len()
    }
}

/// The species that the name of a row tells: of `UniRef100_<name>_<species>/..`, else none.
pub fn species(name: &str) -> &str {
    match name.split_once('/') {
        Some((first, _)) if name.starts_with("UniRef100") && first.matches('_').count() == 2 => {
            first.rsplit('_').next().unwrap_or("")
        }
        _ => "",
    }
}

/// What a chain brings.
struct Chain {
    /// Its place among the chains of the complex.
    index: usize,
    main: Rows,
    /// Rows that stand beside rows of other chains: `None` a row of gaps.
    paired: Vec<Option<(Vec<u8>, Vec<u16>)>>,
    /// `[n_column, 32]`.
    profile: Vec<f32>,
    /// `[n_column]`.
    deletion_mean: Vec<f32>,
}

/// The rows of all tokens of `f`.
pub(super) fn alignment_rows(chains: &[ProteinChain], f: &Af3Features) -> Result<Msa, ChainFault> {
    let aligned: Vec<usize> = (0..chains.len()).filter(|&i| chains[i].alignments.is_some()).collect();
    // Chains of one sequence share the alignments of the first of them.
    let source = |i: usize| aligned.iter().copied().find(|&k| chains[k].sequence == chains[i].sequence).unwrap_or(i);
    let sequences: BTreeSet<&str> = aligned.iter().map(|&i| chains[i].sequence.as_str()).collect();
    let mut members = Vec::new();
    let mut to_pair = Vec::new();
    for &index in &aligned {
        let Some(alignments) = &chains[source(index)].alignments else { continue };
        let main = Rows::distinct(&alignments.main);
        let (profile, deletion_mean) = statistics(&main, chains[index].sequence.len());
        members.push(Chain { index, main, paired: Vec::new(), profile, deletion_mean });
        if sequences.len() > 1 {
            let pairing = alignments.pairing.as_ref().ok_or(ChainFault::Pairing { chain: source(index) + 1 })?;
            to_pair.push(Rows::distinct(pairing));
        }
    }
    if to_pair.len() > 1 {
        pair(&mut members, &to_pair);
    }
    Ok(merged(chains, members, f))
}

/// Gives each chain its paired rows and takes them out of its others.
fn pair(members: &mut [Chain], to_pair: &[Rows]) {
    let mut numbers = paired_numbers(to_pair);
    numbers.truncate(MAX_ROWS / 2);
    for (k, (member, rows)) in members.iter_mut().zip(to_pair).enumerate() {
        let row = |i: usize| (rows.types[i].clone(), rows.deletions[i].clone());
        member.paired = numbers.iter().map(|numbers| numbers[k].map(row)).collect();
        let columns = rows.types.first().map_or(0, Vec::len);
        let gaps = vec![GAP; columns];
        let mut taken: HashSet<&[u8]> = HashSet::new();
        for paired in &member.paired {
            taken.insert(paired.as_ref().map_or(gaps.as_slice(), |(types, _)| types));
        }
        let keep: Vec<bool> = member.main.types.iter().map(|row| !taken.contains(row.as_slice())).collect();
        let mut kept = keep.iter();
        member.main.types.retain(|_| *kept.next().unwrap_or(&false));
        let mut kept = keep.iter();
        member.main.deletions.retain(|_| *kept.next().unwrap_or(&false));
        let n_real = member.paired.iter().flatten().filter(|(types, _)| types.iter().any(|&t| t != GAP)).count();
        member.main.types.truncate(MAX_ROWS.saturating_sub(n_real));
    }
}

/// Which rows of each chain stand side by side, `[n_paired][n_chain]`: the queries, then rows of one species, those that are most
/// alike to their queries together. Pairs of all chains come first, then of all but one, and so on; among them by the product of row
/// numbers, with -1 for a chain without a row. Equal rows stay in order, where the official sorts leave it open.
fn paired_numbers(rows: &[Rows]) -> Vec<Vec<Option<usize>>> {
    let mut by_species: Vec<BTreeMap<&str, Vec<usize>>> = vec![BTreeMap::new(); rows.len()];
    for (lookup, rows) in by_species.iter_mut().zip(rows) {
        for (i, species) in rows.species.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
            lookup.entry(species).or_default().push(i);
        }
        let alike = |i: usize| rows.types[i].iter().zip(&rows.types[0]).filter(|(a, b)| a == b).count();
        lookup.values_mut().for_each(|of| of.sort_by_key(|&i| std::cmp::Reverse(alike(i))));
    }
    let names: BTreeSet<&str> = by_species.iter().flat_map(|lookup| lookup.keys().copied()).collect();
    let mut of_count: BTreeMap<usize, Vec<Vec<Option<usize>>>> = BTreeMap::new();
    of_count.entry(rows.len()).or_default().push(vec![Some(0); rows.len()]);
    for name in names {
        let found: Vec<Option<&Vec<usize>>> = by_species.iter().map(|lookup| lookup.get(name)).collect();
        let sizes: Vec<usize> = found.iter().flatten().map(|of| of.len()).collect();
        if sizes.len() < 2 || sizes.iter().any(|&n| n > MAX_PER_SPECIES) {
            continue;
        }
        let least = sizes.iter().copied().min().unwrap_or(0);
        let side_by_side = (0..least).map(|k| found.iter().map(|of| of.map(|of| of[k])).collect());
        of_count.entry(sizes.len()).or_default().extend(side_by_side);
    }
    let product = |row: &Vec<Option<usize>>| {
        row.iter().map(|i| i.map_or(-1, |i| i as i64)).fold(1i64, i64::wrapping_mul).wrapping_abs()
    };
    let mut all = Vec::new();
    for (_, mut rows) in of_count.into_iter().rev() {
        rows.sort_by_key(product);
        all.append(&mut rows);
    }
    all
}

/// Frequencies of residue types and mean deletions, column by column.
fn statistics(rows: &Rows, n_column: usize) -> (Vec<f32>, Vec<f32>) {
    let n = rows.len() as f64;
    let (mut counts, mut deletions) = (vec![0u32; n_column * N_RESTYPE], vec![0f32; n_column]);
    for (types, row_deletions) in rows.types.iter().zip(&rows.deletions) {
        for (j, (&restype, &d)) in types.iter().zip(row_deletions).enumerate() {
            counts[j * N_RESTYPE + usize::from(restype)] += 1;
            deletions[j] += f32::from(d);
        }
    }
    let profile = counts.into_iter().map(|c| (f64::from(c) / n) as f32).collect();
    (profile, deletions.into_iter().map(|d| d / n as f32).collect())
}

/// The rows of all chains beside each other, for the residues that are kept. A chain without an alignment stands in each row with
/// its own sequence, one with fewer rows than another is filled with gaps.
fn merged(chains: &[ProteinChain], members: Vec<Chain>, f: &Af3Features) -> Msa {
    let n_token = f.n_token();
    let n_paired = members.first().map_or(0, |member| member.paired.len());
    let n_main = members.iter().map(|member| member.main.types.len()).max().unwrap_or(1);
    let n_seq = (n_paired + n_main).min(MAX_ROWS);
    let mut msa = Msa {
        n_seq,
        rows: f.restype.repeat(n_seq),
        has_deletion: vec![0.; n_seq * n_token],
        deletion_value: vec![0.; n_seq * n_token],
        mask: vec![1.; n_seq * n_token],
        profile: vec![0.; n_token * N_RESTYPE],
        deletion_mean: vec![0.; n_token],
        n_paired,
    };
    for (i, &restype) in f.restype.iter().enumerate() {
        msa.profile[i * N_RESTYPE + usize::from(restype)] = 1.;
    }
    for member in &members {
        let start: usize = chains[..member.index].iter().map(|c| c.kept.len()).sum();
        for (k, &number) in chains[member.index].kept.iter().enumerate() {
            let (token, column) = (start + k, number - 1);
            let profile = &member.profile[column * N_RESTYPE..(column + 1) * N_RESTYPE];
            msa.profile[token * N_RESTYPE..(token + 1) * N_RESTYPE].copy_from_slice(profile);
            msa.deletion_mean[token] = member.deletion_mean[column];
            for row in 0..n_seq {
                let (restype, deletions) = match row.checked_sub(n_paired) {
                    None => member.paired[row].as_ref().map(|(types, d)| (types[column], d[column])),
                    Some(i) => member.main.types.get(i).map(|types| (types[column], member.main.deletions[i][column])),
                }
                .unwrap_or((GAP, 0));
                let at = row * n_token + token;
                msa.rows[at] = restype;
                msa.has_deletion[at] = f32::from(u8::from(deletions > 0));
                msa.deletion_value[at] = (f32::from(deletions) / 3.).atan() * (2. / PI);
            }
        }
    }
    msa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn species_are_those_of_uniref100() {
        for (name, want) in [
            ("UniRef100_A0A0_9606/1-20", "9606"),
            ("UniRef100_A0A0_9606", ""),
            ("UniRef100_A0A0/1-20", ""),
            ("sp|P1|X_HUMAN/1-20", ""),
            ("UniRef100_A_B_9606/1-2", ""),
        ] {
            assert_eq!(species(name), want, "{name}");
        }
    }

    #[test]
    fn pairs_of_all_chains_come_first() {
        let rows = |species: &[&str]| Rows {
            types: (0..species.len()).map(|i| vec![0, i as u8]).collect(),
            deletions: vec![vec![0; 2]; species.len()],
            species: species.iter().map(|s| s.to_string()).collect(),
        };
        let [a, b, c] = [rows(&["", "1", "2", "3"]), rows(&["", "2", "1"]), rows(&["", "3", "2", "1"])];
        let want: [[Option<usize>; 3]; 4] =
            [[Some(0); 3], [Some(2), Some(1), Some(2)], [Some(1), Some(2), Some(3)], [Some(3), None, Some(1)]];
        assert_eq!(paired_numbers(&[a, b, c]), want);
    }
}
