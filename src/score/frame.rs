//! Which tokens of a structure have a frame: AF3 SI 4.3.2, as OpenFold3 0.5.0 `core/utils/atomize_utils.py`.
use crate::features::af3::Af3Features;
use crate::features::af3::frame::{FrameAtoms, frame_atoms};

/// Least angle between three atoms, in degrees, and from 180.
const MIN_ANGLE: f32 = 25.0;
const EPS: f32 = 1e-8;

/// `[n_token]`. Residues have one if their atoms are there; a token of one atom if it and the two nearest atoms of its
/// chain are not nearly in line.
pub(super) fn has_frame(features: &Af3Features, x: &[[f32; 3]]) -> Vec<bool> {
    let asym_id = |atom: usize| features.asym_id[features.atom_to_token[atom]];
    let real = |atoms: [usize; 3]| atoms.iter().all(|&a| features.atom_mask[a] > 0.0);
    let one_chain = |[a, b, c]: [usize; 3]| asym_id(a) == asym_id(b) && asym_id(b) == asym_id(c);
    let of_token = |(token, atoms): (usize, FrameAtoms)| match atoms {
        _ if features.token_mask[token] == 0.0 => false,
        FrameAtoms::Fixed(atoms) => real(atoms) && one_chain(atoms),
        FrameAtoms::Nearest(b) => {
            features.atom_mask[b] > 0.0 && nearest(features, x, b).is_some_and(|[a, c]| is_bent(x[a], x[b], x[c]))
        }
        FrameAtoms::None => false,
    };
    frame_atoms(features).into_iter().enumerate().map(of_token).collect()
}

/// Second and third of the chain's atoms by the distance to `b`, which itself is the first.
fn nearest(features: &Af3Features, x: &[[f32; 3]], b: usize) -> Option<[usize; 2]> {
    let asym_id = |atom: usize| features.asym_id[features.atom_to_token[atom]];
    let distance = |atom: usize| (0..3).map(|k| EPS + (x[b][k] - x[atom][k]).powi(2)).sum::<f32>();
    let mut atoms: Vec<_> = (0..x.len())
        .filter(|&atom| asym_id(atom) == asym_id(b) && features.atom_mask[atom] > 0.0)
        .map(|atom| (distance(atom), atom))
        .collect();
    atoms.sort_by(|(d, _), (e, _)| d.total_cmp(e));
    Some([atoms.get(1)?.1, atoms.get(2)?.1])
}

/// Is the angle at `b` strictly between 25 and 155 degrees?
fn is_bent(a: [f32; 3], b: [f32; 3], c: [f32; 3]) -> bool {
    let difference = |p: [f32; 3]| [p[0] - b[0], p[1] - b[1], p[2] - b[2]];
    let dot = |u: [f32; 3], v: [f32; 3]| u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    let (u, v) = (difference(a), difference(c));
    let cos = dot(u, v) / ((EPS + dot(u, u)).sqrt() * (EPS + dot(v, v)).sqrt());
    let limit = MIN_ANGLE.to_radians().cos();
    -limit < cos && cos < limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chem::restype::UNKNOWN;

    /// Atomized tokens of one atom each, of these chains.
    fn atoms(asym_id: &[i32]) -> Af3Features {
        let n = asym_id.len();
        Af3Features {
            token_index: (0..n as i32).collect(),
            asym_id: asym_id.to_vec(),
            restype: vec![UNKNOWN; n],
            is_protein: vec![false; n],
            is_rna: vec![false; n],
            is_dna: vec![false; n],
            is_ligand: vec![true; n],
            is_atomized: vec![true; n],
            token_mask: vec![1.0; n],
            atom_mask: vec![1.0; n],
            start_atom_index: (0..n).collect(),
            atom_to_token: (0..n).collect(),
            ..Af3Features::default()
        }
    }

    #[test]
    fn three_atoms_of_one_chain_that_are_not_in_line() {
        let x = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.1, 0.0], [0.0, 0.1, 0.0], [9.0, 0.0, 0.0], [9.0, 1.0, 0.0]];
        // Chain 1: a right angle at the second atom, 42 and 48 degrees at the others; chain 2: one atom; chain 3: two.
        assert_eq!(has_frame(&atoms(&[1, 1, 1, 2, 3, 3]), &x), [true, true, true, false, false, false]);
        let line = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.4, 0.0]]; // 158 degrees at the second
        assert_eq!(has_frame(&atoms(&[1, 1, 1]), &line), [false, false, false]);
        let mut masked = atoms(&[1, 1, 1, 1]);
        masked.atom_mask[0] = 0.0;
        assert!(!has_frame(&masked, &x[..4])[0]);
    }
}
