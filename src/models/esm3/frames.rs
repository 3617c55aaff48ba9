//! Frames of residues from N, CA and C: `build_affine3d_from_coordinates` and `normalize_coordinates` of esm 3.2.1. In f64.
use crate::features::esm3::Backbone;
use crate::geometry::{Rigid, Vec3, dot, minus, plus, times};

/// Frames of the residues of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Rotations, row by row; axes are columns.
    pub rotations: Vec<[f32; 9]>,
    /// Positions of CA, relative to the mean of all frames, in Å.
    pub translations: Vec<[f32; 3]>,
    /// Are the three atoms there?
    pub has_frame: Vec<bool>,
}

/// Larger coordinates are taken for missing ones.
const LARGEST: f32 = 1e6;
/// Below the root of a squared length.
const EPS: f64 = 1e-10;
/// Added to a number of residues before it divides.
const EPS_COUNT: f64 = 1e-8;

/// Gram-Schmidt: the x axis from C to CA, N in the xy plane, CA the origin.
pub fn frame(atoms: [Vec3; 3]) -> Rigid {
    let [n, ca, c] = atoms;
    let unit = |v: Vec3| times(v, 1. / (dot(v, v) + EPS).sqrt());
    Rigid::from_two_vectors(minus(ca, c), minus(n, ca), ca, unit)
}

fn precise(atoms: &Backbone) -> [Vec3; 3] {
    atoms.map(|x| x.map(f64::from))
}

/// Sum of the backbones for which `has_frame`, divided by their number.
fn mean(residues: &[Backbone], has_frame: &[bool]) -> [Vec3; 3] {
    let there = residues.iter().zip(has_frame).filter(|(_, there)| **there);
    let mut sum = [[0.; 3]; 3];
    let mut count = 0.;
    for (atoms, _) in there {
        let atoms = precise(atoms);
        sum = [0, 1, 2].map(|i| plus(sum[i], atoms[i]));
        count += 1.;
    }
    sum.map(|x| times(x, 1. / (count + EPS_COUNT)))
}

impl Frames {
    /// Of the residues of a row. A residue without a frame gets that of the row's mean N, CA and C, or none at all where no
    /// residue has one: the rotation is the identity then.
    pub fn new(residues: &[Backbone]) -> Self {
        let small = |x: &f32| x.is_finite() && *x < LARGEST;
        let has_frame: Vec<bool> = residues.iter().map(|atoms| atoms.as_flattened().iter().all(small)).collect();
        let any = has_frame.contains(&true);
        let mean = if any { frame(mean(residues, &has_frame)) } else { Rigid::IDENTITY };
        let rigids =
            residues.iter().zip(&has_frame).map(|(atoms, there)| if *there { frame(precise(atoms)) } else { mean });
        let (rotations, translations) = rigids
            .map(|rigid| {
                let rot = rigid.rot;
                let rotation: [f32; 9] = std::array::from_fn(|i| rot[i / 3][i % 3] as f32);
                (rotation, minus(rigid.trans, mean.trans).map(|x| x as f32))
            })
            .unzip();
        Self { rotations, translations, has_frame }
    }

    /// Is there no frame at all?
    pub fn is_empty(&self) -> bool {
        !self.has_frame.contains(&true)
    }
}

/// The backbones in the frame of their own mean, in which ESM3 has every structure; as they are if the mean of CA is the origin.
/// Infinite values stay, others that are missing stay missing.
pub fn normalised(residues: &[Backbone]) -> Vec<Backbone> {
    let has_frame: Vec<bool> =
        residues.iter().map(|atoms| atoms.as_flattened().iter().all(|x| x.is_finite())).collect();
    let frame = frame(mean(residues, &has_frame));
    if dot(frame.trans, frame.trans) == 0. {
        return residues.to_vec();
    }
    let normalised = |x: &[f32; 3]| {
        let inside = frame.invert(x.map(f64::from)).map(|v| v as f32);
        std::array::from_fn(|i| if x[i].is_infinite() { f32::INFINITY } else { inside[i] })
    };
    residues.iter().map(|atoms| [0, 1, 2].map(|i| normalised(&atoms[i]))).collect()
}
