//! Every broken promise is found, and named with its file and row.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod support;

use std::path::{Path, PathBuf};

use quire_core::{DocId, Fault, JobId, Rect};
use quire_dataset::{
    DocumentRow, ErrorRow, Output, PageRow, PartRow, VerifyReport, paths, refresh, seal, verify,
};
use support::{commit, request, shards, some_documents};

const TRAIN: &str = "out/data/v000001/pages/train/train-00000-of-00001.parquet";

/// A dataset whose rows were changed before they were written.
async fn dataset(folder: &Path, mut change: impl FnMut(&mut PartRow)) -> Output {
    let output = Output::create_local(&folder.join("out")).unwrap();
    let mut rows = shards(&JobId::new("job"), &some_documents(), 7, true);
    rows.iter_mut().flatten().for_each(&mut change);
    let (area, _) = commit(&output, "job", &rows).await;
    seal(&output, &area, request(folder, None)).await.unwrap();
    output
}

fn told(report: &VerifyReport) -> String {
    report
        .violations
        .iter()
        .map(|violation| format!("{violation}\n"))
        .collect()
}

#[track_caller]
fn assert_tells(report: &VerifyReport, expected: &str) {
    assert!(!report.is_sound());
    assert!(
        told(report).contains(expected),
        "{expected:?} is not in:\n{}",
        told(report)
    );
}

/// The page of document 0 that every test of a row changes.
async fn assert_page_caught(change: impl Fn(&mut PageRow), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let id = support::page(0, 2, &JobId::new("job"), 0, true).page_id;
    let output = dataset(folder.path(), |row| {
        if let PartRow::Page { page, .. } = row
            && page.page_id == id
        {
            change(page);
        }
    })
    .await;
    assert_tells(&verify(&output).await.unwrap(), expected);
}

async fn assert_document_caught(change: impl Fn(&mut DocumentRow), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |row| {
        if let PartRow::Page {
            document: Some(document),
            ..
        }
        | PartRow::Skipped { document } = row
        {
            change(document);
        }
    })
    .await;
    assert_tells(&verify(&output).await.unwrap(), expected);
}

async fn assert_error_caught(change: impl Fn(&mut ErrorRow), expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |row| {
        if let PartRow::Failed { error, .. } = row {
            change(error);
        }
    })
    .await;
    assert_tells(&verify(&output).await.unwrap(), expected);
}

#[tokio::test]
async fn page_that_breaks_a_promise_is_named() {
    let id = support::page(0, 2, &JobId::new("job"), 0, true).page_id;
    assert_page_caught(
        |page| page.text.push('x'),
        &format!("row {id}: text_chars is"),
    )
    .await;
    assert_page_caught(
        |page| {
            page.text.push_str("e\u{301}");
            page.text_chars += 2;
        },
        "text is not NFC",
    )
    .await;
    assert_page_caught(
        |page| {
            page.text.push('\r');
            page.text_chars += 1;
        },
        "carriage return",
    )
    .await;
    assert_page_caught(|page| page.layout[0].rect.x1 = 1.5, "layout 0 has the box").await;
    assert_page_caught(
        |page| page.layout[0].rect.x0 = f32::NAN,
        "layout 0 has the box",
    )
    .await;
    assert_page_caught(
        |page| {
            page.layout[1].rect = Rect {
                x0: 0.5,
                y0: 0.1,
                x1: 0.4,
                y1: 0.2,
            }
        },
        "layout 1 has the box",
    )
    .await;
    assert_page_caught(
        |page| page.layout[1].text_range = Some(3..900),
        "layout 1 has text",
    )
    .await;
    assert_page_caught(|page| page.layout[2].text_range = Some(0..1), "page_number").await;
    assert_page_caught(
        |page| page.layout[1].parent = Some(3),
        "layout 1 has parent",
    )
    .await;
    assert_page_caught(
        |page| page.lines.as_mut().unwrap()[0].block = Some(9),
        "lines 0 is in block",
    )
    .await;
    assert_page_caught(|page| page.rotation = 45, "rotation is 45").await;
    assert_page_caught(|page| page.quality = Some(1.5), "quality is 1.5").await;
    assert_page_caught(|page| page.source_uri.push('x'), "doc_id is not that of").await;
    assert_page_caught(|page| page.content_sha256.pop().map_or((), drop), "is none").await;
    assert_page_caught(|page| page.page_id.push('1'), "page_id does not go with").await;
    assert_page_caught(
        |page| page.image.as_mut().unwrap().path.push('x'),
        "image.path",
    )
    .await;
    assert_page_caught(
        |page| page.image_sha256 = Some("0".repeat(64)),
        "image_sha256",
    )
    .await;
    assert_page_caught(
        |page| page.finish_reason = Some("why".to_owned()),
        "finish_reason",
    )
    .await;
    assert_page_caught(
        |page| page.doc_id = DocId::new("0".repeat(32)),
        "has 3 pages, 2 read and 0 failed",
    )
    .await;
}

