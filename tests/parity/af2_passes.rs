//! Recycling: how many passes there are, and what each begins with.
use anyhow::{Context, Result};
use candle_core::Error;
use fold::features::af2::Af2Features;
use fold::models::af2::AlphaFold2;
use fold::models::af2::dropout::Dropout;
use fold::models::af2::network::Part;
use fold::models::af2::recycle::Recycled;
use fold::pipelines::af2::passes::{Pass, Recycling, run};
use fold::score::af2::change;

use crate::af2::{Case, MONOMER, MULTIMER, host, monomer_features, multimer_features, points};

fn model(name: &str) -> Result<(AlphaFold2, Af2Features, Case)> {
    let case = Case::small(name)?;
    let features = if name == MONOMER { monomer_features(&case.golden)? } else { multimer_features(&case.golden)? };
    Ok((AlphaFold2::load(&case.config, &case.weights)?, features, case))
}

/// The last pass, and change and positions of each.
#[allow(clippy::type_complexity, reason = "a list of what a pass gives")]
fn passes(
    model: &AlphaFold2,
    features: &Af2Features,
    recycling: Recycling,
) -> Result<(Pass, Vec<(Option<f32>, Vec<[f32; 3]>)>)> {
    let mut seen = Vec::new();
    let last = run::<Error>(model, &recycling, &mut |_| features.clone(), &mut |_, _| (), &mut |pass| {
        seen.push((pass.change, pass.recycled.positions.clone()));
        Ok(())
    })?;
    Ok((last, seen))
}

#[test]
fn each_pass_begins_with_the_one_before() -> Result<()> {
    for name in [MONOMER, MULTIMER] {
        let (model, features, _case) = model(name)?;
        let (last, seen) = passes(&model, &features, Recycling { n_recycle: 2, ..Recycling::default() })?;
        assert_eq!((last.index, seen.len()), (2, 3));
        let network = model.network();
        let mut before = Recycled::first(features.n_res(), &network.config, None, &network.device)?;
        for (index, (moved, positions)) in seen.iter().enumerate() {
            let trunk = model.trunk(&features, before.clone(), &Dropout::default(), &mut |_| ())?;
            let folded = network.heads.fold(&trunk, &features)?;
            assert_eq!(&folded.positions, positions, "{name}, pass {index}");
            let wanted = (index > 0).then(|| change(&before.positions, positions, &features.mask));
            assert_eq!(*moved, wanted);
            before = Recycled::new(trunk, folded.positions)?;
        }
        assert_eq!(seen[2].1, last.recycled.positions);
    }
    Ok(())
}

/// The package's rule: after the second pass or a later one, if it has moved the structure by less than the tolerance.
#[test]
fn passes_end_when_the_structure_moves_no_more() -> Result<()> {
    let (model, features, _case) = model(MULTIMER)?;
    let all = |tolerance| passes(&model, &features, Recycling { n_recycle: 4, tolerance, ..Recycling::default() });
    let (_, seen) = all(0.)?;
    let moved: Vec<f32> = seen.iter().skip(1).filter_map(|(moved, _)| *moved).collect();
    assert_eq!(moved.len(), 4);
    for tolerance in moved.iter().flat_map(|m| [*m, m * 1.001]) {
        let stop = moved.iter().position(|m| *m < tolerance).map_or(4, |k| k + 1);
        let (last, some) = all(tolerance)?;
        assert_eq!(last.index, stop, "changes {moved:?}, tolerance {tolerance}");
        assert_eq!(some[..], seen[..=stop]);
    }
    // A tolerance that everything is below does not stop the first pass.
    assert_eq!(all(f32::INFINITY)?.0.index, 1);
    Ok(())
}

#[test]
fn an_initial_guess_is_the_structure_before_the_first_pass() -> Result<()> {
    let (model, features, case) = model(MONOMER)?;
    let guess = points(&host(&case.golden, "features/prev_pos")?);
    let once = |initial_guess| passes(&model, &features, Recycling { initial_guess, ..Recycling::default() });
    let (with, seen) = once(Some(guess.clone()))?;
    assert_eq!((with.index, seen[0].0), (0, None), "the guess is no pass: nothing has moved");
    assert_ne!(with.recycled.positions, once(None)?.0.recycled.positions);
    let error = once(Some(guess[37..].to_vec())).err().context("a residue is missing")?.to_string();
    assert!(error.contains("the initial guess has 10 residues, the query 11"), "{error}");
    Ok(())
}

#[test]
fn parts_are_told_as_they_are_done() -> Result<()> {
    let (model, features, _case) = model(MONOMER)?;
    let (mut parts, mut asked) = (Vec::new(), Vec::new());
    let recycling = Recycling { n_recycle: 1, ..Recycling::default() };
    let mut source = |pass| {
        asked.push(pass);
        features.clone()
    };
    run::<Error>(&model, &recycling, &mut source, &mut |pass, part| parts.push((pass, part)), &mut |_| Ok(()))?;
    assert_eq!(asked, [0, 1], "the features of each pass are asked for once");
    let one = [Part::Embedders, Part::ExtraBlock, Part::ExtraBlock, Part::Block, Part::Block, Part::Heads];
    let both: Vec<_> = (0..2).flat_map(|pass| one.map(|part| (pass, part))).collect();
    assert_eq!(parts, both);
    Ok(())
}
