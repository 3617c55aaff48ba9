//! A checkpoint in, a weights file out, one tensor at a time.
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map as Json, Value};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::file::{TensorHeader, UNKNOWN_SHA256, Writer, sha256_from};
use crate::map::{Map, Plan, Source};
use crate::mpnn;
use crate::number::{Dtype, Unfit, round};
use crate::release::{Model, Release, detect};
use crate::section::Section;

/// Version of the metadata and of our names.
pub(crate) const FORMAT_VERSION: &str = "1";

/// Told how far a conversion is: bytes done, bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Refuses a finished file, which is still under its temporary name.
pub type Check<'a> = &'a dyn Fn(&Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How to convert; the default is what a user gets without options.
#[derive(Default)]
pub struct Options<'a> {
    /// The model that the checkpoint is expected to hold.
    pub model: Model,
    /// Which file of a tar archive to convert; see [`crate::parameter_files`].
    pub member: Option<&'a str>,
    /// Number format of the weights that have two or more dimensions: F32, F16 or BF16. The others (biases, norms,
    /// Fourier frequencies; below 1 % of the numbers) stay F32.
    pub dtype: Dtype,
    /// The model's widths and depths, if they are not the release's (small models for tests): a JSON object of numbers.
    pub config: Option<Json<String, Value>>,
    /// For a file that torch was told to write without checksums.
    pub ignore_checksums: bool,
    /// A last look at the written file before it gets its name, such as building the model from it.
    pub check: Option<Check<'a>>,
    /// Told after each tensor.
    pub progress: Option<Progress<'a>>,
}

/// What was converted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The release that was found in the checkpoint.
    pub release: &'static Release,
    /// Tensors of the checkpoint.
    pub n_official: usize,
    /// Of these, left out on purpose.
    pub n_dropped: usize,
    /// Tensors written.
    pub n_tensor: usize,
    /// Numbers written.
    pub n_value: usize,
    /// Of the checkpoint file, in hex.
    pub source_sha256: String,
    /// Time it took.
    pub elapsed: Duration,
}

/// Converts the checkpoint `source` into the weights file `target`.
///
/// The file is written as `target` + `.partial`, checked, and renamed; nothing of it stays if that fails.
pub fn convert(source: &Path, target: &Path, mut options: Options<'_>) -> Result<Report, Error> {
    let started = Instant::now();
    let mut checkpoint = match options.model {
        Model::OpenFold3 | Model::Esm3 | Model::PxDesign | Model::Protenix | Model::ProteinMpnn { .. } => {
            Checkpoint::open(source, options.ignore_checksums)?
        }
        Model::AlphaFold2 => Checkpoint::open_npz(source, options.member)?,
    };
    let release = detect(options.model, &mut checkpoint)?;
    let plan = plan(&checkpoint, release)?;
    let tensors = headers(&checkpoint, &plan, options.dtype)?;

    let path = checkpoint.path().to_owned();
    let file = checkpoint.section()?;
    let mut metadata = metadata(&checkpoint, release, &options);
    let mut writer = Writer::create(target, &metadata, &tensors)?;
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        // The checksum of the source needs all of it, in order; the tensors are read in another one.
        let sum = scope.spawn(|| source_sum(file, &stop));
        let written = write_tensors(&mut checkpoint, &plan, &tensors, &mut writer, options.progress.take());
        if written.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let sum = sum.join().expect("reading a file does not panic");
        written.and_then(|()| sum.map_err(|source| Error::Read { path: path.clone(), source }))
    });
    let done = written.and_then(|source_sha256| {
        for (_, value) in metadata.iter_mut().filter(|(key, _)| *key == "source_sha256") {
            value.clone_from(&source_sha256);
        }
        writer.seal(metadata, &tensors)?;
        if let Some(check) = options.check {
            check(writer.partial()).map_err(|source| Error::Check { path: path.clone(), source })?;
        }
        Ok(source_sha256)
    });
    match done {
        Ok(source_sha256) => {
            writer.finish()?;
            Ok(Report {
                release,
                n_official: checkpoint.tensors().len(),
                n_dropped: plan.dropped.len(),
                n_tensor: tensors.len(),
                n_value: tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum(),
                source_sha256,
                elapsed: started.elapsed(),
            })
        }
        Err(e) => {
            writer.discard();
            Err(e)
        }
    }
}

