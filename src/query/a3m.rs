//! An alignment as a query: the first row of an a3m file is the sequence, the file its main alignment.
//!
//! ColabFold's complexes have a first line `#34,38<TAB>2,1`: lengths of the distinct chains and their numbers of copies.
//! The chains stand side by side in each row; a row with residues in two or more of them is paired, another is of one
//! chain alone.
use std::path::Path;
use std::sync::Arc;

use super::msa::{MAIN_ORDER, MsaFile, PAIRED_NAME};
use super::{Chain, Query, QueryErrors, QuerySet, chain_id, clean_name, sequence_faults};
use crate::io::a3m::{self, Alignment};
use crate::io::fasta::lines;

/// Name of the alignment in the stacking order, and its rows at most.
const MAIN: (&str, usize) = MAIN_ORDER[MAIN_ORDER.len() - 1];

/// Reads an a3m text; `None`: there are faults.
pub(super) fn read(text: &str, path: &Path, errors: &mut QueryErrors) -> Option<QuerySet> {
    let first = lines(text).map(|l| l.trim_matches('\0')).find(|l| !l.trim().is_empty()).unwrap_or_default();
    // Rows of one chain each are sorted out below, so that the limit of one chain cannot be the limit of the file.
    let alignment = match a3m::parse(text, if first.starts_with('#') { usize::MAX } else { MAIN.1 }) {
        Ok(alignment) => alignment,
        Err(faults) => {
            for fault in faults {
                errors.data(fault.line, "", fault.message);
            }
            return None;
        }
    };
    let parts = match parts(first, alignment.n_column) {
        Ok(parts) => parts,
        Err(message) => {
            errors.data(1, "", message);
            return None;
        }
    };
    let name = path.file_stem().map(|s| clean_name(&s.to_string_lossy())).filter(|s| !s.is_empty());
    let name = name.unwrap_or_else(|| "query".to_owned());
    let line = 2 + lines(text).position(|l| l.trim_start_matches('\0').trim_start().starts_with('>')).unwrap_or(0);
    let mut ids = (0..).map(chain_id);
    let mut chains = Vec::new();
    for (k, part) in parts.iter().enumerate() {
        let sequence = String::from_utf8_lossy(&alignment.row(0)[part.start..part.start + part.length]).into_owned();
        let place = if parts.len() > 1 { format!("row 1, chain {}", k + 1) } else { "row 1".to_owned() };
        for message in sequence_faults(&sequence) {
            errors.data(line, &place, message);
        }
        let mut chain = Chain::new(ids.by_ref().take(part.copies).collect(), sequence);
        let (mut main, mut paired) = split(&alignment, &parts, k);
        main = truncated(main, MAIN.1);
        paired = truncated(paired, PAIRED_NAME.1);
        let file = |name: &str, rows: Alignment| MsaFile {
            name: name.to_owned(),
            representative: format!("chain {}", k + 1),
            path: path.to_owned(),
            alignment: Arc::new(rows),
        };
        chain.main_msas.push(file(MAIN.0, main));
        if parts.len() > 1 {
            chain.paired_msas.push(file(PAIRED_NAME.0, paired));
        }
        chains.push(chain);
    }
    Some(QuerySet { seeds: None, queries: vec![Query::new(name, chains)] })
}

/// Columns of one distinct chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    start: usize,
    length: usize,
    copies: usize,
}

/// The chains that the first line tells; a line that is not `#lengths<TAB>copies` is a comment.
fn parts(line: &str, n_column: usize) -> Result<Vec<Part>, String> {
    let whole = vec![Part { start: 0, length: n_column, copies: 1 }];
    let Some((lengths, copies)) = line.strip_prefix('#').and_then(|rest| rest.split_once('\t')) else {
        return Ok(whole);
    };
    if !lengths.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(whole);
    }
    let numbers = |list: &str| -> Result<Vec<usize>, String> {
        let number = |s: &str| s.trim().parse().ok().filter(|n| (1..=100_000).contains(n));
        let bad = |s: &str| {
            format!("{:?} in the first line is no whole number from 1", s.chars().take(20).collect::<String>())
        };
        list.split(',').map(|s| number(s).ok_or_else(|| bad(s))).collect()
    };
    let (lengths, copies) = (numbers(lengths)?, numbers(copies)?);
    if lengths.len() != copies.len() {
        return Err(format!("the first line has {} lengths and {} numbers of copies", lengths.len(), copies.len()));
    }
    let sum: usize = lengths.iter().sum();
    if sum != n_column {
        return Err(format!("the lengths in the first line add up to {sum}, the rows have {n_column} columns"));
    }
    let n_chain: usize = copies.iter().sum();
    if n_chain > 1000 {
        return Err(format!("the first line asks for {n_chain} chains, more than 1000"));
    }
    let mut start = 0;
    let part = |(length, copies)| {
        start += length;
        Part { start: start - length, length, copies }
    };
    Ok(lengths.into_iter().zip(copies).map(part).collect())
}

