//! The order of a tensor's axes, as a map writes it: `i (h d) -> (h d) i`.
//!
//! Names stand for axes, in brackets for axes that lie in one; `h=4` has a size, `h=4[1:3]` is a part of that axis, and `~h` on the
//! right is that axis backwards, `1` there an axis of size 1. Axes and their parts only change places: no number is changed or used twice.

/// A change of the order of axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axes {
    from: Vec<Vec<Axis>>,
    /// Axes of the left side by number, and whether backwards.
    to: Vec<Vec<(usize, bool)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    name: String,
    size: Option<usize>,
    part: Option<(usize, usize)>,
}

/// How long an axis is, and what of it is taken.
#[derive(Debug, Clone, Copy)]
struct Extent {
    size: usize,
    first: usize,
    end: usize,
}

impl Axes {
    /// Parses `left -> right`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (left, right) = text.split_once("->").ok_or("axes without ->")?;
        let from: Vec<Vec<Axis>> = groups(left)?
            .into_iter()
            .map(|group| group.into_iter().map(Axis::parse).collect::<Result<_, _>>())
            .collect::<Result<_, String>>()?;
        let names: Vec<&str> = from.iter().flatten().map(|axis| axis.name.as_str()).collect();
        let place = |text: &str| {
            let (name, back) = text.strip_prefix('~').map_or((text, false), |name| (name, true));
            names.iter().position(|n| *n == name).map(|i| (i, back)).ok_or(format!("axis {name} is not on the left"))
        };
        let to: Vec<Vec<(usize, bool)>> = groups(right)?
            .into_iter()
            .map(|group| if group == ["1"] { Ok(Vec::new()) } else { group.into_iter().map(place).collect() })
            .collect::<Result<_, String>>()?;
        let mut used: Vec<usize> = to.iter().flatten().map(|(i, _)| *i).collect();
        used.sort_unstable();
        if used != (0..names.len()).collect::<Vec<_>>() {
            return Err("each axis stands once on each side".into());
        }
        Ok(Self { from, to })
    }

    /// Is some of the tensor left out?
    pub fn takes_a_part(&self) -> bool {
        self.from.iter().flatten().any(|axis| axis.part.is_some())
    }

    /// The axes of the left side in a tensor of `shape`.
    fn sizes(&self, shape: &[usize]) -> Result<Vec<Extent>, String> {
        if shape.len() != self.from.len() {
            return Err(format!("has shape {shape:?}, the map expects {} dimensions", self.from.len()));
        }
        let mut sizes = Vec::new();
        for (group, &n) in self.from.iter().zip(shape) {
            let known: usize = group.iter().filter_map(|axis| axis.size).product();
            let free = group.iter().filter(|axis| axis.size.is_none()).count();
            if known == 0 || !n.is_multiple_of(known) || free > 1 || (free == 0 && n != known) {
                let names: Vec<&str> = group.iter().map(|axis| axis.name.as_str()).collect();
                return Err(format!("has shape {shape:?}: {n} is not made of {}", names.join(" x ")));
            }
            for axis in group {
                let size = axis.size.unwrap_or(n / known);
                let (first, end) = axis.part.unwrap_or((0, size));
                sizes.push(Extent { size, first, end });
            }
        }
        Ok(sizes)
    }

    /// The shape that a tensor of `shape` gets.
    pub fn shape(&self, shape: &[usize]) -> Result<Vec<usize>, String> {
        let sizes = self.sizes(shape)?;
        let size = |(i, _): &(usize, bool)| sizes[*i].end - sizes[*i].first;
        Ok(self.to.iter().map(|group| group.iter().map(size).product()).collect())
    }

    /// The numbers of a row-major tensor of `shape`, `size` bytes each, in their new order.
    pub fn gather(&self, bytes: &[u8], size: usize, shape: &[usize]) -> Result<Vec<u8>, String> {
        let sizes = self.sizes(shape)?;
        let mut strides = vec![1isize; sizes.len()];
        for i in (1..sizes.len()).rev() {
            strides[i - 1] = strides[i] * sizes[i].size as isize;
        }
        let mut start = 0;
        let mut loops = Vec::new();
        for &(i, back) in self.to.iter().flatten() {
            let Extent { first, end, .. } = sizes[i];
            let n = end - first;
            start += strides[i] * if back { end as isize - 1 } else { first as isize };
            loops.push((n, if back { -strides[i] } else { strides[i] }));
        }
        let n: usize = loops.iter().map(|(n, _)| n).product();
        let mut out = Vec::with_capacity(n * size);
        let (inner, outer) = loops.split_last().map_or(((1, 1), &[][..]), |(last, rest)| (*last, rest));
        let mut index = vec![0; outer.len()];
        if n == 0 {
            return Ok(out);
        }
        loop {
            let at = start + index.iter().zip(outer).map(|(i, (_, stride))| *i as isize * stride).sum::<isize>();
            for k in 0..inner.0 {
                let at = (at + k as isize * inner.1) as usize * size;
                out.extend_from_slice(&bytes[at..at + size]);
            }
            let Some(d) = (0..outer.len()).rev().find(|d| index[*d] + 1 < outer[*d].0) else { return Ok(out) };
            index[d] += 1;
            index[d + 1..].fill(0);
        }
    }
}

