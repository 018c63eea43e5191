//! Containers made on the spot: what comes out, under which names, with which troubles.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use quire_core::TroubleCode::{
    Bomb, Damaged, Encrypted, NotFound, TooLarge, Truncated, Unsupported,
};
use quire_corpus::Limits;
use support::{
    binary, gzip, image_struct, list_of_binary, open_bytes, outcomes, parquet, png, read, tar,
    wanted, warc_record, zip,
};

fn limits() -> Limits {
    Limits::default()
}

#[tokio::test]
async fn zip_gives_members_by_content_and_leaves_furniture_out() {
    let bytes = zip(&[
        ("scans/页 1.png", &png(500)),
        ("notes.txt", b"hello"),
        ("__MACOSX/scans/._1.png", &png(9)),
        ("scans/.DS_Store", b"x"),
        ("pdf-named.png", b"%PDF-1.4 and so on"),
        ("empty.pdf", b""),
    ]);
    let found = open_bytes(&bytes, &limits()).await;
    let wanted = [
        (Some("scans/页 1.png"), Ok(500)),
        (Some("notes.txt"), Err(Unsupported)),
        (Some("pdf-named.png"), Ok(18)),
        (Some("empty.pdf"), Err(Damaged)),
    ];
    assert_eq!(outcomes(&found), wanted);
    assert_eq!(found[2].media_type, "application/pdf");
}

#[tokio::test]
async fn stored_members_say_where_they_lie() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("a.png", stored).unwrap();
    writer.write_all(&png(300)).unwrap();
    let zipped = writer.finish().unwrap().into_inner();
    for bytes in [zipped, tar(&[("a.png", &png(300))])] {
        let found = open_bytes(&bytes, &limits()).await;
        let (offset, length) = (found[0].offset.unwrap(), found[0].length.unwrap());
        assert_eq!(
            &bytes[offset as usize..(offset + length) as usize],
            png(300)
        );
    }
}

#[tokio::test]
async fn zip_with_a_prefix_or_without_its_directory_is_read() {
    let bytes = zip(&[
        ("a.png", &png(200)),
        ("b.png", &png(300)),
        ("c.png", &png(400)),
    ]);
    let names = [
        (Some("a.png"), Ok(200)),
        (Some("b.png"), Ok(300)),
        (Some("c.png"), Ok(400)),
    ];
    // Content decides what it is, and a zip starts with its first member; so no junk in front.
    let directory = bytes
        .windows(4)
        .position(|mark| mark == b"PK\x01\x02")
        .unwrap();
    let found = open_bytes(&bytes[..directory], &limits()).await;
    assert_eq!(outcomes(&found)[..3], names);
    assert_eq!(outcomes(&found)[3..], [(None, Err(Truncated))]);
    let cut = open_bytes(&bytes[..directory - 50], &limits()).await;
    assert_eq!(outcomes(&cut)[..2], names[..2]);
    assert_eq!(outcomes(&cut)[2..], [(None, Err(Truncated))]);
}

#[tokio::test]
async fn hostile_zip_members_cost_one_row_each() {
    let zeros = vec![0; 80 << 20];
    let bytes = zip(&[
        ("../../etc/passwd", &png(30)),
        ("/abs.png", &png(31)),
        ("bomb", &zeros),
    ]);
    let found = open_bytes(&bytes, &limits()).await;
    let wanted = [
        (Some("etc/passwd"), Ok(30)),
        (Some("abs.png"), Ok(31)),
        (Some("bomb"), Err(Bomb)),
    ];
    assert_eq!(outcomes(&found), wanted);
    let small = Limits {
        member_bytes: 1000,
        ..limits()
    };
    let found = open_bytes(
        &zip(&[("big.png", &png(2000)), ("ok.png", &png(900))]),
        &small,
    )
    .await;
    assert_eq!(
        outcomes(&found),
        [(Some("big.png"), Err(TooLarge)), (Some("ok.png"), Ok(900))]
    );
}

