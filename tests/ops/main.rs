//! Properties of every operation on the CPU: on each instruction set of the machine, for random shapes (one, odd, prime,
//! around the widths of vectors and panels), strides, masks and extreme values, it agrees with its plain reference to
//! 1e-5 of the reference's largest value. The cases are the same in every run.
//!
//! The reference is evaluated in f64, so that its own rounding, which with a mean of 1000 is larger than the limit, takes no
//! part; only where everything is hidden is it evaluated in f32, because there rounding is the definition (-1e9 and a
//! logit is -1e9).
mod attention;
mod msa;
mod pair;
mod rows;
mod support;
