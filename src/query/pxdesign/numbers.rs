//! Residue numbers as tasks write them: 52, 52A, -3, and ranges of them.
use std::fmt;

/// A residue's number, with an insertion code where a PDB file has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    pub value: i32,
    pub insertion: String,
}

/// A part of a crop, both ends within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub from: Number,
    pub to: Number,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.value, self.insertion)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

/// Reads a number at the start of a text and gives what follows.
fn leading(text: &str) -> Option<(Number, &str)> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let sign = text.len() - digits.len();
    let end = sign + digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let value: i32 = text[..end].parse().ok().filter(|v: &i32| v.abs() < 1_000_000)?;
    let letter = text[end..].chars().next().filter(char::is_ascii_alphabetic);
    let insertion = letter.map_or(String::new(), |c| c.to_string());
    let rest = &text[end + insertion.len()..];
    Some((Number { value, insertion }, rest))
}

/// One number, nothing else.
pub(super) fn number(text: &str) -> Option<Number> {
    leading(text.trim()).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// A number, or two with a dash between.
pub(super) fn range(text: &str) -> Option<Range> {
    let (from, rest) = leading(text.trim())?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Some(Range { to: from.clone(), from });
    }
    Some(Range { from, to: number(rest.strip_prefix('-')?)? })
}

/// Numbers in ascending order as ranges: `1-3, 7`.
pub(super) fn compressed(numbers: impl IntoIterator<Item = i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == n => *to = n,
            _ => ranges.push((n, n)),
        }
    }
    let one = |(from, to): &(i32, i32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges() {
        let shown = |text: &str| range(text).map(|r| format!("{}..{}", r.from, r.to));
        assert_eq!(shown("1-50").as_deref(), Some("1..50"));
        assert_eq!(shown(" 7 ").as_deref(), Some("7..7"));
        assert_eq!(shown("-5--2").as_deref(), Some("-5..-2"));
        assert_eq!(shown("52A - 60").as_deref(), Some("52A..60"));
        for bad in ["", "a", "1-", "1-2-3", "1:2", "--1", "99999999999", "1..3"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
        assert_eq!(number("40").map(|n| n.value), Some(40));
        assert_eq!(number("4 0"), None);
        assert_eq!(compressed([1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
    }
}
