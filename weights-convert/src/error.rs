//! What can be wrong with a checkpoint, a name map or a weights file.
use std::io;
use std::path::PathBuf;

/// Why a checkpoint was not converted or a weights file not accepted; says what to do where the user can do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is read cannot be opened or read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is written cannot be created, written or renamed.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes the same file now.
    #[error("{}: another conversion is writing this file; wait for it or choose another name (-o)", path.display())]
    Busy {
        /// The temporary file that is locked.
        path: PathBuf,
    },
    /// The file is not a checkpoint, or a damaged one.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The checkpoint is whole but of a model or release that is not supported.
    #[error("{}: {problem}", path.display())]
    Unsupported {
        /// The checkpoint.
        path: PathBuf,
        /// Which one it is and what to use instead.
        problem: String,
    },
    /// Names of the checkpoint and the map of its release do not fit: all of them at once.
    #[error("{}: {} names do not fit the map of {release}: {}", path.display(), problems.len(), list(problems, 30))]
    Names {
        /// The checkpoint.
        path: PathBuf,
        /// The release whose map was applied.
        release: String,
        /// One entry a name: unmatched, ambiguous, or missing beside its partner.
        problems: Vec<String>,
    },
    /// A tensor cannot be written as asked.
    #[error("{}: tensor {tensor}: {problem}", path.display())]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// Official name of the tensor.
        tensor: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A name map of this crate is malformed.
    #[error("name map of {release}")]
    Map {
        /// The release.
        release: String,
        /// What is wrong, with the line.
        source: MapError,
    },
    /// The converted file was refused by the caller's check (see [`crate::Options::check`]).
    #[error("{}: the converted weights do not make a model", path.display())]
    Check {
        /// The checkpoint.
        path: PathBuf,
        /// What the check said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Whose fault an [`Error`] is; a program chooses its exit code by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A file that was named does not exist.
    Missing,
    /// The system could not read or write.
    Io,
    /// A file holds something else than it should.
    Data,
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::Missing,
            Self::Read { .. } | Self::Write { .. } | Self::Busy { .. } => Kind::Io,
            _ => Kind::Data,
        }
    }
}

/// A malformed line of a name map.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct MapError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// The first `most` of a list of names, and how many more there are.
pub(crate) fn list<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let mut text = names.iter().take(most).map(AsRef::as_ref).collect::<Vec<_>>().join("; ");
    if names.len() > most {
        text += &format!("; and {} more", names.len() - most);
    }
    if names.is_empty() { "nothing".to_owned() } else { text }
}