#[tokio::test]
async fn a_member_that_lies_about_its_size_is_still_a_bomb() {
    let mut bytes = zip(&[("bomb", &vec![0; 80 << 20])]);
    // Both headers now state a thousand bytes unpacked.
    for (mark, field) in [(&b"PK\x03\x04"[..], 22), (b"PK\x01\x02", 24)] {
        let at = bytes.windows(4).position(|window| window == mark).unwrap();
        bytes[at + field..at + field + 4].copy_from_slice(&1000_u32.to_le_bytes());
    }
    let found = open_bytes(&bytes, &limits()).await;
    assert_eq!(outcomes(&found), [(Some("bomb"), Err(Bomb))]);
}

#[tokio::test]
async fn encrypted_members_say_so() {
    let mut bytes = zip(&[("secret.png", &png(100)), ("open.png", &png(100))]);
    for (mark, field) in [(&b"PK\x03\x04"[..], 6), (b"PK\x01\x02", 8)] {
        let at = bytes.windows(4).position(|window| window == mark).unwrap();
        bytes[at + field] |= 1;
    }
    let found = open_bytes(&bytes, &limits()).await;
    let wanted = [
        (Some("secret.png"), Err(Encrypted)),
        (Some("open.png"), Ok(100)),
    ];
    assert_eq!(outcomes(&found), wanted);
}

#[tokio::test]
async fn equal_names_stay_apart() {
    let bytes = tar(&[
        ("a.png", &png(10)),
        ("./a.png", &png(11)),
        ("a.png", &png(12)),
    ]);
    let found = open_bytes(&bytes, &limits()).await;
    let wanted = [
        (Some("a.png"), Ok(10)),
        (Some("a.png#2"), Ok(11)),
        (Some("a.png#3"), Ok(12)),
    ];
    assert_eq!(outcomes(&found), wanted);
}

#[tokio::test]
async fn office_files_and_books_are_what_they_are_and_no_archives() {
    let check = async |members: &[(&str, &[u8])], media: &str| {
        let found = open_bytes(&zip(members), &limits()).await;
        assert_eq!(outcomes(&found), [(None, Err(Unsupported))], "{media}");
        assert!(
            found[0].media_type.contains(media),
            "{}",
            found[0].media_type
        );
        let nested = zip(&[("inside.zip", &zip(members))]);
        let found = open_bytes(&nested, &limits()).await;
        assert_eq!(
            outcomes(&found),
            [(Some("inside.zip"), Err(Unsupported))],
            "{media}"
        );
        assert!(
            found[0].media_type.contains(media),
            "{}",
            found[0].media_type
        );
    };
    let types: (&str, &[u8]) = ("[Content_Types].xml", b"<Types/>");
    check(&[types, ("word/document.xml", b"<w/>")], "wordprocessingml").await;
    check(
        &[
            types,
            ("xl/workbook.xml", b"<w/>"),
            ("xl/media/a.png", &png(9)),
        ],
        "sheet",
    )
    .await;
    check(
        &[types, ("ppt/slides/slide1.xml", b"<w/>")],
        "presentationml",
    )
    .await;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("mimetype", stored).unwrap();
    writer.write_all(b"application/epub+zip").unwrap();
    let found = open_bytes(&writer.finish().unwrap().into_inner(), &limits()).await;
    assert_eq!(found[0].media_type, "application/epub+zip");
}

#[tokio::test]
async fn tar_comes_plain_and_packed_with_long_names() {
    let long = format!("{}/page.png", "folder".repeat(40));
    let bytes = tar(&[
        ("0001.png", &png(600)),
        ("0001.json", b"{\"a\": 1}"),
        (&long, &png(5000)),
    ]);
    let wanted = [
        (Some("0001.png"), Ok(600)),
        (Some("0001.json"), Err(Unsupported)),
        (Some(long.as_str()), Ok(5000)),
    ];
    let packed = [
        bytes.clone(),
        gzip(&bytes),
        zstd::encode_all(&bytes[..], 3).unwrap(),
    ];
    for bytes in packed {
        assert_eq!(outcomes(&open_bytes(&bytes, &limits()).await), wanted);
    }
}

