//! The task file: PXDesign's YAML and the list of tasks in JSON that it makes of it (`pxdesign/utils/inputs.py`).
use std::path::{Path, PathBuf};

use super::numbers::{Number, Range, number, range};
use super::tree::{Node, Value};
use crate::query::msa::Loader;
use crate::query::{FaultKind, QueryErrors};

const TOP: [&str; 3] = ["task_name", "binder_length", "target"];
const TARGET: [&str; 2] = ["file", "chains"];
const CHAIN: [&str; 3] = ["crop", "hotspots", "msa"];
/// Homologues of a chain.
pub(super) const MAIN_MSA: &str = "non_pairing.a3m";
/// Homologues of a chain with their species.
pub(super) const PAIRING_MSA: &str = "pairing.a3m";
/// Longest binder; longer ones fit no machine and no training.
const MAX_BINDER: i64 = 4096;

/// A task as it is written.
pub(super) struct Draft<'n> {
    pub name: String,
    /// The structure file, if it was found, and where it is named.
    pub file: Option<(PathBuf, &'n Node)>,
    pub chains: Vec<DraftChain<'n>>,
    pub binder_length: Option<usize>,
}

pub(super) struct DraftChain<'n> {
    pub id: String,
    pub node: &'n Node,
    /// `None`: the whole chain.
    pub crop: Option<Vec<(Range, &'n Node)>>,
    pub hotspots: Vec<(Number, &'n Node)>,
    pub msa: Option<PathBuf>,
}

/// Reads the YAML form: one task, called after its file if it has no name.
pub(super) fn yaml<'n>(
    root: &'n Node,
    path: &Path,
    errors: &mut QueryErrors,
    loader: &mut Loader,
) -> Option<Draft<'n>> {
    if let Some(other) = other_program(root) {
        errors.at(root, format!("{other}; fold design reads PXDesign's task: target (file, chains) and binder_length"));
        return None;
    }
    let fields = errors.fields(root, &TOP)?;
    let name = match fields.get("task_name") {
        Some(node) => errors.text(node).map(str::to_owned),
        None => Some(path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()),
    };
    let place = fields.get("task_name").copied().unwrap_or(root);
    let name = name.filter(|name| check_name(name, place, errors));
    let binder_length = length(root, fields.get("binder_length").copied(), "binder_length", errors);
    let Some(target) = fields.get("target") else {
        errors.at(root, "has no \"target\": give its file and chains");
        return None;
    };
    let fields = errors.fields(target, &TARGET)?;
    let file = structure_file(target, fields.get("file").copied(), "file", errors, loader);
    let Some(chains) = fields.get("chains") else {
        errors.at(target, "has no \"chains\": name the chains that are the target, such as {A: all}");
        return None;
    };
    let entries = errors.entries(chains)?;
    if entries.is_empty() {
        errors.at(chains, "names no chain: name the chains that are the target, such as {A: all}");
    }
    let chains = entries.into_iter().map(|(id, node)| chain(id, node, errors, loader)).collect();
    Some(Draft { name: name.unwrap_or_default(), file, chains, binder_length })
}

/// Whose file it is, if it is another program's.
fn other_program(root: &Node) -> Option<&'static str> {
    let Value::Map(entries) = &root.value else { return None };
    let has = |key: &str| entries.iter().any(|(k, _)| k == key);
    if has("target") {
        None
    } else if has("sequences") {
        Some("is a query of Boltz or AlphaFold 3")
    } else if has("queries") {
        Some("is a query of OpenFold3, for fold predict")
    } else if has("entities") {
        Some("is a design of BoltzGen")
    } else {
        None
    }
}

fn check_name(name: &str, node: &Node, errors: &mut QueryErrors) -> bool {
    let message = crate::query::bad_name(name).map(|m| m.replace("query", "task"));
    let sound = message.is_none();
    if let Some(message) = message {
        errors.at(node, message);
    }
    sound
}

fn length(of: &Node, node: Option<&Node>, key: &str, errors: &mut QueryErrors) -> Option<usize> {
    let Some(node) = node else {
        errors.at(of, format!("has no {key:?}: give the number of residues of the binder"));
        return None;
    };
    errors.whole(node, 1, MAX_BINDER).map(|n| n as usize)
}

/// A file that is there: relative to the task's folder, or else to the working directory, where the official program looks.
fn structure_file<'n>(
    of: &Node,
    node: Option<&'n Node>,
    key: &str,
    errors: &mut QueryErrors,
    loader: &mut Loader,
) -> Option<(PathBuf, &'n Node)> {
    let Some(node) = node else {
        errors.at(of, format!("has no {key:?}: name the target's structure, a .cif or .pdb file"));
        return None;
    };
    let given = errors.text(node)?;
    if given.ends_with(".pkl.gz") {
        errors
            .at(node, "is a structure that PXDesign has read and packed: name the .cif or .pdb file it was made from");
        return None;
    }
    let Some(path) = loader.find(given) else {
        errors.of(FaultKind::Missing, node, format!("no such file: {}", loader.tried(given)));
        return None;
    };
    Some((path, node))
}

