//! fixtures/openfold3/scores (regen.py): every score of structures with made-up logits, and accessibility step by step.
use anyhow::{Result, ensure};
use fold::features::af3::Af3Features;
use fold::score::{PairErrors, Scorer, atom_radius, contact_probs, disorder, solvent_accessible_area};

use crate::common::Golden;

/// Of the largest value of each array.
const LIMIT: f32 = 1e-5;

fn values(golden: &Golden, name: &str) -> Result<Vec<f32>> {
    Ok(golden.get(name)?.flatten_all()?.to_vec1()?)
}

/// The features that scores need, from the `in.` arrays of a file.
fn features(golden: &Golden) -> Result<Af3Features> {
    let get = |name: &str| values(golden, &format!("in.{name}"));
    let ints = |name: &str| Ok::<_, anyhow::Error>(get(name)?.into_iter().map(|x| x as i32).collect::<Vec<_>>());
    let counts = |name: &str| Ok::<_, anyhow::Error>(get(name)?.into_iter().map(|x| x as usize).collect::<Vec<_>>());
    let flags = |name: &str| Ok::<_, anyhow::Error>(get(name)?.into_iter().map(|x| x > 0.0).collect::<Vec<_>>());
    let restype = get("restype")?.chunks(32).map(|row| row.iter().position(|&x| x > 0.0).unwrap_or(31) as u8).collect();
    let atom_to_token = counts("atom_to_token_index")?;
    let names = get("atom_name")?.chunks(4).map(|c| [c[0] as u8, c[1] as u8, c[2] as u8, c[3] as u8]).collect();
    let asym_id = ints("asym_id")?;
    let n = asym_id.len();
    let or =
        |name: &str, default: bool| if golden.has(&format!("in.{name}")) { flags(name) } else { Ok(vec![default; n]) };
    Ok(Af3Features {
        token_index: (0..n as i32).collect(),
        residue_index: ints("residue_index")?,
        restype,
        is_protein: or("is_protein", true)?,
        is_rna: or("is_rna", false)?,
        is_dna: or("is_dna", false)?,
        is_ligand: or("is_ligand", false)?,
        is_atomized: or("is_atomized", false)?,
        token_mask: vec![1.0; n],
        start_atom_index: (0..n).filter_map(|t| atom_to_token.iter().position(|&x| x == t)).collect(),
        atom_mask: vec![1.0; atom_to_token.len()],
        ref_atom_name: names,
        atom_to_token,
        asym_id,
        ..Af3Features::default()
    })
}

fn positions(golden: &Golden, sample: usize) -> Result<Vec<[f32; 3]>> {
    let all = values(golden, "in.atom_positions_predicted")?;
    let n = golden.get("in.atom_positions_predicted")?.dim(1)?;
    Ok(all.as_chunks::<3>().0[sample * n..(sample + 1) * n].to_vec())
}

pub fn close(name: &str, got: &[f32], want: &[f32]) -> Result<()> {
    ensure!(got.len() == want.len(), "{name}: {} values, not {}", got.len(), want.len());
    let scale = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
    ensure!(worst <= LIMIT * scale, "{name}: differs by {worst:.1e}, largest value {scale}");
    Ok(())
}

