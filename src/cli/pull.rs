//! `fold weights pull`: the official checkpoint from where its authors keep it, then the conversion.
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::exit::Usage;
use super::ui;
use super::weights::{Format, How, Model, advance, bar, convert, weights_folder};
use crate::weights::default_file;
use crate::weights::download::download;

#[derive(Debug, clap::Args)]
pub(super) struct PullArgs {
    /// Model to fetch
    model: Model,
    /// Fetch the checkpoint from this address, such as a mirror's, instead
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Keep the checkpoint in the weights folder when it has been converted
    #[arg(long)]
    keep_checkpoint: bool,
    #[command(flatten)]
    how: How,
}

/// Where a checkpoint is, and on what terms.
struct Source {
    url: &'static str,
    terms: &'static str,
}

impl Model {
    fn source(self) -> Source {
        match self {
            Self::Openfold3 => Source {
                url: "https://openfold3-data.s3.amazonaws.com/openfold3-parameters/of3-ob-2025-06-30-174k.pt",
                terms: "OpenFold3 0.5.0, about 2 GB, by the OpenFold project: Apache-2.0, https://github.com/aqlaboratory/openfold-3",
            },
            Self::ProtenixBase => Source {
                url: "https://pxdesign.tos-cn-beijing.volces.com/release_model/protenix_base_default_v0.5.0.pt",
                terms: "Protenix v0.5.0 base, 368 million parameters, by ByteDance: Apache-2.0, https://github.com/bytedance/Protenix",
            },
            Self::ProtenixMini => Source {
                url: "https://pxdesign.tos-cn-beijing.volces.com/release_model/protenix_mini_default_v0.5.0.pt",
                terms: "Protenix v0.5.0 mini, 134 million parameters, by ByteDance: Apache-2.0, https://github.com/bytedance/Protenix",
            },
            Self::ProtenixMiniTmpl => Source {
                url: "https://pxdesign.tos-cn-beijing.volces.com/release_model/protenix_mini_tmpl_v0.5.0.pt",
                terms: "Protenix v0.5.0 mini with given positions, 134 million parameters, by ByteDance: Apache-2.0, https://github.com/bytedance/Protenix",
            },
            Self::Af2 => Source {
                url: "https://storage.googleapis.com/alphafold/alphafold_params_2022-12-06.tar",
                terms: "AlphaFold2, 15 parameter sets, 5.3 GB, by DeepMind: CC BY 4.0, https://creativecommons.org/licenses/by/4.0",
            },
            Self::Pxdesign => Source {
                url: "https://pxdesign.tos-cn-beijing.volces.com/release_model/pxdesign_v0.1.0.pt",
                terms: "PXDesign 0.1.0, 0.6 GB, by ByteDance: Apache-2.0, https://github.com/bytedance/PXDesign",
            },
        }
    }

    /// Release names of all that the checkpoint holds.
    fn releases(self) -> Vec<(&'static str, String)> {
        let [base, mini, tmpl] = &weights_convert::PROTENIX;
        let one = |release: &'static weights_convert::Release| vec![(release.model, release.version.to_owned())];
        match self {
            Self::Openfold3 => one(&weights_convert::OPENFOLD3),
            Self::Pxdesign => one(&weights_convert::PXDESIGN),
            Self::ProtenixBase => one(base),
            Self::ProtenixMini => one(mini),
            Self::ProtenixMiniTmpl => one(tmpl),
            Self::Af2 => {
                let monomer = (1..=5).flat_map(|i| [("af2", format!("model_{i}")), ("af2", format!("model_{i}_ptm"))]);
                monomer.chain((1..=5).map(|i| ("af2-multimer", format!("model_{i}_multimer_v3")))).collect()
            }
        }
    }
}

pub(super) fn run(args: PullArgs) -> Result<ExitCode> {
    let source = args.model.source();
    let url = args.url.as_deref().unwrap_or(source.url);
    let name = url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| Usage(format!("--url {url}: ends in no file name")))?;
    let folder = weights_folder()?;
    if args.how.out.is_none() && all_there(&args, &folder) {
        eprintln!("fold: the weights are in {} already; fold weights verify checks them", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let checkpoint = folder.join(name);
    eprintln!("fold: {}", source.terms);
    if !checkpoint.is_file() {
        let bar = bar("downloading");
        let done = download(url, &checkpoint, &mut |done, total| advance(&bar, done, total));
        bar.finish_and_clear();
        done?;
    }
    let code = convert(args.model, &checkpoint, &args.how)?;
    if args.keep_checkpoint {
        ui::print(&format!("{}\n", checkpoint.display()))?;
    } else {
        std::fs::remove_file(&checkpoint).with_context(|| format!("{}: cannot be removed", checkpoint.display()))?;
    }
    Ok(code)
}

/// Is every weights file there that the checkpoint would give?
fn all_there(args: &PullArgs, folder: &Path) -> bool {
    let file = |(model, release): (&str, String)| {
        default_file(folder, model, &release, args.how.dtype.unwrap_or(Format::F32).name())
    };
    args.model.releases().into_iter().all(|release| file(release).is_file())
}