fn chain<'n>(id: &str, node: &'n Node, errors: &mut QueryErrors, loader: &mut Loader) -> DraftChain<'n> {
    let mut draft = DraftChain { id: id.to_owned(), node, crop: None, hotspots: Vec::new(), msa: None };
    match &node.value {
        Value::Null => return draft,
        Value::Text(text) if is_whole(text) => return draft,
        Value::Map(_) => {}
        _ => {
            let message = format!("must be all, or a map of crop, hotspots and msa, not {}", node.kind());
            errors.at(node, message);
            return draft;
        }
    }
    let Some(fields) = errors.fields(node, &CHAIN) else { return draft };
    draft.crop = fields.get("crop").and_then(|node| crop(node, errors));
    draft.hotspots = fields.get("hotspots").map(|node| hotspots(node, errors)).unwrap_or_default();
    draft.msa = fields.get("msa").and_then(|node| msa(node, errors, loader));
    draft
}

fn is_whole(text: &str) -> bool {
    text.eq_ignore_ascii_case("all") || text.eq_ignore_ascii_case("full")
}

/// `"1-50,80"`, `["1-50", 80]`, or `all`.
fn crop<'n>(node: &'n Node, errors: &mut QueryErrors) -> Option<Vec<(Range, &'n Node)>> {
    let mut ranges = Vec::new();
    let mut read = |text: &str, node: &'n Node, errors: &mut QueryErrors| {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match range(part) {
                None => errors.at(node, format!("{part:?} is no range of residues: write such as 1-50 or 7")),
                Some(r) if r.from.value > r.to.value => {
                    errors.at(node, format!("{part}: the range ends before it begins: write {}-{}", r.to, r.from));
                }
                Some(r) => ranges.push((r, node)),
            }
        }
    };
    match &node.value {
        Value::Text(text) if is_whole(text) => return None,
        Value::Text(text) => read(text, node, errors),
        Value::List(items) => {
            for item in items {
                if let Some(text) = errors.text(item) {
                    read(text, item, errors);
                }
            }
        }
        Value::Number(n) => {
            errors.at(node, format!("is the number {n}, which PXDesign passes over: write [{n}] for this one residue"));
        }
        _ => errors.at(node, format!("must be ranges such as [\"1-50\", \"80-100\"], not {}", node.kind())),
    }
    if matches!(&node.value, Value::Text(t) if t.trim().is_empty())
        || matches!(&node.value, Value::List(l) if l.is_empty())
    {
        errors.at(node, "has no range: write such as [\"1-50\"], or leave it out to keep the whole chain");
    }
    Some(ranges)
}

fn hotspots<'n>(node: &'n Node, errors: &mut QueryErrors) -> Vec<(Number, &'n Node)> {
    let mut found = Vec::new();
    let mut read = |item: &'n Node, errors: &mut QueryErrors| match &item.value {
        Value::Number(text) | Value::Text(text) => match number(text) {
            Some(number) => found.push((number, item)),
            None => {
                errors.at(item, format!("{text:?} is no residue: write single numbers in a list, such as [40, 99]"));
            }
        },
        _ => errors.at(item, format!("must be a residue's number, not {}", item.kind())),
    };
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| read(item, errors)),
        Value::Number(_) => read(node, errors),
        Value::Text(text) => {
            let list = text.split(',').map(str::trim).collect::<Vec<_>>().join(", ");
            errors.at(node, format!("must be a list of residues, not a text: write [{list}]"));
        }
        _ => errors.at(node, format!("must be a list of residues such as [40, 99], not {}", node.kind())),
    }
    found
}

/// A folder with both alignments.
fn msa(node: &Node, errors: &mut QueryErrors, loader: &mut Loader) -> Option<PathBuf> {
    let given = errors.text(node)?;
    if given.is_empty() {
        return None;
    }
    let mut folder = None;
    for name in [PAIRING_MSA, MAIN_MSA] {
        let file = format!("{}/{name}", given.trim_end_matches('/'));
        match loader.find(&file) {
            Some(path) => folder = path.parent().map(Path::to_owned),
            None => errors.of(FaultKind::Missing, node, format!("no such file: {}", loader.tried(&file))),
        }
    }
    folder
}

/// Reads the JSON form: a list of tasks.
pub(super) fn json<'n>(root: &'n Node, errors: &mut QueryErrors, loader: &mut Loader) -> Vec<Draft<'n>> {
    let Some(items) = errors.items(root) else { return Vec::new() };
    if items.is_empty() {
        errors.at(root, "holds no task");
    }
    let drafts: Vec<Draft<'n>> = items.iter().filter_map(|item| json_task(item, errors, loader)).collect();
    for (i, draft) in drafts.iter().enumerate() {
        if drafts[..i].iter().any(|other| other.name == draft.name && !draft.name.is_empty()) {
            errors.at(root, format!("two tasks are called {:?}: results are named after it", draft.name));
        }
    }
    drafts
}

