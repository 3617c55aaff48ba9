//! mmCIF of a target with a designed chain, with the tables and columns that PXDesign writes: entities, their sequences, atoms.
//! Coordinates have all digits of their numbers: what is read back is what was written.
use super::mmcif::{Cif, block_name};

/// An atom, with what its row says of its residue and chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site<'a> {
    /// Id of the chain, in both naming schemes.
    pub chain: &'a str,
    /// The chain's name among the chains of its entity.
    pub strand: &'a str,
    /// Entity, from 1.
    pub entity: usize,
    /// mmCIF's kind of polymer, such as `polypeptide(L)`; `None`: the entity is none.
    pub polymer: Option<&'a str>,
    /// Number of the residue, in both naming schemes.
    pub number: i32,
    /// Component code, such as GLY.
    pub code: &'a str,
    /// Is it a `HETATM` record?
    pub is_hetero: bool,
    /// Name of the atom, such as CA.
    pub name: &'a str,
    /// Element symbol.
    pub element: &'a str,
    /// Å.
    pub position: [f32; 3],
    /// B factor.
    pub b_factor: f32,
}

impl Site<'_> {
    fn residue(&self) -> (&str, i32, &str) {
        (self.chain, self.number, self.code)
    }
}

/// Columns of the atoms.
const COLUMNS: [&str; 20] = [
    "group_PDB",
    "id",
    "type_symbol",
    "label_atom_id",
    "label_alt_id",
    "label_comp_id",
    "label_asym_id",
    "label_entity_id",
    "label_seq_id",
    "pdbx_PDB_ins_code",
    "auth_seq_id",
    "auth_comp_id",
    "auth_asym_id",
    "auth_atom_id",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
    "occupancy",
    "B_iso_or_equiv",
    "pdbx_PDB_model_num",
];

/// Formats a complex under the name of a data block and of an entry; the atoms of a residue are together, and so are those of a chain.
pub fn format(block: &str, entry: &str, sites: &[Site<'_>]) -> String {
    let mut out = Cif { text: format!("data_{}\n#\n", block_name(block)) };
    out.pairs("_entry", &[("id", entry)]);
    entities(&mut out, sites);
    out.head("_atom_site", &COLUMNS);
    for (i, site) in sites.iter().enumerate() {
        let group = if site.is_hetero { "HETATM" } else { "ATOM" };
        let (id, entity, number) = ((i + 1).to_string(), site.entity.to_string(), site.number.to_string());
        let [x, y, z] = site.position.map(|v| v.to_string());
        let b_factor = format!("{:.2}", site.b_factor);
        let (atom, code, chain) = (site.name, site.code, site.chain);
        out.row([
            group,
            &id,
            site.element,
            atom,
            ".",
            code,
            chain,
            &entity,
            &number,
            ".",
            &number,
            code,
            chain,
            atom,
            &x,
            &y,
            &z,
            "1.0",
            &b_factor,
            "1",
        ]);
    }
    out.end();
    out.text
}

/// The entities, and of polymers the chains and the residues of the first.
fn entities(out: &mut Cif, sites: &[Site<'_>]) {
    let mut first: Vec<&Site<'_>> = Vec::new();
    for site in sites {
        if first.iter().all(|f| f.entity != site.entity) {
            first.push(site);
        }
    }
    first.sort_by_key(|site| site.entity);
    let ids: Vec<String> = first.iter().map(|f| f.entity.to_string()).collect();
    let kind = |f: &Site<'_>| if f.polymer.is_some() { "polymer" } else { "non-polymer" };
    out.table("_entity", &["id", "pdbx_description", "type"], first.iter().zip(&ids).map(|(f, id)| [id, ".", kind(f)]));
    let strands: Vec<String> = first
        .iter()
        .map(|f| {
            let mut chains: Vec<&str> = sites.iter().filter(|s| s.entity == f.entity).map(|s| s.strand).collect();
            chains.dedup();
            chains.join(",")
        })
        .collect();
    let polymers =
        || first.iter().zip(&ids).zip(&strands).filter_map(|((f, id), strands)| Some((f, id, strands, f.polymer?)));
    out.table(
        "_entity_poly",
        &["entity_id", "pdbx_strand_id", "type"],
        polymers().map(|(_, id, strands, kind)| [id, strands, kind]),
    );
    out.head("_entity_poly_seq", &["entity_id", "hetero", "mon_id", "num"]);
    for (f, id, ..) in polymers() {
        let chain: Vec<&Site<'_>> = sites.iter().filter(|s| s.entity == f.entity && s.chain == f.chain).collect();
        for residue in chain.chunk_by(|a, b| a.residue() == b.residue()) {
            let hetero = if residue[0].is_hetero { "y" } else { "n" };
            out.row([id, hetero, residue[0].code, &residue[0].number.to_string()]);
        }
    }
    out.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::coordinates;

    fn sites() -> Vec<Site<'static>> {
        let site = |chain: &'static str, entity, number, code, name, x: f32| Site {
            chain,
            strand: &chain[..1],
            entity,
            polymer: Some("polypeptide(L)"),
            number,
            code,
            is_hetero: false,
            name,
            element: "C",
            position: [x, -x / 3., 1e-7 * x],
            b_factor: 0.,
        };
        vec![
            site("A0", 1, 38, "GLY", "CA", 0.1),
            site("A0", 1, 38, "GLY", "C", 2560.731),
            site("A0", 1, 97, "TRP", "CA", f32::MIN_POSITIVE),
            site("B0", 2, 1, "xpb", "CA", 1. / 3.),
            Site { polymer: None, is_hetero: true, ..site("C0", 3, 1, "HEM", "FE", 7.) },
        ]
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let sites = sites();
        let chains = coordinates::parse(&format("x_sample_0_predicted_by_protenix", "x", &sites)).unwrap();
        let read: Vec<_> = chains
            .iter()
            .flat_map(|chain| chain.residues.iter().map(move |residue| (chain, residue)))
            .flat_map(|(chain, residue)| residue.atoms.iter().map(move |atom| (chain, residue, atom)))
            .map(|(chain, residue, atom)| {
                (chain.id.as_str(), residue.number.unwrap(), residue.code.as_str(), atom.name.as_str(), atom.position)
            })
            .collect();
        let written: Vec<_> = sites.iter().map(|s| (s.chain, s.number, s.code, s.name, s.position)).collect();
        assert_eq!(read, written);
    }

    #[test]
    fn polymers_have_their_sequence() {
        let text = format("x", "x", &sites());
        let row = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        ["data_x", "_entry.id x", "1 . polymer", "3 . non-polymer", "1 A polypeptide(L)", "2 B polypeptide(L)"]
            .into_iter()
            .for_each(row);
        ["1 n GLY 38", "1 n TRP 97", "2 n xpb 1"].into_iter().for_each(row);
        let xpb = "\nATOM 4 C CA . xpb B0 2 1 . 1 xpb B0 CA 0.33333334 -0.11111111 0.0000000333";
        assert!(text.contains(xpb), "{text}");
        assert!(!text.contains("3 C polypeptide"));
    }
}
