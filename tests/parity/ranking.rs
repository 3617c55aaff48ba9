//! fixtures/ranking: what PXDesignBench measures on structures, and the flags, order and tables of PXDesign.
use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use fold::geometry::Vec3;
use fold::score::design::rank::{Flags, Limits, Ranking, rank};
use fold::score::design::rmsd::{ChainCas, anchored, expected_radius, radius_of_gyration, superposed};
use fold::score::design::secondary::{Element, elements, fractions};
use fold::score::design::summary::{Chosen, summary};
use fold::score::design::tm_align::tm_align;
use fold::score::design::{FirstScores, Row, SecondModel, SecondScores, rounded};
use serde_json::Value;

use crate::common::fixture;

const LIMIT: f64 = 1e-6;

fn text(name: &str) -> Result<String> {
    Ok(std::fs::read_to_string(fixture(format!("ranking/{name}")))?)
}

fn json(name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&text(name)?)?)
}

fn points(value: &Value) -> Vec<Vec3> {
    let point = |p: &Value| [0, 1, 2].map(|i| p[i].as_f64().expect("a coordinate"));
    value.as_array().expect("points").iter().map(point).collect()
}

/// Lines of a table by the names of its columns.
fn table(name: &str) -> Result<Vec<HashMap<String, String>>> {
    let text = text(name)?;
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().context("a header")?;
    Ok(lines.map(|line| header.iter().cloned().zip(line).collect()).collect())
}

fn rows() -> Result<Vec<Row>> {
    let row = |line: &HashMap<String, String>| -> Result<Row> {
        let n = |name: &str| -> Result<f64> { Ok(line.get(name).context(name.to_owned())?.parse()?) };
        let first = FirstScores {
            plddt: n("pLDDT")?,
            ptm: n("pTM")?,
            iptm: n("i_pTM")?,
            pae: n("pAE")?,
            i_pae: n("i_pAE")?,
            unscaled_i_pae: n("unscaled_i_pAE")?,
            monomer_plddt: n("pLDDT_MONOMER")?,
            monomer_ptm: n("pTM_MONOMER")?,
            monomer_pae: n("pAE_MONOMER")?,
            bound_unbound_rmsd: n("bound_unbound_RMSD")?,
            binder_rmsd: n("af2_binder_pred_design_rmsd")?,
            complex_rmsd: n("af2_complex_pred_design_rmsd")?,
        };
        let second = SecondScores {
            plddt: n("ptx_plddt")?,
            ptm_binder: n("ptx_ptm_binder")?,
            ptm_target: n("ptx_ptm_target")?,
            iptm: n("ptx_iptm")?,
            ptm: n("ptx_ptm")?,
            iptm_binder: n("ptx_iptm_binder")?,
            rmsd: n("ptx_pred_design_rmsd")?,
        };
        let elements = [n("alpha")?, n("beta")?, n("loop")?];
        let (task, sequence) = (line["task_name"].clone(), line["sequence"].clone());
        Ok(Row { task, sequence, first, second: Some(second), elements, rg: n("Rg")? })
    };
    table("table.csv")?.iter().map(row).collect()
}

#[test]
fn measures_of_structures() -> Result<()> {
    let cases = json("structures.json")?;
    let cases = cases.as_object().context("cases")?;
    let chains = |case: &Value| -> Vec<ChainCas> {
        let chain =
            |c: &Value| ChainCas { sequence: c["sequence"].as_str().unwrap_or("").into(), cas: points(&c["ca"]) };
        case["chains"].as_object().expect("chains").values().map(chain).collect()
    };
    let first = chains(cases.values().next().context("a case")?);
    let all = |chains: &[ChainCas]| chains.iter().flat_map(|c| c.cas.clone()).collect::<Vec<_>>();
    for (name, case) in cases {
        let made = chains(case);
        let binder = &made.last().context("a binder")?.cas;
        let numbers: Vec<i32> = (1..=binder.len() as i32).collect();
        let want = ["alpha", "beta", "loop"].map(|key| case[key].as_f64().expect("a number"));
        ensure!(fractions(&elements(binder, &numbers)) == want, "{name}: elements");
        let rg = radius_of_gyration(binder);
        ensure!(Some(rounded(rg, 2)) == case["rg"].as_f64().map(|v| rounded(v, 2)), "{name}: {rg}");
        let ratio = rounded(rg / expected_radius(binder.len()), 4);
        ensure!((ratio - case["rg_ratio"].as_f64().context("a ratio")?).abs() < LIMIT, "{name}: {ratio}");
        let Some(want) = case["complex_rmsd"].as_f64() else { continue };
        let got = superposed(&all(&made), &all(&first));
        ensure!((got - want).abs() < LIMIT * want, "{name}: {got} for {want}");
        let (got, want) = (
            anchored(&made, &first).context("chains of one sequence")?,
            case["anchored_rmsd"].as_f64().context("a number")?,
        );
        ensure!((got.rmsd - want).abs() < LIMIT * want, "{name}: {} for {want}", got.rmsd);
    }
    Ok(())
}

