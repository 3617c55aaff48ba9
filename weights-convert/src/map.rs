//! The text table that turns official names into ours; see the head of `maps/openfold3-0.5.map` for its language, and of
//! `maps/af2-layers.map` for what JAX files need besides.
use std::collections::{BTreeMap, HashMap};

use crate::MapError;
use crate::axes::Axes;

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
    /// Our name -> what is stacked along the first axis to make it.
    pub targets: BTreeMap<String, Vec<Source>>,
    /// Tensors left out on purpose.
    pub dropped: Vec<usize>,
}

/// A tensor of a checkpoint, or one layer of a stack of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which tensor: an index into the names.
    pub tensor: usize,
    /// Which of its first axis, if that is the layer.
    pub layer: Option<usize>,
    /// In what order its axes are written; as they are if none is given.
    pub(crate) axes: Option<Axes>,
}

/// Name and shape of a tensor of a checkpoint.
pub type Named<'a> = (&'a str, &'a [usize]);

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
    Move { from: Vec<Pattern>, layer: Option<String>, to: Pattern, axes: Option<Axes> },
}

/// A dotted name; `{i}` stands for one number, `{#}` on the right for the number of a layer in a stack.
#[derive(Debug, Clone)]
struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Number(String),
    Layer,
}

/// Stands for the number of a layer in a target; no name has it.
const LAYER: &str = "{#}";

/// What stood for each `{i}`.
type Numbers<'a> = Vec<(&'a str, &'a str)>;

/// One way to read an official name.
struct Reading {
    /// `None` if it is dropped.
    target: Option<String>,
    /// Which of the `a + b` it is, of how many.
    part: (usize, usize),
    axes: Option<Axes>,
    lines: Vec<usize>,
}

