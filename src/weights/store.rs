//! Reads a converted weights file (safetensors) in place and keeps account of what was read.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::Device;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::Param;
use super::param::Format;
use super::quantised::{self, CodeLayout, Quantised};

/// What can be wrong with a weights file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be opened or mapped.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The weights file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a whole safetensors file.
    #[error("{}: not a whole safetensors file: convert the checkpoint again (fold weights convert)", path.display())]
    Format {
        /// The weights file.
        path: PathBuf,
        /// What the reader said.
        source: safetensors::SafeTensorError,
    },
    /// The file is not of the model that reads it: everything that does not fit, at once.
    #[error("{}: {} tensors do not fit the model: {}", path.display(), problems.len(), first(problems, 20))]
    Misfit {
        /// The weights file.
        path: PathBuf,
        /// One line a tensor: missing, of another shape or type, or not part of the model.
        problems: Vec<String>,
    },
    /// The file does not say what sizes its model has.
    #[error("{}: {what} in the metadata: convert the checkpoint again (fold weights convert)", path.display())]
    Config {
        /// The weights file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A parameter could not be placed on the device.
    #[error("{}: tensor {name} does not fit the device", path.display())]
    Device {
        /// The weights file.
        path: PathBuf,
        /// Full name of the tensor.
        name: String,
        /// What the device said.
        source: Box<candle_core::Error>,
    },
}

