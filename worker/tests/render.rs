//! Documents through the sandboxed renderer as the pipeline uses it: what is drawn, what is
//! refused, and what a page that kills its child costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

mod documents;

use std::time::Duration;

use bytes::Bytes;
use documents::{Pdf, encoded, tiff_of_bits};
use image::{DynamicImage, GrayAlphaImage, ImageFormat, RgbImage};
use quire_core::{RenderSpec, Rotation, Stage, TroubleCode};
use quire_worker::pipeline::render::{OpenDocument, RenderPool, RenderSettings, RenderedPage};
use quire_worker::pipeline::text_layer::{Distrust, TextLayerKind, trust};

const SPEC: RenderSpec = RenderSpec {
    dpi: 144.0,
    max_edge_px: 2000,
    max_area_px: 3_000_000,
};

fn settings() -> RenderSettings {
    RenderSettings {
        program: env!("CARGO_BIN_EXE_quire-render-child").into(),
        args: Vec::new(),
        memory_limit_bytes: 1 << 30,
        page_timeout: Duration::from_secs(60),
        open_timeout: Duration::from_secs(60),
        passwords: Vec::new(),
        font_folder: None,
        require_sandbox: false,
        children: 1,
    }
}

async fn pool() -> RenderPool {
    RenderPool::start(settings()).await.unwrap()
}

async fn open(pool: &RenderPool, bytes: Vec<u8>, media_type: &str) -> OpenDocument {
    pool.open(Bytes::from(bytes), media_type).await.unwrap()
}

async fn only_page(bytes: Vec<u8>, media_type: &str) -> RenderedPage {
    open(&pool().await, bytes, media_type)
        .await
        .page(0, &SPEC, true)
        .await
        .unwrap()
}

async fn refusal(bytes: Vec<u8>, media_type: &str) -> (Stage, TroubleCode) {
    let pool = pool().await;
    let opened = pool.open(Bytes::from(bytes), media_type).await;
    let trouble = match opened {
        Err(trouble) => trouble,
        Ok(mut document) => document.page(0, &SPEC, false).await.unwrap_err(),
    };
    (trouble.stage, trouble.code)
}

fn pixel(page: &RenderedPage, x: u32, y: u32) -> [u8; 3] {
    let at = (y as usize * page.image.width as usize + x as usize) * 3;
    page.image.rgb[at..at + 3].try_into().unwrap()
}

fn is_near(actual: [u8; 3], expected: [u8; 3]) -> bool {
    actual
        .iter()
        .zip(expected)
        .all(|(&a, e)| a.abs_diff(e) < 12)
}

const WORDS: &str = "The harbour lights were already burning when the last of the boats came in and \
    the men began to carry their baskets up the stone steps";

#[tokio::test]
async fn pdf_page_has_pixels_at_the_resolution_and_its_text_with_boxes() {
    let bytes = Pdf::new().page(&Pdf::text(72.0, 700.0, 8.0, WORDS)).build();
    let page = only_page(bytes, "application/pdf").await;
    assert_eq!((page.image.width, page.image.height), (1224, 1584));
    assert_eq!((page.width_pt, page.height_pt), (Some(612.0), Some(792.0)));
    assert_eq!(page.image.dpi, Some(144.0));
    assert_eq!(page.rotation, Rotation::None);
    let layer = page.text_layer.unwrap();
    assert_eq!(layer.visible_text, WORDS);
    assert_eq!(layer.kind(), TextLayerKind::Native);
    assert_eq!(trust(&layer), Ok(()));
    let rect = layer.lines[0].rect;
    assert!((rect.x0 - 72.0 / 612.0).abs() < 0.005, "{rect:?}");
    // The baseline is 92 points from the top.
    assert!(rect.y0 < 92.0 / 792.0 && 92.0 / 792.0 < rect.y1, "{rect:?}");
}

#[tokio::test]
async fn rotated_page_is_drawn_upright_and_its_boxes_turn_along() {
    let draw = "0 0 0 rg 10 150 30 30 re f ".to_owned() + &Pdf::text(10.0, 100.0, 10.0, WORDS);
    let pdf = Pdf::new()
        .media_box(300.0, 200.0)
        .page_with(&draw, "/Rotate 90");
    let page = only_page(pdf.build(), "application/pdf").await;
    assert_eq!((page.image.width, page.image.height), (400, 600));
    assert_eq!(page.rotation, Rotation::Quarter);
    // Top left of the unturned page lies at the top right.
    assert_eq!(pixel(&page, 330, 50), [0, 0, 0]);
    assert_eq!(pixel(&page, 50, 50), [255, 255, 255]);
    let line = &page.text_layer.unwrap().lines[0];
    assert!(
        line.rect.height() > line.rect.width() && line.quad.is_some(),
        "{line:?}"
    );
}

