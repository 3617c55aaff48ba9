//! Parameter files of AlphaFold2: the small ones of fixtures/af2, alone and in a tar archive, and damaged ones.
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use weights_convert::{
    ALPHAFOLD2, Checkpoint, Error, Map, Model, Options, Report, convert, parameter_files, read_header,
};
use zip::write::{SimpleFileOptions, ZipWriter};

const MODELS: [&str; 2] = ["model_1_ptm", "model_1_multimer_v3"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/af2").join(name)
}

fn parameters(model: &str) -> PathBuf {
    fixture(&format!("params_{model}.npz"))
}

fn options<'a>() -> Options<'a> {
    Options { model: Model::AlphaFold2, ..Options::default() }
}

fn converted(source: &Path, member: Option<&str>) -> Result<(Report, Vec<u8>), Error> {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("w.safetensors");
    let report = convert(source, &target, Options { member, ..options() })?;
    Ok((report, fs::read(target).unwrap()))
}

/// The bits of all numbers, sorted.
fn sorted<'a>(tensors: impl Iterator<Item = &'a [u8]>) -> Vec<u32> {
    let mut bits: Vec<u32> = tensors.flat_map(|t| t.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b))).collect();
    bits.sort_unstable();
    bits
}

/// Every number of the file is in the converted one, once; some tensors have the order that numpy gives them.
#[test]
fn every_value_is_kept_once() {
    for model in MODELS {
        let (report, bytes) = converted(&parameters(model), None).unwrap();
        let got = SafeTensors::deserialize(&bytes).unwrap();
        let mut checkpoint = Checkpoint::open_npz(&parameters(model), None).unwrap();
        let source: Vec<Vec<u8>> = (0..checkpoint.tensors().len()).map(|i| checkpoint.read(i).unwrap()).collect();
        let (want, have) =
            (sorted(source.iter().map(Vec::as_slice)), sorted(got.tensors().iter().map(|(_, t)| t.data())));
        assert_eq!((report.n_value, report.n_dropped), (want.len(), 0));
        assert!(want == have, "{model}");

        let file = fs::read(fixture(&format!("{model}_converted.safetensors"))).unwrap();
        for (name, want) in SafeTensors::deserialize(&file).unwrap().tensors() {
            let got = got.tensor(&name).unwrap();
            assert_eq!(got.shape(), want.shape(), "{name}");
            assert!(got.data() == want.data(), "{model}: {name}");
        }
    }
}

#[test]
fn the_file_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (model, name) in MODELS.into_iter().zip(["af2", "af2-multimer"]) {
        let target = dir.path().join("w.safetensors");
        convert(&parameters(model), &target, options()).unwrap();
        let header = read_header(&target).unwrap();
        assert_eq!((header.get("model"), header.get("release")), (Some(name), Some(model)));
        assert_eq!(header.get("source_file"), Some(format!("params_{model}.npz").as_str()));
        let sum: String =
            Sha256::digest(fs::read(parameters(model)).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(header.get("source_sha256"), Some(sum.as_str()));
    }
}

#[test]
fn every_release_has_a_map_and_sizes() {
    let mut versions: Vec<_> = ALPHAFOLD2.iter().map(|release| release.version).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 15);
    for release in &ALPHAFOLD2 {
        Map::parse(release.map).unwrap_or_else(|e| panic!("{}: {e}", release.version));
        let config: Value = serde_json::from_str(release.config).unwrap();
        assert_eq!(config["heads"]["n_pae"].is_null(), !release.version.contains('_') || release.version.len() == 7);
        let has_templates = ["model_1", "model_2", "multimer"].iter().any(|part| release.version.contains(part));
        assert_eq!(config["template"].is_object(), has_templates, "{}", release.version);
    }
}

/// The tensors that models without templates, and without the head of the TM score, lack.
#[test]
fn models_of_every_kind_are_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    for (version, n) in [("model_1", 336), ("model_2", 336), ("model_3", 265), ("model_4_ptm", 267), ("model_5", 265)] {
        let path = dir.path().join(format!("params_{version}.npz"));
        let without = |name: &str| {
            let template = version.starts_with("model_1") || version.starts_with("model_2");
            (name.contains("template") && !template) || (name.contains("aligned_error") && !version.ends_with("_ptm"))
        };
        fs::write(&path, archive(&mut copy_of(&parameters("model_1_ptm"), &without), zip::CompressionMethod::Stored))
            .unwrap();
        let report = convert(&path, &dir.path().join("w.safetensors"), options()).unwrap();
        assert_eq!((report.release.version, report.n_official), (version, n));
    }
    let path = dir.path().join("params_model_3_ptm.npz");
    fs::copy(parameters("model_1_ptm"), &path).unwrap();
    let error = convert(&path, &dir.path().join("w.safetensors"), options()).unwrap_err().to_string();
    assert!(error.contains("71 names") && error.contains("template_embedding.attention.key_w is not known"), "{error}");
}

