//! What is asked, of one structure: chains in their order, and for each residue what its letter may be.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::tables::Tables;
use crate::features::mpnn::{Backbone, Chain, N_LETTER, Rules, UNKNOWN, letter};
use crate::models::mpnn::sample::{Constraints, Pssm};

/// Residues of a chain, by their places from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Id of the chain.
    pub chain: String,
    /// First and last.
    pub range: (usize, usize),
}

/// What is asked of every structure.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Chains to design; all if none are named.
    pub chains: Vec<String>,
    /// Residues that keep their letter.
    pub fixed: Vec<Places>,
    /// Letters that are chosen nowhere.
    pub omit: String,
    /// Letters that are not chosen in some places.
    pub omit_at: Vec<(Places, String)>,
    /// Added to the logits of letters.
    pub bias: BTreeMap<char, f64>,
    /// Chains that have one sequence.
    pub tied: Vec<Vec<String>>,
    /// Files of settings.
    pub tables: Tables,
    /// How alignments are used.
    pub pssm: PssmUse,
}

/// How position-specific scores are used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PssmUse {
    /// How much of their probabilities is mixed in, 0-1.
    pub mixed: Option<f32>,
    /// Letters with log odds at or below this are suppressed.
    pub threshold: Option<f32>,
}

/// A structure with what is asked.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Chains in the order of the network: those to design first.
    pub chains: Vec<Chain>,
    /// How many are to be designed.
    pub n_designed: usize,
    /// The same for the network.
    pub backbone: Backbone,
    /// What its sequence has to keep to.
    pub constraints: Constraints,
}

impl Settings {
    /// What is asked of a structure called `name`.
    ///
    /// # Errors
    /// What does not fit the structure, in words.
    pub fn problem(&self, name: &str, chains: &[Chain], rules: Rules) -> Result<Problem, String> {
        let designed = self.designed(name, chains)?;
        let mut ordered: Vec<&Chain> = chains.iter().collect();
        ordered.sort_by_key(|c| (!designed.contains(&c.id), c.id.clone()));
        let backbone = Backbone::new(&ordered, rules);
        let chains: Vec<Chain> = ordered.into_iter().cloned().collect();
        let n_designed = designed.len();
        let mut problem = Problem { chains, n_designed, backbone, constraints: Constraints::default() };
        problem.constraints = Constraints {
            designed: problem.backbone.chain.iter().map(|c| *c < n_designed).collect(),
            omit: mask(&self.omit)?,
            ..Constraints::default()
        };
        for (character, bias) in &self.bias {
            problem.constraints.bias[index(*character)?] = *bias;
        }
        for places in &self.fixed {
            problem.each(places)?.for_each(|i| problem.constraints.designed[i] = false);
        }
        for (places, letters) in &self.omit_at {
            problem.omit_at(problem.each(places)?.collect(), letters)?;
        }
        for chains in &self.tied {
            problem.tie_chains(chains)?;
        }
        self.add_tables(name, &mut problem)?;
        problem.check()?;
        Ok(problem)
    }

    fn designed(&self, name: &str, chains: &[Chain]) -> Result<Vec<String>, String> {
        let of_table = self.tables.chains.get(name).map(|v| parsed::<Vec<Vec<String>>>(v, "chains")).transpose()?;
        let named = match (of_table, self.chains.is_empty()) {
            (Some(lists), _) => lists.into_iter().next().unwrap_or_default(),
            (None, false) => self.chains.clone(),
            (None, true) => return Ok(chains.iter().map(|c| c.id.clone()).collect()),
        };
        match named.iter().find(|id| chains.iter().all(|c| c.id != **id)) {
            Some(id) => Err(format!("there is no chain {id}: it has {}", ids(chains))),
            None => Ok(named),
        }
    }

    /// What the files of settings say of it.
    fn add_tables(&self, name: &str, problem: &mut Problem) -> Result<(), String> {
        let tables = &self.tables;
        for (character, bias) in &tables.bias {
            let character = character.chars().next().unwrap_or(' ');
            problem.constraints.bias[index(character)?] = parsed(bias, "bias of a letter")?;
        }
        for (chain, places) in of::<BTreeMap<String, Vec<usize>>>(&tables.fixed, name, "fixed positions")? {
            for i in problem.all_of(&chain, &places)? {
                problem.constraints.designed[i] = false;
            }
        }
        for (chain, items) in of::<BTreeMap<String, Vec<(Vec<usize>, String)>>>(&tables.omit, name, "omitted letters")?
        {
            for (places, letters) in items {
                problem.omit_at(problem.all_of(&chain, &places)?, &letters)?;
            }
        }
        for (chain, rows) in of::<BTreeMap<String, Vec<Vec<f32>>>>(&tables.bias_by_residue, name, "bias by residue")? {
            let (start, n) = problem.range(&chain)?;
            let rows = letter_rows(&chain, rows, n)?;
            // Fixed chains keep their letters, whatever their bias.
            if start < problem.n_designed_residues() {
                let all = &mut problem.constraints.bias_at;
                all.resize(problem.backbone.n_res(), [0.; N_LETTER]);
                all[start..start + n].copy_from_slice(&rows);
            }
        }
        problem.tie(of(&tables.tied, name, "tied positions")?)?;
        self.pssm_of(name, problem)
    }

