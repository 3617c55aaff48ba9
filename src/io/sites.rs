//! Atoms as the rows of a file tell them: `atom_site` of mmCIF, ATOM and HETATM of PDB; the first model, all alternatives.
use super::cif::{Cif, CifFault};

/// A row of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site<'t> {
    /// The authors' id of the chain, the only one of PDB files.
    pub chain: &'t str,
    /// mmCIF's id of the chain.
    pub label: &'t str,
    /// mmCIF's id of the entity; empty in PDB files.
    pub entity: &'t str,
    /// The authors' number and insertion code; `?` and `.` where there is none.
    pub number: (&'t str, &'t str),
    /// Number in the sequence; `.` or empty: in none.
    pub seq: &'t str,
    /// Component code, such as MSE.
    pub code: &'t str,
    /// Atom name, such as CA.
    pub name: &'t str,
    /// Element symbol; empty if the file has none.
    pub element: &'t str,
    /// Is it an ATOM record, no HETATM?
    pub is_atom: bool,
    /// Mark of an alternative; empty, `.` or `?`: it has none.
    pub alternative: &'t str,
    /// Share of the molecules that have the atom here.
    pub occupancy: f32,
    /// Å.
    pub position: [f32; 3],
    /// The serial number of PDB files, which CONECT names; 0 in mmCIF.
    pub serial: i32,
}

/// The atoms of an mmCIF file's first model.
///
/// # Errors
/// If a column is missing or coordinates are no numbers.
pub fn from_mmcif<'t>(cif: &Cif<'t>) -> Result<Vec<Site<'t>>, CifFault> {
    let fault = |message: String| CifFault { line: 1, message };
    let needed = ["label_atom_id", "label_comp_id", "label_asym_id", "Cartn_x", "Cartn_y", "Cartn_z"];
    let needed = needed.map(|name| format!("_atom_site.{}", name.to_ascii_lowercase()));
    let names: [&str; 6] = std::array::from_fn(|i| needed[i].as_str());
    let Some(rows) = cif.rows(names) else {
        return Err(fault(format!("one of the items {} is missing", needed.join(", "))));
    };
    let column = |name: &str| cif.column(&format!("_atom_site.{name}"));
    let (group, seq, occupancy, alternative) =
        (column("group_pdb"), column("label_seq_id"), column("occupancy"), column("label_alt_id"));
    let (chain, number, insertion, model) =
        (column("auth_asym_id"), column("auth_seq_id"), column("pdbx_pdb_ins_code"), column("pdbx_pdb_model_num"));
    let (entity, element) = (column("label_entity_id"), column("type_symbol"));
    let mut sites = Vec::new();
    for (i, [name, code, label, x, y, z]) in rows.enumerate() {
        let at = |column: &[&'t str], absent: &'t str| column.get(i).copied().unwrap_or(absent);
        if model.get(i) != model.first() {
            continue;
        }
        let Some(position) = position([x, y, z]) else {
            return Err(fault(format!("atom {}: {x}, {y}, {z} are no coordinates", i + 1)));
        };
        sites.push(Site {
            chain: at(chain, label),
            label,
            entity: at(entity, ""),
            number: (at(number, at(seq, "")), at(insertion, "")),
            seq: at(seq, ""),
            code,
            name,
            element: at(element, ""),
            is_atom: at(group, "ATOM") == "ATOM",
            alternative: at(alternative, ""),
            occupancy: at(occupancy, "").parse().unwrap_or(1.),
            position,
            serial: 0,
        });
    }
    Ok(sites)
}

/// The ATOM and HETATM records of a PDB file's first model.
///
/// # Errors
/// If coordinates are no numbers.
pub fn from_pdb(text: &str) -> Result<Vec<Site<'_>>, CifFault> {
    let mut sites = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("ENDMDL") {
            break;
        }
        let is_atom = line.starts_with("ATOM  ");
        if !is_atom && !line.starts_with("HETATM") {
            continue;
        }
        let field = |from: usize, to: usize| line.get(from..to.min(line.len())).unwrap_or_default().trim();
        let Some(position) = position([field(30, 38), field(38, 46), field(46, 54)]) else {
            return Err(CifFault { line: i + 1, message: "columns 31 to 54 are no coordinates".to_owned() });
        };
        sites.push(Site {
            chain: field(21, 22),
            label: field(21, 22),
            entity: "",
            number: (field(22, 26), field(26, 27)),
            seq: "",
            code: field(17, 20),
            name: field(12, 16),
            element: field(76, 78),
            is_atom,
            alternative: field(16, 17),
            occupancy: field(54, 60).parse().unwrap_or(1.),
            position,
            serial: field(6, 11).parse().unwrap_or(0),
        });
    }
    Ok(sites)
}

fn position(words: [&str; 3]) -> Option<[f32; 3]> {
    let values = words.map(|word| word.trim().parse::<f32>().ok().filter(|v| v.is_finite()));
    let [Some(x), Some(y), Some(z)] = values else { return None };
    Some([x, y, z])
}

/// Is it an mmCIF file, by its first word?
pub fn is_mmcif(text: &str) -> bool {
    let first = text.lines().map(str::trim_start).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
    first.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("data_"))
}
