//! The encoder: edges of nearest neighbours, and layers that pass messages along them and update both ends and edges.
use candle_core::Result;
use rayon::prelude::*;

use super::config::Config;
use super::layers::{Message, NodeUpdate};
use crate::features::mpnn::{Backbone, Edges, N_SEPARATION, Neighbour, Rules};
use crate::ops::{Norm, RowLinear};
use crate::weights::Weights;

/// Channels of the distance in sequence.
const C_POSITION: usize = 16;
/// Channels of what [`Edges`] describes: of backbones, and of CA atoms.
const C_EDGE: (usize, usize) = (400, 151);

/// A backbone as the decoder takes it.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Neighbours of each residue: fewer than the model's if there are not so many residues.
    pub k: usize,
    /// `[n_res]`: is the residue known?
    pub mask: Vec<bool>,
    /// `[n_res, k]`, nearest first.
    pub neighbours: Vec<u32>,
    /// `[n_res, c]`.
    pub nodes: Vec<f32>,
    /// `[n_res, k, c]`.
    pub edges: Vec<f32>,
}

/// Layers and embeddings of the encoder.
#[derive(Debug)]
pub struct Encoder {
    c: usize,
    n_neighbour: usize,
    relative_position: RowLinear,
    edge_embedding: RowLinear,
    edge_norm: Norm,
    edge: RowLinear,
    layers: Vec<Layer>,
    /// Of CA atoms alone?
    ca_only: bool,
}

#[derive(Debug)]
struct Layer {
    message: Message,
    update: NodeUpdate,
    edge_update: Message,
    edge_norm: Norm,
}

impl Encoder {
    /// Reads the encoder of backbones, or that of CA atoms.
    ///
    /// # Errors
    /// If a tensor cannot be placed.
    pub fn load(config: &Config, ca_only: bool, w: &Weights) -> Result<Self> {
        let c = config.c;
        let c_edge = if ca_only { C_EDGE.1 } else { C_EDGE.0 };
        let layer = |i: usize| {
            let w = w.at(format!("encoder.{i}"));
            Ok(Layer {
                message: Message::load(c, &w.at("message"))?,
                update: NodeUpdate::load(c, &w)?,
                edge_update: Message::load(c, &w.at("edge_update"))?,
                edge_norm: Norm::load(c, &w.at("edge_norm"))?,
            })
        };
        Ok(Self {
            c,
            n_neighbour: config.n_neighbour,
            relative_position: RowLinear::load(N_SEPARATION, C_POSITION, &w.at("relative_position"))?,
            edge_embedding: RowLinear::load(C_POSITION + c_edge, c, &w.at("edge_embedding"))?,
            edge_norm: Norm::load(c, &w.at("edge_norm"))?,
            edge: RowLinear::load(c, c, &w.at("edge"))?,
            layers: (0..config.n_encoder).map(layer).collect::<Result<_>>()?,
            ca_only,
        })
    }

    /// Does the network read CA atoms alone?
    pub fn ca_only(&self) -> bool {
        self.ca_only
    }

    /// The graph of a backbone before the first layer, and its embedded edges `[n_res, k, c]` as they are before their last product.
    ///
    /// # Errors
    /// A backbone for the other network.
    pub fn embed(&self, backbone: &Backbone) -> Result<(Encoded, Vec<f32>)> {
        if (backbone.rules == Rules::CaOnly) != self.ca_only {
            candle_core::bail!("these weights are of {}", if self.ca_only { "CA atoms" } else { "whole backbones" })
        }
        let (c, described, n) = (self.c, Edges::new(backbone), backbone.n_res());
        let neighbours: Vec<Vec<Neighbour>> =
            (0..n).into_par_iter().map(|i| described.neighbours(i, self.n_neighbour)).collect();
        let k = self.n_neighbour.min(n);
        let mut embedded = vec![0f32; n * k * c];
        embedded.par_chunks_mut((k * c).max(1)).enumerate().try_for_each(|(i, embedded)| {
            let width = self.edge_embedding.k();
            let mut rows = vec![0f32; k * width];
            for (row, neighbour) in rows.chunks_mut(width).zip(&neighbours[i]) {
                let (position, rest) = row.split_at_mut(C_POSITION);
                let mut one_hot = [0f32; N_SEPARATION];
                one_hot[backbone.separation(i, neighbour.index)] = 1.;
                self.relative_position.set(&one_hot, position);
                described.describe(i, *neighbour, rest);
            }
            self.edge_embedding.set(&rows, embedded);
            self.edge_norm.rows(embedded)
        })?;
        let mut edges = vec![0f32; embedded.len()];
        by_residue(&mut edges, k * c, |i, edges| {
            self.edge.set(&embedded[i * k * c..][..k * c], edges);
            Ok(())
        })?;
        let neighbours = neighbours.iter().flatten().map(|n| n.index as u32).collect();
        Ok((Encoded { k, mask: backbone.mask.clone(), neighbours, nodes: vec![0.; n * c], edges }, embedded))
    }

