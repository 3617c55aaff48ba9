//! A checkpoint as a list of named tensors: of torch, whatever it is wrapped in, or an archive of numpy.
//!
//! | layout | weights taken |
//! |---|---|
//! | dict of tensors (the published files) | all |
//! | dict with `ema` (training checkpoint of Lightning or DeepSpeed) | `ema.params`, the averaged weights |
//! | dict with `state_dict`, `module` or `model`, no `ema` | these, without the prefix `model.` or `module.` |
//! | dict with `model_state_dict` (ProteinMPNN) | these; the numbers beside them are kept |
//! | folder with a file `latest` (DeepSpeed) | `<latest>/mp_rank_00_model_states.pt`, one of the above |
//! | `.npz` of a JAX model, alone or in a tar archive | all; `scope//name` is called `scope.name`, `/` is `.` |
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::map::Source;
use crate::npz::Npz;
use crate::number::Dtype;
use crate::pickle::{Pickle, Value, View};
use crate::section::Section;
use crate::zip::Archive;

/// A tensor of a checkpoint; its numbers are still in the file.
#[derive(Debug, Clone)]
pub struct Tensor {
    name: String,
    view: View,
}

impl Tensor {
    /// Official name, without the wrapper's prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.view.shape
    }

    /// Number format in the checkpoint.
    pub fn dtype(&self) -> Dtype {
        self.view.storage.dtype
    }
}

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    member: Option<String>,
    data: Data,
    tensors: Vec<Tensor>,
    numbers: Vec<(String, f64)>,
}

/// Where the numbers are.
#[derive(Debug)]
enum Data {
    Torch {
        archive: Archive,
        /// The storage read last: views of one storage often follow each other.
        last: Option<(String, Vec<u8>)>,
    },
    Numpy(Npz),
}

impl Checkpoint {
    /// Opens a checkpoint file or DeepSpeed folder and lists its weights; `ignore_checksums` for files that torch was
    /// told to write without checksums.
    pub fn open(path: &Path, ignore_checksums: bool) -> Result<Self, Error> {
        let path = if path.is_dir() { deepspeed_file(path)? } else { path.to_owned() };
        let mut archive = Archive::open(&path, ignore_checksums)?;
        let format = |problem: String| Error::Format { path: path.clone(), problem };
        let pickle = Pickle::parse(&archive.pickle()?).map_err(|e| format(e.to_string()))?;
        let mut tensors = Vec::new();
        for (name, value) in weights(&pickle).map_err(format)? {
            let Value::Tensor(view) = value else {
                return Err(format(format!(
                    "holds {} under {name:?} where a tensor is expected, so it is not a plain file of weights",
                    value.kind()
                )));
            };
            tensors.push(Tensor { name: name.to_owned(), view: view.clone() });
        }
        let numbers = numbers(&pickle);
        Ok(Self { path, member: None, data: Data::Torch { archive, last: None }, tensors, numbers })
    }

    /// Opens an `.npz` file, or the one called `member` in the tar archive `path`.
    pub fn open_npz(path: &Path, member: Option<&str>) -> Result<Self, Error> {
        let mut npz = Npz::open(path, member)?;
        let tensors = npz.tensors()?.into_iter().map(|(name, view)| Tensor { name, view }).collect();
        let data = Data::Numpy(npz);
        Ok(Self { path: path.to_owned(), member: member.map(str::to_owned), data, tensors, numbers: Vec::new() })
    }

    /// The file that is read: `path` of [`Checkpoint::open`], or the file in that folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the file without its folder, or of the member of an archive.
    pub fn file_name(&self) -> String {
        let name = || self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.member.clone().unwrap_or_else(name)
    }

    /// All bytes of the file, or of the member of an archive.
    pub(crate) fn section(&self) -> Result<Section, Error> {
        Section::open(&self.path, self.member.as_deref())
    }

    /// The weights, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// A number that stands beside the weights, such as how many neighbours a residue has.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// The numbers of the `index`th tensor: little-endian, row-major, in the format of the checkpoint.
    pub fn read(&mut self, index: usize) -> Result<Vec<u8>, Error> {
        let view = self.tensors[index].view.clone();
        self.gather(&view)
    }

    /// The shape of what a map takes out of a tensor.
    pub(crate) fn shape_of(&self, source: &Source) -> Result<Vec<usize>, Error> {
        let view = self.layer(source)?;
        let Some(axes) = &source.axes else { return Ok(view.shape) };
        axes.shape(&view.shape).map_err(|problem| self.misfit(source, problem))
    }

