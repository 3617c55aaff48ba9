//! The text table that turns official names into ours; see the head of `maps/openfold3-0.5.map` for its language.
use std::collections::{BTreeMap, HashMap};

use crate::MapError;

/// The table from which a checkpoint's names are read.
const ROOT: &str = "model";

/// A parsed name map.
#[derive(Debug)]
pub struct Map {
    layers: HashMap<String, Vec<Rule>>,
}

/// Where every tensor of a checkpoint goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Our name -> the checkpoint's tensors that are stacked along the first axis to make it; indices into the names.
    pub targets: BTreeMap<String, Vec<usize>>,
    /// Tensors left out on purpose.
    pub dropped: Vec<usize>,
}

#[derive(Debug)]
struct Rule {
    line: usize,
    /// A checkpoint may do without.
    optional: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Drop { what: Pattern, below: bool },
    Move { from: Vec<Pattern>, layer: Option<String>, to: Pattern },
}

/// A dotted name; `{i}` stands for one number.
#[derive(Debug, Clone)]
struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Number(String),
}

/// What stood for each `{i}`.
type Numbers<'a> = Vec<(&'a str, &'a str)>;

/// One way to read an official name.
struct Reading {
    /// `None` if it is dropped.
    target: Option<String>,
    /// Which of the `a + b` it is, of how many.
    part: (usize, usize),
    lines: Vec<usize>,
}

impl Map {
    /// Parses the text of a map.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let mut layers: HashMap<String, Vec<Rule>> = HashMap::new();
        let mut current = None;
        for (i, raw) in text.lines().enumerate() {
            let wrong = |problem: String| MapError { line: i + 1, problem };
            let line = raw.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix("layer ") {
                let name = name.trim().to_owned();
                if layers.insert(name.clone(), Vec::new()).is_some() {
                    return Err(wrong(format!("a second table {name}")));
                }
                current = Some(name);
                continue;
            }
            let Some(table) = current.as_ref().and_then(|name| layers.get_mut(name)) else {
                return Err(wrong("a rule before the first table".into()));
            };
            let (line, optional) = line.strip_prefix("optional ").map_or((line, false), |line| (line, true));
            table.push(Rule { line: i + 1, optional, kind: parse_rule(line).map_err(wrong)? });
        }
        let map = Self { layers };
        map.check()?;
        Ok(map)
    }

    /// Every table that is named exists, and every table is named.
    fn check(&self) -> Result<(), MapError> {
        let mut named = vec![ROOT];
        for rule in self.layers.values().flatten() {
            if let Kind::Move { layer: Some(layer), .. } = &rule.kind {
                if !self.layers.contains_key(layer) {
                    return Err(MapError { line: rule.line, problem: format!("no table {layer}") });
                }
                named.push(layer);
            }
        }
        match self.layers.keys().find(|name| !named.contains(&name.as_str())) {
            Some(name) => Err(MapError { line: 0, problem: format!("nothing uses the table {name}") }),
            None if !self.layers.contains_key(ROOT) => Err(MapError { line: 0, problem: format!("no table {ROOT}") }),
            None => Ok(()),
        }
    }

    /// Reads all names of a checkpoint. Fails with every name that no line or more than one line reads, every one that
    /// lacks its partner in `a + b`, and every line (but `drop` and `optional`) that no name has used.
    pub fn apply(&self, names: &[&str]) -> Result<Plan, Vec<String>> {
        let mut problems = Vec::new();
        let mut parts: BTreeMap<String, Vec<Option<usize>>> = BTreeMap::new();
        let mut dropped = Vec::new();
        let mut used = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let segments: Vec<&str> = name.split('.').collect();
            let mut readings = self.read(ROOT, &segments, "");
            let (Some(reading), true) = (readings.pop(), readings.is_empty()) else {
                let what = if readings.is_empty() { "is not known" } else { "is read by two lines of the map" };
                problems.push(format!("{name} {what}"));
                continue;
            };
            used.extend(reading.lines);
            let Some(target) = reading.target else {
                dropped.push(index);
                continue;
            };
            let (part, of) = reading.part;
            let slots = parts.entry(target.clone()).or_insert_with(|| vec![None; of]);
            if slots.len() != of || slots[part].is_some() {
                let other = slots.iter().flatten().next().map_or("another", |i| names[*i]);
                problems.push(format!("{name} and {other} both become {target}"));
            } else {
                slots[part] = Some(index);
            }
        }
        let mut targets = BTreeMap::new();
        for (target, sources) in parts {
            match sources.iter().copied().collect::<Option<Vec<_>>>() {
                Some(all) => drop(targets.insert(target, all)),
                None => {
                    let have: Vec<_> = sources.iter().flatten().map(|i| names[*i]).collect();
                    problems.push(format!("{} lacks the tensor it is stacked with into {target}", have.join(", ")));
                }
            }
        }
        for rule in self.layers.values().flatten().filter(|r| !r.optional && !used.contains(&r.line)) {
            if let Kind::Move { from, .. } = &rule.kind {
                let from: Vec<_> = from.iter().map(Pattern::to_string).collect();
                problems.push(format!("{} is missing (line {} of the map)", from.join(" and "), rule.line));
            }
        }
        if problems.is_empty() { Ok(Plan { targets, dropped }) } else { Err(problems) }
    }

    fn read(&self, layer: &str, name: &[&str], prefix: &str) -> Vec<Reading> {
        let mut readings = Vec::new();
        for rule in &self.layers[layer] {
            match &rule.kind {
                Kind::Drop { what, below } => {
                    if what.strip(name).is_some_and(|(rest, _)| rest.is_empty() != *below) {
                        readings.push(Reading { target: None, part: (0, 1), lines: vec![rule.line] });
                    }
                }
                Kind::Move { from, layer, to } => {
                    for (part, pattern) in from.iter().enumerate() {
                        let Some((rest, numbers)) = pattern.strip(name) else { continue };
                        let prefix = join(prefix, &to.fill(&numbers));
                        match layer {
                            Some(layer) => readings.extend(self.read(layer, rest, &prefix).into_iter().map(|mut r| {
                                r.lines.push(rule.line);
                                r
                            })),
                            None => readings.push(Reading {
                                target: Some(join(&prefix, &rest.join("."))),
                                part: (part, from.len()),
                                lines: vec![rule.line],
                            }),
                        }
                    }
                }
            }
        }
        readings
    }
}

