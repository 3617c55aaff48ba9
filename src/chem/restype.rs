//! Residue alphabets and index orders.
//!
//! AF3 order, as OpenFold3 0.5.0 `core/data/resources/residues.py`: 0-19 amino acids in AF2's order, 20 unknown, 21-25 A G C
//! U N, 26-30 DA DG DC DT DN, 31 gap.

/// Index of the unknown amino acid.
pub const UNKNOWN: u8 = 20;
/// Index of the gap.
pub const GAP: u8 = 31;
/// Letters of restypes 0-20.
pub const LETTERS: [u8; 21] = *b"ARNDCQEGHILKMFPSTWYVX";
/// Letters in ProteinMPNN's order; the last is unknown.
pub const MPNN_LETTERS: [u8; 21] = *b"ACDEFGHIKLMNPQRSTVWYX";
/// Component codes of restypes 0-20.
pub const CODES: [&str; 21] = [
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET", "PHE", "PRO", "SER",
    "THR", "TRP", "TYR", "VAL", "UNK",
];
/// Index of glycine.
pub const GLY: u8 = 7;

/// Restype of an amino-acid letter (upper case; X is unknown), if it is one.
pub fn amino_acid(letter: u8) -> Option<u8> {
    LETTERS.iter().position(|&l| l == letter).map(|i| i as u8)
}

/// Restype of a component code: a standard amino acid, or the one that a modified residue was made of (`data/parents.tsv`); `None` for
/// others.
pub fn of_code(code: &str) -> Option<u8> {
    let parent =
        include_str!("data/parents.tsv").lines().skip(1).find_map(|l| l.split_once('\t').filter(|(c, _)| *c == code));
    let code = parent.map_or(code, |(_, parent)| parent);
    CODES[..20].iter().position(|&c| c == code).map(|i| i as u8)
}

/// Restype of an upper-case letter of a protein alignment: any letter that is no amino acid is unknown, `-` is the gap.
pub fn alignment_letter(letter: u8) -> u8 {
    if letter == b'-' { GAP } else { amino_acid(letter).unwrap_or(UNKNOWN) }
}

/// What to write instead of a character that is no amino acid.
pub fn advice(letter: char) -> String {
    match letter {
        'B' => "write D or N (or X if it is not known which)".to_owned(),
        'Z' => "write E or Q (or X if it is not known which)".to_owned(),
        'J' => "write I or L (or X if it is not known which)".to_owned(),
        'U' => "selenocysteine is not served: write C, or X for an unknown residue".to_owned(),
        'O' => "pyrrolysine is not served: write K, or X for an unknown residue".to_owned(),
        '-' | '.' => "a query has no gaps: take it out".to_owned(),
        '*' => "a query has no stops: take it out".to_owned(),
        c if c.is_whitespace() => "take it out".to_owned(),
        c if c.is_ascii_lowercase() && amino_acid(c.to_ascii_uppercase() as u8).is_some() => {
            format!("write {} (upper case)", c.to_ascii_uppercase())
        }
        _ => "write one of ACDEFGHIKLMNPQRSTVWY, or X for an unknown residue".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_have_the_official_order() {
        assert_eq!(amino_acid(b'A'), Some(0));
        assert_eq!(amino_acid(b'G'), Some(GLY));
        assert_eq!(amino_acid(b'V'), Some(19));
        assert_eq!(amino_acid(b'X'), Some(UNKNOWN));
        assert_eq!(amino_acid(b'U'), None);
        assert_eq!([of_code("ALA"), of_code("MSE"), of_code("UNK"), of_code("HOH")], [Some(0), Some(12), None, None]);
        let parents = include_str!("data/parents.tsv").lines().skip(1).map(|l| l.split_once('\t').unwrap());
        assert!(parents.clone().count() > 50 && parents.into_iter().all(|(code, _)| of_code(code).is_some()));
        assert_eq!(alignment_letter(b'B'), UNKNOWN);
        assert_eq!(alignment_letter(b'-'), GAP);
    }
}