#[tokio::test]
async fn document_that_breaks_a_promise_is_named() {
    assert_document_caught(|document| document.page_count = Some(77), "has 77 pages").await;
    assert_document_caught(
        |document| document.source_uri.push('x'),
        "doc_id is not that of",
    )
    .await;
    assert_document_caught(
        |document| document.duplicate_of = None,
        "duplicate of nothing",
    )
    .await;
    assert_document_caught(
        |document| {
            if document.duplicate_of.is_some() {
                document.duplicate_of = Some(DocId::new("0".repeat(32)));
            }
        },
        "the duplicate of a document that has no row",
    )
    .await;
}

#[tokio::test]
async fn error_that_breaks_a_promise_is_named() {
    assert_error_caught(|error| error.message = "x".repeat(2049), "message has 2049").await;
    assert_error_caught(
        |error| error.page_id = Some("other".to_owned()),
        "does not go with",
    )
    .await;
}

#[tokio::test]
async fn page_in_two_shards_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    let mut rows = shards(&JobId::new("job"), &some_documents(), 7, false);
    let doubled = rows[0][1].clone();
    rows.last_mut().unwrap().push(doubled.clone());
    let (area, _) = commit(&output, "job", &rows).await;
    seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    let id = doubled.page().unwrap().page_id.clone();
    assert_tells(
        &verify(&output).await.unwrap(),
        &format!("row {id}: is there twice"),
    );
}

#[tokio::test]
async fn page_twice_in_a_shard_is_not_even_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    let mut rows = shards(&JobId::new("job"), &some_documents(), 7, false);
    let doubled = rows[0][1].clone();
    rows[0].insert(2, doubled);
    let (area, _) = commit(&output, "job", &rows).await;
    let error = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::Corrupt);
}

#[tokio::test]
async fn changed_byte_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |_| {}).await;
    let file = folder.path().join(TRAIN);
    let whole = std::fs::read(&file).unwrap();
    for at in [0, 4, whole.len() / 3, whole.len() / 2, whole.len() - 5] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&file, bytes).unwrap();
        assert_tells(
            &verify(&output).await.unwrap(),
            "train-00000-of-00001.parquet: has SHA-256",
        );
    }
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert_tells(&verify(&output).await.unwrap(), "bytes, not");
    std::fs::remove_file(&file).unwrap();
    assert_tells(
        &verify(&output).await.unwrap(),
        "train-00000-of-00001.parquet: is missing",
    );
}

/// Changes the newest version file as somebody without care would, checksums kept right.
fn forge(folder: &Path, change: impl Fn(&mut serde_json::Value)) {
    let file = folder.join("out").join(paths::version(1));
    let mut version: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut version);
    std::fs::write(&file, serde_json::to_vec_pretty(&version).unwrap()).unwrap();
}

