//! Success flags (PXDesignBench `tasks/base.py`, `compute_success_rate`) and order (PXDesign `runner/helpers.py`, `pre_filter_preview`,
//! `pre_filter_extended`). Unlike there, a number that is missing fails its filter.
use std::cmp::Ordering;

use super::{FirstScores, Row, SecondModel, SecondScores};

/// Which filters a design passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// AF2-IG-easy.
    pub first_easy: bool,
    /// AF2-IG.
    pub first: bool,
    /// The second filter's lower thresholds.
    pub second_basic: bool,
    /// The second filter.
    pub second: bool,
}

/// Which filters there are, and with that the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranking {
    /// AlphaFold2 alone.
    Preview,
    /// AlphaFold2 and a network of AlphaFold3's family.
    Extended,
}

impl Ranking {
    /// Of designs that were judged by AlphaFold2, and by a second network or not.
    pub fn by(second: Option<SecondModel>) -> Self {
        if second.is_some() { Self::Extended } else { Self::Preview }
    }
}

/// How many designs are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Successes at most.
    pub most: usize,
    /// Designs at least, if there are so many: failures follow the successes.
    pub least: usize,
}

/// A design in its place; the first is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    /// Index of the row.
    pub row: usize,
    /// Which filters it passes together: 1 is best.
    pub bucket: u8,
    /// The filters.
    pub flags: Flags,
    /// Does it pass the first filter?
    pub passes_first: bool,
    /// Does it pass the second?
    pub passes_second: bool,
}

impl Ranked {
    /// Does it pass every filter that there is?
    pub fn passes(&self, ranking: Ranking) -> bool {
        match ranking {
            Ranking::Preview => self.passes_first,
            Ranking::Extended => self.passes_first && self.passes_second,
        }
    }
}

/// AF2-IG-easy: pLDDT of the binder in the complex is above this, 0-1.
pub const EASY_PLDDT: f64 = 0.8;
/// Its ipTM is above this.
pub const EASY_IPTM: f64 = 0.5;
/// Its aligned error between binder and target is below this, in 31 Å.
pub const EASY_I_PAE: f64 = 0.35;
/// The binder alone is nearer to the binder in the complex than this, Å.
pub const EASY_BOUND_UNBOUND_RMSD: f64 = 3.5;
/// AF2-IG: pLDDT of the binder in the complex is above this, 0-1.
pub const FIRST_PLDDT: f64 = 0.9;
/// Its aligned error between binder and target is below this, Å.
pub const FIRST_I_PAE: f64 = 7.;
/// The binder alone is nearer to the design than this, Å.
pub const FIRST_BINDER_RMSD: f64 = 1.5;
/// The second filter, both thresholds: the complex is nearer to the design than this, Å.
pub const SECOND_RMSD: f64 = 2.5;
/// The lower thresholds of the second filter: ipTM of the binder is above this.
pub const BASIC_IPTM_BINDER: f64 = 0.8;
/// And pTM of the binder above this.
pub const BASIC_PTM_BINDER: f64 = 0.8;
/// The second filter: ipTM of the binder is above this.
pub const SECOND_IPTM_BINDER: f64 = 0.85;
/// And pTM of the binder above this.
pub const SECOND_PTM_BINDER: f64 = 0.88;
/// Complexes nearer to the design than this are better, Å.
pub const NEAR: f64 = 4.;

impl Flags {
    /// Of a design.
    pub fn new(row: &Row) -> Self {
        let (first_easy, first) = of_first(&row.first);
        let (second_basic, second) = row.second.as_ref().map_or((false, false), of_second);
        Self { first_easy, first, second_basic, second }
    }
}

fn of_first(s: &FirstScores) -> (bool, bool) {
    let easy = s.plddt > EASY_PLDDT
        && s.iptm > EASY_IPTM
        && s.i_pae < EASY_I_PAE
        && s.bound_unbound_rmsd < EASY_BOUND_UNBOUND_RMSD;
    (easy, s.plddt > FIRST_PLDDT && s.unscaled_i_pae < FIRST_I_PAE && s.binder_rmsd < FIRST_BINDER_RMSD)
}

/// Does a design pass the second filter, or at least its lower thresholds?
pub fn passes_second(s: &SecondScores) -> bool {
    let (basic, whole) = of_second(s);
    basic || whole
}

fn of_second(s: &SecondScores) -> (bool, bool) {
    let near = s.rmsd < SECOND_RMSD;
    let above = |iptm, ptm| near && s.iptm_binder > iptm && s.ptm_binder > ptm;
    (above(BASIC_IPTM_BINDER, BASIC_PTM_BINDER), above(SECOND_IPTM_BINDER, SECOND_PTM_BINDER))
}

