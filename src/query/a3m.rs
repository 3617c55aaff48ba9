//! An alignment as a query: the first row of an a3m file is the sequence, the file its main alignment.
//!
//! ColabFold's complexes have a first line `#34,38<TAB>2,1`: lengths of the distinct chains and their numbers of copies.
//! The chains stand side by side in each row; a row with residues in two or more of them is paired, another is of one
//! chain alone. As `unserialize_msa` of ColabFold 1.6.3: of rows that are equal, header included, the first is kept, and residues
//! between two chains belong to the second. A chain whose sequence is none of its rows gets it as the first.
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::msa::{MAIN_ORDER, MsaFile, PAIRED_NAME};
use super::{Chain, Query, QueryErrors, QuerySet, chain_id, clean_name, sequence_faults};
use crate::io::a3m::{self, Alignment};
use crate::io::fasta::lines;

/// Name of the alignment in the stacking order.
const MAIN: &str = MAIN_ORDER[MAIN_ORDER.len() - 1].0;

/// Reads an a3m text; `None`: there are faults.
pub(super) fn read(text: &str, path: &Path, errors: &mut QueryErrors) -> Option<QuerySet> {
    let bare = lines(text).map(|l| l.trim_matches('\0'));
    let (first_line, first) = (1..).zip(bare).find(|(_, l)| !l.trim().is_empty()).unwrap_or_default();
    let mut alignment = match a3m::parse(text, usize::MAX) {
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
            errors.data(first_line, "", message);
            return None;
        }
    };
    let parts = match parts {
        Some(parts) => {
            alignment = distinct(&alignment, &parts);
            parts
        }
        None => vec![Part { start: 0, length: alignment.n_column, copies: 1 }],
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
        let (main, paired) = split(&alignment, &parts, k);
        let file = |name: &str, rows: Alignment| MsaFile {
            name: name.to_owned(),
            representative: format!("chain {}", k + 1),
            path: path.to_owned(),
            alignment: Arc::new(rows),
        };
        chain.main_msas.push(file(MAIN, main));
        if parts.len() > 1 {
            chain.paired_msas.push(file(PAIRED_NAME, paired));
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

/// The chains that the first line tells; a line that does not begin with `#` and a digit tells none.
fn parts(line: &str, n_column: usize) -> Result<Option<Vec<Part>>, String> {
    let Some(rest) =
        line.strip_prefix('#').map(str::trim).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    else {
        return Ok(None);
    };
    let Some((lengths, copies)) = rest.split_once('\t') else {
        let form = "#<lengths><TAB><copies>, as in #60,73<TAB>1,1";
        return Err(format!("the first line must be {form}: it has no tab stop"));
    };
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
    Ok(Some(lengths.into_iter().zip(copies).map(part).collect()))
}

/// The first row and those that have residues, each once.
fn distinct(alignment: &Alignment, parts: &[Part]) -> Alignment {
    let mut kept = Alignment { n_column: alignment.n_column, ..Alignment::default() };
    let mut seen = HashSet::new();
    for i in 0..alignment.n_row() {
        let (name, letters, deletions) = (&alignment.names[i], alignment.row(i), alignment.row_deletions(i));
        if seen.insert((name, letters, deletions)) && (i == 0 || parts.iter().any(|part| filled(letters, part))) {
            kept.push(name.clone(), letters, deletions);
        }
    }
    kept
}

/// Has the row residues in this chain?
fn filled(row: &[u8], part: &Part) -> bool {
    row[part.start..part.start + part.length].iter().any(|&c| c != b'-')
}

/// The rows of chain `k` alone, its own sequence among them, and its share of the paired rows.
fn split(alignment: &Alignment, parts: &[Part], k: usize) -> (Alignment, Alignment) {
    let columns = parts[k].start..parts[k].start + parts[k].length;
    let mut main = Alignment { n_column: parts[k].length, ..Alignment::default() };
    let mut paired = main.clone();
    for i in 0..alignment.n_row() {
        let n_filled = parts.iter().filter(|part| filled(alignment.row(i), part)).count();
        let (letters, deletions) = (&alignment.row(i)[columns.clone()], &alignment.row_deletions(i)[columns.clone()]);
        let rows = if parts.len() > 1 && n_filled > 1 {
            &mut paired
        } else if parts.len() == 1 || filled(alignment.row(i), &parts[k]) {
            &mut main
        } else {
            continue;
        };
        rows.push(alignment.names[i].clone(), letters, deletions);
    }
    let sequence = &alignment.row(0)[columns];
    if (0..main.n_row()).all(|i| main.row(i) != sequence) {
        let own = std::mem::replace(&mut main, Alignment::of_query(&alignment.names[0], sequence));
        main.names.extend(own.names);
        main.letters.extend(own.letters);
        main.deletions.extend(own.deletions);
    }
    (main, paired)
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
        assert_eq!(rows(&q.chains[0].main_msas[0]), ["MKT", "MRT"]);
        assert_eq!(rows(&q.chains[1].main_msas[0]), ["VV", "V-"]);
        assert_eq!(rows(&q.chains[0].paired_msas[0]), ["MKT", "M-T"]);
        assert_eq!(rows(&q.chains[1].paired_msas[0]), ["VV", "V-"]);
        assert_eq!(q.chains[1].paired_msas[0].alignment.row_deletions(1), [1, 0]);
        assert_eq!(q.chains[1].main_msas[0].alignment.row_deletions(1), [0, 1]);
    }

    #[test]
    fn equal_rows_are_kept_once_and_chains_get_their_sequence() {
        let q = query("#3,2\t1,1\n>1\t2\nMKTVV\n>x\nMRT--\n>x\nMRT--\n>y\nMRT--\n>z\n-----\n").unwrap();
        assert_eq!(rows(&q.chains[0].main_msas[0]), ["MKT", "MRT", "MRT"]);
        assert_eq!(rows(&q.chains[1].main_msas[0]), ["VV"]);
        let q = query("#3\t2\n>1\nMKT\n>x\nM--\n>x\nM--\n>z\n---\n").unwrap();
        assert_eq!(
            (q.chains[0].ids.len(), rows(&q.chains[0].main_msas[0])),
            (2, vec!["MKT".to_owned(), "M--".to_owned()])
        );
        assert!(q.chains[0].paired_msas.is_empty());
    }

    #[test]
    fn faults_of_the_first_line() {
        let message = |first: &str| query(&format!("{first}\n>q\nMKTVV\n")).unwrap_err();
        assert!(message("#3,3\t1,1").ends_with("the lengths in the first line add up to 6, the rows have 5 columns"));
        assert!(message("#3,2\t1").ends_with("the first line has 2 lengths and 1 numbers of copies"));
        assert!(message("#3,2\t0,1").ends_with("\"0\" in the first line is no whole number from 1"));
        assert!(message("#3,2\t1000,1000").ends_with("more than 1000"));
        assert!(message("#3,2 1,1").ends_with("as in #60,73<TAB>1,1: it has no tab stop"));
        assert!(message("\n#3,3\t1,1").starts_with("jobs/dimer.a3m:2: the lengths"));
        assert_eq!(query("#A3M#\n>q\nMKTVV\n").unwrap().chains.len(), 1);
    }
}