#[tokio::test]
async fn only_the_crop_box_is_drawn_and_read() {
    let draw = Pdf::text(20.0, 150.0, 10.0, "inside the box") + &Pdf::text(20.0, 20.0, 10.0, "out");
    let pdf = Pdf::new()
        .media_box(200.0, 200.0)
        .page_with(&draw, "/CropBox [0 100 200 200]");
    let page = only_page(pdf.build(), "application/pdf").await;
    assert_eq!((page.image.width, page.image.height), (400, 200));
    let layer = page.text_layer.unwrap();
    assert_eq!(layer.visible_text, "inside the box");
    assert_eq!(layer.n_outside, 3);
}

#[tokio::test]
async fn pages_stay_within_edge_and_area() {
    let huge = Pdf::new().media_box(14_400.0, 14_400.0).page("").build();
    let page = only_page(huge, "application/pdf").await;
    assert!(u64::from(page.image.width) * u64::from(page.image.height) <= SPEC.max_area_px);
    let tiny = Pdf::new().media_box(3.0, 3.0).page("").build();
    let page = only_page(tiny, "application/pdf").await;
    assert_eq!((page.image.width, page.image.height), (6, 6));
    let wide = RgbImage::from_pixel(5000, 40, image::Rgb([10, 20, 30]));
    let page = only_page(encoded(wide.into(), ImageFormat::Png), "image/png").await;
    assert_eq!((page.image.width, page.image.height), (2000, 16));
    assert_eq!(pixel(&page, 1999, 15), [10, 20, 30]);
}

#[tokio::test]
async fn invisible_covered_and_doubled_text_is_told_apart() {
    let shown = Pdf::text(20.0, 150.0, 10.0, "shown words");
    let bold = "1 0 0 1 0.2 0 cm ".to_owned() + &Pdf::text(20.0, 150.0, 10.0, "shown words");
    let hidden = "3 Tr ".to_owned() + &Pdf::text(20.0, 100.0, 10.0, "secret");
    let redacted = Pdf::text(20.0, 50.0, 10.0, "redacted") + " 0 0 0 rg 10 40 90 20 re f ";
    let pdf = Pdf::new().media_box(200.0, 200.0);
    let page = only_page(
        pdf.page(&format!("{shown} q {bold} Q q {hidden} Q {redacted}"))
            .build(),
        "application/pdf",
    )
    .await;
    let layer = page.text_layer.unwrap();
    assert_eq!(layer.visible_text, "shown words");
    let hidden: Vec<&str> = layer
        .hidden_lines
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(hidden, ["secret", "redacted"]);
    assert_eq!(trust(&layer), Err(Distrust::Invisible));
}

#[tokio::test]
async fn every_picture_format_gives_its_colors() {
    let mut picture = RgbImage::from_pixel(64, 48, image::Rgb([255, 255, 255]));
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        if x < 32 && y < 24 {
            *pixel = image::Rgb([200, 30, 30]);
        }
    }
    let picture = DynamicImage::from(picture);
    let formats = [
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::WebP, "image/webp"),
        (ImageFormat::Gif, "image/gif"),
        (ImageFormat::Bmp, "image/bmp"),
    ];
    for (format, media_type) in formats {
        let picture = match format {
            ImageFormat::Gif => DynamicImage::from(picture.to_rgba8()),
            _ => picture.clone(),
        };
        let page = only_page(encoded(picture, format), media_type).await;
        assert_eq!((page.image.width, page.image.height), (64, 48));
        assert!(is_near(pixel(&page, 8, 8), [200, 30, 30]), "{media_type}");
        assert!(
            is_near(pixel(&page, 50, 40), [255, 255, 255]),
            "{media_type}"
        );
    }
    let deep = DynamicImage::from(picture.to_rgb16());
    let page = only_page(encoded(deep, ImageFormat::Png), "image/png").await;
    assert_eq!(pixel(&page, 8, 8), [200, 30, 30]);
}

#[tokio::test]
async fn transparent_paper_is_white() {
    let picture = GrayAlphaImage::from_pixel(8, 8, image::LumaA([0, 0]));
    let page = only_page(encoded(picture.into(), ImageFormat::Png), "image/png").await;
    assert_eq!(pixel(&page, 4, 4), [255, 255, 255]);
}

