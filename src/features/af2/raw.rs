//! A query as AF2's models take it, before anything is drawn: chains in the official order, their alignment rows beside and below each
//! other. As ColabFold 1.6.3 builds it: `batch.py` (`generate_input_feature`, `process_multimer_features`), `input.py` (`pair_msa`), and
//! `feature_processing.py`, `msa_pairing.py` of its AlphaFold.
use std::path::PathBuf;

use super::entity::{Entity, entities};
use super::monomer::{Alignment, GAP, Sampling};
use super::template::TemplateFault;
use super::{Af2Features, Template, multimer};
use crate::query::Query;

/// Rows of a chain that the multimer models see at most, paired and own; half as many paired ones.
const MAX_ROWS: usize = 2048;
/// Template slots of the multimer models; templates of a monomer at most.
pub const MAX_TEMPLATES: usize = 4;

/// Which models the features are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Models 1 to 5, with or without pTM; complexes as ColabFold runs them.
    Monomer,
    /// Multimer models, version 3.
    Multimer,
}

/// What a query lacks to become features.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// Paired rows of two chains are not as many.
    #[error("chain {id} has {n} paired rows, chain {first_id} has {first}: rows are paired by their number")]
    PairedRows {
        /// Id of the chain.
        id: String,
        /// Its rows.
        n: usize,
        /// Id of the first chain that has paired rows.
        first_id: String,
        /// Its rows.
        first: usize,
    },
    /// An alignment that would have to be paired by species.
    #[error(
        "chain {id}: AF2 takes paired rows as they are (colabfold_paired.a3m), it does not pair {file} by species; take it \
         out or pair it before"
    )]
    Species {
        /// Id of the chain.
        id: String,
        /// Name of the alignment.
        file: String,
    },
    /// A template that cannot be used.
    #[error("chain {id}: template {}: {fault}", path.display())]
    Template {
        /// Id of the chain.
        id: String,
        /// The template's file.
        path: PathBuf,
        /// What is wrong.
        fault: TemplateFault,
    },
    /// Templates of a complex in a monomer model.
    #[error(
        "chain {id} has templates, and monomer models take none of complexes: use a multimer model, or take them out"
    )]
    TemplatesOfComplex {
        /// Id of the chain.
        id: String,
    },
}

/// A chain of the features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCopy {
    /// The query's chain.
    pub chain: usize,
    /// Its id.
    pub id: String,
    /// Residues.
    pub n_res: usize,
}

/// The features of a query that seeds and passes share.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The models they are for.
    pub family: Family,
    /// Chains in the order of the residues: copies of one sequence follow each other, whatever the order of the query.
    pub chains: Vec<ChainCopy>,
    /// `[n]`, 0-20.
    pub restype: Vec<u8>,
    /// `[n]`, from 0 in each chain.
    pub residue_index: Vec<i32>,
    /// `[n]`: the chain, from 0.
    pub asym_id: Vec<i32>,
    /// `[n]`: the sequence, from 1.
    pub entity_id: Vec<i32>,
    /// `[n]`: which of the chains of a sequence, from 1.
    pub sym_id: Vec<i32>,
    /// All rows, the query first.
    pub alignment: Alignment,
    /// Monomer: those there are, none for complexes. Multimer: four slots, whatever there is.
    pub templates: Vec<Template>,
}

impl Raw {
    /// The features of `query`.
    ///
    /// # Errors
    /// If paired rows or templates do not fit, or are asked for in a way that is not served.
    pub fn new(query: &Query, family: Family) -> Result<Self, RawError> {
        let entities = entities(query)?;
        let copies =
            || entities.iter().enumerate().flat_map(|(e, entity)| (1..).zip(&entity.copies).map(move |c| (e, c)));
        let mut raw = Self {
            family,
            chains: copies().map(|(_, (_, copy))| copy.clone()).collect(),
            restype: Vec::new(),
            residue_index: Vec::new(),
            asym_id: Vec::new(),
            entity_id: Vec::new(),
            sym_id: Vec::new(),
            alignment: Alignment::default(),
            templates: Vec::new(),
        };
        for (asym, (e, (sym, copy))) in copies().enumerate() {
            raw.restype.extend(&entities[e].restype);
            raw.residue_index.extend(0..copy.n_res as i32);
            let n = raw.restype.len();
            raw.asym_id.resize(n, asym as i32);
            raw.entity_id.resize(n, e as i32 + 1);
            raw.sym_id.resize(n, sym);
        }
        let complex = raw.chains.len() > 1;
        if let Some(entity) = entities.iter().find(|e| complex && family == Family::Monomer && !e.templates.is_empty())
        {
            return Err(RawError::TemplatesOfComplex { id: entity.copies[0].id.clone() });
        }
        raw.alignment = match family {
            Family::Monomer if complex => side_by_side(&raw.restype, &entities),
            Family::Monomer => entities[0].own_rows(),
            Family::Multimer => merged(&entities)?,
        };
        raw.templates = match family {
            Family::Monomer if complex => Vec::new(),
            Family::Monomer => entities[0].templates.iter().take(MAX_TEMPLATES).cloned().collect(),
            Family::Multimer => template_slots(&entities),
        };
        Ok(raw)
    }

    /// Residues.
    pub fn n_res(&self) -> usize {
        self.restype.len()
    }

    /// Rows of the alignment.
    pub fn n_row(&self) -> usize {
        self.alignment.rows.len() / self.n_res().max(1)
    }

