//! Torsions to atoms: AF2 SI Alg. 24 and 25.
use std::sync::LazyLock;

use crate::chem::atom_layout::{C, CA, CHI1, N, N_ATOM14, N_GROUP, residue};
use crate::chem::restype::UNKNOWN;
use crate::features::af2::N_ATOM37;
use crate::geometry::{Rigid, Vec3, dot, minus, times};

/// Frames of the rigid groups of a residue, in Å: backbone, pre-omega, phi, psi, chi1 to chi4.
pub type Groups = [Rigid; N_GROUP];

/// A group that a residue type does not have.
const NOTHING: Rigid = Rigid { rot: [[0.; 3]; 3], trans: [0.; 3] };

/// For each residue type the frame of each group, at an angle of 0, in the frame it hangs on.
static DEFAULTS: LazyLock<Vec<Groups>> = LazyLock::new(|| (0..=UNKNOWN).map(defaults).collect());

fn defaults(restype: u8) -> Groups {
    let r = residue(restype);
    let mut groups = [NOTHING; N_GROUP];
    let (Some(n), Some(ca), Some(c)) = (r.position(N), r.position(CA), r.position(C)) else { return groups };
    let frame = |x, in_plane, trans| Rigid::from_two_vectors(x, in_plane, trans, |v| times(v, 1. / dot(v, v).sqrt()));
    groups[0] = Rigid::IDENTITY;
    groups[1] = Rigid::IDENTITY;
    groups[2] = frame(minus(n, ca), [1., 0., 0.], n);
    groups[3] = frame(minus(c, ca), minus(ca, n), c);
    for (k, chi) in r.chis.iter().enumerate() {
        let [a, b, c, _] = chi.atoms.map(|atom| r.position(atom).expect("a residue has the atoms of its chi angles"));
        // Beyond chi1 the axis begins at the origin of the frame before.
        groups[CHI1 + k] = if k == 0 { frame(minus(c, b), minus(a, b), c) } else { frame(c, [-1., 0., 0.], c) };
    }
    groups
}

/// Frames of a residue from its backbone, in Å, and `(sin, cos)` of its seven torsions.
pub fn groups(restype: u8, backbone: &Rigid, angles: &[[f32; 2]; N_GROUP - 1]) -> Groups {
    let mut groups = DEFAULTS[usize::from(restype.min(UNKNOWN))];
    for (group, angle) in groups[1..].iter_mut().zip(angles) {
        let [sin, cos] = angle.map(f64::from);
        *group = group.compose(&Rigid { rot: [[1., 0., 0.], [0., cos, -sin], [0., sin, cos]], trans: [0.; 3] });
    }
    for k in CHI1 + 1..N_GROUP {
        groups[k] = groups[k - 1].compose(&groups[k]);
    }
    groups.map(|group| backbone.compose(&group))
}

/// Positions of atom14 in Å; places that the residue type does not use are at the origin.
pub fn atom14(restype: u8, groups: &Groups) -> [[f32; 3]; N_ATOM14] {
    let mut out = [[0.; 3]; N_ATOM14];
    for (out, atom) in out.iter_mut().zip(&residue(restype).atoms) {
        let x: Vec3 = groups[atom.group].apply(atom.position);
        *out = x.map(|v| v as f32);
    }
    out
}

/// The atoms of atom14 in their places of atom37; others are at the origin.
pub fn atom37(restype: u8, atom14: &[[f32; 3]; N_ATOM14]) -> [[f32; 3]; N_ATOM37] {
    let mut out = [[0.; 3]; N_ATOM37];
    for (atom, x) in residue(restype).atoms.iter().zip(atom14) {
        out[atom.atom37] = *x;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chem::atom_layout::{CB, O};

    #[test]
    fn an_extended_serine_has_the_usual_bonds() {
        let serine = 15;
        let turned = groups(serine, &Rigid::IDENTITY, &[[0., 1.]; 7]);
        let atoms = atom37(serine, &atom14(serine, &turned));
        let distance = |a: usize, b: usize| {
            let d = minus(atoms[a].map(f64::from), atoms[b].map(f64::from));
            dot(d, d).sqrt()
        };
        for (a, b, length) in [(N, CA, 1.46), (CA, C, 1.52), (C, O, 1.23), (CA, CB, 1.53), (CB, 8, 1.42)] {
            assert!((distance(a, b) - length).abs() < 0.02, "{a} {b}: {}", distance(a, b));
        }
    }
}
