//! Checkpoints to weights files: the fixtures that torch wrote, and small ones made here for what goes wrong.
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use weights_convert::{Checkpoint, Dtype, Error, Kind, OPENFOLD3, Options, convert, read_header, verify};
use zip::write::{SimpleFileOptions, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn short_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A tensor of a made-up checkpoint.
struct Made {
    name: &'static str,
    shape: Vec<u16>,
    values: Vec<f32>,
}

fn made(name: &'static str, shape: &[u16]) -> Made {
    let n = shape.iter().map(|d| usize::from(*d)).product::<usize>();
    Made { name, shape: shape.to_vec(), values: (0..n).map(|i| i as f32 + 0.1).collect() }
}

/// The pickle torch would write for a dict of these tensors.
fn pickle(tensors: &[Made]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    fn int(out: &mut Vec<u8>, n: u16) {
        out.push(b'M');
        out.extend(n.to_le_bytes());
    }
    let mut out = b"\x80\x02}(".to_vec();
    for (i, tensor) in tensors.iter().enumerate() {
        text(&mut out, tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        int(&mut out, tensor.values.len() as u16);
        out.extend(b"tQ");
        int(&mut out, 0);
        out.push(b'(');
        tensor.shape.iter().for_each(|d| int(&mut out, *d));
        out.extend(b"t(");
        (0..tensor.shape.len()).for_each(|d| int(&mut out, tensor.shape[d + 1..].iter().product()));
        out.extend(b"t\x89}tR");
    }
    out.extend(b"u.");
    out
}

fn write_checkpoint(path: &Path, tensors: &[Made], options: SimpleFileOptions) {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: String, bytes: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    add("archive/data.pkl".into(), &pickle(tensors));
    add("archive/byteorder".into(), b"little");
    for (i, tensor) in tensors.iter().enumerate() {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        add(format!("archive/data/{i}"), &bytes);
    }
    fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)
}

fn values_of(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut checkpoint = Checkpoint::open(path, false).unwrap();
    let names: Vec<_> = checkpoint.tensors().iter().map(|t| t.name().to_owned()).collect();
    names.into_iter().enumerate().map(|(i, name)| (name, checkpoint.read(i).unwrap())).collect()
}

/// fixtures/convert/regen.py: every kind of view and every number format, against the values torch has for them.
#[test]
fn views_have_the_values_that_torch_has() {
    let bytes = fs::read(fixture("convert/views.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for file in ["convert/views.pt", "convert/views4.pt"] {
        let checkpoint = Checkpoint::open(&fixture(file), false).unwrap();
        let got = values_of(&fixture(file));
        assert_eq!(got.len(), expected.len());
        for tensor in checkpoint.tensors() {
            let want = expected.tensor(tensor.name()).unwrap();
            assert_eq!(tensor.shape(), want.shape(), "{}", tensor.name());
            assert_eq!(got[tensor.name()], want.data(), "{}", tensor.name());
        }
    }
}

#[test]
fn averaged_weights_are_taken_out_of_their_wrapper() {
    assert_eq!(values_of(&fixture("openfold3/mini_ema.pt")), values_of(&fixture("openfold3/mini_flat.pt")));
    let wrapped = values_of(&fixture("convert/wrapper.pt"));
    assert_eq!(wrapped["layer.weight"], 1f32.to_le_bytes().repeat(6));
    assert_eq!(wrapped.len(), 2);
}

#[test]
fn a_deepspeed_folder_is_followed_to_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let error = Checkpoint::open(folder, false).unwrap_err().to_string();
    assert!(error.contains("no file \"latest\""), "{error}");
    fs::write(folder.join("latest"), "step7\n").unwrap();
    let error = Checkpoint::open(folder, false).unwrap_err().to_string();
    assert!(error.contains("zero_to_fp32"), "{error}");
    fs::create_dir(folder.join("step7")).unwrap();
    fs::copy(fixture("convert/wrapper.pt"), folder.join("step7/mp_rank_00_model_states.pt")).unwrap();
    assert_eq!(values_of(folder), values_of(&fixture("convert/wrapper.pt")));
}

/// Every tensor of the tiny model has the values that torch reads for its official name.
#[test]
fn the_tiny_model_keeps_every_value() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new folder/tiny.safetensors");
    let config = serde_json::from_str(r#"{"c_s": 24}"#).unwrap();
    let mut seen = Vec::new();
    let mut progress = |done, total| seen.push((done, total));
    let options = Options { config: Some(config), progress: Some(&mut progress), ..Options::default() };
    let report = convert(&fixture("openfold3/tiny.pt"), &target, options).unwrap();
    assert!(seen.is_sorted() && seen.last().is_some_and(|(done, total)| done == total));

    let sums: BTreeMap<String, (Vec<usize>, String)> =
        serde_json::from_str(&fs::read_to_string(fixture("convert/tiny_sums.json")).unwrap()).unwrap();
    let names: Vec<_> = sums.iter().map(|(name, (shape, _))| (name.as_str(), shape.as_slice())).collect();
    let plan = weights_convert::Map::parse(OPENFOLD3.map).unwrap().apply(&names).unwrap();
    let bytes = fs::read(&target).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!((report.n_official, report.n_dropped, report.n_tensor), (sums.len(), plan.dropped.len(), file.len()));
    for (name, sources) in &plan.targets {
        let tensor = file.tensor(name).unwrap();
        let mut rest = tensor.data();
        for (shape, sum) in sources.iter().map(|source| &sums[names[source.tensor].0]) {
            let (part, after) = rest.split_at(4 * shape.iter().product::<usize>());
            assert_eq!(&short_sha256(part), sum, "{name}");
            rest = after;
        }
        assert!(rest.is_empty(), "{name}");
    }

    // Some by hand, so that a fault of `Map` would show.
    let official = |name: &str| &sums[name].1;
    let data = |name: &str| file.tensor(name).unwrap().data().to_vec();
    assert_eq!(&short_sha256(&data("recycle.norm_z.weight")), official("layer_norm_z.weight"));
    assert_eq!(&short_sha256(&data("distogram.linear.weight")), official("aux_heads.distogram.linear.weight"));
    let ab = data("pairformer.blocks.1.pair.tri_mul_in.ab.weight");
    let (a, b) = ab.split_at(ab.len() / 2);
    assert_eq!(&short_sha256(a), official("pairformer_stack.blocks.1.pair_stack.tri_mul_in.linear_a_p.weight"));
    assert_eq!(&short_sha256(b), official("pairformer_stack.blocks.1.pair_stack.tri_mul_in.linear_b_p.weight"));

    let header = verify(&target, &mut |_, _| {}).unwrap();
    assert_eq!(header.get("model"), Some("openfold3"));
    assert_eq!(header.get("release"), Some("0.5.0"));
    assert_eq!(header.get("config"), Some(r#"{"c_s":24}"#));
    assert_eq!(header.get("source_file"), Some("tiny.pt"));
    let source = fs::read(fixture("openfold3/tiny.pt")).unwrap();
    assert_eq!(&header.get("source_sha256").unwrap()[..16], short_sha256(&source));
    assert_eq!(header.get("source_sha256"), Some(report.source_sha256.as_str()));
    assert_eq!(header.data_start % 64, 0);
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "nothing else is left in the folder");
}

#[test]
fn large_tensors_are_aligned_and_numbers_in_names_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("tiny.safetensors");
    convert(&fixture("openfold3/tiny.pt"), &target, Options::default()).unwrap();
    let header = read_header(&target).unwrap();
    let sizes = header.tensors.iter().map(|t| 4 * t.shape.iter().product::<usize>());
    let uneven: Vec<_> = sizes.map(|n| n % 64 != 0).collect();
    assert!(uneven.is_sorted() && uneven.contains(&false));
    let config: Value = serde_json::from_str(header.get("config").unwrap()).unwrap();
    let release: Value = serde_json::from_str(OPENFOLD3.config).unwrap();
    assert_eq!(config, release, "without a config a file has the release's");
}

#[test]
fn half_precision_rounds_matrices_and_keeps_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let read = |dtype| {
        let target = dir.path().join("tiny.safetensors");
        convert(&fixture("openfold3/tiny.pt"), &target, Options { dtype, ..Options::default() }).unwrap();
        verify(&target, &mut |_, _| {}).unwrap();
        fs::read(&target).unwrap()
    };
    let (full, half, brain) = (read(Dtype::F32), read(Dtype::F16), read(Dtype::BF16));
    let [full, half, brain] = [&full, &half, &brain].map(|b| SafeTensors::deserialize(b).unwrap());
    let mut n_rounded = 0;
    for (name, tensor) in full.tensors() {
        let (half, brain) = (half.tensor(&name).unwrap(), brain.tensor(&name).unwrap());
        if tensor.shape().len() < 2 {
            assert_eq!((half.data(), brain.data()), (tensor.data(), tensor.data()), "{name}");
            continue;
        }
        for (i, v) in tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).enumerate() {
            let (h, b) = (half.data().as_chunks::<2>().0[i], brain.data().as_chunks::<2>().0[i]);
            assert_eq!(half::f16::from_le_bytes(h), half::f16::from_f32(v), "{name}");
            assert_eq!(half::bf16::from_le_bytes(b), half::bf16::from_f32(v), "{name}");
            n_rounded += 1;
        }
    }
    assert!(n_rounded > 50_000);
}

