//! JSON values with their place in the file, and readers of them that note faults instead of stopping.
use std::collections::BTreeMap;

use jsonc_parser::ast::{ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{FaultKind, QueryErrors};

/// Strict JSON: what any other program reads too.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// A value and where it is.
#[derive(Clone)]
pub(super) struct Node<'v, 't> {
    pub value: &'v Value<'t>,
    /// `$.queries.q.chains[0]`
    pub path: String,
    pub line: usize,
}

/// Lines of a text and the faults found in it.
pub(super) struct Reader<'e> {
    line_starts: Vec<usize>,
    pub errors: &'e mut QueryErrors,
}

/// The entries of an object by key, those with known keys.
pub(super) type Fields<'v, 't> = BTreeMap<&'static str, Node<'v, 't>>;

/// Parses a text; a fault of syntax is noted with its line and column.
pub(super) fn syntax_tree<'t>(text: &'t str, errors: &mut QueryErrors) -> Option<Value<'t>> {
    match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(result) => {
            if result.value.is_none() {
                errors.data(1, "", "holds no JSON value");
            }
            result.value
        }
        Err(e) => {
            let (line, column) = (e.line_display(), e.column_display());
            errors.data(line, "", format!("column {column}: not JSON: {}", e.kind()));
            None
        }
    }
}

impl<'e> Reader<'e> {
    pub fn new(text: &str, errors: &'e mut QueryErrors) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { line_starts, errors }
    }

    pub fn root<'v, 't>(&self, value: &'v Value<'t>) -> Node<'v, 't> {
        Node { value, path: "$".to_owned(), line: self.line(value) }
    }

    pub fn fault(&mut self, node: &Node<'_, '_>, message: impl Into<String>) {
        self.errors.data(node.line, &node.path, message);
    }

    pub fn fault_of(&mut self, kind: FaultKind, node: &Node<'_, '_>, message: impl Into<String>) {
        self.errors.add(kind, node.line, &node.path, message);
    }

    fn line(&self, value: &impl Ranged) -> usize {
        self.line_starts.partition_point(|&start| start <= value.start())
    }

    /// The entries of an object in their order; a key that is there twice is a fault.
    pub fn entries<'v, 't>(&mut self, node: &Node<'v, 't>) -> Option<Vec<(String, Node<'v, 't>)>> {
        let Value::Object(object) = node.value else {
            self.fault(node, format!("must be an object {{...}}, not {}", kind(node.value)));
            return None;
        };
        let mut entries: Vec<(String, Node<'v, 't>)> = Vec::new();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for property in &object.properties {
            let (key, entry) = self.entry(node, property);
            if let Some(first) = lines.get(&key) {
                self.errors.data(entry.line, &entry.path, format!("is there twice, first on line {first}"));
            } else {
                lines.insert(key.clone(), entry.line);
                entries.push((key, entry));
            }
        }
        Some(entries)
    }

    fn entry<'v, 't>(&self, of: &Node<'v, 't>, property: &'v ObjectProp<'t>) -> (String, Node<'v, 't>) {
        let key = property.name.as_str().to_owned();
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let path = if plain { format!("{}.{key}", of.path) } else { format!("{}[{key:?}]", of.path) };
        (key, Node { value: &property.value, path, line: self.line(property) })
    }

    /// The entries of an object whose keys are among `known`; `null` counts as absent, another key is a fault.
    pub fn fields<'v, 't>(&mut self, node: &Node<'v, 't>, known: &[&'static str]) -> Option<Fields<'v, 't>> {
        let mut fields = Fields::new();
        for (key, entry) in self.entries(node)? {
            if let Some(name) = known.iter().find(|name| **name == key) {
                if !matches!(entry.value, Value::NullKeyword(_)) {
                    fields.insert(name, entry);
                }
            } else {
                let hint = match nearest(&key, known) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.fault(&entry, format!("unknown key; {hint}"));
            }
        }
        Some(fields)
    }

    pub fn string(&mut self, node: &Node<'_, '_>) -> Option<String> {
        match node.value {
            Value::StringLit(s) => Some(s.value.to_string()),
            other => {
                self.fault(node, format!("must be a string, not {}", kind(other)));
                None
            }
        }
    }

    pub fn boolean(&mut self, node: &Node<'_, '_>) -> Option<bool> {
        match node.value {
            Value::BooleanLit(b) => Some(b.value),
            other => {
                self.fault(node, format!("must be true or false, not {}", kind(other)));
                None
            }
        }
    }

    pub fn items<'v, 't>(&mut self, node: &Node<'v, 't>) -> Option<Vec<Node<'v, 't>>> {
        match node.value {
            Value::Array(array) => {
                let item = |(i, value)| Node { value, path: format!("{}[{i}]", node.path), line: self.line(value) };
                Some(array.elements.iter().enumerate().map(item).collect())
            }
            other => {
                self.fault(node, format!("must be a list [...], not {}", kind(other)));
                None
            }
        }
    }

    /// A string, or a list of strings, each with its place.
    pub fn strings<'v, 't>(&mut self, node: &Node<'v, 't>) -> Option<Vec<(String, Node<'v, 't>)>> {
        match node.value {
            Value::StringLit(_) => Some(vec![(self.string(node)?, node.clone())]),
            Value::Array(_) => {
                let items = self.items(node)?;
                let strings: Vec<_> = items.into_iter().map(|item| self.string(&item).map(|s| (s, item))).collect();
                strings.into_iter().collect()
            }
            other => {
                self.fault(node, format!("must be a string or a list of strings, not {}", kind(other)));
                None
            }
        }
    }

    /// A whole number 0..=max.
    pub fn whole(&mut self, node: &Node<'_, '_>, max: u32) -> Option<u32> {
        let number = match node.value {
            Value::NumberLit(n) => n.value.parse::<u32>().ok().filter(|&n| n <= max),
            _ => None,
        };
        if number.is_none() {
            let found = match node.value {
                Value::NumberLit(n) => n.value.chars().take(24).collect(),
                other => kind(other).to_owned(),
            };
            self.fault(node, format!("must be a whole number from 0 to {max}, not {found}"));
        }
        number
    }
}

/// Is it an empty list or object?
pub(super) fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Array(array) => array.elements.is_empty(),
        Value::Object(object) => object.properties.is_empty(),
        _ => false,
    }
}

/// The known word that is written most alike, if any is.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let folded = |s: &str| s.to_lowercase().replace(['-', ' '], "_");
    let word = folded(word);
    let of = |known: &str| strsim::normalized_damerau_levenshtein(&word, &folded(known));
    let best = known.iter().copied().max_by(|a, b| of(a).total_cmp(&of(b)))?;
    (of(best) >= 0.6).then_some(best)
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "true or false",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::NullKeyword(_) => "null",
    }
}
