//! A converted weights file in, one with quantised matrices out, one tensor at a time.
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::affine::{self, Quantised};
use crate::convert::{Check, Progress, converter};
use crate::error::Error;
use crate::file::{Header, TensorHeader, UNKNOWN_SHA256, Writer, read_header};
use crate::number::Dtype;

/// How to quantise.
pub struct QuantiseOptions<'a> {
    /// Bits of a code: 4 or 8.
    pub bits: usize,
    /// Values that share a scale, along a row: 32, 64 or 128. A matrix whose rows are no multiple of it takes 32; one whose rows are
    /// no multiple of that stays as it is.
    pub group: usize,
    /// A last look at the written file before it gets its name, such as building the model from it.
    pub check: Option<Check<'a>>,
    /// Told after each tensor.
    pub progress: Option<Progress<'a>>,
}

/// What was quantised.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuantiseReport {
    /// Matrices that are now codes.
    pub n_quantised: usize,
    /// Numbers in them.
    pub n_value: usize,
    /// Tensors that stayed as they were.
    pub n_kept: usize,
    /// Of the file, in bytes.
    pub file_len: u64,
    /// Time it took.
    pub elapsed: Duration,
}

/// The smallest group, for rows that the wanted one does not divide.
const LEAST_GROUP: usize = 32;
/// Names of the parts of a quantised matrix, those that MLX uses: codes, scales, biases.
const PARTS: [&str; 3] = ["weight", "scales", "biases"];

/// Quantises every matrix of the weights file `source` whose name ends in `weight`, into the weights file `target`.
///
/// A matrix `x.weight` `[n, k]` becomes `x.weight` (codes in u32, `[n, k * bits / 32]`), `x.scales` and `x.biases` (`[n, k / group]`,
/// in the source's number format), by the formula of MLX and to the same bits. All else is copied, the metadata with it. The file is written as
/// `target` + `.partial`, checked, and renamed; nothing of it stays if that fails.
pub fn quantise(source: &Path, target: &Path, options: QuantiseOptions<'_>) -> Result<QuantiseReport, Error> {
    let started = Instant::now();
    let header = read_header(source)?;
    let plan = plan(source, &header, &options)?;
    let mut tensors: Vec<TensorHeader> = plan.iter().flat_map(Step::headers).collect();
    tensors.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut metadata = metadata(&header, &options);
    let mut writer = Writer::create(target, &metadata, &tensors)?;
    let written = write(source, &plan, &tensors, &mut writer, options.progress).and_then(|()| {
        writer.seal(std::mem::take(&mut metadata), &tensors)?;
        match options.check {
            Some(check) => check(writer.partial()).map_err(|e| Error::Check { path: source.to_owned(), source: e }),
            None => Ok(()),
        }
    });
    if let Err(e) = written {
        writer.discard();
        return Err(e);
    }
    writer.finish()?;
    let quantised = || plan.iter().filter(|step| step.group.is_some());
    Ok(QuantiseReport {
        n_quantised: quantised().count(),
        n_value: quantised().map(|step| step.tensor.shape.iter().product::<usize>()).sum(),
        n_kept: plan.len() - quantised().count(),
        file_len: read_header(target)?.file_len,
        elapsed: started.elapsed(),
    })
}

/// A tensor of the source.
struct Step<'a> {
    tensor: &'a TensorHeader,
    /// Byte of the file at which it begins.
    start: u64,
    bits: usize,
    /// Of one that is quantised.
    group: Option<usize>,
}

impl Step<'_> {
    /// The tensors that it becomes.
    fn headers(&self) -> Vec<TensorHeader> {
        let (Some(group), &[n, k]) = (self.group, &self.tensor.shape[..]) else { return vec![self.tensor.clone()] };
        let [codes, scales, biases] = self.names();
        vec![
            TensorHeader::new(codes, Dtype::U32, vec![n, k * self.bits / 32]),
            TensorHeader::new(scales, self.tensor.dtype, vec![n, k / group]),
            TensorHeader::new(biases, self.tensor.dtype, vec![n, k / group]),
        ]
    }

    fn names(&self) -> [String; 3] {
        let prefix = self.tensor.name.strip_suffix(PARTS[0]).unwrap_or(&self.tensor.name);
        PARTS.map(|part| format!("{prefix}{part}"))
    }
}

