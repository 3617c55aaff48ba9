//! Every fault of a task file, with the words that say it.
use std::path::Path;

use super::{Numbering, Task, parse};
use crate::chem::dictionary::Dictionary;

fn read(name: &str, text: &str) -> Result<Vec<Task>, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pxdesign").join(name);
    parse(&path, text.as_bytes(), &Dictionary::built_in()).map_err(|e| e.to_string())
}

/// A task against `file` with these chains, on lines 5 and on.
fn task(file: &str, chains: &str) -> Result<Task, String> {
    let text =
        format!("binder_length: 20\ntarget:\n  file: {file}\n  chains:\n    {}\n", chains.replace('\n', "\n    "));
    read("t.yaml", &text).map(|mut tasks| tasks.remove(0))
}

#[track_caller]
fn fails(file: &str, chains: &str, said: &[&str]) {
    let message = task(file, chains).unwrap_err();
    for words in said {
        assert!(message.contains(words), "no {words:?} in\n{message}");
    }
}

#[test]
fn all_faults_at_once_with_their_lines() {
    let text = "\
task_nam: x
binder_length: eighty
target:
  file: 5o45.cif
  chain: A
  chains:
    A: {crop: [\"1-50\", 60-55], hotspots: [40, 52, 400], hotspot: [1], msa: none}
    H: all
";
    let message = read("t.yaml", text).unwrap_err();
    let lines: Vec<&str> = message.lines().collect();
    let expected = [
        (1, "task_nam: unknown key; did you mean \"task_name\"?"),
        (2, "binder_length: must be a whole number from 1 to 4096, not the text \"eighty\""),
        (5, "target.chain: unknown key; did you mean \"chains\"?"),
        (7, "target.chains.A.hotspot: unknown key; did you mean \"hotspots\"?"),
        (7, "target.chains.A.crop[1]: 60-55: the range ends before it begins: write 55-60"),
        (7, "target.chains.A.msa: no such file: "),
        (7, "target.chains.A.hotspots[1]: hotspot 52 of chain A is outside the crop (1-50)"),
        (7, "target.chains.A.hotspots[2]: hotspot: chain A has no residue 400: it has 1-129"),
        (8, "target.chains.H: chain \"H\" is not in the structure; it has A ("),
    ];
    for (line, words) in expected {
        let found = lines.iter().any(|l| l.contains(&format!("t.yaml:{line}: {words}")));
        assert!(found, "no line {line} with {words:?} in\n{message}");
    }
    assert_eq!(lines.len(), expected.len() + 1, "{message}"); // both alignment files
}

#[test]
fn chains_crops_and_hotspots_of_mmcif() {
    let good = task("5o45.cif", "A: {crop: \"38-52,97\", hotspots: [40]}\nB: ALL").unwrap();
    let kept = |i: usize| good.chains[i].residues.iter().filter(|r| r.kept).count();
    assert_eq!((good.name.as_str(), good.numbering, kept(0), kept(1)), ("t", Numbering::Sequence, 16, 15));
    let hotspots: Vec<i32> = good.chains[0].residues.iter().filter(|r| r.hotspot).map(|r| r.number).collect();
    assert_eq!(hotspots, [40]);
    fails("5o45.cif", "A: some", &["t.yaml:5: target.chains.A: must be all, or a map of crop, hotspots and msa"]);
    fails("5o45.cif", "A: {crop: 10}", &["is the number 10, which PXDesign passes over: write [10]"]);
    fails("5o45.cif", "A: {crop: []}", &["has no range"]);
    fails("5o45.cif", "A: {crop: [\"1..5\"]}", &["\"1..5\" is no range of residues: write such as 1-50 or 7"]);
    fails("5o45.cif", "A: {crop: [\"100-200\"]}", &["100-200: chain A has no residue 200: it has 1-129"]);
    fails("5o45.cif", "A: {hotspots: \"40,99\"}", &["must be a list of residues, not a text: write [40, 99]"]);
    fails("5o45.cif", "A: {hotspots: [40, 40]}", &["hotspot 40 of chain A is there twice"]);
    fails("5o45.cif", "A: {hotspots: [1.5]}", &["\"1.5\" is no residue"]);
    fails("5o45.cif", "A: all\nA: all", &["t.yaml:6: target.chains.A: is there twice, first on line 5"]);
    fails("5o45.cif", "{}", &["target.chains: names no chain"]);
    fails("none.cif", "A: all", &["target.file: no such file: "]);
    fails("crop.yaml", "A: all", &["crop.yaml: line 1: no atom: an mmCIF or PDB file is needed"]);
    fails("x.pkl.gz", "A: all", &["name the .cif or .pdb file it was made from"]);
}

#[test]
fn pdb_files_count_as_their_authors() {
    let good = task("4gyt.pdb", "B: {crop: [15-20], hotspots: [17]}\nA: {crop: \"44-56,65\"}").unwrap();
    assert_eq!((good.numbering, good.chains[0].id.as_str()), (Numbering::Author, "B"));
    let authors =
        |i: usize| good.chains[i].residues.iter().filter(|r| r.kept).map(|r| r.author.clone()).collect::<Vec<_>>();
    assert_eq!(authors(0), ["15", "16", "17", "18", "19", "20"]);
    // 50 to 52 are not in the file.
    assert_eq!(authors(1), ["44", "45", "46", "47", "48", "49", "53", "54", "55", "56", "65"]);
    fails("4gyt.pdb", "A: {hotspots: [51]}", &["chain A has no residue 51 (authors' numbers): it has 7-49, 53-70"]);
    fails("4gyt.pdb", "A: {crop: [\"1-5\"]}", &["1-5: chain A has no residue 1"]);
    fails("4gyt.pdb", "C: all", &["chain \"C\" is not in the structure; it has A (61 residues), B (64 residues)"]);
}

#[test]
fn the_json_form() {
    let text = r#"[{"name": "a", "condition": {"structure_file": "5o45.cif", "filter": {"chain_id": ["A"], "crop": {"A": "38-52"}},
        "msa": {}}, "hotspot": {"A": [40]}, "generation": [{"type": "protein", "length": 7, "count": 1}]}]"#;
    let tasks = read("t.json", text).unwrap();
    assert_eq!((tasks.len(), tasks[0].name.as_str(), tasks[0].binder_length), (1, "a", 7));
    assert_eq!(tasks[0].chains[0].residues.iter().filter(|r| r.kept).count(), 15);
    let fails = |from: &str, to: &str, said: &str| {
        assert!(text.contains(from), "{from}");
        let message = read("t.json", &text.replace(from, to)).unwrap_err();
        assert!(message.contains(said), "no {said:?} in\n{message}");
    };
    fails(
        "\"hotspot\": {\"A\"",
        "\"hotspot\": {\"B\"",
        "$[0].hotspot.B: chain \"B\" is not in filter.chain_id, which has A",
    );
    fails(
        "\"count\": 1",
        "\"count\": 2",
        "$[0].generation[0].count: must be a whole number from 1 to 1, not the number 2",
    );
    fails("\"protein\"", "\"rna\"", "must be protein");
    fails("\"name\": \"a\", ", "", "$[0]: has no \"name\"");
    fails("[\"A\"]", "[]", "names no chain");
    fails("\"length\"", "\"lenght\"", "unknown key; did you mean \"length\"?");
    let message = read("t.json", "[]").unwrap_err();
    assert!(message.contains("holds no task"), "{message}");
    let twice = format!("[{0}, {0}]", text.trim_start_matches('[').trim_end_matches(']'));
    assert!(read("t.json", &twice).unwrap_err().contains("two tasks are called \"a\""));
}

