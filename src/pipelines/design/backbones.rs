//! The first stage: backbones with their target, several at a time.
use std::ops::ControlFlow;

use serde_json::json;

use super::DesignError;
use super::complex::cif;
use super::place::Place;
use super::stage::{Made, Stage};
use crate::features::pxdesign::DesignStructure;
use crate::models::pxdesign::sample::Sampled;

/// What turns numbers of samples into structures of one task and seed.
pub trait Backbones {
    /// Names of all atoms.
    fn structure(&self) -> &DesignStructure;
    /// Denoising steps of a sample.
    fn n_step(&self) -> usize;
    /// Coordinates of samples, `[n_atom]` each, in Å. A sample does not depend on those beside it. `tick` is told how many samples have
    /// made a step, and says when to break off.
    ///
    /// # Errors
    /// What the network reports.
    fn sample(&self, samples: &[usize], tick: &mut dyn FnMut(u64) -> ControlFlow<()>) -> candle_core::Result<Sampled>;
}

/// Name of the stage.
pub const NAME: &str = "backbones";

/// The stage of one task and seed.
pub struct BackboneStage<'a> {
    /// What makes them.
    pub backbones: &'a dyn Backbones,
    /// Where they go.
    pub place: &'a Place,
    /// Samples at a time.
    pub batch: usize,
}