fn json_task<'n>(node: &'n Node, errors: &mut QueryErrors, loader: &mut Loader) -> Option<Draft<'n>> {
    let fields = errors.fields(node, &["name", "condition", "hotspot", "generation", "covalent_bonds", "sequences"])?;
    for key in ["covalent_bonds", "sequences"] {
        if let Some(node) = fields.get(key) {
            errors.at(node, "is not served: fold design makes one protein binder against chains of a structure");
        }
    }
    let name = match fields.get("name") {
        Some(node) => errors.text(node).map(str::to_owned).filter(|name| check_name(name, node, errors)),
        None => {
            errors.at(node, "has no \"name\": results are named after it");
            None
        }
    };
    let binder_length = generation(node, fields.get("generation").copied(), errors);
    let Some(condition) = fields.get("condition") else {
        errors.at(node, "has no \"condition\": fold design makes binders against a target");
        return None;
    };
    let inner = errors.fields(condition, &["structure_file", "filter", "msa"])?;
    let file = structure_file(condition, inner.get("structure_file").copied(), "structure_file", errors, loader);
    let Some(filter) = inner.get("filter") else {
        errors.at(condition, "has no \"filter\": name the target's chains in chain_id");
        return None;
    };
    let filter = errors.fields(filter, &["chain_id", "crop"])?;
    let mut chains: Vec<DraftChain<'n>> = Vec::new();
    match filter.get("chain_id").map(|ids| (ids, errors.items(ids))) {
        None => errors.at(condition, "has no \"filter.chain_id\": name the target's chains"),
        Some((_, None)) => {}
        Some((ids, Some(items))) => {
            for item in items {
                let Some(id) = errors.text(item) else { continue };
                if chains.iter().any(|c| c.id == id) {
                    errors.at(item, format!("chain {id:?} is there twice"));
                }
                let id = id.to_owned();
                chains.push(DraftChain { id, node: item, crop: None, hotspots: Vec::new(), msa: None });
            }
            if items.is_empty() {
                errors.at(ids, "names no chain");
            }
        }
    }
    if let Some(node) = filter.get("crop") {
        for (at, node) in of_chains(node, &chains, errors) {
            chains[at].crop = crop(node, errors);
        }
    }
    if let Some(node) = fields.get("hotspot") {
        for (at, node) in of_chains(node, &chains, errors) {
            chains[at].hotspots = hotspots(node, errors);
        }
    }
    if let Some(node) = inner.get("msa") {
        for (at, node) in of_chains(node, &chains, errors) {
            let Some(fields) = errors.fields(node, &["precomputed_msa_dir", "pairing_db"]) else { continue };
            chains[at].msa = fields.get("precomputed_msa_dir").and_then(|node| msa(node, errors, loader));
        }
    }
    Some(Draft { name: name.unwrap_or_default(), file, chains, binder_length })
}

/// The entries of a map by chain, with the index of the chain; nothing counts as absent.
fn of_chains<'n>(node: &'n Node, chains: &[DraftChain<'_>], errors: &mut QueryErrors) -> Vec<(usize, &'n Node)> {
    let entries = errors.entries(node).unwrap_or_default();
    let mut found = Vec::new();
    for (id, node) in entries {
        match chains.iter().position(|c| c.id == id) {
            Some(at) if node.value != Value::Null => found.push((at, node)),
            Some(_) => {}
            None => {
                let known: Vec<&str> = chains.iter().map(|c| c.id.as_str()).collect();
                errors.at(node, format!("chain {id:?} is not in filter.chain_id, which has {}", known.join(", ")));
            }
        }
    }
    found
}

/// The binder's length from the list of chains to make.
fn generation(of: &Node, node: Option<&Node>, errors: &mut QueryErrors) -> Option<usize> {
    let Some(node) = node else {
        errors.at(of, "has no \"generation\": give [{\"type\": \"protein\", \"length\": 80, \"count\": 1}]");
        return None;
    };
    let items = errors.items(node)?;
    let [item] = items else {
        errors.at(node, format!("has {} chains to make: fold design makes one binder", items.len()));
        return None;
    };
    let fields = errors.fields(item, &["type", "length", "count"])?;
    if let Some(node) = fields.get("type")
        && errors.text(node).is_some_and(|kind| kind != "protein")
    {
        errors.at(node, "must be protein");
    }
    if let Some(node) = fields.get("count") {
        errors.whole(node, 1, 1);
    }
    length(item, fields.get("length").copied(), "length", errors)
}
