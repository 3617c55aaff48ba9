//! What the plots of a task show: scores with the thresholds of the filters, and who passes.
use super::Scored;
use crate::pipelines::design::af2::LARGEST_ERROR;
use crate::plot::design::{Course, Scale, Scatter, Spread, scatters, spreads, yields};
use crate::score::design::rank::{
    BASIC_IPTM_BINDER, EASY_BOUND_UNBOUND_RMSD, EASY_I_PAE, EASY_IPTM, FIRST_BINDER_RMSD, FIRST_I_PAE, Flags, NEAR,
    SECOND_IPTM_BINDER, SECOND_RMSD,
};
use crate::score::design::{Row, SecondModel};

/// A filter: its name, and whether it is among the flags.
pub type Filter = (String, fn(&Flags) -> bool);

/// The filters of a run.
pub fn filters(second: Option<SecondModel>) -> Vec<Filter> {
    let mut all: Vec<Filter> =
        vec![("AF2-IG-easy".to_owned(), |flags| flags.first_easy), ("AF2-IG".to_owned(), |flags| flags.first)];
    if let Some(model) = second {
        all.push((format!("{}-basic", model.title()), |flags| flags.second_basic));
        all.push((model.title().to_owned(), |flags| flags.second));
    }
    all
}

/// How many designs pass each filter.
pub fn counts(scored: &Scored) -> Vec<(String, usize)> {
    let flags: Vec<Flags> = scored.rows.iter().map(Flags::new).collect();
    filters(scored.second)
        .into_iter()
        .map(|(name, passes)| (name, flags.iter().filter(|f| passes(f)).count()))
        .collect()
}

/// Error of the interface against ipTM; of the second filter the distance to the design against its ipTM.
pub fn ipae_iptm(scored: &Scored) -> Vec<u8> {
    let rows = &scored.rows;
    let at = |value, name: &str| (value, name.to_owned());
    let first = Scatter {
        title: "AlphaFold2".to_owned(),
        x: Scale {
            label: "ipAE, Å".to_owned(),
            range: [0., LARGEST_ERROR],
            thresholds: vec![at(FIRST_I_PAE, "AF2-IG"), at(EASY_I_PAE * LARGEST_ERROR, "easy")],
        },
        y: Scale { label: "ipTM".to_owned(), range: [0., 1.], thresholds: vec![at(EASY_IPTM, "easy")] },
        points: points(rows, scored.second, |row| [row.first.unscaled_i_pae, row.first.iptm]),
        groups: groups(scored.second),
    };
    let Some(model) = scored.second else { return scatters(&[first]) };
    let of = |row: &Row| row.second.map_or([f64::NAN; 2], |s| [s.rmsd, s.iptm_binder]);
    let second = Scatter {
        title: model.title().to_owned(),
        x: Scale {
            label: "complex against design, RMSD, Å (10: 10 or more)".to_owned(),
            range: [0., 10.],
            thresholds: vec![at(SECOND_RMSD, "both")],
        },
        y: Scale {
            label: "ipTM of the binder".to_owned(),
            range: [0., 1.],
            thresholds: vec![at(SECOND_IPTM_BINDER, "full"), at(BASIC_IPTM_BINDER, "basic")],
        },
        points: points(rows, scored.second, of),
        groups: groups(scored.second),
    };
    scatters(&[first, second])
}

fn points(rows: &[Row], second: Option<SecondModel>, of: impl Fn(&Row) -> [f64; 2]) -> Vec<([f64; 2], usize)> {
    rows.iter().map(|row| (of(row), group(&Flags::new(row), second))).collect()
}

/// What a design passes, the best first.
fn groups(second: Option<SecondModel>) -> Vec<String> {
    match second {
        None => ["AF2-IG and easy", "AF2-IG-easy", "AF2-IG", "neither"].map(str::to_owned).into(),
        Some(model) => {
            let title = model.title();
            vec![format!("AlphaFold2 and {title}"), "AlphaFold2".to_owned(), title.to_owned(), "neither".to_owned()]
        }
    }
}

/// Index of its group.
fn group(flags: &Flags, second: Option<SecondModel>) -> usize {
    let (one, other) = match second {
        None => (flags.first_easy, flags.first),
        Some(_) => (flags.first_easy || flags.first, flags.second_basic || flags.second),
    };
    match (one, other) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

/// How the distances are spread; a design passes if it passes any filter.
pub fn rmsd(scored: &Scored) -> Vec<u8> {
    spreads(&distances(scored))
}

fn distances(scored: &Scored) -> Vec<Spread> {
    let spread = |label: &str, threshold: f64, of: &dyn Fn(&Row) -> f64| Spread {
        label: label.to_owned(),
        values: scored.rows.iter().map(|row| (of(row), passes_any(row))).collect(),
        threshold,
    };
    let mut all = vec![
        spread("AlphaFold2: complex against design", NEAR, &|row| row.first.complex_rmsd),
        spread("AlphaFold2: binder alone against design", FIRST_BINDER_RMSD, &|row| row.first.binder_rmsd),
        spread("AlphaFold2: binder alone against bound", EASY_BOUND_UNBOUND_RMSD, &|row| row.first.bound_unbound_rmsd),
    ];
    if let Some(model) = scored.second {
        let label = format!("{}: complex against design", model.title());
        all.push(spread(&label, SECOND_RMSD, &|row| row.second.map_or(f64::NAN, |s| s.rmsd)));
    }
    all
}

fn passes_any(row: &Row) -> bool {
    Flags::new(row) != Flags::default()
}

/// How many pass each filter against how many are done, in the order of samples; `n_expected` are to be done.
pub fn yield_so_far(scored: &Scored, n_expected: usize) -> Vec<u8> {
    let flags: Vec<Flags> = scored.rows.iter().map(Flags::new).collect();
    let course = |(label, passes): Filter| Course { label, passes: flags.iter().map(passes).collect() };
    let courses: Vec<Course> = filters(scored.second).into_iter().map(course).collect();
    yields(&format!("Yield so far: {} of {n_expected} samples are done", scored.rows.len()), &courses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::design::report::tests::{rows, scored};

    #[test]
    fn groups_and_counts_follow_the_flags() {
        let all = rows(6);
        let of = |second| points(&all, second, |_| [0.; 2]).into_iter().map(|(_, group)| group).collect::<Vec<_>>();
        assert_eq!(of(None), [0, 2, 1, 3, 0, 3]);
        assert_eq!(of(Some(SecondModel::Protenix)), [0, 1, 1, 2, 1, 3]);
        let names = |second| counts(&scored(&all, second));
        assert_eq!(names(None), [("AF2-IG-easy".to_owned(), 3), ("AF2-IG".to_owned(), 3)]);
        let second = names(Some(SecondModel::OpenFold3));
        assert_eq!(second[2..], [("OpenFold3-basic".to_owned(), 2), ("OpenFold3".to_owned(), 1)]);
    }

    #[test]
    fn there_is_a_spread_for_the_second_filter_if_there_is_one() {
        let all = rows(6);
        assert_eq!(distances(&scored(&all, None)).len(), 3);
        let four = distances(&scored(&all, Some(SecondModel::Protenix)));
        assert_eq!(four[3].label, "Protenix: complex against design");
        let values: Vec<bool> = four[3].values.iter().map(|(_, passes)| *passes).collect();
        assert_eq!(values, [true, true, true, true, true, false]);
        assert!(four[3].values[4].0.is_nan(), "the fifth has no second filter");
    }
}
