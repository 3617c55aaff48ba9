//! Superposition and TM-score of point sets.

type Point = [f64; 3];

pub fn distance(a: Point, b: Point) -> f64 {
    (0..3).map(|d| (a[d] - b[d]).powi(2)).sum::<f64>().sqrt()
}

/// Angle at `b` in degrees.
pub fn angle(a: Point, b: Point, c: Point) -> f64 {
    let (u, v): (Point, Point) = (std::array::from_fn(|d| a[d] - b[d]), std::array::from_fn(|d| c[d] - b[d]));
    let dot: f64 = u.iter().zip(&v).map(|(x, y)| x * y).sum();
    (dot / distance(a, b) / distance(c, b)).clamp(-1.0, 1.0).acos().to_degrees()
}

fn centre(x: &[Point], chosen: &[bool]) -> Point {
    let n = chosen.iter().filter(|c| **c).count() as f64;
    std::array::from_fn(|d| x.iter().zip(chosen).filter(|(_, c)| **c).map(|(p, _)| p[d]).sum::<f64>() / n)
}

/// `p` turned and moved so that its chosen points lie on those of `q` with the least squares (Horn 1987, unit
/// quaternions: a rotation, never a mirror image).
pub fn superpose(p: &[Point], q: &[Point], chosen: &[bool]) -> Vec<Point> {
    let (pc, qc) = (centre(p, chosen), centre(q, chosen));
    let mut s = [[0.0; 3]; 3];
    for ((a, b), _) in p.iter().zip(q).zip(chosen).filter(|(_, c)| **c) {
        for i in 0..3 {
            for j in 0..3 {
                s[i][j] += (a[i] - pc[i]) * (b[j] - qc[j]);
            }
        }
    }
    let n = [
        [s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]],
        [s[1][2] - s[2][1], s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]],
        [s[2][0] - s[0][2], s[0][1] + s[1][0], s[1][1] - s[0][0] - s[2][2], s[1][2] + s[2][1]],
        [s[0][1] - s[1][0], s[2][0] + s[0][2], s[1][2] + s[2][1], s[2][2] - s[0][0] - s[1][1]],
    ];
    let [w, x, y, z] = largest_eigenvector(n);
    let r = [
        [w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ];
    let turned =
        p.iter().map(|a| std::array::from_fn(|i| qc[i] + (0..3).map(|j| r[i][j] * (a[j] - pc[j])).sum::<f64>()));
    turned.collect()
}

/// Of a symmetric matrix, by Jacobi rotations.
fn largest_eigenvector(mut a: [[f64; 4]; 4]) -> [f64; 4] {
    let mut v: [[f64; 4]; 4] = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
    for _ in 0..50 {
        for (i, j) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            if a[i][j] == 0.0 {
                continue;
            }
            let theta = (a[j][j] - a[i][i]) / (2.0 * a[i][j]);
            let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
            let c = t.hypot(1.0).recip();
            let s = t * c;
            for row in &mut a {
                (row[i], row[j]) = (c * row[i] - s * row[j], s * row[i] + c * row[j]);
            }
            let (above, below) = a.split_at_mut(j);
            for (x, y) in above[i].iter_mut().zip(&mut below[0]) {
                (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
            }
            for row in &mut v {
                (row[i], row[j]) = (c * row[i] - s * row[j], s * row[i] + c * row[j]);
            }
        }
    }
    let best = (0..4).max_by(|&i, &j| a[i][i].total_cmp(&a[j][j])).expect("four values");
    std::array::from_fn(|k| v[k][best])
}

/// Root mean square distance after superposition.
pub fn rmsd(p: &[Point], q: &[Point]) -> f64 {
    let moved = superpose(p, q, &vec![true; p.len()]);
    (moved.iter().zip(q).map(|(a, b)| distance(*a, *b).powi(2)).sum::<f64>() / p.len() as f64).sqrt()
}

/// TM-score of `p` against the truth `q` (Zhang and Skolnick 2004): the best over superpositions of fragments, each
/// repeated on the points that came close.
pub fn tm_score(p: &[Point], q: &[Point]) -> f64 {
    let n = p.len();
    let d0 = if n > 15 { (1.24 * (n as f64 - 15.0).cbrt() - 1.8).max(0.5) } else { 0.5 };
    let mut best = 0.0_f64;
    for length in [n, (n / 2).max(4), (n / 4).max(4)] {
        for start in (0..=n - length).step_by((length / 3).max(1)) {
            let mut chosen: Vec<bool> = (0..n).map(|i| (start..start + length).contains(&i)).collect();
            for _ in 0..8 {
                let moved = superpose(p, q, &chosen);
                let off: Vec<f64> = moved.iter().zip(q).map(|(a, b)| distance(*a, *b)).collect();
                best = best.max(off.iter().map(|d| 1.0 / (1.0 + (d / d0).powi(2))).sum::<f64>() / n as f64);
                let near: Vec<bool> = off.iter().map(|d| *d < d0.max(3.0)).collect();
                if near == chosen || near.iter().filter(|c| **c).count() < 3 {
                    break;
                }
                chosen = near;
            }
        }
    }
    best
}
