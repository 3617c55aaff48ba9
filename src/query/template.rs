//! Structures that a query gives for a chain: `"templates": [{"path": "1abc.cif", "chain_id": "A"}]`, beside it, if wanted, which residue
//! stands for which, as in AlphaFold 3's JSON: `query_indices` and `template_indices`, from 0, in the template's whole sequence.
use std::path::PathBuf;
use std::sync::Arc;

use super::FaultKind;
use super::json::{Fields, Node, Reader};
use super::msa::Loader;
use crate::chem::restype;
use crate::io::coordinates::{self, Residue};

/// A structure for a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Where it was read.
    pub path: PathBuf,
    /// The chain that is named, or all chains of peptides; at least one.
    pub chains: Arc<Vec<TemplateChain>>,
    /// Which residues stand for each other, query and template; then there is one chain. `None`: they are to be aligned.
    pub pairs: Option<Vec<(usize, usize)>>,
}

/// A chain of peptides.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateChain {
    /// The authors' id.
    pub id: String,
    /// mmCIF's id.
    pub label: String,
    /// `[n]`, 0-20.
    pub restype: Vec<u8>,
    /// The residues, those without coordinates too, where the file tells them.
    pub residues: Vec<Residue>,
}

const KEYS: [&str; 7] =
    ["path", "mmcifPath", "chain_id", "query_indices", "queryIndices", "template_indices", "templateIndices"];
/// Templates that AF2 takes.
const MAX_TEMPLATES: usize = 4;

/// Chains of peptides of a structure file's text.
///
/// # Errors
/// What is wrong with the file.
pub fn template_chains(text: &str) -> Result<Vec<TemplateChain>, String> {
    let chains = coordinates::parse(text).map_err(|fault| fault.to_string())?;
    let chain = |chain: coordinates::Chain| {
        // Waters and ligands have no sequence to be in; a modified residue has its parent's letter.
        let residues: Vec<Residue> =
            chain.residues.into_iter().filter(|r| !r.hetero || restype::of_code(&r.code).is_some()).collect();
        let restype: Vec<u8> = residues.iter().map(|r| restype::of_code(&r.code).unwrap_or(restype::UNKNOWN)).collect();
        TemplateChain { id: chain.id, label: chain.label, restype, residues }
    };
    let is_peptide = |chain: &TemplateChain| chain.residues.iter().any(|r| r.atoms.iter().any(|a| a.name == "CA"));
    let chains: Vec<_> = chains.into_iter().map(chain).filter(is_peptide).collect();
    if chains.is_empty() { Err("no chain of amino acids".to_owned()) } else { Ok(chains) }
}

/// The templates of a chain of `n_res` residues.
pub(super) fn read(
    node: &Node<'_, '_>,
    n_res: Option<usize>,
    reader: &mut Reader<'_>,
    loader: &mut Loader,
) -> Vec<Template> {
    let items = reader.items(node).unwrap_or_default();
    if items.len() > MAX_TEMPLATES {
        reader.fault(node, format!("has {} templates: AF2 takes {MAX_TEMPLATES} of a chain", items.len()));
    }
    items.iter().filter_map(|item| one(item, n_res, reader, loader)).collect()
}

/// Residues of query and template that stand for each other, and where the file says so.
type Given<'v, 't> = Option<(Vec<(usize, usize)>, Node<'v, 't>)>;

fn one(node: &Node<'_, '_>, n_res: Option<usize>, reader: &mut Reader<'_>, loader: &mut Loader) -> Option<Template> {
    let fields = reader.fields(node, &KEYS)?;
    let Some(path_node) = field(&fields, ["path", "mmcifPath"]) else {
        reader.fault(node, "has no \"path\" of an mmCIF or PDB file");
        return None;
    };
    let given = reader.string(path_node)?;
    let id = match fields.get("chain_id") {
        Some(node) => Some((reader.string(node)?, node)),
        None => None,
    };
    let pairs = pairs(node, &fields, n_res, reader)?;
    let Some(path) = loader.find(&given) else {
        let message = format!("no such file: {}", loader.tried(&given));
        reader.fault_of(FaultKind::Missing, path_node, message);
        return None;
    };
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => {
            reader.fault_of(FaultKind::Io, path_node, format!("{}: cannot be read: {e}", path.display()));
            return None;
        }
    };
    let mut chains = match template_chains(&text) {
        Ok(chains) => chains,
        Err(message) => {
            reader.fault(path_node, format!("{}: {message}", path.display()));
            return None;
        }
    };
    let ids = chains.iter().map(|c| c.id.clone()).collect::<Vec<_>>().join(", ");
    if let Some((id, node)) = id {
        // The authors' id first: it is the one that papers and viewers show.
        let at = chains.iter().position(|c| c.id == id).or_else(|| chains.iter().position(|c| c.label == id));
        let Some(at) = at else {
            reader.fault(node, format!("{} has no chain {id:?}: its chains are {ids}", path.display()));
            return None;
        };
        chains = vec![chains.swap_remove(at)];
    }
    if let Some((pairs, node)) = &pairs {
        let [chain] = &chains[..] else {
            reader.fault(node, format!("{} has the chains {ids}: say which with chain_id", path.display()));
            return None;
        };
        let n = chain.residues.len();
        if let Some((_, i)) = pairs.iter().find(|(_, i)| *i >= n) {
            let message = format!("index {i} is beyond the {n} residues of chain {}; they count from 0", chain.id);
            reader.fault(node, message);
            return None;
        }
    }
    Some(Template { path, chains: Arc::new(chains), pairs: pairs.map(|(pairs, _)| pairs) })
}

