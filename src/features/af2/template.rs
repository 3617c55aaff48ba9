//! Templates: structures laid on a chain, as `_extract_template_features` of `alphafold/data/templates.py` does with an alignment that is
//! given. Which residue stands for which is told by the query, or found by [`align`].
use std::path::PathBuf;

use super::atom37::{n_atom, template_atoms};
use super::raw::RawError;
use super::{N_ATOM37, Template};
use crate::chem::atom_layout::CA;
use crate::features::template::{Aligned, align};
use crate::query::{self, Chain, TemplateChain};

/// Restype of a position that no residue stands for.
const GAP: u8 = 21;
/// Atoms that a template needs: those of alanine.
const MIN_ATOMS: usize = 5;
/// Distance of neighbouring CA atoms beyond which a structure is not believed, in Å.
const MAX_CA_DISTANCE: f32 = 150.;

/// What is wrong with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// No part of it is like the chain.
    #[error("no part of it is like the chain's sequence; give query_indices and template_indices, or take it out")]
    Unlike,
    /// The residues that stand for the chain's have next to no atoms.
    #[error("the residues that stand for the chain's have fewer than 5 atoms")]
    NoAtoms,
    /// Coordinates that cannot be.
    #[error("residues {0} and {1} follow each other, their CA atoms are more than 150 Å apart")]
    Distance(usize, usize),
}

/// The templates of `chain`, in the query's order.
pub(super) fn of_chain(chain: &Chain, restype: &[u8]) -> Result<Vec<Template>, RawError> {
    let one = |template: &query::Template| {
        laid(template, restype).map_err(|fault| RawError::Template {
            id: chain.ids[0].clone(),
            path: PathBuf::clone(&template.path),
            fault,
        })
    };
    chain.templates.iter().map(one).collect()
}

fn laid(template: &query::Template, restype: &[u8]) -> Result<Template, TemplateFault> {
    let (chain, pairs) = match (&template.pairs, &template.chains[..]) {
        (Some(pairs), [chain, ..]) => (chain, pairs.clone()),
        (_, chains) => {
            let aligned = chains.iter().map(|chain| (chain, align(restype, &chain.restype)));
            // Of equally good chains the first.
            let best = aligned.reduce(|best, next| if next.1.score > best.1.score { next } else { best });
            let (chain, Aligned { pairs, .. }) =
                best.filter(|(_, aligned)| aligned.score > 0).ok_or(TemplateFault::Unlike)?;
            (chain, pairs)
        }
    };
    on_query(chain, &pairs, restype.len())
}

/// `chain` on a query of `n_res` residues; `pairs` of query and template residues.
fn on_query(chain: &TemplateChain, pairs: &[(usize, usize)], n_res: usize) -> Result<Template, TemplateFault> {
    let atoms: Vec<_> = chain.residues.iter().map(template_atoms).collect();
    for (i, two) in atoms.windows(2).enumerate() {
        let [(a, a_mask), (b, b_mask)] = [&two[0], &two[1]].map(|(positions, mask)| (positions[CA], mask[CA]));
        let distance = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        if a_mask * b_mask > 0. && distance > MAX_CA_DISTANCE {
            return Err(TemplateFault::Distance(i + 1, i + 2));
        }
    }
    let mut laid = Template { restype: vec![GAP; n_res], is_real: true, ..Template::empty(n_res) };
    for &(i, j) in pairs {
        laid.restype[i] = chain.restype[j];
        laid.positions[i * N_ATOM37..][..N_ATOM37].copy_from_slice(&atoms[j].0);
        laid.mask[i * N_ATOM37..][..N_ATOM37].copy_from_slice(&atoms[j].1);
    }
    if n_atom(&laid.mask) < MIN_ATOMS {
        return Err(TemplateFault::NoAtoms);
    }
    Ok(laid)
}