#[tokio::test]
async fn a_cut_tar_keeps_its_whole_members() {
    let bytes = tar(&[("a.png", &png(600)), ("b.png", &png(5000))]);
    let wanted = [(Some("a.png"), Ok(600)), (None, Err(Truncated))];
    // In the second member, in its padding, in its header, behind the first member.
    for cut in [3000, 2048 + 100, 1536 + 100, 1536] {
        let plain = open_bytes(&bytes[..cut], &limits()).await;
        assert_eq!(outcomes(&plain), wanted, "cut at {cut}");
        let packed = open_bytes(&gzip(&bytes[..cut]), &limits()).await;
        assert_eq!(outcomes(&packed), wanted, "packed, cut at {cut}");
    }
    let packed = gzip(&tar(&[("a.png", &png(200_000)), ("b.png", &png(200_000))]));
    let found = open_bytes(&packed[..packed.len() - 100_000], &limits()).await;
    assert_eq!(
        outcomes(&found),
        [(Some("a.png"), Ok(200_000)), (None, Err(Truncated))]
    );
}

#[tokio::test]
async fn joined_tars_are_read_to_the_end() {
    let joined = [tar(&[("a.png", &png(100))]), tar(&[("b.png", &png(200))])].concat();
    let found = open_bytes(&joined, &limits()).await;
    assert_eq!(
        outcomes(&found),
        [(Some("a.png"), Ok(100)), (Some("b.png"), Ok(200))]
    );
}

#[tokio::test]
async fn links_and_devices_in_a_tar_are_rows() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("link", tar::EntryType::Symlink),
        ("hard", tar::EntryType::Link),
        ("pipe", tar::EntryType::Fifo),
        ("folder/", tar::EntryType::Directory),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(0);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        builder.append_data(&mut header, name, &b""[..]).unwrap();
    }
    let found = open_bytes(&builder.into_inner().unwrap(), &limits()).await;
    let row = |name| (Some(name), Err(Unsupported));
    assert_eq!(outcomes(&found), [row("link"), row("hard"), row("pipe")]);
}

#[tokio::test]
async fn containers_are_opened_one_level_deep() {
    let inner = zip(&[("x.png", &png(50)), ("y.png", &png(60))]);
    let deepest = zip(&[("inner.zip", &inner), ("z.png", &png(70))]);
    let outer = tar(&[
        ("a.zip", &inner),
        ("deep.zip", &deepest),
        ("packed.tar.gz", &gzip(&tar(&[("t.png", &png(80))]))),
        ("doc.png.gz", &gzip(&png(90))),
        ("a.zip!/x.png", &png(99)),
    ]);
    let found = open_bytes(&outer, &limits()).await;
    let all = [
        (Some("a.zip!/x.png"), Ok(50)),
        (Some("a.zip!/y.png"), Ok(60)),
        (Some("deep.zip!/inner.zip"), Err(Unsupported)),
        (Some("deep.zip!/z.png"), Ok(70)),
        (Some("packed.tar.gz!/t.png"), Ok(80)),
        (Some("doc.png.gz"), Ok(90)),
        (Some("a.zip!%2Fx.png"), Ok(99)),
    ];
    assert_eq!(outcomes(&found), all);
    // Each is found again by its name alone.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &outer).unwrap();
    for (name, outcome) in all {
        let found = read(file.path(), wanted(&[name.unwrap()]), &limits()).await;
        assert_eq!(outcomes(&found), [(name, outcome)]);
    }
}

#[tokio::test]
async fn a_packed_document_is_a_document() {
    for bytes in [gzip(&png(300)), zstd::encode_all(&png(300)[..], 1).unwrap()] {
        let found = open_bytes(&bytes, &limits()).await;
        assert_eq!(outcomes(&found), [(None, Ok(300))]);
        assert_eq!(found[0].media_type, "image/png");
    }
    let cut = gzip(&png(300_000));
    let found = open_bytes(&cut[..cut.len() / 2], &limits()).await;
    assert_eq!(outcomes(&found), [(None, Err(Truncated))]);
    let mut big = png(100);
    big.resize(100 << 20, 0);
    assert_eq!(
        outcomes(&open_bytes(&gzip(&big), &limits()).await),
        [(None, Err(Bomb))]
    );
}

#[tokio::test]
async fn an_archive_of_nothing_says_so() {
    for bytes in [zip(&[]), zip(&[("folder/", b""), (".DS_Store", b"x")])] {
        let found = open_bytes(&bytes, &limits()).await;
        assert_eq!(outcomes(&found), [(None, Err(Unsupported))]);
    }
}