/// The order of designs.
pub fn rank(rows: &[Row], ranking: Ranking, limits: Limits) -> Vec<Ranked> {
    let all: Vec<Ranked> = rows.iter().enumerate().map(|(i, row)| placed(i, row, ranking)).collect();
    let failure = match ranking {
        Ranking::Preview => 5,
        Ranking::Extended => 9,
    };
    let (mut successes, mut failures): (Vec<Ranked>, Vec<Ranked>) = all.into_iter().partition(|r| r.bucket < failure);
    let by_bucket = |a: &Ranked, b: &Ranked| {
        let key = |r: &Ranked| key(&rows[r.row], r.bucket, ranking);
        a.bucket.cmp(&b.bucket).then_with(|| smallest_first(key(a), key(b)))
    };
    successes.sort_by(by_bucket);
    successes.truncate(limits.most);
    match ranking {
        Ranking::Preview => failures.sort_by(by_bucket),
        Ranking::Extended => by_both(rows, &mut failures),
    }
    failures.truncate(limits.least.saturating_sub(successes.len()));
    successes.extend(failures);
    successes
}

fn placed(i: usize, row: &Row, ranking: Ranking) -> Ranked {
    let flags = Flags::new(row);
    let Flags { first_easy: easy, first, second_basic: basic, second } = flags;
    let near = row.first.complex_rmsd < NEAR;
    let cases: &[bool] = match ranking {
        Ranking::Preview => &[first && easy, first, easy && near, easy, near],
        Ranking::Extended => {
            &[first && second, first && basic, easy && second, easy && basic, second, basic, first, easy]
        }
    };
    let bucket = cases.iter().position(|case| *case).unwrap_or(cases.len()) as u8 + 1;
    let (passes_first, passes_second) = match ranking {
        Ranking::Preview => (bucket < 5, false),
        Ranking::Extended => (matches!(bucket, 1..=4 | 7 | 8), bucket < 7),
    };
    Ranked { row: i, bucket, flags, passes_first, passes_second }
}

/// What orders a bucket, smallest first: the error of the interface, or the interface score of the second filter.
fn key(row: &Row, bucket: u8, ranking: Ranking) -> f64 {
    match ranking {
        Ranking::Extended if !matches!(bucket, 7 | 8) => -interface(row),
        _ => row.first.unscaled_i_pae,
    }
}

fn interface(row: &Row) -> f64 {
    row.second.map_or(f64::NAN, |s| s.iptm)
}

/// Failures by the mean of their places in both orders.
fn by_both(rows: &[Row], failures: &mut [Ranked]) {
    let places = |value: &dyn Fn(&Row) -> f64| {
        let mut order: Vec<usize> = (0..failures.len()).collect();
        order.sort_by(|a, b| smallest_first(value(&rows[failures[*a].row]), value(&rows[failures[*b].row])));
        let mut places = vec![0usize; order.len()];
        order.iter().enumerate().for_each(|(place, i)| places[*i] = place);
        places
    };
    let (first, second) = (places(&|row| row.first.unscaled_i_pae), places(&|row| -interface(row)));
    let mut keyed: Vec<_> = failures.iter().zip(&first).zip(&second).map(|((r, a), b)| ((a + b, *b, *a), *r)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    failures.iter_mut().zip(keyed).for_each(|(place, (_, r))| *place = r);
}

/// NaN last.
fn smallest_first(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::row;
    use super::*;

    #[test]
    fn what_is_missing_passes_nothing() {
        let good = row();
        let all = Flags { first_easy: true, first: true, second_basic: true, second: true };
        assert_eq!(Flags::new(&good), all);
        let mut unknown = good.clone();
        unknown.first.bound_unbound_rmsd = f64::NAN;
        assert!(!Flags::new(&unknown).first_easy);
        let mut unknown = good.clone();
        unknown.second.as_mut().unwrap().rmsd = f64::NAN;
        assert!(!Flags::new(&unknown).second_basic && !Flags::new(&unknown).second);
        let alone = Row { second: None, ..good };
        assert!(!Flags::new(&alone).second);
    }

    #[test]
    fn thresholds_are_not_met_by_themselves() {
        let mut at = row();
        at.first.plddt = 0.9;
        assert!(Flags::new(&at).first_easy && !Flags::new(&at).first);
        at.second.as_mut().unwrap().iptm_binder = 0.8;
        assert!(!Flags::new(&at).second_basic);
    }

    #[test]
    fn unknown_scores_are_last_and_failures_fill_up() {
        let mut rows = vec![row(), row(), row()];
        rows[0].first.unscaled_i_pae = f64::NAN;
        rows[0].first.binder_rmsd = f64::NAN;
        rows[1].first.plddt = 0.1;
        let order =
            |limits| rank(&rows, Ranking::Preview, limits).iter().map(|r| (r.row, r.bucket)).collect::<Vec<_>>();
        assert_eq!(order(Limits { most: 9, least: 0 }), [(2, 1), (0, 3)]);
        assert_eq!(order(Limits { most: 1, least: 2 }), [(2, 1), (1, 5)]);
    }
}
