//! Features as the networks take them: tensors on a device, and the host-side indices that drive gathers.
use candle_core::{Device, Result, Tensor};

use super::atom_attention::{AtomWindows, WindowEnds};
use super::config::Config;
use super::relpos::RelativePositions;
use crate::features::af3::{Af3Features, Msa, N_RESTYPE, Templates};

/// One query on the device. The batch dimension in front is 1.
#[derive(Debug)]
pub struct Batch {
    /// Tokens.
    pub n_token: usize,
    /// Atoms.
    pub n_atom: usize,
    /// `[1, n_token]`, 1 = real.
    pub token_mask: Tensor,
    /// `[1, n_token, n_token]`.
    pub pair_mask: Tensor,
    /// `[1, n_token, 65]`: restype one-hot, profile, deletion mean; the tail of the input embedding.
    pub token_features: Tensor,
    /// Bonded token pairs, both orders.
    pub token_bonds: Vec<(usize, usize)>,
    /// Relative positions of all token pairs.
    pub relpos: RelativePositions,
    /// Per-atom features and the windows of atom attention.
    pub atoms: AtomFeatures,
    /// Windows of atom attention.
    pub windows: AtomWindows,
    /// Alignment rows on the host: the MSA embedder picks among them in each cycle.
    pub msa: Msa,
    /// Templates, or none.
    pub templates: Option<Templates>,
    /// Chain of each token.
    pub asym_id: Vec<i32>,
    /// Where the tensors are.
    pub device: Device,
}

/// Reference conformer features of the atoms, AF3 SI Table 5.
#[derive(Debug)]
pub struct AtomFeatures {
    /// `[1, n_atom, 3]`, in Å.
    pub ref_pos: Tensor,
    /// `[1, n_atom, 1]`, arcsinh of the formal charge.
    pub ref_charge: Tensor,
    /// `[1, n_atom, 1]`.
    pub ref_mask: Tensor,
    /// `[1, n_atom, 119]` one-hot.
    pub ref_element: Tensor,
    /// `[1, n_atom, 256]`: four one-hot characters.
    pub ref_atom_name_chars: Tensor,
    /// Reference positions on the host, for the pair features of atom windows.
    pub positions: Vec<[f32; 3]>,
    /// Conformer each atom belongs to.
    pub space: Vec<u32>,
    /// Token of each atom.
    pub to_token: Vec<usize>,
    /// The same as an index tensor, `[n_atom]` u32.
    pub to_token_index: Tensor,
    /// `[n_token]`: 1 / (atoms of the token + 1e-9), the mean over a token's atoms.
    pub inverse_count: Tensor,
    /// `[1, n_atom, 1]`, 1 = real.
    pub mask: Tensor,
    /// The same on the host.
    pub mask_values: Vec<f32>,
    /// Atoms in each token.
    pub per_token: Vec<usize>,
}

/// Element columns: atomic numbers 1-118 and unknown.
const N_ELEMENT: usize = 119;
/// Characters of an atom name, and codes a character.
const N_CHAR: usize = 4;
const N_CODE: usize = 64;