#[tokio::test]
async fn picture_is_turned_as_exif_says() {
    let mut picture = RgbImage::from_pixel(64, 32, image::Rgb([255, 255, 255]));
    picture
        .rows_mut()
        .take(8)
        .flatten()
        .for_each(|pixel| *pixel = image::Rgb([0, 0, 0]));
    let jpeg = encoded(picture.into(), ImageFormat::Jpeg);
    let page = only_page(documents::with_orientation(&jpeg, 6), "image/jpeg").await;
    assert_eq!((page.image.width, page.image.height), (32, 64));
    assert_eq!(page.rotation, Rotation::Quarter);
    // The top of the stored picture is the right of the upright one.
    assert!(is_near(pixel(&page, 28, 32), [0, 0, 0]));
    assert!(is_near(pixel(&page, 4, 32), [255, 255, 255]));
}

#[tokio::test]
async fn every_frame_of_a_tiff_is_a_page() {
    let pool = pool().await;
    let bytes = tiff_of_bits(&[(16, 4, 0xff), (8, 2, 0x0f)]);
    let mut document = open(&pool, bytes, "image/tiff").await;
    assert_eq!(document.info().n_pages, 2);
    let first = document.page(0, &SPEC, false).await.unwrap();
    let second = document.page(1, &SPEC, false).await.unwrap();
    assert_eq!((first.image.width, first.image.height), (16, 4));
    assert_eq!(pixel(&first, 15, 3), [0, 0, 0]);
    assert_eq!(
        (pixel(&second, 0, 1), pixel(&second, 7, 1)),
        ([255; 3], [0; 3])
    );
    assert_eq!(second.image.dpi, None);
    assert_eq!(
        document.page(2, &SPEC, false).await.unwrap_err().stage,
        Stage::Render
    );
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    let nothing = (Stage::Open, TroubleCode::Damaged);
    for media_type in [
        "application/pdf",
        "image/png",
        "image/jpeg",
        "image/tiff",
        "image/gif",
    ] {
        let (stage, code) = refusal(Vec::new(), media_type).await;
        assert_eq!(stage, Stage::Open, "{media_type}");
        assert!(
            matches!(code, TroubleCode::Damaged | TroubleCode::Truncated),
            "{media_type}"
        );
    }
    assert_eq!(refusal(vec![7; 5000], "application/pdf").await, nothing);
    assert_eq!(
        refusal(Pdf::new().build(), "application/pdf").await,
        nothing
    );
    let word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    assert_eq!(
        refusal(b"PK".to_vec(), word).await,
        (Stage::Open, TroubleCode::Unsupported)
    );
}

#[tokio::test]
async fn bombs_are_refused_before_they_unpack() {
    let png = documents::png_that_says_it_is(60_000, 60_000);
    assert_eq!(
        refusal(png, "image/png").await,
        (Stage::Open, TroubleCode::Bomb)
    );
    let pdf = Pdf::new().page_with_picture(60_000, 60_000).build();
    assert_eq!(
        refusal(pdf, "application/pdf").await,
        (Stage::Render, TroubleCode::Bomb)
    );
    let tiff = tiff_of_bits(&[(1_000_000, 1_000_000, 0)]);
    let (stage, code) = refusal(tiff, "image/tiff").await;
    assert!(stage == Stage::Render && code != TroubleCode::Other);
}

#[tokio::test]
async fn page_that_needs_too_much_memory_costs_only_itself() {
    let settings = RenderSettings {
        memory_limit_bytes: 256 << 20,
        ..settings()
    };
    let pool = RenderPool::start(settings).await.unwrap();
    let bytes = Pdf::new()
        .page(&Pdf::text(20.0, 20.0, 10.0, "before"))
        .page_with_picture(13_000, 13_000)
        .page(&Pdf::text(20.0, 20.0, 10.0, "after"))
        .build();
    let mut document = open(&pool, bytes, "application/pdf").await;
    assert!(document.page(0, &SPEC, true).await.is_ok());
    let trouble = document.page(1, &SPEC, true).await.unwrap_err();
    assert_eq!(
        (trouble.stage, trouble.code),
        (Stage::Render, TroubleCode::OutOfMemory)
    );
    let after = document.page(2, &SPEC, true).await.unwrap();
    assert_eq!(after.text_layer.unwrap().visible_text, "after");
}

