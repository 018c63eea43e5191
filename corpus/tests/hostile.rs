//! Archives changed at random never panic and always end; the shared corpus gives what its
//! manifest says.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_array::{ArrayRef, StringArray};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use quire_core::TroubleCode;
use quire_corpus::{FoundDocument, Limits, media_type};
use support::{
    binary, gzip, image_struct, list_of_binary, open, open_bytes, outcomes, parquet, png, tar,
    warc_record, zip,
};

/// One small archive of each kind.
fn archives() -> &'static [Vec<u8>] {
    static ARCHIVES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ARCHIVES.get_or_init(|| {
        let members: [(&str, &[u8]); 3] = [
            ("a.png", &png(700)),
            ("b/b.json", b"{}"),
            ("c.png", &png(90)),
        ];
        let (zipped, tarred) = (zip(&members), tar(&members));
        let http = "Content-Type: application/http\r\n";
        let answer = [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5a\r\n".as_slice(),
            &png(90),
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        let warc = [
            warc_record("response", "urn:1", http, &answer),
            warc_record("resource", "urn:2", "", &png(80)),
        ]
        .concat();
        let (a, b) = (png(300), png(40));
        let with = |compression, encoding: Option<Encoding>| {
            let builder = WriterProperties::builder().set_compression(compression);
            let properties = match encoding {
                Some(encoding) => builder.set_dictionary_enabled(false).set_encoding(encoding),
                None => builder,
            };
            let rows = [
                (Some(&a[..]), Some("a")),
                (None, None),
                (Some(&b[..]), None),
            ];
            let texts = Arc::new(StringArray::from(vec!["x", "y", "z"])) as ArrayRef;
            let plain = binary(&[Some(&a), Some(&b), None]);
            let lists = list_of_binary(&[&[&a, &b], &[], &[&b]]);
            match encoding {
                // Text columns do not take the encodings of bytes alone.
                Some(_) => parquet(vec![("scan", plain), ("list", lists)], properties.build()),
                None => parquet(
                    vec![
                        ("text", texts),
                        ("image", image_struct(&rows)),
                        ("list", lists),
                    ],
                    properties.build(),
                ),
            }
        };
        vec![
            zip(&[("inner.tar", &tarred), ("x.png", &png(30))]),
            zipped,
            gzip(&tarred),
            zstd::encode_all(&tarred[..], 3).unwrap(),
            tarred,
            gzip(&warc),
            warc,
            with(Compression::SNAPPY, None),
            with(Compression::GZIP(GzipLevel::default()), None),
            with(Compression::ZSTD(ZstdLevel::default()), None),
            with(Compression::UNCOMPRESSED, Some(Encoding::DELTA_BYTE_ARRAY)),
            with(
                Compression::LZ4_RAW,
                Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            ),
            gzip(&png(400)),
        ]
    })
}

fn small_limits() -> Limits {
    Limits {
        file_bytes: 4 << 20,
        member_bytes: 2 << 20,
        members: 1000,
        member_floor_bytes: 1 << 20,
        entry_floor_bytes: 16 << 20,
        ..Limits::default()
    }
}

/// What holds for everything that comes out of any bytes.
fn check_promises(found: &[FoundDocument]) -> Result<(), TestCaseError> {
    prop_assert!(!found.is_empty(), "nothing came out");
    let members: HashSet<_> = found.iter().map(|document| &document.member).collect();
    prop_assert_eq!(members.len(), found.len(), "a member came twice");
    for document in found {
        prop_assert!(document.member.as_deref() != Some(""));
        if let Err(trouble) = &document.content {
            prop_assert!(!trouble.message.is_empty());
        }
    }
    Ok(())
}

fn opened(bytes: &[u8]) -> Vec<FoundDocument> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(open_bytes(bytes, &small_limits()))
}