/// The rows of chain `k` alone and its share of the paired rows, each after the chain's own sequence.
fn split(alignment: &Alignment, parts: &[Part], k: usize) -> (Alignment, Alignment) {
    let columns =
        |i: usize, part: &Part| i * alignment.n_column + part.start..i * alignment.n_column + part.start + part.length;
    let mut main = Alignment { n_column: parts[k].length, ..Alignment::default() };
    let mut paired = main.clone();
    for i in 0..alignment.n_row() {
        let filled = |part: &Part| alignment.letters[columns(i, part)].iter().any(|&c| c != b'-');
        let n_filled = parts.iter().filter(|part| filled(part)).count();
        let range = columns(i, &parts[k]);
        let letters = &alignment.letters[range.clone()];
        let mut deletions = alignment.deletions[range].to_vec();
        if k > 0 {
            deletions[0] = 0; // residues before a chain's first column follow the chain before
        }
        let name = &alignment.names[i];
        if parts.len() > 1 && n_filled > 1 {
            paired.push(name.clone(), letters, &deletions);
        }
        if i == 0 || parts.len() == 1 || (n_filled == 1 && filled(&parts[k])) {
            main.push(name.clone(), letters, &deletions);
        }
    }
    (main, paired)
}

fn truncated(mut alignment: Alignment, n_row: usize) -> Alignment {
    alignment.names.truncate(n_row);
    alignment.letters.truncate(n_row * alignment.n_column);
    alignment.deletions.truncate(n_row * alignment.n_column);
    alignment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, String> {
        let path = Path::new("jobs/dimer.a3m");
        super::super::parse(path, text.as_bytes()).map(|set| set.queries[0].clone()).map_err(|e| e.to_string())
    }

    fn rows(file: &MsaFile) -> Vec<String> {
        (0..file.alignment.n_row()).map(|i| String::from_utf8_lossy(file.alignment.row(i)).into_owned()).collect()
    }

    #[test]
    fn the_first_row_is_the_query_and_the_file_its_alignment() {
        let q = query(">q\nMKTV\n>h\nM-aTV\n").unwrap();
        assert_eq!((q.name.as_str(), q.chains.len()), ("dimer", 1));
        assert_eq!((q.chains[0].sequence.as_str(), &q.chains[0].ids[..]), ("MKTV", &["A".to_owned()][..]));
        assert_eq!(rows(&q.chains[0].main_msas[0]), ["MKTV", "M-TV"]);
        assert!(q.chains[0].paired_msas.is_empty());
    }

    #[test]
    fn rows_of_a_complex_go_to_its_chains() {
        let text = "#3,2\t2,1\n>101\t102\nMKTVV\n>a\tb\nM-TaV-\n>101\nMKT--\n>x\nMRT--\n>102\n---VV\n>y\n---Vc-\n";
        let q = query(text).unwrap();
        assert_eq!(q.chains[0].ids, ["A", "B"]);
        assert_eq!(q.chains[1].ids, ["C"]);
        assert_eq!(rows(&q.chains[0].main_msas[0]), ["MKT", "MKT", "MRT"]);
        assert_eq!(rows(&q.chains[1].main_msas[0]), ["VV", "VV", "V-"]);
        assert_eq!(rows(&q.chains[0].paired_msas[0]), ["MKT", "M-T"]);
        assert_eq!(rows(&q.chains[1].paired_msas[0]), ["VV", "V-"]);
        assert_eq!(q.chains[1].paired_msas[0].alignment.row_deletions(1), [0, 0]);
        assert_eq!(q.chains[1].main_msas[0].alignment.row_deletions(2), [0, 1]);
    }

    #[test]
    fn faults_of_the_first_line() {
        let message = |first: &str| query(&format!("{first}\n>q\nMKTVV\n")).unwrap_err();
        assert!(message("#3,3\t1,1").ends_with("the lengths in the first line add up to 6, the rows have 5 columns"));
        assert!(message("#3,2\t1").ends_with("the first line has 2 lengths and 1 numbers of copies"));
        assert!(message("#3,2\t0,1").ends_with("\"0\" in the first line is no whole number from 1"));
        assert!(message("#3,2\t1000,1000").ends_with("more than 1000"));
        assert_eq!(query("#A3M#\n>q\nMKTVV\n").unwrap().chains.len(), 1);
    }
}
