//! Solvent accessible surface: Shrake and Rupley 1973, with the points and radii of Biotite 1.6 `structure/sasa.pyx`,
//! `structure/info/radii.py`.
use std::f64::consts::PI;

use rayon::prelude::*;

/// Radius of the probe, in Å.
const PROBE: f32 = 1.4;
/// Points on the sphere around each atom.
const N_POINT: usize = 1000;

/// ProtOr radius in Å (Tsai 1999) of a heavy atom of a standard amino acid, which follows from the atom's bonds and
/// hydrogens in the component dictionary.
pub fn atom_radius(residue: &str, atom: &str) -> f32 {
    match (residue, atom) {
        (_, "C")
        | ("ASN" | "ASP" | "HIS" | "PHE" | "TRP" | "TYR", "CG")
        | ("GLN" | "GLU", "CD")
        | ("ARG" | "TYR", "CZ")
        | ("TRP", "CD2" | "CE2") => 1.61, // three bonds, no hydrogen
        ("HIS", "CD2" | "CE1")
        | ("PHE", "CD1" | "CD2" | "CE1" | "CE2" | "CZ")
        | ("TRP", "CD1" | "CE3" | "CZ2" | "CZ3" | "CH2")
        | ("TYR", "CD1" | "CD2" | "CE1" | "CE2") => 1.76, // three bonds, one hydrogen
        (_, "O" | "OD1" | "OE1") => 1.42,
        (_, "OXT" | "OD2" | "OE2" | "OG" | "OG1" | "OH") => 1.46,
        _ if atom.starts_with('C') => 1.88,
        _ if atom.starts_with('N') => 1.64,
        _ if atom.starts_with('S') => 1.77,
        _ => 1.8,
    }
}

/// Accessible surface of each atom in Å^2. `positions` and `radii` `[n_atom]` in Å; all f32 and in Biotite's order of
/// operations, so that a point is on the same side.
pub fn solvent_accessible_area(positions: &[[f32; 3]], radii: &[f32]) -> Vec<f32> {
    let points = sphere();
    let radii: Vec<f32> = radii.iter().map(|r| r + PROBE).collect();
    let area_per_point = (4.0 * PI / N_POINT as f64) as f32;
    let of_atom = |(centre, &radius): (&[f32; 3], &f32)| {
        let near = positions.iter().zip(&radii).filter_map(|(other, &r)| {
            let d = distance_squared(*centre, *other);
            (d != 0.0 && d < (r + radius) * (r + radius)).then_some((*other, r * r))
        });
        let near: Vec<_> = near.collect();
        let mut last = 0; // neighbouring points are mostly covered by the same atom
        let is_free = |point: &&[f32; 3]| {
            let p = [0, 1, 2].map(|k| point[k] * radius + centre[k]);
            let covers = |&(other, r): &([f32; 3], f32)| distance_squared(p, other) < r;
            if near.get(last).is_some_and(covers) {
                return false;
            }
            near.iter().position(covers).map(|k| last = k).is_none()
        };
        let n_free = points.iter().filter(is_free).count();
        area_per_point * n_free as f32 * (radius * radius)
    };
    positions.par_iter().zip(&radii).map(of_atom).collect()
}

fn distance_squared(a: [f32; 3], b: [f32; 3]) -> f32 {
    let d = [0, 1, 2].map(|k| b[k] - a[k]);
    d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
}

/// Points on a spiral of golden angles: about equally far from each other on the unit sphere.
fn sphere() -> Vec<[f32; 3]> {
    let golden = (3.0 - 5f64.sqrt()) * PI;
    let n = N_POINT as f64;
    let (first, last) = (1.0 - 1.0 / n, 1.0 / n - 1.0);
    let step = (last - first) / (n - 1.0);
    let point = |i: usize| {
        let z = if i == N_POINT - 1 { last } else { i as f64 * step + first };
        let (radius, angle) = ((1.0 - z * z).sqrt(), golden * i as f64);
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32, z as f32]
    };
    (0..N_POINT).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chem::ccd::Component;

    #[test]
    fn an_atom_alone_shows_its_whole_sphere() {
        let area = solvent_accessible_area(&[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]], &[1.6, 2.6]);
        let sphere = |radius: f32| 4.0 * std::f32::consts::PI * radius * radius;
        assert!((area[0] - sphere(3.0)).abs() < 1e-3 && (area[1] - sphere(4.0)).abs() < 1e-3);
        let touching = solvent_accessible_area(&[[0.0; 3], [0.0, 0.0, 3.0]], &[1.6, 1.6]);
        assert!((touching[0] / area[0] - 0.75).abs() < 2e-3, "a cap of a quarter is covered");
    }

    /// All radii of Biotite's `vdw_radius_protor`, by residue in the order of the dictionary, without OXT.
    #[test]
    fn radii_are_biotites() {
        const RADII: [&str; 21] = [
            "64 88 61 42 88",                            // ALA
            "64 88 61 42 88 88 88 64 61 64 64",          // ARG
            "64 88 61 42 88 61 42 64",                   // ASN
            "64 88 61 42 88 61 42 46",                   // ASP
            "64 88 61 42 88 77",                         // CYS
            "64 88 61 42 88 88 61 42 64",                // GLN
            "64 88 61 42 88 88 61 42 46",                // GLU
            "64 88 61 42",                               // GLY
            "64 88 61 42 88 61 64 76 76 64",             // HIS
            "64 88 61 42 88 88 88 88",                   // ILE
            "64 88 61 42 88 88 88 88",                   // LEU
            "64 88 61 42 88 88 88 88 64",                // LYS
            "64 88 61 42 88 88 77 88",                   // MET
            "64 88 61 42 88 61 76 76 76 76 76",          // PHE
            "64 88 61 42 88 88 88",                      // PRO
            "64 88 61 42 88 46",                         // SER
            "64 88 61 42 88 46 88",                      // THR
            "64 88 61 42 88 61 76 61 64 61 76 76 76 76", // TRP
            "64 88 61 42 88 61 76 76 76 76 61 46",       // TYR
            "64 88 61 42 88 88 88",                      // VAL
            "64 88 61 42 88 88",                         // UNK
        ];
        for (restype, want) in RADII.iter().enumerate() {
            let component = Component::amino_acid(restype as u8);
            let got: Vec<_> = component
                .atoms
                .iter()
                .map(|a| format!("{:.0}", 100.0 * (atom_radius(component.code, a.name) - 1.0)))
                .collect();
            assert_eq!(got.join(" "), *want, "{}", component.code);
        }
    }
}