impl Axis {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an axis");
        let (text, part) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((text, part)) => {
                let (a, b) = part.split_once(':').ok_or_else(wrong)?;
                (text, Some((a.parse::<usize>().map_err(|_| wrong())?, b.parse::<usize>().map_err(|_| wrong())?)))
            }
            None => (text, None),
        };
        let (name, size) = match text.split_once('=') {
            Some((name, size)) => (name, Some(size.parse::<usize>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let whole = part.is_none_or(|(a, b)| a < b && size.is_some_and(|size| b <= size));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) || size == Some(0) || !whole {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), size, part })
    }
}

/// `a (b c)` -> `[[a], [b, c]]`.
fn groups(text: &str) -> Result<Vec<Vec<&str>>, String> {
    let mut groups: Vec<Vec<&str>> = Vec::new();
    let mut open = false;
    for word in text.split_whitespace() {
        let (word, opens) = word.strip_prefix('(').map_or((word, false), |word| (word, true));
        let (word, closes) = word.strip_suffix(')').map_or((word, false), |word| (word, true));
        match (open, opens) {
            (true, true) => return Err(format!("a bracket in a bracket in {text:?}")),
            (true, false) => groups.last_mut().expect("opened").push(word),
            (false, _) => groups.push(vec![word]),
        }
        open = (open || opens) && !closes;
    }
    if open { Err(format!("no closing bracket in {text:?}")) } else { Ok(groups) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(text: &str, shape: &[usize]) -> (Vec<usize>, Vec<u8>) {
        let axes = Axes::parse(text).unwrap();
        let bytes: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| i as u8).collect();
        (axes.shape(shape).unwrap(), axes.gather(&bytes, 1, shape).unwrap())
    }

    #[test]
    fn axes_change_places() {
        assert_eq!(moved("i o -> o i", &[2, 3]), (vec![3, 2], vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(moved("i h d -> (h d) i", &[2, 2, 2]), (vec![4, 2], vec![0, 4, 1, 5, 2, 6, 3, 7]));
        assert_eq!(moved("(s=2 c) -> (~s c)", &[6]), (vec![6], vec![3, 4, 5, 0, 1, 2]));
        assert_eq!(moved("(x=2 h p=3[1:3]) -> (h p x)", &[12]), (vec![8], vec![1, 7, 2, 8, 4, 10, 5, 11]));
        assert_eq!(moved("o -> o 1", &[3]), (vec![3, 1], vec![0, 1, 2]));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for text in [
            "a b",
            "a -> b",
            "a a -> a",
            "a b -> a",
            "a=0 -> a",
            "a[0:1] -> a",
            "a=2[1:3] -> a",
            "(a -> a",
            "((a) -> a",
        ] {
            assert!(Axes::parse(text).is_err(), "{text}");
        }
        let axes = Axes::parse("(h d=4) -> (h d)").unwrap();
        assert!(axes.shape(&[8]).is_ok());
        assert!(axes.shape(&[6]).unwrap_err().contains("6 is not made of h x d"));
        assert!(axes.shape(&[8, 1]).unwrap_err().contains("expects 1 dimensions"));
    }
}
