//! Sequence, secondary structure and surface to tokens and back: `EsmSequenceTokenizer`, `SecondaryStructureTokenizer` and
//! `SASADiscretizingTokenizer` of esm 3.2.1.
use super::{FIRST_CLASS, PAD, sequence_id};

/// The tokens of the sequence track, by id.
pub const SEQUENCE: [&str; 33] = [
    "<cls>", "<pad>", "<eos>", "<unk>", "L", "A", "G", "V", "S", "E", "R", "T", "I", "D", "P", "K", "Q", "N", "F", "Y",
    "M", "H", "W", "C", "X", "B", "U", "Z", "O", ".", "-", "|", "<mask>",
];
/// Classes of secondary structure, from id 3.
pub const SS8: &str = "GHITEBSC";
/// Upper ends of the surface classes in Å², from id 3; the last class is open.
pub const SASA_BOUNDS: [f64; 15] =
    [0.8, 4.0, 9.6, 16.4, 24.5, 32.9, 42.0, 51.5, 61.2, 70.9, 81.6, 93.3, 107.2, 125.4, 151.4];

/// Ids of a sequence, ends included. `_` or `<mask>` is a mask, `|` a chain break; the names in angle brackets are tokens; any
/// other character that is none is unknown.
pub fn sequence(text: &str) -> Vec<u16> {
    let inner = letters(text).into_iter().map(|(id, _)| id);
    std::iter::once(sequence_id::BOS).chain(inner).chain([sequence_id::EOS]).collect()
}

/// The ids of a sequence without ends, each with the part of the text that it stands for.
pub fn letters(text: &str) -> Vec<(u16, &str)> {
    let mut letters = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let named = |name: &str| name.starts_with('<') && rest.starts_with(name);
        let (id, length) = match SEQUENCE.iter().position(|name| named(name)) {
            Some(id) => (id as u16, SEQUENCE[id].len()),
            None => (letter_id(letter), letter.len_utf8()),
        };
        letters.push((id, &rest[..length]));
        rest = &rest[length..];
    }
    letters
}

fn letter_id(letter: char) -> u16 {
    if letter == '_' {
        return sequence_id::MASK;
    }
    let mut buffer = [0; 4];
    let text: &str = letter.encode_utf8(&mut buffer);
    SEQUENCE.iter().position(|name| *name == text).map_or(sequence_id::UNKNOWN, |id| id as u16)
}

/// The text of ids, without ends; a mask is `_`.
pub fn sequence_text(ids: &[u16]) -> String {
    let name = |id: &u16| match *id {
        sequence_id::BOS | sequence_id::EOS => "",
        sequence_id::MASK => "_",
        id => SEQUENCE.get(usize::from(id)).copied().unwrap_or_default(),
    };
    ids.iter().map(name).collect()
}

/// Ids of a secondary structure, ends included; `_` (or `<pad>`) is not known.
///
/// # Errors
/// The first character that is no class, with its place from 1.
pub fn secondary_structure(text: &str) -> Result<Vec<u16>, (char, usize)> {
    let class = |(i, letter): (usize, char)| match (letter, SS8.find(letter)) {
        ('_', _) => Ok(PAD),
        (_, Some(class)) => Ok(FIRST_CLASS + class as u16),
        _ => Err((letter, i + 1)),
    };
    let inner = text.replace("<pad>", "_").chars().enumerate().map(class).collect::<Result<Vec<_>, _>>()?;
    Ok(with_ends(inner))
}

/// The text of ids without the two at the ends; what is not known is `_`.
pub fn secondary_structure_text(ids: &[u16]) -> String {
    let class = |id: &u16| id.checked_sub(FIRST_CLASS).and_then(|i| SS8.chars().nth(usize::from(i))).unwrap_or('_');
    inner(ids).iter().map(class).collect()
}

/// Ids of surfaces in Å², ends included; `None` is not known.
pub fn sasa(values: &[Option<f32>]) -> Vec<u16> {
    let class = |v: f32| FIRST_CLASS + SASA_BOUNDS.iter().filter(|bound| (**bound as f32) < v).count() as u16;
    with_ends(values.iter().map(|v| v.map_or(PAD, class)).collect())
}

/// The middle of each id's class in Å², without the two at the ends; of the open class 1.5 times its lower end.
pub fn sasa_values(ids: &[u16]) -> Vec<Option<f32>> {
    let n = SASA_BOUNDS.len();
    let value = |id: &u16| {
        let class = usize::from(id.checked_sub(FIRST_CLASS)?);
        let low = if class == 0 { 0. } else { SASA_BOUNDS[(class - 1).min(n - 1)] };
        let high = SASA_BOUNDS.get(class).copied().unwrap_or(2. * SASA_BOUNDS[n - 1]);
        Some(((low + high) / 2.) as f32)
    };
    inner(ids).iter().map(value).collect()
}

fn with_ends(mut ids: Vec<u16>) -> Vec<u16> {
    ids.insert(0, PAD);
    ids.push(PAD);
    ids
}

fn inner(ids: &[u16]) -> &[u16] {
    ids.get(1..ids.len().saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_upper_ends() {
        assert_eq!(sasa(&[Some(0.), Some(0.8), Some(0.81), None, Some(1e9)]), [0, 3, 3, 4, 0, 18, 0]);
        assert_eq!(sasa_values(&[0, 3, 18, 0, 0]), [Some(0.4), Some(227.1), None]);
    }

    #[test]
    fn letters_that_are_no_class_are_named() {
        assert_eq!(secondary_structure("HHx"), Err(('x', 3)));
        assert_eq!(secondary_structure("_C"), Ok(vec![0, 0, 10, 0]));
        assert_eq!(secondary_structure_text(&[0, 0, 10, 0]), "_C");
    }

    #[test]
    fn text_comes_back() {
        for text in ["MKT_AYX", "AC|DE", ""] {
            assert_eq!(sequence_text(&sequence(text)), text);
        }
        assert_eq!(sequence("j"), [0, 3, 2]);
    }
}
