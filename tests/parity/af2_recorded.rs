//! What ColabFold has recorded of the real weights: fixtures/af2/recorded.py makes the files, which are not committed.
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use fold::chem::atom_layout::{ATOM37, residue};
use fold::chem::restype::CODES;
use fold::features::af2::N_ATOM37;
use fold::io::colabfold::{PdbResidue, format_pdb};
use fold::score::af2::Af2Confidence;

use crate::common::Golden;

const LIMIT: f32 = 1e-4;
/// Peptides, the first run with and without residues of padding.
const CASES: [(&str, usize); 3] = [("5AWL_1", 10), ("5AWL_1_padded", 10), ("6A5J", 13)];

#[test]
#[ignore = "needs ColabFold's recorded outputs: fixtures/af2/README.md"]
fn recorded_outputs_of_the_real_weights() -> Result<()> {
    let folder = std::env::var_os("FOLD_COLABFOLD_RECORD").context("FOLD_COLABFOLD_RECORD: fixtures/af2/README.md")?;
    let folder = PathBuf::from(folder);
    let g = Golden::open(folder.join("recorded.safetensors"))?;
    for (name, n) in CASES {
        let get = |what: &str| -> Result<Vec<f32>> { Ok(g.get(&format!("{name}/{what}"))?.flatten_all()?.to_vec1()?) };
        let mask = get("mask")?;
        ensure!(mask.iter().map(|m| *m as usize).sum::<usize>() == n, "{name}: residues");
        // Probabilities were kept of the aligned error; their logarithms are logits.
        let logits: Vec<f32> = get("pae_probabilities")?.iter().map(|p| p.max(1e-38).ln()).collect();
        let got = Af2Confidence::new(&get("plddt_logits")?, Some(&logits), &vec![0; mask.len()], &mask);
        let errors = got.errors.as_ref().context("aligned errors")?;
        for (what, got) in
            [("plddt", &got.plddt[..]), ("mean_plddt", &[got.mean_plddt]), ("pae", &errors.pae), ("ptm", &[errors.ptm])]
        {
            // The recorded probabilities of padding do not sum to 1.
            let width = mask.len();
            let is_real = |k: usize| got.len() == 1 || (k % width < n && k / width < n);
            let far = got.iter().zip(get(what)?).enumerate().filter(|(k, _)| is_real(*k));
            let far = far.map(|(_, (a, b))| (a - b).abs()).fold(0., f32::max);
            println!("{name} {what}: {far:.1e}");
            ensure!(far <= LIMIT, "{name}: {what} differs by {far}");
        }
        let (restype, number, plddt) = (get("aatype")?, get("residue_index")?, get("plddt")?);
        let positions = get("positions")?;
        let residues: Vec<PdbResidue> = (0..n)
            .map(|i| {
                let places = residue(restype[i] as u8).atoms.iter().map(|atom| atom.atom37);
                let mut places: Vec<usize> = places.collect();
                places.sort_unstable();
                let atom = |place| (ATOM37[place], positions.as_chunks::<3>().0[i * N_ATOM37 + place]);
                PdbResidue {
                    code: CODES[restype[i] as usize],
                    chain: 'A',
                    number: number[i] as i32 + 1,
                    plddt: plddt[i],
                    atoms: places.into_iter().map(atom).collect(),
                }
            })
            .collect();
        let want = std::fs::read_to_string(folder.join(format!("{name}.pdb")))?;
        for (got, want) in format_pdb(&residues).lines().zip(want.lines()) {
            ensure!(got == want, "{name}: {got:?} is not {want:?}");
        }
        ensure!(format_pdb(&residues) == want, "{name}: the PDB files differ in length");
    }
    Ok(())
}