/// A change to some bytes: set, cut, or repeat a piece.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Ones(prop::sample::Index, usize),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at(), 1..9_usize).prop_map(|(at, len)| Change::Ones(at, len)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), 1..600_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Ones(at, len) => {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + len);
            bytes[at..end].fill(0xff);
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::Repeat(at, len) => {
            let at = at.index(bytes.len());
            let piece = bytes[at..bytes.len().min(at + len)].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn changed_archives_never_panic_and_always_account_for_themselves(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut bytes = archives()[which.index(archives().len())].clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        let found = opened(&bytes);
        check_promises(&found)?;
        // A panic is caught and told as a crash; none should be needed.
        let crash = found.iter().find(|document| {
            matches!(&document.content, Err(trouble) if trouble.code == TroubleCode::Crash)
        });
        prop_assert!(crash.is_none(), "{crash:?}");
    }

    #[test]
    fn any_bytes_have_a_media_type(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(media_type(&bytes).contains('/'));
    }
}

#[test]
fn every_cut_of_every_archive_ends_with_an_account() {
    for archive in archives() {
        for len in (0..archive.len()).step_by(37) {
            check_promises(&opened(&archive[..len])).unwrap();
        }
    }
}

#[test]
fn flat_bombs_end_in_bounded_time_and_memory() {
    // A tar whose one member states ten gigabytes and brings zeros as long as anybody reads.
    let mut header = tar::Header::new_gnu();
    header.set_size(10 << 30);
    header.set_path("zeros.bin").unwrap();
    header.set_cksum();
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut packed, header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..200 {
        std::io::Write::write_all(&mut packed, &zeros).unwrap();
    }
    let found = opened(&packed.finish().unwrap());
    let outcome = outcomes(&found);
    assert_eq!(outcome[0], (Some("zeros.bin"), Err(TroubleCode::TooLarge)));
    assert_eq!(outcome[1], (None, Err(TroubleCode::Bomb)));
}

fn shared_corpus() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    if folder.is_dir() {
        return Some(folder.to_owned());
    }
    println!("skipped: {} is not there", folder.display());
    None
}

#[tokio::test]
async fn containers_of_the_shared_corpus_give_what_they_hold() {
    let Some(corpus) = shared_corpus() else {
        return;
    };
    let check = async |name: &str, documents: usize, rest: &[TroubleCode]| {
        let found = open(&corpus.join("containers").join(name), &Limits::default()).await;
        let good = found
            .iter()
            .filter(|document| document.content.is_ok())
            .count();
        assert_eq!(good, documents, "{name}: {:?}", outcomes(&found));
        // Sidecars are rows of their own and not what this is about.
        let troubles: Vec<TroubleCode> = found
            .iter()
            .filter(|document| {
                !matches!(
                    document.media_type.as_str(),
                    "text/plain" | "application/json"
                )
            })
            .filter_map(|document| document.content.as_ref().err())
            .map(|trouble| trouble.code)
            .collect();
        assert_eq!(troubles, rest, "{name}: {:?}", outcomes(&found));
    };
    check("pages.zip", 7, &[]).await;
    check("pages-webdataset.tar", 14, &[]).await;
    check("pages.tar.gz", 3, &[]).await;
    check("pages-images.parquet", 14, &[]).await;
    check("truncated.tar", 4, &[TroubleCode::Truncated]).await;
    check("truncated.zip", 3, &[TroubleCode::Truncated]).await;
    check("hostile-names.zip", 0, &[TroubleCode::Bomb]).await;
    check("texts.parquet", 0, &[TroubleCode::Unsupported]).await;
    check("texts.jsonl.gz", 0, &[TroubleCode::Unsupported]).await;
    check("truncated.parquet", 0, &[TroubleCode::Truncated]).await;
}

#[tokio::test]
async fn pages_in_containers_are_the_files_beside_them() {
    let Some(corpus) = shared_corpus() else {
        return;
    };
    let pages: HashSet<Vec<u8>> = std::fs::read_dir(corpus.join("pages"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    for name in [
        "pages.zip",
        "pages-webdataset.tar",
        "pages.tar.gz",
        "pages-images.parquet",
    ] {
        for document in open(&corpus.join("containers").join(name), &Limits::default()).await {
            let Ok(bytes) = &document.content else {
                continue;
            };
            assert!(pages.contains(&bytes[..]), "{name}: {:?}", document.member);
        }
    }
}