impl Map {
    /// Parses the text of a map.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let mut layers: HashMap<String, Vec<Rule>> = HashMap::new();
        let mut current = None;
        for (i, raw) in text.lines().enumerate() {
            let wrong = |problem: String| MapError { line: i + 1, problem };
            let line = without_comment(raw).trim();
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
            if let Some(name) = line.strip_prefix("more ") {
                let name = name.trim();
                if !layers.contains_key(name) {
                    return Err(wrong(format!("no table {name} to go on with")));
                }
                current = Some(name.to_owned());
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
    pub fn apply(&self, names: &[Named<'_>]) -> Result<Plan, Vec<String>> {
        let mut problems = Vec::new();
        let mut parts = Parts::new();
        let mut dropped = Vec::new();
        let mut used = Vec::new();
        for (index, (name, _)) in names.iter().enumerate() {
            let segments: Vec<&str> = name.split('.').collect();
            let readings = self.read(ROOT, &segments, "");
            let of_parts = readings.iter().all(|r| r.axes.as_ref().is_some_and(Axes::takes_a_part));
            if readings.is_empty() || (readings.len() > 1 && !of_parts) {
                let what = if readings.is_empty() { "is not known" } else { "is read by two lines of the map" };
                problems.push(format!("{name} {what}"));
                continue;
            }
            for reading in readings {
                used.extend_from_slice(&reading.lines);
                match &reading.target {
                    Some(target) => problems.extend(place(&mut parts, target, &reading, index, names)),
                    None => dropped.push(index),
                }
            }
        }
        let mut targets = BTreeMap::new();
        for (target, sources) in parts {
            match sources.iter().cloned().collect::<Option<Vec<_>>>() {
                Some(all) => drop(targets.insert(target, all)),
                None => {
                    let have: Vec<_> = sources.iter().flatten().map(|source| names[source.tensor].0).collect();
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
                        readings.push(Reading { target: None, part: (0, 1), axes: None, lines: vec![rule.line] });
                    }
                }
                Kind::Move { from, layer, to, axes } => {
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
                                axes: axes.clone(),
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

/// A line up to the first `#` that is not of a `{#}`.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices('#').find(|(at, _)| !line[..*at].ends_with('{'));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// What becomes of each target, by its place in `a + b`.
type Parts = BTreeMap<String, Vec<Option<Source>>>;

/// Notes that tensor `index`, or each of its layers, becomes `target`, or a part of it; says what is wrong with that.
fn place(parts: &mut Parts, target: &str, reading: &Reading, index: usize, names: &[Named<'_>]) -> Vec<String> {
    let (name, shape) = names[index];
    let layers: Vec<Option<usize>> = match (target.contains(LAYER), shape.first()) {
        (false, _) => vec![None],
        (true, Some(n)) => (0..*n).map(Some).collect(),
        (true, None) => return vec![format!("{name} is no stack of layers")],
    };
    let (part, of) = reading.part;
    let mut problems = Vec::new();
    for layer in layers {
        let target = layer.map_or_else(|| target.to_owned(), |n| target.replacen(LAYER, &n.to_string(), 1));
        let slots = parts.entry(target.clone()).or_insert_with(|| vec![None; of]);
        if slots.len() != of || slots[part].is_some() {
            let other = slots.iter().flatten().next().map_or("another", |source| names[source.tensor].0);
            problems.push(format!("{name} and {other} both become {target}"));
        } else {
            slots[part] = Some(Source { tensor: index, layer, axes: reading.axes.clone() });
        }
    }
    problems
}

fn parse_rule(line: &str) -> Result<Kind, String> {
    if let Some(what) = line.strip_prefix("drop ") {
        let what = what.trim();
        let (what, below) = what.strip_suffix(".**").map_or((what, false), |what| (what, true));
        return Ok(Kind::Drop { what: Pattern::parse(what)?, below });
    }
    let (line, axes) = match line.split_once('|') {
        Some((line, axes)) => (line, Some(Axes::parse(axes)?)),
        None => (line, None),
    };
    let (from, to) = line.split_once("->").ok_or("neither a -> b nor drop a")?;
    let (from, layer) = match from.split_once(':') {
        Some((from, layer)) => (from, Some(layer.trim().to_owned())),
        None => (from, None),
    };
    let from = from.split('+').map(|a| Pattern::parse(a.trim())).collect::<Result<Vec<_>, _>>()?;
    if from.len() > 1 && layer.is_some() {
        return Err("a + b cannot have a table".into());
    }
    if axes.is_some() && layer.is_some() {
        return Err("axes belong to a tensor, not to a table".into());
    }
    let to = if to.trim() == "." { Pattern(Vec::new()) } else { Pattern::parse(to.trim())? };
    for number in to.numbers() {
        if from.iter().any(|f| !f.numbers().contains(&number)) {
            return Err(format!("{{{number}}} is not on the left"));
        }
    }
    if from.iter().any(|f| f.0.contains(&Part::Layer)) {
        return Err("{#} is the number of a layer, which no name has".into());
    }
    Ok(Kind::Move { from, layer, to, axes })
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let part = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some("#") => Ok(Part::Layer),
            Some(name) if !name.is_empty() => Ok(Part::Number(name.to_owned())),
            None if !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '~')) => {
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
            Part::Layer => LAYER.to_owned(),
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
                Part::Layer => write!(f, "{dot}{LAYER}")?,
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

    fn apply(text: &str, names: &[&str]) -> Result<Plan, Vec<String>> {
        let names: Vec<Named> = names.iter().map(|name| (*name, &[2, 3][..])).collect();
        Map::parse(text).unwrap().apply(&names)
    }

    fn whole(tensor: usize) -> Source {
        Source { tensor, layer: None, axes: None }
    }

    #[test]
    fn names_are_moved_stacked_and_dropped() {
        let plan = apply(TEXT, &NAMES).unwrap();
        let expected = [
            ("ab.weight", vec![1, 0]),
            ("n.weight", vec![2]),
            ("layers.0.y.bias", vec![3]),
            ("layers.11.y", vec![4]),
            ("z", vec![7]),
        ];
        let expected = expected.map(|(n, i)| (n.to_owned(), i.into_iter().map(whole).collect()));
        assert_eq!(plan.targets, expected.into());
        assert_eq!(plan.dropped, [5, 6]);
    }

    #[test]
    fn all_misfits_are_named_at_once() {
        let names = ["a.weight", "norm.bias", "blocks.x.x", "copy", "stray", "head.ab.weight"];
        let problems = apply(TEXT, &names).unwrap_err().join("\n");
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
        assert_eq!(apply(text, &["a.x"]).unwrap().targets.len(), 1);
        assert_eq!(apply(text, &["a.x", "c.x"]).unwrap().targets["d.x"], [whole(1)]);
        assert_eq!(apply(text, &["c.x"]).unwrap_err(), ["a is missing (line 2 of the map)"]);
    }

    #[test]
    fn a_name_read_twice_is_an_error() {
        let problems = apply("layer model\na -> b\na.x -> c", &["a.x", "a.y"]).unwrap_err();
        assert_eq!(problems[0], "a.x is read by two lines of the map");
    }

    #[test]
    fn stacks_are_taken_apart() {
        let text = "layer norm\nscale -> weight\nw -> v | i o -> o i # a comment\nlayer model\n~b : norm -> blocks.{#}";
        let plan = apply(text, &["~b.scale", "~b.w"]).unwrap();
        assert_eq!(plan.targets.len(), 4);
        assert_eq!(plan.targets["blocks.1.weight"], [Source { layer: Some(1), ..whole(0) }]);
        assert_eq!(plan.targets["blocks.0.v"][0].axes, Some(Axes::parse("i o -> o i").unwrap()));
        let text = format!("{text}\nlayer x\nw -> y\nmore model\nx : x -> z");
        let names = [("~b.scale", &[2][..]), ("~b.w", &[2, 3]), ("x.w", &[4])];
        assert_eq!(Map::parse(&text).unwrap().apply(&names).unwrap().targets["z.y"], [whole(2)]);
    }

    #[test]
    fn parts_of_a_tensor_go_to_several_places() {
        let plan = apply("layer model\na -> b | x=2[0:1] y -> x y\na -> c | x=2[1:2] y -> x y", &["a"]).unwrap();
        assert_eq!(plan.targets.keys().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn a_single_number_is_no_stack() {
        let map = "layer norm\nscale -> weight\nw -> v\nlayer model\n~b : norm -> blocks.{#}";
        let error = Map::parse(map).unwrap().apply(&[("~b.scale", &[]), ("~b.w", &[2, 3])]).unwrap_err();
        assert_eq!(error, ["~b.scale is no stack of layers"]);
    }

    #[test]
    fn malformed_lines_are_named() {
        for (text, line, problem) in [
            ("a -> b", 1, "before the first table"),
            ("layer model\na b", 2, "neither"),
            ("layer model\n\na : other -> b", 3, "no table other"),
            ("layer model\na -> b.{i}", 2, "{i} is not on the left"),
            ("layer model\na..c -> b", 2, "not a dotted name"),
            ("layer model\na -> b\nmore norm\na -> b", 3, "no table norm to go on with"),
            ("layer model\na.{#} -> b", 2, "which no name has"),
            ("layer model\na -> b | i -> o", 2, "axis o is not on the left"),
            ("layer x\na -> b\nlayer model\na : x -> b | i -> i", 4, "axes belong to a tensor"),
            ("layer model\nlayer spare\na -> b", 0, "nothing uses the table spare"),
        ] {
            let error = Map::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }
}
