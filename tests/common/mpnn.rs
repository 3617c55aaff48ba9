//! ProteinMPNN of the published size with the parameters of fixtures/mpnn/checkpoint.py, made here: each value follows from its name.
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use safetensors::tensor::TensorView;
use weights_convert::{MPNN, Map, Release};

use super::Golden;

const C: usize = 128;

/// Writes the weights file of a release; `golden` has the bias of the letters.
pub fn write_full(release: &str, golden: &Golden, path: &Path) -> Result<()> {
    let release: &Release =
        MPNN.iter().find(|r| r.model == release && r.version == "v_48_020").context("the release")?;
    let tensors: Vec<(String, Vec<usize>)> = tensors(release.model == "mpnn-ca");
    let named: Vec<(&str, &[usize])> = tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let plan = Map::parse(release.map)?.apply(&named).map_err(|e| anyhow::anyhow!(e.join("\n")))?;
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(name, shape)| match name.as_str() {
            "W_out.bias" => Ok(golden.get("weights/W_out.bias")?.to_vec1()?),
            _ => Ok(values(name, shape)),
        })
        .collect::<Result<_>>()?;
    let mut made: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, sources) in &plan.targets {
        let [source] = sources.as_slice() else { anyhow::bail!("{name} is stacked") };
        let (mut shape, mut data) = (tensors[source.tensor].1.clone(), values[source.tensor].clone());
        if let Some(part) = part_of(name, &shape) {
            data = data.chunks(shape[1]).flat_map(|row| row[part * C..][..C].to_vec()).collect();
            shape[1] = C;
        }
        made.push((name.clone(), shape, data.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    let views = made.iter().map(|(name, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes)?))
    });
    let metadata: HashMap<String, String> =
        [("model", release.model), ("release", release.version), ("config", release.config), ("format_version", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
    let views: Vec<(&str, TensorView)> = views.collect::<Result<_>>()?;
    safetensors::serialize_to_file(views, Some(metadata), path)?;
    Ok(())
}

/// Which part of a matrix that meets several things a tensor of ours is.
fn part_of(name: &str, shape: &[usize]) -> Option<usize> {
    let parts: &[&str] = if shape.last() == Some(&(4 * C)) {
        &[".node.weight", ".edge.weight", ".letter.weight", ".neighbour.weight"]
    } else {
        &[".node.weight", ".edge.weight", ".neighbour.weight"]
    };
    parts.iter().position(|part| name.ends_with(part))
}

/// The official names and shapes.
fn tensors(ca_only: bool) -> Vec<(String, Vec<usize>)> {
    let mut all: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    let norm = |add: &mut dyn FnMut(String, &[usize]), name: &str| {
        add(format!("{name}.weight"), &[C]);
        add(format!("{name}.bias"), &[C]);
    };
    let linear = |add: &mut dyn FnMut(String, &[usize]), name: &str, k: usize, n: usize| {
        add(format!("{name}.weight"), &[n, k]);
        add(format!("{name}.bias"), &[n]);
    };
    linear(&mut add, "features.embeddings.linear", 66, 16);
    add("features.edge_embedding.weight".into(), &[C, if ca_only { 167 } else { 416 }]);
    norm(&mut add, "features.norm_edges");
    if ca_only {
        add("features.node_embedding.weight".into(), &[C, 3]);
        norm(&mut add, "features.norm_nodes");
        linear(&mut add, "W_v", C, C);
    }
    linear(&mut add, "W_e", C, C);
    linear(&mut add, "W_out", C, 21);
    add("W_s.weight".into(), &[21, C]);
    for (kind, first, hidden, norms) in
        [("encoder", &["W1", "W11"][..], &["W2", "W3", "W12", "W13"][..], 3), ("decoder", &["W1"], &["W2", "W3"], 2)]
    {
        for i in 0..3 {
            let name = format!("{kind}_layers.{i}");
            let wide = if kind == "encoder" { 3 * C } else { 4 * C };
            first.iter().for_each(|w| linear(&mut add, &format!("{name}.{w}"), wide, C));
            hidden.iter().for_each(|w| linear(&mut add, &format!("{name}.{w}"), C, C));
            (1..=norms).for_each(|n| norm(&mut add, &format!("{name}.norm{n}")));
            linear(&mut add, &format!("{name}.dense.W_in"), C, 4 * C);
            linear(&mut add, &format!("{name}.dense.W_out"), 4 * C, C);
        }
    }
    all
}

/// `value` of fixtures/mpnn/checkpoint.py.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut state = hash ^ STEP;
    let mut uniform = || {
        state = state.wrapping_add(STEP);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        ((x >> 40) as f64 + 0.5) / f64::from(1 << 23) - 1.
    };
    let wide = shape.last().copied().unwrap_or(1) as f64;
    let of = |u: f64| match name {
        _ if name.contains("norm") && name.ends_with("weight") => 1. + 0.35 * u,
        _ if name.ends_with("bias") => 0.17 * u,
        "W_s.weight" => 5.2 * u,
        "features.embeddings.linear.weight" => 0.87 * u,
        _ => 5.2 * u / wide.sqrt(),
    };
    (0..shape.iter().product()).map(|_| of(uniform()) as f32).collect()
}

/// The folder of the full-size weights of a test binary, made when first asked for.
pub fn weights(release: &str) -> Result<fold::weights::Weights> {
    use std::sync::OnceLock;
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (release, golden) in [("mpnn", "mpnn/monomer.safetensors"), ("mpnn-ca", "mpnn/ca.safetensors")] {
            let golden = Golden::open(golden).expect("a golden file");
            write_full(release, &golden, &folder.path().join(format!("{release}.safetensors"))).expect("weights");
        }
        folder
    });
    Ok(fold::weights::Weights::open(&folder.path().join(format!("{release}.safetensors")), &Device::Cpu)?)
}
