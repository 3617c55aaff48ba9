//! The tables of the function and residue annotation tracks, as the converter has stored them beside the weights.
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::FUNCTION_DEPTH;

/// Bits of a function token.
pub const N_BIT: usize = 8;

/// What can be wrong with the data file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not hold the tables.
    #[error("{}: {problem}: convert ESM3 again (fold weights convert esm3)", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Terms, their weights and hashes; labels of sites.
#[derive(Debug)]
pub struct Vocabulary {
    /// Function keywords by number.
    pub keywords: Vec<String>,
    /// Names of the InterPro entries by id, in order.
    pub interpro_names: BTreeMap<String, String>,
    /// Labels of annotated sites; the first has id 4.
    pub residue_labels: Vec<String>,
    keyword_index: HashMap<String, usize>,
    idf: Vec<f64>,
    interpro_keywords: HashMap<String, Vec<String>>,
    residue_descriptions: HashMap<String, usize>,
    hyperplanes: Vec<f64>, // [8, 8, keywords]
}

impl Vocabulary {
    /// Reads the data file.
    pub fn read(path: &Path) -> Result<Self, VocabularyError> {
        let bytes = std::fs::read(path).map_err(|source| VocabularyError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes).map_err(|problem| VocabularyError::Format { path: path.to_owned(), problem })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let keywords: Vec<String> = text(&file, "keywords")?.split('\n').map(str::to_owned).collect();
        let n = keywords.len();
        let residue_labels: Vec<String> = text(&file, "residue_labels")?.lines().map(str::to_owned).collect();
        let index = |names: &[String]| names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        let labels: HashMap<String, usize> = index(&residue_labels);
        let keywords_of = |words: &str| words.split(',').map(str::to_owned).collect();
        Ok(Self {
            keyword_index: index(&keywords),
            idf: numbers(&file, "idf", &[n])?,
            interpro_keywords: pairs(&file, "interpro_keywords")?.map(|(id, k)| (id, keywords_of(&k))).collect(),
            interpro_names: pairs(&file, "interpro_names")?.collect(),
            residue_descriptions: pairs(&file, "residue_descriptions")?
                .filter_map(|(description, label)| Some((description, *labels.get(&label)?)))
                .collect(),
            hyperplanes: numbers(&file, "hyperplanes", &[FUNCTION_DEPTH, N_BIT, n])?,
            keywords,
            residue_labels,
        })
    }

    /// Number of a keyword.
    pub fn keyword(&self, term: &str) -> Option<usize> {
        self.keyword_index.get(term).copied()
    }

    /// Terms of an InterPro entry, some of which may be no keywords.
    pub fn interpro(&self, id: &str) -> Option<&[String]> {
        self.interpro_keywords.get(id).map(Vec::as_slice)
    }

    /// Number of the label of a site that is described so.
    pub fn residue_label(&self, description: &str) -> Option<usize> {
        self.residue_descriptions.get(description).copied()
    }

    /// What a keyword counts for being rare.
    pub fn idf(&self, keyword: usize) -> f64 {
        self.idf[keyword]
    }

    /// The normal of a hyperplane, one number for each keyword.
    pub fn hyperplane(&self, table: usize, bit: usize) -> &[f64] {
        let n = self.keywords.len();
        &self.hyperplanes[(table * N_BIT + bit) * n..][..n]
    }
}

fn text<'a>(file: &'a SafeTensors<'_>, name: &str) -> Result<&'a str, String> {
    let tensor = file.tensor(name).map_err(|e| e.to_string())?;
    std::str::from_utf8(tensor.data()).map_err(|_| format!("{name} is not UTF-8 text"))
}

fn pairs<'a>(file: &'a SafeTensors<'_>, name: &str) -> Result<impl Iterator<Item = (String, String)> + 'a, String> {
    let pair = |line: &str| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
    Ok(text(file, name)?.lines().filter_map(pair))
}

fn numbers(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f64>, String> {
    let tensor = file.tensor(name).map_err(|e| e.to_string())?;
    if (tensor.dtype(), tensor.shape()) != (Dtype::F64, shape) {
        return Err(format!("{name} is {:?} {:?}, not F64 {shape:?}", tensor.dtype(), tensor.shape()));
    }
    Ok(tensor.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}
