//! Residues of structure files in atom37.
use super::N_ATOM37;
use crate::chem::atom_layout::{ATOM37, C, CA, CB, N};
use crate::geometry::{Vec3, cross, dot, minus, plus, times};
use crate::io::coordinates::Residue;

/// Positions in Å, and which are known.
pub type Atom37 = ([[f32; 3]; N_ATOM37], [f32; N_ATOM37]);

/// Length of CA-CB in Å, angle N-CA-CB and torsion C-N-CA-CB of a CB that is put in.
const IDEAL_CB: (f64, f64, f64) = (1.522, 1.927, -2.143);

/// The atoms of a residue that have a place.
pub fn atom37(residue: &Residue) -> Atom37 {
    let (mut positions, mut mask) = ([[0.; 3]; N_ATOM37], [0.; N_ATOM37]);
    for atom in &residue.atoms {
        if let Some(place) = place(&atom.name) {
            positions[place] = atom.position;
            mask[place] = 1.;
        }
    }
    (positions, mask)
}

/// The atoms of a template's residue: the selenium of selenomethionine takes the place of its sulphur, NH1 of arginine is the one nearer to
/// CD. As `_get_atom_positions` of `alphafold/data/templates.py`.
pub(super) fn template_atoms(residue: &Residue) -> Atom37 {
    let (mut positions, mut mask) = atom37(residue);
    let at = |name: &str| place(name).expect("atom37 has the names of amino acids");
    let selenium = residue.atoms.iter().find(|atom| residue.code == "MSE" && atom.name.eq_ignore_ascii_case("SE"));
    if let Some(atom) = selenium {
        positions[at("SD")] = atom.position;
        mask[at("SD")] = 1.;
    }
    let [cd, nh1, nh2] = ["CD", "NH1", "NH2"].map(at);
    let distance = |i: usize| length(minus(wide(positions[i]), wide(positions[cd])));
    let known = [cd, nh1, nh2].iter().all(|i| mask[*i] > 0.);
    if residue.code == "ARG" && known && distance(nh1) > distance(nh2) {
        positions.swap(nh1, nh2);
    }
    (positions, mask)
}

/// Puts CB where it is not known but N, CA and C are, glycine's too, as ColabDesign does (`prep_pdb`).
pub fn add_missing_cb((positions, mask): &mut Atom37) {
    if mask[CB] > 0. || [N, CA, C].iter().any(|i| mask[*i] == 0.) {
        return;
    }
    positions[CB] = beta([N, CA, C].map(|i| wide(positions[i]))).map(|v| v as f32);
    mask[CB] = 1.;
}

/// Where CB is by the backbone N, CA, C, also of one that is not whole: ColabDesign's `_np_get_cb`.
pub(super) fn beta([n, ca, c]: [Vec3; 3]) -> Vec3 {
    let unit = |v: Vec3| times(v, 1. / (dot(v, v) + 1e-8).sqrt());
    let (length, angle, torsion) = IDEAL_CB;
    let axis = unit(minus(n, ca));
    let normal = unit(cross(minus(n, c), axis));
    let along = plus(times(axis, angle.cos()), times(cross(normal, axis), angle.sin() * torsion.cos()));
    plus(ca, times(minus(along, times(normal, angle.sin() * torsion.sin())), length))
}

/// Atoms that are known.
pub(super) fn n_atom(mask: &[f32]) -> usize {
    mask.iter().filter(|m| **m > 0.).count()
}

fn place(name: &str) -> Option<usize> {
    ATOM37.iter().position(|n| *n == name)
}

fn wide(x: [f32; 3]) -> Vec3 {
    x.map(f64::from)
}

fn length(v: Vec3) -> f64 {
    dot(v, v).sqrt()
}
