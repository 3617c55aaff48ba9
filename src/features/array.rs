//! Host arrays with a shape, saved and read by name: what crosses every stage.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

/// A dense array, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Array<T> {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub data: Vec<T>,
}

/// What can be wrong with a file of named arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayFileError {
    /// The file cannot be opened or mapped.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a whole safetensors file.
    #[error("{}: not a whole safetensors file", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: safetensors::SafeTensorError,
    },
    /// The arrays are not what the reader needs: everything that does not fit, at once.
    #[error("{}: {} faults: {}", path.display(), problems.len(), problems.join("; "))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// One line a fault, with the array's name.
        problems: Vec<String>,
    },
    /// The file cannot be written.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What an [`ArrayWriter`] puts under a name.
#[derive(Debug)]
enum Values<'a> {
    F32(Cow<'a, [f32]>),
    I32(Cow<'a, [i32]>),
    Bool(Cow<'a, [bool]>),
    /// Codes `[..]` written as int32 `[.., width]` with a single 1.
    OneHot(Cow<'a, [u8]>, usize),
    /// This many float32 zeros, left to the file system as a hole.
    Zeros(usize),
}

impl Values<'_> {
    fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) | Self::Zeros(_) => "F32",
            Self::I32(_) | Self::OneHot(..) => "I32",
            Self::Bool(_) => "BOOL",
        }
    }

    fn n_byte(&self) -> u64 {
        let n = match self {
            Self::F32(v) => 4 * v.len(),
            Self::I32(v) => 4 * v.len(),
            Self::Bool(v) => v.len(),
            Self::OneHot(codes, width) => 4 * codes.len() * width,
            Self::Zeros(n) => 4 * n,
        };
        n as u64
    }

    fn write(&self, out: &mut (impl Write + Seek)) -> std::io::Result<()> {
        match self {
            Self::F32(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
            Self::I32(v) => v.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
            Self::Bool(v) => v.iter().try_for_each(|&x| out.write_all(&[u8::from(x)])),
            Self::OneHot(codes, width) => {
                let mut row = vec![0u8; 4 * width];
                codes.iter().try_for_each(|&code| {
                    let at = 4 * usize::from(code);
                    row[at] = 1;
                    out.write_all(&row)?;
                    row[at] = 0;
                    Ok(())
                })
            }
            Self::Zeros(n) => out.seek(SeekFrom::Current(4 * *n as i64)).map(|_| ()),
        }
    }
}

/// Collects named arrays and writes them as one safetensors file.
#[derive(Debug, Default)]
pub struct ArrayWriter<'a> {
    entries: Vec<(String, Vec<usize>, Values<'a>)>,
    metadata: BTreeMap<String, String>,
}

impl<'a> ArrayWriter<'a> {
    /// No arrays yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A text entry of the file's metadata.
    pub fn metadata(&mut self, key: &str, value: impl Into<String>) {
        self.metadata.insert(key.to_owned(), value.into());
    }

    /// A float32 array.
    pub fn f32(&mut self, name: &str, shape: &[usize], data: impl Into<Cow<'a, [f32]>>) {
        self.put(name, shape, Values::F32(data.into()));
    }

    /// An int32 array.
    pub fn i32(&mut self, name: &str, shape: &[usize], data: impl Into<Cow<'a, [i32]>>) {
        self.put(name, shape, Values::I32(data.into()));
    }

    /// A boolean array.
    pub fn bool(&mut self, name: &str, shape: &[usize], data: impl Into<Cow<'a, [bool]>>) {
        self.put(name, shape, Values::Bool(data.into()));
    }

    /// `codes` of this shape, each below `width`, as an int32 one-hot array `[shape.., width]`, expanded while writing.
    pub fn one_hot(&mut self, name: &str, shape: &[usize], width: usize, codes: impl Into<Cow<'a, [u8]>>) {
        let shape: Vec<usize> = shape.iter().copied().chain([width]).collect();
        self.put(name, &shape, Values::OneHot(codes.into(), width));
    }

    /// A float32 array of zeros; costs no memory and, where the file system has holes, no disk.
    pub fn zeros(&mut self, name: &str, shape: &[usize]) {
        self.put(name, shape, Values::Zeros(shape.iter().product()));
    }

    fn put(&mut self, name: &str, shape: &[usize], values: Values<'a>) {
        self.entries.push((name.to_owned(), shape.to_vec(), values));
    }

    /// Writes under a temporary name in the same folder, then renames.
    pub fn write(mut self, path: &Path) -> Result<(), ArrayFileError> {
        // As the safetensors crate: wide types first, then by name, so that every array is aligned.
        self.entries.sort_by(|a, b| (a.2.dtype() == "BOOL", &a.0).cmp(&(b.2.dtype() == "BOOL", &b.0)));
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = PathBuf::from(part);
        let result = self.write_to(&part).and_then(|()| std::fs::rename(&part, path));
        result.map_err(|source| {
            std::fs::remove_file(&part).ok();
            ArrayFileError::Write { path: path.to_owned(), source }
        })
    }

