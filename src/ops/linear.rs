//! The dense layer `y = x W^T + b`, with the weight as PyTorch stores it.
use candle_core::{D, Device, Result, Tensor};

use super::cpu::columns::Write;
use super::cpu::dense::{Dense, Rows, Target, dense};
use super::cpu::layer::Layer;
use super::cpu::scratch::Shared;
use super::cpu::simd::Isa;
use super::cpu::tensors::{Values, apart, served, update};
use super::elementwise::{add_in_place, add_in_place_reference};
use super::layer_norm::Norm;
use super::metal;
use crate::weights::{Param, Weights};

/// A linear layer from `k` to `n` channels.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Param, // [n, k]
    bias: Option<Param>,
}

impl Linear {
    /// Reads `weight` `[n, k]`, and `bias` `[n]` if the file has one.
    pub fn load(k: usize, n: usize, w: &Weights) -> Result<Self> {
        Ok(Self { weight: w.param("weight", &[n, k])?, bias: w.optional("bias", &[n])? })
    }

    /// A layer of values made by the program: `weight` `[n, k]`, `bias` `[n]`.
    pub fn new(weight: Param, bias: Option<Param>) -> Result<Self> {
        match (weight.shape(), bias.as_ref().map(Param::shape)) {
            ([n, _], Some([b])) if b == n => {}
            ([_, _], None) => {}
            (w, b) => candle_core::bail!("linear layer of weight {w:?} and bias {b:?}"),
        }
        Ok(Self { weight, bias })
    }

    /// Channels in.
    pub fn k(&self) -> usize {
        self.weight.shape()[1]
    }

    /// Channels out.
    pub fn n(&self) -> usize {
        self.weight.shape()[0]
    }

    /// `x` `[.., k]` -> `[.., n]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = project(x, None, [self])?;
        Ok(y)
    }

    /// `dst` `[.., n]` += the layer applied to `x` `[.., k]`, in place.
    pub fn add_to(&self, dst: &Tensor, x: &Tensor) -> Result<()> {
        expect_channels(x, self.k(), "linear layer")?;
        expect_channels(dst, self.n(), "linear layer")?;
        let m = dst.elem_count() / self.n();
        if metal::served(dst) {
            if !dst.is_contiguous() || m != x.elem_count() / self.k() {
                return add_in_place(dst, &self.on_metal(x)?);
            }
            let (dst, x) = (dst.reshape((m, self.n()))?, apart(x, dst)?.reshape((m, self.k()))?);
            return metal::blocks(m, self.n()).try_for_each(|(start, len)| {
                add_in_place(&dst.narrow(0, start, len)?, &self.on_metal(&x.narrow(0, start, len)?)?)
            });
        }
        if !served(dst) || m != x.elem_count() / self.k() {
            return add_in_place_reference(dst, &self.forward_reference(x)?);
        }
        let x = apart(x, dst)?;
        let (x, layer) = (Values::of(&x)?, self.layer()?);
        let rows = Rows::new(&x, layer.k, None);
        update(dst, "linear_add", |dst| {
            let target = Target { dst: Shared::new(dst), n: layer.n, write: Write::Add, gate: None, mask: None };
            dense(Isa::best(), rows, m, &[(layer, target)]);
            Ok(())
        })
    }

    /// `forward` on the Apple GPU: candle's product, or our own with quantised weights.
    fn on_metal(&self, x: &Tensor) -> Result<Tensor> {
        let Some(weight) = self.weight.quantised(x.device())? else { return self.forward_reference(x) };
        expect_channels(x, self.k(), "linear layer")?;
        let mut dims = x.dims().to_vec();
        *dims.last_mut().expect("there are channels") = self.n();
        let bias = self.bias(x.device())?.map(|bias| bias.to_dtype(x.dtype())).transpose()?;
        metal::quantised(&x.contiguous()?.reshape(((), self.k()))?, &weight, bias.as_ref())?.run()?.reshape(dims)
    }

    /// `forward` in plain tensor operations.
    pub fn forward_reference(&self, x: &Tensor) -> Result<Tensor> {
        self.part_reference(x, 0, self.n())
    }

    /// Channels `first..first + n` of `forward`, in plain tensor operations: `x` `[.., k]` -> `[.., n]`.
    pub(super) fn part_reference(&self, x: &Tensor, first: usize, n: usize) -> Result<Tensor> {
        let k = self.k();
        let mut dims = x.dims().to_vec();
        if dims.pop() != Some(k) {
            candle_core::bail!("a linear layer of {k} channels got {:?}", x.dims())
        }
        dims.push(n);
        let w = self.weight.tensor(x.device())?.narrow(0, first, n)?.to_dtype(x.dtype())?;
        let y = x.contiguous()?.reshape(((), k))?.matmul(&w.t()?)?; // [rows, n]
        let y = match self.bias(x.device())? {
            Some(b) => y.broadcast_add(&b.narrow(0, first, n)?.to_dtype(x.dtype())?)?,
            None => y,
        };
        y.reshape(dims)
    }

    /// The layer where its values lie, in their own format; for the CPU.
    pub(super) fn layer(&self) -> Result<Layer<'_>> {
        let bias = self.bias.as_ref().map(Param::as_slice).transpose()?;
        Ok(Layer { w: self.weight.matrix()?, bias, k: self.k(), n: self.n() })
    }

    /// The layer in f32, widened the first time if it is not of a file of f32; for the CPU.
    pub(super) fn dense(&self) -> Result<Dense<'_>> {
        let bias = self.bias.as_ref().map(Param::as_slice).transpose()?;
        Ok(Dense { w: self.weight.as_slice()?, bias, k: self.k(), n: self.n() })
    }

    fn bias(&self, device: &Device) -> Result<Option<Tensor>> {
        self.bias.as_ref().map(|b| b.tensor(device)).transpose()
    }
}

