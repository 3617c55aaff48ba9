//! A torch checkpoint as a list of named tensors, whatever it is wrapped in.
//!
//! | layout | weights taken |
//! |---|---|
//! | dict of tensors (the published files) | all |
//! | dict with `ema` (training checkpoint of Lightning or DeepSpeed) | `ema.params`, the averaged weights |
//! | dict with `state_dict` or `module`, no `ema` | these, without the prefix `model.` |
//! | folder with a file `latest` (DeepSpeed) | `<latest>/mp_rank_00_model_states.pt`, one of the above |
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::number::Dtype;
use crate::pickle::{Pickle, Value, View};
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
    archive: Archive,
    tensors: Vec<Tensor>,
    /// The storage read last: views of one storage often follow each other.
    last: Option<(String, Vec<u8>)>,
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
        Ok(Self { path, archive, tensors, last: None })
    }

    /// The file that is read: `path` of [`Checkpoint::open`], or the file in that folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The numbers of the `index`th tensor: little-endian, row-major, in the format of the checkpoint.
    pub fn read(&mut self, index: usize) -> Result<Vec<u8>, Error> {
        let view = &self.tensors[index].view;
        let (key, n_bytes) = (&view.storage.key, view.storage.len as u64 * view.storage.dtype.size() as u64);
        match &self.last {
            Some((last, bytes)) if last == key && bytes.len() as u64 == n_bytes => Ok(view.gather(bytes)),
            _ => {
                let bytes = self.archive.storage(key, n_bytes)?;
                let out = view.gather(&bytes);
                self.last = Some((key.clone(), bytes));
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
    let wrapped = ["state_dict", "module"].into_iter().find_map(|key| pickle.item(root, key));
    if let Some(ema) = pickle.item(root, "ema") {
        return match pickle.item(ema, "params") {
            Some(params @ Value::Dict(_)) => Ok(found(params)),
            _ => Err("is a training checkpoint whose averaged weights (ema.params) are missing".into()),
        };
    }
    let Some(state) = wrapped else { return Ok(found(root)) };
    Ok(found(state).into_iter().map(|(name, value)| (name.strip_prefix("model.").unwrap_or(name), value)).collect())
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
