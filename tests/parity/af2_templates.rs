//! fixtures/af2/templates.py: structures laid on chains, and initial guesses, as the official functions make them.
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use fold::features::af2::atom37::{self, Atom37};
use fold::features::af2::design::KnownChain;
use fold::features::af2::guess::initial_guess;
use fold::features::af2::monomer::Sampling;
use fold::features::af2::{ChainCopy, Family, N_ATOM37, Raw, Template};
use fold::query::{self, Query, template_chains};

use crate::common::{Golden, assert_close, fixture};

/// Sequences of complexes.py.
const A: &str = "MKVLAAGWT";
const B: &str = "EHPCYXQ";
/// Place of the sulphur of methionine in atom37.
const SD: usize = 18;

/// A query of chains with their templates, as the objects of its JSON.
fn query(chains: &[(&str, &str)]) -> Result<Query> {
    let chain = |(i, (sequence, templates)): (usize, &(&str, &str))| {
        let id = char::from(b'A' + i as u8);
        format!(
            r#"{{"molecule_type": "protein", "chain_ids": "{id}", "sequence": "{sequence}", "templates": [{templates}]}}"#
        )
    };
    let chains: Vec<_> = chains.iter().enumerate().map(chain).collect();
    let text = format!(r#"{{"queries": {{"q": {{"chains": [{}]}}}}}}"#, chains.join(", "));
    Ok(query::parse(&fixture("af2/query.json"), text.as_bytes())?.queries.remove(0))
}

/// A template with the pairs of template_pairs.json.
fn object(case: &str) -> Result<String> {
    let pairs: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(fixture("af2/template_pairs.json"))?)?;
    let [_, chain, query, template] = &pairs[case].as_array().context("a case")?[..] else { anyhow::bail!("{case}") };
    Ok(format!(
        r#"{{"path": "template.cif", "chain_id": {chain}, "query_indices": {query}, "template_indices": {template}}}"#
    ))
}

fn values(g: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(g.get(name)?.flatten_all()?.to_vec1()?)
}

/// Restypes and masks exactly, positions within a rounding of f32.
fn compare(got: &Template, restype: &[f32], mask: &[f32], positions: &[f32]) -> Result<()> {
    let all = |x: &[u8]| x.iter().map(|v| f32::from(*v)).collect::<Vec<_>>();
    ensure!(all(&got.restype) == restype, "{:?}, {restype:?}", got.restype);
    ensure!(got.mask == mask, "masks");
    ensure!(got.positions.as_flattened() == positions, "positions");
    Ok(())
}

/// HHblits' letters in our order.
fn ours(hhblits: f32) -> Result<f32> {
    let letter = b"ACDEFGHIKLMNPQRSTVWYX-"[hhblits as usize];
    Ok(f32::from(fold::features::af2::monomer::letter(letter).context("a letter")?))
}

#[test]
fn structures_on_chains() -> Result<()> {
    let g = Golden::open("af2/templates.safetensors")?;
    for (case, sequence) in [("one", A), ("gaps", A), ("other", B)] {
        let raw = Raw::new(&query(&[(sequence, &object(case)?)])?, Family::Monomer)?;
        let types = values(&g, &format!("{case}/aatype"))?.into_iter().map(ours).collect::<Result<Vec<_>>>()?;
        let (masks, positions) = (values(&g, &format!("{case}/masks"))?, values(&g, &format!("{case}/positions"))?);
        compare(&raw.templates[0], &types, &masks, &positions).context(case)?;
    }
    Ok(())
}

/// ColabFold's way from PDB to mmCIF renames selenomethionine and so loses its selenium: it is the only atom more here.
#[test]
fn structures_of_pdb_files() -> Result<()> {
    let g = Golden::open("af2/templates.safetensors")?;
    let template = r#"{"path": "template.pdb", "chain_id": "X", "queryIndices": [0, 1, 2, 3, 4, 5, 7, 8],
                       "templateIndices": [0, 1, 2, 3, 4, 5, 6, 7]}"#;
    let mut raw = Raw::new(&query(&[(A, template)])?, Family::Monomer)?;
    let template = &mut raw.templates[0];
    let selenium = 4 * N_ATOM37 + SD;
    ensure!(std::mem::take(&mut template.mask[selenium]) == 1. && template.restype[4] == 12);
    template.positions[selenium] = [0.; 3];
    let types = values(&g, "pdb/aatype")?.into_iter().map(ours).collect::<Result<Vec<_>>>()?;
    compare(template, &types, &values(&g, "pdb/masks")?, &values(&g, "pdb/positions")?)
}