impl Batch {
    /// Moves `features` to `device`; `ends` is how the model cuts its windows of atoms.
    pub fn new(features: &Af3Features, config: &Config, ends: WindowEnds, device: &Device) -> Result<Self> {
        let f = features;
        let (n, n_atom) = (f.token_index.len(), f.atom_to_token.len());
        let c_restype = N_RESTYPE;
        let c = 2 * c_restype + 1;
        let mut token_features = vec![0f32; n * c];
        for (i, row) in token_features.chunks_exact_mut(c).enumerate() {
            row[usize::from(f.restype[i])] = 1.0;
            row[c_restype..2 * c_restype].copy_from_slice(&f.msa.profile[i * c_restype..(i + 1) * c_restype]);
            row[2 * c_restype] = f.msa.deletion_mean[i];
        }
        let token_mask = Tensor::from_slice(&f.token_mask, (1, n), device)?;
        let pair_mask = token_mask.unsqueeze(2)?.broadcast_mul(&token_mask.unsqueeze(1)?)?;
        let both = f.token_bonds.iter().flat_map(|&(i, j)| [(i as usize, j as usize), (j as usize, i as usize)]);
        Ok(Self {
            n_token: n,
            n_atom,
            pair_mask,
            token_mask,
            token_features: Tensor::from_vec(token_features, (1, n, c), device)?,
            token_bonds: both.collect(),
            relpos: RelativePositions::new(f, config),
            atoms: AtomFeatures::new(f, device)?,
            windows: AtomWindows::new(&f.atom_mask, config.n_query, config.n_key, ends, device)?,
            msa: f.msa.clone(),
            templates: f.templates.clone(),
            asym_id: f.asym_id.clone(),
            device: device.clone(),
        })
    }
}

impl AtomFeatures {
    fn new(f: &Af3Features, device: &Device) -> Result<Self> {
        let n = f.atom_to_token.len();
        let mut element = vec![0f32; n * N_ELEMENT];
        let mut name = vec![0f32; n * N_CHAR * N_CODE];
        for atom in 0..n {
            element[atom * N_ELEMENT + usize::from(f.ref_element[atom])] = 1.0;
            for (k, &code) in f.ref_atom_name[atom].iter().enumerate() {
                name[(atom * N_CHAR + k) * N_CODE + usize::from(code)] = 1.0;
            }
        }
        let column = |values: Vec<f32>| Tensor::from_vec(values, (1, n, 1), device);
        let index = f.atom_to_token.iter().map(|&t| t as u32).collect::<Vec<_>>();
        let mut count = vec![0f32; f.token_index.len()];
        for (&token, &mask) in f.atom_to_token.iter().zip(&f.atom_mask) {
            count[token] += mask;
        }
        let inverse = count.iter().map(|c| 1.0 / (c + 1e-9)).collect::<Vec<_>>();
        Ok(Self {
            ref_pos: Tensor::from_vec(f.ref_pos.concat(), (1, n, 3), device)?,
            ref_charge: column(f.ref_charge.iter().map(|c| c.asinh()).collect())?,
            ref_mask: column(f.ref_mask.iter().map(|&m| f32::from(u8::from(m))).collect())?,
            ref_element: Tensor::from_vec(element, (1, n, N_ELEMENT), device)?,
            ref_atom_name_chars: Tensor::from_vec(name, (1, n, N_CHAR * N_CODE), device)?,
            positions: f.ref_pos.clone(),
            space: f.ref_space_uid.clone(),
            to_token: f.atom_to_token.clone(),
            to_token_index: Tensor::from_vec(index, n, device)?,
            inverse_count: Tensor::from_vec(inverse, f.token_index.len(), device)?,
            mask: column(f.atom_mask.clone())?,
            mask_values: f.atom_mask.clone(),
            per_token: f.num_atoms_per_token.clone(),
        })
    }

    /// Token features to atoms: `[b, n_token, c]` -> `[b, n_atom, c]`.
    pub fn broadcast(&self, tokens: &Tensor) -> Result<Tensor> {
        tokens.contiguous()?.index_select(&self.to_token_index, 1)
    }

    /// Mean over the atoms of each token: `[b, n_atom, c]` -> `[b, n_token, c]`.
    pub fn mean_per_token(&self, atoms: &Tensor) -> Result<Tensor> {
        let (b, _, c) = atoms.dims3()?;
        let n = self.inverse_count.dim(0)?;
        let masked = atoms.broadcast_mul(&self.mask)?;
        let sums =
            Tensor::zeros((b, n, c), atoms.dtype(), atoms.device())?.index_add(&self.to_token_index, &masked, 1)?;
        sums.broadcast_mul(&self.inverse_count.reshape((1, n, 1))?)
    }
}
