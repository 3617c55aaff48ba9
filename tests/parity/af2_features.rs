//! fixtures/af2/msa.py: alignment features of the monomer models, pass by pass, as the official pipeline draws them from a seed.
use anyhow::{Context, Result, ensure};
use fold::features::af2::monomer::{Alignment, Sampling, letter};

use crate::common::{Golden, fixture};

/// Rows of the alignment, cluster centres, other rows, passes, seed; as in msa.py.
const CASES: [(&str, usize, Sampling); 5] = [
    ("alone", 1, Sampling { max_msa: 4, max_extra_msa: 3, n_pass: 2, seed: 3 }),
    ("deep", 40, Sampling { max_msa: 7, max_extra_msa: 9, n_pass: 3, seed: 7 }),
    ("few", 5, Sampling { max_msa: 8, max_extra_msa: 6, n_pass: 2, seed: 1 }),
    ("seed0", 12, Sampling { max_msa: 4, max_extra_msa: 5, n_pass: 2, seed: 0 }),
    ("one_pass", 20, Sampling { max_msa: 6, max_extra_msa: 30, n_pass: 1, seed: 11 }),
];

/// The first `n_row` rows of msa.a3m.
fn alignment(n_row: usize) -> Result<Alignment> {
    let text = std::fs::read_to_string(fixture("af2/msa.a3m"))?;
    let mut made = Alignment::default();
    for row in text.lines().filter(|l| !l.starts_with('>')).take(n_row) {
        let mut skipped = 0.;
        let before = made.rows.len();
        for character in row.bytes() {
            if character.is_ascii_lowercase() {
                skipped += 1.;
            } else {
                made.rows.push(letter(character).context("a letter")?);
                made.deletions.push(std::mem::take(&mut skipped));
            }
        }
        made.n_res = made.rows.len() - before;
    }
    Ok(made)
}

#[test]
fn alignment_features_of_a_monomer() -> Result<()> {
    let g = Golden::open("af2/msa.safetensors")?;
    for (name, n_row, sampling) in CASES {
        let alignment = alignment(n_row)?;
        let n = alignment.n_res;
        let get = |key: &str, pass: usize| -> Result<Vec<f32>> {
            let all = g.get(&format!("{name}/{key}"))?;
            ensure!(all.dim(0)? == sampling.n_pass, "{name}: {:?}", all.dims());
            Ok(all.get(pass)?.flatten_all()?.to_vec1()?)
        };
        for pass in 0..sampling.n_pass {
            let (msa, extra) = alignment.pass(&sampling, pass);
            // The official arrays are padded with rows of mask 0; one such row stands for no extra row at all.
            let compare = |key: &str, got: &[f32], exact: bool| -> Result<()> {
                let want = get(key, pass)?;
                let (same, padding) = want.split_at(got.len());
                let far = got.iter().zip(same).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                ensure!(far <= if exact { 0. } else { 2e-7 }, "{name}, pass {pass}: {key} differs by {far:e}");
                ensure!(!key.ends_with("mask") || padding.iter().all(|m| *m == 0.), "{name}: {key}, padding");
                Ok(())
            };
            compare("msa_mask", &msa.mask, true)?;
            compare("extra_msa_mask", &extra.mask, true)?;
            let letters: Vec<f32> = extra.rows.iter().map(|l| f32::from(*l)).collect();
            compare("extra_msa", &letters, true)?;
            compare("extra_has_deletion", &extra.has_deletion, true)?;
            compare("extra_deletion_value", &extra.deletion_value, false)?;
            compare("msa_feat", &msa.features, false)?;
            // All but the two values on a scale from 0 to 1, which end in an arc tangent, to the bit.
            let want = get("msa_feat", pass)?;
            let whole = |x: &[f32]| -> Vec<u32> {
                let value = |k: usize| !matches!(k % 49, 24 | 48);
                (0..x.len()).filter(|k| value(*k)).map(|k| x[k].to_bits()).collect()
            };
            ensure!(
                whole(&msa.features) == whole(&want[..msa.features.len()]),
                "{name}, pass {pass}: letters or profile"
            );
            ensure!(msa.mask.len() == n * sampling.max_msa.min(n_row), "{name}: {} values", msa.mask.len());
        }
    }
    Ok(())
}
