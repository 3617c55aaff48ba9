//! The tables behind ESM3's function and residue annotation tracks, from the official files into one safetensors file.
//!
//! Their licence is that of the package and of the weights, so they are read from the user's own copy. Texts become tensors of
//! bytes, one entry a line; numbers stay float64, because tokens are signs of sums of them.
use std::fs;
use std::path::Path;

use crate::convert::{FORMAT_VERSION, converter};
use crate::error::list;
use crate::file::{TensorHeader, UNKNOWN_SHA256, Writer};
use crate::number::Dtype;
use crate::{Checkpoint, Error, npz};

/// Keyword vocabulary, their IDF, InterPro entries' keywords, InterPro entries' names, hyperplanes; residue annotations.
const FILES: [&str; 6] = [
    "keyword_vocabulary_safety_filtered_58641.txt",
    "keyword_idf_safety_filtered_58641.npy",
    "interpro_29026_to_keywords_58641.csv",
    "entry_list_safety_29026.list",
    "hyperplanes_8bit_58641.npz",
    "uniref90_and_mgnify90_residue_annotations_gt_1k_proteins.csv",
];

/// Hyperplane tables, each of as many bits.
const N_TABLE: usize = 8;

/// What the data file is called: `esm3-data-v1.safetensors`.
pub const ESM3_DATA: (&str, &str) = ("esm3-data", "v1");

/// Writes the data files found in `folders` (in each, in its `data`, in its `esm/data`) into `target`.
///
/// Gives the names of the files that are not there; nothing is written if there are any.
pub fn convert_esm3_data(folders: &[&Path], target: &Path) -> Result<Vec<&'static str>, Error> {
    let places = || folders.iter().flat_map(|f| ["", "data", "esm/data"].map(|below| f.join(below)));
    let found = FILES.map(|name| places().map(|place| place.join(name)).find(|path| path.is_file()));
    let missing: Vec<&str> = FILES.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Ok(missing);
    }
    let [keywords, idf, interpro, entries, hyperplanes, residues] = found.map(Option::unwrap_or_default);
    let keywords = text(&keywords)?.trim().to_owned();
    let n = keywords.split('\n').count();
    let (labels, descriptions) = residue_labels(&residues)?;
    let mut tensors = vec![
        bytes("keywords", keywords),
        bytes("interpro_keywords", columns(&interpro, ',', ["interpro_id", "keywords"])?),
        bytes("interpro_names", columns(&entries, '\t', ["ENTRY_AC", "ENTRY_NAME"])?),
        bytes("residue_labels", labels),
        bytes("residue_descriptions", descriptions),
        numbers(&idf, n)?,
        planes(&hyperplanes, n)?,
    ];
    tensors.sort_by(|a, b| a.0.order().cmp(&b.0.order()));
    write(target, tensors).map(|()| missing)
}

type Tensor = (TensorHeader, Vec<u8>);

fn write(target: &Path, tensors: Vec<Tensor>) -> Result<(), Error> {
    let metadata = || {
        vec![
            ("format_version", FORMAT_VERSION.to_owned()),
            ("model", ESM3_DATA.0.to_owned()),
            ("release", ESM3_DATA.1.to_owned()),
            ("data_sha256", UNKNOWN_SHA256.to_owned()),
            ("converter", converter()),
        ]
    };
    let headers: Vec<TensorHeader> = tensors.iter().map(|(header, _)| header.clone()).collect();
    let mut writer = Writer::create(target, &metadata(), &headers)?;
    let written = tensors.iter().try_for_each(|(_, bytes)| writer.write(bytes));
    match written.and_then(|()| writer.seal(metadata(), &headers)) {
        Ok(()) => writer.finish(),
        Err(e) => {
            writer.discard();
            Err(e)
        }
    }
}

fn bytes(name: &str, text: String) -> Tensor {
    (TensorHeader::new(name.to_owned(), Dtype::U8, vec![text.len()]), text.into_bytes())
}

fn fault(path: &Path, problem: impl Into<String>) -> Error {
    Error::Format { path: path.to_owned(), problem: problem.into() }
}

fn text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|_| fault(path, "is not UTF-8 text"))?;
    Ok(text.replace("\r\n", "\n"))
}

/// The IDF of each of `n` keywords.
fn numbers(path: &Path, n: usize) -> Result<Tensor, Error> {
    let mut file = fs::File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let (dtype, shape, bytes) = npz::read_array(&mut file).map_err(|problem| fault(path, problem))?;
    if (dtype, shape.as_slice()) != (Dtype::F64, &[n]) {
        return Err(fault(path, format!("holds {} {shape:?}, the vocabulary has {n} keywords", dtype.name())));
    }
    Ok((TensorHeader::new("idf".to_owned(), dtype, shape), bytes))
}

