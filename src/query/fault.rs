//! What is wrong with a query file: all of it at once, each fault with its place.
use std::fmt;
use std::path::PathBuf;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A file that is named is not there.
    Missing,
    /// The contents are wrong, or ask for what is not served.
    Data,
    /// A file could not be read.
    Io,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault it is.
    pub kind: FaultKind,
    /// Line in the query file, from 1; 0 = the whole file.
    pub line: usize,
    /// Where in the query: a JSON path such as `$.queries.q.chains[0].sequence`, or a record of a FASTA file.
    pub place: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// All that is wrong with a query file; displayed as one line a fault: `file:line: place: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryErrors {
    /// The query file.
    pub file: PathBuf,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl QueryErrors {
    /// The worst kind among the faults: unreadable before wrong before missing.
    pub fn kind(&self) -> FaultKind {
        self.faults.iter().map(|f| f.kind).max().unwrap_or(FaultKind::Data)
    }

    pub(super) fn data(&mut self, line: usize, place: impl Into<String>, message: impl Into<String>) {
        self.add(FaultKind::Data, line, place, message);
    }

    pub(super) fn add(&mut self, kind: FaultKind, line: usize, place: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault { kind, line, place: place.into(), message: message.into() });
    }
}

impl fmt::Display for QueryErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if fault.line > 0 {
                write!(f, "{}:", fault.line)?;
            }
            if !fault.place.is_empty() {
                write!(f, " {}:", fault.place)?;
            }
            write!(f, " {}", fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for QueryErrors {}
