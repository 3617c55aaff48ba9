//! Torsion angles of templates: AF2 SI 1.2.9, `atom37_to_torsion_angles` and `compute_chi_angles` of the official package.
use super::Template;
use crate::chem::atom_layout::{C, CA, Chi, N, O, residue};
use crate::geometry::{Rigid, Vec3, cross, dot, minus, times};

/// Torsions of a residue: pre-omega, phi, psi, chi1 to chi4.
pub const N_TORSION: usize = 7;
/// Chi angles.
pub const N_CHI: usize = 4;

/// Sine and cosine of each torsion, what they are under the other naming of the atoms, and whether the atoms are known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Torsions {
    /// `(sin, cos)`.
    pub angles: [[f32; 2]; N_TORSION],
    /// `(sin, cos)`.
    pub alternative: [[f32; 2]; N_TORSION],
    /// 1 = all four atoms are known.
    pub mask: [f32; N_TORSION],
}

impl Torsions {
    /// Of residue `i`. Unknown atoms are at the origin, and an angle of them is what the formula gives there.
    pub fn new(template: &Template, i: usize) -> Self {
        let mut out = Self::default();
        let before = |place| if i == 0 { ([0.; 3], 0.) } else { template.atom(i - 1, place) };
        let this = |place| template.atom(i, place);
        let mut atoms = [[this(N); 4]; N_TORSION];
        atoms[0] = [before(CA), before(C), this(N), this(CA)];
        atoms[1] = [before(C), this(N), this(CA), this(C)];
        atoms[2] = [this(N), this(CA), this(C), this(O)];
        let chis = &residue(template.restype[i]).chis;
        for (atoms, chi) in atoms[3..].iter_mut().zip(chis) {
            *atoms = chi.atoms.map(this);
        }
        for (k, atoms) in atoms.into_iter().enumerate() {
            let known = k < 3 || k - 3 < chis.len();
            out.mask[k] = if known { atoms.iter().map(|(_, mask)| mask).product() } else { 0. };
            let [a, b, c, d] = atoms.map(|(x, _)| x.map(f64::from));
            // Psi is measured by O, half a turn from the next N.
            let sign = if k == 2 { -1. } else { 1. };
            out.angles[k] = sine_and_cosine(a, b, c, d).map(|v| (sign * v) as f32);
            let periodic = k >= 3 && chis.get(k - 3).is_some_and(|chi| chi.periodic);
            out.alternative[k] = out.angles[k].map(|v| if periodic { -v } else { v });
        }
        out
    }
}

/// Of the torsion a-b-c-d, from d in the frame of the others; zero where points lie on each other.
fn sine_and_cosine(a: Vec3, b: Vec3, c: Vec3, d: Vec3) -> [f64; 2] {
    let unit = |v: Vec3| times(v, 1. / (dot(v, v) + 1e-8).sqrt());
    let frame = Rigid::from_two_vectors(minus(c, b), minus(a, c), c, unit);
    let [_, y, z] = frame.invert(d);
    let length = (y * y + z * z + 1e-8).sqrt();
    [z / length, y / length]
}

/// Sine and cosine of each chi angle, zero where an atom is not known, and whether they are.
pub fn chi_angles(template: &Template, i: usize) -> ([[f32; 2]; N_CHI], [f32; N_CHI]) {
    let (mut angles, mut mask) = ([[0.; 2]; N_CHI], [0.; N_CHI]);
    for (k, Chi { atoms, .. }) in residue(template.restype[i]).chis.iter().enumerate() {
        let atoms = atoms.map(|place| template.atom(i, place));
        mask[k] = atoms.iter().map(|(_, mask)| mask).product();
        let [a, b, c, d] = atoms.map(|(x, _)| x.map(f64::from));
        let angle = dihedral(a, b, c, d);
        angles[k] = [angle.sin(), angle.cos()].map(|v| v as f32 * mask[k]);
    }
    (angles, mask)
}

fn dihedral(a: Vec3, b: Vec3, c: Vec3, d: Vec3) -> f64 {
    let (v1, v2, v3) = (minus(a, b), minus(b, c), minus(d, c));
    let (c1, c2) = (cross(v1, v2), cross(v3, v2));
    let length = dot(v2, v2).max(1e-12).sqrt();
    dot(cross(c2, c1), v2).atan2(length * dot(c1, c2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_of_four_points() {
        let at = |angle: f64| [1., angle.cos(), angle.sin()];
        let (a, b, c) = ([0., 1., 0.], [0., 0., 0.], [1., 0., 0.]);
        for angle in [0.3f64, -2.1, 1.9] {
            assert!((dihedral(a, b, c, at(angle)) - angle).abs() < 1e-9);
            let [sin, cos] = sine_and_cosine(a, b, c, at(angle));
            assert!((sin - angle.sin()).abs() < 1e-7 && (cos - angle.cos()).abs() < 1e-7);
        }
        assert_eq!(sine_and_cosine([0.; 3], [0.; 3], [0.; 3], [0.; 3]), [0., 0.]);
    }
}
