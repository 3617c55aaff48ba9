//! What became of samples: documents, their files, and the table of all of them.
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::Esm3Error;
use super::document::{Document, Prompt, TokenLists, whole};
use super::models::Models;
use super::output;
use crate::features::esm3::{Tokens, Track, structure_id};
use crate::models::esm3::sample::Settings;
use crate::pipelines::output::Format;
use crate::pipelines::store::{self, StoreError};

/// Where the samples of a prompt are.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Their folder.
    pub folder: PathBuf,
    name: String,
}

impl Samples {
    /// Of a prompt, below `out`.
    pub fn new(out: &Path, name: &str) -> Self {
        let name = store::file_name(name);
        Self { folder: out.join(&name), name }
    }

    /// Path of a sample's files without the extension.
    pub fn base(&self, sample: usize) -> PathBuf {
        self.folder.join(format!("{}_sample-{sample}", self.name))
    }

    fn path(&self, sample: usize, extension: &str) -> PathBuf {
        self.folder.join(format!("{}_sample-{sample}.{extension}", self.name))
    }

    /// Is a sample there? Its document is written last. A structure file of a format that was not asked for before is made of it.
    pub fn is_done(&self, sample: usize, formats: &[Format]) -> Result<bool, Esm3Error> {
        let path = self.path(sample, "json");
        if !path.is_file() {
            return Ok(false);
        }
        if formats.iter().any(|format| !self.path(sample, format.extension()).is_file()) {
            let bytes = std::fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
            let document: Document = serde_json::from_slice(&bytes).map_err(|e| {
                let problem = format!("is no result of this program ({e}); delete it, or give --overwrite");
                Esm3Error::File { path: path.clone(), problem }
            })?;
            output::write_structures(&self.base(sample), &document, formats)?;
        }
        Ok(true)
    }

    /// Removes all samples.
    pub fn remove(&self) -> Result<(), StoreError> {
        for path in self.files()? {
            std::fs::remove_file(&path).map_err(|source| StoreError::Write { path, source })?;
        }
        Ok(())
    }

    /// The documents that are there, in the order of the samples.
    fn documents(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut paths: Vec<PathBuf> =
            self.files()?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
        paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        Ok(paths)
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let fault = |source| StoreError::Read { path: self.folder.clone(), source };
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(fault)?,
        };
        let prefix = format!("{}_sample-", self.name);
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fault)?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                files.push(entry.path());
            }
        }
        Ok(files)
    }
}

/// The document of a protein. A structure that was given and not generated is passed on as it is, not decoded from its tokens.
pub fn document(
    prompt: &Prompt,
    tracks: &[Settings],
    mut protein: Tokens,
    models: &mut Models,
) -> Result<Document, Esm3Error> {
    let makes = |track: Track| tracks.iter().any(|t| t.track == track);
    let given = prompt.atoms.as_ref().filter(|_| !makes(Track::Structure));
    let structure = protein.structure.take_if(|_| given.is_some());
    // Tokens of functions do not lead back to the labels they were made of.
    let function = protein.function.take_if(|_| !makes(Track::Function));
    let mut document = models.decode(&protein)?;
    if function.is_some() {
        document.function.clone_from(&prompt.document.function);
    }
    if let Some((backbone, _)) = given {
        document.coordinates = Some(whole(backbone));
    }
    document.residue_annotations.clone_from(&prompt.document.residue_annotations);
    // The other tracks follow from their texts, which may be edited before the document is a prompt again.
    let all = document.tokens.take().unwrap_or_default();
    let residue_annotations = all.residue_annotations.filter(|_| document.residue_annotations.is_none());
    let structure = structure.or(all.structure).filter(|ids| !ids.contains(&structure_id::MASK));
    let function = function.map(|ids| ids.iter().map(|ids| ids.to_vec()).collect());
    let function = function.or(all.function);
    document.tokens = Some(TokenLists { structure, function, residue_annotations, ..TokenLists::default() });
    Ok(document)
}

/// The line of `--json` about a protein.
pub fn record(document: &Document, files: &[PathBuf]) -> Value {
    json!({
        "name": document.name,
        "sample": document.sample,
        "sequence": document.sequence,
        "function": document.function,
        "ptm": document.ptm,
        "mean_plddt": document.plddt.as_deref().map(mean),
        "files": files,
    })
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// What the table tells of a document.
#[derive(Deserialize)]
struct Row {
    name: String,
    sample: usize,
    sequence: Option<String>,
    plddt: Option<Vec<f32>>,
    ptm: Option<f32>,
}

/// Writes `samples.csv`: a row for each sample that is there, whichever process made it.
pub fn write_table<'a>(out: &Path, prompts: impl Iterator<Item = &'a Samples>) -> Result<(), Esm3Error> {
    let mut text = "name,sample,mean_plddt,ptm,sequence,file\n".to_owned();
    for samples in prompts {
        for path in samples.documents()? {
            let bytes = std::fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
            let row: Row = serde_json::from_slice(&bytes).map_err(|e| {
                let problem = format!("is no result of this program ({e}); delete it, or give --overwrite");
                Esm3Error::File { path: path.clone(), problem }
            })?;
            let number = |value: Option<f32>| value.map_or(String::new(), |v| format!("{v:.4}"));
            let file = path.strip_prefix(out).unwrap_or(&path).display().to_string();
            let (plddt, sequence) = (row.plddt.as_deref().map(mean), row.sequence.unwrap_or_default());
            let cells = [row.name, row.sample.to_string(), number(plddt), number(row.ptm), sequence, file];
            text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
            text.push('\n');
        }
    }
    Ok(store::write_shared(&out.join("samples.csv"), text.as_bytes())?)
}

/// A cell of a table with commas between them.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_samples() {
        let out = tempfile::tempdir().unwrap();
        let samples = Samples::new(out.path(), "a,b");
        std::fs::create_dir_all(&samples.folder).unwrap();
        for sample in [10, 2] {
            let text = format!(r#"{{"name": "a,b", "sample": {sample}, "sequence": "MK", "plddt": [50, 60]}}"#);
            std::fs::write(samples.path(sample, "json"), text).unwrap();
        }
        write_table(out.path(), [&samples].into_iter()).unwrap();
        let table = std::fs::read_to_string(out.path().join("samples.csv")).unwrap();
        let lines: Vec<&str> = table.lines().skip(1).collect();
        assert_eq!(lines[0], "\"a,b\",2,55.0000,,MK,ab/ab_sample-2.json");
        assert!(lines[1].starts_with("\"a,b\",10,") && lines.len() == 2);
        samples.remove().unwrap();
        assert!(samples.files().unwrap().is_empty());
    }
}
