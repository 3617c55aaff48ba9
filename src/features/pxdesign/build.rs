//! A task to features: the target's kept residues, chain by chain, then the binder.
use super::{
    DESIGNED, DESIGNED_CODE, DesignAtom, DesignChain, DesignFeatures, DesignResidue, DesignStructure, distance,
};
use crate::chem::restype;
use crate::features::noise::NoiseSource;
use crate::query::pxdesign::{Molecule, TargetAtom, TargetResidue, Task};

/// Atoms of a residue to design; the last of the chain has OXT too.
const BACKBONE: [&str; 4] = ["N", "CA", "C", "O"];

/// Features of a task and the names of its atoms: pure, so that one task and one stream give the same.
///
/// Every array but `ref_pos` is that of PXDesign (f788441). `noise` moves the reference conformers: for each residue in the order of
/// `ref_space_uid` three uniform values, a shift of -1 to 1 Å, then four normal values, a quaternion (x, y, z, w).
pub fn featurise(task: &Task, noise: &mut dyn NoiseSource) -> (DesignFeatures, DesignStructure) {
    let mut build = Build::default();
    for chain in &task.chains {
        let polymer = match chain.molecule {
            Molecule::Protein => Some("polypeptide(L)"),
            Molecule::Dna => Some("polydeoxyribonucleotide"),
            Molecule::Rna => Some("polyribonucleotide"),
            Molecule::Ligand => None,
        };
        build.chain(Some(chain.id.clone()), polymer);
        for residue in chain.residues.iter().filter(|r| r.kept) {
            build.residue(residue, residue.restype);
        }
    }
    build.chain(None, Some("polypeptide(L)"));
    for number in 1..=task.binder_length {
        build.residue(&designed(task, number), DESIGNED);
    }
    build.finish(noise)
}

/// A residue of the binder: glycine without a position.
fn designed(task: &Task, number: usize) -> TargetResidue {
    let is_last = number == task.binder_length;
    let wanted = |atom: &&TargetAtom| BACKBONE.contains(&atom.name.as_str()) || (is_last && atom.name == "OXT");
    TargetResidue {
        number: number as i32,
        author: number.to_string(),
        name: DESIGNED_CODE.to_owned(),
        restype: restype::GLY,
        one_token: true,
        kept: true,
        hotspot: false,
        atoms: task.glycine.iter().filter(wanted).cloned().collect(),
    }
}

#[derive(Default)]
struct Build {
    features: DesignFeatures,
    structure: DesignStructure,
    /// Representative atom of each token, if it is of the target and was seen.
    seen: Vec<Option<[f32; 3]>>,
    /// Atoms of each residue, and their reference conformer before it is moved.
    references: Vec<Vec<[f32; 3]>>,
}

impl Build {
    fn chain(&mut self, target: Option<String>, polymer: Option<&'static str>) {
        let id = letters(self.structure.chains.len());
        self.structure.chains.push(DesignChain { id, target, is_ligand: polymer.is_none(), polymer });
    }

    fn residue(&mut self, residue: &TargetResidue, restype: u8) {
        let f = &mut self.features;
        let chain = self.structure.chains.len() - 1;
        let uid = self.structure.residues.len();
        let token = |f: &mut DesignFeatures| {
            f.token_index.push(f.token_index.len() as i32);
            f.residue_index.push(residue.number);
            f.asym_id.push(chain as i32);
            f.sym_id.push(0);
            f.restype.push(restype);
            f.hotspot.push(f32::from(u8::from(residue.hotspot)));
        };
        if residue.one_token {
            token(f);
            self.seen.push(representative(residue).position);
        }
        for atom in &residue.atoms {
            if !residue.one_token {
                token(f);
                self.seen.push(atom.position);
            }
            f.atom_to_token.push(f.token_index.len() - 1);
            f.ref_mask.push(atom.has_reference);
            f.ref_element.push(atom.number.saturating_sub(1));
            f.ref_charge.push(f32::from(atom.charge));
            f.ref_atom_name.push(name_codes(&atom.name));
            f.ref_space_uid.push(uid as u32);
            let (name, element) = (atom.name.clone(), atom.element.clone());
            self.structure.atoms.push(DesignAtom { residue: uid, name, element, position: atom.position });
        }
        self.references.push(residue.atoms.iter().map(|a| a.reference).collect());
        self.structure.residues.push(DesignResidue {
            chain,
            number: residue.number,
            name: residue.name.clone(),
            author: residue.author.clone(),
            restype,
            hotspot: residue.hotspot,
        });
    }