#[test]
fn same_checkpoint_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let made = ["a", "b"].map(|name| {
        let target = dir.path().join(name);
        convert(&fixture("openfold3/tiny.pt"), &target, Options::default()).unwrap();
        fs::read(target).unwrap()
    });
    assert!(made[0] == made[1]);
}

/// Deflated entries (a re-packed file) and zip64 are read like stored ones.
#[test]
fn other_kinds_of_zip_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [made("x", &[3, 40]), made("y", &[])];
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let files =
        [("stored", stored()), ("deflated", deflated), ("zip64", stored().large_file(true))].map(|(name, o)| {
            write_checkpoint(&dir.path().join(name), &tensors, o);
            values_of(&dir.path().join(name))
        });
    assert_eq!(files[0]["x"][..4], 0.1f32.to_le_bytes());
    assert!(files[0] == files[1] && files[0] == files[2]);
}

/// What `convert` says of a file with these bytes; nothing may be left behind.
fn refusal(bytes: &[u8]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("w.pt"), dir.path().join("out/w.safetensors"));
    fs::write(&source, bytes).unwrap();
    let error = convert(&source, &target, Options::default()).unwrap_err();
    assert!(error.to_string().contains("w.pt"), "the file is named: {error}");
    assert!(fs::read_dir(dir.path().join("out")).map_or(0, Iterator::count) == 0, "{error}");
    error
}

