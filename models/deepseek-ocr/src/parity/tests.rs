//! Mistakes that others made with this model, planted one by one: each must be noticed.
//!
//! Where a changed checkpoint makes the right code compute what the wrong code would, the
//! checkpoint is changed; the right way to change it passes, so nothing but the mistake fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use tempfile::TempDir;

use super::*;
use crate::decoder::{DeviceDecoder, DeviceOptions};
use crate::vision::positions::{resample_grid, resample_line};
use crate::weights::StoredType;

const WEIGHTS: &str = "model-00001-of-000001.safetensors";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

fn no_pictures(_: &Path) -> Result<View, String> {
    Err("the first model's cases hold their views".to_owned())
}

fn load(folder: &Path) -> Loaded<DeviceDecoder> {
    let device = Device::flex();
    let decoder = |weights: &mut Weights, config: &DecoderConfig| {
        let options = DeviceOptions {
            device: device.clone(),
            dtype: StoredType::F32,
            cache_bytes: 16 << 20,
        };
        DeviceDecoder::load(weights, config, options)
    };
    Loaded::open(folder, &device, decoder).unwrap()
}

/// Rows of one case that differ; there must be some.
fn differing(report: &Report, case: &str) -> Vec<Row> {
    let rows: Vec<Row> = report
        .differing()
        .filter(|row| row.name.starts_with(case))
        .cloned()
        .collect();
    assert!(
        !report.ok() && !rows.is_empty(),
        "nobody noticed:\n{report}"
    );
    rows
}

fn difference(report: &Report, name: &str) -> f64 {
    let row = report.rows.iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("{name} is compared"))
        .difference
}

fn is_ok(report: &Report, name: &str) -> bool {
    difference(report, name).is_finite()
        && report.rows.iter().any(|row| row.name == name && row.ok())
}

/// A copy of the fixtures with one case, to be changed.
struct Copied {
    folder: TempDir,
}

