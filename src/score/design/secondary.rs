//! Helices and strands from CA atoms: P-SEA (Labesse et al. 1997) as biotite 1.0.1 has it (`structure/sse.py`), which PXDesignBench calls.
use crate::geometry::{Vec3, cross, dot, minus};

/// What a residue is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Of a helix.
    Helix,
    /// Of a strand.
    Strand,
    /// Of neither.
    Loop,
}

/// Distances to the second, third and fourth residue, Å, angles and dihedrals, degrees: least and most.
const HELIX: Criteria =
    Criteria { d2: (0., 0.), d3: (4.8, 5.8), d4: (5.8, 7.), angle: (77., 101.), dihedral: &[(30., 70.)] };
const STRAND: Criteria = Criteria {
    d2: (6.1, 7.3),
    d3: (9., 10.8),
    d4: (11.3, 13.5),
    angle: (110., 138.),
    dihedral: &[(-180., -125.), (145., 180.)],
};
/// Residues that a helix, a strand, and a strand with neighbours have at least.
const LEAST: (usize, usize, usize) = (5, 4, 3);
/// A short strand counts if its residues have so many others at such distances, Å.
const CONTACTS: (usize, f64, f64) = (5, 4.2, 5.2);

struct Criteria {
    d2: (f64, f64),
    d3: (f64, f64),
    d4: (f64, f64),
    angle: (f64, f64),
    dihedral: &'static [(f64, f64)],
}

/// Of each residue. `cas` in Å and the residues' numbers: where these go on by more than one, the chain is broken.
pub fn elements(cas: &[Vec3], numbers: &[i32]) -> Vec<Element> {
    if cas.len() <= LEAST.0 {
        return vec![Element::Loop; cas.len()];
    }
    // A place without atom in each break, so that nothing is measured across it.
    let mut places: Vec<Option<Vec3>> = Vec::with_capacity(cas.len());
    for (i, ca) in cas.iter().enumerate() {
        if i > 0 && !matches!(numbers[i] - numbers[i - 1], 0 | 1) {
            places.push(None);
        }
        places.push(Some(*ca));
    }
    let measured = Measured::new(&places);
    let helix = extended(&runs(&measured.strict(&HELIX, false), LEAST.0), |i| {
        inside(measured.d3[i], HELIX.d3) || inside(measured.angle[i], radians(HELIX.angle))
    });
    let strict = measured.strict(&STRAND, true);
    let (long, short) = (runs(&strict, LEAST.1), with_contacts(&places, &runs(&strict, LEAST.2)));
    let strand: Vec<bool> = long.iter().zip(&short).map(|(a, b)| *a || *b).collect();
    let strand = extended(&strand, |i| inside(measured.d3[i], STRAND.d3));
    let element = |i: usize| match (strand[i], helix[i]) {
        (true, _) => Element::Strand,
        (false, true) => Element::Helix,
        (false, false) => Element::Loop,
    };
    (0..places.len()).filter(|i| places[*i].is_some()).map(element).collect()
}

/// Fractions of helix, strand and loop, to three digits.
pub fn fractions(elements: &[Element]) -> [f64; 3] {
    let of = |element| elements.iter().filter(|e| **e == element).count() as f64 / elements.len() as f64;
    [Element::Helix, Element::Strand, Element::Loop].map(|element| super::rounded(of(element), 3))
}

/// What is measured from each residue: NaN where something is missing.
struct Measured {
    d2: Vec<f64>,
    d3: Vec<f64>,
    d4: Vec<f64>,
    angle: Vec<f64>,
    dihedral: Vec<f64>,
}