#[tokio::test]
async fn too_many_members_end_the_container() {
    let few = Limits {
        members: 2,
        ..limits()
    };
    let members: [(&str, &[u8]); 3] = [("a.png", &png(10)), ("b.png", &png(10)), ("c.png", b"")];
    let expected = [
        (Some("a.png"), Ok(10)),
        (Some("b.png"), Ok(10)),
        (None, Err(TooLarge)),
    ];
    for bytes in [zip(&members), tar(&members)] {
        assert_eq!(outcomes(&open_bytes(&bytes, &few).await), expected);
    }
}

#[tokio::test]
async fn wanted_members_come_once_each_and_missing_ones_are_told() {
    let members: [(&str, &[u8]); 3] =
        [("a.png", &png(10)), ("b.png", &png(20)), ("c.txt", b"text")];
    for bytes in [zip(&members), tar(&members), gzip(&tar(&members))] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let found = read(file.path(), wanted(&["c.txt", "b.png", "gone"]), &limits()).await;
        let expected = [
            (Some("b.png"), Ok(20)),
            (Some("c.txt"), Err(Unsupported)),
            (Some("gone"), Err(NotFound)),
        ];
        assert_eq!(outcomes(&found), expected);
    }
    let found = read("/nowhere/x.zip".as_ref(), wanted(&["a", "b"]), &limits()).await;
    assert_eq!(
        outcomes(&found),
        [(Some("a"), Err(NotFound)), (Some("b"), Err(NotFound))]
    );
}

#[tokio::test]
async fn warc_gives_bodies_of_successful_answers_by_record_id() {
    let http = "Content-Type: application/http; msgtype=response\r\n";
    let answer = |status: &str, headers: &str, body: &[u8]| {
        let mut block = format!("HTTP/1.1 {status}\r\n{headers}\r\n").into_bytes();
        block.extend_from_slice(body);
        block
    };
    let chunked = [
        b"4\r\n".as_slice(),
        &png(20)[..4],
        b"\r\n10\r\n",
        &png(20)[4..],
        b"\r\n0\r\n\r\n",
    ];
    let coded = answer("200 OK", "Content-Encoding: gzip\r\n", &gzip(&png(64)));
    let records: Vec<Vec<u8>> = vec![
        warc_record("warcinfo", "urn:uuid:0", "", b"software: x"),
        warc_record(
            "response",
            "urn:uuid:1",
            http,
            &answer("200 OK", "A: b\r\n", &png(40)),
        ),
        warc_record("request", "urn:uuid:2", http, b"GET / HTTP/1.1\r\n\r\n"),
        warc_record(
            "response",
            "urn:uuid:3",
            http,
            &answer("301 Moved", "", b"<html>"),
        ),
        warc_record(
            "response",
            "urn:uuid:4",
            http,
            &answer("200 OK", "", b"<html>page</html>"),
        ),
        warc_record(
            "response",
            "urn:uuid:5",
            http,
            &answer(
                "200 OK",
                "Transfer-Encoding: chunked\r\n",
                &chunked.concat(),
            ),
        ),
        warc_record("response", "urn:uuid:6", http, &coded),
        warc_record(
            "resource",
            "urn:uuid:7",
            "Content-Type: image/png\r\n",
            &png(50),
        ),
        warc_record("revisit", "urn:uuid:8", http, b"HTTP/1.1 200 OK\r\n\r\n"),
        warc_record(
            "response",
            "urn:uuid:9",
            &format!("{http}WARC-Truncated: length\r\n"),
            &answer("200 OK", "", b"%PDF-1.4 cut"),
        ),
    ];
    let expected = [
        (Some("urn:uuid:1"), Ok(40)),
        (Some("urn:uuid:4"), Err(Unsupported)),
        (Some("urn:uuid:5"), Ok(20)),
        (Some("urn:uuid:6"), Ok(64)),
        (Some("urn:uuid:7"), Ok(50)),
        (Some("urn:uuid:9"), Err(Truncated)),
    ];
    let plain = records.concat();
    let packed: Vec<u8> = records.iter().flat_map(|record| gzip(record)).collect();
    for bytes in [&plain, &packed] {
        assert_eq!(outcomes(&open_bytes(bytes, &limits()).await), expected);
    }
    let cut = open_bytes(&plain[..plain.len() / 2], &limits()).await;
    assert_eq!(outcomes(&cut).last(), Some(&(None, Err(Truncated))));
}