    fn pssm_of(&self, name: &str, problem: &mut Problem) -> Result<(), String> {
        let by_chain: BTreeMap<String, PssmTable> = of(&self.tables.pssm, name, "PSSM")?;
        if by_chain.is_empty() || (self.pssm.mixed.is_none() && self.pssm.threshold.is_none()) {
            return Ok(());
        }
        let n_res = problem.backbone.n_res();
        let mut pssm = Pssm {
            trust: vec![0.; n_res],
            probabilities: vec![[0.; N_LETTER]; n_res],
            likely: vec![[true; N_LETTER]; n_res],
            mixed: self.pssm.mixed,
            suppressed: self.pssm.threshold.is_some(),
        };
        for (chain, table) in by_chain {
            let (start, n) = problem.range(&chain)?;
            if table.pssm_coef.len() != n {
                return Err(format!("chain {chain} has {n} residues, its PSSM {}", table.pssm_coef.len()));
            }
            if start >= problem.n_designed_residues() {
                continue;
            }
            pssm.trust[start..start + n].copy_from_slice(&table.pssm_coef);
            pssm.probabilities[start..start + n].copy_from_slice(&letter_rows(&chain, table.pssm_bias, n)?);
            let odds = letter_rows(&chain, table.pssm_log_odds, n)?;
            let threshold = self.pssm.threshold.unwrap_or(f32::NEG_INFINITY);
            for (likely, odds) in pssm.likely[start..].iter_mut().zip(odds) {
                *likely = odds.map(|v| v > threshold);
            }
        }
        problem.constraints.pssm = Some(pssm);
        Ok(())
    }
}

#[derive(Deserialize)]
struct PssmTable {
    pssm_coef: Vec<f32>,
    pssm_bias: Vec<Vec<f32>>,
    pssm_log_odds: Vec<Vec<f32>>,
}

/// Places, or places with weights.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tied {
    Equal(Vec<usize>),
    Weighted([Vec<f64>; 2]),
}

impl Problem {
    fn n_designed_residues(&self) -> usize {
        self.backbone.chain.iter().filter(|c| **c < self.n_designed).count()
    }

    /// Index of the first residue of a chain, and how many it has.
    fn range(&self, id: &str) -> Result<(usize, usize), String> {
        let Some(c) = self.chains.iter().position(|c| c.id == id) else {
            return Err(format!("there is no chain {id}: it has {}", ids(&self.chains)));
        };
        let start = self.chains[..c].iter().map(|c| c.residues.len()).sum();
        Ok((start, self.chains[c].residues.len()))
    }

    /// Indices of places.
    fn each(&self, places: &Places) -> Result<impl Iterator<Item = usize> + use<>, String> {
        let (first, last) = places.range;
        let (start, n) = self.range(&places.chain)?;
        if first == 0 || last < first || last > n {
            return Err(format!("chain {} has residues 1-{n}, not {first}-{last}", places.chain));
        }
        Ok(start + first - 1..start + last)
    }

    fn all_of(&self, chain: &str, places: &[usize]) -> Result<Vec<usize>, String> {
        let one = |place: &usize| {
            let places = Places { chain: chain.to_owned(), range: (*place, *place) };
            Ok(self.each(&places)?.next().unwrap_or_default())
        };
        places.iter().map(one).collect()
    }

    fn omit_at(&mut self, residues: Vec<usize>, letters: &str) -> Result<(), String> {
        let omitted = mask(letters)?;
        let all = &mut self.constraints.omit_at;
        all.resize(self.backbone.n_res(), [false; N_LETTER]);
        for i in residues {
            all[i].iter_mut().zip(omitted).for_each(|(all, omitted)| *all |= omitted);
        }
        Ok(())
    }

    /// The same places of these chains have one letter.
    fn tie_chains(&mut self, chains: &[String]) -> Result<(), String> {
        let ranges: Vec<(usize, usize)> = chains.iter().map(|id| self.range(id)).collect::<Result<_, _>>()?;
        let Some((_, n)) = ranges.first() else { return Ok(()) };
        if ranges.iter().any(|(_, other)| other != n) {
            let lengths: Vec<_> = chains.iter().zip(&ranges).map(|(id, (_, n))| format!("{id} has {n}")).collect();
            return Err(format!(
                "tied chains differ in length ({}): tie places with --tied-positions-jsonl",
                lengths.join(", ")
            ));
        }
        let groups = (0..*n).map(|i| ranges.iter().map(|(start, _)| (start + i, 1.)).collect());
        self.constraints.tied.extend(groups.collect::<Vec<_>>());
        Ok(())
    }

