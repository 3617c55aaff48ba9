//! mmCIF with the ModelCIF tables that viewers read: pLDDT of the model and of each residue (`ma_qa_metric`), beside the
//! atoms, where it is the B factor.
//!
//! The tables are formatted here: pdbtbx, which reads them back in the tests, writes none of them but `atom_site`.
//! Checked with gemmi, Biotite, python-modelcif and pdbtbx (tests/validate). Chains carry the user's ids in both naming
//! schemes (`label_asym_id`, `auth_asym_id`).
use std::fmt::Write;

use super::structure::Structure;

/// Formats a structure.
pub fn format(s: &Structure) -> String {
    let mut out = Cif { text: format!("data_{}\n", block_name(&s.name)) };
    out.pairs("_entry", &[("id", &block_name(&s.name))]);
    let model_details = format!("Predicted by {} {} with fold {}", s.origin.model, s.origin.release, s.origin.version);
    out.pairs(
        "_struct",
        &[("entry_id", &block_name(&s.name)), ("title", &s.title), ("pdbx_model_details", &model_details)],
    );
    out.table(
        "_audit_conform",
        &["dict_name", "dict_version", "dict_location"],
        [
            ["mmcif_pdbx.dic", "5.397", "http://mmcif.pdb.org/dictionaries/ascii/mmcif_pdbx.dic"],
            ["mmcif_ma.dic", "1.4.7", "https://raw.githubusercontent.com/ihmwg/ModelCIF/master/dist/mmcif_ma.dic"],
        ],
    );
    out.table(
        "_software",
        &["pdbx_ordinal", "name", "classification", "description", "version", "type"],
        [
            ["1", "fold", "model building", "Structure prediction", &s.origin.version, "program"],
            ["2", &s.origin.model, "model building", "Structure prediction model", &s.origin.release, "package"],
        ],
    );
    out.table("_ma_software_group", &["ordinal_id", "group_id", "software_id"], [["1", "1", "1"], ["2", "1", "2"]]);
    polymers(&mut out, s);
    model(&mut out, s);
    metrics(&mut out, s);
    atoms(&mut out, s);
    out.text
}

