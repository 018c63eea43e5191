//! Inputs as people type them: folders, files, patterns, lists.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use quire_core::{Fault, Faulty, TroubleCode};
use quire_corpus::{Limits, Listed, list, list_except};
use support::{gzip, names_listed, open, outcomes, png, stores};

fn put(folder: &Path, name: impl AsRef<OsStr>, content: &[u8]) {
    let path = folder.join(name.as_ref());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_folder_is_walked_in_a_stable_order_without_hidden_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "b/2.png",
        "a.png",
        "b/.hidden.png",
        ".git/x.png",
        "b/1.png",
        "_kept/x.png",
    ] {
        put(folder.path(), name, &png(20));
    }
    let listed = names_listed(folder.path(), &[&text(folder.path())]).await;
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["_kept/x.png", "a.png", "b/1.png", "b/2.png"]);
    // A hidden folder that is named is read.
    let hidden = folder.path().join(".git");
    assert_eq!(
        names_listed(&hidden, &[&text(&hidden)]).await,
        [("x.png".to_owned(), None)]
    );
}

#[tokio::test]
async fn odd_names_are_listed_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let names: [&[u8]; 8] = [
        b"a b%20.pdf",
        b"..x",
        "发票 2024.png".as_bytes(),
        b"line\nbreak.png",
        b"\xff\xfe.png",
        b"q?x=1#y.png",
        b"*[x].png",
        b"@at.png",
    ];
    // The second one is hidden by its dots; it is read when an input names it.
    for name in names {
        put(folder.path(), OsStr::from_bytes(name), &png(30));
    }
    let inputs = [text(folder.path()), text(&folder.path().join("..x"))];
    let listed = list(&stores(), &inputs).await.unwrap();
    assert_eq!(listed.len(), names.len());
    for listed in &listed {
        let Listed::Entry(entry) = listed else {
            panic!("{listed:?}")
        };
        assert_eq!(entry.bytes, 30);
        let found = quire_corpus::documents(
            &stores(),
            entry,
            quire_corpus::Wanted::All,
            &Limits::default(),
        )
        .recv()
        .await
        .unwrap();
        assert_eq!(found.content.unwrap(), png(30));
    }
}

#[tokio::test]
async fn one_object_reached_twice_is_one_entry() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "real/doc.png", &png(20));
    symlink("real", folder.path().join("a-link")).unwrap();
    symlink("real/doc.png", folder.path().join("b-link.png")).unwrap();
    symlink("..", folder.path().join("real/loop")).unwrap();
    symlink("nowhere", folder.path().join("broken")).unwrap();
    let root = text(folder.path());
    let dotted = format!("{root}/real/../real/doc.png");
    let uri = format!("file://{root}/real/doc.png");
    let listed = names_listed(folder.path(), &[&root, &dotted, &uri, &root]).await;
    let wanted = [
        ("broken".to_owned(), Some(TroubleCode::NotFound)),
        ("real/doc.png".to_owned(), None),
    ];
    assert_eq!(listed, wanted);
}

#[tokio::test]
async fn links_out_of_the_folder_are_followed_under_their_own_names() {
    let outside = tempfile::tempdir().unwrap();
    put(outside.path(), "blob", &png(20));
    put(outside.path(), "folder/x.png", &png(21));
    let folder = tempfile::tempdir().unwrap();
    symlink(outside.path().join("blob"), folder.path().join("doc.png")).unwrap();
    symlink(outside.path().join("folder"), folder.path().join("sub")).unwrap();
    let listed = names_listed(folder.path(), &[&text(folder.path())]).await;
    assert_eq!(
        listed,
        [("doc.png".to_owned(), None), ("sub/x.png".to_owned(), None)]
    );
}

#[tokio::test]
async fn pipes_and_unreadable_folders_are_rows_and_never_opened() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "doc.png", &png(20));
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    put(folder.path(), "closed/x.png", &png(20));
    let closed = folder.path().join("closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything; then the folder is simply listed.
    let is_root = std::fs::read_dir(&closed).is_ok();
    let listed = names_listed(folder.path(), &[&text(folder.path())]).await;
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed_row = if is_root {
        ("closed/x.png".to_owned(), None)
    } else {
        ("closed".to_owned(), Some(TroubleCode::Denied))
    };
    let wanted = [
        closed_row,
        ("doc.png".to_owned(), None),
        ("pipe".to_owned(), Some(TroubleCode::Unsupported)),
        ("socket".to_owned(), Some(TroubleCode::Unsupported)),
    ];
    assert_eq!(listed, wanted);
    // Opening by name refuses, too, instead of waiting for a writer.
    let found = open(&pipe, &Limits::default()).await;
    assert_eq!(outcomes(&found), [(None, Err(TroubleCode::Unsupported))]);
}

