//! Attention to all keys, and in windows of a sequence.
use candle_core::{Device, Result, Tensor, bail};

use super::launch::{Builder, Job, Output, Shader};

pub(super) const SHADER: Shader = Shader { name: "attention.metal", source: include_str!("attention.metal") };
/// Biases that the kernel takes.
const BIASES: usize = 4;
/// Queries of a threadgroup, at most.
const QUERIES: usize = 32;
/// Widths of a head that there are kernels for; others take the next.
const WIDTHS: [usize; 8] = [8, 16, 24, 32, 48, 64, 96, 128];

/// `softmax(q k^T / sqrt(d) + biases) v`, times the sigmoid of the gate.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// `[b, n, h * d]`.
    pub q: &'a Tensor,
    /// `[b, m, h * d]`.
    pub k: &'a Tensor,
    /// As the keys.
    pub v: &'a Tensor,
    /// As the queries; before its sigmoid.
    pub gate: Option<&'a Tensor>,
    /// Heads.
    pub n_head: usize,
}

impl Attention<'_> {
    /// Is there a kernel for this width of a head and this many biases?
    pub fn served(&self, biases: usize) -> bool {
        let d = self.q.dims().last().map_or(0, |c| c / self.n_head.max(1));
        (1..=WIDTHS[WIDTHS.len() - 1]).contains(&d) && biases <= BIASES
    }

    /// To all keys. Each of `biases` is broadcast to `[b, h, n, m]` and read where it lies.
    pub fn to_all(self, biases: &[&Tensor]) -> Result<Job<'static>> {
        let ((b, n, _), m) = (self.q.dims3()?, self.k.dim(1)?);
        let views = biases.iter().map(|bias| {
            let view = bias.broadcast_as((b, self.n_head, n, m))?;
            let [sample, head, query, key] = [0, 1, 2, 3].map(|i| view.stride()[i]);
            Ok((view, [sample, head, QUERIES * query, query, key]))
        });
        self.job(&views.collect::<Result<Vec<_>>>()?, [QUERIES, m], None)
    }

    /// In windows: queries `i * n_query ..` see the `n_key` keys from `starts[i]` on, as far as there are so many.
    ///
    /// `bias` `[b or 1, n_block, h, n_query, n_key]`, `n_query` at most 32.
    pub fn in_windows(self, bias: &Tensor, starts: &[usize]) -> Result<Job<'static>> {
        let (samples, n_block, n_head, n_query, n_key) = bias.dims5()?;
        let (b, n, _) = self.q.dims3()?;
        let fits = (samples == 1 || samples == b) && n_head == self.n_head && starts.len() == n_block;
        if !fits || n_query > QUERIES || n_block != n.div_ceil(n_query) || self.k.dim(1)? != n {
            bail!("windows over {:?}: bias {:?}, {} starts", self.q.dims(), bias.dims(), starts.len())
        }
        let [sample, block, head, query, key] = [0, 1, 2, 3, 4].map(|i| bias.stride()[i]);
        let sample = if samples == 1 { 0 } else { sample };
        self.job(&[(bias.clone(), [sample, head, block, query, key])], [n_query, n_key], Some(starts))
    }

    fn job(
        &self,
        biases: &[(Tensor, [usize; 5])],
        window: [usize; 2],
        starts: Option<&[usize]>,
    ) -> Result<Job<'static>> {
        let ((b, n, c), m) = (self.q.dims3()?, self.k.dim(1)?);
        if self.k.dims() != [b, m, c] || self.v.dims() != self.k.dims() || m == 0 || !c.is_multiple_of(self.n_head) {
            bail!("attention of {:?} in {} heads to {:?}, {:?}", self.q.dims(), self.n_head, self.k, self.v)
        }
        if self.gate.is_some_and(|g| g.dims() != self.q.dims()) || !self.served(biases.len()) {
            bail!("attention of {:?}, {} biases, gate {:?}", self.q.dims(), biases.len(), self.gate)
        }
        let d = c / self.n_head;
        let width = WIDTHS.into_iter().find(|w| *w >= d).unwrap_or(d);
        let rows = |x: &Tensor| if x.stride().last() == Some(&1) { Ok(x.clone()) } else { x.contiguous() };
        let (q, k, v) = (rows(self.q)?, rows(self.k)?, rows(self.v)?);
        let gate = self.gate.map(rows).transpose()?;
        let starts = starts.map(|starts| table(starts, self.q.device())).transpose()?;

        let [n_query, n_key] = window;
        let scale = (1. / (d as f64).sqrt()) as f32;
        let mut params = [n, m, d, n_query, n_key].map(|x| x as u32).to_vec();
        params.extend([u32::from(starts.is_some()), biases.len() as u32, gate.is_some().into(), scale.to_bits()]);
        for x in [&q, &k, &v, gate.as_ref().unwrap_or(&q)] {
            params.extend(x.stride()[..2].iter().map(|s| *s as u32));
        }
        for i in 0..BIASES {
            params.extend(biases.get(i).map_or([0; 5], |(_, strides)| *strides).map(|s| s as u32));
        }
        let output = Output::New((b, n, c).into());
        let mut builder = Builder::new(&SHADER, format_args!("attention_{width}"), &q, output)?;
        builder = builder.input(&q)?.input(&k)?.input(&v)?.optional(gate.as_ref())?;
        for i in 0..BIASES {
            builder = builder.optional(biases.get(i).map(|(bias, _)| bias))?;
        }
        builder = match &starts {
            Some(starts) => builder.table(starts)?,
            None => builder.optional(None)?,
        };
        Ok(builder.output()?.params(&params).grid([n.div_ceil(n_query), self.n_head, b], 128))
    }
}

/// Indices where the shader can read them.
fn table(values: &[usize], device: &Device) -> Result<Tensor> {
    let values = values.iter().map(|v| u32::try_from(*v).map_err(candle_core::Error::wrap));
    let values = values.collect::<Result<Vec<_>>>()?;
    let n = values.len();
    Tensor::from_vec(values, n, device)
}
