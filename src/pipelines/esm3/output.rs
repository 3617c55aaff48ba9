//! Files of a protein: the document, FASTA, and the structure with O placed from its neighbours.
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::Formatter;

use super::Esm3Error;
use super::document::Document;
use crate::features::esm3::Backbone;
use crate::features::esm3::structure::code;
use crate::io::structure::{Atom, Chain, Entity, Origin, Structure};
use crate::io::{mmcif, pdb};
use crate::models::esm3::structure_decoder::oxygens;
use crate::pipelines::output::Format;
use crate::pipelines::store;

/// Ids of chains, in order.
const CHAIN_IDS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Writes `<base>.fasta`, `<base>.cif` or `.pdb` where there is a structure, and `<base>.json` last; gives their paths.
pub fn write(base: &Path, document: &Document, formats: &[Format]) -> Result<Vec<PathBuf>, Esm3Error> {
    let name = name(base);
    let mut paths = Vec::new();
    let mut put = |extension: &str, bytes: &[u8]| {
        let path = base.with_file_name(format!("{name}.{extension}"));
        store::write(&path, bytes)?;
        paths.push(path);
        Ok::<_, Esm3Error>(())
    };
    if let Some(sequence) = &document.sequence {
        put("fasta", format!(">{name}\n{sequence}\n").as_bytes())?;
    }
    paths.extend(write_structures(base, document, formats)?);
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, FieldLines { depth: 0 });
    document.serialize(&mut serializer).expect("a document is JSON");
    bytes.push(b'\n');
    let path = base.with_file_name(format!("{name}.json"));
    store::write(&path, &bytes)?;
    paths.push(path);
    Ok(paths)
}

/// JSON with a line for each field of the outermost object.
struct FieldLines {
    depth: usize,
}

impl Formatter for FieldLines {
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(match (first, self.depth) {
            (true, 1) => b"\n",
            (false, 1) => b",\n",
            (true, _) => b"",
            (false, _) => b", ",
        })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(if self.depth == 0 { b"\n}" } else { b"}" })
    }
}

fn name(base: &Path) -> String {
    base.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes `<base>.cif` or `.pdb`, if the document has a whole structure; gives their paths.
pub fn write_structures(base: &Path, document: &Document, formats: &[Format]) -> Result<Vec<PathBuf>, Esm3Error> {
    let name = name(base);
    let Some(structure) = structure(&name, document) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for format in formats {
        let text = match format {
            Format::Cif => mmcif::format(&structure),
            Format::Pdb => pdb::format(&structure)?,
        };
        let path = base.with_file_name(format!("{name}.{}", format.extension()));
        store::write(&path, text.as_bytes())?;
        paths.push(path);
    }
    Ok(paths)
}

/// The chains of a document with coordinates, without chain breaks; residues count from 1 in each chain.
fn structure(name: &str, document: &Document) -> Option<Structure> {
    let coordinates = document.coordinates.as_ref()?;
    let unknown = "X".repeat(coordinates.len());
    let letters: Vec<char> = document.sequence.as_ref().unwrap_or(&unknown).chars().collect();
    let origin =
        Origin { version: env!("CARGO_PKG_VERSION").into(), model: "ESM3".into(), release: "sm-open-v1".into() };
    let mut s = Structure {
        name: name.to_owned(),
        title: format!("Structure of {name} decoded from ESM3's tokens"),
        origin,
        ptm: document.ptm,
        ..Structure::default()
    };
    let mut start = 0;
    for letters in letters.split(|letter| *letter == '|') {
        let residues: Vec<Backbone> =
            coordinates.get(start..start + letters.len())?.iter().copied().collect::<Option<_>>()?;
        let plddt = document.plddt.as_ref().and_then(|p| p.get(start..start + letters.len()));
        put_chain(&mut s, letters, &residues, plddt)?;
        start += letters.len() + 1;
    }
    Some(s)
}

fn put_chain(s: &mut Structure, letters: &[char], residues: &[Backbone], plddt: Option<&[f32]>) -> Option<()> {
    let components: Vec<String> = letters.iter().map(|letter| code(*letter).to_owned()).collect();
    let sequence: String = letters.iter().map(|l| if *l == '_' { 'X' } else { *l }).collect();
    let entity = s.entities.iter().position(|e| e.sequence == sequence).unwrap_or_else(|| {
        s.entities.push(Entity { description: None, components, sequence });
        s.entities.len() - 1
    });
    let chain = s.chains.len();
    s.chains.push(Chain { id: char::from(*CHAIN_IDS.get(chain)?).to_string(), entity });
    let oxygens = oxygens(residues);
    for (i, residue) in residues.iter().enumerate() {
        let atoms = ["N", "CA", "C"].into_iter().zip(residue).chain(oxygens.get(i).map(|x| ("O", x)));
        s.atoms.extend(atoms.map(|(name, position)| Atom {
            chain,
            residue: i + 1,
            name: name.to_owned(),
            element: name[..1].to_owned(),
            position: *position,
            plddt: plddt.map_or(0., |p| p[i]),
        }));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::esm3::document::Function;

    #[test]
    fn each_field_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let document = Document {
            name: Some("x".into()),
            plddt: Some(vec![0.3, 99.]),
            function: Some(vec![Function { label: "a".into(), start: 1, end: 2 }]),
            ..Document::default()
        };
        write(&folder.path().join("x"), &document, &[]).unwrap();
        let text = std::fs::read_to_string(folder.path().join("x.json")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let function = "\"function\": [{\"label\": \"a\", \"start\": 1, \"end\": 2}],";
        assert_eq!(lines, ["{", "\"name\": \"x\",", function, "\"plddt\": [0.3,99.0]", "}"]);
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    }

    #[test]
    fn chains_are_split_at_breaks() {
        let residue = |x: f32| Some([[x, 0., 0.], [x + 1., 1., 0.], [x + 2., 0., 0.5]]);
        let document = Document {
            sequence: Some("MK|MK".into()),
            coordinates: Some((0..5).map(|i| residue(4. * i as f32)).collect()),
            plddt: Some(vec![10., 20., 30., 40., 50.]),
            ..Document::default()
        };
        let s = structure("x", &document).unwrap();
        assert_eq!((s.chains.len(), s.entities.len(), s.atoms.len()), (2, 1, 14));
        assert_eq!((s.atoms[7].chain, s.atoms[7].residue, s.atoms[7].plddt), (1, 1, 40.));
        assert_eq!(s.atoms.iter().filter(|a| a.name == "O").count(), 2);
    }
}
