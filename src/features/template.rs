//! Which residue of a template stands for which of the query: the best local alignment of the two sequences with affine gaps (Smith and
//! Waterman 1981, Gotoh 1982).

/// BLOSUM62 (Henikoff and Henikoff 1992) in the order of [`crate::chem::restype`], 20 unknown.
const BLOSUM62: [[i32; 21]; 21] = [
    [4, -1, -2, -2, 0, -1, -1, 0, -2, -1, -1, -1, -1, -2, -1, 1, 0, -3, -2, 0, 0], // A
    [-1, 5, 0, -2, -3, 1, 0, -2, 0, -3, -2, 2, -1, -3, -2, -1, -1, -3, -2, -3, -1], // R
    [-2, 0, 6, 1, -3, 0, 0, 0, 1, -3, -3, 0, -2, -3, -2, 1, 0, -4, -2, -3, -1],    // N
    [-2, -2, 1, 6, -3, 0, 2, -1, -1, -3, -4, -1, -3, -3, -1, 0, -1, -4, -3, -3, -1], // D
    [0, -3, -3, -3, 9, -3, -4, -3, -3, -1, -1, -3, -1, -2, -3, -1, -1, -2, -2, -1, -2], // C
    [-1, 1, 0, 0, -3, 5, 2, -2, 0, -3, -2, 1, 0, -3, -1, 0, -1, -2, -1, -2, -1],   // Q
    [-1, 0, 0, 2, -4, 2, 5, -2, 0, -3, -3, 1, -2, -3, -1, 0, -1, -3, -2, -2, -1],  // E
    [0, -2, 0, -1, -3, -2, -2, 6, -2, -4, -4, -2, -3, -3, -2, 0, -2, -2, -3, -3, -1], // G
    [-2, 0, 1, -1, -3, 0, 0, -2, 8, -3, -3, -1, -2, -1, -2, -1, -2, -2, 2, -3, -1], // H
    [-1, -3, -3, -3, -1, -3, -3, -4, -3, 4, 2, -3, 1, 0, -3, -2, -1, -3, -1, 3, -1], // I
    [-1, -2, -3, -4, -1, -2, -3, -4, -3, 2, 4, -2, 2, 0, -3, -2, -1, -2, -1, 1, -1], // L
    [-1, 2, 0, -1, -3, 1, 1, -2, -1, -3, -2, 5, -1, -3, -1, 0, -1, -3, -2, -2, -1], // K
    [-1, -1, -2, -3, -1, 0, -2, -3, -2, 1, 2, -1, 5, 0, -2, -1, -1, -1, -1, 1, -1], // M
    [-2, -3, -3, -3, -2, -3, -3, -3, -1, 0, 0, -3, 0, 6, -4, -2, -2, 1, 3, -1, -1], // F
    [-1, -2, -2, -1, -3, -1, -1, -2, -2, -3, -3, -1, -2, -4, 7, -1, -1, -4, -3, -2, -2], // P
    [1, -1, 1, 0, -1, 0, 0, 0, -1, -2, -2, 0, -1, -2, -1, 4, 1, -3, -2, -2, 0],    // S
    [0, -1, 0, -1, -1, -1, -1, -2, -2, -1, -1, -1, -1, -2, -1, 1, 5, -2, -2, 0, 0], // T
    [-3, -3, -4, -4, -2, -2, -3, -2, -2, -3, -2, -3, -1, 1, -4, -3, -2, 11, 2, -3, -2], // W
    [-2, -2, -2, -3, -2, -1, -2, -3, 2, -1, -1, -2, -1, 3, -3, -2, -2, 2, 7, -1, -1], // Y
    [0, -3, -3, -3, -1, -2, -2, -3, -3, 3, 1, -2, 1, -1, -2, -2, 0, -3, -1, 4, -1], // V
    [0, -1, -1, -1, -2, -1, -1, -1, -1, -1, -1, -1, -1, -1, -2, 0, 0, -2, -1, -1, -1], // X
];
/// Cost of a gap, and of each residue beside it: what BLAST takes with BLOSUM62.
const GAP_OPEN: i32 = 11;
const GAP_NEXT: i32 = 1;
const NONE: i32 = i32::MIN / 2;