#[test]
fn secondary_structure_of_whole_chains() -> Result<()> {
    for (name, case) in json("elements.json")?.as_object().context("cases")? {
        let numbers: Vec<i32> = serde_json::from_value(case["numbers"].clone())?;
        let found = elements(&points(&case["ca"]), &numbers);
        let letter = |e: &Element| match e {
            Element::Helix => 'a',
            Element::Strand => 'b',
            Element::Loop => 'c',
        };
        let found: String = found.iter().map(letter).collect();
        ensure!(Some(found.as_str()) == case["elements"].as_str(), "{name}: {found} for {}", case["elements"]);
    }
    Ok(())
}

#[test]
fn flags_of_a_table() -> Result<()> {
    for (row, line) in rows()?.iter().zip(table("flags.csv")?) {
        let flags = Flags::new(row);
        let got = [flags.first_easy, flags.first, flags.second, flags.second_basic];
        let want = ["af2_easy", "af2_opt", "ptx", "ptx_basic"].map(|name| line[&format!("{name}_success")] == "1");
        ensure!(got == want, "{}", line["name"]);
    }
    Ok(())
}

#[test]
fn order_and_summary() -> Result<()> {
    let rows = rows()?;
    for (mode, ranking) in [("preview", Ranking::Preview), ("extended", Ranking::Extended)] {
        for (suffix, limits) in [
            ("", if mode == "preview" { Limits { most: 12, least: 40 } } else { Limits { most: 60, least: 58 } }),
            ("_few", Limits { most: 5, least: 3 }),
        ] {
            let ranked = rank(&rows, ranking, limits);
            let want = table(&format!("{mode}{suffix}.csv"))?;
            ensure!(ranked.len() == want.len(), "{mode}{suffix}: {} designs for {}", ranked.len(), want.len());
            for (got, want) in ranked.iter().zip(&want) {
                let (name, bucket) = (format!("demo_sample_{}", got.row), got.bucket.to_string());
                ensure!(name == want["name"] && bucket == want["bucket"], "{mode}{suffix}: {got:?} for {want:?}");
            }
            let chosen: Vec<Chosen> = ranked
                .iter()
                .enumerate()
                .map(|(i, r)| {
                    let kind = match (ranking, r.passes_first, r.passes_second) {
                        (Ranking::Preview, true, _) => "af2",
                        (Ranking::Extended, _, true) => "ptx",
                        _ => "orig",
                    };
                    Chosen { kind: kind.into(), path: format!("{kind}/rank_{}.cif", i + 1), cluster: None }
                })
                .collect();
            let second = (ranking == Ranking::Extended).then_some(SecondModel::Protenix);
            ensure!(
                summary(&rows, &ranked, &chosen, second) == text(&format!("{mode}{suffix}_summary.csv"))?,
                "{mode}{suffix}: table"
            );
        }
    }
    Ok(())
}

/// TM-align by tmtools 0.3.0, which is its authors' program. Alignments are searched for: ours may be better, not much worse.
#[test]
fn structures_are_aligned() -> Result<()> {
    let mut chains: HashMap<String, Vec<Vec3>> = HashMap::new();
    for (name, case) in json("structures.json")?.as_object().context("cases")? {
        let binder = case["chains"].as_object().and_then(|c| c.values().next_back()).context("a binder")?;
        chains.insert(name.clone(), points(&binder["ca"]));
    }
    for (name, case) in json("elements.json")?.as_object().context("cases")? {
        chains.insert(name.clone(), points(&case["ca"]));
    }
    let part = chains["5o45.cif"][20..85].to_vec();
    chains.insert("5o45_part".into(), part);
    for pair in json("alignments.json")?["pairs"].as_array().context("pairs")? {
        let chain = |i: usize| pair[i].as_str().and_then(|name| chains.get(name)).context("a chain");
        let found = tm_align(chain(0)?, chain(1)?).context("an alignment")?;
        let scores: Vec<f64> = [2, 3].iter().map(|i| pair[*i].as_f64().context("a score")).collect::<Result<_>>()?;
        // Alike over the whole of both, or only in part, where many alignments are as good.
        let limit = if scores.iter().all(|score| *score > 0.5) { 0.01 } else { 0.05 };
        for (got, want) in [found.by_first, found.by_second].into_iter().zip(scores) {
            println!("{} {} {got:.4} for {want:.4}", pair[0], pair[1]);
            ensure!(got > want - limit && got < want + 0.1, "{pair}: {got} for {want}");
        }
    }
    Ok(())
}