/// Components, entities and chains.
fn polymers(out: &mut Cif, s: &Structure) {
    let mut codes: Vec<&str> = s.entities.iter().flat_map(|e| &e.components).map(String::as_str).collect();
    codes.sort_unstable();
    codes.dedup();
    let kind = |code: &str| if code == "GLY" { "peptide linking" } else { "L-peptide linking" };
    let standard = |code: &str| if name_of(code).is_some() && code != "UNK" { "y" } else { "n" };
    out.table(
        "_chem_comp",
        &["id", "type", "mon_nstd_flag", "name"],
        codes.iter().map(|&c| [c, kind(c), standard(c), name_of(c).unwrap_or("?")]),
    );
    let mut elements: Vec<&str> = s.atoms.iter().map(|a| a.element.as_str()).collect();
    elements.sort_unstable();
    elements.dedup();
    out.table("_atom_type", &["symbol"], elements.iter().map(|&e| [e]));
    let numbers: Vec<String> = (1..=s.entities.len()).map(|i| i.to_string()).collect();
    let chains_of = |e: usize| s.chains.iter().filter(move |c| c.entity == e);
    let counts: Vec<String> = (0..s.entities.len()).map(|e| chains_of(e).count().to_string()).collect();
    let entities = || s.entities.iter().enumerate();
    out.table(
        "_entity",
        &["id", "type", "src_method", "pdbx_description", "pdbx_number_of_molecules"],
        entities().map(|(i, e)| [&numbers[i], "polymer", "man", e.description.as_deref().unwrap_or("?"), &counts[i]]),
    );
    let strands = |e: usize| chains_of(e).map(|c| c.id.as_str()).collect::<Vec<_>>().join(",");
    let strands: Vec<String> = (0..s.entities.len()).map(strands).collect();
    let sequences: Vec<String> = s.entities.iter().map(|e| wrapped(&e.sequence)).collect();
    out.table(
        "_entity_poly",
        &[
            "entity_id",
            "type",
            "nstd_linkage",
            "nstd_monomer",
            "pdbx_strand_id",
            "pdbx_seq_one_letter_code",
            "pdbx_seq_one_letter_code_can",
        ],
        numbers
            .iter()
            .enumerate()
            .map(|(i, n)| [n, "polypeptide(L)", "no", "no", &strands[i], &sequences[i], &sequences[i]]),
    );
    out.head("_entity_poly_seq", &["entity_id", "num", "mon_id", "hetero"]);
    for (i, entity) in entities() {
        for (k, code) in entity.components.iter().enumerate() {
            out.row([&numbers[i], &(k + 1).to_string(), code, "n"]);
        }
    }
    out.end();
    out.table(
        "_struct_asym",
        &["id", "entity_id", "details", "pdbx_modified"],
        s.chains.iter().map(|c| [&c.id, numbers[c.entity].as_str(), "?", "N"]),
    );
    let columns = [
        "asym_id",
        "entity_id",
        "seq_id",
        "mon_id",
        "ndb_seq_num",
        "pdb_seq_num",
        "auth_seq_num",
        "pdb_mon_id",
        "auth_mon_id",
        "pdb_strand_id",
        "pdb_ins_code",
        "hetero",
    ];
    out.head("_pdbx_poly_seq_scheme", &columns);
    for chain in &s.chains {
        for (k, code) in s.entities[chain.entity].components.iter().enumerate() {
            let n = &(k + 1).to_string();
            out.row([&chain.id, &numbers[chain.entity], n, code, n, n, n, code, code, &chain.id, ".", "n"]);
        }
    }
    out.end();
    out.table("_ma_target_entity", &["entity_id", "data_id", "origin"], numbers.iter().map(|n| [n, "1", "designed"]));
    out.table(
        "_ma_target_entity_instance",
        &["asym_id", "entity_id", "details"],
        s.chains.iter().map(|c| [&c.id, numbers[c.entity].as_str(), "."]),
    );
}

/// How the model was made.
fn model(out: &mut Cif, s: &Structure) {
    out.table(
        "_ma_data",
        &["id", "name", "content_type", "content_type_other_details"],
        [["1", "Target sequences", "target", "."], ["2", "Model", "model coordinates", "."]],
    );
    out.table("_ma_data_group", &["ordinal_id", "group_id", "data_id"], [["1", "1", "1"], ["2", "2", "2"]]);
    out.table(
        "_ma_protocol_step",
        &[
            "ordinal_id",
            "protocol_id",
            "step_id",
            "method_type",
            "step_name",
            "software_group_id",
            "input_data_group_id",
            "output_data_group_id",
        ],
        [["1", "1", "1", "modeling", "Prediction", "1", "1", "2"]],
    );
    out.table(
        "_ma_model_list",
        &["ordinal_id", "model_id", "model_group_id", "model_name", "model_group_name", "data_id", "model_type"],
        [["1", "1", "1", &s.title, "All models", "2", "Ab initio model"]],
    );
}

