//! OpenFold3's query JSON: `projects/of3_all_atom/config/inference_query_format.py` of 0.5.0.
//!
//! Where the official reader is silent and fails later, or predicts something else than was written, this one says so:
//! unknown keys of a query, a chain without a sequence, chain ids used twice, letters that are no amino acids.
use std::collections::HashMap;
use std::path::Path;

use jsonc_parser::ast::Value;

use super::json::{Fields, Node, Reader, is_empty, nearest, syntax_tree};
use super::msa::{Loader, MsaFile, PAIRED_NAME, PAIRING_NAME, Role, main_rank, species};
use super::{Chain, Query, QueryErrors, QuerySet, folder_of, sequence_faults, template};

const QUERY_KEYS: [&str; 7] =
    ["query_name", "chains", "use_msas", "use_paired_msas", "use_main_msas", "covalent_bonds", "pocket_constraint"];
const CHAIN_KEYS: [&str; 17] = [
    "molecule_type",
    "chain_ids",
    "description",
    "sequence",
    "non_canonical_residues",
    "smiles",
    "ccd_codes",
    "paired_msa_file_paths",
    "main_msa_file_paths",
    "template_alignment_file_path",
    "template_entry_chain_ids",
    "template_cif_paths",
    "template_cif_chain_ids",
    "sdf_file_path",
    "cyclic",
    "templates", // ours: see super::template
    "use_msas",  // not of a chain: known here for a better message
];
/// Fields of a chain that are valid and that this version does not serve, and what they are for.
const NOT_SERVED: [(&str, &str); 8] = [
    ("non_canonical_residues", "modified residues"),
    ("smiles", "ligands"),
    ("ccd_codes", "ligands"),
    ("sdf_file_path", "ligands"),
    ("template_alignment_file_path", "templates"),
    ("template_entry_chain_ids", "templates"),
    ("template_cif_paths", "templates"),
    ("template_cif_chain_ids", "templates"),
];
const MOLECULES: [&str; 4] = ["protein", "rna", "dna", "ligand"];
/// Paired rows that are kept.
const MAX_PAIRED: usize = 8191;

/// Reads a query file's text; `None`: there are faults.
pub(super) fn read(text: &str, path: &Path, errors: &mut QueryErrors) -> Option<QuerySet> {
    let tree = syntax_tree(text, errors)?;
    let mut reader = Reader::new(text, errors);
    let root = reader.root(&tree);
    if let Some(other) = other_program(&root) {
        reader
            .fault(&root, format!("{other}; fold reads OpenFold3's {{\"queries\": {{name: {{\"chains\": [...]}}}}}}"));
        return None;
    }
    let fields = reader.fields(&root, &["seeds", "queries"])?;
    let seeds = fields.get("seeds").and_then(|node| {
        let items = reader.items(node)?;
        if items.is_empty() {
            reader.fault(node, "has no seed: name at least one, or leave it out");
        }
        let seeds: Vec<_> = items.iter().map(|item| reader.whole(item, u32::MAX)).collect();
        seeds.into_iter().collect()
    });
    let Some(node) = fields.get("queries") else {
        reader.fault(&root, "has no \"queries\"");
        return None;
    };
    let entries = reader.entries(node)?;
    if entries.is_empty() {
        reader.fault(node, "holds no query");
    }
    let mut loader = Loader::new(folder_of(path));
    let queries: Vec<_> = entries.iter().map(|(name, node)| query(name, node, &mut reader, &mut loader)).collect();
    let queries = queries.into_iter().collect::<Option<_>>()?;
    Some(QuerySet { seeds, queries })
}

/// Whose file it is, if it is another program's.
fn other_program(root: &Node<'_, '_>) -> Option<&'static str> {
    match root.value {
        Value::Array(_) => Some("is a list, as AlphaFold Server's and Protenix's queries are"),
        Value::Object(object) if object.get("queries").is_none() => {
            if object.get("dialect").is_some() {
                Some("is an AlphaFold 3 query")
            } else if object.get("sequences").is_some() {
                Some("is a query of Boltz or AlphaFold 3")
            } else {
                None
            }
        }
        _ => None,
    }
}