    /// Number of layers.
    pub fn n_layer(&self) -> usize {
        self.layers.len()
    }

    /// One layer: residues first, then edges with the new residues.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    pub fn layer(&self, number: usize, x: &mut Encoded) -> Result<()> {
        let (c, k, layer) = (self.c, x.k, &self.layers[number]);
        let first = Parts::new(&layer.message, &x.nodes, c);
        let mut nodes = x.nodes.clone();
        by_residue(&mut nodes, c, |i, h| {
            let (mut pre, mut room, mut messages) = (vec![0f32; k * c], vec![0f32; k * c], vec![0f32; c]);
            first.meet(&layer.message, x, i, &mut pre);
            layer.message.hidden(&mut pre, &mut room);
            layer.message.sum(&pre, |j| x.mask[i] && x.mask[x.neighbours[i * k + j] as usize], &mut messages);
            layer.update.apply(h, &messages, x.mask[i])
        })?;
        x.nodes = nodes;
        let first = Parts::new(&layer.edge_update, &x.nodes, c);
        let mut edges = std::mem::take(&mut x.edges);
        by_residue(&mut edges, k * c, |i, edges| {
            let (mut pre, mut room) = (vec![0f32; k * c], vec![0f32; k * c]);
            layer.edge_update.edge.set(edges, &mut pre);
            first.add(x, i, &mut pre);
            layer.edge_update.hidden(&mut pre, &mut room);
            layer.edge_update.out(&pre, &mut room);
            edges.iter_mut().zip(room).for_each(|(edge, d)| *edge += d);
            layer.edge_norm.rows(edges)
        })?;
        x.edges = edges;
        Ok(())
    }

    /// All of it.
    ///
    /// # Errors
    /// A backbone for the other network.
    pub fn forward(&self, backbone: &Backbone) -> Result<Encoded> {
        let (mut encoded, _) = self.embed(backbone)?;
        (0..self.n_layer()).try_for_each(|i| self.layer(i, &mut encoded))?;
        Ok(encoded)
    }
}

/// What the residues contribute to the first layer of their messages: `[n_res, c]` at their own end, and at the other.
struct Parts {
    own: Vec<f32>,
    other: Vec<f32>,
}

impl Parts {
    fn new(message: &Message, nodes: &[f32], c: usize) -> Self {
        let (mut own, mut other) = (vec![0f32; nodes.len()], vec![0f32; nodes.len()]);
        if !nodes.is_empty() {
            let (rows, band) = (nodes, 64 * c);
            own.par_chunks_mut(band).zip(rows.par_chunks(band)).for_each(|(y, x)| message.node.set(x, y));
            other.par_chunks_mut(band).zip(rows.par_chunks(band)).for_each(|(y, x)| message.neighbour.set(x, y));
        }
        Self { own, other }
    }

    /// The first layer of the messages to residue `i`: `[k, c]`.
    fn meet(&self, message: &Message, x: &Encoded, i: usize, pre: &mut [f32]) {
        let width = pre.len();
        message.edge.set(&x.edges[i * width..][..width], pre);
        self.add(x, i, pre);
    }

    fn add(&self, x: &Encoded, i: usize, pre: &mut [f32]) {
        let c = pre.len() / x.k;
        for (row, j) in pre.chunks_mut(c).zip(&x.neighbours[i * x.k..]) {
            let (own, other) = (&self.own[i * c..][..c], &self.other[*j as usize * c..][..c]);
            row.iter_mut().zip(own).zip(other).for_each(|((row, own), other)| *row += own + other);
        }
    }
}

/// Calls `task` with the number and the values of each residue, in parallel.
fn by_residue(
    values: &mut [f32],
    width: usize,
    task: impl Fn(usize, &mut [f32]) -> Result<()> + Send + Sync,
) -> Result<()> {
    values.par_chunks_mut(width.max(1)).enumerate().try_for_each(|(i, values)| task(i, values))
}