/// Confidence of the model and of its residues.
fn metrics(out: &mut Cif, s: &Structure) {
    let mut metrics = vec![
        ["1", "pLDDT", "Predicted local distance difference test, mean over atoms", "pLDDT", "global", "1"],
        ["2", "pLDDT", "Predicted local distance difference test, mean over a residue's atoms", "pLDDT", "local", "1"],
    ];
    let mut global = vec![("1", format!("{:.2}", s.mean_plddt()))];
    if let Some(ptm) = s.ptm {
        metrics.push(["3", "pTM", "Predicted TM score", "pTM", "global", "1"]);
        global.push(("3", format!("{ptm:.4}")));
    }
    if let Some(iptm) = s.iptm {
        metrics.push(["4", "ipTM", "Predicted TM score between chains", "ipTM", "global", "1"]);
        global.push(("4", format!("{iptm:.4}")));
    }
    out.table("_ma_qa_metric", &["id", "name", "description", "type", "mode", "software_group_id"], metrics);
    let ordinals: Vec<String> = (1..=global.len()).map(|i| i.to_string()).collect();
    out.table(
        "_ma_qa_metric_global",
        &["ordinal_id", "model_id", "metric_id", "metric_value"],
        ordinals.iter().zip(&global).map(|(n, (id, value))| [n, "1", id, value.as_str()]),
    );
    let columns =
        ["ordinal_id", "model_id", "label_asym_id", "label_seq_id", "label_comp_id", "metric_id", "metric_value"];
    out.head("_ma_qa_metric_local", &columns);
    for (ordinal, (chain, residue, plddt)) in s.residue_plddt().into_iter().enumerate() {
        let code = &s.entities[s.chains[chain].entity].components[residue - 1];
        let (ordinal, residue, value) = ((ordinal + 1).to_string(), residue.to_string(), format!("{plddt:.2}"));
        out.row([&ordinal, "1", &s.chains[chain].id, &residue, code, "2", &value]);
    }
    out.end();
}

fn atoms(out: &mut Cif, s: &Structure) {
    let columns = [
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
        "Cartn_x",
        "Cartn_y",
        "Cartn_z",
        "occupancy",
        "B_iso_or_equiv",
        "pdbx_formal_charge",
        "auth_seq_id",
        "auth_comp_id",
        "auth_asym_id",
        "auth_atom_id",
        "pdbx_PDB_model_num",
    ];
    out.head("_atom_site", &columns);
    for (i, atom) in s.atoms.iter().enumerate() {
        let chain = &s.chains[atom.chain];
        let code = s.component(atom);
        let (id, entity, residue) = ((i + 1).to_string(), (chain.entity + 1).to_string(), atom.residue.to_string());
        let [x, y, z] = atom.position.map(|v| format!("{v:.3}"));
        let plddt = format!("{:.2}", atom.plddt);
        let group = if name_of(code).is_some() { "ATOM" } else { "HETATM" };
        out.row([
            group,
            &id,
            &atom.element,
            &atom.name,
            ".",
            code,
            &chain.id,
            &entity,
            &residue,
            "?",
            &x,
            &y,
            &z,
            "1.00",
            &plddt,
            "?",
            &residue,
            code,
            &chain.id,
            &atom.name,
            "1",
        ]);
    }
    out.end();
}

/// Name of a standard amino acid.
fn name_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "ALA" => "ALANINE",
        "ARG" => "ARGININE",
        "ASN" => "ASPARAGINE",
        "ASP" => "ASPARTIC ACID",
        "CYS" => "CYSTEINE",
        "GLN" => "GLUTAMINE",
        "GLU" => "GLUTAMIC ACID",
        "GLY" => "GLYCINE",
        "HIS" => "HISTIDINE",
        "ILE" => "ISOLEUCINE",
        "LEU" => "LEUCINE",
        "LYS" => "LYSINE",
        "MET" => "METHIONINE",
        "PHE" => "PHENYLALANINE",
        "PRO" => "PROLINE",
        "SER" => "SERINE",
        "THR" => "THREONINE",
        "TRP" => "TRYPTOPHAN",
        "TYR" => "TYROSINE",
        "VAL" => "VALINE",
        "UNK" => "UNKNOWN",
        _ => return None,
    })
}

/// Lines of 80 letters.
fn wrapped(sequence: &str) -> String {
    let lines: Vec<_> = sequence.as_bytes().chunks(80).map(|line| String::from_utf8_lossy(line)).collect();
    lines.join("\n")
}

/// A data block's name has no blanks.
pub(super) fn block_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect();
    if name.is_empty() { "structure".to_owned() } else { name }
}

/// Text of a file in the making.
pub(super) struct Cif {
    pub text: String,
}

impl Cif {
    pub fn pairs(&mut self, category: &str, items: &[(&str, &str)]) {
        for (item, value) in items {
            let _ = writeln!(self.text, "{category}.{item} {}", quoted(value)); // writing to a text cannot fail
        }
        self.end();
    }

