//! Query files with a fault, the words that must be said of it, and where.

/// A folder's files, the first of them the query.
pub struct Case {
    pub name: &'static str,
    /// Name and content of each file.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Parts of the message, all of which must be there.
    pub said: Vec<&'static str>,
    /// A file that is named is not there, and nothing else is wrong.
    pub missing: bool,
}

fn case(name: &'static str, file: &'static str, content: impl AsRef<[u8]>, said: &[&'static str]) -> Case {
    Case { name, files: vec![(file, content.as_ref().to_vec())], said: said.to_vec(), missing: false }
}

/// An OpenFold3 query of these chains.
fn chains(name: &'static str, chains: &str, said: &[&'static str]) -> Case {
    case(name, "q.json", format!("{{\"queries\": {{\"q\": {{\"chains\": [\n{chains}\n]}}}}}}"), said)
}

/// A protein chain A of this sequence and more fields.
fn protein(name: &'static str, sequence: &str, fields: &str, said: &[&'static str]) -> Case {
    let chain =
        format!("{{\"molecule_type\": \"protein\", \"chain_ids\": \"A\", \"sequence\": \"{sequence}\"{fields}}}");
    chains(name, &chain, said)
}

impl Case {
    fn file(mut self, name: &'static str, content: &str) -> Self {
        self.files.push((name, content.into()));
        self
    }

    fn missing(self) -> Self {
        Self { missing: true, ..self }
    }
}