impl Measured {
    /// Each value is that of the residue behind the first it is measured from.
    fn new(places: &[Option<Vec3>]) -> Self {
        let n = places.len();
        let at = |i: usize| places.get(i).copied().flatten();
        let distance = |step: usize| -> Vec<f64> {
            let of = |i: usize| Some(length(minus(at(i + step - 1)?, at(i.checked_sub(1)?)?)));
            (0..n).map(|i| of(i).unwrap_or(f64::NAN)).collect()
        };
        let angle = |i: usize| {
            let (a, b, c) = (at(i.checked_sub(1)?)?, at(i)?, at(i + 1)?);
            let (u, v) = (minus(a, b), minus(c, b));
            Some((dot(u, v) / length(u) / length(v)).clamp(-1., 1.).acos())
        };
        let dihedral = |i: usize| {
            let (a, b, c, d) = (at(i.checked_sub(1)?)?, at(i)?, at(i + 1)?, at(i + 2)?);
            let (u, v, w) = (minus(b, a), minus(c, b), minus(d, c));
            let (first, second) = (cross(u, v), cross(v, w));
            Some(dot(cross(first, second), v).atan2(dot(first, second) * length(v)))
        };
        Self {
            d2: distance(2),
            d3: distance(3),
            d4: distance(4),
            angle: (0..n).map(|i| angle(i).unwrap_or(f64::NAN)).collect(),
            dihedral: (0..n).map(|i| dihedral(i).unwrap_or(f64::NAN)).collect(),
        }
    }

    /// Residues that meet the criteria by their distances or by their angles.
    fn strict(&self, c: &Criteria, second: bool) -> Vec<bool> {
        let meets = |i: usize| {
            let far = inside(self.d3[i], c.d3) && inside(self.d4[i], c.d4) && (!second || inside(self.d2[i], c.d2));
            let turned = c.dihedral.iter().any(|range| inside(self.dihedral[i], radians(*range)));
            far || (inside(self.angle[i], radians(c.angle)) && turned)
        };
        (0..self.d2.len()).map(meets).collect()
    }
}

fn length(v: Vec3) -> f64 {
    dot(v, v).sqrt()
}

fn radians((a, b): (f64, f64)) -> (f64, f64) {
    (a.to_radians(), b.to_radians())
}

fn inside(value: f64, (least, most): (f64, f64)) -> bool {
    value >= least && value <= most
}

/// What is part of a run of at least `n`.
fn runs(mask: &[bool], n: usize) -> Vec<bool> {
    let mut kept = vec![false; mask.len()];
    for (i, window) in mask.windows(n).enumerate() {
        if window.iter().all(|m| *m) {
            kept[i..i + n].fill(true);
        }
    }
    kept
}

/// Runs, and at each end one more that meets a weaker criterion.
fn extended(mask: &[bool], weak: impl Fn(usize) -> bool) -> Vec<bool> {
    let at = |i: Option<usize>| i.and_then(|i| mask.get(i)).copied().unwrap_or(false);
    let beside = |i: usize| at(i.checked_sub(1)) || at(Some(i + 1));
    (0..mask.len()).map(|i| mask[i] || (beside(i) && weak(i))).collect()
}

/// Runs of which the residues together have enough others near.
fn with_contacts(places: &[Option<Vec3>], mask: &[bool]) -> Vec<bool> {
    let near = |i: usize| {
        let Some(own) = places[i] else { return 0 };
        let distances = places.iter().flatten().map(|other| length(minus(own, *other)));
        distances.filter(|d| *d > CONTACTS.1 && *d <= CONTACTS.2).count()
    };
    let mut kept = vec![false; mask.len()];
    let mut start = 0;
    for run in mask.chunk_by(|a, b| a == b) {
        let range = start..start + run.len();
        start = range.end;
        if run[0] && range.clone().map(near).sum::<usize>() >= CONTACTS.0 {
            kept[range].fill(true);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helix(n: usize) -> Vec<Vec3> {
        (0..n)
            .map(|i| i as f64)
            .map(|i| [2.3 * (100f64.to_radians() * i).cos(), 2.3 * (100f64.to_radians() * i).sin(), 1.5 * i])
            .collect()
    }

    #[test]
    fn a_helix_and_what_breaks_it() {
        let (cas, numbers): (Vec<Vec3>, Vec<i32>) = (helix(14), (1..=14).collect());
        let found = elements(&cas, &numbers);
        assert!(found[1..13].iter().filter(|e| **e == Element::Helix).count() >= 10, "{found:?}");
        let broken: Vec<i32> = (1..=14).map(|i| if i > 5 { i + 3 } else { i }).collect();
        assert_ne!(elements(&cas, &broken), found);
        assert_eq!(elements(&cas[..5], &numbers[..5]), [Element::Loop; 5]);
        assert_eq!(fractions(&[Element::Helix, Element::Loop, Element::Loop]), [0.333, 0., 0.667]);
    }
}