    pub fn table<'a, const N: usize>(
        &mut self,
        category: &str,
        columns: &[&str; N],
        rows: impl IntoIterator<Item = [&'a str; N]>,
    ) {
        self.head(category, columns);
        rows.into_iter().for_each(|row| self.row(row));
        self.end();
    }

    pub fn head(&mut self, category: &str, columns: &[&str]) {
        self.text += "loop_\n";
        columns.iter().for_each(|column| self.text += &format!("{category}.{column}\n"));
    }

    pub fn row<const N: usize>(&mut self, values: [&str; N]) {
        for (i, value) in values.iter().enumerate() {
            let value = quoted(value);
            let at_start = self.text.ends_with('\n');
            match value.strip_prefix('\n') {
                Some(lines) if at_start => self.text += lines,
                None if i > 0 && !at_start => self.text.extend([" ", &value]),
                _ => self.text += &value,
            }
        }
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    pub fn end(&mut self) {
        self.text += "#\n";
    }
}

/// A value as the file format needs it: bare, in quotes, or as a text between lines that start with a semicolon. `.` and
/// `?` mean "does not apply" and "not known".
fn quoted(value: &str) -> std::borrow::Cow<'_, str> {
    let reserved = |v: &str| {
        let v = v.to_ascii_lowercase();
        ["data_", "save_"].iter().any(|word| v.starts_with(word)) || matches!(&*v, "loop_" | "stop_" | "global_")
    };
    let bare = !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_graphic())
        && !value.starts_with(['_', '#', '$', '\'', '"', '[', ']', ';'])
        && !reserved(value);
    if bare {
        return value.into();
    }
    // A quote ends a quoted value only before a blank, but readers differ: a value with a quote takes the other one.
    for quote in ['\'', '"'] {
        if !value.contains(quote) && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return format!("{quote}{value}{quote}").into();
        }
    }
    let text: String = value.chars().map(|c| if c == '\n' || (' '..='~').contains(&c) { c } else { '?' }).collect();
    format!("\n;{}\n;\n", text.replace("\n;", "\n ;")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be() {
        for (value, want) in [
            ("A", "A"),
            ("a b", "'a b'"),
            ("", "''"),
            ("it's", "it's"),
            ("it's a", "\"it's a\""),
            ("O5'", "O5'"),
            ("_x", "'_x'"),
            ("#1", "'#1'"),
            ("data_x", "'data_x'"),
            ("Loop_", "'Loop_'"),
            ("a 'b' \"c\"", "\n;a 'b' \"c\"\n;\n"),
            ("a\nb", "\n;a\nb\n;\n"),
            ("é", "\n;?\n;\n"),
        ] {
            assert_eq!(quoted(value), want);
        }
    }

    /// pdbtbx reads back the atoms, chains and pLDDT.
    #[test]
    fn a_file_is_read_back() {
        let s = crate::io::structure::tests::example();
        let text = format(&s);
        let mut read = pdbtbx::ReadOptions::default();
        read.set_level(pdbtbx::StrictnessLevel::Medium).set_format(pdbtbx::Format::Mmcif);
        let (pdb, faults) = read.read_raw(std::io::BufReader::new(text.as_bytes())).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(pdb.atom_count(), s.atoms.len());
        for (got, want) in pdb.atoms_with_hierarchy().zip(&s.atoms) {
            use pdbtbx::{ContainsAtomConformer, ContainsAtomConformerResidue, ContainsAtomConformerResidueChain};
            assert_eq!(got.chain().id(), s.chains[want.chain].id);
            assert_eq!(got.residue().serial_number(), want.residue as isize);
            assert_eq!(got.residue().name(), Some(s.component(want)));
            assert_eq!(got.atom().name(), want.name);
            assert!((got.atom().b_factor() - f64::from(want.plddt)).abs() < 0.006);
            assert!((got.atom().x() - f64::from(want.position[0])).abs() < 6e-4);
        }
    }
}
