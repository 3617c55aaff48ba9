//! YAML and JSON as one tree with the line and the path of every value.
use std::collections::HashMap;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use saphyr_parser::{Event, Parser, ScalarStyle};

use super::super::json::{nearest, syntax_tree};
use super::super::{FaultKind, QueryErrors};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    /// `target.chains.A.crop[0]`; empty at the top.
    pub path: String,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A number as it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// Keys in the order of the file; a key may be there twice.
    Map(Vec<(String, Node)>),
}

/// The values of a map by key, those with known keys.
pub(super) type Fields<'n> = HashMap<&'static str, &'n Node>;

/// Most values of a file: an alias of an alias of an alias may mean very many.
const MAX_VALUES: usize = 200_000;

/// Reads JSON; a fault of syntax is noted.
pub(super) fn json(text: &str, errors: &mut QueryErrors) -> Option<Node> {
    let tree = syntax_tree(text, errors)?;
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
    Some(of_json(&tree, "$".to_owned(), &starts))
}

fn of_json(value: &ast::Value<'_>, path: String, starts: &[usize]) -> Node {
    let line = starts.partition_point(|&start| start <= value.start());
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(b) => Value::Bool(b.value),
        ast::Value::NumberLit(n) => Value::Number(n.value.to_owned()),
        ast::Value::StringLit(s) => Value::Text(s.value.to_string()),
        ast::Value::Array(list) => {
            let items = list.elements.iter().enumerate();
            Value::List(items.map(|(i, item)| of_json(item, format!("{path}[{i}]"), starts)).collect())
        }
        ast::Value::Object(object) => Value::Map(
            object
                .properties
                .iter()
                .map(|p| (p.name.as_str().to_owned(), of_json(&p.value, join(&path, p.name.as_str()), starts)))
                .collect(),
        ),
    };
    Node { value, path, line }
}

/// Reads the first document of a YAML text; a fault of syntax is noted.
pub(super) fn yaml(text: &str, errors: &mut QueryErrors) -> Option<Node> {
    let mut reader = Yaml { parser: Parser::new_from_str(text), anchors: HashMap::new(), n_value: 0 };
    match reader.document() {
        Ok(Some(node)) => Some(node),
        Ok(None) => {
            errors.data(1, "", "holds no value");
            None
        }
        Err((line, message)) => {
            errors.data(line, "", format!("not YAML: {message}"));
            None
        }
    }
}

struct Yaml<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Value>,
    n_value: usize,
}

/// Line and message.
type SyntaxFault = (usize, String);

impl<'t> Yaml<'t> {
    fn next(&mut self) -> Result<(Event<'t>, usize), SyntaxFault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(e)) => Err((e.marker().line(), format!("column {}: {}", e.marker().col() + 1, e.info()))),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, SyntaxFault> {
        loop {
            match self.next()? {
                (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(None),
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (event, line) => {
                    let node = self.node(event, line, String::new())?;
                    // What follows is read too, for its faults, but for a second document.
                    return match self.next()? {
                        (Event::DocumentEnd, _) => match self.next()? {
                            (Event::DocumentStart(_), line) => Err((line, "a second document begins".to_owned())),
                            _ => Ok(Some(node)),
                        },
                        _ => Ok(Some(node)),
                    };
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, line: usize, path: String) -> Result<Node, SyntaxFault> {
        self.n_value += 1;
        if self.n_value > MAX_VALUES {
            return Err((line, format!("more than {MAX_VALUES} values")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break (Value::List(items), anchor),
                        (event, line) => items.push(self.node(event, line, format!("{path}[{}]", items.len()))?),
                    }
                }
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break (Value::Map(entries), anchor),
                        (Event::Scalar(text, ..), line) => (text.into_owned(), line),
                        (_, line) => return Err((line, "a key must be a word".to_owned())),
                    };
                    let (event, _) = self.next()?;
                    let path = join(&path, &key.0);
                    let mut node = self.node(event, key.1, path)?;
                    node.line = key.1;
                    entries.push((key.0, node));
                }
            }
            Event::Alias(anchor) => {
                let Some(value) = self.anchors.get(&anchor).cloned() else {
                    return Err((line, "an alias of a value that contains it".to_owned()));
                };
                self.n_value += size(&value);
                (value, 0)
            }
            _ => return Err((line, "a value is missing".to_owned())),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(Node { value, path, line })
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(|n| size(&n.value)).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, n)| size(&n.value)).sum::<usize>(),
        _ => 1,
    }
}

/// A plain word by YAML's core schema; a quoted one is text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if text.starts_with(['+', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            && text.parse::<f64>().is_ok() =>
        {
            Value::Number(text.to_owned())
        }
        _ => Value::Text(text.to_owned()),
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