    /// The numbers of what a map takes out of a tensor.
    pub(crate) fn read_source(&mut self, source: &Source) -> Result<Vec<u8>, Error> {
        let view = self.layer(source)?;
        let bytes = self.gather(&view)?;
        let Some(axes) = &source.axes else { return Ok(bytes) };
        axes.gather(&bytes, view.storage.dtype.size(), &view.shape).map_err(|problem| self.misfit(source, problem))
    }

    /// A tensor, or one layer of it.
    fn layer(&self, source: &Source) -> Result<View, Error> {
        let mut view = self.tensors[source.tensor].view.clone();
        let Some(layer) = source.layer else { return Ok(view) };
        if view.shape.first().is_none_or(|n| layer >= *n) {
            return Err(self.misfit(source, format!("has shape {:?}, so no layer {layer}", view.shape)));
        }
        view.offset += layer * view.strides.remove(0);
        view.shape.remove(0);
        Ok(view)
    }

    fn misfit(&self, source: &Source, problem: String) -> Error {
        Error::Tensor { path: self.path.clone(), tensor: self.tensors[source.tensor].name.clone(), problem }
    }

    fn gather(&mut self, view: &View) -> Result<Vec<u8>, Error> {
        let (key, n_bytes) = (&view.storage.key, view.storage.len as u64 * view.storage.dtype.size() as u64);
        match &mut self.data {
            Data::Numpy(npz) => Ok(view.gather(npz.storage(key, n_bytes)?)),
            Data::Torch { last: Some((last, bytes)), .. } if last == key && bytes.len() as u64 == n_bytes => {
                Ok(view.gather(bytes))
            }
            Data::Torch { archive, last } => {
                let bytes = archive.storage(key, n_bytes)?;
                let out = view.gather(&bytes);
                *last = Some((key.clone(), bytes));
                Ok(out)
            }
        }
    }
}

/// Finds the weights below the root.
fn weights(pickle: &Pickle) -> Result<Vec<(&str, &Value)>, String> {
    let root = pickle.root();
    let Value::Dict(_) = root else {
        return Err(format!("holds {} instead of a dict of tensors: not a file of weights", root.kind()));
    };
    let found = |dict| pickle.entries(dict).collect::<Vec<_>>();
    let wrappers = ["state_dict", "module", "model", "model_state_dict"];
    let wrapped = wrappers.into_iter().find_map(|key| pickle.item(root, key));
    if let Some(ema) = pickle.item(root, "ema") {
        return match pickle.item(ema, "params") {
            Some(params @ Value::Dict(_)) => Ok(found(params)),
            _ => Err("is a training checkpoint whose averaged weights (ema.params) are missing".into()),
        };
    }
    let Some(state) = wrapped else { return Ok(found(root)) };
    let bare = |name| ["model.", "module."].iter().find_map(|prefix| str::strip_prefix(name, prefix)).unwrap_or(name);
    Ok(found(state).into_iter().map(|(name, value)| (bare(name), value)).collect())
}

/// The numbers at the root.
fn numbers(pickle: &Pickle) -> Vec<(String, f64)> {
    let number = |(name, value): (&str, &Value)| match value {
        Value::Int(n) => Some((name.to_owned(), *n as f64)),
        Value::Fraction(x) => Some((name.to_owned(), *x)),
        _ => None,
    };
    pickle.entries(pickle.root()).filter_map(number).collect()
}

/// The file of a DeepSpeed folder that holds the averaged weights.
fn deepspeed_file(folder: &Path) -> Result<PathBuf, Error> {
    let latest = folder.join("latest");
    let unsupported = |problem: &str| Error::Unsupported { path: folder.to_owned(), problem: problem.to_owned() };
    if !latest.is_file() {
        return Err(unsupported("is a folder, but no DeepSpeed checkpoint (no file \"latest\"); name the .pt file"));
    }
    let tag = fs::read_to_string(&latest).map_err(|source| Error::Read { path: latest, source })?;
    let file = folder.join(tag.trim()).join("mp_rank_00_model_states.pt");
    if !file.is_file() {
        return Err(unsupported(
            "is a DeepSpeed checkpoint without mp_rank_00_model_states.pt (sharded weights are not supported); \
             merge it with DeepSpeed's zero_to_fp32.py first",
        ));
    }
    Ok(file)
}
