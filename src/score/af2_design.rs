//! Scores of a designed binder as ColabDesign 1.1.1 computes them: `af/loss.py`, `_loss_binder` and `_loss_hallucination`. It shows
//! them rounded; here they are not.
use super::af2::Af2Confidence;
use crate::chem::atom_layout::CA;
use crate::features::af2::N_ATOM37;
use crate::geometry::{Rigid, Vec3, dot, minus, superpose};

/// What errors are fractions of, in Å.
const LARGEST_ERROR: f64 = 31.;

/// Scores of a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DesignScores {
    /// Mean over the binder, 0-1.
    pub plddt: f32,
    /// Aligned error between the binder and all, in 31 Å, mean of both directions.
    pub pae: f32,
    /// The same between binder and target; of a complex.
    pub i_pae: Option<f32>,
    /// 0-1.
    pub ptm: f32,
    /// 0-1, over pairs of target and binder; 0 for a binder alone.
    pub i_ptm: f32,
    /// Of the binder's CA atoms, in Å, the target laid on its known structure; of a complex.
    pub rmsd: Option<f32>,
}

impl DesignScores {
    /// Of a complex whose first `n_target` residues are the target; `confidence` with target and binder as its two chains. None
    /// without aligned errors.
    pub fn of_complex(confidence: &Af2Confidence, n_target: usize, rmsd: f32) -> Option<Self> {
        let n = confidence.plddt.len();
        let i_pae = pair_error(confidence, n_target..n, 0..n_target)?;
        Some(Self { i_pae: Some(i_pae), rmsd: Some(rmsd), ..Self::of_binder(confidence, n_target)? })
    }

    /// Of a binder alone.
    pub fn alone(confidence: &Af2Confidence) -> Option<Self> {
        Self::of_binder(confidence, 0)
    }

    /// The binder begins at residue `first`.
    fn of_binder(confidence: &Af2Confidence, first: usize) -> Option<Self> {
        let n = confidence.plddt.len();
        let errors = confidence.errors.as_ref()?;
        let sum: f64 = confidence.plddt[first..].iter().map(|p| f64::from(*p)).sum();
        Some(Self {
            plddt: (sum / (n - first) as f64 / 100.) as f32,
            pae: pair_error(confidence, first..n, 0..n)?,
            i_pae: None,
            ptm: errors.ptm,
            i_ptm: errors.iptm,
            rmsd: None,
        })
    }
}

/// Mean over pairs of residues of `a` and of `b`, both directions.
fn pair_error(confidence: &Af2Confidence, a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> Option<f32> {
    let (n, pae) = (confidence.plddt.len(), &confidence.errors.as_ref()?.pae);
    let pairs = (a.len() * b.len()) as f64;
    let both = |i: usize, j: usize| f64::from(pae[i * n + j]) + f64::from(pae[j * n + i]);
    let sum: f64 = a.flat_map(|i| b.clone().map(move |j| (i, j))).map(|(i, j)| both(i, j)).sum();
    Some((sum / pairs / 2. / LARGEST_ERROR) as f32)
}

/// Lays the target, the first `n_target` residues, on its known structure by the CA atoms that this has, and measures how far the
/// binder's are off. Both structures in atom37, `[n * 37]`, Å; `known` says which atoms the known one has.
pub fn on_target(predicted: &[[f32; 3]], truth: &[[f32; 3]], known: &[f32], n_target: usize) -> (Rigid, f32) {
    let cas = |x: &[[f32; 3]]| -> Vec<Vec3> { x.chunks(N_ATOM37).map(|x| x[CA].map(f64::from)).collect() };
    let (x, y) = (cas(predicted), cas(truth));
    let weights: Vec<f64> = known.chunks(N_ATOM37).map(|mask| f64::from(mask[CA])).collect();
    let rigid = superpose(&x[..n_target], &y[..n_target], &weights[..n_target]);
    let (mut sum, mut weight) = (0., 0.);
    for ((x, y), w) in x.iter().zip(&y).zip(&weights).skip(n_target) {
        let d = minus(rigid.apply(*x), *y);
        sum += w * dot(d, d);
        weight += w;
    }
    (rigid, (sum / weight + 1e-8).sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::af2::AlignedErrors;

    #[test]
    fn means_over_their_pairs() {
        let confidence = Af2Confidence {
            plddt: vec![10., 50., 70.],
            mean_plddt: 0.,
            errors: Some(AlignedErrors { pae: vec![0., 3., 5., 1., 0., 2., 7., 4., 0.], ptm: 0.25, iptm: 0.5 }),
        };
        let scores = DesignScores::of_complex(&confidence, 1, 2.).unwrap();
        let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
        close(scores.plddt, 0.6);
        close(scores.i_pae.unwrap(), ((3. + 1.) / 2. + (5. + 7.) / 2.) / 2. / 31.);
        close(scores.pae, (2. + 0. + 3. + 6. + 3. + 0.) / 6. / 31.);
        assert_eq!((scores.ptm, scores.i_ptm, scores.rmsd), (0.25, 0.5, Some(2.)));
        let alone = DesignScores::alone(&confidence).unwrap();
        close(alone.plddt, 130. / 300.);
        assert_eq!((alone.i_pae, alone.rmsd), (None, None));
        assert_eq!(DesignScores::alone(&Af2Confidence { errors: None, ..confidence }), None);
    }
}