/// Applies several layers to the same `x` `[.., k]`, normalised first if there is a norm.
pub(super) fn project<const N: usize>(x: &Tensor, norm: Option<&Norm>, layers: [&Linear; N]) -> Result<[Tensor; N]> {
    let k = layers[0].k();
    expect_channels(x, k, "linear layer")?;
    let mut made = Vec::with_capacity(N);
    if served(x) && !metal::served(x) {
        let x = x.contiguous()?;
        let values = Values::of(&x)?;
        let m = values.len() / k.max(1);
        let mut results = layers.map(|layer| vec![0.; m * layer.n()]);
        let mut jobs = Vec::with_capacity(N);
        for (layer, result) in layers.iter().zip(&mut results) {
            let dst = Shared::new(result);
            jobs.push((layer.layer()?, Target { dst, n: layer.n(), write: Write::Set, gate: None, mask: None }));
        }
        let norm = norm.map(|norm| norm.affine()).transpose()?.map(|affine| (affine, 1));
        dense(Isa::best(), Rows::new(&values, k, norm), m, &jobs);
        drop(jobs);
        for (layer, result) in layers.iter().zip(results) {
            let mut dims = x.dims().to_vec();
            *dims.last_mut().expect("there are channels") = layer.n();
            made.push(Tensor::from_vec(result, dims, x.device())?);
        }
    } else {
        match norm {
            Some(norm) if metal::served(x) => return project_on_metal(x, norm, layers),
            Some(norm) => return project(&norm.forward_reference(x)?, None, layers),
            None => {}
        }
        for layer in layers {
            made.push(if metal::served(x) { layer.on_metal(x)? } else { layer.forward_reference(x)? });
        }
    }
    Ok(made.try_into().expect("one result a layer"))
}

/// `project` of a norm in blocks of rows, so that `x` is never normalised whole beside itself.
fn project_on_metal<const N: usize>(x: &Tensor, norm: &Norm, layers: [&Linear; N]) -> Result<[Tensor; N]> {
    let (k, m) = (layers[0].k(), x.elem_count() / layers[0].k());
    let most = layers.iter().map(|layer| layer.n()).max().unwrap_or(0);
    if metal::rows(m, k + most) == m {
        return project(&norm.forward(x)?, None, layers);
    }
    let rows = x.reshape((m, k))?;
    let made = layers.iter().map(|layer| Tensor::zeros((m, layer.n()), x.dtype(), x.device()));
    let made = made.collect::<Result<Vec<_>>>()?;
    for (start, len) in metal::blocks(m, k + most) {
        let rows = norm.forward(&rows.narrow(0, start, len)?)?;
        for (made, layer) in made.iter().zip(layers) {
            made.slice_set(&layer.on_metal(&rows)?, 0, start)?;
        }
    }
    let shaped = made.into_iter().zip(layers).map(|(made, layer)| {
        let mut dims = x.dims().to_vec();
        *dims.last_mut().expect("there are channels") = layer.n();
        made.reshape(dims)
    });
    Ok(shaped.collect::<Result<Vec<_>>>()?.try_into().expect("one result a layer"))
}

