//! `summary.csv`: the columns that PXDesign keeps (`utils/pipeline.py`, `trim_summary_df`), numbers as pandas writes them.
use std::fmt::Write;

use super::rank::Ranked;
use super::{Row, SecondModel};

/// What the table tells of a design beside its scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Whose structure was copied: `orig`, `af2` or the second network's.
    pub kind: String,
    /// Where to.
    pub path: String,
    /// The structure cluster that it belongs to, and whether it stands for it; of designs that pass.
    pub cluster: Option<(usize, bool)>,
}

/// The scores of the first filter, under the names of the table.
const FIRST: [&str; 11] = [
    "af2_plddt",
    "af2_ptm",
    "af2_iptm",
    "af2_pAE",
    "af2_ipAE",
    "af2_monomer_plddt",
    "af2_monomer_ptm",
    "af2_monomer_pAE",
    "af2_bound_unbound_RMSD",
    "af2_binder_pred_design_rmsd",
    "af2_complex_pred_design_rmsd",
];
/// Those of the second, behind its prefix.
const SECOND: [&str; 7] = ["plddt", "ptm_binder", "ptm_target", "iptm", "ptm", "iptm_binder", "pred_design_rmsd"];

/// The table: `ranked` with `chosen` beside it, over `rows`. `second` is the network of the second filter if there was one; columns of
/// clusters are there if a design has one.
pub fn summary(rows: &[Row], ranked: &[Ranked], chosen: &[Chosen], second: Option<SecondModel>) -> String {
    let clusters = chosen.iter().any(|c| c.cluster.is_some());
    let mut table = header(second, clusters).join(",") + "\n";
    for (rank, (place, chosen)) in ranked.iter().zip(chosen).enumerate() {
        let cells = cells(rank + 1, &rows[place.row], place, chosen, second, clusters);
        table += &(cells.join(",") + "\n");
    }
    table
}

fn header(second: Option<SecondModel>, clusters: bool) -> Vec<String> {
    let mut names: Vec<String> =
        ["rank", "task_name", "sequence", "AF2-IG-easy-success", "AF2-IG-success"].map(str::to_owned).into();
    names.extend(second.iter().flat_map(|m| ["-success", "-basic-success"].map(|end| format!("{}{end}", m.title()))));
    names.extend(FIRST.map(str::to_owned));
    names.extend(second.iter().flat_map(|m| SECOND.map(|name| format!("{}_{name}", m.prefix()))));
    names.extend(["alpha", "beta", "loop", "Rg", "chosen_struct_type", "chosen_struct_path"].map(str::to_owned));
    if clusters {
        names.extend(["cluster", "representative"].map(str::to_owned));
    }
    names
}

fn cells(
    rank: usize,
    row: &Row,
    place: &Ranked,
    chosen: &Chosen,
    second: Option<SecondModel>,
    clusters: bool,
) -> Vec<String> {
    let flag = |set: bool| if set { "True" } else { "False" }.to_owned();
    let mut cells = vec![rank.to_string(), text(&row.task), text(&row.sequence)];
    cells.extend([flag(place.flags.first_easy), flag(place.flags.first)]);
    if second.is_some() {
        cells.extend([flag(place.flags.second), flag(place.flags.second_basic)]);
    }
    let s = &row.first;
    let first = [s.plddt, s.ptm, s.iptm, s.pae, s.unscaled_i_pae, s.monomer_plddt, s.monomer_ptm, s.monomer_pae];
    cells.extend(first.map(number));
    cells.extend([s.bound_unbound_rmsd, s.binder_rmsd, s.complex_rmsd].map(number));
    if second.is_some() {
        let of = row
            .second
            .map_or([f64::NAN; 7], |s| [s.plddt, s.ptm_binder, s.ptm_target, s.iptm, s.ptm, s.iptm_binder, s.rmsd]);
        cells.extend(of.map(number));
    }
    cells.extend(row.elements.map(number));
    cells.extend([number(row.rg), text(&chosen.kind), text(&chosen.path)]);
    if clusters {
        let cluster = chosen.cluster.map(|(cluster, stands)| [cluster.to_string(), flag(stands)]);
        cells.extend(cluster.unwrap_or_default());
    }
    cells
}

/// A cell of text, quoted where it has to be.
fn text(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// The shortest decimal number that is this one, as Python writes it; nothing for NaN.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return String::new();
    }
    if value.is_infinite() {
        return if value > 0. { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0. && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let mut made = String::new();
        write!(made, "{digits}e{sign}{:02}", exponent.abs()).expect("a string takes what is written");
        return made;
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::super::rank::{Limits, Ranking, rank};
    use super::super::tests::row;
    use super::*;

    #[test]
    fn numbers_as_python_writes_them() {
        let written = [0.1, 1., 1e16, 1e15, 0.0001, 0.00001, 1.5e-7, -2.5e20, f64::NAN, 0.].map(number);
        let expected =
            ["0.1", "1.0", "1e+16", "1000000000000000.0", "0.0001", "1e-05", "1.5e-07", "-2.5e+20", "", "0.0"];
        assert_eq!(written, expected);
    }

    #[test]
    fn columns_are_named_after_the_model() {
        let mut rows = vec![row(), row()];
        rows[1].task = "a, b".into();
        rows[1].second = None;
        let ranked = rank(&rows, Ranking::Extended, Limits { most: 9, least: 9 });
        let chosen = |cluster| Chosen { kind: "of3".into(), path: "x/rank_1.cif".into(), cluster };
        let table = summary(&rows, &ranked, &[chosen(Some((1, true))), chosen(None)], Some(SecondModel::OpenFold3));
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].contains(",OpenFold3-success,OpenFold3-basic-success,af2_plddt,"));
        assert!(lines[0].contains(",of3_plddt,of3_ptm_binder,") && lines[0].ends_with(",cluster,representative"));
        assert!(lines[1].ends_with(",11.5,of3,x/rank_1.cif,1,True"));
        assert!(
            lines[2].starts_with("2,\"a, b\",MKTV,True,True,False,False,0.95,")
                && lines[2].ends_with(",,,,,,,0.5,0.25,0.25,11.5,of3,x/rank_1.cif,,")
        );
        assert!(lines.iter().skip(2).all(|l| l.matches(',').count() > 30));
    }
}