    /// What pass `pass` is given.
    pub fn pass(&self, sampling: &Sampling, pass: usize) -> Af2Features {
        let (msa, extra_msa) = match self.family {
            Family::Monomer => self.alignment.pass(sampling, pass),
            Family::Multimer => multimer::pass(&self.alignment, sampling, pass),
        };
        Af2Features {
            restype: self.restype.clone(),
            residue_index: self.residue_index.clone(),
            asym_id: self.asym_id.clone(),
            entity_id: self.entity_id.clone(),
            sym_id: self.sym_id.clone(),
            mask: vec![1.; self.n_res()],
            msa,
            extra_msa,
            templates: self.templates.clone(),
            template_group: Vec::new(),
        }
    }

    /// Cluster centres and other rows for `--max-msa` `(512, 1024)`, or what the models were made for, where the alignment has so many.
    ///
    /// Of a monomer with templates four rows less are centres, for all models: ColabFold makes the features once, for model 1.
    pub fn sizes(&self, max_msa: Option<(usize, usize)>) -> (usize, usize) {
        let (max_seq, max_extra) = max_msa.unwrap_or(match self.family {
            Family::Monomer => (512, 5120),
            Family::Multimer => (508, 2048),
        });
        let of_templates = if self.family == Family::Monomer && !self.templates.is_empty() { MAX_TEMPLATES } else { 0 };
        let n_row = self.n_row() + of_templates;
        let max_seq = max_seq.min(n_row);
        (max_seq.saturating_sub(of_templates).max(1), max_extra.min(n_row - max_seq).max(1))
    }
}

/// Rows while they are put together, all of `n_res` columns.
struct Rows {
    made: Alignment,
}

impl Rows {
    fn new(n_res: usize) -> Self {
        Self { made: Alignment { n_res, ..Alignment::default() } }
    }

    /// Adds a row of gaps with `parts` in it: each a first column, letters and deletions.
    fn push<'a>(&mut self, parts: impl Iterator<Item = (usize, &'a [u8], &'a [f32])>) {
        let start = self.made.rows.len();
        self.made.rows.resize(start + self.made.n_res, GAP);
        self.made.deletions.resize(start + self.made.n_res, 0.);
        for (column, letters, deletions) in parts {
            self.made.rows[start + column..][..letters.len()].copy_from_slice(letters);
            self.made.deletions[start + column..][..letters.len()].copy_from_slice(deletions);
        }
    }
}

/// Rows of a complex in a monomer model: the query, paired rows side by side, each chain's own rows beside gaps.
fn side_by_side(restype: &[u8], entities: &[Entity]) -> Alignment {
    let mut rows = Rows::new(restype.len());
    rows.push(std::iter::once((0, restype, &vec![0.; restype.len()][..])));
    for i in 0..entities.iter().filter_map(|e| e.paired.as_ref()).map(Alignment::n_row).max().unwrap_or(0) {
        rows.push(
            placed(entities).filter_map(|(column, e)| Some((column, e.paired.as_ref()?)).map(|(c, a)| row(c, a, i))),
        );
    }
    for (column, entity) in placed(entities) {
        let Some(own) = &entity.unpaired else { continue };
        (0..own.n_row()).for_each(|i| rows.push(std::iter::once(row(column, own, i))));
    }
    rows.made
}

/// Rows of the multimer models: paired rows side by side, then own rows, those of copies side by side, those of another sequence beside
/// gaps. With one sequence there is nothing to pair.
fn merged(entities: &[Entity]) -> Result<Alignment, RawError> {
    let mut rows = Rows::new(entities.iter().map(|e| e.restype.len() * e.copies.len()).sum());
    let pairs = entities.len() > 1;
    let paired: Vec<Alignment> = entities.iter().map(|e| e.paired_rows().first(MAX_ROWS / 2)).collect();
    if pairs {
        for (entity, rows) in entities.iter().zip(&paired) {
            entity.check_paired(rows.n_row(), &entities[0], paired[0].n_row())?;
        }
        for i in 0..paired[0].n_row() {
            let of = |(column, entity): (usize, &Entity)| row(column, &paired[entity.index], i);
            rows.push(placed(entities).map(of));
        }
    }
    for entity in entities {
        // As many fewer as there are residues of this chain among the paired rows.
        let in_pairs =
            paired[entity.index].rows.chunks(entity.restype.len()).filter(|r| r.iter().any(|l| *l != GAP)).count();
        let own = entity.own_rows().first(MAX_ROWS - if pairs { in_pairs } else { 0 });
        for i in 0..own.n_row() {
            rows.push(
                placed(entities).filter(|(_, e)| e.index == entity.index).map(|(column, _)| row(column, &own, i)),
            );
        }
    }
    Ok(rows.made)
}

/// The sequence of each chain in the order of the residues, with its first column.
fn placed(entities: &[Entity]) -> impl Iterator<Item = (usize, &Entity)> {
    let all = entities.iter().flat_map(|entity| entity.copies.iter().map(move |_| entity));
    all.scan(0, |end, entity| {
        *end += entity.restype.len();
        Some((*end - entity.restype.len(), entity))
    })
}

/// Row `i` of `alignment`, to stand from `column` on.
fn row(column: usize, alignment: &Alignment, i: usize) -> (usize, &[u8], &[f32]) {
    let range = i * alignment.n_res..(i + 1) * alignment.n_res;
    (column, &alignment.rows[range.clone()], &alignment.deletions[range])
}

/// Four slots, each with its template of every chain; a chain without one is all zero.
fn template_slots(entities: &[Entity]) -> Vec<Template> {
    (0..MAX_TEMPLATES)
        .map(|slot| {
            let mut joined = Template { is_real: true, ..Template::default() };
            for (_, entity) in placed(entities) {
                let empty = Template::empty(entity.restype.len());
                let template = entity.templates.get(slot).unwrap_or(&empty);
                joined.restype.extend(&template.restype);
                joined.positions.extend(&template.positions);
                joined.mask.extend(&template.mask);
            }
            joined
        })
        .collect()
}
