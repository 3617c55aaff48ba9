//! Features of design tasks against those of the official program (fixtures/pxdesign): all exactly, the moved conformers to 1e-6 Å.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fold::chem::dictionary::Dictionary;
use fold::features::array::ArrayFile;
use fold::features::noise::NoiseSource;
use fold::features::pxdesign::{DesignFeatures, featurise};
use fold::query::pxdesign::{self, Task};

use crate::common::{fixture, uniform};

/// The random numbers of the fixtures, by their names.
#[derive(Default)]
struct Named {
    n_residue: usize,
}

impl NoiseSource for Named {
    fn randn(&mut self, n: usize) -> Vec<f32> {
        let name = format!("conformer{}.quaternion", self.n_residue);
        self.n_residue += 1;
        uniform(&name, 1, n).into_iter().map(|u| (3f64.sqrt() * u) as f32).collect()
    }

    fn rand(&mut self, n: usize) -> Vec<f32> {
        let name = format!("conformer{}.translation", self.n_residue);
        uniform(&name, 1, n).into_iter().map(|u| (0.5 * (u + 1.)) as f32).collect()
    }

    fn randint(&mut self, low: u32, _high: u32) -> u32 {
        low
    }

    fn randperm(&mut self, n: usize) -> Vec<usize> {
        (0..n).collect()
    }
}

/// The conformers of a golden file in place of the program's own.
fn with_conformers(task: &mut Task, conformers: &[[f32; 3]]) {
    let mut next = conformers.iter().copied();
    for chain in &mut task.chains {
        for residue in chain.residues.iter_mut().filter(|r| r.kept) {
            for atom in &mut residue.atoms {
                atom.reference = next.next().unwrap_or_default();
            }
        }
    }
    let binder: Vec<[f32; 3]> = next.collect();
    let ends = binder.iter().take(4).chain(binder.last());
    for (atom, position) in task.glycine.iter_mut().zip(ends) {
        atom.reference = *position;
    }
}

fn compare(task: &Path, golden: &Path) -> Result<()> {
    let mut task = pxdesign::read(task, &Dictionary::built_in())?.remove(0);
    let mut file = ArrayFile::open(golden)?;
    let missing = || format!("{}: a tensor is missing", golden.display());
    let conformers = file.f32("feat.conformer", 2).with_context(missing)?;
    with_conformers(&mut task, conformers.data.as_chunks().0);
    let (f, structure) = featurise(&task, &mut Named::default());
    let mut whole = |name: &str, rank: usize| -> Result<Vec<i64>> {
        Ok(file.whole(&format!("feat.{name}"), rank, -1000..=1_000_000).with_context(missing)?.data)
    };
    let mut same = |name: &str, rank: usize, got: Vec<i64>| -> Result<()> {
        let want = whole(name, rank)?;
        ensure!(got.len() == want.len(), "{name}: {} values, not {}", got.len(), want.len());
        let bad: Vec<usize> = (0..got.len()).filter(|&i| got[i] != want[i]).collect();
        let first = bad.first().map(|&i| (i, got[i], want[i]));
        ensure!(bad.is_empty(), "{name}: {} of {} differ, first {first:?}", bad.len(), got.len());
        Ok(())
    };
    let i = |v: &[i32]| v.iter().map(|&x| x.into()).collect::<Vec<i64>>();
    let b = |v: &[u8]| v.iter().map(|&x| x.into()).collect::<Vec<i64>>();
    let m = |v: &[bool]| v.iter().map(|&x| x.into()).collect::<Vec<i64>>();
    same("atom_to_token_idx", 1, f.atom_to_token.iter().map(|&x| x as i64).collect())?;
    same("residue_index", 1, i(&f.residue_index))?;
    same("token_index", 1, i(&f.token_index))?;
    same("asym_id", 1, i(&f.asym_id))?;
    same("entity_id", 1, i(&f.entity_id))?;
    same("sym_id", 1, i(&f.sym_id))?;
    same("restype", 1, b(&f.restype))?;
    same("hotspot", 1, f.hotspot.iter().map(|&x| x as i64).collect())?;
    same("ref_element", 1, b(&f.ref_element))?;
    same("ref_charge", 1, f.ref_charge.iter().map(|&x| x as i64).collect())?;
    same("ref_atom_name_chars", 2, b(f.ref_atom_name.as_flattened()))?;
    same("ref_space_uid", 1, f.ref_space_uid.iter().map(|&x| x.into()).collect())?;
    same("ref_mask", 1, m(&f.ref_mask))?;
    same("conditional_templ_mask", 2, m(&f.distance_mask))?;
    same("conditional_templ", 2, b(&f.distance_bin))?;
    ensure!(f.n_atom() == structure.atoms.len() && f.n_token() == f.asym_id.len());
    positions(&f, &mut file)
}

fn positions(f: &DesignFeatures, file: &mut ArrayFile) -> Result<()> {
    let want = file.f32("feat.ref_pos", 2).context("ref_pos is missing")?;
    let got = f.ref_pos.as_flattened();
    ensure!(got.len() == want.data.len(), "ref_pos: {} values, not {}", got.len(), want.data.len());
    let worst = got.iter().zip(&want.data).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
    ensure!(worst <= 1e-6 * want.data.iter().fold(1f32, |a, b| a.max(b.abs())), "ref_pos: {worst} Å");
    Ok(())
}

#[test]
fn features_are_the_official_ones() -> Result<()> {
    for case in ["crop", "peptide", "pdbinput", "ligand", "dna"] {
        let file = |end: &str| fixture(format!("pxdesign/{case}.{end}"));
        compare(&file("yaml"), &file("safetensors")).with_context(|| case)?;
    }
    Ok(())
}

/// Any task files with goldens beside them: `FOLD_PXDESIGN_FEATURES=<folder>` with `<case>.yaml` and `<case>.safetensors`
/// (fixtures/pxdesign/features.py makes them).
#[test]
#[ignore = "needs a folder of cases"]
fn features_of_a_folder() -> Result<()> {
    let folder =
        PathBuf::from(std::env::var_os("FOLD_PXDESIGN_FEATURES").context("FOLD_PXDESIGN_FEATURES is not set")?);
    let mut failed = 0;
    for entry in std::fs::read_dir(&folder)? {
        let task = entry?.path();
        let golden = task.with_extension("safetensors");
        if task.extension().is_some_and(|e| e == "yaml") && golden.exists() {
            match compare(&task, &golden) {
                Ok(()) => println!("{}: same", task.display()),
                Err(e) => {
                    println!("{}: {e:#}", task.display());
                    failed += 1;
                }
            }
        }
    }
    ensure!(failed == 0, "{failed} cases differ");
    Ok(())
}
