//! Stores that are asked before a job is taken: what is missing or closed is said at once, by its
//! name.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;

use quire_core::{Fault, Faulty};
use quire_corpus::{StoreKind, StoreSettings, Stores, reach_input, reach_output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// An S3 with one bucket that is `open` and holds `docs/a.pdf`, and one that is `closed`.
struct S3 {
    stores: Stores,
    _serving: JoinSet<()>,
}

impl S3 {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        let settings: BTreeMap<String, StoreSettings> = ["open", "closed", "gone"]
            .into_iter()
            .map(|bucket| {
                let settings = StoreSettings {
                    kind: StoreKind::S3,
                    bucket: bucket.to_owned(),
                    prefix: String::new(),
                    endpoint: Some(endpoint.clone()),
                    region: Some("us-east-1".to_owned()),
                    account: None,
                    allow_http: false,
                    virtual_hosted: false,
                    anonymous: true,
                };
                (bucket.to_owned(), settings)
            })
            .collect();
        Self {
            stores: Stores::open(&settings).unwrap(),
            _serving: serving,
        }
    }
}

async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let refused = |code: &str| format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    let (status, body) = if target.starts_with("/closed") {
        ("403 Forbidden", refused("AccessDenied"))
    } else if !target.starts_with("/open") {
        ("404 Not Found", refused("NoSuchBucket"))
    } else if target == "/open/docs/a.pdf" {
        ("200 OK", "abc".to_owned())
    } else if target.contains("list-type") {
        ("200 OK", listing(target.contains("prefix=docs")))
    } else {
        ("404 Not Found", refused("NoSuchKey"))
    };
    let body_sent = if head.starts_with("HEAD ") { "" } else { &body };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: application/xml\r\n\
         ETag: \"e\"\r\nLast-Modified: Mon, 05 Jan 2026 10:00:00 GMT\r\n\
         Connection: close\r\n\r\n{body_sent}",
        body.len()
    );
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}

fn listing(has_one: bool) -> String {
    let one = "<Contents><Key>docs/a.pdf</Key><LastModified>2026-01-05T10:00:00.000Z\
               </LastModified><ETag>\"e\"</ETag><Size>3</Size></Contents>";
    format!(
        "<ListBucketResult><Name>open</Name><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
        if has_one { one } else { "" }
    )
}

#[tokio::test]
async fn buckets_that_are_missing_or_closed_are_wrong_settings_with_their_names() {
    let s3 = S3::start().await;
    for (uri, words) in [
        ("s3://gone/out", "there is no such bucket (NoSuchBucket)"),
        ("s3://closed/out", "access is denied"),
    ] {
        for error in [
            reach_output(&s3.stores, uri).await.unwrap_err(),
            reach_input(&s3.stores, uri).await.unwrap_err(),
        ] {
            assert_eq!(error.fault(), Fault::Config, "{error}");
            let said = error.to_string();
            assert!(said.contains(uri) && said.contains(words), "{said}");
        }
    }
    let pattern = reach_input(&s3.stores, "s3://gone/*.pdf").await;
    assert_eq!(pattern.unwrap_err().fault(), Fault::Config);
}

#[tokio::test]
async fn keys_that_are_not_there_are_named_and_those_that_are_pass() {
    let s3 = S3::start().await;
    for input in ["s3://open/dcos", "s3://open/dcos/", "@s3://open/list.txt"] {
        let error = reach_input(&s3.stores, input).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config, "{error}");
        assert!(error.to_string().contains(input), "{error}");
    }
    for input in [
        "s3://open/docs/a.pdf",
        "s3://open/docs",
        "s3://open/docs/",
        "s3://open/docs/*.pdf",
        // What a pattern matches is seen when everything is listed.
        "s3://open/other/*.pdf",
        "@s3://open/docs/a.pdf",
        // Not ours to look at.
        "/a/folder/of/another/machine",
        "https://example.org/a.pdf",
    ] {
        let reached = reach_input(&s3.stores, input).await;
        assert!(reached.is_ok(), "{input}: {reached:?}");
    }
    // An output need not hold anything yet.
    reach_output(&s3.stores, "s3://open/new").await.unwrap();
    reach_output(&s3.stores, "/a/folder").await.unwrap();
}
