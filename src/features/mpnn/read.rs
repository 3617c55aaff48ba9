//! Backbones out of PDB and mmCIF files.
use super::{Chain, Residue, letter_of_code};
use crate::io::backbone::{self, parse_pdb};
use crate::io::coordinates;

/// Why a file has no backbone.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A PDB file.
    #[error(transparent)]
    Pdb(#[from] backbone::PdbFault),
    /// An mmCIF file.
    #[error(transparent)]
    Cif(#[from] crate::io::cif::CifFault),
    /// Neither atoms nor chains.
    #[error("holds no residue of a protein with a CA atom: a PDB or mmCIF file of a backbone is needed")]
    Empty,
    /// Numbers that are far apart are most probably no numbers of one chain.
    #[error(
        "chain {chain}: {n} residue numbers are missing between {from} and {to}: renumber the chain, or give it as two"
    )]
    Gap {
        /// Its id.
        chain: String,
        /// How many.
        n: i64,
        /// Before the gap.
        from: i32,
        /// Behind it.
        to: i32,
    },
}

/// Residues that may be missing at once.
const LARGEST_GAP: i64 = 2000;

/// The chains of a file, gaps of PDB numbers as residues without atoms; in mmCIF files that tell the sequence, what it has and the atoms
/// have not. Chains without any CA are left out.
///
/// # Errors
/// What is wrong with the file, with the line.
pub fn read(text: &str) -> Result<Vec<Chain>, ReadError> {
    let first = text.lines().map(str::trim_start).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
    let is_cif = first.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("data_"));
    let mut chains: Vec<Chain> = if is_cif {
        coordinates::parse(text)?.iter().map(of_mmcif).collect()
    } else {
        parse_pdb(text)?.iter().map(of_pdb).collect::<Result<_, _>>()?
    };
    chains.retain(|c| c.residues.iter().any(|r| r.atoms[1].is_some()));
    if chains.is_empty() { Err(ReadError::Empty) } else { Ok(chains) }
}

fn of_pdb(chain: &backbone::Chain) -> Result<Chain, ReadError> {
    let mut residues: Vec<Residue> = Vec::new();
    for residue in &chain.residues {
        if let Some(last) = residues.last() {
            let n = i64::from(residue.number) - i64::from(last.number) - 1;
            if n > LARGEST_GAP {
                let (from, to) = (last.number, residue.number);
                return Err(ReadError::Gap { chain: chain.id.clone(), n, from, to });
            }
            let missing = |number: i32| Residue { number, ..Residue::MISSING };
            residues.extend((last.number + 1..residue.number).map(missing).collect::<Vec<_>>());
        }
        let (letter, number) = (letter_of_code(&residue.code), residue.number);
        residues.push(Residue { atoms: residue.atoms, letter, number });
    }
    Ok(Chain { id: chain.id.clone(), residues })
}

/// Residues without atoms at the ends are left out, as a PDB file does not tell of them.
fn of_mmcif(chain: &coordinates::Chain) -> Chain {
    let residue = |(i, residue): (usize, &coordinates::Residue)| {
        let position = |name: &str| residue.atoms.iter().find(|a| a.name == name).map(|a| a.position);
        let code = if residue.code == "MSE" { "MET" } else { &residue.code };
        let number = residue.number.unwrap_or(i as i32 + 1);
        Residue { atoms: ["N", "CA", "C", "O"].map(position), letter: letter_of_code(code), number }
    };
    let is_known = |r: &coordinates::Residue| r.atoms.iter().any(|a| a.name == "CA");
    let is_kept = |r: &&coordinates::Residue| is_known(r) || !r.hetero;
    let kept: Vec<&coordinates::Residue> = chain.residues.iter().filter(is_kept).collect();
    let first = kept.iter().position(|r| is_known(r)).unwrap_or(0);
    let last = kept.iter().rposition(|r| is_known(r)).map_or(first, |i| i + 1);
    let residues = kept[first..last].iter().enumerate().map(|(i, r)| residue((i, r))).collect();
    Chain { id: chain.id.clone(), residues }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PDB: &str = "\
ATOM      1  CA  MET A  11      11.104   6.134  -6.504  1.00  0.00           C
ATOM      2  CA  GLY A  14      13.104   6.134  -6.504  1.00  0.00           C
ATOM      3  P   DA  B   1       1.000   2.000   5.000  1.00  0.00           P
";

    #[test]
    fn numbers_that_are_missing_are_places_without_atoms() {
        let chains = read(PDB).unwrap();
        let of: Vec<_> = chains[0].residues.iter().map(|r| (r.number, r.letter, r.atoms[1].is_some())).collect();
        assert_eq!((chains.len(), of), (1, vec![(11, 10, true), (12, 20, false), (13, 20, false), (14, 5, true)]));
        let far = read(&PDB.replace("A  14", "A9914")).unwrap_err().to_string();
        assert_eq!(
            far,
            "chain A: 9902 residue numbers are missing between 11 and 9914: renumber the chain, or give it as two"
        );
        assert!(matches!(read("REMARK\n"), Err(ReadError::Empty)));
    }

    #[test]
    fn an_mmcif_file_without_its_unseen_ends() {
        let text = "data_x\nloop_\n_entity_poly_seq.entity_id\n_entity_poly_seq.num\n_entity_poly_seq.mon_id\n1 1 MET\n1 2 GLY\n1 3 ALA\n1 4 CYS\n\
                    loop_\n_struct_asym.id\n_struct_asym.entity_id\nA 1\n\
                    loop_\n_atom_site.label_atom_id\n_atom_site.label_comp_id\n_atom_site.label_asym_id\n_atom_site.auth_asym_id\n\
                    _atom_site.label_seq_id\n_atom_site.Cartn_x\n_atom_site.Cartn_y\n_atom_site.Cartn_z\n\
                    CA GLY A X 2 1 2 3\nCA CYS A X 4 1 2 3\n";
        let chains = read(text).unwrap();
        let of: Vec<_> = chains[0].residues.iter().map(|r| (r.letter, r.atoms[1].is_some())).collect();
        assert_eq!((chains[0].id.as_str(), of), ("X", vec![(5, true), (0, false), (1, true)]));
    }
}
