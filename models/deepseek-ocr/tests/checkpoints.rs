//! What is taken for a checkpoint, and how everything else is refused: damaged, incomplete or
//! hostile folders, each with its reason.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use burn::tensor::{DType, Device, Tensor};
use deepseek_ocr::config::{Architecture, ModelConfig};
use deepseek_ocr::tokenizer::TextTokenizer;
use deepseek_ocr::weights::random::{RandomOptions, config_json, write_random};
use deepseek_ocr::weights::{
    CONFIG_FILE, Checkpoint, CheckpointError, INDEX_FILE, SINGLE_FILE, StoredType, TOKENIZER_FILE,
    examine, expected_tensors, file_digest,
};
use quire_core::{Fault, Faulty};
use safetensors::tensor::{SafeTensors, TensorView};
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

const SHARD: &str = "model-00001-of-000001.safetensors";
const EXPERT: &str = "model.layers.1.mlp.experts.3.up_proj.weight";

fn tiny() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny"))
}

/// The tiny checkpoint's own files, in a folder that may be spoiled.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [CONFIG_FILE, INDEX_FILE, TOKENIZER_FILE, SHARD] {
        fs::copy(tiny().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// One tensor of a file: type, shape, bytes.
type Parts = (Dtype, Vec<usize>, Vec<u8>);

/// Writes the tensors of the tiny checkpoint again, changed.
fn rewrite(folder: &Path, change: impl FnOnce(&mut BTreeMap<String, Parts>)) {
    let bytes = fs::read(tiny().join(SHARD)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let parts = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let tensors = file.tensors().into_iter();
    let mut tensors: BTreeMap<String, Parts> =
        tensors.map(|(name, view)| (name, parts(view))).collect();
    change(&mut tensors);
    fs::write(folder.join(SHARD), file_of(&tensors)).unwrap();
}

fn file_of(tensors: &BTreeMap<String, Parts>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    serialize(views.collect::<Vec<_>>(), None).unwrap()
}

/// Changes the index that tells which file holds which tensor.
fn reindex(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = folder.join(INDEX_FILE);
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(index["weight_map"].as_object_mut().unwrap());
    fs::write(path, index.to_string()).unwrap();
}

fn refused(folder: &Path) -> String {
    let error = Checkpoint::open(folder).expect_err("this checkpoint is wrong");
    assert_eq!(error.fault(), Fault::Config, "{error}");
    quire_core::chain(&error)
}

#[track_caller]
fn check_refused(folder: &Path, part: &str) {
    let message = refused(folder);
    assert!(message.contains(part), "{message}");
}

#[test]
fn fixtures_of_both_models_hold_exactly_what_is_expected() {
    for (folder, n, architecture) in [
        (tiny(), 166, Architecture::One),
        (tiny().join("ocr2"), 109, Architecture::Two),
    ] {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        assert_eq!(checkpoint.config().architecture, architecture);
        assert_eq!(checkpoint.tensors().count(), n);
        assert_eq!(expected_tensors(checkpoint.config()).len(), n);
    }
}

#[test]
fn network_takes_every_tensor_or_is_told_what_is_left() {
    let checkpoint = Checkpoint::open(&tiny()).unwrap();
    let take = |left_out: &str| {
        let mut weights = checkpoint.weights();
        for tensor in expected_tensors(checkpoint.config()) {
            if tensor.name != left_out {
                weights.take(&tensor.name, &tensor.shape).unwrap();
            }
        }
        weights.finish()
    };
    take("").unwrap();
    // Nothing computes with CLIP's own patches.
    take("model.vision_model.embeddings.patch_embedding.weight").unwrap();
    let error = take(EXPERT).unwrap_err();
    assert!(matches!(&error, CheckpointError::Unknown { names } if names == &[EXPERT]));
}

#[test]
fn tensor_of_another_name_or_shape_is_not_given_away() {
    let mut weights = Checkpoint::open(&tiny()).unwrap().weights();
    let error = weights.take("model.norm.bias", &[64]).unwrap_err();
    assert_eq!(error.to_string(), "the checkpoint lacks model.norm.bias");
    let error = weights.take("model.norm.weight", &[8, 8]).unwrap_err();
    let wanted = "tensor model.norm.weight has shape [64], not [8, 8]";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn numbers_arrive_as_they_are_stored_whatever_they_are_computed_in() {
    let checkpoint = Checkpoint::open(&tiny()).unwrap();
    let bytes = fs::read(tiny().join(SHARD)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = file.tensor("model.norm.weight").unwrap();
    let pairs = stored.data().chunks_exact(2);
    let upper =
        |pair: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
    let expected: Vec<f32> = pairs.map(upper).collect();
    let tensor = checkpoint.tensor("model.norm.weight").unwrap();
    assert_eq!(tensor.stored, StoredType::Bf16);
    assert_eq!(tensor.to_f32(), expected);
    for dtype in [DType::F32, DType::BF16] {
        let on_device: Tensor<1> = tensor.to_tensor(&Device::flex(), dtype);
        assert_eq!(on_device.dtype(), dtype);
        let found = on_device.to_data().convert::<f32>();
        assert_eq!(found.try_to_vec::<f32>().unwrap(), expected);
    }
    let half = tensor.to_f16();
    let close =
        |(half, value): (&half::f16, &f32)| (half.to_f32() - value).abs() <= value.abs() / 512.0;
    assert!(half.iter().zip(&expected).all(close));
}

#[test]
fn other_float_types_are_taken_and_give_the_same_numbers() {
    let folder = copy();
    rewrite(folder.path(), |tensors| {
        let tensor = tensors.get_mut(EXPERT).unwrap();
        let wide = tensor
            .2
            .chunks_exact(2)
            .flat_map(|pair| [0, 0, pair[0], pair[1]]);
        *tensor = (Dtype::F32, tensor.1.clone(), wide.collect());
    });
    let found = Checkpoint::open(folder.path())
        .unwrap()
        .tensor(EXPERT)
        .unwrap();
    let before = Checkpoint::open(&tiny()).unwrap().tensor(EXPERT).unwrap();
    assert_eq!(found.stored, StoredType::F32);
    assert_eq!(found.to_f32(), before.to_f32());
    assert_eq!(found.to_bf16(), before.to_bf16());
}

#[test]
fn folder_that_is_no_checkpoint_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    check_refused(empty.path(), CONFIG_FILE);
    check_refused(&empty.path().join("nowhere"), CONFIG_FILE);
    let folder = copy();
    fs::remove_file(folder.path().join(SHARD)).unwrap();
    check_refused(folder.path(), SHARD);
    fs::remove_file(folder.path().join(INDEX_FILE)).unwrap();
    check_refused(folder.path(), "holds no safetensors file");
    fs::write(folder.path().join(CONFIG_FILE), "{}").unwrap();
    check_refused(folder.path(), "`architectures` must be");
}

#[test]
fn single_file_needs_no_index_and_two_do() {
    let folder = copy();
    fs::remove_file(folder.path().join(INDEX_FILE)).unwrap();
    Checkpoint::open(folder.path()).unwrap();
    fs::copy(
        folder.path().join(SHARD),
        folder.path().join("other.safetensors"),
    )
    .unwrap();
    check_refused(folder.path(), "2 safetensors files");
    fs::rename(folder.path().join(SHARD), folder.path().join(SINGLE_FILE)).unwrap();
    Checkpoint::open(folder.path()).unwrap();
}

#[test]
fn truncated_file_is_refused_wherever_it_ends() {
    let whole = fs::read(tiny().join(SHARD)).unwrap();
    let folder = copy();
    let path = folder.path().join(SHARD);
    for (length, part) in [
        (0, "ends after 0 bytes, before its header"),
        (7, "ends after 7 bytes, before its header"),
        (8, "ends inside its header"),
        (1000, "ends inside its header"),
        (whole.len() - 1, "it ends 1 bytes early"),
        (20_000, "bytes early"),
    ] {
        fs::write(&path, &whole[..length]).unwrap();
        check_refused(folder.path(), part);
        // The lost tensors are not said to be missing, too.
        let faults = examine(folder.path()).faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
    let longer = [whole.as_slice(), b"more"].concat();
    fs::write(&path, longer).unwrap();
    check_refused(folder.path(), "4 bytes follow the last tensor");
}

/// A file with this header and this many bytes of data.
fn with_header(header: &str, n_data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + n_data, 0);
    file
}

#[test]
fn header_that_lies_is_refused() {
    let folder = copy();
    let path = folder.path().join(SHARD);
    let tensor = |dtype: &str, shape: Value, offsets: [u64; 2]| {
        let tensor = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        json!({ "lm_head.weight": tensor }).to_string()
    };
    let huge = u64::MAX;
    for (header, n_data) in [
        ("".to_owned(), 0),
        ("[]".to_owned(), 0),
        ("{\"a\": 1}".to_owned(), 0),
        ("\u{fffd}{".to_owned(), 0),
        ("{".repeat(10_000), 0),
        (tensor("BF16", json!([4]), [0, 6]), 6),
        (tensor("BF16", json!([4]), [2, 10]), 10),
        (tensor("BF16", json!([4]), [8, 0]), 8),
        (tensor("BF16", json!([4]), [0, 8]), 6),
        (tensor("BF16", json!([4]), [0, 8]), 9),
        (tensor("BF16", json!([huge, huge]), [0, 8]), 8),
        (tensor("BF16", json!([huge / 2]), [0, huge - 1]), 8),
        (tensor("BF16", json!([-4]), [0, 8]), 8),
        (tensor("QUITE", json!([4]), [0, 8]), 8),
    ] {
        fs::write(&path, with_header(&header, n_data)).unwrap();
        check_refused(folder.path(), "is no whole checkpoint file");
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 40] {
        let mut file = length.to_le_bytes().to_vec();
        file.extend(b"{}");
        fs::write(&path, file).unwrap();
        check_refused(folder.path(), "its header would take");
    }
}

#[test]
fn missing_left_over_and_misshapen_tensors_are_all_named_at_once() {
    let folder = copy();
    rewrite(folder.path(), |tensors| {
        let expert = tensors.remove(EXPERT).unwrap();
        tensors.insert(
            "model.layers.1.mlp.experts.99.up_proj.weight".to_owned(),
            expert,
        );
        tensors.get_mut("lm_head.weight").unwrap().1 = vec![64, 512];
        let norm = tensors.get_mut("model.norm.weight").unwrap();
        *norm = (Dtype::I16, norm.1.clone(), norm.2.clone());
    });
    reindex(folder.path(), |map| {
        map.remove(EXPERT);
    });
    let found = examine(folder.path());
    let said: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
    for part in [
        "tensor lm_head.weight has shape [64, 512], not [512, 64]",
        "tensor model.norm.weight holds numbers of type I16, not BF16, F16 or F32",
        &format!("the checkpoint lacks {EXPERT}"),
        "tensors that this network does not know: model.layers.1.mlp.experts.99.up_proj.weight",
    ] {
        assert!(
            said.iter().any(|line| line.contains(part)),
            "{part}: {said:#?}"
        );
    }
    assert_eq!(said.len(), 4, "{said:#?}");
    let decoder = found
        .groups
        .iter()
        .find(|group| group.group.as_str() == "decoder")
        .unwrap();
    assert_eq!(decoder.n_found + 2, decoder.n_expected);
    assert!(found.into_checkpoint().is_err());
}

#[test]
fn tensors_that_programs_leave_behind_are_ignored_by_name() {
    let folder = copy();
    let extra = "model.vision_model.embeddings.position_ids";
    rewrite(folder.path(), |tensors| {
        tensors.insert(extra.to_owned(), (Dtype::I64, vec![1, 2], vec![0; 16]));
    });
    assert_eq!(examine(folder.path()).ignored, [extra]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.tensor(extra).is_none());
}

#[test]
fn index_cannot_lead_out_of_its_folder() {
    let folder = copy();
    let outside = folder.path().parent().unwrap().join(SHARD);
    for file in [
        "../secret.safetensors",
        outside.to_str().unwrap(),
        "sub/a.safetensors",
    ] {
        reindex(folder.path(), |map| {
            map.insert("lm_head.weight".to_owned(), json!(file));
        });
        check_refused(folder.path(), "is no safetensors file beside it");
    }
}

#[test]
fn index_that_names_a_wrong_or_missing_file_is_refused() {
    let folder = copy();
    let other = "model-00002-of-000002.safetensors";
    reindex(folder.path(), |map| {
        map.insert("lm_head.weight".to_owned(), json!(other));
    });
    check_refused(folder.path(), other);
    fs::write(folder.path().join(other), file_of(&BTreeMap::new())).unwrap();
    check_refused(folder.path(), "it tells of lm_head.weight in model-00002");
    fs::copy(folder.path().join(SHARD), folder.path().join(other)).unwrap();
    check_refused(folder.path(), "as does model-00001-of-000001.safetensors");
    fs::write(folder.path().join(INDEX_FILE), "{\"weight_map\": 3}").unwrap();
    check_refused(folder.path(), INDEX_FILE);
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let folder = copy();
    let path = folder.path().join(SHARD);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check_refused(folder.path(), "is no regular file");
}

#[test]
fn numbers_that_are_not_finite_are_found() {
    let folder = copy();
    rewrite(folder.path(), |tensors| {
        let bytes = &mut tensors.get_mut(EXPERT).unwrap().2;
        // NaN, -infinity and the largest number that is finite.
        bytes[..6].copy_from_slice(&[0xc0, 0x7f, 0x80, 0xff, 0x7f, 0x7f]);
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let wanted = format!(
        "tensor {EXPERT} holds 1 that are not a number, 1 that are infinite of 2048 values"
    );
    let found = checkpoint.check_values();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, std::slice::from_ref(&wanted));
    let remembered = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let error = checkpoint.revision(Some(remembered.path())).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
    assert!(Checkpoint::open(&tiny()).unwrap().check_values().is_empty());
}

#[test]
fn revision_follows_the_bytes_and_is_remembered_until_they_change() {
    let folder = copy();
    let remembered = tempfile::tempdir().unwrap();
    let revision = || {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.revision(Some(remembered.path())).unwrap()
    };
    let first = revision();
    assert_eq!(first.len(), 64);
    assert_eq!(revision(), first);
    let alone = Checkpoint::open(&tiny()).unwrap().revision(None).unwrap();
    assert_eq!(alone, first);
    // A folder that cannot be written to costs time only.
    let file = remembered.path().join("file");
    fs::write(&file, "").unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.revision(Some(&file)).unwrap(), first);
    rewrite(folder.path(), |tensors| {
        tensors.get_mut(EXPERT).unwrap().2[0] ^= 1
    });
    let second = revision();
    assert_ne!(second, first);
    rewrite(folder.path(), |_| {});
    let entries = fs::read_dir(remembered.path().join("digests")).unwrap();
    for entry in entries {
        fs::write(entry.unwrap().path(), "no json").unwrap();
    }
    assert_eq!(revision().len(), 64);
}

#[test]
fn digest_is_remembered_by_size_and_time_of_a_file_that_lies_still() {
    let folder = tempfile::tempdir().unwrap();
    let (path, remembered) = (folder.path().join("file"), folder.path().join("remembered"));
    let write = |text: &str, changed_at: Duration| {
        fs::write(&path, text).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + changed_at).unwrap();
    };
    let digest = || file_digest(&path, Some(&remembered)).unwrap();
    let hour = Duration::from_secs(3600);
    write("one", hour);
    let first = digest();
    // Nobody can tell such a change from none; it shows that nothing was read.
    write("two", hour);
    assert_eq!(digest(), first);
    write("two", 2 * hour);
    let second = digest();
    assert_ne!(second, first);
    write("longer", 2 * hour);
    assert_ne!(digest(), second);
    // What was written down no later than the file was changed is not believed.
    let later = fs::metadata(folder.path()).unwrap().modified().unwrap();
    let later = later.duration_since(UNIX_EPOCH).unwrap() + hour;
    write("one", later);
    assert_eq!(digest(), first);
    write("two", later);
    assert_ne!(digest(), first);
}

#[test]
fn digest_is_the_one_that_other_programs_print() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(file_digest(&path, None).unwrap(), expected);
}

#[test]
fn random_checkpoint_opens_in_any_number_of_files_and_is_the_same_for_a_seed() {
    let config = Checkpoint::open(&tiny()).unwrap().config().clone();
    let write = |n_shards, seed| {
        let folder = tempfile::tempdir().unwrap();
        let options = RandomOptions {
            seed,
            n_shards,
            ..RandomOptions::default()
        };
        let bytes = write_random(folder.path(), &config, options).unwrap();
        assert!(write_random(folder.path(), &config, options).is_err());
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.config(), &config);
        assert_eq!(checkpoint.stored_bytes(), bytes);
        assert!(checkpoint.check_values().is_empty());
        TextTokenizer::open(&checkpoint.tokenizer_file(), &config).unwrap();
        (checkpoint, folder)
    };
    let (one, _one) = write(1, 7);
    let (three, _three) = write(3, 7);
    let (other, _other) = write(3, 8);
    assert_eq!((one.files().len(), three.files().len()), (1, 3));
    for tensor in one.tensors() {
        let twin = three.tensor(&tensor.name).unwrap();
        assert_eq!(tensor.bytes[..], twin.bytes[..], "{}", tensor.name);
    }
    let differs = |tensor: &deepseek_ocr::weights::StoredTensor| {
        other.tensor(&tensor.name).unwrap().bytes[..] != tensor.bytes[..]
    };
    assert!(one.tensors().all(differs));
}