fn query(name: &str, node: &Node<'_, '_>, reader: &mut Reader<'_>, loader: &mut Loader) -> Option<Query> {
    if let Some(message) = bad_name(name) {
        reader.fault(node, message);
    }
    let fields = reader.fields(node, &QUERY_KEYS)?;
    if let Some(node) = fields.get("query_name") {
        reader.string(node); // the official reader puts the key in its place
    }
    for (key, what) in [("covalent_bonds", "covalent bonds"), ("pocket_constraint", "pocket constraints")] {
        if let Some(node) = fields.get(key)
            && !is_empty(node.value)
        {
            reader.fault(node, format!("{what} are not served yet: take the field out to predict without"));
        }
    }
    let mut flag = |key| fields.get(key).is_none_or(|node| reader.boolean(node).unwrap_or(true));
    let (use_msas, use_paired_msas, use_main_msas) = (flag("use_msas"), flag("use_paired_msas"), flag("use_main_msas"));
    let Some(list) = fields.get("chains") else {
        reader.fault(node, "has no \"chains\"");
        return None;
    };
    let items = reader.items(list)?;
    if items.is_empty() {
        reader.fault(list, "holds no chain");
    }
    let mut ids = HashMap::new();
    let chains: Vec<_> = items.iter().map(|node| chain(node, &mut ids, reader, loader)).collect();
    let chains: Vec<Chain> = chains.into_iter().collect::<Option<_>>()?;
    let query = Query { name: name.to_owned(), chains, use_msas, use_paired_msas, use_main_msas };
    if use_msas && use_paired_msas {
        check_pairing(&query, &items, reader);
    }
    Some(query)
}

/// Why a name cannot be the name of a folder.
pub(super) fn bad_name(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("the query's name is empty: results are named after it".to_owned());
    }
    if name.len() > 150 {
        return Some(format!(
            "the query's name has {} bytes: results are named after it, write at most 150",
            name.len()
        ));
    }
    if name.starts_with('.') {
        return Some("the query's name starts with '.': results are named after it, start with a letter".to_owned());
    }
    let c =
        name.chars().find(|&c| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'))?;
    Some(format!("{c:?} in the query's name: results are named after it, write '_' instead"))
}

fn chain(
    node: &Node<'_, '_>,
    ids: &mut HashMap<String, String>,
    reader: &mut Reader<'_>,
    loader: &mut Loader,
) -> Option<Chain> {
    let fields = reader.fields(node, &CHAIN_KEYS)?;
    if let Some(node) = fields.get("use_msas") {
        reader.fault(node, "belongs to the query, beside \"chains\"");
    }
    let chain_ids = chain_ids(node, &fields, ids, reader);
    let description = fields.get("description").and_then(|node| reader.string(node));
    let cyclic = fields.get("cyclic").and_then(|node| reader.boolean(node)).unwrap_or(false);
    let protein = molecule(node, &fields, reader);
    if protein == Some(false) {
        return None; // what such a chain needs is not checked
    }
    for (key, what) in NOT_SERVED {
        if let Some(node) = fields.get(key)
            && !is_empty(node.value)
        {
            let message = match what {
                "ligands" => "is for ligands, and this is a protein chain: take it out".to_owned(),
                what => format!("{what} are not served yet: take the field out to predict without"),
            };
            reader.fault(node, message);
        }
    }
    let sequence = sequence(node, &fields, protein.is_some(), reader);
    let mut msas = |key, role| {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let paths = reader.strings(node).unwrap_or_default();
        let files = loader.load(reader, &paths, role, sequence.as_deref());
        let main = |f: &MsaFile| main_rank(&f.name).is_some();
        if role == Role::Main && !files.is_empty() && !files.iter().any(main) {
            let message = format!("{} alone gives no main rows: its rows are for pairing; add another", PAIRING_NAME.0);
            reader.fault(node, message);
        }
        files
    };
    let main_msas = msas("main_msa_file_paths", Role::Main);
    let paired_msas = msas("paired_msa_file_paths", Role::Paired);
    let n_res = sequence.as_ref().map(String::len);
    let templates = fields.get("templates").map(|node| template::read(node, n_res, reader, loader)).unwrap_or_default();
    protein?;
    let (ids, sequence) = (chain_ids?, sequence?);
    Some(Chain { ids, sequence, cyclic, description, main_msas, paired_msas, templates })
}

