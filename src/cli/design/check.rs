//! `fold design check`: what a task asks for, without weights.
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::chem::dictionary::Dictionary;
use crate::pipelines::design::check::{ChainSummary, Summary, summary, write};
use crate::query::pxdesign::{self, Numbering, Task};

/// Read a task and its target, say all that is wrong, show crop and hotspots; needs no weights
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Task file: PXDesign's .yaml, or its .json with several tasks
    task: PathBuf,
    /// Folder for <task>_target.cif, with crop and hotspots marked, and a PyMOL script; made if missing
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Dictionary of components that are not inside the program, mmCIF from <https://www.rcsb.org/ligand>; may be repeated
    #[arg(long, value_name = "FILE")]
    components: Vec<PathBuf>,
    /// Print each task as a line of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut dictionary = Dictionary::built_in();
    for file in &args.components {
        dictionary.add(file)?;
    }
    for task in pxdesign::read(&args.task, &dictionary)? {
        let files = write(&task, &args.out)?;
        let summary = summary(&task);
        if args.json {
            let mut line = serde_json::to_value(&summary)?;
            line["files"] = json!(files);
            println!("{line}");
        } else {
            print!("{}", table(&task, &summary));
            println!("wrote {} and {}", files[0].display(), files[1].display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The summary in lines: the chains as a table, sums, notes.
fn table(task: &Task, summary: &Summary) -> String {
    let head = ["chain", "is", "in samples", "residues", "kept", "tokens", "atoms", "unseen"].map(str::to_owned);
    let row = |c: &ChainSummary| {
        let id = if c.id == c.author { c.id.clone() } else { format!("{} (author's {})", c.id, c.author) };
        let residues = if c.seen == c.length { c.seen.to_string() } else { format!("{} of {}", c.seen, c.length) };
        let numbers = [c.kept, c.tokens, c.atoms, c.atoms_unseen].map(|n| n.to_string());
        let [kept, tokens, atoms, unseen] = numbers;
        [id, c.molecule.to_owned(), c.output.clone(), residues, kept, tokens, atoms, unseen]
    };
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(summary.chains.iter().map(row)).collect();
    let widths: [usize; 8] = std::array::from_fn(|i| rows.iter().map(|r| r[i].len()).max().unwrap_or(0));
    let mut text = format!(
        "{}: a binder of {} residues against {}\n",
        summary.task,
        summary.binder_length,
        summary.structure.display()
    );
    for row in rows {
        let line: Vec<String> = row.iter().zip(widths).map(|(word, width)| format!("{word:width$}")).collect();
        text += &format!("  {}\n", line.join("  ").trim_end());
    }
    let both = |own: &str, authors: &str| {
        let [first, second] = match task.numbering {
            Numbering::Sequence => [own, authors],
            Numbering::Author => [authors, own],
        };
        let other = match task.numbering {
            Numbering::Sequence => "authors' numbers",
            Numbering::Author => "in the sequence",
        };
        if own == authors { first.to_owned() } else { format!("{first} ({other} {second})") }
    };
    for chain in &summary.chains {
        text += &format!("  chain {}: residues {}\n", chain.id, both(&chain.crop, &chain.crop_author));
        if !chain.hotspots.is_empty() {
            let own: Vec<String> = chain.hotspots.iter().map(i32::to_string).collect();
            text += &format!(
                "  chain {}: hotspots {}\n",
                chain.id,
                both(&own.join(", "), &chain.hotspots_author.join(", "))
            );
        }
    }
    let memory = summary.memory_bytes as f64 / 1e9;
    text += &format!("  {} tokens, {} atoms with the binder", summary.tokens, summary.atoms);
    text += &format!("; about {memory:.1} GB for a sample at a time\n");
    summary.notes.iter().for_each(|note| text += &format!("  note: {note}\n"));
    text
}
