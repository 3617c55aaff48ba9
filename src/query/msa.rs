//! Alignment files that a query names. Their meaning is in their names, as in OpenFold3: `colabfold_main.a3m`,
//! `uniref90_hits.sto`, ...; a folder stands for the files in it.
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::json::{Node, Reader, nearest};
use super::{FaultKind, Query};
use crate::chem::restype;
use crate::io::a3m::{self, Alignment};
use crate::io::stockholm;

/// Names of main alignments in the order in which they are stacked, each with the rows that OpenFold3 takes of it; all are read
/// (`projects/of3_all_atom/config/dataset_config_components.py` of OpenFold3 0.5.0).
pub const MAIN_ORDER: [(&str, usize); 13] = [
    ("uniref90_hits", 10_000),
    ("bfd_uniclust_hits", 10_000_000),
    ("bfd_uniref_hits", 10_000_000),
    ("cfdb_uniref30", 10_000_000),
    ("cfdb_hits", 10_000_000),
    ("mgnify_hits", 5_000),
    ("rfam_hits", 10_000),
    ("rnacentral_hits", 10_000),
    ("nt_hits", 10_000),
    ("nucleotide_collection_hits", 10_000),
    ("concat_cfdb_uniref100_filtered", 10_000_000),
    ("mmseqs_colabfold", 10_000_000),
    ("colabfold_main", 16_384),
];
/// Name of the alignment whose rows are paired by species, and the rows that are read of it; it adds no main rows.
pub const PAIRING_NAME: (&str, usize) = ("uniprot_hits", 50_000);
/// Name of an alignment whose rows are paired already.
pub const PAIRED_NAME: &str = "colabfold_paired";

/// An alignment with the name that tells its use.
#[derive(Debug, Clone, PartialEq)]
pub struct MsaFile {
    /// File name without extension.
    pub name: String,
    /// Name of the folder; chains of one sequence and one such name share their alignments.
    pub representative: String,
    /// Where it was read.
    pub path: PathBuf,
    /// Its rows; the first is the chain's sequence, but for a3m files of complexes, where it may stand further down.
    pub alignment: Arc<Alignment>,
}

/// What the alignments of a list are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    Paired,
}

impl Role {
    /// Rows to read of a file of this name; `None`: the file has another use or none.
    fn limit(self, name: &str) -> Option<usize> {
        let known = self.names().contains(&name);
        known.then_some(if name == PAIRING_NAME.0 { PAIRING_NAME.1 } else { usize::MAX })
    }

    fn names(self) -> Vec<&'static str> {
        match self {
            Self::Main => MAIN_ORDER.into_iter().chain([PAIRING_NAME]).map(|(name, _)| name).collect(),
            Self::Paired => vec![PAIRED_NAME],
        }
    }
}

/// Species of a header `tr|<accession>|<accession>_<species>/<first>-<last>`: the fourth of the parts between `|_/:-`.
pub fn species(header: &str) -> Option<&str> {
    let parts: Vec<_> = header.split(['|', '_', '/', ':', '-']).collect();
    if (4..=6).contains(&parts.len()) { Some(parts[3]) } else { None }
}

/// Position of a main alignment's name in the stacking order.
pub(crate) fn main_rank(name: &str) -> Option<usize> {
    MAIN_ORDER.iter().position(|(known, _)| *known == name)
}

/// Chains of one sequence that share their alignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representative {
    /// The chains, as indices into the query's, in its order.
    pub chains: Vec<usize>,
    /// The first of them, whose main alignments stand for all.
    pub main: usize,
    /// The first of them that has paired alignments.
    pub paired: Option<usize>,
}

impl Query {
    /// Groups of chains by sequence and name of alignment folder. A chain without main alignments is represented by its
    /// sequence.
    pub fn representatives(&self) -> Vec<Representative> {
        let mut groups: BTreeMap<_, Representative> = BTreeMap::new();
        for (i, chain) in self.chains.iter().enumerate() {
            let name = chain.main_msas.iter().map(|f| f.representative.as_str()).min();
            let new = || Representative { chains: Vec::new(), main: i, paired: None };
            let group = groups.entry((name, &chain.sequence)).or_insert_with(new);
            group.chains.push(i);
            if group.paired.is_none() && !chain.paired_msas.is_empty() {
                group.paired = Some(i);
            }
        }
        groups.into_values().collect()
    }
}

/// An alignment, or why there is none.
type Read = Result<Arc<Alignment>, (FaultKind, String)>;

/// Finds and reads alignment files, each once.
pub(super) struct Loader {
    folder: PathBuf,
    read: HashMap<(PathBuf, usize), Read>,
}

