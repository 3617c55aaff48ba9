//! The container of torch checkpoints: a zip archive with one folder, `data.pkl` and one stored entry per storage.
//!
//! Torch stores entries uncompressed; deflated ones (a re-packed file) and zip64 are read too.
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipReadOptions;
use zip::result::ZipError;

use crate::Error;

/// Larger pickles than this are not read: the full model's has 0.6 MB.
const MAX_PICKLE: u64 = 1 << 28;

/// An open checkpoint archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    folder: String,
    ignore_checksums: bool,
}

impl Archive {
    /// Opens `path` and finds the folder that holds `data.pkl`.
    pub fn open(path: &Path, ignore_checksums: bool) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let format = |problem: &str| Error::Format { path: path.to_owned(), problem: problem.to_owned() };
        let mut file = File::open(path).map_err(read)?;
        let mut start = [0; 16];
        let n = read_up_to(&mut file, &mut start).map_err(read)?;
        match &start[..n] {
            [b'P', b'K', 3, 4, ..] => {}
            // Protocol 2, then LONG1 of ten bytes: torch's magic number 0x1950a86a20f9469cfc6c.
            [0x80, 2, 0x8a, 10, 0x6c, 0xfc, ..] => {
                return Err(format(
                    "is in torch's format from before version 1.6: open and save it once with a current torch",
                ));
            }
            [] => return Err(format("is empty: download it again")),
            _ => return Err(format("is not a torch checkpoint (no zip archive); the official file ends in .pt")),
        }
        file.rewind().map_err(read)?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| match e {
            ZipError::Io(e) if e.kind() != io::ErrorKind::UnexpectedEof => read(e),
            e => format(&format!("is cut short or damaged, download it again (zip archive: {e})")),
        })?;
        let pickles: Vec<_> = zip.file_names().flatten().filter(|n| is_pickle(n)).map(|n| n.into_owned()).collect();
        let [pickle] = pickles.as_slice() else {
            return Err(format("is a zip archive without one data.pkl, so not a torch checkpoint"));
        };
        let folder = pickle.trim_end_matches("data.pkl").to_owned();
        let mut archive = Self { path: path.to_owned(), zip, folder, ignore_checksums };
        if archive.has("byteorder") && archive.read("byteorder", 16)? != b"little" {
            return Err(format("was written by a big-endian machine, which is not supported"));
        }
        Ok(archive)
    }

    /// The pickle that describes the tensors.
    pub fn pickle(&mut self) -> Result<Vec<u8>, Error> {
        self.read("data.pkl", MAX_PICKLE)
    }

    /// All `n_bytes` of the storage `key`.
    pub fn storage(&mut self, key: &str, n_bytes: u64) -> Result<Vec<u8>, Error> {
        let name = format!("data/{key}");
        if !self.has(&name) {
            return Err(self.damaged(&format!("the data of storage {key} is missing")));
        }
        let bytes = self.read(&name, n_bytes)?;
        if bytes.len() as u64 != n_bytes {
            return Err(self.damaged(&format!("storage {key} has {} bytes instead of {n_bytes}", bytes.len())));
        }
        Ok(bytes)
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}", self.folder)).is_some()
    }

    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let full = format!("{}{name}", self.folder);
        let options = ZipReadOptions::new().ignore_crc32(self.ignore_checksums);
        let mut bytes = Vec::new();
        let done = (|| -> Result<(), ZipError> {
            let index = self.zip.index_for_name(&full).ok_or(ZipError::FileNotFound)?;
            let entry = self.zip.by_index_with_options(index, options)?;
            bytes.reserve(entry.size().min(limit).min(1 << 26) as usize);
            entry.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(())
        })();
        match done {
            Ok(()) if bytes.len() as u64 > limit => Err(self.damaged(&format!("{name} is larger than {limit} bytes"))),
            Ok(()) => Ok(bytes),
            Err(e) => Err(self.damaged(&format!("{name}: {e}"))),
        }
    }

    fn damaged(&self, problem: &str) -> Error {
        let hint = "the file is damaged, download it again";
        Error::Format { path: self.path.clone(), problem: format!("{hint} ({problem})") }
    }
}

fn is_pickle(name: &str) -> bool {
    name == "data.pkl" || name.strip_suffix("/data.pkl").is_some_and(|folder| !folder.contains('/'))
}

fn read_up_to(file: &mut File, out: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < out.len() {
        match file.read(&mut out[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}