impl Copied {
    fn with(case: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copied = Self { folder };
        for name in [
            "config.json",
            "model.safetensors.index.json",
            WEIGHTS,
            &format!("case_{case}.safetensors"),
        ] {
            std::fs::copy(fixtures().join(name), copied.path(name)).unwrap();
        }
        copied.change_json("cases.json", &fixtures().join("cases.json"), |cases| {
            let all = cases["cases"].as_array_mut().unwrap();
            all.retain(|about| about["name"] == case);
        });
        copied
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn change_json(&self, name: &str, from: &Path, change: impl FnOnce(&mut serde_json::Value)) {
        let text = std::fs::read_to_string(from).unwrap();
        let mut value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        std::fs::write(self.path(name), value.to_string()).unwrap();
    }

    /// Changes tensors, given and taken back as shape and f32 values.
    fn change_weights(&self, change: impl Fn(&str, &mut Vec<usize>, &mut Vec<f32>)) {
        let bytes = std::fs::read(self.path(WEIGHTS)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut changed = BTreeMap::new();
        for (name, view) in file.tensors() {
            let pairs = view.data().as_chunks::<2>().0.iter();
            let mut values: Vec<f32> = pairs
                .map(|pair| half::bf16::from_le_bytes(*pair).to_f32())
                .collect();
            let mut shape = view.shape().to_vec();
            change(&name, &mut shape, &mut values);
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            changed.insert(name, (shape, bytes));
        }
        let views = changed.iter().map(|(name, (shape, bytes))| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        std::fs::write(self.path(WEIGHTS), serialize(views, None).unwrap()).unwrap();
    }

    fn compare(&self) -> Report {
        let mut network = load(self.folder.path());
        compare(self.folder.path(), &mut network, &no_pictures).unwrap()
    }
}

#[test]
fn interleaved_rotary_positions_are_noticed() {
    const N_HEADS: usize = 4;
    let copied = Copied::with("text_only");
    assert!(copied.compare().ok());
    // Turning neighbors is turning the halves of rows that lie apart: with every second row of a
    // head first, the half-split code computes the interleaved products.
    copied.change_weights(|name, shape, values| {
        if !(name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")) {
            return;
        }
        let [rows, columns] = shape[..] else {
            panic!("{name} is a matrix");
        };
        let head = rows / N_HEADS;
        let from = |row: usize| {
            let (head_row, value) = (row / head * head, row % head);
            head_row + value % (head / 2) * 2 + value / (head / 2)
        };
        *values = (0..rows)
            .flat_map(|row| values[from(row) * columns..][..columns].to_vec())
            .collect();
    });
    let report = copied.compare();
    differing(&report, "text_only");
    assert!(is_ok(&report, "text_only/inputs_embeds"));
    assert!(difference(&report, "text_only/logits") > 1.0);
    assert!(!is_ok(&report, "text_only/gen_off.tokens"));
}

#[test]
fn chosen_scores_that_are_made_to_add_up_to_one_are_noticed() {
    let copied = Copied::with("text_only");
    let mut network = load(copied.folder.path());
    network.decoder.plant_renormalization();
    let report = compare(copied.folder.path(), &mut network, &no_pictures).unwrap();
    differing(&report, "text_only");
    assert!(is_ok(&report, "text_only/router_1.scores"));
    assert!(is_ok(&report, "text_only/router_1.topk_idx"));
    assert!(!is_ok(&report, "text_only/router_1.topk_weight"));
    assert!(difference(&report, "text_only/logits") > 0.5);
}

/// Puts the global view before the tiles.
struct GlobalFirst(Loaded<DeviceDecoder>);

impl Network for GlobalFirst {
    fn encode(&self, views: &[View], stages: &mut Stages) -> Tensor<3> {
        self.0.encode(views, stages)
    }

    fn assemble(&self, global: Tensor<2>, tiles: Option<(Tensor<3>, Grid)>) -> Tensor<2> {
        let alone = self.0.assemble(global.clone(), None);
        let right = self.0.assemble(global, tiles);
        let n_tiles = right.dims()[0] - alone.dims()[0];
        let tiles = right.narrow(0, 0, n_tiles);
        let [n_global, _] = alone.dims();
        let separator = alone.clone().narrow(0, n_global - 1, 1);
        let global = alone.narrow(0, 0, n_global - 1);
        match n_tiles {
            0 => Tensor::cat(vec![global, separator], 0),
            _ => Tensor::cat(vec![global, tiles, separator], 0),
        }
    }

    fn decoder(&mut self) -> &mut dyn Decoder {
        self.0.decoder()
    }
}

#[test]
fn global_view_before_the_tiles_is_noticed() {
    let copied = Copied::with("gundam_2x3");
    assert!(copied.compare().ok());
    let mut network = GlobalFirst(load(copied.folder.path()));
    let report = compare(copied.folder.path(), &mut network, &no_pictures).unwrap();
    differing(&report, "gundam_2x3");
    assert!(is_ok(&report, "gundam_2x3/local.projector"));
    assert!(!is_ok(&report, "gundam_2x3/vision_seq"));
    assert!(difference(&report, "gundam_2x3/logits") > 1.0);
}

/// Bicubic as image libraries have it: four samples of the input (a = -0.75), however many lie
/// between two samples of the output.
fn plain_cubic(grid: &[f32], side: usize, channels: usize, to: usize) -> Vec<f32> {
    let kernel = |distance: f64| {
        let (a, x) = (-0.75, distance.abs());
        match x {
            ..=1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            ..2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            _ => 0.0,
        }
    };
    let axis = |output: usize| {
        let center = (output as f64 + 0.5) * side as f64 / to as f64 - 0.5;
        let first = center.floor() as isize - 1;
        [0, 1, 2, 3].map(|tap| {
            let at = first + tap;
            let inside = at.clamp(0, side as isize - 1) as usize;
            (inside, kernel(center - at as f64))
        })
    };
    let mut resampled = Vec::with_capacity(to * to * channels);
    for y in 0..to {
        for x in 0..to {
            for channel in 0..channels {
                let mut sum = 0.0;
                for (row, down) in axis(y) {
                    for (column, across) in axis(x) {
                        let value = grid[(row * side + column) * channels + channel];
                        sum += f64::from(value) * down * across;
                    }
                }
                resampled.push(sum as f32);
            }
        }
    }
    resampled
}

#[test]
fn table_of_positions_without_antialias_is_noticed() {
    // A checkpoint made for the small view needs no resampling for it, so what the table holds is
    // what is used: resampled as it should be, and as it should not.
    const SIDE: usize = 12;
    let with = |resample: fn(&[f32], usize, usize, usize) -> Vec<f32>| {
        let copied = Copied::with("small");
        copied.change_json("config.json", &fixtures().join("config.json"), |config| {
            config["vision_config"]["image_size"] = (16 * SIDE).into();
        });
        copied.change_weights(|name, shape, values| match shape[..] {
            [1, side, _, channels] if name.ends_with("sam_model.pos_embed") => {
                *values = resample(values, side, channels, SIDE);
                *shape = vec![1, SIDE, SIDE, channels];
            }
            // Relative positions over the whole view, which windows do not have.
            [len @ 31, channels] if name.contains("attn.rel_pos_") => {
                *values = resample_line(values, len, channels, 2 * SIDE - 1);
                *shape = vec![2 * SIDE - 1, channels];
            }
            _ => {}
        });
        copied.compare()
    };
    let right = with(resample_grid);
    assert!(right.ok(), "{right}");
    let report = with(plain_cubic);
    differing(&report, "small");
    assert!(!is_ok(&report, "small/global.sam_tokens"));
    assert!(difference(&report, "small/logits") > 0.1);
}

#[test]
fn reference_that_holds_what_is_not_known_or_not_kept_does_not_pass() {
    let copied = Copied::with("text_only");
    let name = "case_text_only.safetensors";
    let bytes = std::fs::read(copied.path(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, TensorView<'_>)> = file.tensors();
    let value = 1.0f32.to_le_bytes();
    for added in ["layer_7", "mystery"] {
        let view = TensorView::new(Dtype::F32, vec![1], &value).unwrap();
        tensors.push((added.to_owned(), view));
    }
    std::fs::write(copied.path(name), serialize(tensors, None).unwrap()).unwrap();
    let names: Vec<String> = differing(&copied.compare(), "text_only")
        .into_iter()
        .map(|row| row.name)
        .collect();
    assert_eq!(names, ["text_only/layer_7", "text_only/mystery"]);
}
