//! Representations, logits and tokens of proteins as they are, without generating anything.
use std::path::{Path, PathBuf};

use super::Esm3Error;
use super::document::{Document, Prompt, TokenLists, track_name, whole};
use super::models::{Models, Parts};
use super::output;
use crate::features::array::ArrayWriter;
use crate::features::esm3::Track;
use crate::models::esm3::tracks::Batch;
use crate::pipelines::output::Format;
use crate::pipelines::store;

/// What is written of each protein.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The last representation of each token, and its mean.
    Embeddings,
    /// The logits of these tracks.
    Logits(Vec<Track>),
}

/// Writes `<name>_embeddings.safetensors` (`embeddings` `[n + 2, c]`, ends included, and `mean` `[c]`) or
/// `<name>_logits.safetensors` (a track a name, `[n + 2, ids]`; functions `[n + 2, 8, 260]`); gives the path.
pub fn represent(prompt: &Prompt, wanted: &Wanted, models: &mut Models, out: &Path) -> Result<PathBuf, Esm3Error> {
    let name = store::file_name(prompt.name());
    let tokens = models.encode(prompt, true)?;
    let batch = Batch::of(&[&tokens]).map_err(Esm3Error::track(prompt.name()))?;
    models.estimate(&Parts::default())?.check(prompt.name(), batch.n())?;
    let trunk = models.trunk()?;
    let x = trunk.forward(&batch)?;
    let n = batch.n();
    let mut arrays = ArrayWriter::new();
    let path = match wanted {
        Wanted::Embeddings => {
            let mean = x.mean(1)?.flatten_all()?.to_vec1::<f32>()?;
            arrays.f32("mean", &[mean.len()], mean);
            arrays.f32("embeddings", &[n, x.dim(2)?], x.flatten_all()?.to_vec1::<f32>()?);
            out.join(format!("{name}_embeddings.safetensors"))
        }
        Wanted::Logits(tracks) => {
            for track in tracks {
                let logits = trunk.logits(&x, *track)?.flatten_all()?.to_vec1::<f32>()?;
                let width = logits.len() / n;
                let shape = match track {
                    Track::Function => vec![n, track.depth(), width / track.depth()],
                    _ => vec![n, width],
                };
                arrays.f32(track_name(*track), &shape, logits);
            }
            out.join(format!("{name}_logits.safetensors"))
        }
    };
    let folder = |source| Esm3Error::Store(store::StoreError::Write { path: out.to_owned(), source });
    std::fs::create_dir_all(out).map_err(folder)?;
    arrays.write(&path)?;
    Ok(path)
}

/// Writes the prompt with the tokens of all its tracks, `<name>.json`; gives the paths.
pub fn encode(prompt: &Prompt, models: &mut Models, out: &Path) -> Result<Vec<PathBuf>, Esm3Error> {
    let tokens = models.encode(prompt, true)?;
    let coordinates = prompt.atoms.as_ref().map(|(atoms, _)| whole(atoms));
    let document = Document { tokens: Some(TokenLists::new(&tokens)), coordinates, ..prompt.document.clone() };
    output::write(&out.join(store::file_name(prompt.name())), &document, &[])
}

/// Writes what the tokens of a prompt say: `<name>.json`, `.fasta`, and the structure; gives the paths.
pub fn decode(prompt: &Prompt, models: &mut Models, out: &Path, formats: &[Format]) -> Result<Vec<PathBuf>, Esm3Error> {
    let tokens = models.encode(prompt, true)?;
    let document = Document { name: Some(prompt.name().to_owned()), ..models.decode(&tokens)? };
    output::write(&out.join(store::file_name(prompt.name())), &document, formats)
}
