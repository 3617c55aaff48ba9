//! The networks of the second filter: Protenix, base or mini, and OpenFold3, on protein chains. OpenFold3 is run with the settings that
//! PXDesign runs Protenix with: few steps of a sampler without added noise.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use serde_json::{Value, json};

use crate::assembly::Assembly;
use crate::chem::restype::{LETTERS, UNKNOWN, amino_acid};
use crate::features::af3::{feature_noise, featurise};
use crate::features::protenix::{ChainAlignments, ProteinChain, species};
use crate::io::a3m::Alignment;
use crate::models::af3::config::Config;
use crate::models::af3::cost::{Cost, Sizes};
use crate::models::openfold3::{OpenFold3, TrunkPart, TrunkProgress};
use crate::models::protenix::Protenix;
use crate::pipelines::design::DesignError;
use crate::pipelines::infer::{Done, Inference};
use crate::pipelines::memory::Estimate;
use crate::pipelines::protenix::filter::{Filter, FilterError, KnownChain, Predicted, Settings, Watch};
use crate::query::{Chain, MsaFile, PAIRING_NAME, Query};
use crate::score::design::SecondModel;
use crate::weights::Weights;

/// A converted weights file with what its header says.
#[derive(Debug, Clone)]
pub struct NetworkFile {
    /// Where it is.
    pub path: PathBuf,
    /// Such as `protenix-base`.
    pub model: String,
    /// Such as 0.5.0.
    pub release: String,
    /// Sizes.
    pub config: Config,
    /// Checksums of the official file and of this one.
    pub checksums: Value,
    /// Of the file.
    pub bytes: u64,
}

/// Weights of a second filter.
#[derive(Debug, Clone)]
pub struct SecondFilter {
    /// After which its columns are named.
    pub model: SecondModel,
    /// The network.
    pub network: NetworkFile,
    /// The network that is given the structure of the target where the other does not find it.
    pub with_target: Option<WithTarget>,
}

/// A network that is given the target's structure.
#[derive(Debug, Clone)]
pub struct WithTarget {
    /// `protenix_mini_tmpl`.
    pub network: NetworkFile,
    /// From this RMSD of the target predicted alone on, Å.
    pub from: f64,
}

impl NetworkFile {
    /// Reads the header of a file that is to be of `model`.
    ///
    /// # Errors
    /// If it cannot be read, or is of another model.
    pub fn open(path: &Path, model: &str) -> Result<Self, DesignError> {
        let weights = Weights::open(path, &Device::Cpu)?;
        let entry = |key: &str| weights.metadata(key).unwrap_or("unknown").to_owned();
        if entry("model") != model {
            let (path, is) = (path.display(), entry("model"));
            return Err(DesignError::Usage(format!(
                "{path}: is of {is}, not of {model}: convert the official file again"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            model: entry("model"),
            release: entry("release"),
            config: weights.config()?,
            checksums: json!({"checkpoint": entry("source_sha256"), "weights": entry("data_sha256")}),
            bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        })
    }

    /// What designs depend on.
    pub fn identity(&self) -> Value {
        json!({"model": self.model, "release": self.release, "weights_sha256": self.checksums})
    }

    /// The most bytes that a complex takes.
    pub fn peak(&self, sizes: &Sizes, n_seq: usize, device: &Device) -> u64 {
        Estimate { config: &self.config, device, n_sample: 1, weight_bytes: self.bytes }.peak(sizes, n_seq)
    }

    /// Work of a cycle and of a step, for a bar.
    pub fn work(&self, sizes: &Sizes) -> (u64, u64) {
        let cost = Cost::new(&self.config, *sizes, 1);
        let cycle = cost.template + cost.msa + cost.block * self.config.pairformer.n_block as f64;
        let unit = |flop: f64| (flop / 1e6).ceil() as u64;
        (unit(cycle), unit(cost.step))
    }
}

/// A loaded network.
#[derive(Debug)]
pub enum Network {
    /// Base, mini, or mini with the target's structure.
    Protenix(Box<Protenix>),
    /// With the filter's sampler.
    OpenFold3(Box<OpenFold3>),
}

impl Network {
    /// Loads a file.
    ///
    /// # Errors
    /// If it is not whole, or does not fit.
    pub fn load(file: &NetworkFile, device: &Device) -> Result<Self, DesignError> {
        let weights = Weights::open(&file.path, device)?;
        if file.model != SecondModel::OpenFold3.name() {
            return Ok(Self::Protenix(Box::new(Protenix::load(&file.config, &weights)?)));
        }
        let mut config = file.config;
        (config.sampling.gamma_0, config.sampling.step_scale) = (Settings::FILTER.gamma_0, Settings::FILTER.step_scale);
        Ok(Self::OpenFold3(Box::new(OpenFold3::load(&config, &weights)?)))
    }
}

/// Runs a loaded network.
#[derive(Debug, Clone, Copy)]
pub struct Runner<'a> {
    /// The network.
    pub network: &'a Network,
    /// Where its weights are.
    pub device: &'a Device,
    /// Folder on whose file system a large tensor is put aside.
    pub folder: &'a Path,
}

impl Runner<'_> {
    /// Predicts a complex of these chains.
    ///
    /// # Errors
    /// Chains without features, and what the network and the disk report.
    pub fn predict(
        &self,
        chains: &[ProteinChain],
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        let (device, folder) = (self.device, self.folder);
        match self.network {
            Network::Protenix(model) => Filter { model, device, folder }.predict(chains, settings, seed, watch),
            Network::OpenFold3(model) => self.openfold3(model, chains, settings, seed, watch),
        }
    }