/// Eight tables of eight hyperplanes, `[8, 8, n]`.
fn planes(path: &Path, n: usize) -> Result<Tensor, Error> {
    let mut archive = Checkpoint::open_npz(path, None)?;
    let mut all = Vec::new();
    for table in 0..N_TABLE {
        let index = archive.tensors().iter().position(|t| t.name() == table.to_string());
        let index = index.ok_or_else(|| fault(path, format!("has no table {table}")))?;
        let tensor = &archive.tensors()[index];
        if (tensor.dtype(), tensor.shape()) != (Dtype::F64, &[8, n]) {
            let problem = format!("table {table} is {} {:?}, not F64 [8, {n}]", tensor.dtype().name(), tensor.shape());
            return Err(fault(path, problem));
        }
        all.extend(archive.read(index)?);
    }
    Ok((TensorHeader::new("hyperplanes".to_owned(), Dtype::F64, vec![N_TABLE, 8, n]), all))
}

/// Two columns of a table with a header, as lines with a tab between them.
fn columns(path: &Path, separator: char, names: [&str; 2]) -> Result<String, Error> {
    let rows = table(path, separator, &names)?;
    let mut lines = String::new();
    for row in &rows {
        if row.iter().any(|field| field.contains(['\t', '\n'])) {
            return Err(fault(path, format!("a field of {:?} has a tab or a line end", row[0])));
        }
        lines += &format!("{}\t{}\n", row[0], row[1]);
    }
    Ok(lines)
}

/// Clean labels by falling count (equal counts by name), and spelling -> clean label.
fn residue_labels(path: &Path) -> Result<(String, String), Error> {
    let rows = table(path, ',', &["label", "label_clean", "count"])?;
    let (mut counts, mut descriptions) = (std::collections::BTreeMap::<&str, f64>::new(), String::new());
    for row in &rows {
        let [label, clean, count] = &row[..] else { unreachable!("three columns were asked for") };
        let count: f64 = count.parse().map_err(|_| fault(path, format!("{count:?} is no count (label {label:?})")))?;
        *counts.entry(clean).or_default() += count;
        descriptions += &format!("{label}\t{clean}\n");
    }
    let mut labels: Vec<(&str, f64)> = counts.into_iter().collect();
    labels.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: names stay in order
    Ok((labels.iter().map(|(label, _)| format!("{label}\n")).collect(), descriptions))
}

/// The columns `names` of a table with a header line.
fn table(path: &Path, separator: char, names: &[&str]) -> Result<Vec<Vec<String>>, Error> {
    let text = text(path)?;
    let mut rows = records(&text, separator).into_iter();
    let header = rows.next().unwrap_or_default();
    let place = |name: &&str| {
        let place = header.iter().position(|h| h == name);
        place.ok_or_else(|| fault(path, format!("has no column {name}: it has {}", list(&header, 5))))
    };
    let places = names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    rows.map(|row| {
        let field = |at: &usize| row.get(*at).cloned();
        let row: Option<Vec<String>> = places.iter().map(field).collect();
        row.ok_or_else(|| fault(path, "has a line with too few columns"))
    })
    .collect()
}

/// Fields of a text with separators; a field that begins with a quote ends at the next single one. Empty lines are passed over.
fn records(text: &str, separator: char) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    let mut was_quoted = false;
    while let Some(c) = letters.next() {
        match c {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            c if c == separator && !quoted => {
                row.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\n' if !quoted => {
                if !(row.is_empty() && field.is_empty() && !was_quoted) {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                was_quoted = false;
            }
            c => field.push(c),
        }
    }
    if !row.is_empty() || !field.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_are_read() {
        let rows = records("a,b\n\"x,\"\"y\"\"\",z\n\n\"\",w \"q\"\nlast,\"two\nlines\"", ',');
        let want = [["a", "b"], ["x,\"y\"", "z"], ["", "w \"q\""], ["last", "two\nlines"]];
        assert_eq!(rows, want.map(|row| row.map(str::to_owned).to_vec()));
        assert_eq!(records("a\tb\n1\t2,3\n", '\t')[1], ["1", "2,3"]);
    }

    #[test]
    fn labels_are_sorted_by_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.csv");
        fs::write(&path, "label,label_clean,count\nA,b,2\nB,a,2\nC,c,1\nD,c,4\n").unwrap();
        let (labels, descriptions) = residue_labels(&path).unwrap();
        assert_eq!(labels, "c\na\nb\n");
        assert_eq!(descriptions.lines().nth(3), Some("D\tc"));
        fs::write(&path, "label,count\nA,2\n").unwrap();
        assert!(residue_labels(&path).unwrap_err().to_string().contains("no column label_clean"));
    }
}
