//! Which folder of `src/` imports which: the arrows of docs/LAYOUT.md and no others.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The `arrows` block of docs/LAYOUT.md: folder -> what it may import.
fn allowed(page: &str) -> Result<BTreeMap<&str, BTreeSet<&str>>> {
    let block = page.split("```arrows\n").nth(1).context("no arrows block in docs/LAYOUT.md")?;
    let block = block.split("```").next().unwrap_or_default();
    block
        .lines()
        .map(|line| {
            let (from, to) = line.split_once("->").with_context(|| line.to_owned())?;
            Ok((from.trim(), to.split_whitespace().collect()))
        })
        .collect()
}

/// Every `crate::NAME` of the Rust files below `folder`, with the file it is in; comments do not count.
fn imports(folder: &Path, found: &mut BTreeSet<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            imports(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            for line in fs::read_to_string(&path)?.lines().filter(|l| !l.trim_start().starts_with("//")) {
                for rest in line.split("crate::").skip(1) {
                    let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                    found.insert((name, path.display().to_string()));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn imports_run_one_way() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/LAYOUT.md"))?;
    let allowed = allowed(&page)?;
    let mut wrong = Vec::new();
    let mut folders = 0;
    for entry in fs::read_dir(root.join("src"))? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        folders += 1;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("src/{name} has no line"));
            continue;
        };
        let mut found = BTreeSet::new();
        imports(&path, &mut found)?;
        let bad = found.into_iter().filter(|(to, _)| *to != name && !to.is_empty() && !may.contains(to.as_str()));
        wrong.extend(bad.map(|(to, file)| format!("{name} -> {to} in {file}")));
    }
    assert!(folders > 5, "only {folders} folders in src/");
    assert!(wrong.is_empty(), "not in docs/LAYOUT.md: {wrong:#?}");
    Ok(())
}