fn parse_rule(line: &str) -> Result<Kind, String> {
    if let Some(what) = line.strip_prefix("drop ") {
        let what = what.trim();
        let (what, below) = what.strip_suffix(".**").map_or((what, false), |what| (what, true));
        return Ok(Kind::Drop { what: Pattern::parse(what)?, below });
    }
    let (from, to) = line.split_once("->").ok_or("neither a -> b nor drop a")?;
    let (from, layer) = match from.split_once(':') {
        Some((from, layer)) => (from, Some(layer.trim().to_owned())),
        None => (from, None),
    };
    let from = from.split('+').map(|a| Pattern::parse(a.trim())).collect::<Result<Vec<_>, _>>()?;
    if from.len() > 1 && layer.is_some() {
        return Err("a + b cannot have a table".into());
    }
    let to = if to.trim() == "." { Pattern(Vec::new()) } else { Pattern::parse(to.trim())? };
    for number in to.numbers() {
        if from.iter().any(|f| !f.numbers().contains(&number)) {
            return Err(format!("{{{number}}} is not on the left"));
        }
    }
    Ok(Kind::Move { from, layer, to })
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let part = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) if !name.is_empty() => Ok(Part::Number(name.to_owned())),
            None if !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                Ok(Part::Text(part.to_owned()))
            }
            _ => Err(format!("{text:?} is not a dotted name")),
        };
        text.split('.').map(part).collect::<Result<_, _>>().map(Self)
    }

    fn numbers(&self) -> Vec<&str> {
        self.0.iter().filter_map(|p| if let Part::Number(n) = p { Some(n.as_str()) } else { None }).collect()
    }

    /// What follows the pattern in `name`, and the numbers that stood for `{i}`.
    fn strip<'a>(&'a self, name: &'a [&'a str]) -> Option<(&'a [&'a str], Numbers<'a>)> {
        let (head, rest) = name.split_at_checked(self.0.len())?;
        let mut numbers = Vec::new();
        for (part, segment) in self.0.iter().zip(head) {
            match part {
                Part::Text(text) if text == segment => {}
                Part::Number(n) if !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) => {
                    numbers.push((n.as_str(), *segment));
                }
                _ => return None,
            }
        }
        Some((rest, numbers))
    }

    fn fill(&self, numbers: &Numbers<'_>) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Number(n) => numbers.iter().find(|(name, _)| name == n).expect("checked when parsed").1.to_owned(),
        };
        self.0.iter().map(part).collect::<Vec<_>>().join(".")
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            match part {
                Part::Text(text) => write!(f, "{dot}{text}")?,
                Part::Number(n) => write!(f, "{dot}{{{n}}}")?,
            }
        }
        Ok(())
    }
}