    fn tie(&mut self, groups: Vec<serde_json::Map<String, Value>>) -> Result<(), String> {
        for group in groups {
            let mut tied = Vec::new();
            for (chain, places) in &group {
                match parsed(places, "tied positions")? {
                    Tied::Equal(places) => tied.extend(self.all_of(chain, &places)?.into_iter().map(|i| (i, 1.))),
                    Tied::Weighted([places, weights]) => {
                        let places: Vec<usize> = places.iter().map(|p| *p as usize).collect();
                        let weights = weights.into_iter().map(|w| w as f32);
                        tied.extend(self.all_of(chain, &places)?.into_iter().zip(weights));
                    }
                }
            }
            self.constraints.tied.extend((!tied.is_empty()).then_some(tied));
        }
        Ok(())
    }

    /// There is something to design, and something to choose from; a residue is in one group at most.
    fn check(&self) -> Result<(), String> {
        let c = &self.constraints;
        if !c.designed.iter().zip(&self.backbone.mask).any(|(designed, known)| *designed && *known) {
            return Err("no residue is left to design: all are fixed or lack atoms".to_owned());
        }
        let mut tied = vec![false; c.designed.len()];
        for (i, _) in c.tied.iter().flatten() {
            if std::mem::replace(&mut tied[*i], true) {
                return Err(format!("residue {} is tied twice", self.label(*i)));
            }
        }
        let choice = |i: usize| (0..N_LETTER).any(|l| !c.omit[l] && c.omit_at.get(i).is_none_or(|row| !row[l]));
        match (0..c.designed.len()).find(|i| c.designed[*i] && !choice(*i)) {
            Some(i) => Err(format!("residue {} has no letter left: all are omitted", self.label(i))),
            None => Ok(()),
        }
    }

    /// Chain and place of a residue.
    fn label(&self, i: usize) -> String {
        let c = self.backbone.chain[i];
        let start: usize = self.chains[..c].iter().map(|c| c.residues.len()).sum();
        format!("{}{}", self.chains[c].id, i - start + 1)
    }

    /// Numbers of an exponential distribution that a sample takes: one row for each letter that is drawn.
    pub fn n_draw(&self) -> usize {
        let (c, mask) = (&self.constraints, &self.backbone.mask);
        let tied: Vec<bool> = {
            let mut tied = vec![false; mask.len()];
            c.tied.iter().flatten().for_each(|(i, _)| tied[*i] = true);
            tied
        };
        let groups = c.tied.iter().filter(|group| group.iter().all(|(i, _)| mask[*i])).count();
        groups + (0..mask.len()).filter(|i| !tied[*i] && mask[*i]).count()
    }
}

/// What a table says of a structure; nothing where it does not name it.
fn of<T: for<'a> Deserialize<'a> + Default>(
    table: &serde_json::Map<String, Value>,
    name: &str,
    what: &str,
) -> Result<T, String> {
    table.get(name).map_or_else(|| Ok(T::default()), |value| parsed(value, what))
}

fn parsed<T: for<'a> Deserialize<'a>>(value: &Value, what: &str) -> Result<T, String> {
    T::deserialize(value).map_err(|e| format!("its {what} in the file of settings: {e}"))
}

fn letter_rows(chain: &str, rows: Vec<Vec<f32>>, n: usize) -> Result<Vec<[f32; N_LETTER]>, String> {
    if rows.len() != n {
        return Err(format!("chain {chain} has {n} residues, its file of settings {} rows", rows.len()));
    }
    let row = |row: Vec<f32>| <[f32; N_LETTER]>::try_from(row).map_err(|row| row.len());
    let rows: Result<_, usize> = rows.into_iter().map(row).collect();
    rows.map_err(|n| format!("a row of chain {chain} has {n} numbers, not {N_LETTER}"))
}

fn index(character: char) -> Result<usize, String> {
    let found = u8::try_from(character).ok().and_then(letter);
    found.map(usize::from).ok_or_else(|| format!("{character:?} is no letter; write some of ACDEFGHIKLMNPQRSTVWYX"))
}

/// Which letters these are. X is what it stands for here: no letter that is chosen.
fn mask(letters: &str) -> Result<[bool; N_LETTER], String> {
    let mut mask = [false; N_LETTER];
    for character in letters.chars() {
        mask[index(character)?] = true;
    }
    Ok(mask)
}

fn ids(chains: &[Chain]) -> String {
    chains.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// Letters of a sequence, chains joined by `/`, in the place of those of the designed chains.
///
/// # Errors
/// Other letters or another length, in words.
pub fn with_sequence(problem: &Problem, sequence: &str) -> Result<Vec<u8>, String> {
    let n = problem.n_designed_residues();
    let given: Vec<char> = sequence.chars().filter(|c| *c != '/').collect();
    if given.len() != n {
        return Err(format!("the sequence has {} letters, the designed chains {n} residues", given.len()));
    }
    let mut letters = problem.backbone.letters.clone();
    for (place, character) in letters.iter_mut().zip(given) {
        *place = if character == '-' { UNKNOWN } else { index(character)? as u8 };
    }
    Ok(letters)
}
