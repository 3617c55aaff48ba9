//! A length of time as people write it.
use std::str::FromStr;
use std::time::Duration;

/// `23h`, `1h30m`, `90s`, or seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || format!("{text:?} is no time: give hours, minutes and seconds, such as 23h, 1h30m or 90s");
        if let Ok(seconds) = text.parse() {
            return Ok(Self(Duration::from_secs(seconds)));
        }
        let (mut seconds, mut rest, mut largest) = (0u64, text, u64::MAX);
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
            let (number, after) = rest.split_at(end);
            let unit = match after.chars().next() {
                Some('d') => 86_400,
                Some('h') => 3600,
                Some('m') => 60,
                Some('s') => 1,
                _ => return Err(fault()),
            };
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(fault)?;
            if unit >= largest {
                return Err(fault());
            }
            seconds = seconds.checked_add(part).ok_or_else(fault)?;
            (rest, largest) = (&after[1..], unit);
        }
        if text.is_empty() { Err(fault()) } else { Ok(Self(Duration::from_secs(seconds))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let of = |text: &str| text.parse::<Time>().map(|time| time.0.as_secs());
        assert_eq!((of("23h"), of("1h30m"), of("90s"), of("90")), (Ok(82_800), Ok(5400), Ok(90), Ok(90)));
        assert_eq!(of("1d2h"), Ok(93_600));
        for text in ["", "h", "1x", "1.5h", "30m1h", "1h1h", "99999999999999999999h", "-1h", "1h5"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