/// An alignment of two sequences.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aligned {
    /// Residues that stand for each other: query, template, both rising.
    pub pairs: Vec<(usize, usize)>,
    /// Sum of BLOSUM62 values less the cost of gaps.
    pub score: i32,
}

/// How the best alignment of two beginnings ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With two residues.
    Pair = 0,
    /// With a residue of the query beside a gap.
    Query = 1,
    /// With a residue of the template beside a gap.
    Template = 2,
    /// It has not begun.
    Nothing = 3,
}

const ENDS: [End; 3] = [End::Pair, End::Query, End::Template];

/// The best local alignment of `query` and `template`, restypes 0-20. Of equally good ones that which ends first, and with pairs rather
/// than gaps.
pub fn align(query: &[u8], template: &[u8]) -> Aligned {
    let width = template.len() + 1;
    // came[i][j][end]: how the alignment before the last column ended.
    let mut came = vec![[End::Nothing; 3]; (query.len() + 1) * width];
    let mut above = vec![[NONE; 3]; width];
    let (mut score, mut last) = (0, (0, 0));
    for (i, &a) in (1..).zip(query) {
        let mut row = vec![[NONE; 3]; width];
        for (j, &b) in (1..).zip(template) {
            let after = |from: [i32; 3], costs: [i32; 3], new: i32| {
                let values = ENDS.map(|end| (from[end as usize] - costs[end as usize], end));
                values.into_iter().fold((new, End::Nothing), |best, next| if next.0 > best.0 { next } else { best })
            };
            let pair = BLOSUM62[usize::from(a)][usize::from(b)];
            let ends = [
                after(above[j - 1], [-pair; 3], pair),
                after(above[j], [GAP_NEXT + GAP_OPEN, GAP_NEXT, GAP_NEXT + GAP_OPEN], NONE),
                after(row[j - 1], [GAP_NEXT + GAP_OPEN, GAP_NEXT + GAP_OPEN, GAP_NEXT], NONE),
            ];
            row[j] = ends.map(|(value, _)| value);
            came[i * width + j] = ends.map(|(_, end)| end);
            if row[j][0] > score {
                (score, last) = (row[j][0], (i, j));
            }
        }
        above = row;
    }
    let mut pairs = Vec::new();
    let (mut i, mut j) = last;
    let mut end = if score > 0 { End::Pair } else { End::Nothing };
    while end != End::Nothing {
        let before = came[i * width + j][end as usize];
        if end == End::Pair {
            pairs.push((i - 1, j - 1));
        }
        i -= usize::from(end != End::Template);
        j -= usize::from(end != End::Query);
        end = before;
    }
    pairs.reverse();
    Aligned { pairs, score }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chem::restype::amino_acid;

    fn of(letters: &str) -> Vec<u8> {
        letters.bytes().map(|c| amino_acid(c).unwrap()).collect()
    }

    #[test]
    fn alignments_are_local_and_gaps_cost() {
        let aligned = align(&of("MKVLAAGWTEHPCY"), &of("GSAAGWTEHP"));
        assert_eq!(aligned.pairs, (0..8).map(|k| (4 + k, 2 + k)).collect::<Vec<_>>());
        assert_eq!(aligned.score, 4 + 4 + 6 + 11 + 5 + 5 + 8 + 7);
        let aligned = align(&of("MKVLWWAAGHHEECY"), &of("MKVLWWHHEECY"));
        let want = (0..6).map(|k| (k, k)).chain((6..12).map(|k| (k + 3, k)));
        assert_eq!(aligned.pairs, want.collect::<Vec<_>>());
        assert_eq!(aligned.score, 5 + 5 + 4 + 4 + 11 + 11 + 8 + 8 + 5 + 5 + 9 + 7 - 14);
        assert_eq!(align(&of("AAAA"), &of("WWWW")).pairs, []);
        assert_eq!(align(&[], &of("A")), Aligned::default());
    }

    #[test]
    fn the_matrix_is_symmetric() {
        for (i, row) in BLOSUM62.iter().enumerate() {
            assert!(row.iter().enumerate().all(|(j, v)| *v == BLOSUM62[j][i]));
        }
    }
}
