//! The vision towers against values of the published code, stage by stage.
//!
//! Tolerances are those of the fixtures' README: about twenty times what another implementation
//! reached. Everything is compared twice, with the CPU's own loops and by burn's operations alone,
//! as other devices compute it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail by panic and tell what it measured"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use deepseek_ocr::preprocess::{Grid, Mode, View};
use deepseek_ocr::stages::Stages;
use deepseek_ocr::vision::positions::{resample_grid, resample_line};
use deepseek_ocr::vision::{VisionModel, VisionOptions, pixels};
use deepseek_ocr::weights::Checkpoint;
use safetensors::{Dtype, SafeTensors};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

/// Tensors of a fixture file as numbers.
struct Fixture(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Fixture {
    fn read(path: impl AsRef<Path>) -> Self {
        let bytes = std::fs::read(fixtures().join(path)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = tensors.iter().map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
                Dtype::I64 => data
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|bytes| i64::from_le_bytes(*bytes) as f32)
                    .collect(),
                Dtype::U8 => data.iter().map(|byte| f32::from(*byte)).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        });
        Self(numbers.collect())
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Pixels of bytes, from -1 to 1.
    fn views(&self, name: &str) -> Tensor<4> {
        let (shape, bytes) = &self.0[name];
        let values: Vec<f32> = bytes
            .iter()
            .map(|byte| (byte / 255.0 - 0.5) / 0.5)
            .collect();
        let data = TensorData::new(values, shape.clone());
        Tensor::from_data(data, &Device::flex())
    }

    fn grid(&self) -> Grid {
        let grid = self.values("spatial_crop");
        Grid {
            columns: grid[0] as u32,
            rows: grid[1] as u32,
        }
    }

    /// Compares everything of this file whose name starts so, and gives how much that was.
    fn compare(&self, prefix: &str, kept: &BTreeMap<String, TensorData>) -> usize {
        let named = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        named
            .map(|(name, (shape, wanted))| {
                let found = kept.get(name).unwrap_or_else(|| panic!("no {name}"));
                assert_eq!(found.shape().as_slice(), shape, "shape of {name}");
                assert_close(name, found.as_slice::<f32>().unwrap(), wanted);
            })
            .count()
    }
}

fn tolerance(name: &str) -> f32 {
    let stage = name.split_once('.').map_or(name, |(_, stage)| stage);
    match stage {
        "clip_embed" => 1e-4,
        _ if stage.starts_with("sam_") => 1e-4,
        _ => 2e-4,
    }
}

fn assert_close(name: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "values of {name}");
    let pairs = found.iter().zip(wanted);
    let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: greatest error {error:.1e}");
    // Written so that what is no number fails.
    assert!(
        error < tolerance(name),
        "{name}: greatest error {error:.1e}"
    );
    assert!(found.iter().all(|value| value.is_finite()), "{name}");
}

/// The model with the CPU's own loops, and by burn's operations alone.
fn models(folder: &str) -> [VisionModel; 2] {
    [true, false].map(|host_loops| {
        let options = VisionOptions {
            host_loops,
            ..VisionOptions::new(DType::F32)
        };
        model(folder, options)
    })
}

fn model(folder: &str, options: VisionOptions) -> VisionModel {
    let checkpoint = Checkpoint::open(&fixtures().join(folder)).unwrap();
    let (mut weights, config) = (checkpoint.weights(), checkpoint.config());
    VisionModel::load_with(&mut weights, config, &Device::flex(), options).unwrap()
}

/// Vectors of views, with all stages under a prefix.
fn encode(
    model: &VisionModel,
    views: Tensor<4>,
    prefix: &str,
) -> (Tensor<3>, BTreeMap<String, TensorData>) {
    let mut stages = Stages::kept();
    stages.set_prefix(prefix);
    let vectors = model.encode(views, &mut stages);
    (vectors, stages.into_kept())
}

fn only(vectors: Tensor<3>) -> Tensor<2> {
    vectors.squeeze_dim(0)
}

