//! What a kernel launch consists of, as a value.
use candle_core::{D, DType, Layout, Result, Shape, Tensor, bail};

/// Metal source, compiled at its first use.
#[derive(Debug)]
pub struct Shader {
    /// Name of its file.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
}

/// What is bound to a buffer number: that of its place in [`Launch::args`].
#[derive(Debug, Clone)]
pub enum Arg {
    /// One of [`Job::inputs`], read from `offset` bytes on.
    In {
        /// Which.
        input: usize,
        /// In bytes.
        offset: usize,
    },
    /// The output, written from `offset` bytes on.
    Out {
        /// In bytes.
        offset: usize,
    },
    /// Parameters, at most 4096 bytes.
    Bytes(Vec<u8>),
}

/// One dispatch.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Where the kernel is.
    pub shader: &'static Shader,
    /// Its name, with the dtype.
    pub kernel: String,
    /// Threadgroups.
    pub groups: [usize; 3],
    /// Threads of a threadgroup.
    pub threads: [usize; 3],
    /// By buffer number.
    pub args: Vec<Arg>,
}

/// Where the result goes.
#[derive(Debug, Clone)]
pub enum Output<'a> {
    /// To a new contiguous tensor, every element of which is written.
    New(Shape),
    /// To this tensor, which may be a view; no input lies in its storage.
    Change(&'a Tensor),
}

/// A launch with the tensors that it reads and writes.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The dispatch.
    pub launch: Launch,
    /// What is read.
    pub inputs: Vec<Tensor>,
    /// What is written.
    pub output: Output<'a>,
    /// Of all tensors but tables of indices.
    pub dtype: DType,
}

/// Collects a job; arguments are bound in the order of the calls.
pub(super) struct Builder<'a> {
    job: Job<'a>,
}

impl<'a> Builder<'a> {
    /// Of `kernel` for the dtype of `x`.
    pub fn new(
        shader: &'static Shader,
        kernel: impl std::fmt::Display,
        x: &Tensor,
        output: Output<'a>,
    ) -> Result<Self> {
        let dtype = x.dtype();
        let suffix = match dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            _ => bail!("{kernel}: no Metal kernel for {dtype:?}"),
        };
        let kernel = format!("{kernel}_{suffix}");
        let launch = Launch { shader, kernel, groups: [1; 3], threads: [1; 3], args: vec![] };
        Ok(Self { job: Job { launch, inputs: vec![], output, dtype } })
    }

    /// Binds an input of the job's dtype.
    pub fn input(self, x: &Tensor) -> Result<Self> {
        if x.dtype() != self.job.dtype {
            bail!("{}: {:?} beside {:?}", self.job.launch.kernel, x.dtype(), self.job.dtype)
        }
        self.table(x)
    }

    /// Binds an input of any dtype.
    pub fn table(mut self, x: &Tensor) -> Result<Self> {
        check_span(&self.job.launch.kernel, x.layout())?;
        let offset = x.layout().start_offset() * x.dtype().size_in_bytes();
        self.job.launch.args.push(Arg::In { input: self.job.inputs.len(), offset });
        self.job.inputs.push(x.clone());
        Ok(self)
    }

    /// Binds `x`, or, if there is none, an input that is bound already and that the kernel does not read here.
    pub fn optional(mut self, x: Option<&Tensor>) -> Result<Self> {
        match x {
            Some(x) => self.input(x),
            None => {
                self.job.launch.args.push(Arg::In { input: 0, offset: 0 });
                Ok(self)
            }
        }
    }

    /// Binds the output.
    pub fn output(mut self) -> Result<Self> {
        let offset = match &self.job.output {
            Output::New(_) => 0,
            Output::Change(dst) if dst.dtype() != self.job.dtype => {
                bail!("{}: {:?} to {:?}", self.job.launch.kernel, self.job.dtype, dst.dtype())
            }
            Output::Change(dst) => {
                check_span(&self.job.launch.kernel, dst.layout())?;
                dst.layout().start_offset() * dst.dtype().size_in_bytes()
            }
        };
        self.job.launch.args.push(Arg::Out { offset });
        Ok(self)
    }

    /// Binds a structure of 32-bit fields.
    pub fn params(mut self, words: &[u32]) -> Self {
        self.job.launch.args.push(Arg::Bytes(words.iter().flat_map(|w| w.to_ne_bytes()).collect()));
        self
    }

    /// With this grid it is complete.
    pub fn grid(mut self, groups: [usize; 3], threads: usize) -> Job<'a> {
        self.job.launch.groups = groups;
        self.job.launch.threads = [threads, 1, 1];
        self.job
    }
}

/// Shaders index with 32 bits.
fn check_span(kernel: &str, layout: &Layout) -> Result<()> {
    let span: usize = layout.dims().iter().zip(layout.stride()).map(|(d, s)| d.saturating_sub(1) * s).sum();
    if span >= 1 << 32 {
        bail!("{kernel}: a tensor that spans {span} elements; Metal kernels take fewer than 2^32")
    }
    Ok(())
}

/// Dimensions and strides of `x` with ones in front, so that there are `N`.
pub(super) fn padded<const N: usize>(x: &Tensor) -> Result<([u32; N], [u32; N])> {
    let (mut dims, mut strides) = ([1; N], [0; N]);
    let Some(front) = N.checked_sub(x.rank()) else { bail!("a Metal kernel of {N} dimensions got {:?}", x.dims()) };
    for (i, (&d, &s)) in x.dims().iter().zip(x.stride()).enumerate() {
        (dims[front + i], strides[front + i]) = (d as u32, s as u32); // `check_span`
    }
    Ok((dims, strides))
}

/// `x` `[.., c]`, or a copy where its values do not lie side by side, and how a kernel finds its rows: the last two of the
/// dimensions that number them, and the strides of all three.
pub(super) fn rows(x: &Tensor) -> Result<(Tensor, [u32; 5])> {
    let c = x.dim(D::Minus1)?;
    let adjacent = c == 1 || x.stride().last() == Some(&1);
    let x = if x.rank() <= 4 && adjacent { x.clone() } else { x.contiguous()? };
    let x = if x.is_contiguous() { x.reshape(((), c))? } else { x };
    let (dims, strides) = padded::<4>(&x)?;
    Ok((x, [dims[1], dims[2], strides[0], strides[1], strides[2]]))
}