impl Node {
    pub fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(b) => format!("{b}"),
            Value::Number(n) => format!("the number {}", n.chars().take(24).collect::<String>()),
            Value::Text(t) => format!("the text {:?}", t.chars().take(24).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

impl QueryErrors {
    pub(super) fn at(&mut self, node: &Node, message: impl Into<String>) {
        self.data(node.line, &node.path, message);
    }

    pub(super) fn of(&mut self, kind: FaultKind, node: &Node, message: impl Into<String>) {
        self.add(kind, node.line, &node.path, message);
    }

    /// The entries of a map, each key once.
    pub(super) fn entries<'n>(&mut self, node: &'n Node) -> Option<Vec<(&'n str, &'n Node)>> {
        let Value::Map(entries) = &node.value else {
            self.at(node, format!("must be a map (key: value), not {}", node.kind()));
            return None;
        };
        let mut once: Vec<(&str, &Node)> = Vec::new();
        for (key, entry) in entries {
            match once.iter().find(|(other, _)| other == key) {
                Some((_, first)) => {
                    let line = first.line;
                    self.at(entry, format!("is there twice, first on line {line}"));
                }
                None => once.push((key, entry)),
            }
        }
        Some(once)
    }

    /// The entries of a map whose keys are among `known`; a value of nothing counts as absent, another key is a fault.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, known: &[&'static str]) -> Option<Fields<'n>> {
        let mut fields = Fields::new();
        for (key, entry) in self.entries(node)? {
            match known.iter().find(|name| **name == key) {
                Some(name) if entry.value != Value::Null => {
                    fields.insert(name, entry);
                }
                Some(_) => {}
                None => {
                    let hint = match nearest(key, known) {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => format!("known here: {}", known.join(", ")),
                    };
                    self.at(entry, format!("unknown key; {hint}"));
                }
            }
        }
        Some(fields)
    }

    pub(super) fn items<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.at(node, format!("must be a list [...], not {}", node.kind()));
                None
            }
        }
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            // A chain or a file may be called 1.
            Value::Number(text) => Some(text),
            _ => {
                self.at(node, format!("must be a text, not {}", node.kind()));
                None
            }
        }
    }

    /// A whole number `min..=max`.
    pub(super) fn whole(&mut self, node: &Node, min: i64, max: i64) -> Option<i64> {
        let number = match &node.value {
            Value::Number(text) => text.parse::<i64>().ok().filter(|n| (min..=max).contains(n)),
            _ => None,
        };
        if number.is_none() {
            self.at(node, format!("must be a whole number from {min} to {max}, not {}", node.kind()));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        let mut errors = QueryErrors { file: "t.yaml".into(), faults: Vec::new() };
        yaml(text, &mut errors).ok_or_else(|| errors.to_string())
    }

    #[test]
    fn values_have_lines_and_paths() {
        let node = read("# c\na: 1\nb:\n  - x\n  - \"2\"\n  - {k: null, 'l m': -3}\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        assert_eq!(entries[0].1, Node { value: Value::Number("1".into()), path: "a".into(), line: 2 });
        let Value::List(items) = &entries[1].1.value else { panic!("{node:?}") };
        assert_eq!((items[1].line, items[1].path.as_str(), &items[1].value), (5, "b[1]", &Value::Text("2".into())));
        let Value::Map(entries) = &items[2].value else { panic!("{node:?}") };
        assert_eq!((&entries[0].1.value, entries[1].1.path.as_str()), (&Value::Null, "b[2][\"l m\"]"));
    }

    #[test]
    fn the_json_form_has_the_same_tree() {
        let mut errors = QueryErrors { file: "t.json".into(), faults: Vec::new() };
        let node = json("[{\"a\": [1,\n \"x\"]}]", &mut errors).unwrap();
        let Value::List(items) = &node.value else { panic!("{node:?}") };
        let Value::Map(entries) = &items[0].value else { panic!("{node:?}") };
        let Value::List(items) = &entries[0].1.value else { panic!("{node:?}") };
        assert_eq!((items[1].path.as_str(), items[1].line), ("$[0].a[1]", 2));
    }

    #[test]
    fn faults_of_syntax_have_lines() {
        assert!(read("a: 1\nb: *none\n").unwrap_err().starts_with("t.yaml:2: not YAML: column"));
        assert!(read("").unwrap_err().contains("holds no value"));
        assert!(read("a: 1\n---\nb: 1\n").unwrap_err().contains("a second document begins"));
        assert_eq!(read("a: &x [1, 2]\nb: *x\n").map(|n| size(&n.value)).unwrap(), 7);
    }
}
