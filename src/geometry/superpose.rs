//! Superposition of points: Horn 1987, the rotation as the quaternion that is the first eigenvector of a 4 x 4 matrix. The same
//! rotation as Kabsch's, and never a reflection.
use super::{Rigid, Vec3, minus, plus, rotation_of_quaternion, times};

/// Sweeps of rotations over the matrix; each squares what is left beside the diagonal.
const N_SWEEP: usize = 32;

/// What moves `from` nearest to `to`: the least sum of squared distances, each times its weight. Weights are not negative, and not
/// all zero.
pub fn superpose(from: &[Vec3], to: &[Vec3], weights: &[f64]) -> Rigid {
    let (a, b) = (centre(from, weights), centre(to, weights));
    let mut s = [[0.; 3]; 3];
    for ((x, y), w) in from.iter().zip(to).zip(weights) {
        let (x, y) = (times(minus(*x, a), *w), minus(*y, b));
        for (row, x) in s.iter_mut().zip(x) {
            row.iter_mut().zip(y).for_each(|(s, y)| *s += x * y);
        }
    }
    let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = s;
    let rot = rotation_of_quaternion(first_eigenvector([
        [xx + yy + zz, yz - zy, zx - xz, xy - yx],
        [yz - zy, xx - yy - zz, xy + yx, zx + xz],
        [zx - xz, xy + yx, yy - xx - zz, yz + zy],
        [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]));
    let turn = Rigid { rot, trans: [0.; 3] };
    Rigid { rot, trans: minus(b, turn.rotate(a)) }
}

fn centre(points: &[Vec3], weights: &[f64]) -> Vec3 {
    let sum = points.iter().zip(weights).fold([0.; 3], |sum, (x, w)| plus(sum, times(*x, *w)));
    times(sum, 1. / weights.iter().sum::<f64>())
}

/// Of the largest eigenvalue of a symmetric matrix, by Jacobi's rotations.
fn first_eigenvector(mut m: [[f64; 4]; 4]) -> [f64; 4] {
    let mut vectors = [[0.; 4]; 4]; // columns
    (0..4).for_each(|i| vectors[i][i] = 1.);
    for _ in 0..N_SWEEP {
        for p in 0..4 {
            for q in p + 1..4 {
                if m[p][q] == 0. {
                    continue;
                }
                let theta = (m[q][q] - m[p][p]) / (2. * m[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.).sqrt());
                let c = 1. / (t * t + 1.).sqrt();
                let s = t * c;
                let turn = |a: &mut f64, b: &mut f64| (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                for row in m.iter_mut().chain(&mut vectors) {
                    let [mut a, mut b] = [row[p], row[q]];
                    turn(&mut a, &mut b);
                    (row[p], row[q]) = (a, b);
                }
                let [mut a, mut b] = [m[p], m[q]];
                a.iter_mut().zip(&mut b).for_each(|(a, b)| turn(a, b));
                (m[p], m[q]) = (a, b);
            }
        }
    }
    let first = (0..4).max_by(|a, b| m[*a][*a].total_cmp(&m[*b][*b])).unwrap_or(0);
    vectors.map(|row| row[first])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Vec3> {
        (0..7).map(f64::from).map(|i| [(1.3 * i).sin() * 4., i, (2.1 * i).cos() * 3. - i]).collect()
    }

    #[test]
    fn finds_the_way_back() {
        let from = points();
        let weights = [1., 0., 2., 0.5, 1., 3., 1.];
        for q in [[1., 0., 0., 0.], [0.3, -0.5, 0.7, 0.1], [0., 1., 0., 0.], [1e-9, 0., 0., 1.]] {
            let moved = Rigid { rot: rotation_of_quaternion(q), trans: [3., -50., 7.] };
            let mut to: Vec<Vec3> = from.iter().map(|x| moved.apply(*x)).collect();
            to[1] = [99.; 3]; // of weight zero
            let found = superpose(&from, &to, &weights);
            for x in &from {
                assert!(minus(found.apply(*x), moved.apply(*x)).iter().all(|d| d.abs() < 1e-10));
            }
        }
    }

    /// The mirror image is not reached, and what is reached is not worse than turns about it.
    #[test]
    fn is_a_rotation_and_the_best() {
        let from = points();
        let to: Vec<Vec3> = from.iter().map(|[x, y, z]| [-x, *y, *z]).collect();
        let weights = [1.; 7];
        let found = superpose(&from, &to, &weights);
        let [x, y, z] = found.rot;
        assert!((super::super::dot(super::super::cross(x, y), z) - 1.).abs() < 1e-12);
        let far = |rigid: &Rigid| -> f64 {
            from.iter().zip(&to).map(|(x, y)| minus(rigid.apply(*x), *y).iter().map(|d| d * d).sum::<f64>()).sum()
        };
        for axis in 1..4 {
            for angle in [-0.01, 0.01] {
                let mut q = [1., 0., 0., 0.];
                q[axis] = angle;
                let turn = Rigid { rot: rotation_of_quaternion(q), trans: [0.; 3] };
                let mean = centre(&to, &weights);
                let about = Rigid { rot: turn.rot, trans: minus(mean, turn.rotate(mean)) };
                assert!(far(&about.compose(&found)) > far(&found));
            }
        }
    }
}
