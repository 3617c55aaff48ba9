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

/// `p` turned and moved so that its chosen points lie on those of `q` with the least squares.
pub fn superpose(p: &[Point], q: &[Point], chosen: &[bool]) -> Vec<Point> {
    let weights: Vec<f64> = chosen.iter().map(|c| f64::from(u8::from(*c))).collect();
    let moved = fold::geometry::superpose(p, q, &weights);
    p.iter().map(|x| moved.apply(*x)).collect()
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
