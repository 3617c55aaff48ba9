//! The distinct sequences of a query with their copies, alignments and templates.
use super::monomer::{Alignment, GAP, letter};
use super::raw::{ChainCopy, RawError};
use super::{Template, template};
use crate::chem::restype::{UNKNOWN, amino_acid};
use crate::io::a3m;
use crate::query::{Chain, MAIN_ORDER, PAIRING_NAME, Query};

/// A sequence of a query.
#[derive(Debug, Clone)]
pub(super) struct Entity {
    /// Place among the sequences.
    pub index: usize,
    /// `[n]`, 0-20.
    pub restype: Vec<u8>,
    /// The chains that have it.
    pub copies: Vec<ChainCopy>,
    /// Rows of this sequence alone; `None`: there shall be none.
    pub unpaired: Option<Alignment>,
    /// Rows that belong to those of the other sequences, one by one; `None`: nothing is paired.
    pub paired: Option<Alignment>,
    /// Structures laid on it.
    pub templates: Vec<Template>,
}

/// The sequences of a query in the order of their first chains.
pub(super) fn entities(query: &Query) -> Result<Vec<Entity>, RawError> {
    let mut sequences: Vec<Vec<usize>> = Vec::new();
    for (c, chain) in query.chains.iter().enumerate() {
        match sequences.iter_mut().find(|of| query.chains[of[0]].sequence == chain.sequence) {
            Some(of) => of.push(c),
            None => sequences.push(vec![c]),
        }
    }
    let mut entities: Vec<Entity> = sequences
        .iter()
        .enumerate()
        .map(|(index, chains)| Entity::new(index, query, chains))
        .collect::<Result<_, _>>()?;
    pair(query, &mut entities)?;
    Ok(entities)
}

/// Sets what is paired, and the rows of chains for which there is no alignment.
fn pair(query: &Query, entities: &mut [Entity]) -> Result<(), RawError> {
    let used = query.use_msas && query.use_paired_msas;
    let n_paired = entities.iter().filter_map(|e| e.paired.as_ref()).map(Alignment::n_row).max();
    let has_alignment = query.chains.iter().any(|chain| !chain.main_msas.is_empty());
    match (n_paired, &mut *entities) {
        (Some(n), _) => entities.iter_mut().filter(|e| e.paired.is_none()).for_each(|e| {
            let mut rows = e.query_row();
            rows.rows.resize(n * rows.n_res, GAP);
            rows.deletions.resize(n * rows.n_res, 0.);
            e.paired = Some(rows);
        }),
        // Copies of one sequence are paired with themselves: ColabFold asks for no alignment and has one row.
        (None, [only]) if used && has_alignment && only.copies.len() > 1 => only.paired = Some(only.query_row()),
        (None, [_, _, ..]) if used => {
            let by_species = |chain: &&Chain| chain.main_msas.iter().any(|f| f.name == PAIRING_NAME.0);
            if let Some(chain) = query.chains.iter().find(by_species) {
                return Err(RawError::Species { id: chain.ids[0].clone(), file: PAIRING_NAME.0.to_owned() });
            }
        }
        _ => {}
    }
    let paired_alone = query.use_msas && !query.use_main_msas && entities.iter().any(|e| e.paired.is_some());
    for entity in entities.iter_mut().filter(|e| e.unpaired.is_none() && !paired_alone) {
        entity.unpaired = Some(entity.query_row());
    }
    Ok(())
}

/// The rows of a chain's alignments in their order, the query of the first alone; none if it has no alignment.
fn main_rows(chain: &Chain) -> Option<Alignment> {
    let mut files = MAIN_ORDER.iter().filter_map(|(name, _)| chain.main_msas.iter().find(|f| f.name == *name));
    let mut rows = converted(&files.next()?.alignment);
    for file in files {
        let more = converted(&file.alignment);
        rows.rows.extend_from_slice(&more.rows[more.n_res..]);
        rows.deletions.extend_from_slice(&more.deletions[more.n_res..]);
    }
    Some(rows)
}

/// An alignment in the letters of the models.
fn converted(rows: &a3m::Alignment) -> Alignment {
    Alignment {
        n_res: rows.n_column,
        rows: rows.letters.iter().map(|c| letter(*c).unwrap_or(UNKNOWN)).collect(),
        deletions: rows.deletions.iter().map(|d| f32::from(*d)).collect(),
    }
}

impl Entity {
    fn new(index: usize, query: &Query, chains: &[usize]) -> Result<Self, RawError> {
        let of = || chains.iter().map(|&c| &query.chains[c]);
        let sequence = query.chains[chains[0]].sequence.as_bytes();
        let copy = |c: usize, id: &String| ChainCopy { chain: c, id: id.clone(), n_res: sequence.len() };
        let copies = chains.iter().flat_map(|&c| query.chains[c].ids.iter().map(move |id| copy(c, id)));
        let main = of().find_map(main_rows);
        let paired = of().find_map(|chain| chain.paired_msas.first());
        let restype: Vec<u8> = sequence.iter().map(|c| amino_acid(*c).unwrap_or(UNKNOWN)).collect();
        let with_templates = of().find(|chain| !chain.templates.is_empty());
        let templates = with_templates.map(|chain| template::of_chain(chain, &restype)).transpose()?;
        Ok(Self {
            index,
            restype,
            copies: copies.collect(),
            unpaired: main.filter(|_| query.use_msas && query.use_main_msas),
            paired: paired.filter(|_| query.use_msas && query.use_paired_msas).map(|file| converted(&file.alignment)),
            templates: templates.unwrap_or_default(),
        })
    }

    /// The sequence as a row.
    fn query_row(&self) -> Alignment {
        let n_res = self.restype.len();
        Alignment { n_res, rows: self.restype.clone(), deletions: vec![0.; n_res] }
    }

    /// Rows of this sequence alone, or the sequence.
    pub fn own_rows(&self) -> Alignment {
        self.unpaired.clone().unwrap_or_else(|| self.query_row())
    }

    /// Paired rows, or the sequence.
    pub fn paired_rows(&self) -> Alignment {
        self.paired.clone().unwrap_or_else(|| self.query_row())
    }

    /// Fails unless it has as many paired rows as the first.
    pub fn check_paired(&self, n: usize, first: &Self, n_first: usize) -> Result<(), RawError> {
        let id = |entity: &Self| entity.copies[0].id.clone();
        if n == n_first {
            return Ok(());
        }
        Err(RawError::PairedRows { id: id(self), n, first_id: id(first), first: n_first })
    }
}
