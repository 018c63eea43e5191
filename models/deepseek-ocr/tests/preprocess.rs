//! Views, grids and slots against what the published code computes, bit for bit.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use std::path::{Path, PathBuf};

use deepseek_ocr::config::Architecture;
use deepseek_ocr::preprocess::{Grid, Mode, PageViews, View};
use quire_core::PageImage;
use serde::Deserialize;
use sha2::{Digest, Sha256};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tiny")
        .join(name)
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

/// The page without its alpha channel, as the published code opens it.
fn page(name: &str) -> PageImage {
    let rgb = image::open(fixture(name)).unwrap().to_rgb8();
    PageImage {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
        dpi: None,
    }
}

#[derive(Deserialize)]
struct Expected {
    rows: Vec<ExpectedPage>,
}

#[derive(Deserialize)]
struct ExpectedPage {
    page: String,
    page_size: (u32, u32),
    mode: String,
    base_size: u32,
    image_size: u32,
    crop: bool,
    max_tiles: u32,
    grid_cols: u32,
    grid_rows: u32,
    n_image_tokens: usize,
    global_view: ExpectedView,
    tiles: Vec<ExpectedView>,
}

#[derive(Deserialize)]
struct ExpectedView {
    size: (u32, u32),
    sha256_rgb_hwc: String,
}

fn mode(name: &str) -> Mode {
    match name {
        "gundam_max6" => Mode::gundam().with_max_tiles(6),
        "gundam_m" => Mode::gundam_m(),
        name => name.parse().unwrap(),
    }
}

fn check_view(view: &View, expected: &ExpectedView, name: &str) {
    assert_eq!((view.side, view.side), expected.size, "{name}");
    let digest = hex::encode(Sha256::digest(&view.rgb));
    assert_eq!(digest, expected.sha256_rgb_hwc, "{name}");
}

#[test]
fn every_view_is_that_of_the_reference_to_the_bit() {
    let expected: Expected = json("preprocess/expected.json");
    let mut n_views = 0;
    for row in &expected.rows {
        let name = format!("{} in {}", row.page, row.mode);
        let mode = mode(&row.mode);
        let image = page(&format!("preprocess/pages/{}.png", row.page));
        assert_eq!((image.width, image.height), row.page_size, "{name}");
        assert_eq!(
            (mode.base_size, mode.image_size, mode.crop),
            (row.base_size, row.image_size, row.crop),
            "{name}"
        );
        assert!(!mode.crop || mode.max_tiles == row.max_tiles, "{name}");
        let views = PageViews::of(&image, &mode);
        assert_eq!(
            (views.grid.columns, views.grid.rows),
            (row.grid_cols, row.grid_rows),
            "{name}"
        );
        assert_eq!(
            mode.slots(views.grid, Architecture::One),
            row.n_image_tokens,
            "{name}"
        );
        check_view(&views.global, &row.global_view, &name);
        assert_eq!(views.tiles.len(), row.tiles.len(), "{name}");
        for (at, (tile, expected)) in views.tiles.iter().zip(&row.tiles).enumerate() {
            check_view(tile, expected, &format!("{name}, tile {at}"));
        }
        n_views += views.n_views();
    }
    assert_eq!(n_views, 139);
}

#[test]
fn grids_are_those_of_the_reference() {
    #[derive(Deserialize)]
    struct Table {
        rows: Vec<[u32; 6]>,
    }
    let table: Table = json("preprocess/grid_table.json");
    assert!(table.rows.len() > 100);
    for [width, height, tile, max_tiles, columns, rows] in table.rows {
        assert_eq!(
            Grid::nearest(width, height, tile, max_tiles),
            Grid { columns, rows },
            "{width}x{height}, tiles of {tile}, at most {max_tiles}"
        );
    }
}

#[test]
fn views_of_the_second_model_are_those_of_the_reference() {
    let views = PageViews::of(&page("ocr2/page.png"), &Mode::second());
    assert_eq!((views.grid.columns, views.grid.rows), (2, 1));
    assert_eq!(Mode::second().slots(views.grid, Architecture::Two), 545);
    let expected = ["view_global", "view_tile0", "view_tile1"];
    let found = std::iter::once(&views.global).chain(&views.tiles);
    for (view, name) in found.zip(expected) {
        let image = page(&format!("ocr2/{name}.png"));
        assert_eq!(
            (image.width, image.height),
            (view.side, view.side),
            "{name}"
        );
        assert!(view.rgb == image.rgb, "{name} differs");
    }
}