/// Every kind of fault that a query can have.
pub fn cases() -> Vec<Case> {
    const A: &str = r#"{"molecule_type": "protein", "chain_ids": ["A"], "sequence": "MKTV"}"#;
    const MAIN: &str = r#", "main_msa_file_paths": ["a/colabfold_main.a3m"]"#;
    let with = |fields: &str| format!(r#"{{"queries": {{"q": {{"chains": [{A}], {fields}}}}}}}"#);
    let main = "a/colabfold_main.a3m";
    let mut cases = vec![
        case("empty", "q.json", "", &["q.json: is empty"]),
        case("blank", "q.json", " \n ", &["q.json: is empty"]),
        case("no JSON", "q.json", "{\"queries\": {\n\"q\": }}", &["q.json:2: column 6: not JSON: "]),
        case("truncated JSON", "q.json", "{\"queries\": {\"q\": {\"chains\": [", &["q.json:1:", "Unterminated array"]),
        case("trailing comma", "q.json", "{\"queries\": {},}", &["q.json:1:", "Trailing commas are not allowed"]),
        case("comment", "q.json", "// mine\n{}", &["q.json:1:", "Comments are not allowed"]),
        case("two values", "q.json", "{} {}", &["q.json:1:", "more than one JSON value"]),
        case("deep nesting", "q.json", "[".repeat(100_000), &["q.json:1:", "Maximum nesting depth exceeded"]),
        case("not UTF-8", "q.json", b"{\n\"\xff\"}", &["q.json:2: byte 4 is not UTF-8 text"]),
        case("UTF-16", "q.json", b"\xff\xfe{\0}\0", &["q.json:1: is UTF-16 text: save it as UTF-8"]),
        case("a number", "q.json", "7", &["q.json:1: $: must be an object {...}, not a number"]),
        case("a list", "q.json", "[{\"name\": \"x\"}]", &["AlphaFold Server", "fold reads OpenFold3's"]),
        case("AlphaFold 3", "q.json", "{\"dialect\": \"alphafold3\", \"sequences\": []}", &["is an AlphaFold 3 query"]),
        case("no queries", "q.json", "{\"seeds\": [1]}", &["q.json:1: $: has no \"queries\""]),
        case("queries empty", "q.json", "{\"queries\": {}}", &["$.queries: holds no query"]),
        case("queries a list", "q.json", "{\"queries\": []}", &["$.queries: must be an object {...}, not a list"]),
        case("unknown key", "q.json", "{\"querys\": {}}", &["$.querys: unknown key; did you mean \"queries\"?"]),
        case(
            "key twice",
            "q.json",
            format!("{{\"queries\": {{\n\"q\": {{\"chains\": [{A}]}},\n\"q\": {{\"chains\": [{A}]}}}}}}"),
            &["q.json:3: $.queries.q: is there twice, first on line 2"],
        ),
        case(
            "seeds",
            "q.json",
            format!("{{\"seeds\": [1, -2, 1e99, 4294967296], \"queries\": {{\"q\": {{\"chains\": [{A}]}}}}}}"),
            &["$.seeds[1]: must be a whole number from 0 to 4294967295, not -2", "$.seeds[2]", "$.seeds[3]"],
        ),
        case("no seeds", "q.json", "{\"seeds\": [], \"queries\": {}}", &["$.seeds: has no seed"]),
        case("query without chains", "q.json", "{\"queries\": {\"q\": {}}}", &["$.queries.q: has no \"chains\""]),
        case(
            "name of a folder above",
            "q.json",
            format!("{{\"queries\": {{\"../../x\": {{\"chains\": [{A}]}}}}}}"),
            &["$.queries[\"../../x\"]: the query's name starts with '.'"],
        ),
        case(
            "name with a slash",
            "q.json",
            format!("{{\"queries\": {{\"a/b\": {{\"chains\": [{A}]}}}}}}"),
            &["$.queries[\"a/b\"]: '/' in the query's name"],
        ),
        case("bonds", "q.json", with("\"covalent_bonds\": [1]"), &["$.queries.q.covalent_bonds: covalent bonds are not served"]),
        case("pocket", "q.json", with("\"pocket_constraint\": {\"x\": 1}"), &["$.queries.q.pocket_constraint: pocket"]),
        case("flag", "q.json", with("\"use_msas\": \"no\""), &["$.queries.q.use_msas: must be true or false, not a string"]),
        case("key of a query", "q.json", with("\"use_msa\": true"), &["did you mean \"use_msas\"?"]),
        chains("no chain", "", &["$.queries.q.chains: holds no chain"]),
        chains("chain a string", "\"MKTV\"", &["q.json:2: $.queries.q.chains[0]: must be an object {...}, not a string"]),
        chains(
            "chain id twice",
            &format!("{A},\n{{\"molecule_type\": \"protein\", \"chain_ids\": [\"B\", \"A\"], \"sequence\": \"MK\"}}"),
            &["q.json:3: $.queries.q.chains[1].chain_ids[1]: chain id \"A\" is used twice", "chains[0].chain_ids[0]"],
        ),
        chains(
            "no chain id",
            r#"{"molecule_type": "protein", "chain_ids": [], "sequence": "MK"}, {"molecule_type": "protein", "sequence": "MK"}"#,
            &["chains[0].chain_ids: holds no chain id", "chains[1]: has no \"chain_ids\""],
        ),
        chains(
            "bad chain id",
            r#"{"molecule_type": "protein", "chain_ids": ["", "A B", "é"], "sequence": "MK"}"#,
            &["chain_ids[0]: \"\" is no chain id", "chain_ids[1]: \"A B\" is no chain id", "chain_ids[2]"],
        ),
        chains(
            "chain id a number",
            r#"{"molecule_type": "protein", "chain_ids": [1], "sequence": "MK"}"#,
            &["chain_ids[0]: must be a string, not a number"],
        ),
        chains("no molecule", r#"{"chain_ids": "A", "sequence": "MK"}"#, &["chains[0]: has no \"molecule_type\""]),
        chains(
            "unknown molecule",
            r#"{"molecule_type": "protien", "chain_ids": "A", "sequence": "MK"}"#,
            &["\"protien\" is none of protein, rna, dna, ligand; did you mean \"protein\"?"],
        ),
        chains(
            "number of a molecule",
            r#"{"molecule_type": 4, "chain_ids": "A", "sequence": "MK"}"#,
            &["molecule_type: must be a whole number from 0 to 3, not 4"],
        ),
        chains("DNA", r#"{"molecule_type": "DNA", "chain_ids": "A", "sequence": "GATT"}"#, &["dna chains are not served yet"]),
        chains("RNA", r#"{"molecule_type": 1, "chain_ids": "A", "sequence": "GAUU"}"#, &["rna chains are not served yet"]),
        chains(
            "ligand",
            r#"{"molecule_type": "ligand", "chain_ids": "L", "smiles": "CCO"}"#,
            &["chains[0].molecule_type: ligand chains are not served yet"],
        ),
        chains("no sequence", r#"{"molecule_type": "protein", "chain_ids": "A"}"#, &["a protein chain needs a \"sequence\""]),
        protein("empty sequence", "", "", &["chains[0].sequence: is empty"]),
        protein("selenocysteine", "MKU", "", &["'U' at position 3 is not an amino acid: selenocysteine is not served"]),
        protein("ambiguous letters", "MBZJO", "", &["'B' at position 2", "write D or N", "'Z'", "'J' at position 4", "'O'"]),
        protein("lower case", "mktv", "", &["lower-case letters from position 1 on: write the sequence in upper case"]),
        protein("gap and stop", "MK-V*", "", &["'-' at position 3", "a query has no gaps", "'*' at position 5"]),
        protein("white space", "MK TV\\n", "", &["' ' at position 3 is not an amino acid: take it out", "'\\n' at position 6"]),
        protein("other script", "MКTV", "", &["'К' at position 2 is not an amino acid"]),
        protein("unknown chain key", "MKTV", ", \"sequnce\": \"M\"", &["sequnce: unknown key; did you mean \"sequence\"?"]),
        protein("key far from any", "MKTV", ", \"zzz\": 1", &["zzz: unknown key; known here: molecule_type, chain_ids"]),
        protein("flag in a chain", "MKTV", ", \"use_msas\": false", &["use_msas: belongs to the query, beside \"chains\""]),
        protein("cyclic", "MKTV", ", \"cyclic\": 1", &["cyclic: must be true or false, not a number"]),
        protein("modified residue", "MKTV", ", \"non_canonical_residues\": {\"2\": \"MLY\"}", &["modified residues are not served"]),
        protein("template", "MKTV", ", \"template_cif_paths\": [\"x.cif\"]", &["template_cif_paths: templates are not served yet"]),
        protein("smiles in a protein", "MKTV", ", \"smiles\": \"C\"", &["smiles: is for ligands, and this is a protein chain"]),
        protein("alignment missing", "MKTV", MAIN, &["main_msa_file_paths[0]: no such file: ", main])
            .missing(),
        protein("alignment path empty", "MKTV", ", \"main_msa_file_paths\": \"\"", &["no such file: the path is empty"]).missing(),
        protein("alignment paths a number", "MKTV", ", \"main_msa_file_paths\": 3", &["a string or a list of strings, not a number"]),
        protein("row length", "MKTV", MAIN, &[main, "line 3: row 2 (hit) has 3 columns, the first row has 4"])
            .file(main, ">q\nMKTV\n>hit\nMKT\n"),
        protein("first row of another length", "MKTV", MAIN, &[main, "it has 5 columns, the sequence has 4 residues"])
            .file(main, ">q\nMKTVA\n"),
        protein("first row is not the query", "MKTV", MAIN, &[main, "the first row must be the query: column 3 has S"])
            .file(main, ">q\nMKSV\n"),
        protein("odd character in an alignment", "MKTV", MAIN, &[main, "line 4: row hit: '.' before column 2"])
            .file(main, ">q\nMKTV\n>hit\nM.TV\n"),
        protein("alignment empty", "MKTV", MAIN, &[main, "line 1: no aligned sequence"]).file(main, ""),
        protein("alignment is no a3m", "MKTV", MAIN, &[main, "line 1: text before the first '>'"]).file(main, "MKTV\n"),
        protein(
            "alignment name",
            "MKTV",
            ", \"main_msa_file_paths\": [\"a/colabfold_mian.a3m\"]",
            &["and colabfold_mian is none; did you mean colabfold_main?"],
        )
        .file("a/colabfold_mian.a3m", ">q\nMKTV\n"),
        protein("alignment type", "MKTV", ", \"main_msa_file_paths\": [\"a/x.npz\"]", &[".npz alignments are not served"])
            .file("a/x.npz", "PK"),
        protein("alignment text", "MKTV", ", \"main_msa_file_paths\": [\"a/x.txt\"]", &["are .a3m or .sto files, not .txt"])
            .file("a/x.txt", "x"),
        protein("folder without alignments", "MKTV", ", \"main_msa_file_paths\": [\"a\"]", &["folder a has no .a3m or .sto file"])
            .file("a/readme.txt", "x"),
        protein("only rows to pair", "MKTV", ", \"main_msa_file_paths\": [\"a\"]", &["uniprot_hits alone gives no main rows"])
            .file("a/uniprot_hits.a3m", ">q\nMKTV\n"),
        protein(
            "paired under main",
            "MKTV",
            ", \"main_msa_file_paths\": [\"a/colabfold_paired.a3m\"]",
            &["it belongs under paired_msa_file_paths"],
        )
        .file("a/colabfold_paired.a3m", ">q\nMKTV\n"),
        protein("bad Stockholm", "MKTV", ", \"main_msa_file_paths\": [\"a\"]", &["line 2: row 2 (h) has 3 columns"])
            .file("a/uniref90_hits.sto", "q MKTV\nh MKT\n"),
        chains(
            "two files of a name",
            r#"{"molecule_type": "protein", "chain_ids": "A", "sequence": "MK", "main_msa_file_paths": ["a", "b"]}"#,
            &["main_msa_file_paths[1]: two alignments are named colabfold_main"],
        )
        .file("a/colabfold_main.a3m", ">q\nMK\n")
        .file("b/colabfold_main.a3m", ">q\nMK\n"),
        chains(
            "paired rows",
            r#"{"molecule_type": "protein", "chain_ids": "A", "sequence": "MK", "paired_msa_file_paths": "a"},
               {"molecule_type": "protein", "chain_ids": "B", "sequence": "TV", "paired_msa_file_paths": "b"}"#,
            &["q.json:3: $.queries.q.chains[1].paired_msa_file_paths: colabfold_paired has 1 rows, that of chain A has 2"],
        )
        .file("a/colabfold_paired.a3m", ">q\nMK\n>h\nMR\n")
        .file("b/colabfold_paired.a3m", ">q\nTV\n"),
        chains(
            "species",
            r#"{"molecule_type": "protein", "chain_ids": "A", "sequence": "MK", "main_msa_file_paths": "a"},
               {"molecule_type": "protein", "chain_ids": "B", "sequence": "TV", "main_msa_file_paths": "b"}"#,
            &["chains[1].main_msa_file_paths", "row 2: \"hit 1\" does not tell the species"],
        )
        .file("a/uniprot_hits.a3m", ">q\nMK\n>tr|Q1|Q1_HUMAN/1-2\nMR\n")
        .file("a/colabfold_main.a3m", ">q\nMK\n")
        .file("b/uniprot_hits.a3m", ">q\nTV\n>hit 1\nTA\n")
        .file("b/colabfold_main.a3m", ">q\nTV\n"),
        case("FASTA without >", "q.fasta", "MKTV\n", &["q.fasta:1: a sequence without a '>' line before it"]),
        case("FASTA letters", "q.fasta", ">a\nMKTV\n>b\nMK1:MU\n", &["q.fasta:3: record b, chain A: '1' at position 3", "chain B: 'U'"]),
        case("FASTA record empty", "q.fasta", ">a\n>b\nMK\n", &["q.fasta:1: record a: has no sequence"]),
        case("FASTA chain empty", "q.fasta", ">a\nMK::TV\n", &["q.fasta:1: record a, chain B: is empty"]),
        case("FASTA name twice", "q.fasta", ">a x\nMK\n>a y\nTV\n", &["q.fasta:3: record a: the name is used twice, first on line 1"]),
        case("FASTA of DNA", "q.fasta", ">a\ndna|GATT:MK\n", &["record a, chain A: dna is not served yet"]),
        case("FASTA of nothing", "q.fasta", "; nothing\n", &["q.fasta: holds no record"]),
        case("a3m query gapped", "q.a3m", ">q\nMK-V\n", &["q.a3m:2: row 1: '-' at position 3"]),
        case("a3m row length", "q.a3m", ">q\nMK\n>h\nMKT\n", &["q.a3m:3: row 2 (h) has 3 columns, the first row has 2"]),
        case("a3m lengths", "q.a3m", "#3,3\t1,1\n>q\nMKTV\n", &["q.a3m:1: the lengths in the first line add up to 6"]),
        case("unknown file", "q.pdb", "ATOM\n", &["q.pdb:1: is no query: fold reads OpenFold3's .json, .fasta and .a3m"]),
    ];
    // Several faults at once, in the order of the file.
    cases.push(chains(
        "many faults",
        r#"{"molecule_type": "protein", "chain_ids": "A", "sequence": "MKUV", "cyclc": true},
           {"molecule_type": "rna", "chain_ids": "A"}"#,
        &["4 faults", "cyclc: unknown key; did you mean \"cyclic\"?", "'U' at position 3", "used twice", "rna chains"],
    ));
    cases
}
