//! Nearest neighbours, and the distances between atoms of two residues in radial basis functions.
use super::ca_only::Frames;
use super::{Backbone, Rules};

/// Radial basis functions of a distance.
const N_BASIS: usize = 16;
/// Centres of the first and the last, Å.
const CENTRES: (f32, f32) = (2., 22.);
/// Under the root of a squared distance, Å^2.
const EPS: f32 = 1e-6;
/// Pairs of atoms of which distances are known, in the order of the weights; 4 is CB.
const PAIRS: [(usize, usize); 25] = [
    (1, 1),
    (0, 0),
    (2, 2),
    (3, 3),
    (4, 4),
    (1, 0),
    (1, 2),
    (1, 3),
    (1, 4),
    (0, 2),
    (0, 3),
    (0, 4),
    (4, 2),
    (4, 3),
    (3, 2),
    (0, 1),
    (2, 1),
    (3, 1),
    (4, 1),
    (2, 0),
    (3, 0),
    (4, 0),
    (2, 4),
    (3, 4),
    (2, 3),
];
/// The same of the CA atoms before (0), of (1) and after (2) a residue.
const CA_PAIRS: [(usize, usize); 9] = [(1, 1), (0, 0), (2, 2), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
/// Direction and rotation between the frames of CA atoms.
const N_ORIENTATION: usize = 7;

type Point = [f32; 3];

/// A neighbour of a residue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its index.
    pub index: usize,
    /// Å between CA atoms; to residues that are not known, the largest of the row.
    distance: f32,
}

/// What is known of the edges of a backbone.
#[derive(Debug)]
pub struct Edges<'a> {
    backbone: &'a Backbone,
    /// `[n_res]`: points between which distances are taken.
    points: Vec<[Point; 5]>,
    /// Of CA atoms alone.
    frames: Option<Frames>,
}

impl<'a> Edges<'a> {
    /// Of a backbone.
    pub fn new(backbone: &'a Backbone) -> Self {
        let cas: Vec<Point> = backbone.atoms.iter().map(|atoms| atoms[1]).collect();
        if backbone.rules != Rules::CaOnly {
            let points = backbone.atoms.iter().map(|&[n, ca, c, o]| [n, ca, c, o, beta(n, ca, c)]).collect();
            return Self { backbone, points, frames: None };
        }
        let at = |i: Option<usize>| i.and_then(|i| cas.get(i)).copied().unwrap_or_default();
        let points = (0..cas.len()).map(|i| [at(i.checked_sub(1)), cas[i], at(Some(i + 1)), [0.; 3], [0.; 3]]);
        Self { backbone, points: points.collect(), frames: Some(Frames::new(&cas)) }
    }

    /// Channels of [`Edges::describe`].
    pub fn n_channel(&self) -> usize {
        if self.frames.is_some() { CA_PAIRS.len() * N_BASIS + N_ORIENTATION } else { PAIRS.len() * N_BASIS }
    }

    /// The `k` nearest of residue `i`, itself first, by the distance of CA atoms; of equal distances the first in order. All there are
    /// if these are fewer.
    pub fn neighbours(&self, i: usize, k: usize) -> Vec<Neighbour> {
        let (mask, atoms) = (&self.backbone.mask, &self.backbone.atoms);
        let raw = |j: usize| distance(atoms[i][1], atoms[j][1]);
        let both = |j: usize| mask[i] && mask[j];
        let largest = (0..mask.len())
            .filter(|&j| both(j) || self.backbone.rules == Rules::ColabDesign)
            .map(raw)
            .fold(0f32, f32::max);
        let neighbour = |j: usize| Neighbour { index: j, distance: if both(j) { raw(j) } else { largest } };
        let mut all: Vec<Neighbour> = (0..mask.len()).map(neighbour).collect();
        let order = |a: &Neighbour, b: &Neighbour| a.distance.total_cmp(&b.distance).then(a.index.cmp(&b.index));
        if k < all.len() {
            all.select_nth_unstable_by(k, order);
            all.truncate(k);
        }
        all.sort_unstable_by(order);
        all
    }

