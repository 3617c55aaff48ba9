//! Reads a converted weights file (safetensors) in place and keeps account of what was read.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::Device;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::Param;

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
    /// A tensor that the model needs is not in the file.
    #[error("{}: tensor {name} is missing: the file is of another model or release", path.display())]
    Missing {
        /// The weights file.
        path: PathBuf,
        /// Full name of the tensor.
        name: String,
    },
    /// A tensor has another shape than the model.
    #[error("{}: tensor {name} is {found:?}, the model needs {expected:?}", path.display())]
    Shape {
        /// The weights file.
        path: PathBuf,
        /// Full name of the tensor.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape the model asks for.
        expected: Vec<usize>,
    },
    /// A tensor has a type that is no weight.
    #[error("{}: tensor {name} is {dtype:?}; weights are F32, F16 or BF16", path.display())]
    Dtype {
        /// The weights file.
        path: PathBuf,
        /// Full name of the tensor.
        name: String,
        /// Type in the file.
        dtype: Dtype,
    },
    /// Tensors that no layer has read.
    #[error("{}: {} tensors are not part of the model: {}", path.display(), names.len(), names.join(", "))]
    Unread {
        /// The weights file.
        path: PathBuf,
        /// Their full names.
        names: Vec<String>,
    },
    /// A parameter could not be placed on the device.
    #[error("{}: tensor {name} does not fit the device", path.display())]
    Device {
        /// The weights file.
        path: PathBuf,
        /// Full name of the tensor.
        name: String,
        /// What the device said.
        source: candle_core::Error,
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

#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: Arc<Mmap>,
    entries: HashMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    read: Mutex<BTreeSet<String>>,
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
        let format = |source| WeightsError::Format { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: the file is opened read-only; as every program that maps its weights, we rely on nobody truncating
        // it while it is in use (the converter writes under another name and renames).
        let file = Arc::new(unsafe { Mmap::map(&file) }.map_err(read)?);
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(format)?;
        SafeTensors::deserialize(&file).map_err(format)?;
        let data = header + 8;
        let entries = metadata.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), start: data + start, end: data + end })
        });
        let source = Source {
            path: path.to_owned(),
            entries: entries.collect(),
            metadata: metadata.metadata().clone().unwrap_or_default().into_iter().collect(),
            read: Mutex::default(),
            file,
        };
        Ok(Self { source: Arc::new(source), prefix: String::new(), device: device.clone() })
    }

    /// The same file, one level down: `at("blocks.0")` then `param("weight", ..)` reads `blocks.0.weight`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { source: self.source.clone(), prefix: self.full_name(&name.to_string()), device: self.device.clone() }
    }

    /// Where the parameters are placed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A text entry of the file's metadata: model, release, config, source checksum, converter version.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.source.metadata.get(key).map(String::as_str)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Is there a tensor `name` below this prefix?
    pub fn has(&self, name: &str) -> bool {
        self.source.entries.contains_key(&self.full_name(name))
    }

    /// The tensor `name` below this prefix, which must have this shape.
    pub fn param(&self, name: &str, shape: &[usize]) -> Result<Param, WeightsError> {
        let name = self.full_name(name);
        let path = || self.source.path.clone();
        let Some(entry) = self.source.entries.get(&name) else {
            return Err(WeightsError::Missing { path: path(), name });
        };
        if entry.shape != shape {
            return Err(WeightsError::Shape {
                path: path(),
                name,
                found: entry.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let bytes = &self.source.file[entry.start..entry.end];
        let param = match entry.dtype {
            Dtype::F32 => Param::mapped(&self.source.file, entry.start, shape).map_or_else(
                || Param::from_vec(floats(bytes, 4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])), shape),
                Ok,
            ),
            Dtype::F16 => {
                Param::from_vec(floats(bytes, 2, |b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()), shape)
            }
            Dtype::BF16 => {
                Param::from_vec(floats(bytes, 2, |b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()), shape)
            }
            dtype => return Err(WeightsError::Dtype { path: path(), name, dtype }),
        };
        let param = param.and_then(|p| p.to_device(&self.device));
        let param = param.map_err(|source| WeightsError::Device { path: path(), name: name.clone(), source })?;
        self.source.read.lock().expect("no panic while reading").insert(name);
        Ok(param)
    }

    /// As `param`, or `None` where the file has no such tensor.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Param>, WeightsError> {
        if self.has(name) { self.param(name, shape).map(Some) } else { Ok(None) }
    }

    /// Fails with the names of all tensors of the file that nothing has read.
    pub fn all_read(&self) -> Result<(), WeightsError> {
        let read = self.source.read.lock().expect("no panic while reading");
        let mut names: Vec<_> = self.source.entries.keys().filter(|n| !read.contains(*n)).cloned().collect();
        names.sort();
        if names.is_empty() { Ok(()) } else { Err(WeightsError::Unread { path: self.source.path.clone(), names }) }
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

fn floats(bytes: &[u8], size: usize, f: impl Fn(&[u8]) -> f32) -> Vec<f32> {
    bytes.chunks_exact(size).map(f).collect()
}
