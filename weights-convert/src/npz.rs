//! Numpy's archives: a zip of `.npy` entries, stored or deflated. An entry is a magic word, a description of format and shape in
//! a subset of Python's literals, which is read here and never evaluated, and the numbers.
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::Error;
use crate::number::Dtype;
use crate::pickle::{Storage, View};
use crate::section::Section;

/// Longer descriptions are not read: those of plain arrays have 54 or 118 bytes.
const MAX_DESCRIPTION: usize = 1 << 12;

/// An open archive. What was read is kept: a stack of layers is taken apart in many reads.
#[derive(Debug)]
pub(crate) struct Npz {
    path: PathBuf,
    zip: ZipArchive<BufReader<Section>>,
    read: HashMap<String, Vec<u8>>,
}

impl Npz {
    /// Opens `path`, or a member of it as a tar archive.
    pub fn open(path: &Path, member: Option<&str>) -> Result<Self, Error> {
        let zip = ZipArchive::new(BufReader::new(Section::open(path, member)?)).map_err(|e| Error::Format {
            path: path.to_owned(),
            problem: format!("is not a whole .npz file, download it again (zip archive: {e})"),
        })?;
        Ok(Self { path: path.to_owned(), zip, read: HashMap::new() })
    }

    /// Names (`<scope>//<name>` as `<scope>.<name>`, `/` as `.`) and views of all entries, in the order of the file.
    pub fn tensors(&mut self) -> Result<Vec<(String, View)>, Error> {
        let entries: Result<Vec<String>, _> = self.zip.file_names().map(|name| name.map(|n| n.into_owned())).collect();
        let entries = entries.map_err(|e| self.damaged(&e.to_string()))?;
        entries.into_iter().map(|entry| self.tensor(entry)).collect()
    }

    fn tensor(&mut self, entry: String) -> Result<(String, View), Error> {
        let Some(name) = entry.strip_suffix(".npy") else {
            return Err(self.damaged(&format!("{entry} is no array")));
        };
        let name = name.replace("//", "/").replace('/', ".");
        let found = self.zip.by_name(&entry).map_err(|e| e.to_string()).and_then(|mut file| describe(&mut file));
        let Array { dtype, shape, columns } = found.map_err(|problem| self.damaged(&format!("{entry}: {problem}")))?;
        let mut strides = vec![1; shape.len()];
        for i in 1..shape.len() {
            match columns {
                true => strides[i] = strides[i - 1] * shape[i - 1],
                false => strides[..i].iter_mut().for_each(|stride| *stride *= shape[i]),
            }
        }
        let len = shape.iter().product();
        Ok((name, View { storage: Storage { key: entry, dtype, len }, offset: 0, shape, strides }))
    }

    /// All numbers of the entry `key`, whose checksum is compared.
    pub fn storage(&mut self, key: &str, n_bytes: u64) -> Result<&[u8], Error> {
        if !self.read.contains_key(key) {
            let bytes = self.load(key, n_bytes).map_err(|problem| self.damaged(&format!("{key}: {problem}")))?;
            self.read.insert(key.to_owned(), bytes);
        }
        Ok(&self.read[key])
    }

    fn load(&mut self, key: &str, n_bytes: u64) -> Result<Vec<u8>, String> {
        let mut file = self.zip.by_name(key).map_err(|e| e.to_string())?;
        describe(&mut file)?;
        let mut bytes = Vec::new();
        file.take(n_bytes + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 == n_bytes { Ok(bytes) } else { Err(format!("does not have {n_bytes} bytes of numbers")) }
    }

    fn damaged(&self, problem: &str) -> Error {
        let problem = format!("the file is damaged, download it again ({problem})");
        Error::Format { path: self.path.clone(), problem }
    }
}

/// An array alone, as in a `.npy` file: format, shape, and the numbers, row-major.
pub(crate) fn read_array(file: &mut impl Read) -> Result<(Dtype, Vec<usize>, Vec<u8>), String> {
    let Array { dtype, shape, columns } = describe(file)?;
    if columns && shape.len() > 1 {
        return Err("has its first index run fastest".into());
    }
    let n_bytes = dtype.size() * shape.iter().product::<usize>();
    let mut bytes = Vec::new();
    file.take(n_bytes as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() == n_bytes {
        Ok((dtype, shape, bytes))
    } else {
        Err(format!("does not have {n_bytes} bytes of numbers"))
    }
}

/// What the description of an array says.
#[derive(Debug, PartialEq)]
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    /// The first index runs fastest.
    columns: bool,
}

/// Reads up to the numbers.
fn describe(file: &mut impl Read) -> Result<Array, String> {
    let mut read = |n: usize| {
        let mut bytes = vec![0; n];
        file.read_exact(&mut bytes).map(|()| bytes).map_err(|e| e.to_string())
    };
    let start = read(8)?;
    let len = match (&start[..6], start[6]) {
        (b"\x93NUMPY", 1) => usize::from(u16::from_le_bytes(read(2)?.try_into().expect("two bytes"))),
        (b"\x93NUMPY", 2 | 3) => u32::from_le_bytes(read(4)?.try_into().expect("four bytes")) as usize,
        _ => return Err("is no array of numpy".into()),
    };
    if len > MAX_DESCRIPTION {
        return Err(format!("has a description of {len} bytes"));
    }
    let text = String::from_utf8(read(len)?).map_err(|e| e.to_string())?;
    let wrong = || format!("has a description that is not understood: {}", text.trim());
    let dtype = match literal(&text, "descr").ok_or_else(wrong)? {
        "'<f4'" => Dtype::F32,
        "'<f8'" => Dtype::F64,
        "'<f2'" => Dtype::F16,
        other => return Err(format!("holds numbers of the format {other}, not float32")),
    };
    let columns = match literal(&text, "fortran_order").ok_or_else(wrong)? {
        "False" => false,
        "True" => true,
        _ => return Err(wrong()),
    };
    let shape = literal(&text, "shape").and_then(|s| s.strip_prefix('(')?.strip_suffix(')')).ok_or_else(wrong)?;
    let sizes = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Vec<usize> = sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    shape.iter().try_fold(8usize, |n, d| n.checked_mul(*d)).ok_or_else(wrong)?;
    Ok(Array { dtype, shape, columns })
}

/// What stands behind `'key':` in the description, up to the comma that ends it.
fn literal<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.split_once(&format!("'{key}':"))?.1.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(description: &str) -> Vec<u8> {
        let len = (description.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &len[..], description.as_bytes()].concat()
    }

    #[test]
    fn descriptions_of_arrays() {
        let of = |text: &str| describe(&mut &array(text)[..]);
        let array = of("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }  \n").unwrap();
        assert_eq!(array, Array { dtype: Dtype::F32, shape: vec![3, 4], columns: false });
        assert_eq!(of("{'descr': '<f8', 'fortran_order': False, 'shape': (), }").unwrap().shape.len(), 0);
        let array = of("{'shape': (7,), 'fortran_order': True, 'descr': '<f2'}").unwrap();
        assert_eq!(array, Array { dtype: Dtype::F16, shape: vec![7], columns: true });
        for (text, expected) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "format '|O'"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "not understood"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }", "not understood"),
            ("{'descr': '<f4', 'fortran_order': False}", "not understood"),
        ] {
            assert!(of(text).unwrap_err().contains(expected), "{text}");
        }
        assert!(describe(&mut &b"\x93NUMPX\x01\x00"[..]).unwrap_err().contains("no array"));
        assert!(describe(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).unwrap_err().contains("description of"));
    }
}