/// What becomes of each tensor; an error where there is nothing to quantise.
fn plan<'a>(source: &Path, header: &'a Header, options: &QuantiseOptions<'_>) -> Result<Vec<Step<'a>>, Error> {
    let unsupported = |problem: &str| Error::Unsupported { path: source.to_owned(), problem: problem.to_owned() };
    let group = |tensor: &TensorHeader| match tensor.shape[..] {
        [n, k] if n > 0 && k > 0 && is_weight(&tensor.name) => {
            [options.group, LEAST_GROUP].into_iter().find(|group| k.is_multiple_of(*group))
        }
        _ => None,
    };
    let steps = header.tensors.iter().zip(&header.starts);
    let steps: Vec<_> =
        steps.map(|(tensor, start)| Step { tensor, start: *start, bits: options.bits, group: group(tensor) }).collect();
    if header.tensors.iter().any(|tensor| tensor.dtype == Dtype::U32) {
        return Err(unsupported("is quantised already; name the converted weights"));
    }
    if steps.iter().all(|step| step.group.is_none()) {
        return Err(unsupported("has no matrix whose rows are whole groups"));
    }
    Ok(steps)
}

fn is_weight(name: &str) -> bool {
    name.strip_suffix(PARTS[0]).is_some_and(|prefix| prefix.ends_with('.'))
}

/// The source's, and how it was quantised.
fn metadata<'a>(header: &'a Header, options: &QuantiseOptions<'_>) -> Vec<(&'a str, String)> {
    const OURS: [&str; 3] = ["data_sha256", "converter", "quantised_from"];
    let kept = header.metadata.iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
    let mut metadata: Vec<(&str, String)> = kept.map(|(key, value)| (key.as_str(), value.clone())).collect();
    metadata.push(("quantisation", format!("affine, {} bits, groups of {}", options.bits, options.group)));
    metadata.push(("bits", options.bits.to_string()));
    metadata.push(("quantised_from", header.get("data_sha256").unwrap_or("unknown").to_owned()));
    metadata.push(("data_sha256", UNKNOWN_SHA256.to_owned()));
    metadata.push(("converter", converter()));
    metadata
}

fn write(
    source: &Path,
    plan: &[Step],
    tensors: &[TensorHeader],
    writer: &mut Writer,
    mut progress: Option<Progress<'_>>,
) -> Result<(), Error> {
    let read = |e| Error::Read { path: source.to_owned(), source: e };
    let mut file = File::open(source).map_err(read)?;
    let total = plan.iter().map(|step| step.tensor.n_bytes() as u64).sum();
    let mut done = 0;
    let mut waiting: HashMap<String, Vec<u8>> = HashMap::new(); // parts of matrices that have been read
    let by_name: HashMap<String, &Step> =
        plan.iter().flat_map(|step| step.headers().into_iter().map(move |header| (header.name, step))).collect();
    for tensor in tensors {
        if !waiting.contains_key(&tensor.name) {
            let step = by_name[&tensor.name];
            let mut bytes = vec![0; step.tensor.n_bytes()];
            file.seek(SeekFrom::Start(step.start)).and_then(|_| file.read_exact(&mut bytes)).map_err(read)?;
            done += bytes.len() as u64;
            match step.group {
                None => drop(waiting.insert(tensor.name.clone(), bytes)),
                Some(group) => {
                    let Quantised { codes, scales, biases } = quantised(source, step, &bytes, group)?;
                    waiting.extend(step.names().into_iter().zip([codes, scales, biases]));
                }
            }
        }
        writer.write(&waiting.remove(&tensor.name).expect("read above"))?;
        if let Some(progress) = &mut progress {
            progress(done, total);
        }
    }
    Ok(())
}

/// One matrix, its rows shared out among the processors.
fn quantised(source: &Path, step: &Step, bytes: &[u8], group: usize) -> Result<Quantised, Error> {
    let dtype = step.tensor.dtype;
    let wrong = |problem: String| Error::Tensor { path: source.to_owned(), tensor: step.tensor.name.clone(), problem };
    if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Err(wrong(format!("holds {} numbers, which cannot be quantised", dtype.name())));
    }
    let parts = std::thread::available_parallelism().map_or(1, usize::from);
    let groups = bytes.len() / (group * dtype.size());
    let stretch = groups.div_ceil(parts).max(1) * group * dtype.size();
    let mut whole = Quantised::default();
    std::thread::scope(|scope| {
        let run = |part| scope.spawn(move || affine::quantise(part, dtype, step.bits, group));
        let running: Vec<_> = bytes.chunks(stretch).map(run).collect();
        for part in running {
            let part = part.join().expect("arithmetic does not panic");
            whole.codes.extend(part.codes);
            whole.scales.extend(part.scales);
            whole.biases.extend(part.biases);
        }
    });
    Ok(whole)
}
