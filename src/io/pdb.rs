//! The PDB format, for programs that read nothing else; pLDDT is the B factor.
//!
//! Lines are formatted here and not by pdbtbx, whose writer puts numbers on the left of their columns. What the format
//! cannot hold is refused.
use std::fmt::Write;

use super::structure::{Atom, Structure};

/// Why a structure has no PDB file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the PDB format cannot hold {0}; ask for mmCIF (--format cif)")]
pub struct PdbError(pub String);

/// Most atoms: serial numbers have five digits, of which TER lines take some.
const MAX_SERIAL: usize = 99_999;
/// Largest residue number: four digits.
const MAX_RESIDUE: usize = 9_999;

/// Can the format hold this structure, whatever its coordinates? For a check before the work is done.
pub fn check<'a>(
    chain_ids: impl IntoIterator<Item = &'a str>,
    n_atom: usize,
    longest_chain: usize,
) -> Result<(), PdbError> {
    let mut n_chain = 0;
    for id in chain_ids {
        n_chain += 1;
        if id.len() != 1 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(PdbError(format!("the chain id {id:?}, only single letters and digits")));
        }
    }
    if n_atom + n_chain > MAX_SERIAL {
        return Err(PdbError(format!("{n_atom} atoms, only {MAX_SERIAL} with the ends of chains")));
    }
    if longest_chain > MAX_RESIDUE {
        return Err(PdbError(format!("a chain of {longest_chain} residues, only {MAX_RESIDUE}")));
    }
    Ok(())
}

/// Formats a structure.
pub fn format(s: &Structure) -> Result<String, PdbError> {
    let longest = s.chains.iter().map(|c| s.entities[c.entity].components.len()).max().unwrap_or(0);
    check(s.chains.iter().map(|c| c.id.as_str()), s.atoms.len(), longest)?;
    let mut out = String::new();
    let line = |out: &mut String, text: String| {
        let _ = writeln!(out, "{text:<80}"); // writing to a text cannot fail
    };
    for (i, part) in ascii(&s.title).as_bytes().chunks(69).enumerate() {
        let number = if i == 0 { "  ".to_owned() } else { format!("{:>2} ", i + 1) };
        line(&mut out, format!("TITLE   {number}{}", String::from_utf8_lossy(part)));
    }
    line(&mut out, format!("REMARK   1 PREDICTED BY {} {}", ascii(&s.origin.model), ascii(&s.origin.release)));
    line(&mut out, format!("REMARK   1 WITH FOLD {}; B FACTOR = PLDDT (0-100)", ascii(&s.origin.version)));
    line(&mut out, "MODEL        1".to_owned());
    let mut serial = 0;
    for (i, atom) in s.atoms.iter().enumerate() {
        serial += 1;
        line(&mut out, atom_line(s, atom, serial)?);
        if s.atoms.get(i + 1).is_none_or(|next| next.chain != atom.chain) {
            serial += 1;
            let (code, chain) = (s.component(atom), &s.chains[atom.chain].id);
            line(&mut out, format!("TER   {serial:>5}      {code:>3} {chain}{:>4}", atom.residue));
        }
    }
    line(&mut out, "ENDMDL".to_owned());
    line(&mut out, "END".to_owned());
    Ok(out)
}

fn atom_line(s: &Structure, atom: &Atom, serial: usize) -> Result<String, PdbError> {
    let code = s.component(atom);
    if code.len() > 3 {
        return Err(PdbError(format!("the residue name {code:?}, only three letters")));
    }
    // Names start in the second column unless they, or their element, need the first.
    let name =
        if atom.name.len() < 4 && atom.element.len() == 1 { format!(" {}", atom.name) } else { atom.name.clone() };
    let position = atom.position.map(|v| format!("{v:8.3}"));
    if name.len() > 4 || position.iter().any(|v| v.len() > 8) {
        return Err(PdbError(format!("atom {} of residue {} at {:?} Å", atom.name, atom.residue, atom.position)));
    }
    let chain = &s.chains[atom.chain].id;
    Ok(format!(
        "ATOM  {serial:>5} {name:<4} {code:>3} {chain}{:>4}    {}{:6.2}{:6.2}          {:>2}",
        atom.residue,
        position.concat(),
        1.0,
        atom.plddt,
        atom.element.to_ascii_uppercase()
    ))
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::structure::tests::example;

    #[test]
    fn a_file_is_read_back() {
        let s = example();
        let text = format(&s).unwrap();
        assert!(text.starts_with("TITLE     Predicted structure of example "));
        assert!(text.lines().all(|l| l.len() == 80));
        let first = text.lines().find(|l| l.starts_with("ATOM")).unwrap();
        assert_eq!(first.trim_end(), "ATOM      1  N   MET A   1      -9.000  -0.000 100.000  1.00 40.00           N");
        let mut read = pdbtbx::ReadOptions::default();
        read.set_level(pdbtbx::StrictnessLevel::Medium).set_format(pdbtbx::Format::Pdb);
        let (pdb, faults) = read.read_raw(std::io::BufReader::new(text.as_bytes())).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((pdb.atom_count(), pdb.chain_count()), (s.atoms.len(), 3));
        for (got, want) in pdb.atoms().zip(&s.atoms) {
            assert_eq!(got.name(), want.name);
            assert!((got.z() - f64::from(want.position[2])).abs() < 6e-4);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut s = example();
        s.chains[1].id = "AA".to_owned();
        assert!(format(&s).unwrap_err().to_string().contains("the chain id \"AA\""));
        let mut s = example();
        s.atoms[3].position[1] = 12_000.0;
        assert!(format(&s).unwrap_err().to_string().contains("atom O of residue 1 at"));
        let mut s = example();
        s.entities[1].components[0] = "LIG01".to_owned();
        assert!(format(&s).unwrap_err().to_string().contains("\"LIG01\", only three letters"));
        assert!(check(["A"], 99_999, 10).unwrap_err().to_string().contains("99999 atoms"));
        assert!(check(["A"], 99_998, 10_000).unwrap_err().to_string().contains("10000 residues"));
        assert_eq!(check(["A"], 99_998, 9_999), Ok(()));
    }
}
