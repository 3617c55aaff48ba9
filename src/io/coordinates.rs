//! Chains with coordinates, read from mmCIF and PDB files: the first model, of alternative atoms the most occupied. Residues without
//! coordinates are there if an mmCIF file names them (`entity_poly_seq`).
use std::collections::HashMap;

use super::cif::{Cif, CifFault};
use super::sites::{self, Site};

/// A chain of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    /// The authors' id, and the only one of PDB files.
    pub id: String,
    /// mmCIF's id of the chain.
    pub label: String,
    /// In the order of the sequence, or of the file where it has none.
    pub residues: Vec<Residue>,
}

/// A residue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Residue {
    /// Component code, such as MSE.
    pub code: String,
    /// The authors' number, where it is one.
    pub number: Option<i32>,
    /// Is it in `HETATM` records alone, and in no sequence?
    pub hetero: bool,
    /// Atoms with coordinates, each name once.
    pub atoms: Vec<Atom>,
}

/// An atom.
#[derive(Debug, Clone, PartialEq)]
pub struct Atom {
    /// Name, such as CA.
    pub name: String,
    /// Å.
    pub position: [f32; 3],
    /// Of the alternatives of one name the largest.
    occupancy: f32,
}

/// Reads a file's text, mmCIF if it looks like it.
///
/// # Errors
/// If the syntax is wrong, coordinates are no numbers, or there is no atom.
pub fn parse(text: &str) -> Result<Vec<Chain>, CifFault> {
    let chains = if sites::is_mmcif(text) { parse_mmcif(text)? } else { observed(sites::from_pdb(text)?) };
    if chains.iter().flat_map(|c| &c.residues).all(|r| r.atoms.is_empty()) {
        return Err(CifFault { line: 1, message: "no atom: an mmCIF or PDB file is needed".to_owned() });
    }
    Ok(chains)
}

/// The chains of peptides, if the file tells its polymers, or all there are.
fn parse_mmcif(text: &str) -> Result<Vec<Chain>, CifFault> {
    let cif = Cif::parse(text)?;
    let sites = sites::from_mmcif(&cif)?;
    let mut chains = Vec::new();
    let mut places = HashMap::new();
    for (label, sequence) in polymers(&cif) {
        let mut residues = Vec::with_capacity(sequence.len());
        for (number, code) in sequence {
            places.insert((label, number), (chains.len(), residues.len()));
            residues.push(Residue { code: code.to_owned(), ..Residue::default() });
        }
        chains.push(Chain { id: label.to_owned(), label: label.to_owned(), residues });
    }
    if chains.is_empty() {
        return Ok(observed(sites));
    }
    for site in sites {
        let Some(&(c, r)) = places.get(&(site.label, site.seq)) else { continue };
        site.chain.clone_into(&mut chains[c].id);
        let residue = &mut chains[c].residues[r];
        if residue.code == site.code {
            residue.number = site.number.0.parse().ok();
            residue.add(&site);
        }
    }
    Ok(chains)
}

