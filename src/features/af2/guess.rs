//! The initial guess: positions that the first pass is given in place of those of a pass before.
use super::atom37::{Atom37, atom37};
use super::{ChainCopy, N_ATOM37};
use crate::query::TemplateChain;

/// What is wrong with a guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the initial guess has {found} residues with coordinates ({}), the query has {wanted} ({}): it must have the query's chains in \
     their order, residue by residue",
    shown(found_chains),
    shown(wanted_chains)
)]
pub struct GuessError {
    /// Residues of the file.
    pub found: usize,
    /// Residues of the query.
    pub wanted: usize,
    /// Ids and residues of the file's chains.
    pub found_chains: Vec<(String, usize)>,
    /// Ids and residues of the query's.
    pub wanted_chains: Vec<(String, usize)>,
}

fn shown(chains: &[(String, usize)]) -> String {
    chains.iter().map(|(id, n)| format!("{id}: {n}")).collect::<Vec<_>>().join(", ")
}

/// The atoms of a complex, residue by residue, of the chains of a file in their order; residues without atoms are left out, as
/// `alphafold/common/protein.py` leaves them out. `complete` is done with each residue, such as [`super::atom37::add_missing_cb`].
///
/// -> positions `[n * 37]` in Å, and which are known.
///
/// # Errors
/// If there are not as many residues as `chains` of the features have.
pub fn initial_guess(
    file: &[TemplateChain],
    chains: &[ChainCopy],
    complete: impl Fn(&mut Atom37),
) -> Result<(Vec<[f32; 3]>, Vec<f32>), GuessError> {
    let mut found_chains = Vec::new();
    let (mut positions, mut mask) = (Vec::new(), Vec::new());
    for chain in file {
        let residues = chain.residues.iter().map(atom37).filter(|(_, mask)| mask.contains(&1.));
        let before = mask.len();
        for mut residue in residues {
            complete(&mut residue);
            positions.extend(residue.0);
            mask.extend(residue.1);
        }
        found_chains.push((chain.id.clone(), (mask.len() - before) / N_ATOM37));
    }
    let (found, wanted) = (mask.len() / N_ATOM37, chains.iter().map(|c| c.n_res).sum());
    if found != wanted {
        let wanted_chains = chains.iter().map(|c| (c.id.clone(), c.n_res)).collect();
        return Err(GuessError { found, wanted, found_chains, wanted_chains });
    }
    Ok((positions, mask))
}
