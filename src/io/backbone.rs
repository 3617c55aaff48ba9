//! Backbones of PDB files as ProteinMPNN's program reads them (8907e66, `parse_PDB`): `ATOM` records, and selenomethionine as methionine;
//! of atoms of one name the first, in all models; residues in the order of their numbers and insertion codes.
use std::collections::BTreeMap;

/// N, CA, C and O in Å, where there are such.
pub type Atoms = [Option<[f32; 3]>; 4];

/// A residue.
#[derive(Debug, Clone, PartialEq)]
pub struct Residue {
    /// Number without insertion code.
    pub number: i32,
    /// Component code.
    pub code: String,
    /// Its atoms.
    pub atoms: Atoms,
}

/// A chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// One character.
    pub id: String,
    /// By number and insertion code; numbers without residues are not there.
    pub residues: Vec<Residue>,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {message}")]
pub struct PdbFault {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: &'static str,
}

/// Chains in the order of their ids.
///
/// # Errors
/// Atoms without number or coordinates.
pub fn parse_pdb(text: &str) -> Result<Vec<Chain>, PdbFault> {
    let mut chains: BTreeMap<&str, BTreeMap<(i32, &str), Residue>> = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let field = |from: usize, to: usize| line.get(from..to.min(line.len())).unwrap_or_default().trim();
        let selenomethionine = line.starts_with("HETATM") && field(17, 20) == "MSE";
        if !line.starts_with("ATOM") && !selenomethionine {
            continue;
        }
        let fault = |message| PdbFault { line: i + 1, message };
        let written = field(22, 27);
        let digits = written.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number = digits.parse().map_err(|_| fault("columns 23 to 27 are no residue number"))?;
        let position = [field(30, 38), field(38, 46), field(46, 54)].map(|word| word.parse::<f32>().ok());
        let [Some(x), Some(y), Some(z)] = position else { return Err(fault("columns 31 to 54 are no coordinates")) };
        let residues = chains.entry(field(21, 22)).or_default();
        let residue = residues.entry((number, &written[digits.len()..])).or_insert_with(|| {
            let code = if selenomethionine { "MET" } else { field(17, 20) };
            Residue { number, code: code.to_owned(), atoms: [None; 4] }
        });
        if let Some(place) = ["N", "CA", "C", "O"].iter().position(|name| *name == field(12, 16)) {
            residue.atoms[place].get_or_insert([x, y, z]);
        }
    }
    let chain = |(id, residues): (&str, BTreeMap<_, Residue>)| Chain {
        id: id.to_owned(),
        residues: residues.into_values().collect(),
    };
    Ok(chains.into_iter().map(chain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PDB: &str = "\
ATOM      1  CA AMET A  11      11.104   6.134  -6.504  0.40  0.00           C
ATOM      2  CA BMET A  11      12.104   6.134  -6.504  0.60  0.00           C
ATOM      3  N   GLY A   9A     13.104   6.134  -6.504  1.00  0.00           N
HETATM    4  C   MSE A   9       1.000   2.000   3.000  1.00  0.00           C
HETATM    5  C   HOH A  20       1.000   2.000   3.000  1.00  0.00           C
ATOM      6  CB  SER B   1       1.000   2.000   5.000  1.00  0.00           C
";

    #[test]
    fn residues_as_the_program_reads_them() {
        let chains = parse_pdb(PDB).unwrap();
        let of = |c: &Chain| c.residues.iter().map(|r| (r.number, r.code.clone())).collect::<Vec<_>>();
        assert_eq!(of(&chains[0]), [(9, "MET".to_owned()), (9, "GLY".to_owned()), (11, "MET".to_owned())]);
        assert_eq!(chains[0].residues[2].atoms[1], Some([11.104, 6.134, -6.504]), "the first, not the most occupied");
        assert_eq!((chains[1].id.as_str(), chains[1].residues[0].atoms), ("B", [None; 4]));
        let fault = |from: &str, to: &str| parse_pdb(&PDB.replace(from, to)).unwrap_err().to_string();
        assert_eq!(fault("13.104", "x3.104"), "line 3: columns 31 to 54 are no coordinates");
        assert_eq!(fault("B   1", "B   x"), "line 6: columns 23 to 27 are no residue number");
    }
}