    /// Predicts a binder beside a target whose structure is given to the network.
    ///
    /// # Errors
    /// As [`predict`](Self::predict), and of a network that takes no positions.
    pub fn predict_with_target(
        &self,
        target: &[KnownChain],
        binder: &ProteinChain,
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        let (device, folder) = (self.device, self.folder);
        let Network::Protenix(model) = self.network else { return Err(FilterError::NoPositions) };
        Filter { model, device, folder }.predict_with_target(target, binder, settings, seed, watch)
    }

    fn openfold3(
        &self,
        model: &OpenFold3,
        chains: &[ProteinChain],
        settings: Settings,
        seed: u64,
        watch: &mut Watch<'_>,
    ) -> Result<Predicted, FilterError> {
        let query = Query::new("design".to_owned(), chains.iter().enumerate().map(query_chain).collect());
        let seed = seed as u32;
        let mut features = featurise(&query, &Assembly::new(&query), &mut feature_noise(seed));
        // The network is to know where the crop has left something out.
        let numbers = chains.iter().flat_map(|chain| &chain.kept).map(|&number| number as i32);
        features.residue_index = numbers.collect();
        let (n_cycle, n_step) = (settings.n_cycle, settings.n_step);
        let inference = Inference {
            model,
            device: self.device,
            features: &features,
            seed,
            n_cycle,
            n_step,
            n_sample: 1,
            wanted: &[0],
            folder: self.folder,
        };
        let (n_block, mut blocks) = (model.config.pairformer.n_block, 0);
        let mut is_stopped = false;
        let mut told = |done: Done| {
            let done = match done {
                Done::Trunk(TrunkProgress { cycle, done: TrunkPart::Block }) => {
                    blocks += 1;
                    (blocks == (cycle + 1) * n_block).then_some(cycle + 1)
                }
                Done::Step(step) => Some(n_cycle + step),
                _ => None,
            };
            is_stopped = done.is_some_and(|done| watch(done).is_break());
            if is_stopped { candle_core::bail!("broken off") } else { Ok(()) }
        };
        let mut made = None;
        let ended = inference.run(&mut told, &mut |_, scored| {
            made = Some((scored.positions().to_vec(), scored.confidence.clone()));
            Ok(())
        });
        if is_stopped {
            return Err(FilterError::Stopped);
        }
        ended?;
        let (positions, confidence) = made.ok_or(FilterError::Stopped)?;
        Ok(Predicted { features, positions, confidence })
    }
}

/// A chain as OpenFold3 is asked for it: its kept residues alone. Ids are in the order of the chains.
fn query_chain((index, chain): (usize, &ProteinChain)) -> Chain {
    let letter = |&number: &usize| {
        let restype = amino_acid(chain.sequence.as_bytes()[number - 1]).unwrap_or(UNKNOWN);
        char::from(LETTERS[usize::from(restype)])
    };
    let id = format!("{index:06}");
    let files = chain.alignments.iter().flat_map(|alignments| msa_files(&id, alignments, &chain.kept));
    let main_msas = files.collect();
    Chain { main_msas, ..Chain::new(vec![id], chain.kept.iter().map(letter).collect()) }
}