fn refusal_of(tensors: &[Made]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("w.pt"), tensors, stored());
    refusal(&fs::read(dir.path().join("w.pt")).unwrap())
}

#[test]
fn damaged_files_say_so() {
    let whole = fs::read(fixture("openfold3/tiny.pt")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for (bytes, expected) in [
        (&whole[..whole.len() / 2], "cut short or damaged, download it again"),
        (&whole[..whole.len() - 1], "cut short or damaged, download it again"),
        (&whole[..30], "cut short or damaged, download it again"),
        (&flipped, "damaged, download it again"),
        (b"", "is empty"),
        (b"<html>404</html>", "not a torch checkpoint"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "before version 1.6"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "not a torch checkpoint"),
    ] {
        let error = refusal(bytes);
        assert!(matches!(error, Error::Format { .. }) && error.kind() == Kind::Data, "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_missing_file_is_a_read_error() {
    let error = convert(Path::new("/nowhere/w.pt"), Path::new("/nowhere/out"), Options::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Missing, "{error:?}");
}

#[test]
fn a_file_that_asks_to_run_something_is_refused_and_runs_nothing() {
    let error = refusal(&fs::read(fixture("convert/evil.pt")).unwrap());
    assert!(error.to_string().contains("asks to run posix.system"), "{error}");
    assert!(!Path::new("fold-was-here").exists());
}

#[test]
fn other_models_and_releases_are_named() {
    for (names, expected) in [
        (
            &["encoder.weight", "decoder.weight"][..],
            "not a checkpoint of OpenFold3: it holds encoder.weight; decoder.weight",
        ),
        (
            &["diffusion_module.diffusion_transformer.blocks.0.attention_pair_bias.layer_norm_z.weight"],
            "preview 2 (program 0.4), which are not supported; use the weights of 0.5.0",
        ),
        (
            &[
                "diffusion_module.diffusion_transformer.blocks.0.attention_pair_bias.layer_norm_z.weight",
                "diffusion_module.atom_attn_enc.atom_transformer.blocks.0.attention_pair_bias.layer_norm_z.weight",
            ],
            "preview 1 (program 0.3)",
        ),
        (&["pairformer_stack.x", "version_tensor"], "model version 0.1.2, which is not supported"),
    ] {
        let mut tensors: Vec<_> = names.iter().map(|name| made(name, &[3])).collect();
        tensors.iter_mut().for_each(|t| t.values = vec![0., 1., 2.]);
        let error = refusal_of(&tensors);
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn names_that_do_not_fit_are_listed() {
    let error = refusal_of(&[made("pairformer_stack.blocks.0.stray", &[3]), made("linear_z.weight", &[2, 2])]);
    let Error::Names { problems, .. } = &error else { panic!("{error:?}") };
    assert_eq!(problems[0], "pairformer_stack.blocks.0.stray is not known");
    assert!(problems.iter().any(|p| p.starts_with("linear_s is missing")));
    assert!(error.to_string().ends_with(&format!("and {} more", problems.len() - 30)));
}

/// Numbers that are no weights, and a partner of another width.
#[test]
fn tensors_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.pt");
    let original = Checkpoint::open(&fixture("openfold3/tiny.pt"), false).unwrap();
    let tensors = |change: &dyn Fn(&mut Made)| -> Vec<Made> {
        let mut all: Vec<_> = original
            .tensors()
            .iter()
            .filter(|t| t.name() != "version_tensor" && !t.name().starts_with("sample_diffusion"))
            .map(|t| Made { shape: t.shape().iter().map(|_| 1).collect(), ..made(t.name().to_owned().leak(), &[1]) })
            .collect();
        all.iter_mut().for_each(change);
        all
    };
    let try_with = |dtype, change: &dyn Fn(&mut Made)| {
        write_checkpoint(&path, &tensors(change), stored());
        convert(&path, &dir.path().join("w.safetensors"), Options { dtype, ..Options::default() })
    };
    try_with(Dtype::F16, &|_| {}).unwrap();
    let is_pae = |t: &Made| t.name == "aux_heads.pae.linear.weight";
    let nan = try_with(Dtype::F32, &|t| {
        if is_pae(t) {
            t.values[0] = f32::NAN
        }
    })
    .unwrap_err()
    .to_string();
    assert!(nan.contains("tensor aux_heads.pae.linear.weight: holds NaN"), "{nan}");
    let large = try_with(Dtype::F16, &|t| {
        if is_pae(t) {
            t.values[0] = 1e6
        }
    })
    .unwrap_err()
    .to_string();
    assert!(large.contains("holds 1000000, too large for F16: use --dtype f32"), "{large}");
    let wide = |t: &mut Made| {
        if t.name == "pairformer_stack.blocks.0.pair_stack.tri_mul_in.linear_b_p.weight" {
            *t = made(t.name, &[1, 2]);
        }
    };
    let wide = try_with(Dtype::F32, &wide).unwrap_err().to_string();
    assert!(wide.contains("linear_b_p.weight: shape [1, 2] cannot be stacked with [1, 1]"), "{wide}");
}

#[test]
fn a_refused_check_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("w.safetensors");
    let check = |path: &Path| {
        assert!(path.ends_with("w.safetensors.partial"));
        verify(path, &mut |_, _| {})?;
        Err("no model has these shapes".into())
    };
    let options = Options { check: Some(&check), ..Options::default() };
    let error = convert(&fixture("openfold3/tiny.pt"), &target, options).unwrap_err();
    assert!(matches!(&error, Error::Check { source, .. } if source.to_string() == "no model has these shapes"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn two_conversions_do_not_write_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("w.safetensors");
    let check = |_: &Path| match convert(&fixture("openfold3/tiny.pt"), &target, Options::default()) {
        Err(e @ Error::Busy { .. }) => Err(Box::new(e).into()),
        other => panic!("{other:?}"),
    };
    convert(&fixture("openfold3/tiny.pt"), &target, Options { check: Some(&check), ..Options::default() }).unwrap_err();
}

#[test]
fn a_changed_weights_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("w.safetensors");
    convert(&fixture("openfold3/tiny.pt"), &target, Options::default()).unwrap();
    let whole = fs::read(&target).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (bytes, expected) in [
        (&changed[..], "its data do not have the checksum"),
        (&whole[..whole.len() - 4], "its length is not what its header says"),
        (&whole[..5], "cut short"),
        (b"not safetensors at all", "its header does not fit"),
    ] {
        fs::write(&target, bytes).unwrap();
        let error = verify(&target, &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("is damaged, convert the checkpoint again") && error.contains(expected), "{error}");
    }
    let plain = fixture("convert/views.safetensors");
    assert!(verify(&plain, &mut |_, _| {}).unwrap_err().to_string().contains("has no checksum"));
    assert!(serde_json::from_str::<Value>(OPENFOLD3.config).unwrap().is_object());
}