#[test]
fn config_of_a_network_is_written_as_it_is_read() {
    for architecture in [Architecture::One, Architecture::Two] {
        let published = ModelConfig::published(architecture);
        let written = config_json(&published);
        assert!(written.get("fixture_extra").is_none());
        assert_eq!(ModelConfig::parse(&written.to_string()), Ok(published));
    }
    for folder in [tiny(), tiny().join("ocr2")] {
        let config = Checkpoint::open(&folder).unwrap().config().clone();
        let written = config_json(&config).to_string();
        assert_eq!(ModelConfig::parse(&written), Ok(config));
    }
}

#[test]
fn tokenizer_of_another_network_is_refused() {
    let config = Checkpoint::open(&tiny()).unwrap().config().clone();
    let folder = tempfile::tempdir().unwrap();
    write_random(folder.path(), &config, RandomOptions::default()).unwrap();
    let path = folder.path().join(TOKENIZER_FILE);
    let whole = fs::read(&path).unwrap();
    let refused = |config: &ModelConfig| {
        let error = TextTokenizer::open(&path, config).unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
        quire_core::chain(&error)
    };
    let mut other = config.clone();
    other.tokens.image = 499;
    assert!(refused(&other).contains("<image> has id 500, not 499"));
    let mut smaller = config.clone();
    smaller.decoder.vocabulary = 500;
    assert!(
        refused(&smaller).contains("500 embeddings"),
        "{}",
        refused(&smaller)
    );
    let text = String::from_utf8(whole.clone()).unwrap();
    fs::write(&path, text.replace("<|ref|>", "<|fer|>")).unwrap();
    assert!(refused(&config).contains("<|ref|>"));
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused(&config);
    fs::remove_file(&path).unwrap();
    refused(&config);
}