#[tokio::test]
async fn inputs_that_match_nothing_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    std::fs::write(folder.path().join("empty.txt"), "").unwrap();
    let root = text(folder.path());
    for input in ["missing", "empty", "*.pdf", "@empty.txt", "@missing.txt"] {
        let typed = match input.strip_prefix('@') {
            Some(list) => format!("@{root}/{list}"),
            None => format!("{root}/{input}"),
        };
        let error = list(&stores(), &[typed]).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config, "{error}");
        assert!(
            error.to_string().contains(input.trim_start_matches('@')),
            "{error}"
        );
    }
    assert!(
        list(&stores(), &["https://host/a.pdf".to_owned()])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn patterns_match_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a1.png",
        "a2.png",
        "b.png",
        "a3/x.png",
        "deep/er/a4.png",
        ".a5.png",
    ] {
        put(folder.path(), name, &png(20));
    }
    let root = text(folder.path());
    let listed = names_listed(folder.path(), &[&format!("{root}/a*")]).await;
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a1.png", "a2.png", "a3/x.png"]);
    let listed = names_listed(folder.path(), &[&format!("{root}/**/a4.png")]).await;
    assert_eq!(listed, [("deep/er/a4.png".to_owned(), None)]);
}

#[tokio::test]
async fn a_plain_list_names_one_address_a_line() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "in/a b.png", &png(20));
    put(folder.path(), "in/more/c.png", &png(20));
    let absolute = text(&folder.path().join("in/a b.png"));
    let lines = format!(
        "\u{feff}in/a b.png\r\n\n{absolute}\nin/more\nmissing.png\nhttps://host/x.pdf?sig=secret\n"
    );
    put(folder.path(), "list.txt", lines.as_bytes());
    let input = format!("@{}", text(&folder.path().join("list.txt")));
    let listed = names_listed(folder.path(), &[&input]).await;
    let wanted = [
        ("in/a%20b.png".to_owned(), None),
        ("in/more/c.png".to_owned(), None),
        ("list.txt#line=6".to_owned(), Some(TroubleCode::Unsupported)),
        ("missing.png".to_owned(), Some(TroubleCode::NotFound)),
    ];
    assert_eq!(listed, wanted);
    let listed = list(&stores(), &[input]).await.unwrap();
    assert!(!format!("{listed:?}").contains("secret"));
}

#[tokio::test]
async fn json_lines_stand_for_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "data/a.png", &png(20));
    put(folder.path(), "data/b.png", &png(20));
    let rows = b"{\"path\": \"data/a.png\", \"license\": \"CC0\"}\n\n{\"image\": \"data/b.png\"}\n\
        {\"path\": 3}\nno json\n";
    put(folder.path(), "list.jsonl.gz", &gzip(rows));
    let input = text(&folder.path().join("list.jsonl.gz"));
    let listed = names_listed(folder.path(), &[&input]).await;
    let wanted = [
        ("data/a.png".to_owned(), None),
        ("data/b.png".to_owned(), None),
        (
            "list.jsonl.gz#line=4".to_owned(),
            Some(TroubleCode::Unsupported),
        ),
        (
            "list.jsonl.gz#line=5".to_owned(),
            Some(TroubleCode::Damaged),
        ),
    ];
    assert_eq!(listed, wanted);
    let listed = list(&stores(), &[input, text(folder.path())])
        .await
        .unwrap();
    let licenses: Vec<_> = listed
        .iter()
        .filter_map(|listed| match listed {
            Listed::Entry(entry) => Some(entry.license.as_deref()),
            Listed::Trouble { .. } => None,
        })
        .collect();
    assert_eq!(licenses, [Some("CC0"), None]);
}

#[tokio::test]
async fn json_lines_of_text_are_one_unsupported_entry() {
    let folder = tempfile::tempdir().unwrap();
    let rows = b"{\"id\": 1, \"url\": \"https://x/y\", \"text\": \"words\"}\n{\"id\": 2}\n";
    put(folder.path(), "texts.jsonl", rows);
    let path = folder.path().join("texts.jsonl");
    let listed = names_listed(folder.path(), &[&text(&path)]).await;
    assert_eq!(listed, [("texts.jsonl".to_owned(), None)]);
    let found = open(&path, &Limits::default()).await;
    assert_eq!(outcomes(&found), [(None, Err(TroubleCode::Unsupported))]);
    assert_eq!(found[0].media_type, "application/x-ndjson");
}

#[tokio::test]
async fn an_output_inside_the_input_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a.png",
        "out/data/x.parquet",
        "out.quire/jobs/j/part",
        "outer.png",
    ] {
        put(folder.path(), name, &png(20));
    }
    let root = text(folder.path());
    let excluded = [format!("{root}/out"), format!("{root}/out.quire")];
    let listed = list_except(&stores(), &[root], &excluded).await.unwrap();
    let names: Vec<&str> = listed
        .iter()
        .map(|listed| listed.uri().rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["a.png", "outer.png"]);
}

#[tokio::test]
async fn a_file_that_changed_after_listing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.png", &png(20));
    let listed = list(&stores(), &[text(folder.path())]).await.unwrap();
    let Listed::Entry(entry) = &listed[0] else {
        panic!("{listed:?}")
    };
    put(folder.path(), "a.png", &png(21));
    let wanted = quire_corpus::Wanted::All;
    let mut found = quire_corpus::documents(&stores(), entry, wanted, &Limits::default());
    let found = found.recv().await.unwrap();
    assert_eq!(found.content.unwrap_err().code, TroubleCode::Other);
}