type Entries = Vec<(String, Vec<u8>)>;

fn copy_of(path: &Path, without: &dyn Fn(&str) -> bool) -> Entries {
    let mut zip = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let mut entries = Vec::new();
    for i in 0..zip.len() {
        let mut file = zip.by_index(i).unwrap();
        let (name, mut bytes) = (file.name().unwrap().into_owned(), Vec::new());
        file.read_to_end(&mut bytes).unwrap();
        if !without(&name) {
            entries.push((name, bytes));
        }
    }
    entries
}

fn archive(entries: &mut Entries, method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn deflated_entries_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("params_model_1_ptm.npz");
    let mut entries = copy_of(&parameters("model_1_ptm"), &|_| false);
    fs::write(&path, archive(&mut entries, zip::CompressionMethod::Deflated)).unwrap();
    let data = |bytes: &[u8]| {
        let header = SafeTensors::read_metadata(bytes).unwrap().0;
        bytes[8 + header..].to_vec()
    };
    let (deflated, stored) =
        (converted(&path, None).unwrap().1, converted(&parameters("model_1_ptm"), None).unwrap().1);
    assert!(data(&deflated) == data(&stored));
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(*bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A file in the archive gives the same weights file, byte for byte, as the file alone.
#[test]
fn the_official_archive_is_read_where_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alphafold_params_2022-12-06.tar");
    let files = MODELS.map(|model| (format!("params_{model}.npz"), fs::read(parameters(model)).unwrap()));
    let whole =
        tar(&[("./LICENSE", b"CC BY 4.0"), (&files[0].0, &files[0].1), (&format!("./{}", files[1].0), &files[1].1)]);
    fs::write(&path, &whole).unwrap();
    assert_eq!(parameter_files(&path).unwrap(), [files[0].0.as_str(), &files[1].0]);
    for (name, _) in &files {
        assert!(converted(&path, Some(name)).unwrap().1 == converted(&fixture(name), None).unwrap().1, "{name}");
    }
    assert!(parameter_files(&parameters("model_1_ptm")).unwrap().is_empty());

    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = parameter_files(&path).unwrap_err().to_string();
    assert!(error.contains("cut short or damaged"), "{error}");
    fs::write(&path, tar(&[("notes.txt", b"x")])).unwrap();
    let error = parameter_files(&path).unwrap_err().to_string();
    assert!(error.contains("without parameter files") && error.contains("notes.txt"), "{error}");
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let try_with = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = convert(&path, &dir.path().join("out/w.safetensors"), options()).unwrap_err().to_string();
        assert!(fs::read_dir(dir.path().join("out")).map_or(0, Iterator::count) == 0, "{error}");
        error
    };
    let whole = fs::read(parameters("model_1_ptm")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let store = zip::CompressionMethod::Stored;
    let mut short = copy_of(&parameters("model_1_ptm"), &|_| false);
    let n = short[0].1.len();
    short[0].1.truncate(n - 4);
    let mut object = copy_of(&parameters("model_1_ptm"), &|_| false);
    let at = object[0].1.windows(5).position(|w| w == b"'<f4'").unwrap();
    object[0].1[at..at + 5].copy_from_slice(b"'|O' ");
    let flat = "alphafold/alphafold_iteration/evoformer/preprocess_1d//weights.npy";
    let mut vector = copy_of(&parameters("model_1_ptm"), &|_| false);
    let entry = vector.iter_mut().find(|(name, _)| name == flat).unwrap();
    let at = entry.1.windows(8).position(|w| w == b"(22, 24)").unwrap();
    entry.1[at..at + 8].copy_from_slice(b"(528,)  ");
    for (name, bytes, expected) in [
        ("params_model_1_ptm.npz", &whole[..whole.len() / 2], "not a whole .npz file, download it again"),
        ("params_model_1_ptm.npz", b"", "not a whole .npz file"),
        ("params_model_1_ptm.npz", &flipped, "the file is damaged, download it again"),
        ("params_model_1_ptm.npz", &archive(&mut short, store), "does not have"),
        ("params_model_1_ptm.npz", &archive(&mut object, store), "numbers of the format '|O'"),
        ("params_model_1_ptm.npz", &archive(&mut vector, store), "has shape [528], the map expects 2 dimensions"),
        ("params_model_1_ptm.npz", &archive(&mut vec![("x.npy".into(), vec![0; 9])], store), "no array of numpy"),
        ("mine.npz", &whole, "call it params_model_1_ptm.npz"),
        ("params_model_1_multimer_v2.npz", &whole, "use version 3"),
    ] {
        let error = try_with(name, bytes);
        assert!(error.contains(expected) && error.contains(name), "{expected} not in {error}");
    }
}