/// A field that has two spellings.
fn field<'f, 'v, 't>(fields: &'f Fields<'v, 't>, names: [&'static str; 2]) -> Option<&'f Node<'v, 't>> {
    names.iter().find_map(|name| fields.get(name))
}

/// The indices that are given; the outer `None`: they have faults.
fn pairs<'v, 't>(
    node: &Node<'v, 't>,
    fields: &Fields<'v, 't>,
    n_res: Option<usize>,
    reader: &mut Reader<'_>,
) -> Option<Given<'v, 't>> {
    let names = [["query_indices", "queryIndices"], ["template_indices", "templateIndices"]];
    let [query, template] = match names.map(|names| field(fields, names)) {
        [None, None] => return Some(None),
        [Some(query), Some(template)] => [query, template],
        [query, _] => {
            let missing = if query.is_some() { "template_indices" } else { "query_indices" };
            let message =
                format!("has no {missing}: give both lists of indices, or none to have the sequences aligned");
            reader.fault(node, message);
            return None;
        }
    };
    let lists = [query, template].map(|list| {
        let items = reader.items(list)?;
        items.iter().map(|item| reader.whole(item, 100_000).map(|i| i as usize)).collect::<Option<Vec<_>>>()
    });
    let [Some(of_query), Some(of_template)] = lists else { return None };
    if of_query.len() != of_template.len() {
        let message = format!("has {} indices, query_indices has {}", of_template.len(), of_query.len());
        reader.fault(template, message);
        return None;
    }
    if let Some(n) = n_res
        && let Some(i) = of_query.iter().find(|i| **i >= n)
    {
        reader.fault(query, format!("index {i} is beyond the chain's {n} residues; they count from 0"));
        return None;
    }
    Some(Some((of_query.into_iter().zip(of_template).collect(), template.clone())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Query, parse};

    fn query(template: &str) -> Result<Query, String> {
        let text = format!(
            r#"{{"queries": {{"q": {{"chains": [{{"molecule_type": "protein", "chain_ids": "A", "sequence": "MKVL",
                "templates": [{template}]}}]}}}}}}"#
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/af2/q.json");
        parse(&path, text.as_bytes()).map(|mut set| set.queries.remove(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn chains_are_found_by_either_id() {
        let chain = |template: &str| {
            let template = query(template).unwrap().chains.remove(0).templates.remove(0);
            template.chains.iter().map(|c| (c.id.clone(), c.residues.len())).collect::<Vec<_>>()
        };
        let (x, y) = (("X".to_owned(), 12), ("Y".to_owned(), 7));
        assert_eq!(chain(r#"{"path": "template.cif"}"#), [x.clone(), y.clone()]);
        assert_eq!(chain(r#"{"mmcifPath": "template.cif", "chain_id": "B"}"#), [y]);
        assert_eq!(chain(r#"{"path": "template.pdb", "chain_id": "X"}"#), [("X".to_owned(), 9)]);
        let given =
            r#"{"path": "template.cif", "chain_id": "X", "query_indices": [0, 3], "template_indices": [2, 11]}"#;
        assert_eq!(query(given).unwrap().chains[0].templates[0].pairs, Some(vec![(0, 2), (3, 11)]));
    }

    #[test]
    fn faults_of_templates() {
        let fails = |template: &str, said: &str| {
            let message = query(template).unwrap_err();
            assert!(
                message.contains("q.json:2: $.queries.q.chains[0].templates[0]") && message.contains(said),
                "{message}"
            );
        };
        fails("{}", "has no \"path\" of an mmCIF or PDB file");
        fails(r#"{"path": "none.cif"}"#, "no such file: neither");
        fails(r#"{"path": "msa.a3m"}"#, "msa.a3m: line 1: no atom: an mmCIF or PDB file is needed");
        fails(r#"{"path": "template.cif", "chain_id": "Z"}"#, "has no chain \"Z\": its chains are X, Y");
        fails(r#"{"path": "template.cif", "query_indices": [0]}"#, "has no template_indices: give both lists");
        let indices = |query: &str, template: &str| {
            format!(
                r#"{{"path": "template.cif", "chain_id": "X", "query_indices": {query}, "template_indices": {template}}}"#
            )
        };
        fails(&indices("[0, 1]", "[0]"), "has 1 indices, query_indices has 2");
        fails(&indices("[4]", "[0]"), "index 4 is beyond the chain's 4 residues; they count from 0");
        fails(&indices("[0]", "[12]"), "index 12 is beyond the 12 residues of chain X; they count from 0");
        fails(
            &indices("[0]", "[0]").replace(r#""chain_id": "X","#, ""),
            "has the chains X, Y: say which with chain_id",
        );
        let five = [r#"{"path": "template.cif"}"#; 5].join(", ");
        assert!(query(&five).unwrap_err().contains("has 5 templates: AF2 takes 4 of a chain"));
    }
}
