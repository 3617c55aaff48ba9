//! Query files, right and wrong, read by the library.
#[path = "../common/bad_queries.rs"]
mod bad_queries;

use std::path::Path;

use fold::query::{self, FaultKind};

/// Each fault is told with its place and with what to write instead; nothing is told of a case that is not wrong.
#[test]
fn every_fault_is_named_with_its_place() {
    for case in bad_queries::cases() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &case.files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let path = folder.path().join(case.files[0].0);
        let errors = query::read(&path).expect_err(case.name);
        let message = errors.to_string();
        for words in &case.said {
            match words.strip_suffix(" faults") {
                Some(n) => assert_eq!(errors.faults.len().to_string(), n, "{}:\n{message}", case.name),
                None => assert!(message.contains(words), "{}: no {words:?} in\n{message}", case.name),
            }
        }
        let kind = if case.missing { FaultKind::Missing } else { FaultKind::Data };
        assert_eq!(errors.kind(), kind, "{}:\n{message}", case.name);
        assert_eq!(message.lines().count(), errors.faults.len(), "{}: one line a fault\n{message}", case.name);
    }
    assert!(bad_queries::cases().len() >= 25);
}

#[test]
fn a_file_that_is_not_there_and_a_folder() {
    let errors = query::read(Path::new("no/such/q.json")).unwrap_err();
    assert_eq!(errors.to_string(), "no/such/q.json: no such file");
    assert_eq!(errors.kind(), FaultKind::Missing);
    let errors = query::read(Path::new("tests")).unwrap_err();
    assert!(errors.to_string().starts_with("tests: is a folder: name a query file"));
}

/// What is allowed: other line ends, a byte-order mark, null for absent, a string for a list, any case, numbers.
#[test]
fn what_may_be_written_in_several_ways() {
    let text = "\u{feff}{\"seeds\": [1, 4294967295],\r\n\"queries\": {\"one two\": {\"query_name\": null, \"covalent_bonds\": [],
        \"pocket_constraint\": null, \"chains\": [{\"molecule_type\": \"PROTEIN\", \"chain_ids\": \"A\", \"sequence\": \"MX\",
        \"smiles\": null, \"template_cif_paths\": [], \"non_canonical_residues\": {}, \"cyclic\": true},
        {\"molecule_type\": 0, \"chain_ids\": [\"B\", \"c\"], \"sequence\": \"M\\u004b\", \"description\": \"x\"}]}}}";
    let set = query::parse(Path::new("q.json"), text.as_bytes()).unwrap();
    assert_eq!(set.seeds, Some(vec![1, u32::MAX]));
    let query = &set.queries[0];
    assert_eq!((query.name.as_str(), query.use_msas), ("one two", true));
    assert_eq!((query.chains[0].cyclic, query.chains[1].sequence.as_str()), (true, "MK"));
    assert_eq!(query.chains[1].ids, ["B", "c"]);
}

#[test]
fn fasta_records_are_queries_and_colons_separate_chains() {
    let text = ">sp|P1|X Some protein\nmkt\nv : GS\n\n>two\nMK\n";
    let set = query::parse(Path::new("q.fasta"), text.as_bytes()).unwrap();
    let names: Vec<_> = set.queries.iter().map(|q| q.name.as_str()).collect();
    assert_eq!(names, ["sp_P1_X", "two"]);
    let chains: Vec<_> = set.queries[0].chains.iter().map(|c| (c.ids[0].as_str(), c.sequence.as_str())).collect();
    assert_eq!(chains, [("A", "MKTV"), ("B", "GS")]);
    let set = query::parse(Path::new("dir/job.fa"), b">\nMK\n").unwrap();
    assert_eq!(set.queries[0].name, "job");
}

/// Paths start beside the query, or else in the working folder (the package's, in tests).
#[test]
fn alignments_are_found_beside_the_query_and_in_the_working_folder() {
    let folder = tempfile::tempdir().unwrap();
    let query = |path: &str| {
        let chain =
            r#"{"molecule_type": "protein", "chain_ids": "A", "sequence": "MKTAYIAKQR", "main_msa_file_paths": "#;
        let text = format!(r#"{{"queries": {{"q": {{"chains": [{chain}{path:?}}}]}}}}}}"#);
        std::fs::write(folder.path().join("q.json"), text).unwrap();
        query::read(&folder.path().join("q.json")).map(|set| set.queries[0].chains[0].main_msas.clone())
    };
    let found = query("fixtures/features/many/one").unwrap();
    let names: Vec<_> = found.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["bfd_uniref_hits", "colabfold_main", "uniref90_hits"]);
    let missing = query("fixtures/features/many/two").unwrap_err().to_string();
    assert!(missing.contains("no such file: neither ") && missing.contains("(beside the query) nor"), "{missing}");
    assert!(missing.ends_with("fixtures/features/many/two (in the working folder)"), "{missing}");
    std::fs::create_dir_all(folder.path().join("fixtures/features/many")).unwrap();
    std::fs::write(folder.path().join("fixtures/features/many/one"), "").unwrap();
    assert!(query("fixtures/features/many/one").unwrap_err().to_string().contains("are .a3m or .sto files"));
}

/// No bytes make the readers panic: truncations and mutations of every good and bad file.
#[test]
fn no_bytes_make_the_readers_panic() {
    let good = std::fs::read("fixtures/features/queries.json").unwrap();
    let alignment = std::fs::read("fixtures/features/pair/one/uniprot_hits.a3m").unwrap();
    let complex = b"#4,3\t2,1\n>101\t102\nMKTVGSG\n>x\nM-aTVGS-\n>101\nMKTV---\n".to_vec();
    let stockholm = std::fs::read("fixtures/features/many/one/uniref90_hits.sto").unwrap();
    let files =
        [("q.json", good), ("q.a3m", alignment), ("q.a3m", complex), ("q.fasta", b">a b\nMK:TV\n>c\nGS\n".to_vec())];
    let mut state = 1u64;
    let mut next = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % n.max(1)
    };
    let pieces: [&[u8]; 12] =
        [b"\"", b"{", b"]", b",", b"\xff", b"\0", b"null", b"1e999", b"\\ud800", b"#", b">", "\u{1f9ec}".as_bytes()];
    for (name, bytes) in files {
        let path = Path::new("fixtures/features").join(name);
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
            let _ = query::parse(&path, &bytes[..end]);
        }
        for _ in 0..400 {
            let mut bytes = bytes.clone();
            for _ in 0..=next(3) {
                let (at, piece) = (next(bytes.len()), pieces[next(pieces.len())]);
                match next(3) {
                    0 => drop(bytes.splice(at..at, piece.iter().copied())),
                    1 => bytes[at] = next(256) as u8,
                    _ => drop(bytes.drain(at..(at + 1 + next(20)).min(bytes.len()))),
                }
            }
            let _ = query::parse(&path, &bytes);
        }
    }
    for end in 0..stockholm.len() {
        let _ = fold::io::stockholm::parse(&String::from_utf8_lossy(&stockholm[..end]), 100);
    }
}