fn check_case(case: &str) {
    let fixture = Fixture::read(format!("case_{case}.safetensors"));
    for model in models("") {
        let (global, kept) = encode(&model, fixture.views("pixel_values_u8"), "global.");
        assert!(fixture.compare("global.", &kept) >= 4);
        let tiles = fixture.has("images_crop_u8").then(|| {
            let (tiles, kept) = encode(&model, fixture.views("images_crop_u8"), "local.");
            assert!(fixture.compare("local.", &kept) >= 4);
            (tiles, fixture.grid())
        });
        let sequence = model.assemble(only(global), tiles).into_data();
        let wanted = fixture.values("vision_seq");
        assert_close("vision_seq", sequence.as_slice().unwrap(), wanted);
        let slots = fixture.values("images_seq_mask").iter().sum::<f32>();
        assert_eq!(sequence.shape()[0], slots as usize);
    }
}

#[test]
fn tables_are_resampled_as_published() {
    let fixture = Fixture::read("interpolation.safetensors");
    let mut compared = 0;
    for (side, sizes) in [(64, [32, 40, 48, 80]), (16, [8, 10, 12, 20])] {
        let planes = fixture.values(&format!("bicubic_{side}_src"));
        for to in sizes {
            // The pairs have planes, a table has its channels last.
            let grid = turned(planes, 3, side * side);
            let found = turned(&resample_grid(&grid, side, 3, to), to * to, 3);
            let wanted = fixture.values(&format!("bicubic_{side}_to_{to}"));
            compared += assert_pair(&found, wanted);
        }
    }
    let lines = fixture.values("linear_127_src");
    for to in [63, 79, 95, 159] {
        let found = turned(&resample_line(&turned(lines, 4, 127), 127, 4, to), to, 4);
        compared += assert_pair(&found, fixture.values(&format!("linear_127_to_{to}")));
    }
    assert_eq!(compared, 12);
}

/// Rows as columns.
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |index: usize| values[index % rows * columns + index / rows];
    (0..rows * columns).map(at).collect()
}

fn assert_pair(found: &[f32], wanted: &[f32]) -> usize {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-5, "{found} for {wanted}");
    }
    1
}

#[test]
fn base_view_needs_no_resampled_table() {
    check_case("base");
}

#[test]
fn small_view_shrinks_the_tables() {
    check_case("small");
}

#[test]
fn large_view_enlarges_the_tables() {
    check_case("large");
}

#[test]
fn two_by_three_tiles_are_stitched_before_the_global_view() {
    check_case("gundam_2x3");
}

#[test]
fn three_by_one_tiles_are_stitched_before_the_global_view() {
    check_case("gundam_3x1");
}

/// A view of the second model, which has real sizes.
fn picture(name: &str) -> View {
    let path = fixtures().join("ocr2").join(name);
    let image = image::open(path).unwrap().into_rgb8();
    View {
        side: image.width(),
        rgb: image.into_raw(),
    }
}

#[test]
fn second_model_reads_a_global_view() {
    let fixture = Fixture::read("ocr2/case_base.safetensors");
    let view = pixels(&[picture("view_global.png")], &Device::flex());
    for model in models("ocr2") {
        let (global, kept) = encode(&model, view.clone(), "global.");
        assert!(fixture.compare("global.", &kept) >= 5);
        let sequence = model.assemble(only(global), None).into_data();
        let wanted = fixture.values("vision_seq");
        assert_close("vision_seq", sequence.as_slice().unwrap(), wanted);
    }
}

#[test]
fn second_model_takes_tiles_one_after_the_other() {
    let fixture = Fixture::read("ocr2/case_crop.safetensors");
    let device = Device::flex();
    let global = pixels(&[picture("view_global.png")], &device);
    let tiles = ["view_tile0.png", "view_tile1.png"].map(picture);
    for model in models("ocr2") {
        let (tiles, kept) = encode(&model, pixels(&tiles, &device), "local.");
        assert!(fixture.compare("local.", &kept) >= 5);
        let (global, _) = encode(&model, global.clone(), "global.");
        let sequence = model.assemble(only(global), Some((tiles, fixture.grid())));
        let sequence = sequence.into_data();
        let wanted = fixture.values("vision_seq");
        assert_close("vision_seq", sequence.as_slice().unwrap(), wanted);
    }
}