    fn finish(mut self, noise: &mut dyn NoiseSource) -> (DesignFeatures, DesignStructure) {
        let entities = entity_ids(self.structure.chains.len());
        let f = &mut self.features;
        f.entity_id = f.asym_id.iter().map(|&a| entities[a as usize]).collect();
        let n = self.seen.len();
        let seen: Vec<usize> = (0..n).filter(|&i| self.seen[i].is_some()).collect();
        let points: Vec<[f32; 3]> = self.seen.iter().copied().flatten().collect();
        (f.distance_bin, f.distance_mask) = (vec![0; n * n], vec![false; n * n]);
        let bins = distance::bins(&points);
        for (a, &i) in seen.iter().enumerate() {
            for (b, &j) in seen.iter().enumerate() {
                f.distance_bin[i * n + j] = bins[a * seen.len() + b];
                f.distance_mask[i * n + j] = true;
            }
        }
        f.ref_pos = self.references.iter().flat_map(|x| moved(x, noise)).collect();
        (self.features, self.structure)
    }
}

/// The atom whose distances the network is told: CB, CA of glycine and of residues to design, C4 of purines, C2 of pyrimidines, C1' of
/// unknown nucleotides; the first atom where there is none.
fn representative(residue: &TargetResidue) -> &TargetAtom {
    let name = match residue.name.as_str() {
        "GLY" | DESIGNED_CODE => "CA",
        "A" | "G" | "DA" | "DG" => "C4",
        "C" | "U" | "DC" | "DT" => "C2",
        "N" | "DN" => "C1'",
        _ => "CB",
    };
    residue.atoms.iter().find(|a| a.name == name).unwrap_or(&residue.atoms[0])
}

/// Entity of each chain: the chains' numbers from 1, sorted as words.
fn entity_ids(n: usize) -> Vec<i32> {
    let mut names: Vec<String> = (1..=n).map(|i| i.to_string()).collect();
    names.sort();
    (1..=n).map(|i| names.iter().position(|name| *name == i.to_string()).map_or(0, |at| at as i32)).collect()
}

/// A, B, .., Z, AA, AB, ..
fn letters(index: usize) -> String {
    let mut n = index + 1;
    let mut letters = Vec::new();
    while n > 0 {
        letters.push(b'A' + ((n - 1) % 26) as u8);
        n = (n - 1) / 26;
    }
    letters.iter().rev().map(|&b| char::from(b)).collect()
}

/// Four characters, each less 32, padded with blanks.
fn name_codes(name: &str) -> [u8; 4] {
    let mut codes = [0; 4];
    for (code, c) in codes.iter_mut().zip(name.bytes()) {
        *code = c.saturating_sub(32).min(63);
    }
    codes
}

/// Centred, shifted, then turned: `random_transform` of Protenix 0.5.0, in f64 from the shift on.
fn moved(x: &[[f32; 3]], noise: &mut dyn NoiseSource) -> Vec<[f32; 3]> {
    let shift: Vec<f64> = noise.rand(3).iter().map(|&u| 2. * f64::from(u) - 1.).collect();
    let q: Vec<f64> = noise.randn(4).iter().map(|&v| f64::from(v)).collect();
    let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    let [a, b, c, w] = [q[0] / norm, q[1] / norm, q[2] / norm, q[3] / norm];
    let rotation = [
        [1. - 2. * (b * b + c * c), 2. * (a * b - c * w), 2. * (a * c + b * w)],
        [2. * (a * b + c * w), 1. - 2. * (a * a + c * c), 2. * (b * c - a * w)],
        [2. * (a * c - b * w), 2. * (b * c + a * w), 1. - 2. * (a * a + b * b)],
    ];
    let n = x.len() as f32;
    let mean: [f32; 3] = std::array::from_fn(|d| x.iter().map(|p| p[d]).sum::<f32>() / n);
    let shifted = |p: &[f32; 3]| -> [f64; 3] { std::array::from_fn(|d| f64::from(p[d] - mean[d]) + shift[d]) };
    let turned = |p: [f64; 3]| std::array::from_fn(|d| (0..3).map(|e| rotation[d][e] * p[e]).sum::<f64>() as f32);
    x.iter().map(|p| turned(shifted(p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_sorted_as_words() {
        assert_eq!(entity_ids(3), [0, 1, 2]);
        assert_eq!(entity_ids(11), [0, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]);
        assert_eq!([letters(0), letters(25), letters(26), letters(53)], ["A", "Z", "AA", "BB"]);
    }
}