#[tokio::test]
async fn forged_version_file_is_found() {
    for (forgery, expected) in [
        ("fraction", "is in the wrong split"),
        ("digest", "has rows_digest"),
        ("totals", "has totals that its files do not add up to"),
        ("rows", "rows, not 1"),
        ("engines", "names other engines"),
        ("file", "is listed by no version"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = dataset(folder.path(), |_| {}).await;
        forge(folder.path(), |version| match forgery {
            "fraction" => version["split"]["fraction"] = 1.into(),
            "digest" => version["files"][0]["rows_digest"] = "0".repeat(64).into(),
            "totals" => version["totals"]["pages"] = 1.into(),
            "rows" => version["files"][0]["rows"] = 1.into(),
            "engines" => version["engines"] = serde_json::json!([]),
            _ => drop(version["files"].as_array_mut().unwrap().pop()),
        });
        assert_tells(&verify(&output).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn bytes_that_are_no_parquet_are_a_violation_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |_| {}).await;
    let file = folder.path().join(TRAIN);
    let whole = std::fs::read(&file).unwrap();
    let mut ruined: Vec<Vec<u8>> = vec![Vec::new(), b"PAR1".to_vec(), vec![0x41; 4096]];
    // Footers that say anything: the length, and the metadata itself.
    ruined.extend((1..60).map(|at| {
        let mut bytes = whole.clone();
        let place = bytes.len() - at * 97 % bytes.len() - 1;
        bytes[place] ^= 0x55;
        bytes
    }));
    for bytes in ruined {
        std::fs::write(&file, &bytes).unwrap();
        forge(folder.path(), |version| {
            for file in version["files"].as_array_mut().unwrap() {
                if file["split"] == "train" {
                    file["bytes"] = bytes.len().into();
                    file["sha256"] = sha256(&bytes).into();
                }
            }
        });
        assert!(!verify(&output).await.unwrap().is_sound());
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test]
async fn file_that_no_version_lists_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |_| {}).await;
    let stray: PathBuf = folder
        .path()
        .join("out/data/v000001/pages/train/more.parquet");
    std::fs::copy(folder.path().join(TRAIN), &stray).unwrap();
    let report = verify(&output).await.unwrap();
    assert_tells(
        &report,
        "data/v000001/pages/train/more.parquet: is listed by no version",
    );
}

#[tokio::test]
async fn files_of_a_version_that_is_being_sealed_are_only_noted() {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |_| {}).await;
    let next = folder.path().join("out/data/v000002/pages/train");
    std::fs::create_dir_all(&next).unwrap();
    std::fs::copy(
        folder.path().join(TRAIN),
        next.join("train-00000-of-00002.parquet"),
    )
    .unwrap();
    assert_tells(&verify(&output).await.unwrap(), "is listed by no version");
    let claim = folder.path().join("out.quire").join(paths::claim(2));
    std::fs::write(claim, r#"{"version": 2, "job_id": "next"}"#).unwrap();
    let report = verify(&output).await.unwrap();
    assert!(report.is_sound(), "{}", told(&report));
    assert!(report.notes[0].contains("version 2 is being sealed by job next, 1 of its files"));
}

#[tokio::test]
async fn card_that_lags_behind_is_noted_and_a_wrong_one_found() {
    let folder = tempfile::tempdir().unwrap();
    let output = dataset(folder.path(), |_| {}).await;
    let readme = folder.path().join("out/README.md");
    let first = std::fs::read(&readme).unwrap();
    let rows = shards(
        &JobId::new("two"),
        &[(70, support::Made::Unreadable)],
        7,
        false,
    );
    let (area, _) = commit(&output, "two", &rows).await;
    seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    std::fs::write(&readme, first).unwrap();
    std::fs::remove_file(folder.path().join("out/_SUCCESS")).unwrap();
    let report = verify(&output).await.unwrap();
    assert!(report.is_sound(), "{}", told(&report));
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
    std::fs::write(&readme, "something else").unwrap();
    assert_tells(
        &verify(&output).await.unwrap(),
        "README.md: does not follow from any version",
    );
    refresh(&output).await.unwrap();
    assert_eq!(verify(&output).await.unwrap().notes, [] as [String; 0]);
}

#[tokio::test]
async fn folder_without_a_version_is_no_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(folder.path()).unwrap();
    assert_eq!(verify(&output).await.unwrap_err().fault(), Fault::Config);
}