/// The alignments of a chain under the names by which OpenFold3 tells their use.
fn msa_files(chain: &str, alignments: &ChainAlignments, kept: &[usize]) -> Vec<MsaFile> {
    let file = |name: &str, alignment: Alignment| MsaFile {
        name: name.to_owned(),
        representative: chain.to_owned(),
        path: PathBuf::new(),
        alignment: Arc::new(alignment),
    };
    let mut files = vec![file("colabfold_main", columns(&alignments.main, kept))];
    if let Some(pairing) = &alignments.pairing {
        let mut pairing = columns(pairing, kept);
        for name in pairing.names.iter_mut().skip(1) {
            *name = match species(name) {
                "" => "unknown".to_owned(),
                species => format!("tr|X|X_{species}/1-1"),
            };
        }
        files.push(file(PAIRING_NAME.0, pairing));
    }
    files
}

/// Some columns of an alignment, numbered from 1.
fn columns(alignment: &Alignment, kept: &[usize]) -> Alignment {
    let mut cut = Alignment { n_column: kept.len(), ..Alignment::default() };
    for row in 0..alignment.n_row() {
        let letters: Vec<u8> = kept.iter().map(|&k| alignment.row(row)[k - 1]).collect();
        let deletions: Vec<u16> = kept.iter().map(|&k| alignment.row_deletions(row)[k - 1]).collect();
        cut.push(alignment.names[row].clone(), &letters, &deletions);
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::io::a3m;
    use crate::models::openfold3::config::untrained;

    #[test]
    fn openfold3_is_broken_off_after_any_cycle_and_step() {
        let device = Device::Cpu;
        let model = OpenFold3::load(&untrained(), &Weights::untrained(1, &device)).expect("a small network");
        let network = Network::OpenFold3(Box::new(model));
        let folder = tempfile::tempdir().expect("a folder");
        let runner = Runner { network: &network, device: &device, folder: folder.path() };
        let told_until = |last: usize, n_step: usize| {
            let mut told = vec![];
            let settings = Settings { n_cycle: 2, n_step, ..Settings::FILTER };
            let made = runner.predict(&[ProteinChain::new("GAVK".into(), 0)], settings, 1, &mut |done| {
                told.push(done);
                if done == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            (told, made)
        };
        for last in 1..=5 {
            // So many steps that the test would not end if they were made.
            let (told, made) = told_until(last, 1_000_000);
            assert_eq!(told, (1..=last).collect::<Vec<_>>());
            assert!(matches!(made, Err(FilterError::Stopped)), "{last}: {:?}", made.err());
        }
        let (told, made) = told_until(usize::MAX, 3);
        assert_eq!(told, [1, 2, 3, 4, 5]);
        assert!(made.is_ok(), "{:?}", made.err());
    }

    #[test]
    fn openfold3_is_asked_for_what_is_kept() {
        let main = a3m::parse(">q\nMKTAY\n>a\nM-TgAY\n", usize::MAX).expect("an alignment");
        let text = ">q\nMKTAY\n>UniRef100_A_9606/1-5\nMKSAY\n>other\nMKSAF\n";
        let pairing = a3m::parse(text, usize::MAX).expect("an alignment");
        let alignments = Some(ChainAlignments { main: Arc::new(main), pairing: Some(Arc::new(pairing)) });
        let chain = ProteinChain { kept: vec![1, 4, 5], alignments, ..ProteinChain::new("MKTUY".into(), 0) };
        let asked = query_chain((2, &chain));
        assert_eq!((asked.sequence.as_str(), asked.ids), ("MXY", vec!["000002".to_owned()]));
        let [main, pairing] = &asked.main_msas[..] else { panic!("two alignments") };
        assert_eq!((main.name.as_str(), pairing.name.as_str()), ("colabfold_main", "uniprot_hits"));
        assert_eq!((main.alignment.row(1), main.alignment.row_deletions(1)), (&b"MAY"[..], &[0, 1, 0][..]));
        assert_eq!(pairing.alignment.names, ["q", "tr|X|X_9606/1-1", "unknown"]);
        assert_eq!(crate::query::species(&pairing.alignment.names[1]), Some("9606"));
    }
}
