//! The trunk: `ESM3.forward` (`esm/models/esm3.py`).
use candle_core::{Device, Result, Tensor};

use super::config::TrunkConfig;
use super::frames::Frames;
use super::heads::Head;
use super::tracks::{Batch, N_CODE, N_FUNCTION, N_RESIDUE, N_SASA, N_SEQUENCE, N_SS8, TrackEmbedder};
use super::transformer::{Block, GeometricLayer, Groups, Kept, Pass, UpdateScale};
use crate::features::esm3::{FUNCTION_DEPTH, Track};
use crate::ops::{Norm, Rope, same_sequence_bias};
use crate::weights::Weights;

/// The model over all tracks.
#[derive(Debug)]
pub struct Trunk {
    /// Sizes.
    pub config: TrunkConfig,
    /// The tracks' tables.
    tracks: TrackEmbedder,
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Between attention and transition of the first block.
    pub geometric: GeometricLayer,
    /// Before the heads.
    pub norm: Norm,
    heads: Heads,
    device: Device,
    weights: Weights,
}

/// Positions, hidden pairs and scale of a pass.
#[derive(Debug)]
pub struct Shared {
    rope: Rope,
    bias: Option<Tensor>,
    scale: UpdateScale,
}

impl Shared {
    /// As the blocks take it.
    pub fn pass(&self) -> Pass<'_> {
        Pass { rope: &self.rope, bias: self.bias.as_ref(), scale: &self.scale }
    }
}

#[derive(Debug)]
struct Heads {
    sequence: Head,
    structure: Head,
    ss8: Head,
    sasa: Head,
    function: Head,
    residue: Head,
}

/// Blocks of a model whose updates are not scaled.
const UNSCALED_BLOCKS: f64 = 36.;

impl Trunk {
    /// Gives the memory of the mapped weights back until they are needed again; see [`Weights::rest`].
    pub fn rest(&self) {
        self.weights.rest();
    }

    /// Builds the network over a weights file and checks that every tensor of the file belongs to it.
    pub fn load(config: &TrunkConfig, w: &Weights) -> Result<Self> {
        let c = config.c;
        let head = |name: &str, n: usize| Head::load(c, c, n, &w.at("heads").at(name));
        let block = |i: usize| Block::load(c, config.n_head, config.c_transition, &w.at("blocks").at(i));
        let trunk = Self {
            tracks: TrackEmbedder::load(config, &w.at("embed"))?,
            blocks: (0..config.n_block).map(block).collect::<Result<_>>()?,
            geometric: GeometricLayer::load(c, config.n_vector_head, &w.at("blocks.0.geometric"))?,
            norm: Norm::load(c, &w.at("norm"))?,
            heads: Heads {
                sequence: head("sequence", N_SEQUENCE)?,
                structure: head("structure", N_CODE)?,
                ss8: head("ss8", N_SS8)?,
                sasa: head("sasa", N_SASA)?,
                function: head("function", FUNCTION_DEPTH * N_FUNCTION)?,
                residue: head("residue", N_RESIDUE)?,
            },
            device: w.device().clone(),
            weights: w.clone(),
            config: *config,
        };
        w.finish()?;
        Ok(trunk)
    }

    /// The representation of each token after the last block, `[b, n, c]`: what the official package calls embeddings.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor> {
        self.forward_with(batch, &mut |_, _| Ok(()))
    }

    /// As `forward`; `watch` sees the representation before the first block (0) and after each (1 and on).
    pub fn forward_with(&self, batch: &Batch, watch: &mut dyn FnMut(usize, &Tensor) -> Result<()>) -> Result<Tensor> {
        let x = self.embed(batch)?;
        watch(0, &x)?;
        let shared = self.shared(batch, &x)?;
        let pass = shared.pass();
        for (i, block) in self.blocks.iter().enumerate() {
            block.attend(&x, &pass)?;
            if i == 0 {
                self.add_geometric(&x, batch, &pass)?;
            }
            block.transit(&x, &pass)?;
            watch(i + 1, &x)?;
        }
        Ok(x)
    }

    /// The representation before the first block, `[b, n, c]`.
    pub fn embed(&self, batch: &Batch) -> Result<Tensor> {
        self.tracks.forward(batch)?.to_device(&self.device)
    }

    /// What all blocks share in a pass of `batch`, whose representation is `x`.
    pub fn shared(&self, batch: &Batch, x: &Tensor) -> Result<Shared> {
        let bias = batch.sequence_id.as_ref().map(|ids| {
            let ids = Tensor::from_slice(ids, (batch.b, batch.n()), &self.device)?;
            same_sequence_bias(&ids)
        });
        let scale = (UNSCALED_BLOCKS / self.config.n_block as f64).sqrt();
        let d = self.config.c / self.config.n_head;
        let rope = match &batch.packed {
            Some(lengths) => Rope::packed(lengths, d, &self.device)?,
            None => Rope::new(batch.n(), d, &self.device)?,
        };
        Ok(Shared { rope, bias: bias.transpose()?, scale: UpdateScale::new(scale as f32, x)? })
    }

    /// Adds the update of the geometric layer to `x` `[b, n, c]` in place.
    pub fn add_geometric(&self, x: &Tensor, batch: &Batch, pass: &Pass<'_>) -> Result<()> {
        self.geometric_update(x, batch)?.map_or(Ok(()), |update| pass.scale.add(x, &update))
    }

    /// What the geometric layer adds; nothing where no residue has a frame.
    pub fn geometric_update(&self, x: &Tensor, batch: &Batch) -> Result<Option<Tensor>> {
        let mut frames = Frames { rotations: Vec::new(), translations: Vec::new(), has_frame: Vec::new() };
        for range in batch.sequences() {
            let row = Frames::new(&batch.backbone[range]);
            frames.rotations.extend(row.rotations);
            frames.translations.extend(row.translations);
            frames.has_frame.extend(row.has_frame);
        }
        if frames.is_empty() {
            return Ok(None);
        }
        let one_sequence = vec![0; batch.chain_id.len()];
        let sequence_id = batch.sequence_id.as_ref().unwrap_or(&one_sequence);
        let groups = Groups { packed: batch.packed.as_deref(), sequence_id, chain_id: &batch.chain_id };
        self.geometric.forward(x, &frames, groups, Kept::Framed).map(Some)
    }

    /// Logits of a track from the last representation `[b, n, c]`: `[b, n, tokens]`; of functions the eight tables side by side.
    pub fn logits(&self, x: &Tensor, track: Track) -> Result<Tensor> {
        let head = match track {
            Track::Sequence => &self.heads.sequence,
            Track::Structure => &self.heads.structure,
            Track::SecondaryStructure => &self.heads.ss8,
            Track::Sasa => &self.heads.sasa,
            Track::Function => &self.heads.function,
            Track::ResidueAnnotations => &self.heads.residue,
        };
        head.forward(&self.norm.forward(x)?)
    }
}
