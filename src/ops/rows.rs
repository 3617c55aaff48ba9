//! Layers on rows of host memory, for a network of many small steps that runs on the CPU on every machine: weights are laid out for the
//! product once, a call wakes no threads and makes no tensor.
use candle_core::{Device, Result};

use super::cpu::columns::to_columns;
use super::cpu::dense::Dense;
use super::cpu::pointwise::{Function, norm_rows};
use super::cpu::product::{Init, Left, Order, Panels, product};
use super::cpu::scratch::Scratch;
use super::cpu::simd::Isa;
use super::{Linear, Norm};
use crate::weights::Weights;

/// A linear layer whose weight lies as products of few rows take it.
#[derive(Debug, Clone)]
pub struct RowLinear {
    isa: Isa,
    /// Panels of rows of the weight, turned: `[n / panel, k, panel]`.
    turned: Vec<f32>,
    bias: Option<Vec<f32>>,
    k: usize,
    n: usize,
}

impl RowLinear {
    /// Reads `weight` `[n, k]`, and `bias` `[n]` if the file has one. Of a tensor that the file lacks there is nothing but zeros, until
    /// [`Weights::finish`] tells of it.
    ///
    /// # Errors
    /// If a tensor cannot be placed.
    pub fn load(k: usize, n: usize, w: &Weights) -> Result<Self> {
        let layer = Linear::load(k, n, &w.on(&Device::Cpu))?;
        let nothing = Dense { w: &vec![0.; n * k], bias: None, k, n };
        Ok(Self::packed(layer.dense().unwrap_or(nothing)))
    }

    /// From a layer on the CPU.
    ///
    /// # Errors
    /// If its values are not there to be read.
    pub fn new(layer: &Linear) -> Result<Self> {
        Ok(Self::packed(layer.dense()?))
    }

    fn packed(dense: Dense) -> Self {
        let isa = Isa::best();
        let (k, n, panel) = (dense.k, dense.n, isa.panel());
        let mut turned = vec![0.; n.div_ceil(panel) * k * panel];
        for (p, turned) in turned.chunks_mut(k * panel).enumerate() {
            to_columns(isa, &dense.w[p * panel * k..], k, panel.min(n - p * panel), k, turned, panel);
        }
        Self { isa, turned, bias: dense.bias.map(<[f32]>::to_vec), k, n }
    }

    /// Channels in.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Channels out.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The bias, if there is one.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// `x` `[m, k]` -> `y` `[m, n]`, which is overwritten.
    pub fn set(&self, x: &[f32], y: &mut [f32]) {
        match &self.bias {
            None => self.product(x, y, Init::Zero),
            Some(bias) => {
                y.chunks_mut(self.n).for_each(|row| row.copy_from_slice(bias));
                self.product(x, y, Init::Sum);
            }
        }
    }

    /// Adds the weight's product with `x` `[m, k]` to `y` `[m, n]`; not the bias.
    pub fn add(&self, x: &[f32], y: &mut [f32]) {
        self.product(x, y, Init::Sum);
    }

    fn product(&self, x: &[f32], y: &mut [f32], init: Init) {
        let (k, n, panel) = (self.k, self.n, self.isa.panel());
        let m = y.len() / n;
        assert!(x.len() == m * k && y.len() == m * n, "rows of {k} and {n} channels differ in number");
        let left = Left { values: x, order: Order::Rows(k), m };
        let right = Panels { values: &self.turned[..], row: panel, next: k * panel };
        if n.is_multiple_of(self.isa.lanes()) {
            return product(self.isa, left, k, right, n, Panels { values: y, row: n, next: panel }, init);
        }
        // A product writes whole vectors.
        let wide = n.next_multiple_of(self.isa.lanes());
        let mut whole = Scratch::new(m * wide);
        whole.chunks_mut(wide).zip(y.chunks(n)).for_each(|(whole, row)| whole[..n].copy_from_slice(row));
        product(self.isa, left, k, right, n, Panels { values: &mut whole, row: wide, next: panel }, init);
        y.chunks_mut(n).zip(whole.chunks(wide)).for_each(|(row, whole)| row.copy_from_slice(&whole[..n]));
    }
}

/// The Gaussian error linear unit, exact: `x (1 + erf(x / sqrt(2))) / 2` in place.
pub fn gelu_rows(x: &mut [f32]) {
    let mut old = Scratch::new(x.len());
    old.copy_from_slice(x);
    Function::Gelu.apply(Isa::best(), x, &old, &[]);
}

impl Norm {
    /// Normalises rows of the norm's channels in place.
    ///
    /// # Errors
    /// If its parameters are not on the CPU.
    pub fn rows(&self, x: &mut [f32]) -> Result<()> {
        let mut old = Scratch::new(x.len());
        old.copy_from_slice(x);
        norm_rows(Isa::best(), &old, self.c(), self.affine()?, x);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::ops::testing::{Noise, close, on_each_isa};

    #[test]
    fn rows_as_the_layer_itself() -> Result<()> {
        on_each_isa(|| {
            let mut noise = Noise::new(1);
            for (m, k, n) in [(1, 5, 21), (48, 128, 128), (7, 16, 512), (3, 128, 8), (2, 7, 33)] {
                for layer in [noise.linear(k, n), noise.linear_without_bias(k, n)] {
                    let (x, rows) = (noise.tensor(&[m, k]), RowLinear::new(&layer)?);
                    let values = x.flatten_all()?.to_vec1::<f32>()?;
                    let mut y = vec![f32::NAN; m * n];
                    rows.set(&values, &mut y);
                    rows.add(&values, &mut y);
                    let want = layer.forward_reference(&x)?;
                    let zero = layer.forward_reference(&x.zeros_like()?)?;
                    let want = ((want * 2.)? - zero)?;
                    close(&format!("{m} x {k} x {n}"), &Tensor::from_vec(y, (m, n), &Device::Cpu)?, &want, 4e-6)?;
                }
            }
            Ok(())
        })
    }

    #[test]
    fn gelu_as_tensors_have_it() -> Result<()> {
        on_each_isa(|| {
            let x: Vec<f32> = (-700..700).map(|i| 0.01 * i as f32).collect();
            let want = Tensor::from_slice(&x, x.len(), &Device::Cpu)?.gelu_erf()?;
            let mut got = x;
            gelu_rows(&mut got);
            close("gelu", &Tensor::new(got, &Device::Cpu)?, &want, 3e-7)
        })
    }

    #[test]
    fn norm_as_tensors_have_it() -> Result<()> {
        let mut noise = Noise::new(2);
        let (norm, x) = (noise.norm(24), noise.tensor(&[5, 24]));
        let mut got = x.flatten_all()?.to_vec1::<f32>()?;
        norm.rows(&mut got)?;
        close("norm", &Tensor::from_vec(got, (5, 24), &Device::Cpu)?, &norm.forward_reference(&x)?, 2e-6)
    }
}