#[tokio::test]
async fn page_without_end_costs_only_itself() {
    let settings = RenderSettings {
        // Far more than the other page takes on a machine that has much else to do.
        page_timeout: Duration::from_secs(6),
        ..settings()
    };
    let pool = RenderPool::start(settings).await.unwrap();
    let bytes = Pdf::new()
        .page_of_nested_forms(24)
        .page(&Pdf::text(20.0, 20.0, 10.0, "after"))
        .build();
    let mut document = open(&pool, bytes.clone(), "application/pdf").await;
    let trouble = document.page(0, &SPEC, true).await.unwrap_err();
    assert!(
        matches!(trouble.code, TroubleCode::Timeout | TroubleCode::Bomb),
        "{trouble}"
    );
    let after = document.page(1, &SPEC, true).await.unwrap();
    assert_eq!(after.text_layer.unwrap().visible_text, "after");
    drop(document);
    // The one child of the pool came back.
    assert!(
        open(&pool, bytes, "application/pdf")
            .await
            .page(1, &SPEC, true)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn page_given_up_halfway_leaves_the_pool_usable() {
    let pool = pool().await;
    let bytes = Pdf::new().page_of_nested_forms(24).page("").build();
    let mut document = open(&pool, bytes.clone(), "application/pdf").await;
    let page = document.page(0, &SPEC, true);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), page)
            .await
            .is_err()
    );
    assert!(document.page(1, &SPEC, true).await.is_ok());
    drop(document);
    assert!(
        open(&pool, bytes, "application/pdf")
            .await
            .page(1, &SPEC, true)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_wait_for_a_free_child() {
    let settings = RenderSettings {
        children: 2,
        ..settings()
    };
    let pool = RenderPool::start(settings).await.unwrap();
    let bytes = Bytes::from(Pdf::new().page(&Pdf::text(20.0, 20.0, 10.0, "x")).build());
    let mut documents = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (pool, bytes) = (pool.clone(), bytes.clone());
        documents.spawn(async move {
            let mut document = pool.open(bytes, "application/pdf").await.unwrap();
            document.page(0, &SPEC, false).await.unwrap().image.width
        });
    }
    assert_eq!(documents.join_all().await, [1224; 12]);
}

#[tokio::test]
async fn picture_that_is_the_page_and_does_not_decode_is_an_error() {
    let pdf = Pdf::new().page_with_broken_picture().build();
    assert_eq!(
        refusal(pdf, "application/pdf").await,
        (Stage::Render, TroubleCode::Damaged)
    );
}

#[tokio::test]
async fn chinese_font_that_is_not_held_is_an_error_without_a_font_folder() {
    let bytes = Pdf::new().page_in_song("你好世界").build();
    let pool = pool().await;
    let mut document = open(&pool, bytes, "application/pdf").await;
    let trouble = document.page(0, &SPEC, true).await.unwrap_err();
    assert_eq!(trouble.code, TroubleCode::Unsupported);
    assert!(trouble.message.contains("STSong-Light"), "{trouble}");
    assert!(trouble.message.contains("font_folder"), "{trouble}");
}

#[tokio::test]
async fn chinese_font_that_is_not_held_comes_from_the_font_folder() {
    let folder = std::path::Path::new("/usr/share/fonts/opentype/noto");
    if !folder.exists() {
        println!("skipped: no Chinese fonts at {}", folder.display());
        return;
    }
    let settings = RenderSettings {
        font_folder: Some(folder.into()),
        ..settings()
    };
    let pool = RenderPool::start(settings).await.unwrap();
    let bytes = Pdf::new().page_in_song("你好世界").build();
    let page = open(&pool, bytes, "application/pdf")
        .await
        .page(0, &SPEC, true)
        .await
        .unwrap();
    assert!(page.warnings.is_empty(), "{:?}", page.warnings);
    assert_eq!(page.text_layer.as_ref().unwrap().visible_text, "你好世界");
    // Four characters of 48 pixels: a good part of their squares is ink.
    let ink = page
        .image
        .rgb
        .chunks(3)
        .filter(|pixel| pixel[0] < 128)
        .count();
    assert!(ink > 4 * 48 * 48 / 8, "{ink}");
}

#[tokio::test]
async fn missing_program_and_missing_folder_are_told_at_start() {
    let settings_of_nothing = RenderSettings {
        program: "/nowhere/at/all".into(),
        ..settings()
    };
    assert!(RenderPool::start(settings_of_nothing).await.is_err());
    let no_fonts = RenderSettings {
        font_folder: Some("/nowhere/at/all".into()),
        ..settings()
    };
    assert!(RenderPool::start(no_fonts).await.is_err());
    let wrong = RenderSettings {
        program: "/bin/cat".into(),
        ..settings()
    };
    assert!(RenderPool::start(wrong).await.is_err());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn walls_stand_around_the_child() {
    let status = pool().await.sandbox_status();
    assert!(
        status.limits && status.no_new_privileges && status.seccomp,
        "{status:?}"
    );
    assert!(status.ends_with_parent);
    // Kernels before 5.13, and some built without it, have no Landlock.
    assert!(status.landlock || status.missing.iter().any(|m| m.starts_with("Landlock")));
}