fn scores(name: &str) -> Result<()> {
    let golden = Golden::open(format!("openfold3/scores/{name}.safetensors"))?;
    let features = features(&golden)?;
    let n_sample = golden.get("in.plddt_logits")?.dim(0)?;
    let [plddt, pae, pde] = ["plddt", "pae", "pde"].map(|k| values(&golden, &format!("in.{k}_logits")));
    let (plddt, pae, pde) = (plddt?, pae?, pde?);
    let distogram = values(&golden, "in.distogram_logits")?;
    let n = features.n_token();
    let scorer = Scorer::new(&features, contact_probs(&distogram, distogram.len() / (n * n)));
    let part = |v: &[f32], k: usize| v[k * v.len() / n_sample..(k + 1) * v.len() / n_sample].to_vec();
    for k in 0..n_sample {
        let (plddt, pae, pde) = (part(&plddt, k), part(&pae, k), part(&pde, k));
        // In unequal blocks of rows, as a caller may choose them.
        let mut errors = PairErrors::default();
        for rows in [0..1, 1..n / 2, n / 2..n] {
            let some = |x: &[f32]| x[rows.start * x.len() / n..rows.end * x.len() / n].to_vec();
            scorer.add_rows(&mut errors, rows.len(), &some(&pae), &some(&pde));
        }
        let got = scorer.score(&positions(&golden, k)?, &plddt, errors);
        let want = |key: &str| Ok::<_, anyhow::Error>(part(&values(&golden, &format!("out.{key}"))?, k));
        close("plddt", &got.plddt, &want("plddt")?)?;
        close("pae", &got.pae, &want("pae")?)?;
        close("pde", &got.pde, &want("pde")?)?;
        close("gpde", &[got.gpde], &want("gpde")?)?;
        close("ptm", &[got.ptm], &want("ptm")?)?;
        close("iptm", &[got.iptm], &want("iptm")?)?;
        close("ranking_score", &[got.ranking_score], &want("sample_ranking_score")?)?;
        ensure!(got.disorder == want("disorder")?[0], "disorder {} is not {:?}", got.disorder, want("disorder")?);
        ensure!(f32::from(u8::from(got.has_clash)) == want("has_clash")?[0], "clash");
        let n = got.asym_ids.len();
        for (a, i) in got.asym_ids.iter().enumerate() {
            close(&format!("chain_ptm {i}"), &[got.chain_ptm[a]], &want(&format!("chain_ptm.{i}"))?)?;
            for (b, j) in got.asym_ids.iter().enumerate().skip(a + 1) {
                let pair = want(&format!("chain_pair_iptm.({i},{j})"))?;
                close(&format!("chain_pair_iptm {i} {j}"), &[got.chain_pair_iptm[a * n + b]], &pair)?;
                let bespoke = want(&format!("bespoke_iptm.({i},{j})"))?;
                close(&format!("bespoke_iptm {i} {j}"), &[got.bespoke_iptm[b * n + a]], &bespoke)?;
            }
        }
    }
    Ok(())
}

#[test]
fn one_chain() -> Result<()> {
    scores("monomer")
}

#[test]
fn two_chains() -> Result<()> {
    scores("dimer")
}

#[test]
fn three_chains() -> Result<()> {
    scores("trimer")
}

/// The accessible area is Biotite's to the last bit; the average along the chain is in f64.
#[test]
fn accessibility() -> Result<()> {
    let golden = Golden::open("openfold3/scores/disorder.safetensors")?;
    let features = features(&golden)?;
    let want = values(&golden, "out.atom_sasa")?;
    let n = features.n_atom();
    for k in 0..want.len() / n {
        let x = positions(&golden, k)?;
        for chain in [1, 2] {
            let atoms: Vec<_> = (0..n).filter(|&a| features.asym_id[features.atom_to_token[a]] == chain).collect();
            let radius = |&a: &usize| {
                let name: String = features.ref_atom_name[a].iter().map(|c| char::from(c + 32)).collect();
                let restype = features.restype[features.atom_to_token[a]];
                atom_radius(fold::chem::restype::CODES[usize::from(restype)], name.trim_end())
            };
            let chain_x: Vec<_> = atoms.iter().map(|&a| x[a]).collect();
            let got = solvent_accessible_area(&chain_x, &atoms.iter().map(radius).collect::<Vec<_>>());
            let want: Vec<_> = atoms.iter().map(|&a| want[k * n + a]).collect();
            ensure!(got == want, "sample {k} chain {chain}");
        }
        let got = disorder(&features, &x);
        let want = values(&golden, "out.disorder")?[k];
        ensure!(got == want, "sample {k}: disorder {got} is not {want}");
    }
    Ok(())
}
