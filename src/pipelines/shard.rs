//! Which samples of a run are one process's.
use std::str::FromStr;

/// Part `index` of `count`: sample `i` is of part `i mod count`, whatever was done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All samples.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// Is this sample one of the part?
    pub fn has(self, sample: usize) -> bool {
        sample % self.count == self.index
    }

    /// Are there other parts?
    pub fn is_part(self) -> bool {
        self.count > 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((index, count)) if count > 0 && index >= count => {
                Err(format!("parts are counted from 0: the last of {count} is {}/{count}", count - 1))
            }
            _ => Err("give a part, from 0, and the number of parts, such as 0/8".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_every_sample_once() {
        let shards = ["0/3", "1/3", "2/3"].map(|text| text.parse::<Shard>().unwrap());
        assert!((0..100).all(|i| shards.iter().filter(|s| s.has(i)).count() == 1));
        assert!((0..100).all(|i| Shard::ALL.has(i)) && !Shard::ALL.is_part() && shards[0].is_part());
    }

    #[test]
    fn what_is_no_part_is_explained() {
        let fault = |text: &str| text.parse::<Shard>().unwrap_err();
        assert!(fault("3/3").contains("the last of 3 is 2/3"));
        ["0/0", "1", "a/2", "-1/2", "1/2/3"]
            .into_iter()
            .for_each(|text| assert!(fault(text).contains("0/8"), "{text}"));
    }
}
