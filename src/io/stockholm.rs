//! Alignments in Stockholm format (`.sto`, as jackhmmer writes them), read as a3m is: columns are the query's residues.
use super::a3m::{Alignment, AlignmentFault};
use super::fasta::lines;

/// The first `max_rows` rows of a Stockholm text; the first sequence is the query.
///
/// # Errors
/// The first fault: a line that is not `name sequence`, rows of different lengths, no row.
pub fn parse(text: &str, max_rows: usize) -> Result<Alignment, Vec<AlignmentFault>> {
    let fault = |line: usize, message: String| Err(vec![AlignmentFault { line, message }]);
    let mut rows: Vec<(&str, Vec<u8>, usize)> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for (i, line) in lines(text).enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(part), None) = (words.next(), words.next(), words.next()) else {
            return fault(i + 1, "not a name and a sequence".to_owned());
        };
        if let Some(c) = part.chars().find(|&c| !c.is_ascii_alphabetic() && c != '-' && c != '.') {
            return fault(i + 1, format!("row {name}: {c:?} is neither a letter nor a gap"));
        }
        let row = *at.entry(name).or_insert_with(|| {
            rows.push((name, Vec::new(), i + 1));
            rows.len() - 1
        });
        rows[row].1.extend(part.bytes());
    }
    let Some((_, query, _)) = rows.first().cloned() else { return fault(1, "no aligned sequence".to_owned()) };
    let is_gap = |c: u8| matches!(c, b'-' | b'.');
    let mut alignment = Alignment { n_column: query.iter().filter(|&&c| !is_gap(c)).count(), ..Alignment::default() };
    if alignment.n_column == 0 {
        return fault(1, "the first sequence has no residues".to_owned());
    }
    for (i, (name, row, line)) in rows.iter().enumerate().take(max_rows) {
        if row.len() != query.len() {
            let (m, l) = (row.len(), query.len());
            return fault(*line, format!("row {} ({name}) has {m} columns, the first row has {l}", i + 1));
        }
        let (mut letters, mut deletions, mut pending) = (Vec::new(), Vec::new(), 0u16);
        for (&c, &q) in row.iter().zip(&query) {
            if !is_gap(q) {
                // A '.' is kept: the official reader takes it for an unknown residue, not for a gap.
                letters.push(c.to_ascii_uppercase());
                deletions.push(std::mem::take(&mut pending));
            } else if !is_gap(c) {
                pending = pending.saturating_add(1);
            }
        }
        alignment.push((*name).to_owned(), &letters, &deletions);
    }
    Ok(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_the_residues_of_the_query() {
        let text = "# STOCKHOLM 1.0\n#=GF ID x\nq/1-4 M-KT\nh A.cd\n\nq/1-4 -V\nh e-\n#=GC RF xxxx\n//\n";
        let a = parse(text, 10).unwrap();
        assert_eq!(a.names, ["q/1-4", "h"]);
        assert_eq!((a.row(0), a.row(1)), (&b"MKTV"[..], &b"ACD-"[..]));
        assert_eq!(a.row_deletions(1), [0, 0, 0, 1]);
        assert_eq!(parse(text, 1).unwrap().n_row(), 1);
    }

    #[test]
    fn faults_name_the_line() {
        assert_eq!(parse("q MKT\nh MK\n", 10).unwrap_err()[0].line, 2);
        assert!(parse("q MKT\nh MK T\n", 10).unwrap_err()[0].message.contains("not a name"));
        assert!(parse("# STOCKHOLM 1.0\n//\n", 10).is_err());
        assert!(parse("q ---\n", 10).is_err());
    }
}
