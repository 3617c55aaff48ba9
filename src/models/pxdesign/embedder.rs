//! Condition embedder: what the design's tokens are, and where the target's are to each other. It stands for the trunk of the
//! family. `DesignConditionEmbedder` of `pxdesign/model/embedders.py`.
use candle_core::{Device, Result, Tensor};

use crate::features::af3::{Af3Features, Msa, N_RESTYPE as N_FAMILY_RESTYPE};
use crate::features::pxdesign::{DesignFeatures, N_DISTANCE_BIN, N_RESTYPE};
use crate::models::af3::atom_attention::{AtomEncoder, WindowEnds};
use crate::models::af3::batch::Batch;
use crate::models::af3::config::Config;
use crate::ops::Linear;
use crate::weights::{Param, Weights};

/// Values of `add_feat1` and of `add_feat2`: of each the first is 1 in every token.
const N_ADDED: usize = 4;
/// Features of a token beside its atoms: restype, pLDDT, hotspot, and the two added ones.
const C_TOKEN_FEATURES: usize = N_RESTYPE + 2 + 2 * N_ADDED;

/// Makes the input embedding and the pair representation of a design.
#[derive(Debug)]
pub struct ConditionEmbedder {
    atom_encoder: AtomEncoder,
    input: Linear,
    /// `[65, c_z]`: nothing known, then the distance bins.
    target: Param,
    c_z: usize,
}

impl ConditionEmbedder {
    /// The embedder of `config`.
    pub fn load(config: &Config, w: &Weights) -> Result<Self> {
        let c_in = config.c_token_input + C_TOKEN_FEATURES;
        Ok(Self {
            atom_encoder: AtomEncoder::load_input(config, &w.at("atom_encoder"))?,
            input: Linear::load(c_in, config.c_s_input(), &w.at("input"))?,
            target: w.at("target").param("weight", &[N_DISTANCE_BIN + 1, config.c_z])?,
            c_z: config.c_z,
        })
    }

    /// The input embedding `[1, n_token, c_s_input]`.
    pub fn input(&self, batch: &Batch) -> Result<Tensor> {
        let (atoms, _) = self.atom_encoder.prepare(batch, None)?;
        let tokens = self.atom_encoder.forward(batch, &atoms, None)?.tokens;
        self.input.forward(&Tensor::cat(&[&tokens, &batch.token_features], 2)?)
    }

    /// The pair representation `[1, n_token, n_token, c_z]`: the distance of two tokens of the target, or that it is not known.
    pub fn pair(&self, features: &DesignFeatures, device: &Device) -> Result<Tensor> {
        let n = features.n_token();
        let known = features.distance_bin.iter().zip(&features.distance_mask);
        let rows: Vec<u32> = known.map(|(&bin, &known)| if known { u32::from(bin) + 1 } else { 0 }).collect();
        let rows = Tensor::from_vec(rows, n * n, device)?;
        self.target.tensor(device)?.index_select(&rows, 0)?.reshape((1, n, n, self.c_z))
    }
}

/// Moves `features` to `device`, as the family's layers take them.
pub fn batch(features: &DesignFeatures, config: &Config, device: &Device) -> Result<Batch> {
    let (f, n) = (features, features.n_token());
    let mut count = vec![0; n];
    f.atom_to_token.iter().for_each(|&token| count[token] += 1);
    let mut start = Vec::with_capacity(n);
    count.iter().fold(0, |first, n| {
        start.push(first);
        first + n
    });
    // There is no alignment; what the family says of residue types is written over below.
    let no_msa = Msa { profile: vec![0.0; n * N_FAMILY_RESTYPE], deletion_mean: vec![0.0; n], ..Default::default() };
    let family = Af3Features {
        token_index: f.token_index.clone(),
        residue_index: f.residue_index.clone(),
        asym_id: f.asym_id.clone(),
        entity_id: f.entity_id.clone(),
        sym_id: f.sym_id.clone(),
        restype: vec![0; n],
        token_mask: vec![1.0; n],
        num_atoms_per_token: count,
        start_atom_index: start,
        cyclic_mask: vec![false; n],
        atom_mask: vec![1.0; f.n_atom()],
        atom_to_token: f.atom_to_token.clone(),
        ref_pos: f.ref_pos.clone(),
        ref_mask: f.ref_mask.clone(),
        ref_element: f.ref_element.clone(),
        ref_charge: f.ref_charge.clone(),
        ref_atom_name: f.ref_atom_name.clone(),
        ref_space_uid: f.ref_space_uid.clone(),
        msa: no_msa,
        ..Default::default()
    };
    let token_features = token_features(f, device)?;
    Ok(Batch { token_features, ..Batch::new(&family, config, WindowEnds::Cut, device)? })
}

/// `[1, n_token, 46]`.
fn token_features(features: &DesignFeatures, device: &Device) -> Result<Tensor> {
    let n = features.n_token();
    let mut values = vec![0f32; n * C_TOKEN_FEATURES];
    for (i, row) in values.chunks_exact_mut(C_TOKEN_FEATURES).enumerate() {
        row[usize::from(features.restype[i])] = 1.0;
        row[N_RESTYPE + 1] = features.hotspot[i]; // behind pLDDT, which is 0
        row[N_RESTYPE + 2] = 1.0;
        row[N_RESTYPE + 2 + N_ADDED] = 1.0;
    }
    Tensor::from_vec(values, (1, n, C_TOKEN_FEATURES), device)
}