    /// Distances, and orientations of CA atoms alone, of the edge from `i` to its neighbour: `[n_channel]`.
    pub fn describe(&self, i: usize, neighbour: Neighbour, out: &mut [f32]) {
        let (a, b) = (&self.points[i], &self.points[neighbour.index]);
        let pairs: &[(usize, usize)] = if self.frames.is_some() { &CA_PAIRS } else { &PAIRS };
        let masked = self.backbone.rules != Rules::ColabDesign;
        let (bases, rest) = out.split_at_mut(pairs.len() * N_BASIS);
        for (k, (&(p, q), out)) in pairs.iter().zip(bases.chunks_mut(N_BASIS)).enumerate() {
            let d = if k == 0 && masked { neighbour.distance } else { distance(a[p], b[q]) };
            basis(d, out);
        }
        if let Some(frames) = &self.frames {
            rest.copy_from_slice(&frames.between(i, neighbour.index));
        }
    }
}

fn distance(a: Point, b: Point) -> f32 {
    let [x, y, z] = [0, 1, 2].map(|k| (a[k] - b[k]) * (a[k] - b[k]));
    (x + y + z + EPS).sqrt()
}

/// Where CB would be.
fn beta(n: Point, ca: Point, c: Point) -> Point {
    let (b, c) = ([0, 1, 2].map(|k| ca[k] - n[k]), [0, 1, 2].map(|k| c[k] - ca[k]));
    let a = cross(b, c);
    [0, 1, 2].map(|k| -0.582_734_3 * a[k] + 0.568_028_3 * b[k] - 0.540_674_7 * c[k] + ca[k])
}

/// The vector product.
pub(super) fn cross(a: Point, b: Point) -> Point {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// `exp(-((d - centre) / width)^2)` of each centre.
fn basis(d: f32, out: &mut [f32]) {
    let step = (CENTRES.1 - CENTRES.0) / (N_BASIS - 1) as f32;
    let width = (CENTRES.1 - CENTRES.0) / N_BASIS as f32;
    for (i, out) in out.iter_mut().enumerate() {
        let u = (d - (CENTRES.0 + step * i as f32)) / width;
        *out = (-u * u).exp();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Chain, Residue};
    use super::*;

    fn line(n: usize, missing: &[usize], rules: Rules) -> Backbone {
        let residue = |i: usize| {
            let x = 4. * i as f32;
            let atoms = [[x, 1., 0.], [x, 0., 0.], [x + 1., 0., 0.5], [x, 0., 2.]].map(Some);
            let number = i as i32;
            if missing.contains(&i) { Residue::MISSING } else { Residue { atoms, letter: 0, number } }
        };
        let chain = Chain { id: "A".into(), residues: (0..n).map(residue).collect() };
        Backbone::new(&[&chain], rules)
    }

    #[test]
    fn the_nearest_come_first_and_missing_ones_last() {
        let backbone = line(9, &[3], Rules::Official);
        let edges = Edges::new(&backbone);
        let of = |i, k| edges.neighbours(i, k).iter().map(|n| n.index).collect::<Vec<_>>();
        assert_eq!(of(4, 4), [4, 5, 2, 6]);
        assert_eq!(of(0, 20), [0, 1, 2, 4, 5, 6, 7, 3, 8], "a missing one is as far as the last");
        assert_eq!(edges.neighbours(0, 9)[7].distance, edges.neighbours(0, 9)[8].distance);
    }

    #[test]
    fn channels_by_the_rules() {
        for (rules, n) in [(Rules::Official, 400), (Rules::ColabDesign, 400), (Rules::CaOnly, 151)] {
            let backbone = line(7, &[], rules);
            let edges = Edges::new(&backbone);
            let mut out = vec![f32::NAN; edges.n_channel()];
            edges.describe(2, edges.neighbours(2, 7)[1], &mut out);
            assert_eq!(out.len(), n);
            assert!(out.iter().all(|v| v.is_finite()));
        }
    }
}