#[test]
fn templates_of_a_monomer() -> Result<()> {
    let g = Golden::open("af2/templates.safetensors")?;
    let text = std::fs::read_to_string(fixture("af2/complex_homo.a3m"))?;
    let (_, rows) = text.split_once('\n').context("a first line")?;
    let mut alignment = query::parse(&fixture("af2/q.a3m"), rows.as_bytes())?.queries.remove(0);
    let templates = format!("{}, {}", object("one")?, object("gaps")?);
    alignment.chains[0].templates = query(&[(A, &templates)])?.chains.remove(0).templates;
    let raw = Raw::new(&alignment, Family::Monomer)?;
    let (max_msa, max_extra_msa) = raw.sizes(Some((8, 3)));
    let sampling = Sampling { max_msa, max_extra_msa, seed: 4, n_pass: 2 };
    for pass in 0..2 {
        let got = raw.pass(&sampling, pass);
        let want = |key: &str| -> Result<Vec<f32>> {
            Ok(g.get(&format!("monomer/{key}"))?.get(pass)?.flatten_all()?.to_vec1()?)
        };
        ensure!(want("template_mask")? == [1., 1., 0., 0.] && got.templates.len() == 2, "two templates");
        let (types, masks, positions) =
            (want("template_aatype")?, want("template_all_atom_masks")?, want("template_all_atom_positions")?);
        let n = A.len();
        for (t, template) in got.templates.iter().enumerate() {
            let (atoms, coordinates) = (n * N_ATOM37, 3 * n * N_ATOM37);
            let masks = &masks[t * atoms..][..atoms];
            compare(template, &types[t * n..][..n], masks, &positions[t * coordinates..][..coordinates])?;
        }
        ensure!(got.msa.mask == want("msa_mask")? && got.extra_msa.mask == want("extra_msa_mask")?, "masks of rows");
        let letters: Vec<f32> = got.extra_msa.rows.iter().map(|l| f32::from(*l)).collect();
        ensure!(letters == want("extra_msa")?, "extra rows, pass {pass}");
        let tensor = |x: &[f32]| Tensor::new(x, &Device::Cpu);
        let features = tensor(&want("msa_feat")?)?;
        assert_close(&format!("pass {pass}: clusters"), &tensor(&got.msa.features)?, &features, 2e-7)?;
    }
    Ok(())
}

#[test]
fn templates_of_one_chain_of_a_complex() -> Result<()> {
    let g = Golden::open("af2/templates.safetensors")?;
    let query = query(&[(A, ""), (B, &object("other")?)])?;
    let raw = Raw::new(&query, Family::Multimer)?;
    let error = Raw::new(&query, Family::Monomer).unwrap_err().to_string();
    ensure!(error.starts_with("chain B has templates, and monomer models take none of complexes"), "{error}");
    let get = |key: &str| values(&g, &format!("multimer/{key}"));
    let (types, masks, positions) =
        (get("template_aatype")?, get("template_all_atom_mask")?, get("template_all_atom_positions")?);
    let n = raw.n_res();
    ensure!(raw.templates.len() == 4 && types.len() == 4 * n, "four slots");
    for (t, template) in raw.templates.iter().enumerate() {
        let (atoms, coordinates) = (n * N_ATOM37, 3 * n * N_ATOM37);
        let masks = &masks[t * atoms..][..atoms];
        compare(template, &types[t * n..][..n], masks, &positions[t * coordinates..][..coordinates])?;
    }
    Ok(())
}

#[test]
fn initial_guesses() -> Result<()> {
    let g = Golden::open("af2/templates.safetensors")?;
    let file = template_chains(&std::fs::read_to_string(fixture("af2/guess.pdb"))?).map_err(anyhow::Error::msg)?;
    let copy = |chain, id: &str, n_res| ChainCopy { chain, id: id.to_owned(), n_res };
    let chains = [copy(0, "A", 9), copy(1, "B", 6)];
    let (positions, mask) = initial_guess(&file, &chains, |_: &mut Atom37| {})?;
    ensure!(positions.as_flattened() == values(&g, "guess/positions")? && mask == values(&g, "guess/masks")?, "atoms");

    let (with_cb, _) = initial_guess(&file, &chains, |residue| {
        residue.1[atom37_cb()] = 0.;
        atom37::add_missing_cb(residue);
    })?;
    let cb: Vec<f32> = with_cb.chunks(N_ATOM37).flat_map(|residue| residue[atom37_cb()]).collect();
    assert_close("CB", &Tensor::new(&cb[..], &Device::Cpu)?, &g.get("guess/cb")?, 1e-6)?;

    let known: Vec<KnownChain> = file.iter().map(KnownChain::from).collect();
    let first: Vec<[f32; 3]> = known.iter().flat_map(|chain| &chain.positions).copied().collect();
    ensure!(first.as_flattened() == values(&g, "guess/positions")?, "chains of a design");
    ensure!(known[1].residue_index == [100, 101, 102, 103, 104, 105] && known[1].restype.len() == 6);

    let error = initial_guess(&file, &chains[..1], |_| {}).unwrap_err().to_string();
    ensure!(
        error.starts_with("the initial guess has 15 residues with coordinates (X: 9, Y: 6), the query has 9 (A: 9)"),
        "{error}"
    );
    Ok(())
}

fn atom37_cb() -> usize {
    fold::chem::atom_layout::CB
}
