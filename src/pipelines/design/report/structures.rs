//! Structures as the report holds them: backbones, and all atoms where target and binder meet, of hotspots and of what is no protein;
//! all laid on the first target, so that the view can stay from design to design.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::geometry::{Rigid, Vec3, cross, dot, minus, plus, superpose, times};
use crate::io::cif::Cif;

/// An atom of a file.
#[derive(Debug, Clone, PartialEq)]
struct Atom {
    name: String,
    element: String,
    /// Å.
    x: Vec3,
}

/// A residue of a file.
#[derive(Debug, Clone, PartialEq)]
struct Residue {
    number: i32,
    code: String,
    b_factor: f64,
    atoms: Vec<Atom>,
}

impl Residue {
    fn ca(&self) -> Option<Vec3> {
        self.atoms.iter().find(|atom| atom.name == "CA").map(|atom| atom.x)
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Chain {
    id: String,
    residues: Vec<Residue>,
}

/// A complex, the binder its last chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Complex(Vec<Chain>);

/// Numbers of the hotspots of each chain, by its id in files.
pub type Hotspots = BTreeMap<String, BTreeSet<i32>>;

/// Atoms that are kept of every residue.
const BACKBONE: [&str; 4] = ["N", "CA", "C", "O"];
/// Residues with atoms nearer than this touch each other, Å.
const TOUCH: f64 = 5.;
/// Coordinates are kept in this, Å.
const STEP: f64 = 0.01;

impl Complex {
    /// Of a file that this program has written; `None` if it cannot be read. Atoms without a place are left out.
    pub fn parse(text: &str) -> Option<Self> {
        let cif = Cif::parse(text).ok()?;
        let names = [
            "_atom_site.label_asym_id",
            "_atom_site.auth_seq_id",
            "_atom_site.label_comp_id",
            "_atom_site.label_atom_id",
            "_atom_site.type_symbol",
            "_atom_site.cartn_x",
            "_atom_site.cartn_y",
            "_atom_site.cartn_z",
            "_atom_site.b_iso_or_equiv",
        ];
        let mut chains: Vec<Chain> = Vec::new();
        for [chain, number, code, name, element, x, y, z, b_factor] in cif.rows(names)? {
            let number = number.parse().ok()?;
            let x = [x, y, z].map(|v| v.parse().unwrap_or(f64::NAN));
            if !x.iter().all(|v| v.is_finite()) || name.contains([' ', ':']) {
                continue;
            }
            if chains.last().is_none_or(|last| last.id != chain) {
                chains.push(Chain { id: chain.to_owned(), residues: Vec::new() });
            }
            let residues = &mut chains.last_mut()?.residues;
            if residues.last().is_none_or(|last| (last.number, last.code.as_str()) != (number, code)) {
                let b_factor = b_factor.parse().unwrap_or(0.);
                residues.push(Residue { number, code: code.replace(' ', "_"), b_factor, atoms: Vec::new() });
            }
            residues.last_mut()?.atoms.push(Atom { name: name.to_owned(), element: element.to_owned(), x });
        }
        (!chains.is_empty()).then_some(Self(chains))
    }

    /// Chains of the target, and the binder.
    fn parts(&self) -> (&[Chain], &[Chain]) {
        self.0.split_at(self.0.len() - 1)
    }

    /// CA atoms of the target, by chain and number.
    fn target_cas(&self) -> BTreeMap<(&str, i32), Vec3> {
        let residues = self.parts().0.iter().flat_map(|chain| chain.residues.iter().map(|r| (chain.id.as_str(), r)));
        residues.filter_map(|(id, residue)| Some(((id, residue.number), residue.ca()?))).collect()
    }

    /// Brings it upright: its middle to the origin, the binder above the target, the broad side to the front.
    pub fn upright(&self) -> Rigid {
        let cas = |chains: &[Chain]| -> Vec<Vec3> {
            chains.iter().flat_map(|chain| &chain.residues).filter_map(Residue::ca).collect()
        };
        let (target, binder) = (cas(self.parts().0), cas(self.parts().1));
        let all: Vec<Vec3> = target.iter().chain(&binder).copied().collect();
        let middle = mean(&all);
        let up = unit(minus(mean(&binder), mean(&target)));
        let aside = unit(cross(up, if up[0].abs() < 0.9 { [1., 0., 0.] } else { [0., 1., 0.] }));
        let front = cross(aside, up);
        let (mut xx, mut xz, mut zz) = (0., 0., 0.);
        for point in &all {
            let from = minus(*point, middle);
            let (x, z) = (dot(from, aside), dot(from, front));
            (xx, xz, zz) = (xx + x * x, xz + x * z, zz + z * z);
        }
        let (sin, cos) = (0.5 * (2. * xz).atan2(xx - zz)).sin_cos();
        let broad = plus(times(aside, cos), times(front, sin));
        let turned = Rigid { rot: [broad, up, cross(broad, up)], trans: [0.; 3] };
        let is_sound = turned.rot.iter().flatten().chain(&middle).all(|v| v.is_finite());
        if is_sound { Rigid { trans: times(turned.rotate(middle), -1.), ..turned } } else { Rigid::IDENTITY }
    }

    /// Lays its target on that of another, which `onto` moves; without residues in common it is set upright.
    pub fn laid_on(&self, other: &Self, onto: &Rigid) -> Rigid {
        let others = other.target_cas();
        let pairs = self.target_cas().into_iter().filter_map(|(key, x)| Some((x, onto.apply(*others.get(&key)?))));
        let (from, to): (Vec<Vec3>, Vec<Vec3>) = pairs.unzip();
        if from.len() < 3 {
            return self.upright();
        }
        superpose(&from, &to, &vec![1.; from.len()])
    }

    /// The binder alone.
    pub fn binder(&self) -> Self {
        Self(self.parts().1.to_vec())
    }

    /// Residues of which all atoms are kept, by chain and place.
    fn whole(&self, hotspots: &Hotspots) -> BTreeSet<(usize, usize)> {
        let n_target = self.0.len() - 1;
        let places = |chains: std::ops::Range<usize>| {
            chains.flat_map(|c| self.0[c].residues.iter().enumerate().map(move |(r, residue)| ((c, r), residue)))
        };
        let mut kept: BTreeSet<(usize, usize)> = places(0..self.0.len())
            .filter(|((c, _), residue)| {
                residue.ca().is_none() || hotspots.get(&self.0[*c].id).is_some_and(|n| n.contains(&residue.number))
            })
            .map(|(place, _)| place)
            .collect();
        for (a, one) in places(0..n_target) {
            for (b, other) in places(n_target..self.0.len()) {
                if touch(one, other) {
                    kept.extend([a, b]);
                }
            }
        }
        kept
    }

    /// As the page reads it, moved by `rigid`; `layouts` are the names of the atoms that residues have, of all structures.
    pub fn json(&self, rigid: &Rigid, hotspots: &Hotspots, shows_plddt: bool, layouts: &mut Layouts) -> Value {
        let whole = self.whole(hotspots);
        let (mut xyz, mut plddt, mut chains) = (Vec::new(), Vec::new(), Vec::new());
        for (c, chain) in self.0.iter().enumerate() {
            let mut of_chain = Vec::new();
            for (r, residue) in chain.residues.iter().enumerate() {
                let is_kept = |atom: &&Atom| whole.contains(&(c, r)) || BACKBONE.contains(&atom.name.as_str());
                let atoms: Vec<&Atom> = residue.atoms.iter().filter(is_kept).collect();
                of_chain.push(layouts.index(&atoms));
                atoms.iter().for_each(|atom| xyz.extend(rigid.apply(atom.x).map(steps).map(i16::to_le_bytes).concat()));
                plddt.push(residue.b_factor.round().clamp(0., 100.) as u8);
            }
            let codes: Vec<&str> = chain.residues.iter().map(|residue| residue.code.as_str()).collect();
            chains.push(json!({
                "id": chain.id, "residues": codes.join(" "), "numbers": runs(&chain.residues), "layouts": of_chain,
            }));
        }
        let plddt = shows_plddt.then(|| BASE64_STANDARD.encode(plddt));
        json!({"chains": chains, "xyz": BASE64_STANDARD.encode(xyz), "plddt": plddt})
    }
}

/// Lists of atom names, each once.
#[derive(Debug, Default)]
pub struct Layouts {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Layouts {
    fn index(&mut self, atoms: &[&Atom]) -> usize {
        let word = |atom: &&Atom| {
            let is_first = atom.name.starts_with(&atom.element) && atom.element.len() == 1;
            if is_first { atom.name.clone() } else { format!("{}:{}", atom.name, atom.element) }
        };
        let list = atoms.iter().map(word).collect::<Vec<_>>().join(" ");
        *self.places.entry(list.clone()).or_insert_with(|| {
            self.names.push(list);
            self.names.len() - 1
        })
    }

    /// By their index.
    pub fn json(&self) -> Value {
        json!(self.names)
    }
}

/// Are there atoms that touch?
fn touch(one: &Residue, other: &Residue) -> bool {
    let square = |a: &Atom, b: &Atom| {
        let d = minus(a.x, b.x);
        dot(d, d)
    };
    // No residue of a protein reaches farther than 12 Å from its first atom.
    let (Some(a), Some(b)) = (one.atoms.first(), other.atoms.first()) else { return false };
    let far = TOUCH + 24.;
    if one.ca().is_some() && other.ca().is_some() && square(a, b) > far * far {
        return false;
    }
    one.atoms.iter().any(|a| other.atoms.iter().any(|b| square(a, b) < TOUCH * TOUCH))
}

fn mean(points: &[Vec3]) -> Vec3 {
    times(points.iter().fold([0.; 3], |sum, x| plus(sum, *x)), 1. / points.len() as f64)
}

fn unit(v: Vec3) -> Vec3 {
    times(v, 1. / dot(v, v).sqrt())
}

fn steps(value: f64) -> i16 {
    (value / STEP).round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
}

/// Numbers that follow each other as the first and how many.
fn runs(residues: &[Residue]) -> Vec<[i64; 2]> {
    let numbers: Vec<i64> = residues.iter().map(|residue| i64::from(residue.number)).collect();
    numbers.chunk_by(|a, b| a + 1 == *b).map(|run| [run[0], run.len() as i64]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::complex::{Site, format};

    fn text() -> String {
        let mut sites = Vec::new();
        for (c, (chain, shift)) in [("A0", 0.), ("B0", 20.)].into_iter().enumerate() {
            for i in 0..4 {
                for (k, name) in ["N", "CA", "C", "O", "CB"].into_iter().enumerate() {
                    let x = [i as f32 * 3.8 + k as f32 * 0.3, shift - 4. * f32::from(i == 2 && c == 1), (i * i) as f32];
                    let x = if (c, i, k) == (1, 2, 4) { [x[0], 4., x[2]] } else { x };
                    sites.push(Site {
                        chain,
                        strand: chain,
                        entity: c + 1,
                        polymer: Some("polypeptide(L)"),
                        number: i + if i < 2 { 7 } else { 17 },
                        code: "ALA",
                        is_hetero: false,
                        name,
                        element: &name[..1],
                        position: x,
                        b_factor: 80.4,
                    });
                }
            }
        }
        format("t", "t", &sites)
    }

    #[test]
    fn backbones_are_kept_and_whole_residues_where_they_touch() {
        let complex = Complex::parse(&text()).unwrap();
        let hotspots = Hotspots::from([("A0".to_owned(), BTreeSet::from([7]))]);
        assert_eq!(complex.whole(&hotspots), BTreeSet::from([(0, 0), (0, 2), (1, 2)]));
        let mut layouts = Layouts::default();
        let json = complex.json(&Rigid::IDENTITY, &hotspots, true, &mut layouts);
        assert_eq!(layouts.json(), json!(["N CA C O CB", "N CA C O"]));
        assert_eq!(json["chains"][0]["layouts"], json!([0, 1, 0, 1]));
        assert_eq!(json["chains"][1]["numbers"], json!([[7, 2], [19, 2]]));
        let xyz = BASE64_STANDARD.decode(json["xyz"].as_str().unwrap()).unwrap();
        assert_eq!(xyz.len(), 6 * (3 * 5 + 5 * 4));
        assert_eq!(xyz[6..8], 30i16.to_le_bytes(), "0.3 Å");
        assert_eq!(BASE64_STANDARD.decode(json["plddt"].as_str().unwrap()).unwrap(), [80; 8]);
        assert_eq!(complex.json(&Rigid::IDENTITY, &hotspots, false, &mut layouts)["plddt"], Value::Null);
    }

    #[test]
    fn the_binder_is_above_and_targets_lie_on_each_other() {
        let complex = Complex::parse(&text()).unwrap();
        let upright = complex.upright();
        let middle = |chain: &Chain| mean(&chain.residues.iter().filter_map(Residue::ca).collect::<Vec<_>>());
        let [target, binder] = [0, 1].map(|c| upright.apply(middle(&complex.0[c])));
        assert!((minus(binder, target)[1] - 19.).abs() < 1e-6 && (binder[0] - target[0]).abs() < 1e-6);
        let laid = complex.laid_on(&complex, &upright);
        let x = complex.0[1].residues[3].atoms[1].x;
        let off = minus(laid.apply(x), upright.apply(x));
        assert!(dot(off, off) < 1e-12, "{off:?}");
        assert_eq!(complex.binder().upright(), Rigid::IDENTITY, "no target, no direction");
        assert_eq!(Complex::parse("data_x\n"), None);
    }

    #[test]
    fn elements_are_told_where_the_name_does_not() {
        let atom = |name: &str, element: &str| Atom { name: name.into(), element: element.into(), x: [0.; 3] };
        let mut layouts = Layouts::default();
        layouts.index(&[&atom("ZN", "Zn"), &atom("CA", "C"), &atom("CA", "Ca"), &atom("1H", "H")]);
        assert_eq!(layouts.json(), json!(["ZN:Zn CA CA:Ca 1H:H"]));
        assert_eq!(steps(1e9), i16::MAX);
    }
}