#[test]
fn files_of_other_programs() {
    let fails = |text: &str, said: &str| {
        let message = read("t.yaml", text).unwrap_err();
        assert!(message.contains(said), "no {said:?} in\n{message}");
    };
    fails("version: 1\nsequences: []\n", "is a query of Boltz or AlphaFold 3");
    fails("entities: []\n", "is a design of BoltzGen");
    fails("binder_length: 3\n", "has no \"target\"");
    fails("binder_length: *none\n", "t.yaml:1: not YAML");
    fails("- 1\n- 2\n", "must be a map");
}

/// A small file whose authors count otherwise, with a residue that nobody knows, an alternative and an unseen atom.
const SMALL: &str = "\
data_x
loop_
_entity_poly.entity_id
_entity_poly.type
1 'polypeptide(L)'
loop_
_entity_poly_seq.entity_id
_entity_poly_seq.num
_entity_poly_seq.mon_id
1 1 GLY
1 2 SER
1 3 ALA
loop_
_atom_site.group_PDB
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.auth_asym_id
_atom_site.auth_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
ATOM N N . SER A 1 2 H 102 0 0 0
ATOM C CA A SER A 1 2 H 102 1 0 0
ATOM C CA B SER A 1 2 H 102 2 0 0
ATOM C CB B SER A 1 2 H 102 2 1 0
ATOM N N . ALA A 1 3 H 103 3 0 0
HETATM X X . QQQ B 2 . H 201 9 9 9
";

fn small(chains: &str) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.cif"), SMALL).unwrap();
    let text = format!("binder_length: 2\ntarget:\n  file: s.cif\n  chains:\n    {chains}\n");
    let tasks = parse(&folder.path().join("t.yaml"), text.as_bytes(), &Dictionary::built_in());
    tasks.map(|mut tasks| tasks.remove(0)).map_err(|e| e.to_string())
}

#[test]
fn both_numberings_and_unknown_components() {
    let fails = |chains: &str, said: &str| {
        let message = small(chains).unwrap_err();
        assert!(message.contains(said), "no {said:?} in\n{message}");
    };
    fails(
        "A: {hotspots: [102]}",
        "chain A has no residue 102: it has 1-3; numbers are those of the sequence (label_seq_id): the authors' 102 is 2",
    );
    fails("A: {hotspots: [1]}", "hotspot: residue 1 of chain A has no coordinates in the structure");
    fails("A: {crop: [\"1-1\"]}", "no residue of chain A there has coordinates");
    fails(
        "H: all",
        "the authors' chain H is A, B here (label_asym_id); it has A (2 residues, author's H), B (QQQ, author's H)",
    );
    fails("B: all", "component QQQ is not inside the program: give its file");
    let chain = small("A: all").unwrap().chains.remove(0);
    assert_eq!(chain.sequence, "GSA");
    let names =
        |i: usize| chain.residues[i].atoms.iter().map(|a| (a.name.as_str(), a.position.is_some())).collect::<Vec<_>>();
    assert_eq!(names(0), [("N", true), ("CA", true), ("C", false), ("O", false), ("CB", false), ("OG", false)]);
    assert_eq!(names(1).last(), Some(&("OXT", false)));
}