#[test]
fn views_in_batches_give_what_they_give_together() {
    let fixture = Fixture::read("case_gundam_2x3.safetensors");
    let tiles = fixture.views("images_crop_u8");
    let one_by_one = VisionOptions {
        batch_bytes: 1,
        ..VisionOptions::new(DType::F32)
    };
    // Tiles of 8 by 8 patches at 48 channels: four go into this and two are left.
    let by_fours = VisionOptions {
        batch_bytes: 4 * 8 * 8 * 48 * 16 * 4,
        ..one_by_one
    };
    for (options, at_once) in [(one_by_one, 1), (by_fours, 4)] {
        let model = model("", options);
        assert_eq!(model.views_at_once(128), at_once);
        let vectors = model
            .encode(tiles.clone(), &mut Stages::ignored())
            .into_data();
        let wanted = fixture.values("local.projector");
        assert_close("local.projector", vectors.as_slice().unwrap(), wanted);
    }
}

#[test]
fn half_precision_stays_near() {
    let fixture = Fixture::read("case_small.safetensors");
    for dtype in [DType::F16, DType::BF16] {
        let model = model("", VisionOptions::new(dtype));
        let views = fixture.views("pixel_values_u8");
        let vectors = model.encode(views, &mut Stages::ignored());
        assert_eq!(vectors.dtype(), dtype);
        let vectors = vectors.cast(DType::F32).into_data();
        let pairs = vectors.as_slice::<f32>().unwrap().iter();
        let wanted = fixture.values("global.projector");
        let error = pairs.zip(wanted).map(|(a, b)| (a - b).abs()).sum::<f32>();
        let size = wanted.iter().map(|value| value.abs()).sum::<f32>();
        println!("{dtype:?}: {:.4} of the size", error / size);
        assert!(error < 0.05 * size, "{dtype:?}: {}", error / size);
    }
}

/// Rows are side of the global view, of tiles, whether there are tiles, columns, rows, slots.
#[test]
fn slots_are_counted_as_published() {
    let model = model("", VisionOptions::new(DType::F32));
    let table = [
        (512, 512, false, 1, 1, 73),
        (640, 640, false, 1, 1, 111),
        (1024, 1024, false, 1, 1, 273),
        (1280, 1280, false, 1, 1, 421),
        (1024, 640, true, 1, 1, 273),
        (1024, 640, true, 2, 3, 903),
        (1024, 640, true, 3, 2, 893),
        (1024, 640, true, 1, 9, 1263),
        (1024, 640, true, 9, 1, 1183),
        (1024, 640, true, 3, 3, 1203),
        (1280, 1024, true, 2, 1, 421 + 16 * 33),
    ];
    for (base_size, image_size, crop, columns, rows, slots) in table {
        let mode = Mode {
            base_size,
            image_size,
            crop,
            max_tiles: 9,
            tile_threshold: 640,
        };
        let grid = Grid { columns, rows };
        assert_eq!(
            model.slots(&mode, grid),
            slots,
            "{base_size} {columns}x{rows}"
        );
        assert!(model.accepts(base_size));
    }
}

#[test]
fn slots_of_the_second_model_have_no_newlines() {
    let model = model("ocr2", VisionOptions::new(DType::F32));
    let mode = Mode {
        base_size: 1024,
        image_size: 768,
        crop: true,
        max_tiles: 6,
        tile_threshold: 768,
    };
    for (columns, rows, slots) in [(1, 1, 257), (2, 1, 545), (2, 3, 1121)] {
        assert_eq!(model.slots(&mode, Grid { columns, rows }), slots);
    }
    assert!(model.accepts(768) && model.accepts(1024));
    assert!(!model.accepts(640));
}

#[test]
fn pixels_go_from_minus_one_to_one_plane_by_plane() {
    let view = View {
        side: 2,
        rgb: vec![0, 127, 255, 255, 0, 127, 1, 2, 3, 4, 5, 6],
    };
    let data = pixels(&[view.clone(), view], &Device::flex()).into_data();
    assert_eq!(data.shape().as_slice(), [2, 3, 2, 2]);
    let values = data.as_slice::<f32>().unwrap();
    assert_eq!(values[..2], [-1.0, 1.0]);
    assert!((values[4] + 0.003_921_57).abs() < 1e-7);
    assert_eq!(values[8], 1.0);
    assert_eq!(values[..12], values[12..]);
}