fn join(prefix: &str, rest: &str) -> String {
    match (prefix, rest) {
        ("", name) | (name, "") => name.to_owned(),
        _ => format!("{prefix}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        layer norm                  # a comment
        weight -> weight

        layer model
        a + b -> ab
        norm : norm -> n
        blocks.{i}.x -> layers.{i}.y
        head -> .
        drop version
        drop copy.**
    ";
    const NAMES: [&str; 8] =
        ["b.weight", "a.weight", "norm.weight", "blocks.0.x.bias", "blocks.11.x", "version", "copy.a.weight", "head.z"];

    #[test]
    fn names_are_moved_stacked_and_dropped() {
        let plan = Map::parse(TEXT).unwrap().apply(&NAMES).unwrap();
        let expected = [
            ("ab.weight", vec![1, 0]),
            ("n.weight", vec![2]),
            ("layers.0.y.bias", vec![3]),
            ("layers.11.y", vec![4]),
            ("z", vec![7]),
        ];
        assert_eq!(plan.targets, expected.into_iter().map(|(n, i)| (n.to_owned(), i)).collect());
        assert_eq!(plan.dropped, [5, 6]);
    }

    #[test]
    fn all_misfits_are_named_at_once() {
        let names = ["a.weight", "norm.bias", "blocks.x.x", "copy", "stray", "head.ab.weight"];
        let problems = Map::parse(TEXT).unwrap().apply(&names).unwrap_err().join("\n");
        for expected in [
            "norm.bias is not known",
            "blocks.x.x is not known",
            "copy is not known",
            "stray is not known",
            "head.ab.weight and a.weight both become ab.weight",
            "a.weight lacks the tensor it is stacked with into ab.weight",
            "weight is missing (line 3",
            "blocks.{i}.x is missing",
        ] {
            assert!(problems.contains(expected), "{expected} not in:\n{problems}");
        }
        assert!(!problems.contains("version"), "{problems}");
    }

    #[test]
    fn an_optional_line_may_go_unused() {
        let text = "layer model\na -> b\noptional c -> d";
        let map = Map::parse(text).unwrap();
        assert_eq!(map.apply(&["a.x"]).unwrap().targets.len(), 1);
        assert_eq!(map.apply(&["a.x", "c.x"]).unwrap().targets["d.x"], [1]);
        assert_eq!(map.apply(&["c.x"]).unwrap_err(), ["a is missing (line 2 of the map)"]);
    }

    #[test]
    fn a_name_read_twice_is_an_error() {
        let map = Map::parse("layer model\na -> b\na.x -> c").unwrap();
        assert_eq!(map.apply(&["a.x", "a.y"]).unwrap_err()[0], "a.x is read by two lines of the map");
    }

    #[test]
    fn malformed_lines_are_named() {
        for (text, line, problem) in [
            ("a -> b", 1, "before the first table"),
            ("layer model\na b", 2, "neither"),
            ("layer model\n\na : other -> b", 3, "no table other"),
            ("layer model\na -> b.{i}", 2, "{i} is not on the left"),
            ("layer model\na..c -> b", 2, "not a dotted name"),
            ("layer model\nlayer spare\na -> b", 0, "nothing uses the table spare"),
        ] {
            let error = Map::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }
}
