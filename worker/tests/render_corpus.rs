//! Real, odd and hostile documents through the renderer. The documents are not part of this
//! repository: without them these tests say so and pass.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_core::{RenderSpec, Trouble, TroubleCode};
use quire_worker::pipeline::render::{RenderPool, RenderSettings, RenderedPage};
use quire_worker::pipeline::text_layer::{Distrust, TextLayer, trust};

const SPEC: RenderSpec = RenderSpec {
    dpi: 100.0,
    max_edge_px: 2000,
    max_area_px: 3_000_000,
};

fn corpus() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    if !folder.exists() {
        println!("skipped: no documents at {}", folder.display());
    }
    folder.exists().then(|| folder.to_owned())
}

async fn pool(children: usize) -> RenderPool {
    let settings = RenderSettings {
        program: env!("CARGO_BIN_EXE_quire-render-child").into(),
        args: Vec::new(),
        memory_limit_bytes: 2 << 30,
        page_timeout: Duration::from_secs(60),
        open_timeout: Duration::from_secs(60),
        passwords: vec!["wrong".into(), "geheim".into(), "sesame-2024".into()],
        font_folder: None,
        require_sandbox: false,
        children,
    };
    RenderPool::start(settings).await.unwrap()
}

fn media_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'I', b'I', 42, 0, ..] => "image/tiff",
        [b'G', b'I', b'F', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        _ => "application/pdf",
    }
}

async fn first_page(pool: &RenderPool, file: &Path) -> Result<RenderedPage, Trouble> {
    let bytes = std::fs::read(file).unwrap();
    let media_type = media_type(&bytes);
    pool.open(bytes.into(), media_type)
        .await?
        .page(0, &SPEC, true)
        .await
}

#[tokio::test]
async fn odd_documents_end_as_they_should() {
    let Some(corpus) = corpus() else { return };
    let pool = pool(1).await;
    let expected = [
        ("alpha-text.png", None),
        ("bad-crc.png", Some(TroubleCode::Damaged)),
        ("bomb-content-stream.pdf", Some(TroubleCode::Bomb)),
        ("bomb-image.pdf", Some(TroubleCode::Bomb)),
        ("bomb-pixels.png", Some(TroubleCode::Bomb)),
        ("cmyk.jpg", None),
        ("encrypted-aes128-user.pdf", None),
        ("encrypted-aes256-user.pdf", None),
        ("encrypted-rc4-owner-only.pdf", None),
        ("exif-rotated.jpg", None),
        ("grey16.png", None),
        ("huge-page.pdf", None),
        ("junk-prefix.pdf", None),
        ("loop-form.pdf", None),
        ("loop-pages.pdf", None),
        ("ocrmypdf-invalid.pdf", Some(TroubleCode::Damaged)),
        ("one-pixel.png", None),
        ("page.bmp", None),
        ("palette.gif", None),
        ("random-bytes.pdf", Some(TroubleCode::Damaged)),
        ("sliver.png", None),
        ("text-named.pdf", Some(TroubleCode::Damaged)),
        ("tiny-page.pdf", None),
        ("truncated-60.pdf", None),
        ("truncated-tail.pdf", None),
        ("truncated.jpg", Some(TroubleCode::Truncated)),
        ("zero-byte.pdf", Some(TroubleCode::Damaged)),
        ("zero-pages.pdf", Some(TroubleCode::Damaged)),
    ];
    for (name, code) in expected {
        let result = first_page(&pool, &corpus.join("edge").join(name)).await;
        assert_eq!(
            result.as_ref().err().map(|trouble| trouble.code),
            code,
            "{name}: {result:?}"
        );
    }
}

#[tokio::test]
async fn traps_of_text_layers_are_seen() {
    let Some(corpus) = corpus() else { return };
    let pool = pool(1).await;
    let check = async |file: &str, expected: Result<(), Distrust>| {
        let page = first_page(&pool, &corpus.join(file)).await.unwrap();
        assert_eq!(trust(&page.text_layer.unwrap()), expected, "{file}");
    };
    check(
        "edge/scan-with-garbage-text-layer.pdf",
        Err(Distrust::Invisible),
    )
    .await;
    check(
        "edge/scan-with-watermark-text-only.pdf",
        Err(Distrust::UnderPicture),
    )
    .await;
    check("edge/shifted-tounicode.pdf", Err(Distrust::OddCharacters)).await;
    check("born-digital/outlines-only.pdf", Err(Distrust::NoText)).await;
    check(
        "born-digital/no-tounicode-truetype.pdf",
        Err(Distrust::NoText),
    )
    .await;
    check("born-digital/no-tounicode-type3.pdf", Err(Distrust::NoText)).await;
    check("born-digital/wikipedia-print.pdf", Err(Distrust::NoText)).await;
    check("scans/brochure-ccitt.pdf", Err(Distrust::NoText)).await;
    check("born-digital/acm-twocolumn.pdf", Ok(())).await;
    check("born-digital/own-twocolumn-en.pdf", Ok(())).await;
    check("born-digital/own-twocolumn-zh.pdf", Ok(())).await;
    check("born-digital/refcard-zh-landscape.pdf", Ok(())).await;

    // The shift alone gives it away too, without the odd characters it happens to make.
    let shifted = corpus.join("edge/shifted-tounicode.pdf");
    let layer = first_page(&pool, &shifted)
        .await
        .unwrap()
        .text_layer
        .unwrap();
    assert_eq!(
        trust(&TextLayer { n_odd: 0, ..layer }),
        Err(Distrust::Implausible)
    );
}

#[tokio::test]
async fn text_layers_read_as_another_reader_reads_them() {
    let Some(corpus) = corpus() else { return };
    let pool = pool(1).await;
    let documents = [
        "acm-twocolumn",
        "own-twocolumn-en",
        "own-twocolumn-zh",
        "slides-en",
    ];
    for name in documents {
        let page = first_page(&pool, &corpus.join(format!("born-digital/{name}.pdf"))).await;
        let ours = page.unwrap().text_layer.unwrap().visible_text;
        let theirs = corpus.join(format!("born-digital/{name}.pages.txt"));
        let theirs = std::fs::read_to_string(theirs).unwrap();
        let squeezed = |text: &str| {
            text.chars()
                .filter(|c| !c.is_whitespace())
                .collect::<String>()
        };
        let theirs = squeezed(theirs.split('\u{c}').next().unwrap());
        let likeness = rapidfuzz::fuzz::ratio(squeezed(&ours).chars(), theirs.chars());
        assert!(likeness > 0.99, "{name}: {likeness}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_documents_are_drawn_or_refused() {
    let Some(corpus) = corpus() else { return };
    let pool = pool(2).await;
    let table = std::fs::read_to_string(corpus.join("hostile/expected.tsv")).unwrap();
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = heads
        .iter()
        .position(|&head| head == "hayro_status")
        .unwrap();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let result = first_page(&pool, &corpus.join("hostile").join(cells[0])).await;
        assert_eq!(
            result.is_ok(),
            cells[column] == "ok",
            "{}: {result:?}",
            cells[0]
        );
    }
}
