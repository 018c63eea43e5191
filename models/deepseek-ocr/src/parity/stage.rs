//! Values on the way through the network, and the tables it starts from.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;

use super::fixture::{Case, Stored, Values, read_tensors};
use super::{ParityError, Report, Row};
use crate::vision::positions::{resample_grid, resample_line};

/// Stages in the order of the network, by how their names start, and how far each may be from the
/// reference in f32: tens of times what another implementation reached, a hundredth of what the
/// mildest known mistake does.
const STAGES: [(&str, f64); 19] = [
    ("sam_tokens", 1e-4),
    ("sam_block_", 1e-4),
    ("sam_neck", 1e-4),
    ("sam_out", 1e-4),
    ("clip_embed", 1e-4),
    ("clip_layer_", 2e-4),
    ("clip_out", 2e-4),
    ("encoder_in", 1e-4),
    ("encoder_layer_", 2e-4),
    ("encoder_out", 2e-4),
    ("projector", 2e-4),
    ("vision_seq", 2e-4),
    ("inputs_embeds", 2e-4),
    ("router_", 1e-4),
    ("layer_", 3e-4),
    ("final_norm", 3e-4),
    ("logits_last", 1e-3),
    ("logits", 1e-3),
    ("argmax_all", 0.0),
];

/// Resampled tables.
const TABLE: f64 = 1e-5;

/// What a case holds besides stages: the question, and the answers that `writing` compares.
const NO_STAGES: [&str; 6] = [
    "input_ids",
    "images_seq_mask",
    "spatial_crop",
    "pixel_values_u8",
    "images_crop_u8",
    "gen_",
];

/// Compares every stage that a case has with what was kept.
pub(super) fn compare_stages(
    case: &Case,
    kept: &BTreeMap<String, TensorData>,
    report: &mut Report,
) {
    let is_stage = |name: &str| !NO_STAGES.iter().any(|start| name.starts_with(start));
    let mut stages: Vec<(&String, &Stored)> = case
        .tensors
        .iter()
        .filter(|(name, _)| is_stage(name))
        .collect();
    stages.sort_by_key(|(name, _)| order(name));
    for (name, wanted) in stages {
        report.push(compare_stage(&case.about.name, name, wanted, kept));
    }
}

fn compare_stage(
    case: &str,
    name: &str,
    wanted: &Stored,
    kept: &BTreeMap<String, TensorData>,
) -> Row {
    let title = format!("{case}/{name}");
    let (_, stage) = of_tower(name);
    let known = STAGES.iter().find(|(start, _)| stage.starts_with(start));
    let Some(&(start, tolerance)) = known else {
        return Row::missing(title, 0.0, "no such stage is known");
    };
    let source = match start {
        "logits_last" | "argmax_all" => "logits",
        _ => name,
    };
    let Some(found) = kept.get(source) else {
        return Row::missing(title, tolerance, "it was not kept");
    };
    match &wanted.values {
        Values::Integers(wanted) if start == "argmax_all" => {
            Row::integers(title, wanted, &largest(found))
        }
        Values::Integers(wanted) => {
            let found: Vec<i64> = found.iter::<i64>().collect();
            Row::integers(title, wanted, &found)
        }
        Values::Floats(wanted) => {
            let mut found: Vec<f32> = found.iter::<f32>().collect();
            if start == "logits_last" {
                found.drain(..found.len().saturating_sub(wanted.len()));
            }
            Row::floats(title, wanted, &found, tolerance)
        }
    }
}

/// The index of the largest value in each row.
fn largest(rows: &TensorData) -> Vec<i64> {
    let width = rows.shape().as_slice().last().copied().unwrap_or(1).max(1);
    let values: Vec<f32> = rows.iter::<f32>().collect();
    let of_row = |row: &[f32]| {
        let largest = (0..row.len()).fold(0, |best, index| match row[index] > row[best] {
            true => index,
            false => best,
        });
        largest as i64
    };
    values.chunks(width).map(of_row).collect()
}

/// Which tower's views a stage belongs to, and the rest of its name.
fn of_tower(name: &str) -> (u8, &str) {
    if let Some(stage) = name.strip_prefix("global.") {
        (0, stage)
    } else if let Some(stage) = name.strip_prefix("local.") {
        (1, stage)
    } else {
        (2, name)
    }
}

/// Where a stage stands among the others: layers by number, not by spelling.
fn order(name: &str) -> (u8, usize, usize, String) {
    let (tower, stage) = of_tower(name);
    let place = STAGES
        .iter()
        .position(|(start, _)| stage.starts_with(start));
    let digits: String = stage.chars().filter(char::is_ascii_digit).collect();
    let number = digits.parse().unwrap_or(0);
    (
        tower,
        place.unwrap_or(STAGES.len()),
        number,
        name.to_owned(),
    )
}

/// Compares resampled tables of positions, if the folder has any.
pub(super) fn compare_tables(folder: &Path, report: &mut Report) -> Result<(), ParityError> {
    let path = folder.join("interpolation.safetensors");
    if !path.is_file() {
        return Ok(());
    }
    let tables = read_tensors(&path)?;
    for (name, wanted) in &tables {
        let Some((source, _)) = name.split_once("_to_") else {
            continue;
        };
        let title = format!("interpolation/{name}");
        let Some(source) = tables.get(&format!("{source}_src")) else {
            report.push(Row::missing(title, TABLE, "it has no source"));
            continue;
        };
        report.push(match resampled(source, wanted) {
            Some((wanted, found)) => Row::floats(title, &wanted, &found, TABLE),
            None => Row::missing(title, TABLE, "it is no table"),
        });
    }
    Ok(())
}

/// What is wanted and what this crate makes of the source, both with channels last.
fn resampled(source: &Stored, wanted: &Stored) -> Option<(Vec<f32>, Vec<f32>)> {
    let (Values::Floats(from), Values::Floats(to)) = (&source.values, &wanted.values) else {
        return None;
    };
    let (shape, wanted_shape) = (source.shape.as_slice(), wanted.shape.as_slice());
    match (shape, wanted_shape) {
        (&[1, channels, len], &[1, _, to_len]) => {
            let found = resample_line(&channels_last(from, channels), len, channels, to_len);
            Some((channels_last(to, channels), found))
        }
        (&[1, channels, side, _], &[1, _, to_side, _]) => {
            let found = resample_grid(&channels_last(from, channels), side, channels, to_side);
            Some((channels_last(to, channels), found))
        }
        _ => None,
    }
}

fn channels_last(values: &[f32], channels: usize) -> Vec<f32> {
    let plane = values.len() / channels.max(1);
    (0..plane)
        .flat_map(|place| (0..channels).map(move |channel| values[channel * plane + place]))
        .collect()
}
