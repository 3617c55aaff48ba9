//! The files of backbones beside those that the official program wrote for the same coordinates.
use anyhow::{Context, Result, ensure};
use fold::chem::dictionary::Dictionary;
use fold::features::noise::TorchGenerator;
use fold::features::pxdesign::featurise;
use fold::io::cif::Cif;
use fold::pipelines::design::complex;
use fold::query::pxdesign;

use crate::common::fixture;

const POSITION: [&str; 3] = ["_atom_site.cartn_x", "_atom_site.cartn_y", "_atom_site.cartn_z"];

/// Columns of text, and whether they are numbers to us.
const COLUMNS: [(&str, bool); 17] = [
    ("_entity.id", false),
    ("_entity.type", false),
    ("_entity_poly.pdbx_strand_id", false),
    ("_entity_poly.type", false),
    ("_entity_poly_seq.entity_id", false),
    ("_entity_poly_seq.hetero", false),
    ("_entity_poly_seq.mon_id", false),
    ("_entity_poly_seq.num", false),
    ("_atom_site.group_pdb", false),
    ("_atom_site.type_symbol", false),
    ("_atom_site.label_atom_id", false),
    ("_atom_site.label_comp_id", false),
    ("_atom_site.label_asym_id", false),
    ("_atom_site.label_entity_id", false),
    ("_atom_site.label_seq_id", false),
    ("_atom_site.occupancy", true),
    ("_atom_site.b_iso_or_equiv", true),
];

#[test]
fn files_are_those_of_the_official_program() -> Result<()> {
    for name in ["crop", "peptide", "pdbinput"] {
        let task = fixture(format!("pxdesign/{name}.yaml"));
        let task = pxdesign::read(&task, &Dictionary::built_in())?.remove(0);
        let (_, structure) = featurise(&task, &mut TorchGenerator::new(0));
        let official = std::fs::read_to_string(fixture(format!("pxdesign/{name}_sample_0.cif")))?;
        let positions = complex::positions(&official, &structure).map_err(anyhow::Error::msg)?;
        let ours = complex::cif(name, &format!("{name}_sample_0"), &structure, &positions);
        ensure!(ours.lines().next() == official.lines().next(), "{name}: the data block has another name");
        let (ours, official) = (Cif::parse(&ours)?, Cif::parse(&official)?);
        for (column, is_number) in COLUMNS.into_iter().chain(POSITION.map(|column| (column, true))) {
            let (got, want) = (ours.column(column), official.column(column));
            ensure!(!want.is_empty() && got.len() == want.len(), "{name}: {column} has {} values", got.len());
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                let number = |text: &str| text.parse::<f32>().context("a number");
                let is_same = if is_number { number(got)? == number(want)? } else { got == want };
                ensure!(is_same, "{name}: {column} of row {} is {got}, not {want}", i + 1);
            }
        }
    }
    Ok(())
}