fn source_sum(mut file: Section, stop: &AtomicBool) -> std::io::Result<String> {
    sha256_from(&mut file, 0, &mut |_| !stop.load(Ordering::Relaxed))
}

fn plan(checkpoint: &Checkpoint, release: &'static Release) -> Result<Plan, Error> {
    let title = || format!("{} {}", release.model, release.version);
    let map = Map::parse(release.map).map_err(|source| Error::Map { release: title(), source })?;
    let names: Vec<_> = checkpoint.tensors().iter().map(|t| (t.name(), t.shape())).collect();
    map.apply(&names).map_err(|problems| Error::Names {
        path: checkpoint.path().to_owned(),
        release: title(),
        problems,
    })
}

/// Shapes and formats of the tensors that will be written, in the order of the file.
fn headers(checkpoint: &Checkpoint, plan: &Plan, dtype: Dtype) -> Result<Vec<TensorHeader>, Error> {
    let mut headers = Vec::new();
    for (target, sources) in &plan.targets {
        let mut shape = checkpoint.shape_of(&sources[0])?;
        for source in &sources[1..] {
            let part = checkpoint.shape_of(source)?;
            let (Some(rows), true) = (part.first(), part.get(1..) == shape.get(1..)) else {
                let name = |source: &Source| checkpoint.tensors()[source.tensor].name().to_owned();
                return Err(Error::Tensor {
                    path: checkpoint.path().to_owned(),
                    tensor: name(source),
                    problem: format!("shape {part:?} cannot be stacked with {shape:?} of {}", name(&sources[0])),
                });
            };
            shape[0] += rows;
        }
        let dtype = if shape.len() < 2 { Dtype::F32 } else { dtype };
        headers.push(TensorHeader::new(target.clone(), dtype, shape));
    }
    headers.sort_by(|a, b| a.order().cmp(&b.order()));
    Ok(headers)
}

fn metadata(checkpoint: &Checkpoint, release: &Release, options: &Options<'_>) -> Vec<(&'static str, String)> {
    let mut config: Json<String, Value> =
        options.config.clone().unwrap_or_else(|| serde_json::from_str(release.config).expect("tested"));
    if let Some(n) = mpnn::neighbours(checkpoint) {
        config.insert("n_neighbour".to_owned(), n.into());
    }
    vec![
        ("format_version", FORMAT_VERSION.to_owned()),
        ("model", release.model.to_owned()),
        ("release", release.version.to_owned()),
        ("config", Value::Object(config).to_string()),
        ("source_file", checkpoint.file_name()),
        ("source_sha256", UNKNOWN_SHA256.to_owned()),
        ("data_sha256", UNKNOWN_SHA256.to_owned()),
        ("converter", converter()),
    ]
}

/// This program, as the metadata name it.
pub(crate) fn converter() -> String {
    concat!("weights-convert ", env!("CARGO_PKG_VERSION")).to_owned()
}

fn write_tensors(
    checkpoint: &mut Checkpoint,
    plan: &Plan,
    tensors: &[TensorHeader],
    writer: &mut Writer,
    mut progress: Option<Progress<'_>>,
) -> Result<(), Error> {
    let total = tensors.iter().map(|t| t.n_bytes() as u64).sum();
    let (mut done, mut out) = (0, Vec::new());
    for tensor in tensors {
        out.clear();
        for source in &plan.targets[&tensor.name] {
            let bytes = checkpoint.read_source(source)?;
            let source = &checkpoint.tensors()[source.tensor];
            round(&bytes, source.dtype(), tensor.dtype, &mut out).map_err(|unfit| Error::Tensor {
                path: checkpoint.path().to_owned(),
                tensor: source.name().to_owned(),
                problem: match unfit {
                    Unfit::NotFinite(v) => format!("holds {v}: the file is damaged or its training failed"),
                    Unfit::TooLarge(v) => format!("holds {v}, too large for {}: use --dtype f32", tensor.dtype.name()),
                    Unfit::NotFloating => format!("holds {} numbers, which are no weights", source.dtype().name()),
                },
            })?;
        }
        writer.write(&out)?;
        done += out.len() as u64;
        if let Some(progress) = &mut progress {
            progress(done, total);
        }
    }
    Ok(())
}
