//! Atoms and their reference conformers: the `ref_` rows of AF3 SI Table 5.
use super::Af3Features;
use crate::assembly::Assembly;
use crate::chem::conformer::{N_CONFORMER, conformer};
use crate::features::noise::NoiseSource;

/// Fills the atom features.
///
/// The order of draws is that of the official program: first one conformer for each residue, then for each residue a
/// rotation (four normal values, a quaternion) and a shift (three, in Å).
pub(super) fn atom_features(assembly: &Assembly, noise: &mut dyn NoiseSource, f: &mut Af3Features) {
    let residues: Vec<_> = assembly.chains.iter().flat_map(|c| &c.residues).collect();
    let conformers: Vec<_> = residues.iter().map(|_| noise.randint(0, N_CONFORMER as u32) as usize).collect();
    for (i, (residue, k)) in residues.into_iter().zip(conformers).enumerate() {
        f.ref_pos.extend(moved(conformer(residue.restype, k), noise));
        for atom in &residue.component.atoms {
            f.atom_to_token.push(i);
            f.ref_element.push(atom.number - 1);
            f.ref_charge.push(f32::from(atom.charge));
            f.ref_atom_name.push(name_codes(atom.name));
            f.ref_space_uid.push(i as u32);
        }
    }
    f.atom_mask = vec![1.; f.atom_to_token.len()];
    f.ref_mask = vec![true; f.atom_to_token.len()];
}

/// Centred, turned and shifted at random: AF3 SI Alg. 19, as `core/model/structure/augmentation.py` of OpenFold3 0.5.0.
fn moved(x: &[[f32; 3]], noise: &mut dyn NoiseSource) -> Vec<[f32; 3]> {
    let mut q = noise.randn(4);
    let norm = q.iter().map(|v| v * v).sum::<f32>().sqrt();
    q.iter_mut().for_each(|v| *v /= norm);
    let (w, x_, y, z) = (q[0], q[1], q[2], q[3]);
    let rotation = [
        [w * w + x_ * x_ - y * y - z * z, 2. * (x_ * y - w * z), 2. * (x_ * z + w * y)],
        [2. * (x_ * y + w * z), w * w - x_ * x_ + y * y - z * z, 2. * (y * z - w * x_)],
        [2. * (x_ * z - w * y), 2. * (y * z + w * x_), w * w - x_ * x_ - y * y + z * z],
    ];
    let shift = noise.randn(3);
    let n = x.len() as f32;
    let mean: [f32; 3] = std::array::from_fn(|d| x.iter().map(|p| p[d]).sum::<f32>() / n);
    let centred = x.iter().map(|p| [p[0] - mean[0], p[1] - mean[1], p[2] - mean[2]]);
    centred.map(|p| std::array::from_fn(|d| (0..3).map(|e| rotation[d][e] * p[e]).sum::<f32>() + shift[d])).collect()
}

/// Four characters, each less 32, padded with blanks.
fn name_codes(name: &str) -> [u8; 4] {
    let mut codes = [0; 4];
    for (code, c) in codes.iter_mut().zip(name.bytes()) {
        *code = c.saturating_sub(32).min(63);
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::noise::TorchGenerator;

    #[test]
    fn a_move_keeps_distances_and_hands() {
        let x = conformer(17, 3);
        let mut noise = TorchGenerator::new(5);
        let y = moved(x, &mut noise);
        let distance = |a: [f32; 3], b: [f32; 3]| (0..3).map(|d| (a[d] - b[d]).powi(2)).sum::<f32>().sqrt();
        for i in 0..x.len() {
            for j in 0..i {
                assert!((distance(x[i], x[j]) - distance(y[i], y[j])).abs() < 1e-5);
            }
        }
        let volume = |x: &[[f32; 3]]| {
            let v: Vec<[f32; 3]> = [0, 2, 4].map(|i| std::array::from_fn(|d| x[i][d] - x[1][d])).to_vec();
            v[0][0] * (v[1][1] * v[2][2] - v[1][2] * v[2][1]) - v[0][1] * (v[1][0] * v[2][2] - v[1][2] * v[2][0])
                + v[0][2] * (v[1][0] * v[2][1] - v[1][1] * v[2][0])
        };
        assert!((volume(x) - volume(&y)).abs() < 1e-4);
    }

    #[test]
    fn names_are_padded_with_blanks() {
        assert_eq!(name_codes("CA"), [35, 33, 0, 0]);
        assert_eq!(name_codes("NH2"), [46, 40, 18, 0]);
    }
}
