//! How much memory generating takes, before it is begun.
use candle_core::Device;

use super::Esm3Error;
use crate::models::esm3::config::TrunkConfig;
use crate::models::esm3::tracks::{N_CODE, N_FUNCTION};

const FLOAT: u64 = size_of::<f32>() as u64;
/// What is there whatever the proteins: the program, its threads, blocks of the decoder's pairs.
const BASE: u64 = 192 << 20;
/// Of a pair of residues: the aligned error, its value and text in the document.
const PAIR_BYTES: u64 = 64;

/// Tokens in a pass on the CPU and on a GPU beyond which little is gained: the weights are read once a pass, which is then a small
/// part of the time of the arithmetic. More would be lost with a killed run.
const BATCH_TOKENS: [usize; 2] = [1024, 4096];

/// Memory of a job.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    /// All weights that are in memory at a time.
    pub weight_bytes: u64,
    /// Of a token in a pass.
    pub token_bytes: u64,
    /// What may be used; `None` where the system does not tell.
    pub available: Option<u64>,
    /// Tokens in a pass that nothing speaks against, if they fit.
    pub wanted_tokens: usize,
}

impl Estimate {
    /// Of a trunk of these sizes on a device, with `weight_bytes` in memory at a time; no more than `available` may be used.
    pub fn new(c: &TrunkConfig, device: &Device, weight_bytes: u64, available: Option<u64>) -> Self {
        let (width, hidden) = (c.c as u64, c.c_transition as u64);
        // Queries, keys and values, the first two turned, what is attended to, the update.
        let attention = 9 * width;
        let geometric = (2 * 15 + 2 * 3) * c.n_vector_head as u64;
        let transition = width + hidden;
        // Logits, as they come and for each protein.
        let head = 2 * width + 3 * N_CODE.max(8 * N_FUNCTION) as u64;
        let layers = attention.max(geometric).max(transition).max(head);
        // The representation, and the tracks that it is made of.
        let wanted_tokens = BATCH_TOKENS[usize::from(!device.is_cpu())];
        Self { weight_bytes, token_bytes: FLOAT * (2 * width + layers), available, wanted_tokens }
    }

    /// The most bytes that are held at any time, of passes of `n_token` tokens, the longest protein having `longest`.
    pub fn peak(&self, n_token: usize, longest: usize) -> u64 {
        let pairs = longest as u64 * longest as u64;
        self.weight_bytes + BASE + n_token as u64 * self.token_bytes + pairs * PAIR_BYTES
    }

    /// Tokens of a pass, as many as are wanted (or `wanted`) and fit, where the longest protein has `longest`.
    pub fn batch_tokens(&self, longest: usize, wanted: Option<usize>) -> usize {
        let wanted = wanted.unwrap_or(self.wanted_tokens);
        let Some(available) = self.available else { return wanted };
        let free = available.saturating_sub(self.peak(0, longest));
        usize::try_from(free / self.token_bytes.max(1)).unwrap_or(wanted).min(wanted)
    }

    /// The most tokens, up to `most`, of a protein that takes no more than `available` bytes.
    fn largest(&self, most: usize, available: u64) -> usize {
        let (mut fits, mut too_many) = (0, most + 1);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if self.peak(middle, middle) <= available {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        fits
    }

    /// Refuses a protein that does not fit.
    pub fn check(&self, name: &str, n_token: usize) -> Result<(), Esm3Error> {
        let needed = self.peak(n_token, n_token);
        let Some(available) = self.available.filter(|available| needed > *available) else { return Ok(()) };
        let remedy = match self.largest(n_token, available).saturating_sub(2) {
            0 => "free memory, raise --max-memory, or use a larger machine".to_owned(),
            n => format!("about {n} residues fit: shorten it, free memory, or raise --max-memory"),
        };
        let gb = |bytes: u64| bytes as f64 / 1e9;
        Err(Esm3Error::Memory { name: name.to_owned(), needed: gb(needed), available: gb(available), remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let trunk: TrunkConfig = serde_json::from_str(weights_convert::ESM3[0].config).unwrap();
        let of = |available| Estimate::new(&trunk, &Device::Cpu, 8 << 30, available);
        assert!(of(Some(9 << 30)).check("p", 300).is_ok() && of(None).check("p", 300_000).is_ok());
        let error = of(Some(9 << 30)).check("p", 9000).unwrap_err().to_string();
        assert!(error.starts_with("p: ") && error.contains("residues fit"), "{error}");
        let error = of(Some(8 << 30)).check("p", 9).unwrap_err().to_string();
        assert!(error.contains("larger machine"), "{error}");
        let n = of(Some((8 << 30) + (240 << 20))).batch_tokens(100, None);
        assert!((400..1000).contains(&n), "{n}");
        assert_eq!((of(Some(1 << 20)).batch_tokens(9, None), of(None).batch_tokens(9, None)), (0, 1024));
        assert_eq!(of(Some(12 << 30)).batch_tokens(100, Some(5000)), 5000);
    }
}
