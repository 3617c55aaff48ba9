//! Alignments in a3m: FASTA whose columns are the upper-case letters and `-`, in each row as many as in the first;
//! lower-case letters are residues between columns.
use super::fasta::lines;

/// An alignment: the query in the first row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alignment {
    /// Header of each row.
    pub names: Vec<String>,
    /// Columns.
    pub n_column: usize,
    /// `[n_row, n_column]` upper-case letters and `-`.
    pub letters: Vec<u8>,
    /// `[n_row, n_column]` residues between this column and the one before; more than 65535 count as 65535.
    pub deletions: Vec<u16>,
}

/// Something wrong with an alignment file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct AlignmentFault {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Faults that are reported before a file is given up.
const MAX_FAULTS: usize = 5;

impl Alignment {
    /// An alignment of nothing but its query.
    pub fn of_query(name: &str, letters: &[u8]) -> Self {
        let mut alignment = Self { n_column: letters.len(), ..Self::default() };
        alignment.push(name.to_owned(), letters, &vec![0; letters.len()]);
        alignment
    }

    /// Number of rows.
    pub fn n_row(&self) -> usize {
        self.names.len()
    }

    /// Letters of row `i`.
    pub fn row(&self, i: usize) -> &[u8] {
        &self.letters[i * self.n_column..(i + 1) * self.n_column]
    }

    /// Deletions of row `i`.
    pub fn row_deletions(&self, i: usize) -> &[u16] {
        &self.deletions[i * self.n_column..(i + 1) * self.n_column]
    }

    /// Adds a row of `n_column` letters.
    ///
    /// # Panics
    /// If the lengths are not `n_column`.
    pub fn push(&mut self, name: String, letters: &[u8], deletions: &[u16]) {
        assert!(letters.len() == self.n_column && deletions.len() == self.n_column, "a row has n_column letters");
        self.names.push(name);
        self.letters.extend_from_slice(letters);
        self.deletions.extend_from_slice(deletions);
    }
}

/// The first `max_rows` rows of an a3m text. Lines that start with `#` and NUL bytes (of the MSA server) are passed over.
///
/// # Errors
/// The first few faults: text before the first row, other characters, rows of another length than the first, no row.
pub fn parse(text: &str, max_rows: usize) -> Result<Alignment, Vec<AlignmentFault>> {
    let mut alignment = Alignment::default();
    let mut faults = Vec::new();
    let mut row: Option<Row> = None;
    for (i, line) in lines(text).enumerate() {
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if let Some(header) = line.strip_prefix('>') {
            if let Some(row) = row.take() {
                row.finish(&mut alignment, &mut faults);
            }
            if alignment.n_row() == max_rows || faults.len() >= MAX_FAULTS {
                break;
            }
            row = Some(Row::new(i + 1, header.trim()));
        } else if line.is_empty() || line.starts_with('#') {
        } else if let Some(row) = &mut row {
            row.extend(i + 1, line, &mut faults);
        } else {
            faults.push(AlignmentFault { line: i + 1, message: "text before the first '>'".to_owned() });
            return Err(faults);
        }
    }
    if let Some(row) = row {
        row.finish(&mut alignment, &mut faults);
    }
    if faults.is_empty() && alignment.n_column == 0 {
        faults.push(AlignmentFault { line: 1, message: "no aligned sequence".to_owned() });
    }
    if faults.is_empty() { Ok(alignment) } else { Err(faults) }
}

/// A row while it is read.
struct Row {
    line: usize,
    name: String,
    letters: Vec<u8>,
    deletions: Vec<u16>,
    pending: u16,
    faulty: bool,
}

impl Row {
    fn new(line: usize, name: &str) -> Self {
        let name = name.to_owned();
        Self { line, name, letters: Vec::new(), deletions: Vec::new(), pending: 0, faulty: false }
    }

    fn extend(&mut self, line: usize, text: &str, faults: &mut Vec<AlignmentFault>) {
        for c in text.chars() {
            match c {
                'A'..='Z' | '-' => {
                    self.letters.push(c as u8);
                    self.deletions.push(std::mem::take(&mut self.pending));
                }
                'a'..='z' => self.pending = self.pending.saturating_add(1),
                '\0' => {}
                c if c.is_whitespace() => {}
                _ if self.faulty => {}
                c => {
                    self.faulty = true;
                    let column = self.letters.len() + 1;
                    let name = shortened(&self.name);
                    let message = format!("row {name}: {c:?} before column {column} is neither a letter nor '-'");
                    faults.push(AlignmentFault { line, message });
                }
            }
        }
    }

    fn finish(self, alignment: &mut Alignment, faults: &mut Vec<AlignmentFault>) {
        if alignment.n_row() == 0 && !self.faulty {
            alignment.n_column = self.letters.len();
        }
        if self.faulty {
        } else if self.letters.len() == alignment.n_column && !self.letters.is_empty() {
            alignment.push(self.name, &self.letters, &self.deletions);
        } else {
            let (row, name) = (alignment.n_row() + faults.len() + 1, shortened(&self.name));
            let (m, l) = (self.letters.len(), alignment.n_column);
            let message = format!("row {row} ({name}) has {m} columns, the first row has {l}");
            faults.push(AlignmentFault { line: self.line, message });
        }
    }
}

/// A header for a message.
fn shortened(name: &str) -> String {
    let word = name.split_whitespace().next().unwrap_or("without a name");
    if word.chars().count() > 40 { word.chars().take(37).chain("...".chars()).collect() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_counts_for_the_next_column() {
        let a = parse("#A3M#\n>q\nMKTV\n>h x\naaM-\nbTcV\r\n>e\n----dd\0\n", 10).unwrap();
        assert_eq!((a.n_row(), a.n_column), (3, 4));
        assert_eq!(a.names, ["q", "h x", "e"]);
        assert_eq!(a.row(1), b"M-TV");
        assert_eq!(a.row_deletions(1), [2, 0, 1, 1]);
        assert_eq!(a.row_deletions(2), [0; 4]);
        assert_eq!(parse("#A3M#\n>q\nMKTV\n>h\nM-TV\n>bad\nM\n", 2).unwrap().n_row(), 2);
    }

    #[test]
    fn faults_name_line_row_and_length() {
        let message = |text: &str| {
            parse(text, 100).unwrap_err().iter().map(AlignmentFault::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(message(">q\nMKTV\n>h\nMKT\n"), "line 3: row 2 (h) has 3 columns, the first row has 4");
        assert_eq!(message(">q\nMKTV\n>h\nMK.V\n"), "line 4: row h: '.' before column 3 is neither a letter nor '-'");
        assert_eq!(message("MKTV\n>q\n"), "line 1: text before the first '>'");
        assert_eq!(message(""), "line 1: no aligned sequence");
        assert!(message(">q\n>r\n").starts_with("line 1: row 1 (q) has 0 columns"));
    }
}