/// Sequences of the chains that are peptides, by mmCIF's id: number and code of each residue. Where a number has two residues, the first.
fn polymers<'t>(cif: &Cif<'t>) -> Vec<(&'t str, Vec<(&'t str, &'t str)>)> {
    let kinds: HashMap<&str, &str> =
        cif.rows(["_chem_comp.id", "_chem_comp.type"]).into_iter().flatten().map(|[id, kind]| (id, kind)).collect();
    let is_peptide = |code: &str| kinds.get(code).is_none_or(|kind| kind.to_ascii_lowercase().contains("peptide"));
    let mut entities: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    let names = ["_entity_poly_seq.entity_id", "_entity_poly_seq.num", "_entity_poly_seq.mon_id"];
    for [entity, number, code] in cif.rows(names).into_iter().flatten() {
        let sequence = entities.entry(entity).or_default();
        if sequence.last().is_none_or(|(last, _)| *last != number) {
            sequence.push((number, code));
        }
    }
    let chains = cif.rows(["_struct_asym.id", "_struct_asym.entity_id"]).into_iter().flatten();
    let of = |[id, entity]: [&'t str; 2]| Some((id, entities.get(entity)?.clone()));
    chains.filter_map(of).filter(|(_, sequence)| sequence.iter().any(|(_, code)| is_peptide(code))).collect()
}

/// Chains of the residues that have atoms, by the authors' ids and numbers. A number with two residues has the first.
fn observed(sites: Vec<Site<'_>>) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut places: HashMap<(String, String, String), usize> = HashMap::new();
    for site in sites {
        let c = chains.iter().position(|chain| chain.id == site.chain).unwrap_or_else(|| {
            let residues = Vec::new();
            chains.push(Chain { id: site.chain.to_owned(), label: site.label.to_owned(), residues });
            chains.len() - 1
        });
        let residues = &mut chains[c].residues;
        let (number, insertion) = site.number;
        let key = (site.chain.to_owned(), number.to_owned(), insertion.to_owned());
        let r = *places.entry(key).or_insert_with(|| {
            let (code, number) = (site.code.to_owned(), number.parse().ok());
            residues.push(Residue { code, number, hetero: !site.is_atom, atoms: Vec::new() });
            residues.len() - 1
        });
        if residues[r].code == site.code {
            residues[r].add(&site);
        }
    }
    chains
}

impl Residue {
    /// Adds an atom. Of alternatives the most occupied is kept, of equal ones the first.
    fn add(&mut self, site: &Site<'_>) {
        let atom = Atom { name: site.name.to_owned(), position: site.position, occupancy: site.occupancy };
        match self.atoms.iter_mut().find(|other| other.name == atom.name) {
            None => self.atoms.push(atom),
            Some(other) if !matches!(site.alternative, "" | "." | "?") && atom.occupancy > other.occupancy => {
                *other = atom
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PDB: &str = "\
ATOM      1  N  AMET A  -1      11.104   6.134  -6.504  0.40  0.00           N
ATOM      2  N  BMET A  -1      12.104   6.134  -6.504  0.60  0.00           N
ATOM      3  CA  MET A  -1      13.104   6.134  -6.504  1.00  0.00           C
HETATM    4 SE   MSE A   2       1.000   2.000   3.000  1.00  0.00          SE
ATOM      5  CA  GLY A   2A      1.000   2.000   4.000  1.00  0.00           C
TER
ATOM      6  CA  SER B   1       1.000   2.000   5.000  1.00  0.00           C
ENDMDL
ATOM      7  CA  SER C   1       1.000   2.000   5.000  1.00  0.00           C
";

    #[test]
    fn records_of_a_pdb_file() {
        let chains = parse(PDB).unwrap();
        assert_eq!(chains.iter().map(|c| (c.id.as_str(), c.residues.len())).collect::<Vec<_>>(), [("A", 3), ("B", 1)]);
        let first = &chains[0].residues[0];
        assert_eq!((first.number, first.atoms.len(), first.atoms[0].position[0]), (Some(-1), 2, 12.104));
        assert!(chains[0].residues[1].hetero && !first.hetero);
        let fault = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(fault(&PDB.replace("13.104", "  nan ")), "line 3: columns 31 to 54 are no coordinates");
        assert_eq!(fault(">q\nMKTV\n"), "line 1: no atom: an mmCIF or PDB file is needed");
    }

    #[test]
    fn sequences_of_an_mmcif_file() {
        let text = "data_x\nloop_\n_entity_poly_seq.entity_id\n_entity_poly_seq.num\n_entity_poly_seq.mon_id\n1 1 MET\n1 2 GLY\n1 2 ALA\n2 1 DA\n\
                    loop_\n_chem_comp.id\n_chem_comp.type\nMET 'L-peptide linking'\nGLY 'peptide linking'\nALA x\nDA 'DNA linking'\n\
                    loop_\n_struct_asym.id\n_struct_asym.entity_id\nA 1\nB 2\nC 1\n\
                    loop_\n_atom_site.label_atom_id\n_atom_site.label_comp_id\n_atom_site.label_asym_id\n_atom_site.auth_asym_id\n\
                    _atom_site.label_seq_id\n_atom_site.Cartn_x\n_atom_site.Cartn_y\n_atom_site.Cartn_z\n\
                    CA GLY A X 2 1 2 3\nCB ALA A X 2 1 2 3\nP DA B Y 1 1 2 3\nO HOH C X . 1 2 3\n";
        let chains = parse(text).unwrap();
        let ids: Vec<_> = chains.iter().map(|c| (c.id.as_str(), c.label.as_str(), c.residues.len())).collect();
        assert_eq!(ids, [("X", "A", 2), ("C", "C", 2)]);
        assert_eq!(chains[0].residues[1].atoms.len(), 1, "of two residues with one number the first");
        let undeclared = &text[text.find("loop_\n_atom_site").unwrap()..];
        let chains = parse(&format!("data_x\n{undeclared}")).unwrap();
        assert_eq!(chains.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["X", "Y"]);
        assert!(parse("data_x\n_a.b 1\n").unwrap_err().to_string().contains("_atom_site.label_atom_id"));
    }
}
