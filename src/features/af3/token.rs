//! Token rows: one for each residue (AF3 SI Table 5, token and chain features).
use super::Af3Features;
use crate::assembly::Assembly;

/// Fills the token features and the map between tokens and atoms.
pub(super) fn token_features(assembly: &Assembly, f: &mut Af3Features) {
    let mut n_atom = 0;
    for chain in &assembly.chains {
        for residue in &chain.residues {
            f.token_index.push(f.token_index.len() as i32);
            f.residue_index.push(residue.number as i32);
            f.asym_id.push(chain.asym_id as i32);
            f.entity_id.push(chain.entity_id as i32);
            f.sym_id.push(chain.sym_id as i32);
            f.restype.push(residue.restype);
            f.cyclic_mask.push(chain.cyclic);
            f.num_atoms_per_token.push(residue.component.atoms.len());
            f.start_atom_index.push(n_atom);
            n_atom += residue.component.atoms.len();
        }
    }
    let n = f.token_index.len();
    f.token_mask = vec![1.; n];
    f.is_protein = vec![true; n];
    for flag in [&mut f.is_rna, &mut f.is_dna, &mut f.is_ligand, &mut f.is_atomized] {
        *flag = vec![false; n];
    }
}