    fn write_to(&self, path: &Path) -> std::io::Result<()> {
        for (name, shape, values) in &self.entries {
            let size = if values.dtype() == "BOOL" { 1 } else { 4 };
            if values.n_byte() != size * shape.iter().product::<usize>() as u64 {
                return Err(std::io::Error::other(format!("{name}: values do not fill the shape {shape:?}")));
            }
            if matches!(values, Values::OneHot(codes, width) if codes.iter().any(|&c| usize::from(c) >= *width)) {
                return Err(std::io::Error::other(format!("{name}: a code is beyond the one-hot axis")));
            }
        }
        let mut header = serde_json::Map::new();
        if !self.metadata.is_empty() {
            header.insert("__metadata__".to_owned(), serde_json::to_value(&self.metadata)?);
        }
        let mut end = 0;
        for (name, shape, values) in &self.entries {
            let start = end;
            end += values.n_byte();
            let info = serde_json::json!({ "dtype": values.dtype(), "shape": shape, "data_offsets": [start, end] });
            header.insert(name.clone(), info);
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let file = File::create(path)?;
        file.set_len(8 + header.len() as u64 + end)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        self.entries.iter().try_for_each(|(_, _, values)| values.write(&mut out))?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    }
}

/// A memory-mapped safetensors file; reading keeps account of what does not fit, so that one error can name it all.
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    bytes: Mmap,
    problems: Vec<String>,
}

impl ArrayFile {
    /// Maps the file and checks its header.
    pub fn open(path: &Path) -> Result<Self, ArrayFileError> {
        let read = |source| ArrayFileError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: opened read-only; writers (ours too) write under another name and rename, so that nobody truncates a
        // file in use.
        let bytes = unsafe { Mmap::map(&file) }.map_err(read)?;
        SafeTensors::deserialize(&bytes).map_err(|source| ArrayFileError::Format { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), bytes, problems: Vec::new() })
    }

    /// Names of all arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.tensors().map_or(Vec::new(), |t| t.names().into_iter().map(ToString::to_string).collect());
        names.sort_unstable();
        names
    }

    /// Number of axes of an array, if it is there.
    pub fn rank(&self, name: &str) -> Option<usize> {
        self.tensors().and_then(|t| t.tensor(name).ok().map(|t| t.shape().len()))
    }

    /// Notes that something does not fit.
    pub fn fault(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Have all reads so far been as asked?
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Fails with everything that did not fit.
    pub fn finish(self) -> Result<(), ArrayFileError> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ArrayFileError::Misfit { path: self.path, problems: self.problems })
        }
    }

    /// Numbers as float32; every value must be finite. `rank` counts axes without a leading batch axis of length 1.
    pub fn f32(&mut self, name: &str, rank: usize) -> Option<Array<f32>> {
        let array = self.array(name, rank, |v| v as f32)?;
        if let Some(i) = array.data.iter().position(|v| !v.is_finite()) {
            let problem = format!("{name} has {} at {:?}", array.data[i], position(&array.shape, i));
            self.fault(problem);
            return None;
        }
        Some(array)
    }

    /// Whole numbers within `range`.
    pub fn whole(&mut self, name: &str, rank: usize, range: std::ops::RangeInclusive<i64>) -> Option<Array<i64>> {
        let array = self.array(name, rank, |v| v)?;
        let bad = |v: &f64| v.fract() != 0. || !((*range.start() as f64)..=(*range.end() as f64)).contains(v);
        if let Some(i) = array.data.iter().position(bad) {
            let (v, at) = (array.data[i], position(&array.shape, i));
            let problem = format!("{name} has {v} at {at:?}, not a whole number {}..{}", range.start(), range.end());
            self.fault(problem);
            return None;
        }
        Some(Array { shape: array.shape, data: array.data.into_iter().map(|v| v as i64).collect() })
    }

    /// A one-hot array whose last axis has `width` entries, as the index of the 1; `rank` includes that axis.
    pub fn one_hot(&mut self, name: &str, rank: usize, width: usize) -> Option<Array<u8>> {
        let (shape, dtype, start, end) = self.find(name, rank)?;
        if shape.last() != Some(&width) {
            self.fault(format!("{name} has shape {shape:?}, its last axis must be {width}"));
            return None;
        }
        let bytes = &self.bytes[start..end];
        let size = dtype.bitsize() / 8;
        let mut data = Vec::with_capacity(bytes.len() / size / width);
        let mut fault = None;
        for (row, bytes) in bytes.chunks_exact(size * width).enumerate() {
            let (mut hot, mut others) = (None, false);
            for (i, value) in bytes.chunks_exact(size).enumerate() {
                match number(dtype, value) {
                    0. => {}
                    1. if hot.is_none() => hot = Some(i),
                    _ => others = true,
                }
            }
            match hot {
                Some(hot) if !others => data.push(hot as u8),
                _ => {
                    fault = Some(format!("{name} is not one-hot at {:?}", position(&shape[..rank - 1], row)));
                    break;
                }
            }
        }
        if let Some(fault) = fault {
            self.fault(fault);
            return None;
        }
        Some(Array { shape: shape[..rank - 1].to_vec(), data })
    }

    /// The shape of an array, without a leading batch axis of length 1, if it is there and all its values are zero.
    pub fn zeros(&mut self, name: &str, rank: usize) -> Option<Vec<usize>> {
        let (shape, _, start, end) = self.find(name, rank)?;
        self.bytes[start..end].iter().all(|&b| b == 0).then_some(shape)
    }

    fn tensors(&self) -> Option<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).ok() // checked when opened
    }

    fn array<T>(&mut self, name: &str, rank: usize, f: impl Fn(f64) -> T) -> Option<Array<T>> {
        let (shape, dtype, start, end) = self.find(name, rank)?;
        let bytes = &self.bytes[start..end];
        let data = bytes.chunks_exact(dtype.bitsize() / 8).map(|b| f(number(dtype, b))).collect();
        Some(Array { shape, data })
    }

    fn find(&mut self, name: &str, rank: usize) -> Option<(Vec<usize>, Dtype, usize, usize)> {
        let found = self.tensors().and_then(|tensors| {
            let view = tensors.tensor(name).ok()?;
            let start = view.data().as_ptr() as usize - self.bytes.as_ptr() as usize;
            Some((view.shape().to_vec(), view.dtype(), start, start + view.data().len()))
        });
        let Some((mut shape, dtype, start, end)) = found else {
            self.fault(format!("{name} is missing"));
            return None;
        };
        if shape.len() == rank + 1 && shape[0] == 1 {
            shape.remove(0);
        }
        if shape.len() != rank {
            self.fault(format!("{name} has shape {shape:?}, it must have {rank} axes (a batch axis of 1 may precede)"));
            return None;
        }
        if !matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::I32 | Dtype::I64 | Dtype::U8 | Dtype::BOOL) {
            self.fault(format!("{name} is {dtype:?}, not F32, F64, I32, I64, U8 or BOOL"));
            return None;
        }
        Some((shape, dtype, start, end))
    }
}

