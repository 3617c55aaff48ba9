//! Safetensors files: written as a stream with checksums, listed and verified.
//!
//! Layout: eight bytes of header length, a JSON header padded with spaces so that the data start at a multiple of 64,
//! the tensors one behind the other. Tensors whose size is a multiple of 64 bytes come first, so that all of these are
//! aligned for vector loads where the file is mapped.
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map as Json, Value, json};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::number::Dtype;

const ALIGN: usize = 64;
/// Metadata key of the checksum of all bytes behind the header.
const DATA_SHA256: &str = "data_sha256";
const MAX_HEADER: u64 = 100 << 20;

/// A tensor of a weights file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TensorHeader {
    /// Our name.
    pub name: String,
    /// Number format.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorHeader {
    pub(crate) fn new(name: String, dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { name, dtype, shape }
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.dtype.size() * self.shape.iter().product::<usize>()
    }

    /// Sorts into the order of the file: whole multiples of 64 bytes, then the rest; each by name, numbers as numbers.
    pub(crate) fn order(&self) -> (bool, Vec<(u64, &str)>) {
        let parts = self.name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part));
        (!self.n_bytes().is_multiple_of(ALIGN), parts.collect())
    }
}

/// What a weights file says about itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Header {
    /// Text entries: model, release, config, source_sha256, ...
    pub metadata: Vec<(String, String)>,
    /// In the order of the file.
    pub tensors: Vec<TensorHeader>,
    /// Byte of the file at which each of them begins.
    pub(crate) starts: Vec<u64>,
    /// Where the data start, in bytes.
    pub data_start: u64,
    /// Length of the file, in bytes.
    pub file_len: u64,
}

impl Header {
    /// A text entry.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// A weights file that is being written under a temporary name, which is locked meanwhile.
pub(crate) struct Writer {
    target: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    hash: Sha256,
    header: Vec<u8>,
}

/// Sixty-four zeros: stands for a checksum that is known only at the end.
pub(crate) const UNKNOWN_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Writer {
    /// Starts `target` with room for the header of `tensors`, which must be sorted (`TensorHeader::order`).
    pub fn create(target: &Path, metadata: &[(&str, String)], tensors: &[TensorHeader]) -> Result<Self, Error> {
        let mut partial = target.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let wrong = |source| Error::Write { path: partial.clone(), source };
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        }
        // Not truncated before the lock is held: it may be another process's.
        let file = File::options().write(true).create(true).truncate(false).open(&partial).map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: partial }),
            Err(TryLockError::Error(_)) => {} // a file system without locks
        }
        file.set_len(0).map_err(wrong)?;
        let header = format_header(metadata, tensors);
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header).map_err(wrong)?;
        Ok(Self { target: target.to_owned(), partial, out, hash: Sha256::new(), header })
    }

    /// The bytes of the next tensor.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(|source| Error::Write { path: self.partial.clone(), source })
    }

    /// Puts the final metadata, the checksum of the data with them, in place of the first ones, which must have been as long.
    pub fn seal(&mut self, mut metadata: Vec<(&str, String)>, tensors: &[TensorHeader]) -> Result<(), Error> {
        let sum = hex(&self.hash.clone().finalize());
        for (_, value) in metadata.iter_mut().filter(|(key, _)| *key == DATA_SHA256) {
            value.clone_from(&sum);
        }
        let header = format_header(&metadata, tensors);
        assert_eq!(header.len(), self.header.len(), "checksums have one length");
        let mut write = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.flush()?;
            self.out.get_ref().sync_all()
        };
        write().map_err(|source| Error::Write { path: self.partial.clone(), source })
    }

    /// Where the file is until [`Writer::finish`].
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Gives the file its name.
    pub fn finish(self) -> Result<(), Error> {
        fs::rename(&self.partial, &self.target).map_err(|source| Error::Write { path: self.target.clone(), source })?;
        // The new name is on disk only when its folder is.
        if let Some(folder) = self.target.parent().and_then(|f| File::open(f).ok()) {
            folder.sync_all().ok();
        }
        Ok(())
    }

    /// Removes what was written.
    pub fn discard(self) {
        fs::remove_file(&self.partial).ok();
    }
}