impl From<WeightsError> for candle_core::Error {
    fn from(e: WeightsError) -> Self {
        candle_core::Error::wrap(e)
    }
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// A whole safetensors file.
#[derive(Debug, Clone)]
enum Bytes {
    Mapped(Arc<Mmap>),
    /// Part of the program.
    Embedded(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file,
            Self::Embedded(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
enum Tensors {
    /// Of a file.
    File { bytes: Bytes, entries: HashMap<String, Entry> },
    /// Made from a seed: see [`Weights::untrained`].
    Made { seed: u64 },
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    tensors: Tensors,
    metadata: BTreeMap<String, String>,
    read: Mutex<BTreeSet<String>>,
    problems: Mutex<Vec<String>>,
}

/// A prefix into a memory-mapped safetensors file; `at` walks down, `param` takes a tensor.
#[derive(Debug, Clone)]
pub struct Weights {
    source: Arc<Source>,
    prefix: String,
    device: Device,
}

impl Weights {
    /// Maps `path` and reads its header; no tensor is touched yet.
    pub fn open(path: &Path, device: &Device) -> Result<Self, WeightsError> {
        let read = |source| WeightsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: the file is opened read-only; as every program that maps its weights, we rely on nobody truncating
        // it while it is in use (the converter writes under another name and renames).
        let file = Arc::new(unsafe { Mmap::map(&file) }.map_err(read)?);
        Self::of_file(path, Bytes::Mapped(file), device)
    }

    /// A weights file that is part of the program; `name` stands for its path in errors.
    pub(super) fn embedded(name: &str, bytes: &'static [u8], device: &Device) -> Result<Self, WeightsError> {
        Self::of_file(Path::new(name), Bytes::Embedded(bytes), device)
    }

    fn of_file(path: &Path, bytes: Bytes, device: &Device) -> Result<Self, WeightsError> {
        let format = |source| WeightsError::Format { path: path.to_owned(), source };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        SafeTensors::deserialize(&bytes).map_err(format)?;
        let data = header + 8;
        let entries = metadata.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), start: data + start, end: data + end })
        });
        let source = Source {
            path: path.to_owned(),
            tensors: Tensors::File { entries: entries.collect(), bytes },
            metadata: metadata.metadata().clone().unwrap_or_default().into_iter().collect(),
            read: Mutex::default(),
            problems: Mutex::default(),
        };
        Ok(Self { source: Arc::new(source), prefix: String::new(), device: device.clone() })
    }

    /// Weights that nobody has trained: every value follows from `seed`, the tensor's name and the place in it, so that
    /// the program can show and check itself where no trained weights are. There are no optional biases.
    pub fn untrained(seed: u64, device: &Device) -> Self {
        let source = Source {
            path: PathBuf::from("untrained weights"),
            tensors: Tensors::Made { seed },
            metadata: BTreeMap::new(),
            read: Mutex::default(),
            problems: Mutex::default(),
        };
        Self { source: Arc::new(source), prefix: String::new(), device: device.clone() }
    }

    /// The same file, one level down: `at("blocks.0")` then `param("weight", ..)` reads `blocks.0.weight`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { source: self.source.clone(), prefix: self.full_name(&name.to_string()), device: self.device.clone() }
    }

    /// The same place in the file, for parameters that are to be on `device`.
    pub fn on(&self, device: &Device) -> Self {
        Self { source: self.source.clone(), prefix: self.prefix.clone(), device: device.clone() }
    }

    /// Where the parameters are placed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A text entry of the file's metadata: model, release, config, source checksum, converter version.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.source.metadata.get(key).map(String::as_str)
    }

    /// The model's sizes, which the converter has written into the metadata.
    pub fn config<T: serde::de::DeserializeOwned>(&self) -> Result<T, WeightsError> {
        let fail = |what: String| WeightsError::Config { path: self.source.path.clone(), what };
        let text = self.metadata("config").ok_or_else(|| fail("no config".to_owned()))?;
        serde_json::from_str(text).map_err(|e| fail(format!("a config of another model ({e})")))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Gives the mapped file's memory back to the system until it is read again: for a network that rests while another works. The
    /// parameters stay as they are.
    pub fn rest(&self) {
        #[cfg(unix)]
        if let Tensors::File { bytes: Bytes::Mapped(file), .. } = &self.source.tensors {
            // SAFETY: the mapping is of a file and read-only: what is read again comes from the file, the same bytes.
            let advised = unsafe { file.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            drop(advised); // a system that keeps the pages has them all the same
        }
    }

    /// Number of tensors of the file; 0 where there is none.
    pub fn n_tensor(&self) -> usize {
        match &self.source.tensors {
            Tensors::File { entries, .. } => entries.len(),
            Tensors::Made { .. } => 0,
        }
    }

    /// Is there a tensor `name` below this prefix?
    pub fn has(&self, name: &str) -> bool {
        match &self.source.tensors {
            Tensors::File { entries, .. } => entries.contains_key(&self.full_name(name)),
            Tensors::Made { .. } => name.ends_with("weight"),
        }
    }

    /// The tensor `name` below this prefix, which must have this shape.
    ///
    /// A quantised matrix `x.weight` lies in three tensors, as MLX names them: `x.weight` (codes), `x.scales` and `x.biases`.
    ///
    /// A tensor that is missing or of another shape or type is remembered for [`Weights::finish`], and an absent
    /// parameter is returned in its place, so that one error can name all that is wrong with a file.
    pub fn param(&self, name: &str, shape: &[usize]) -> Result<Param, WeightsError> {
        let name = self.full_name(name);
        let placed = |name: String, param: candle_core::Result<Param>| {
            let placed = param.and_then(|p| p.to_device(&self.device));
            placed.map_err(|e| WeightsError::Device { path: self.source.path.clone(), name, source: Box::new(e) })
        };
        let (file, entries) = match &self.source.tensors {
            Tensors::File { bytes, entries } => (bytes, entries),
            Tensors::Made { seed } => {
                let values = made(*seed, &name, shape);
                return placed(name, Param::from_vec(values, shape));
            }
        };
        let misfit = |problem: String| {
            self.source.problems.lock().expect("no panic while reading").push(problem);
            Ok(Param::absent(shape))
        };
        let Some(entry) = entries.get(&name) else { return misfit(format!("{name} is missing")) };
        self.source.read.lock().expect("no panic while reading").insert(name.clone());
        if let (Dtype::U32, &[n, k]) = (entry.dtype, shape) {
            return match self.quantised(&name, [n, k]) {
                Ok(matrix) => placed(name, Ok(matrix.into())),
                Err(problem) => misfit(problem),
            };
        }
        if entry.shape != shape {
            return misfit(format!("{name} has shape {:?}, the model needs {shape:?}", entry.shape));
        }
        let format = match entry.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            dtype => return misfit(format!("{name} is {dtype:?}, not F32, F16 or BF16")),
        };
        let mapped = match file {
            Bytes::Mapped(file) => Param::mapped(format, file, entry.start, shape),
            Bytes::Embedded(_) => None,
        };
        let param = mapped.map_or_else(|| Param::from_vec(floats(&file[entry.start..entry.end], format), shape), Ok);
        placed(name, param)
    }

    /// The matrix whose codes are the tensor of this full name, or what is wrong with it.
    fn quantised(&self, name: &str, [n, k]: [usize; 2]) -> Result<Quantised, String> {
        let prefix = name.strip_suffix("weight").unwrap_or(name);
        let parts =
            [name.to_owned(), format!("{prefix}scales"), format!("{prefix}biases")].map(|name| self.part(&name));
        let [codes, scales, biases] = parts;
        let ((codes, words, _), (scales, groups, of), (biases, groups_too, of_too)) = (codes?, scales?, biases?);
        let format = match of {
            Dtype::F32 => Some(Format::F32),
            Dtype::F16 => Some(Format::F16),
            Dtype::BF16 => Some(Format::Bf16),
            _ => None,
        };
        let matrix = match (format, &words[..], &groups[..]) {
            (Some(of_scales), &[a, words], &[b, groups])
                if (a, b) == (n, n) && groups_too == [b, groups] && of == of_too && groups > 0 && k > 0 =>
            {
                let layout = CodeLayout { bits: 32 * words / k, group: k / groups, of: of_scales };
                Quantised::of([n, k], layout, [codes, scales, biases]).ok()
            }
            _ => None,
        };
        let shapes = || format!("codes {words:?}, scales {groups:?} and biases {groups_too:?}");
        matrix.ok_or_else(|| format!("{name} has {}, the model needs a matrix {:?}", shapes(), [n, k]))
    }

    /// The bytes of the tensor of this full name, its shape and number format.
    fn part(&self, name: &str) -> Result<(quantised::Bytes, Vec<usize>, Dtype), String> {
        let missing = || format!("{name} is missing");
        let Tensors::File { bytes, entries } = &self.source.tensors else { return Err(missing()) };
        let entry = entries.get(name).ok_or_else(missing)?;
        self.source.read.lock().expect("no panic while reading").insert(name.to_owned());
        let (start, len) = (entry.start, entry.end - entry.start);
        let stretch = match bytes {
            Bytes::Mapped(file) => quantised::Bytes::Mapped { file: file.clone(), start, len },
            Bytes::Embedded(bytes) => quantised::Bytes::Heap(Arc::new(bytes[start..start + len].to_vec())),
        };
        Ok((stretch, entry.shape.clone(), entry.dtype))
    }

    /// As `param`, or `None` where the file has no such tensor.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Param>, WeightsError> {
        if self.has(name) { self.param(name, shape).map(Some) } else { Ok(None) }
    }

    /// To be called when the model is built: fails with every tensor that was missing or of another shape, and every
    /// tensor of the file that nothing has read.
    pub fn finish(&self) -> Result<(), WeightsError> {
        let mut problems = self.source.problems.lock().expect("no panic while reading").clone();
        let read = self.source.read.lock().expect("no panic while reading");
        let mut unread: Vec<_> = match &self.source.tensors {
            Tensors::File { entries, .. } => entries.keys().filter(|n| !read.contains(*n)).collect(),
            Tensors::Made { .. } => Vec::new(),
        };
        unread.sort();
        problems.extend(unread.into_iter().map(|name| format!("{name} is not part of the model")));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(WeightsError::Misfit { path: self.source.path.clone(), problems })
        }
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

/// The first `most` of a list of problems, and how many more there are.
fn first(problems: &[String], most: usize) -> String {
    let rest = problems.len().saturating_sub(most);
    let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    problems[..problems.len() - rest].join("; ") + &more
}

/// Little-endian numbers as f32.
fn floats(bytes: &[u8], format: Format) -> Vec<f32> {
    let (words, halves) = (bytes.as_chunks::<4>().0, bytes.as_chunks::<2>().0);
    match format {
        Format::F32 => words.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Format::F16 => halves.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        Format::Bf16 => halves.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
    }
}

/// Values of an untrained tensor: matrices uniform with variance 1 / columns, norm weights about 1, the rest about 0.
fn made(seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    // FNV-1a of the name chooses the stream; SplitMix64 is the stream.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut state = hash ^ seed.wrapping_mul(STEP);
    let mut uniform = || {
        state = state.wrapping_add(STEP);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let (centre, scale) = match shape {
        [_, columns] => (0.0, (3.0 / *columns as f32).sqrt()),
        _ if name.ends_with("weight") => (1.0, 0.2),
        _ => (0.0, 1.0),
    };
    (0..shape.iter().product()).map(|_| centre + scale * uniform()).collect()
}