impl Stage for BackboneStage<'_> {
    fn title(&self) -> &str {
        NAME
    }

    fn name(&self) -> &str {
        NAME
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn units(&self) -> u64 {
        self.backbones.n_step() as u64
    }

    fn is_done(&self, sample: usize) -> bool {
        self.place.backbone(sample).is_file()
    }

    fn make(
        &mut self,
        samples: &[usize],
        tick: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Vec<Result<Made, String>>>, DesignError> {
        let ControlFlow::Continue(all) = self.backbones.sample(samples, tick)? else {
            return Ok(ControlFlow::Break(()));
        };
        let made = samples.iter().zip(all).map(|(&sample, positions)| self.made(sample, &positions));
        Ok(ControlFlow::Continue(made.collect()))
    }
}

impl BackboneStage<'_> {
    fn made(&self, sample: usize, positions: &[[f32; 3]]) -> Result<Made, String> {
        if !positions.as_flattened().iter().all(|x| x.is_finite()) {
            return Err("its coordinates are not all numbers".to_owned());
        }
        let path = self.place.backbone(sample);
        let text = cif(self.place.task(), &self.place.name(sample), self.backbones.structure(), positions);
        Ok(Made { record: json!({ "path": path }), files: vec![(path, text.into_bytes())] })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::features::noise::{NoiseSource, TorchGenerator};
    use crate::features::pxdesign::{DESIGNED_CODE, DesignAtom, DesignChain, DesignResidue};
    use crate::pipelines::design::complex;
    use crate::pipelines::design::stage::{Tally, failures, run};
    use crate::pipelines::progress::Silent;
    use crate::pipelines::shard::Shard;
    use crate::pipelines::stop::{Reason, Stop};

    /// Structures that are random walks of the sample's own stream.
    struct Walks {
        structure: DesignStructure,
        /// Samples that come out as no numbers.
        bad: Vec<usize>,
        /// Sizes of the batches.
        batches: RefCell<Vec<usize>>,
        /// Set after this many steps.
        signal: Option<(usize, Arc<AtomicBool>)>,
    }

    const N_STEP: usize = 5;

    impl Walks {
        fn new() -> Self {
            let chain = |id: &str, target: Option<&str>| DesignChain {
                id: id.to_owned(),
                target: target.map(str::to_owned),
                is_ligand: false,
                polymer: Some("polypeptide(L)"),
            };
            let residue = |chain, number, name: &str| DesignResidue {
                chain,
                number,
                name: name.to_owned(),
                author: number.to_string(),
                restype: 0,
                hotspot: false,
            };
            let atom = |residue, name: &str| DesignAtom {
                residue,
                name: name.to_owned(),
                element: "C".to_owned(),
                position: None,
            };
            let structure = DesignStructure {
                chains: vec![chain("A", Some("X")), chain("B", None)],
                residues: vec![residue(0, 7, "ALA"), residue(1, 1, DESIGNED_CODE)],
                atoms: vec![atom(0, "CA"), atom(0, "CB"), atom(1, "CA")],
            };
            Self { structure, bad: Vec::new(), batches: RefCell::default(), signal: None }
        }
    }

    impl Backbones for Walks {
        fn structure(&self) -> &DesignStructure {
            &self.structure
        }

        fn n_step(&self) -> usize {
            N_STEP
        }

        fn sample(
            &self,
            samples: &[usize],
            tick: &mut dyn FnMut(u64) -> ControlFlow<()>,
        ) -> candle_core::Result<Sampled> {
            self.batches.borrow_mut().push(samples.len());
            let mut noise: Vec<_> = samples.iter().map(|&sample| TorchGenerator::of_sample(3, sample)).collect();
            let mut walks = vec![vec![[0f32; 3]; 3]; samples.len()];
            for step in 0..N_STEP {
                for (walk, noise) in walks.iter_mut().zip(&mut noise) {
                    walk.as_flattened_mut().iter_mut().zip(noise.randn(9)).for_each(|(x, d)| *x += d);
                }
                if let Some((_, signal)) = self.signal.as_ref().filter(|(after, _)| *after == step + 1) {
                    signal.store(true, Ordering::Relaxed);
                }
                if tick(samples.len() as u64).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            for (walk, sample) in walks.iter_mut().zip(samples) {
                if self.bad.contains(sample) {
                    walk[1][2] = f32::NAN;
                }
            }
            Ok(ControlFlow::Continue(walks))
        }
    }

    fn make(walks: &Walks, out: &Path, batch: usize, shard: &str, stop: &Stop) -> Tally {
        let shard: Shard = shard.parse().unwrap();
        let samples: Vec<usize> = (0..20).filter(|&i| shard.has(i)).collect();
        let place = Place::new(out, "t", 3);
        let mut stage = BackboneStage { backbones: walks, place: &place, batch };
        run(&mut stage, &place, &samples, stop, &mut Silent).unwrap()
    }

    fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
        let folder = Place::new(out, "t", 3).backbone(0).with_file_name("");
        let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap());
        entries
            .filter(|e| e.path().is_file())
            .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
            .collect()
    }

    #[test]
    fn batches_parts_and_interruptions_change_no_byte() {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let never = Stop::default();
        let walks = Walks::new();
        assert_eq!(make(&walks, folders[0].path(), 1, "0/1", &never), Tally { done: 20, ..Tally::default() });
        let alone = files(folders[0].path());
        assert_eq!(alone.len(), 20);
        assert_ne!(alone["t_sample_0.cif"], alone["t_sample_1.cif"]);

        let walks = Walks::new();
        ["2/3", "0/3", "1/3"].iter().for_each(|shard| {
            make(&walks, folders[1].path(), 4, shard, &never);
        });
        assert_eq!(*walks.batches.borrow(), [4, 2, 4, 3, 4, 3]);
        assert_eq!(files(folders[1].path()), alone);

        // Stopped in the middle of a batch: that batch is lost, what was finished is not done again.
        let signal = Arc::new(AtomicBool::new(false));
        let stop = Stop::new(signal.clone(), None);
        let out = folders[2].path();
        make(&Walks::new(), out, 7, "1/2", &never);
        let walks = Walks { signal: Some((3, signal.clone())), ..Walks::new() };
        let tally = make(&walks, out, 4, "0/1", &stop);
        assert_eq!(tally, Tally { done: 10, failed: 0, stopped: Some(Reason::Signal) });
        signal.store(false, Ordering::Relaxed);
        let walks = Walks::new();
        assert_eq!(make(&walks, out, 100, "0/1", &stop).done, 20);
        assert_eq!(*walks.batches.borrow(), [10]);
        assert_eq!(files(out), alone);
    }

    #[test]
    fn a_sample_that_fails_is_noted_and_tried_again() {
        let out = tempfile::tempdir().unwrap();
        let walks = Walks { bad: vec![3, 9], ..Walks::new() };
        let tally = make(&walks, out.path(), 4, "0/1", &Stop::default());
        assert_eq!((tally.done, tally.failed), (18, 2));
        let place = Place::new(out.path(), "t", 3);
        let all: Vec<usize> = (0..20).collect();
        let found = failures(&place, NAME, &all);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&3, &9]);
        assert!(found[&3].contains("not all numbers"));
        assert_eq!(make(&Walks::new(), out.path(), 4, "0/1", &Stop::default()).done, 20);
        assert!(failures(&place, NAME, &all).is_empty());
    }

    #[test]
    fn a_written_sample_is_read_back() {
        let out = tempfile::tempdir().unwrap();
        let walks = Walks::new();
        make(&walks, out.path(), 20, "0/1", &Stop::default());
        let text = fs::read_to_string(Place::new(out.path(), "t", 3).backbone(5)).unwrap();
        assert!(text.starts_with("data_t_sample_5_predicted_by_protenix\n"), "{text}");
        let ControlFlow::Continue(want) = walks.sample(&[5], &mut |_| ControlFlow::Continue(())).unwrap() else {
            panic!("never broken off")
        };
        assert_eq!(complex::positions(&text, &walks.structure), Ok(want[0].clone()));
        let short = DesignStructure { atoms: walks.structure.atoms[..2].to_vec(), ..walks.structure.clone() };
        assert!(complex::positions(&text, &short).unwrap_err().contains("3 atoms, the task has 2"));
    }
}