fn format_header(metadata: &[(&str, String)], tensors: &[TensorHeader]) -> Vec<u8> {
    let mut json = Json::new();
    let texts: Json<_, _> = metadata.iter().map(|(k, v)| ((*k).to_owned(), Value::from(v.as_str()))).collect();
    json.insert("__metadata__".into(), Value::Object(texts));
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.n_bytes();
        let entry = json!({ "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [at, end] });
        json.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(json).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(ALIGN) - 8, b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}

/// Reads what a weights file says about itself; the data are not read, but must be there.
pub fn read_header(path: &Path) -> Result<Header, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let file_len = file.metadata().map_err(read)?.len();
    parse_header(&mut file, file_len).map_err(|e| match e {
        HeaderError::Io(e) if e.kind() != io::ErrorKind::UnexpectedEof => read(e),
        HeaderError::Io(_) => damaged(path, "it is cut short"),
        HeaderError::Problem(problem) => damaged(path, problem),
    })
}

enum HeaderError {
    Io(io::Error),
    Problem(&'static str),
}

fn parse_header(file: &mut File, file_len: u64) -> Result<Header, HeaderError> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(HeaderError::Io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length + 8 > file_len {
        return Err(HeaderError::Problem("its header does not fit"));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(HeaderError::Io)?;
    let problem = || HeaderError::Problem("its header is malformed");
    let json: Json<String, Value> = serde_json::from_slice(&text).map_err(|_| problem())?;
    let mut header =
        Header { metadata: Vec::new(), tensors: Vec::new(), starts: Vec::new(), data_start: length + 8, file_len };
    let mut data_end = 0;
    for (name, value) in json {
        if name == "__metadata__" {
            let texts = value.as_object().ok_or_else(problem)?;
            header.metadata = texts.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
            continue;
        }
        let number = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
        let tensor = || {
            let dtype = Dtype::from_name(value.get("dtype")?.as_str()?)?;
            let shape = value.get("shape")?.as_array()?.iter().map(number).collect::<Option<Vec<_>>>()?;
            let offset = |i: usize| value.get("data_offsets")?.get(i)?.as_u64();
            let tensor = TensorHeader::new(name.clone(), dtype, shape);
            let (start, end) = (offset(0)?, offset(1)?);
            (start.checked_add(tensor.n_bytes() as u64)? == end).then_some((tensor, start, end))
        };
        let (tensor, start, end) = tensor().ok_or_else(problem)?;
        data_end = data_end.max(end);
        header.starts.push(start.checked_add(header.data_start).ok_or_else(problem)?);
        header.tensors.push(tensor);
    }
    match header.data_start.checked_add(data_end) {
        Some(end) if end == file_len => Ok(header),
        _ => Err(HeaderError::Problem("its length is not what its header says")),
    }
}

/// Reads a whole weights file and compares the data with the checksum that was written with them.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Header, Error> {
    let header = read_header(path)?;
    let Some(expected) = header.get(DATA_SHA256).map(str::to_owned) else {
        return Err(Error::Format {
            path: path.to_owned(),
            problem: "has no checksum: it was not written by fold weights convert".into(),
        });
    };
    let mut file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let sum = sha256_from(&mut file, header.data_start, &mut |done| {
        progress(done, header.file_len);
        true
    })
    .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if sum == expected {
        Ok(header)
    } else {
        Err(damaged(path, "its data do not have the checksum they were written with"))
    }
}

fn damaged(path: &Path, problem: &str) -> Error {
    Error::Format { path: path.to_owned(), problem: format!("is damaged, convert the checkpoint again ({problem})") }
}

/// The sha256 of a file from byte `start` to the end, in hex; `go_on` is told the position in the file and may stop early.
pub(crate) fn sha256_from(
    file: &mut (impl Read + Seek),
    start: u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<String> {
    file.seek(SeekFrom::Start(start))?;
    let (mut hash, mut buffer, mut at) = (Sha256::new(), vec![0; 1 << 20], start);
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hash.update(&buffer[..n]);
        at += n as u64;
        if !go_on(at) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
