//! Frames of CA atoms, each from three steps of the chain, and how they lie to each other: `CA_ProteinFeatures` of the official program.
use super::geometry::cross;

type Point = [f32; 3];

/// Steps from CA to CA between these are bonds, Å.
const BOND: (f32, f32) = (3.6, 4.0);

/// A frame for each residue; zero where there is none.
#[derive(Debug)]
pub struct Frames {
    cas: Vec<Point>,
    /// Rows: along the bend, normal, and both's normal.
    frames: Vec<[Point; 3]>,
}

impl Frames {
    /// Of CA atoms, zero where missing. Steps that are no bonds count as zero; the first residue and the last two have no frame.
    pub fn new(cas: &[Point]) -> Self {
        let step = |i: usize| {
            let d = [0, 1, 2].map(|k| cas[i + 1][k] - cas[i][k]);
            if length(d) > BOND.0 && length(d) < BOND.1 { unit(d) } else { [0.; 3] }
        };
        let steps: Vec<Point> = (0..cas.len().saturating_sub(1)).map(step).collect();
        let mut frames = vec![[[0.; 3]; 3]; cas.len()];
        for i in 1..cas.len().saturating_sub(2) {
            let (before, after) = (steps[i - 1], steps[i]);
            let normal = unit(cross(before, after));
            let bend = unit([0, 1, 2].map(|k| before[k] - after[k]));
            frames[i] = [bend, normal, cross(bend, normal)];
        }
        Self { cas: cas.to_vec(), frames }
    }

    /// Direction to `j` in the frame of `i`, and the quaternion (x, y, z, w) that turns one frame into the other.
    pub fn between(&self, i: usize, j: usize) -> [f32; 7] {
        let (own, other) = (&self.frames[i], &self.frames[j]);
        let d = [0, 1, 2].map(|k| self.cas[j][k] - self.cas[i][k]);
        let [x, y, z] = unit(own.map(|axis| axis[0] * d[0] + axis[1] * d[1] + axis[2] * d[2]));
        let turn: [Point; 3] = [0, 1, 2]
            .map(|a| [0, 1, 2].map(|b| own[0][a] * other[0][b] + own[1][a] * other[1][b] + own[2][a] * other[2][b]));
        let [qx, qy, qz, qw] = quaternion(turn);
        [x, y, z, qx, qy, qz, qw]
    }
}

fn length(a: Point) -> f32 {
    (a[0] * a[0] + a[1] * a[1] + a[2] * a[2]).sqrt()
}

/// Of length one; a zero stays.
fn unit(a: Point) -> Point {
    let length = length(a).max(1e-12);
    a.map(|x| x / length)
}

/// Of a rotation, row by row; also of the zero matrix, as the official program has it.
fn quaternion(r: [Point; 3]) -> [f32; 4] {
    let (x, y, z) = (r[0][0], r[1][1], r[2][2]);
    let sizes = [x - y - z, -x + y - z, -x - y + z].map(|d| 0.5 * (1. + d).abs().sqrt());
    let turns = [r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]];
    let sign = |v: f32| if v == 0. { 0. } else { v.signum() };
    let [x, y, z] = [0, 1, 2].map(|k| sign(turns[k]) * sizes[k]);
    let w = (1. + (r[0][0] + r[1][1] + r[2][2])).max(0.).sqrt() / 2.;
    let norm = (x * x + y * y + z * z + w * w).sqrt().max(1e-12);
    [x, y, z, w].map(|q| q / norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_to_itself_is_not_turned() {
        let cas: Vec<Point> =
            (0..8).map(|i| i as f32).map(|i| [2.3 * (1.7 * i).cos(), 2.3 * (1.7 * i).sin(), 1.5 * i]).collect();
        let frames = Frames::new(&cas);
        let [.., x, y, z, w] = frames.between(3, 3);
        assert!(x.abs() < 1e-3 && y.abs() < 1e-3 && z.abs() < 1e-3 && (w - 1.).abs() < 1e-5, "{x} {y} {z} {w}");
        let d = frames.between(3, 5);
        assert!((length([d[0], d[1], d[2]]) - 1.).abs() < 1e-5);
        assert_eq!(frames.between(0, 5)[..3], [0.; 3], "the first residue has no frame");
    }
}
