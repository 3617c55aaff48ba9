//! FASTA: records of a `>` line and sequence lines.

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Line of the `>`, from 1.
    pub line: usize,
    /// What follows the `>`, trimmed.
    pub header: &'a str,
    /// The sequence lines joined, without white space.
    pub sequence: String,
}

/// Records of a text. Blank lines and lines that start with `;` or `#` are passed over.
///
/// # Errors
/// The number of a line, from 1, that precedes the first `>`.
pub fn parse(text: &str) -> Result<Vec<Record<'_>>, usize> {
    let mut records: Vec<Record<'_>> = Vec::new();
    for (i, line) in lines(text).enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('>') {
            records.push(Record { line: i + 1, header: header.trim(), sequence: String::new() });
        } else if !line.is_empty() && !line.starts_with([';', '#']) {
            let record = records.last_mut().ok_or(i + 1)?;
            record.sequence.extend(line.chars().filter(|c| !c.is_whitespace()));
        }
    }
    Ok(records)
}

/// Lines that end in `\n`, `\r\n` or `\r`.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_line_end_and_blank_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = [">one x", "MK", "", " T V ", ">two", "; comment", "A"].join(end);
            let records = parse(&text).unwrap();
            assert_eq!(records[0], Record { line: 1, header: "one x", sequence: "MKTV".to_owned() });
            assert_eq!(records[1], Record { line: 5, header: "two", sequence: "A".to_owned() });
        }
    }

    #[test]
    fn a_sequence_without_a_header_is_named_by_line() {
        assert_eq!(parse("\nMKT\n>a\n"), Err(2));
        assert_eq!(parse(""), Ok(Vec::new()));
    }
}
