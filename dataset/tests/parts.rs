//! Parts: rows in, the same rows out, in bounded row groups and equal bytes.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod support;

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;
use quire_core::{Block, Flag, JobId, Label, LeaseId, Parsed, Quad, Rect};
use quire_dataset::{EmbeddedImage, Output, PageRow, PartRow, PartSummary, PartWriter};
use support::{commit, request, shards, some_documents};

fn write(file: &Path, rows: impl IntoIterator<Item = PartRow>) -> PartSummary {
    let mut writer = PartWriter::create(File::create(file).unwrap()).unwrap();
    for row in rows {
        writer.write(row).unwrap();
    }
    writer.finish().unwrap()
}

fn page(n: usize) -> PageRow {
    support::page(n, 1, &JobId::new("job"), 0, false)
}

fn row(page: PageRow) -> PartRow {
    PartRow::Page {
        page: Box::new(page),
        document: None,
    }
}

#[test]
fn summary_counts_rows_by_what_became_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part.parquet");
    let rows = shards(&JobId::new("job"), &some_documents(), 1000, true).remove(0);
    let summary = write(&file, rows);
    assert_eq!((summary.ok, summary.failed, summary.skipped), (29, 5, 2));
    assert_eq!(summary.rows, 36);
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    use sha2::{Digest, Sha256};
    assert_eq!(summary.sha256, hex::encode(Sha256::digest(bytes)));
}

#[test]
fn part_without_rows_is_a_file_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part.parquet");
    assert_eq!(write(&file, []).rows, 0);
    let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
}

#[test]
fn row_groups_stay_below_64_mib_and_500_rows_with_images() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part.parquet");
    let images = (0..1300).map(|n| {
        let mut page = page(n);
        page.image = Some(EmbeddedImage {
            bytes: Bytes::from(vec![n as u8; 100_000]),
            path: "x.jpg".to_owned(),
        });
        row(page)
    });
    let texts = (0..40).map(|n| {
        let mut page = page(n);
        page.text = "abcdefgh".repeat(1 << 20);
        row(page)
    });
    write(&file, images.chain(texts));
    let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    assert!(groups.len() > 6);
    for group in groups {
        assert!(group.num_rows() <= 500);
        assert!(
            group.total_byte_size() <= 64 << 20,
            "{}",
            group.total_byte_size()
        );
        for column in group.columns() {
            assert!(
                column
                    .encodings()
                    .all(|encoding| { encoding != parquet::basic::Encoding::BYTE_STREAM_SPLIT })
            );
        }
    }
}

#[test]
fn same_rows_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let rows = shards(&JobId::new("job"), &some_documents(), 1000, true).remove(0);
    let one = write(&folder.path().join("one"), rows.clone());
    let other = write(&folder.path().join("other"), rows);
    assert_eq!(one, other);
}

fn any_block() -> impl Strategy<Value = Block> {
    let share = || 0.0_f32..=1.0;
    let quad =
        prop::option::of(prop::array::uniform4(prop::array::uniform2(share())).prop_map(Quad));
    (
        prop::sample::select(Label::ALL),
        ".{0,12}",
        (
            share(),
            share(),
            share(),
            share(),
            prop::option::of(share()),
        ),
        quad,
        (
            ".{0,20}",
            prop::option::of(".{0,20}"),
            prop::option::of(".{0,20}"),
        ),
        prop::option::of((0..99_u32, 0..99_u32)),
        (prop::option::of(0..9_u32), prop::option::of(1..6_u32)),
        prop::option::of((".{0,20}", "[a-z]{0,9}", ".{0,20}")),
    )
        .prop_map(
            |(
                label,
                label_raw,
                (x0, y0, x1, y1, confidence),
                quad,
                texts,
                range,
                place,
                parsed,
            )| Block {
                label,
                label_raw,
                rect: Rect { x0, y0, x1, y1 },
                quad,
                text: texts.0,
                html: texts.1,
                latex: texts.2,
                text_range: range.map(|(start, end)| start..end),
                parent: place.0,
                level: place.1,
                confidence,
                parsed: parsed.map(|(asked, kind, text)| Parsed { asked, kind, text }),
            },
        )
}

fn any_page() -> impl Strategy<Value = PageRow> {
    (
        0_usize..50,
        any::<String>(),
        prop::collection::vec(any_block(), 0..5),
        any::<bool>(),
        prop::collection::vec(prop::sample::select(Flag::ALL), 0..3),
        prop::option::of(any::<f32>().prop_filter("equal to itself", |number| !number.is_nan())),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    )
        .prop_map(|(n, text, layout, has_lines, flags, quality, image)| {
            let mut page = page(n);
            page.text = text;
            page.layout = layout;
            page.flags = flags;
            page.quality = quality;
            if !has_lines {
                page.lines = None;
            }
            page.image = image.map(|bytes| EmbeddedImage {
                bytes: Bytes::from(bytes),
                path: format!("{}.jpg", page.page_id),
            });
            page
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_page_comes_back_as_it_was(pages in prop::collection::btree_map(0_usize..50, any_page(), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let output = Output::create_local(&folder.path().join("out")).unwrap();
            let written: Vec<PageRow> = pages
                .into_iter()
                .map(|(n, page)| {
                    let named = support::page(n, 1, &JobId::new("job"), 0, false);
                    PageRow {
                        page_id: named.page_id,
                        doc_id: named.doc_id,
                        content_sha256: named.content_sha256,
                        split: named.split,
                        source_uri: named.source_uri,
                        source_member: named.source_member,
                        ..page
                    }
                })
                .collect();
            let rows: Vec<PartRow> = written.iter().cloned().map(row).collect();
            let (area, _) = commit(&output, "job", &[rows]).await;
            quire_dataset::seal(&output, &area, request(folder.path(), None)).await.unwrap();
            let dataset = quire_dataset::Dataset::open(&output).await.unwrap();
            let mut read: Vec<PageRow> = dataset.rows().collect().await.unwrap();
            let mut written = written;
            read.sort_by(|a, b| a.page_id.cmp(&b.page_id));
            written.sort_by(|a, b| a.page_id.cmp(&b.page_id));
            assert_eq!(read, written);
        });
    }
}

#[tokio::test]
async fn part_of_the_same_lease_overwrites_itself_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    let area = output.job_area(&JobId::new("job")).unwrap();
    let first = support::write_part(&area, 0, "one", &[row(page(0))]).await;
    let other = support::write_part(&area, 0, "two", &[row(page(0))]).await;
    let again = support::write_part(&area, 0, "one", &[row(page(0)), row(page(1))]).await;
    assert_eq!(first.key, again.key);
    assert_eq!(area.list_parts().await.unwrap().len(), 2);
    assert_eq!(
        area.part_bytes(&again.key).await.unwrap(),
        Some(again.bytes)
    );
    assert_eq!(
        area.part_bytes(&other.key).await.unwrap(),
        Some(other.bytes)
    );
    area.delete_part(&other.key).await.unwrap();
    area.delete_part(&other.key).await.unwrap();
    assert_eq!(area.part_bytes(&other.key).await.unwrap(), None);
    assert!(other.key.contains(LeaseId::new("two").as_str()));
}