/// One little-endian number of a type that [`ArrayFile`] accepts.
fn number(dtype: Dtype, b: &[u8]) -> f64 {
    match (dtype, b) {
        (Dtype::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (Dtype::I32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
        (Dtype::F64, b) => b.try_into().map_or(f64::NAN, f64::from_le_bytes),
        (Dtype::I64, b) => b.try_into().map_or(f64::NAN, |b| i64::from_le_bytes(b) as f64),
        (_, &[b]) => f64::from(b),
        _ => f64::NAN,
    }
}

/// The index on each axis of the `i`-th value.
fn position(shape: &[usize], mut i: usize) -> Vec<usize> {
    let mut at: Vec<usize> = shape.iter().rev().map(|&n| (i % n.max(1), i /= n.max(1)).0).collect();
    at.reverse();
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut w = ArrayWriter::new();
        w.metadata("source", "test");
        w.bool("flag", &[3], vec![true, false, true]);
        w.f32("x", &[1, 2, 2], vec![0., 1.5, -2., 3.]);
        w.i32("n", &[2], vec![-4, 7]);
        w.zeros("z", &[2, 5]);
        w.one_hot("letter", &[3], 4, vec![3u8, 0, 2]);
        w.write(&path).unwrap();
        let mut f = ArrayFile::open(&path).unwrap();
        assert_eq!(f.f32("x", 2).unwrap(), Array { shape: vec![2, 2], data: vec![0., 1.5, -2., 3.] });
        assert_eq!(f.whole("n", 1, -10..=10).unwrap().data, [-4, 7]);
        assert_eq!(f.whole("flag", 1, 0..=1).unwrap().data, [1, 0, 1]);
        assert_eq!(f.zeros("z", 2), Some(vec![2, 5]));
        assert_eq!(f.one_hot("letter", 2, 4).unwrap().data, [3, 0, 2]);
        assert!(f.is_sound());
        assert!(f.whole("n", 1, 0..=10).is_none());
        assert!(f.one_hot("x", 2, 2).is_none());
        assert!(f.f32("y", 1).is_none());
        let message = f.finish().unwrap_err().to_string();
        assert!(message.contains("3 faults: n has -4 at [0], not a whole number 0..10; x is not one-hot at [0]"));
        assert!(message.ends_with("y is missing"), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn positions_count_the_last_axis_fastest() {
        assert_eq!(position(&[2, 3, 4], 23), [1, 2, 3]);
        assert_eq!(position(&[2, 3, 4], 4), [0, 1, 0]);
    }
}