/// Fails unless the last dimension of `x` is `c`.
pub(super) fn expect_channels(x: &Tensor, c: usize, what: &str) -> Result<()> {
    match x.dim(D::Minus1) {
        Ok(d) if d == c => Ok(()),
        _ => candle_core::bail!("{what}: {c} channels expected, the tensor is {:?}", x.dims()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa, same_change};
    use crate::ops::{norm_linear, norm_linear_reference};
    use crate::weights::{CodeLayout, Format};

    #[test]
    fn layers_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            let sizes =
                [(1, 1, 1), (2, 3, 5), (17, 24, 48), (31, 128, 16), (76, 384, 130), (1290, 16, 100), (5, 200, 700)];
            for (m, k, n) in sizes {
                let x = noise.tensor(&[1, m, k]);
                for lin in [noise.linear(k, n), noise.linear_without_bias(k, n)] {
                    let what = format!("{m} x {k} x {n}");
                    close(&what, &lin.forward(&x)?, &lin.forward_reference(&x)?, 2e-6)?;
                    let dst = noise.tensor(&[m, n]);
                    let reference = |dst: &Tensor| add_in_place_reference(dst, &lin.forward_reference(&x)?.squeeze(0)?);
                    same_change(&what, &dst, |dst| lin.add_to(dst, &x), reference, 4e-6)?;
                }
            }
            Ok(())
        })
    }

    /// More rows than are packed at once, more weight than a task takes.
    #[test]
    fn many_rows_and_a_large_weight() -> Result<()> {
        let mut noise = Noise::new(2);
        let (x, lin) = (noise.tensor(&[2, 2100, 600]), noise.linear(600, 500));
        close("2 x 2100 x 600 x 500", &lin.forward(&x)?, &lin.forward_reference(&x)?, 2e-6)
    }

    /// A layer of a file of 16-bit numbers gives to the bit what one of the same numbers in f32 gives, whichever way it is taken.
    #[test]
    fn sixteen_bit_weights() -> anyhow::Result<()> {
        use safetensors::{Dtype, tensor::TensorView};
        let folder = tempfile::tempdir()?;
        let mut noise = Noise::new(5);
        for (m, k, n) in [(3, 600, 500), (300, 600, 500), (2, 16, 24), (700, 64, 48)] {
            let (values, bias) = (noise.values(n * k), noise.values(n));
            let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
            let layer = |name: &str, dtype, weight: &[u8]| {
                let weight = TensorView::new(dtype, vec![n, k], weight)?;
                let bias = bytes(&bias);
                let bias = TensorView::new(Dtype::F32, vec![n], &bias)?;
                let path = folder.path().join(format!("{name}{m}"));
                safetensors::serialize_to_file([("weight", weight), ("bias", bias)], None, &path)?;
                anyhow::Ok(Linear::load(k, n, &Weights::open(&path, &Device::Cpu)?)?)
            };
            let x = noise.tensor(&[m, k]);
            let halves: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
            let brains: Vec<half::bf16> = values.iter().map(|v| half::bf16::from_f32(*v)).collect();
            let cases = [
                ("f16", Dtype::F16, halves.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(), 0),
                ("bf16", Dtype::BF16, brains.iter().flat_map(|v| v.to_le_bytes()).collect(), 1),
            ];
            for (name, dtype, weight, kind) in cases {
                let widened = (0..n * k).map(|i| [halves[i].to_f32(), brains[i].to_f32()][kind]).collect::<Vec<_>>();
                let wide = layer("wide", Dtype::F32, &bytes(&widened))?;
                let narrow = layer(name, dtype, &weight)?;
                on_each_isa(|| close(name, &narrow.forward(&x)?, &wide.forward(&x)?, 0.))?;
                close(name, &narrow.forward_reference(&x)?, &wide.forward_reference(&x)?, 0.)?;
                assert_eq!(narrow.dense()?.w, widened, "for the kernels that take f32");
            }
        }
        Ok(())
    }

    /// Every layout, with as few rows as have their own kernel and with more, with and without a norm.
    #[test]
    fn quantised_layers_of_ragged_sizes() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(5);
            for (m, k, n) in [(1, 64, 7), (3, 128, 48), (8, 384, 130), (9, 96, 5), (300, 192, 40), (37, 640, 700)] {
                for layout in layouts(k) {
                    let (x, lin) = (noise.tensor(&[1, m, k]), noise.quantised_linear(k, n, layout));
                    let (norm, what) = (noise.norm(k), format!("{m} x {k} x {n} {layout:?}"));
                    close(&what, &lin.forward(&x)?, &lin.forward_reference(&x)?, 3e-6)?;
                    let want = norm_linear_reference(&x, &norm, &lin)?;
                    close(&what, &norm_linear(&x, &norm, &lin)?, &want, 3e-6)?;
                    let dst = noise.tensor(&[m, n]);
                    let reference = |dst: &Tensor| add_in_place_reference(dst, &lin.forward_reference(&x)?.squeeze(0)?);
                    same_change(&what, &dst, |dst| lin.add_to(dst, &x), reference, 4e-6)?;
                }
            }
            Ok(())
        })
    }

    /// All that rows of `k` can have.
    fn layouts(k: usize) -> Vec<CodeLayout> {
        let groups = [32, 64, 128].into_iter().filter(|group| k.is_multiple_of(*group));
        let formats = [Format::F32, Format::F16, Format::Bf16];
        let of = |group: usize| [4, 8].map(|bits| formats.map(|of| CodeLayout { bits, group, of }));
        groups.flat_map(of).flatten().collect()
    }

    #[test]
    fn source_in_the_storage_of_the_destination() -> Result<()> {
        let mut noise = Noise::new(3);
        let (x, lin) = (noise.tensor(&[6, 8]), noise.linear(8, 8));
        let reference = |dst: &Tensor| add_in_place_reference(dst, &lin.forward_reference(dst)?);
        same_change("in place", &x, |dst| lin.add_to(dst, dst), reference, 2e-6)
    }

    #[test]
    fn other_channels_are_refused() {
        let mut noise = Noise::new(4);
        assert!(noise.linear(8, 8).forward(&noise.tensor(&[2, 7])).is_err());
    }
}