impl Loader {
    /// Relative paths start in `folder`, or else in the working folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, read: HashMap::new() }
    }

    /// The alignments that a list of paths names, of a chain of this sequence (`None`: it has a fault already).
    pub fn load(
        &mut self,
        reader: &mut Reader<'_>,
        paths: &[(String, Node<'_, '_>)],
        role: Role,
        sequence: Option<&str>,
    ) -> Vec<MsaFile> {
        let mut files: Vec<MsaFile> = Vec::new();
        for (given, node) in paths {
            let Some(path) = self.find(given) else {
                let message = format!("no such file: {}", self.tried(given));
                reader.fault_of(FaultKind::Missing, node, message);
                continue;
            };
            for (path, representative) in candidates(&path, given, role, node, reader) {
                let name = stem(&path);
                let Some(limit) = role.limit(&name) else { continue };
                if let Some(other) = files.iter().find(|f| f.name == name) {
                    let both = format!("{} and {}", other.path.display(), path.display());
                    reader.fault(node, format!("two alignments are named {name}: {both}; join them or rename one"));
                    continue;
                }
                let alignment = match self.read(&path, limit) {
                    Ok(alignment) => alignment,
                    Err((kind, message)) => {
                        reader.fault_of(kind, node, format!("{}: {message}", path.display()));
                        continue;
                    }
                };
                if let Some(message) = sequence.and_then(|sequence| not_the_query(&alignment, sequence)) {
                    reader.fault(node, format!("{}: {message}", path.display()));
                    continue;
                }
                files.push(MsaFile { name, representative, path, alignment });
            }
        }
        files
    }

    pub fn find(&self, given: &str) -> Option<PathBuf> {
        if given.is_empty() || given.contains('\0') {
            return None;
        }
        // An absolute path replaces the folder it is joined to.
        [self.folder.join(given), PathBuf::from(given)].into_iter().find(|p| p.exists())
    }

    pub fn tried(&self, given: &str) -> String {
        let here = self.folder.join(given);
        if given.is_empty() {
            "the path is empty".to_owned()
        } else if here == Path::new(given) {
            given.to_owned()
        } else {
            format!("neither {} (beside the query) nor {given} (in the working folder)", here.display())
        }
    }

    fn read(&mut self, path: &Path, limit: usize) -> Read {
        let read = || {
            let bytes = std::fs::read(path).map_err(|e| (FaultKind::Io, format!("cannot be read: {e}")))?;
            let text = String::from_utf8_lossy(bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(&bytes));
            let parse = if extension(path) == "sto" { stockholm::parse } else { a3m::parse };
            let alignment = parse(&text, limit).map_err(|faults| {
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                (FaultKind::Data, faults.join("; "))
            })?;
            Ok(Arc::new(alignment))
        };
        self.read.entry((path.to_owned(), limit)).or_insert_with(read).clone()
    }
}

/// The alignment files that a path stands for, each with the name that it gives its chain.
fn candidates(
    path: &Path,
    given: &str,
    role: Role,
    node: &Node<'_, '_>,
    reader: &mut Reader<'_>,
) -> Vec<(PathBuf, String)> {
    let known = role.names();
    let uses = known.join(", ");
    if path.is_dir() {
        let representative = stem(path);
        let mut files: Vec<_> = match std::fs::read_dir(path) {
            Ok(entries) => entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect(),
            Err(e) => {
                reader.fault_of(FaultKind::Io, node, format!("{}: cannot be read: {e}", path.display()));
                return Vec::new();
            }
        };
        files.retain(|f| {
            f.is_file() && matches!(extension(f).as_str(), "a3m" | "sto") && role.limit(&stem(f)).is_some()
        });
        files.sort();
        if files.is_empty() {
            reader.fault(node, format!("folder {given} has no .a3m or .sto file named after its source ({uses})"));
        }
        return files.into_iter().map(|f| (f, representative.clone())).collect();
    }
    let name = stem(path);
    match extension(path).as_str() {
        "a3m" | "sto" if role.limit(&name).is_some() => {}
        "a3m" | "sto" => {
            let other = match role {
                Role::Main if name == PAIRED_NAME => "it belongs under paired_msa_file_paths".to_owned(),
                Role::Paired if Role::Main.limit(&name).is_some() => "it belongs under main_msa_file_paths".to_owned(),
                _ => match nearest(&name, &known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("rename it to one of: {uses}"),
                },
            };
            reader.fault(
                node,
                format!("{given}: an alignment's use is told by its file name, and {name} is none; {other}"),
            );
            return Vec::new();
        }
        "npz" => {
            reader.fault(
                node,
                format!("{given}: .npz alignments are not served; give the .a3m or .sto they were made of"),
            );
            return Vec::new();
        }
        other => {
            reader.fault(node, format!("{given}: alignments are .a3m or .sto files, not .{other}"));
            return Vec::new();
        }
    }
    let representative = path.canonicalize().ok().and_then(|p| p.parent().map(stem)).unwrap_or_default();
    vec![(path.to_owned(), representative)]
}

/// Why the first row of an alignment is not this sequence, if it is not.
pub(super) fn not_the_query(alignment: &Alignment, sequence: &str) -> Option<String> {
    let row = alignment.row(0);
    let (m, l) = (row.len(), sequence.len());
    if m != l {
        return Some(format!("the first row must be the query: it has {m} columns, the sequence has {l} residues"));
    }
    let differs = |(&a, b): (&u8, u8)| restype::alignment_letter(a) != restype::alignment_letter(b);
    let at = row.iter().zip(sequence.bytes()).position(differs)?;
    let (row, sequence) = (char::from(row[at]), char::from(sequence.as_bytes()[at]));
    Some(format!("the first row must be the query: column {} has {row}, the sequence has {sequence}", at + 1))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn extension(path: &Path) -> String {
    path.extension().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn species_is_the_fourth_part() {
        assert_eq!(species("tr|A0A1W9RZR3|A0A1W9RZR3_9BACT/19-121"), Some("9BACT"));
        assert_eq!(species("sp|P1|X_HUMAN"), Some("HUMAN"));
        assert_eq!(species("UniRef100_A0A/1-20"), Some("20"));
        assert_eq!(species("hit1"), None);
        assert_eq!(species("tr|A|A_B/1-2 a-b"), None);
    }

    #[test]
    fn the_stacking_order_is_the_official_one() {
        assert!(main_rank("concat_cfdb_uniref100_filtered") < main_rank("mmseqs_colabfold"));
        assert!(main_rank("mmseqs_colabfold") < main_rank("colabfold_main"));
        assert_eq!(main_rank("uniref90_hits"), Some(0));
        assert_eq!(main_rank(PAIRING_NAME.0), None);
    }
}