fn chain_ids(
    node: &Node<'_, '_>,
    fields: &Fields<'_, '_>,
    used: &mut HashMap<String, String>,
    reader: &mut Reader<'_>,
) -> Option<Vec<String>> {
    let Some(list) = fields.get("chain_ids") else {
        reader.fault(node, "has no \"chain_ids\"");
        return None;
    };
    let ids = reader.strings(list)?;
    if ids.is_empty() {
        reader.fault(list, "holds no chain id");
        return None;
    }
    for (id, node) in &ids {
        if id.is_empty() || id.len() > 16 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        {
            let shown: String = id.chars().take(20).collect();
            reader.fault(node, format!("{shown:?} is no chain id: write 1 to 16 letters, digits, '_' or '-'"));
        } else if let Some(first) = used.get(id) {
            reader.fault(node, format!("chain id {id:?} is used twice, first at {first}"));
        } else {
            used.insert(id.clone(), node.path.clone());
        }
    }
    Some(ids.into_iter().map(|(id, _)| id).collect())
}

/// Is it a protein chain? `None`: not told.
fn molecule(node: &Node<'_, '_>, fields: &Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<bool> {
    let Some(node) = fields.get("molecule_type") else {
        reader.fault(node, "has no \"molecule_type\"");
        return None;
    };
    let name = match node.value {
        Value::NumberLit(_) => MOLECULES[reader.whole(node, 3)? as usize],
        _ => {
            let given = reader.string(node)?;
            let Some(name) = MOLECULES.iter().find(|name| given.eq_ignore_ascii_case(name)) else {
                let hint =
                    nearest(&given, &MOLECULES).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
                let shown: String = given.chars().take(40).collect();
                reader.fault(node, format!("{shown:?} is none of protein, rna, dna, ligand{hint}"));
                return None;
            };
            name
        }
    };
    if name != "protein" {
        reader.fault(node, format!("{name} chains are not served yet: fold predicts protein chains"));
    }
    Some(name == "protein")
}

fn sequence(node: &Node<'_, '_>, fields: &Fields<'_, '_>, protein: bool, reader: &mut Reader<'_>) -> Option<String> {
    let Some(node) = fields.get("sequence") else {
        if protein {
            reader.fault(node, "a protein chain needs a \"sequence\"");
        }
        return None;
    };
    let sequence = reader.string(node)?;
    if sequence.is_empty() {
        reader.fault(node, "is empty");
        return None;
    }
    let faults = sequence_faults(&sequence);
    for message in &faults {
        reader.fault(node, message);
    }
    faults.is_empty().then_some(sequence)
}

/// What alignments must be to each other, chain by chain.
fn check_pairing(query: &Query, nodes: &[Node<'_, '_>], reader: &mut Reader<'_>) {
    let representatives = query.representatives();
    let place = |chain: usize, key: &str| Node { path: format!("{}.{key}", nodes[chain].path), ..nodes[chain].clone() };
    let n_row = |files: &[MsaFile]| files.iter().map(|f| f.alignment.n_row()).sum::<usize>().min(MAX_PAIRED);
    let mut counts = representatives.iter().filter_map(|r| r.paired.map(|c| (c, n_row(&query.chains[c].paired_msas))));
    if let Some((chain, first)) = counts.next() {
        let id = &query.chains[chain].ids[0];
        for (other, n) in counts.filter(|&(_, n)| n != first) {
            let name = PAIRED_NAME;
            let message =
                format!("{name} has {n} rows, that of chain {id} has {first}: rows are paired by their number");
            reader.fault(&place(other, "paired_msa_file_paths"), message);
        }
        return;
    }
    let pairing = |c: usize| query.chains[c].main_msas.iter().find(|f| f.name == PAIRING_NAME.0);
    let files = representatives.iter().filter_map(|r| Some((pairing(r.main)?, r.main)));
    let files: Vec<_> = files.filter(|(file, _)| file.alignment.n_row() > 1).collect();
    if files.len() < 2 {
        return;
    }
    for (file, chain) in files {
        let bad = (1..file.alignment.n_row()).find(|&i| species(&file.alignment.names[i]).is_none());
        if let Some(i) = bad {
            let name: String = file.alignment.names[i].chars().take(60).collect();
            let form = "tr|<accession>|<accession>_<species>/<first>-<last>";
            let message =
                format!("{}: row {}: {name:?} does not tell the species, as in {form}", file.path.display(), i + 1);
            reader.fault(&place(chain, "main_msa_file_paths"), message);
        }
    }
}