#[tokio::test]
async fn parquet_columns_are_found_by_their_values() {
    let texts = || Arc::new(StringArray::from(vec!["x", "y", "z"])) as ArrayRef;
    let (a, b) = (png(100), png(200));
    let expected = [(Some("0"), Ok(100)), (Some("2"), Ok(200))];
    let plain = binary(&[Some(&a), None, Some(&b)]);
    let structs = image_struct(&[(Some(&a), Some("a.png")), (None, None), (Some(&b), None)]);
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4_RAW,
    ];
    for compression in compressions {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = || {
                WriterProperties::builder()
                    .set_compression(compression)
                    .set_writer_version(version)
                    .set_max_row_group_row_count(Some(2))
                    .build()
            };
            let bytes = parquet(
                vec![("text", texts()), ("scan", plain.clone())],
                properties(),
            );
            let found = open_bytes(&bytes, &limits()).await;
            assert_eq!(outcomes(&found), expected, "{compression} {version:?}");
            let bytes = parquet(vec![("image", structs.clone())], properties());
            let found = open_bytes(&bytes, &limits()).await;
            let with_elsewhere = [
                (Some("0"), Ok(100)),
                (Some("1"), Err(Unsupported)),
                (Some("2"), Ok(200)),
            ];
            assert_eq!(
                outcomes(&found),
                with_elsewhere,
                "{compression} {version:?}"
            );
        }
    }
    for encoding in [
        Encoding::DELTA_LENGTH_BYTE_ARRAY,
        Encoding::DELTA_BYTE_ARRAY,
    ] {
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_encoding(encoding);
        let bytes = parquet(vec![("scan", plain.clone())], properties.build());
        assert_eq!(
            outcomes(&open_bytes(&bytes, &limits()).await),
            expected,
            "{encoding}"
        );
    }
}

#[tokio::test]
async fn parquet_names_rows_columns_and_places_in_lists() {
    let (a, b, c) = (png(10), png(20), png(30));
    let lists = list_of_binary(&[&[&a, &b], &[], &[&c]]);
    let bytes = parquet(vec![("pages", lists.clone())], WriterProperties::default());
    let found = open_bytes(&bytes, &limits()).await;
    assert_eq!(
        outcomes(&found),
        [
            (Some("0/0"), Ok(10)),
            (Some("0/1"), Ok(20)),
            (Some("2/0"), Ok(30))
        ]
    );
    let front = binary(&[Some(&a), Some(&b), Some(b"\0\0no image")]);
    let columns = vec![
        ("front", front),
        ("other", binary(&[Some(&b), None, Some(&c)])),
    ];
    let found = open_bytes(&parquet(columns, WriterProperties::default()), &limits()).await;
    let expected = [
        (Some("0/front"), Ok(10)),
        (Some("1/front"), Ok(20)),
        (Some("2/front"), Err(Unsupported)),
        (Some("0/other"), Ok(20)),
        (Some("2/other"), Ok(30)),
    ];
    assert_eq!(outcomes(&found), expected);
}

#[tokio::test]
async fn parquet_without_documents_or_footer_is_one_row() {
    let texts = Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef;
    let bytes = parquet(vec![("text", texts)], WriterProperties::default());
    assert_eq!(
        outcomes(&open_bytes(&bytes, &limits()).await),
        [(None, Err(Unsupported))]
    );
    let bytes = parquet(
        vec![("a", binary(&[Some(&png(99))]))],
        WriterProperties::default(),
    );
    let cut = &bytes[..bytes.len() - 9];
    assert_eq!(
        outcomes(&open_bytes(cut, &limits()).await),
        [(None, Err(Truncated))]
    );
}

#[tokio::test]
async fn one_value_in_a_million_rows_is_a_bomb() {
    let value = png(100_000);
    let rows: Vec<Option<&[u8]>> = vec![Some(&value); 20_000];
    let bytes = parquet(vec![("image", binary(&rows))], WriterProperties::default());
    let tight = Limits {
        entry_floor_bytes: 50 << 20,
        ..limits()
    };
    let found = open_bytes(&bytes, &tight).await;
    assert!(found.len() < 600, "{}", found.len());
    let last = found.last().unwrap().content.as_ref().unwrap_err();
    assert_eq!(last.code, Bomb);
}
