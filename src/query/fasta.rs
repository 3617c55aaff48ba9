//! FASTA as a query: each record is one query, named by the first word of its header; `:` separates its chains, as in
//! ColabFold. Chains are named A, B, ... in order.
use std::collections::HashMap;
use std::path::Path;

use super::{Chain, Query, QueryErrors, QuerySet, chain_id, clean_name, sequence_faults};
use crate::io::fasta;

/// Reads a FASTA text; `None`: there are faults.
pub(super) fn read(text: &str, path: &Path, errors: &mut QueryErrors) -> Option<QuerySet> {
    let records = match fasta::parse(text) {
        Ok(records) => records,
        Err(line) => {
            errors.data(line, "", "a sequence without a '>' line before it");
            return None;
        }
    };
    if records.is_empty() {
        errors.data(0, "", "holds no record");
    }
    let mut lines = HashMap::new();
    let mut queries = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let mut name = clean_name(record.header.split_whitespace().next().unwrap_or_default());
        if name.is_empty() {
            let stem = path.file_stem().map(|s| clean_name(&s.to_string_lossy())).filter(|s| !s.is_empty());
            let stem = stem.unwrap_or_else(|| "query".to_owned());
            name = if records.len() == 1 { stem } else { format!("{stem}_{}", i + 1) };
        }
        let place = format!("record {name}");
        if let Some(first) = lines.insert(name.clone(), record.line) {
            errors.data(record.line, &place, format!("the name is used twice, first on line {first}"));
        }
        if record.sequence.is_empty() {
            errors.data(record.line, &place, "has no sequence");
            continue;
        }
        let mut chains = Vec::new();
        for (k, part) in record.sequence.split(':').enumerate() {
            let id = chain_id(k);
            let place = if record.sequence.contains(':') { format!("{place}, chain {id}") } else { place.clone() };
            if let Some((kind @ ("dna" | "rna" | "ccd" | "smiles"), _)) =
                part.split_once('|').map(|(k, s)| (k.to_ascii_lowercase(), s)).as_ref().map(|(k, s)| (k.as_str(), s))
            {
                errors.data(record.line, &place, format!("{kind} is not served yet: fold predicts protein chains"));
                continue;
            }
            if part.is_empty() {
                errors.data(record.line, &place, "is empty: ':' must stand between two chains");
            }
            let sequence = part.to_ascii_uppercase();
            for message in sequence_faults(&sequence) {
                errors.data(record.line, &place, message);
            }
            chains.push(Chain::new(vec![id], sequence));
        }
        queries.push(Query::new(name, chains));
    }
    Some(QuerySet { seeds: None, queries })
}
