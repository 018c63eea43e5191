//! Inputs at web addresses: what is read, what is refused, and what bad servers do.

#![allow(clippy::unwrap_used, reason = "test code")]

mod site;
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use quire_core::{Fault, Faulty, TroubleCode};
use quire_corpus::{
    Entry, Error, FoundDocument, HttpSettings, Limits, Listed, Stores, Wanted, documents, list,
};
use site::{Names, PATIENCE, Reply, Site, answer, raw};
use support::{outcomes, png, tar, zip};

fn stores(http: &HttpSettings, names: Names) -> Stores {
    Stores::open_with_names(&BTreeMap::new(), http, Arc::new(names)).unwrap()
}

async fn entries(stores: &Stores, input: String) -> Result<Vec<Listed>, Error> {
    list(stores, &[input]).await
}

async fn only_entry(stores: &Stores, input: String) -> Entry {
    match entries(stores, input).await.unwrap().remove(0) {
        Listed::Entry(entry) => entry,
        Listed::Trouble { trouble, .. } => panic!("{trouble}"),
    }
}

async fn open(stores: &Stores, entry: &Entry) -> Vec<FoundDocument> {
    let mut receiver = documents(stores, entry, Wanted::All, &Limits::default());
    let mut found = Vec::new();
    while let Some(document) = receiver.recv().await {
        found.push(document);
    }
    found
}

/// Code and message of an object that cannot be read, without listing it first.
async fn trouble(stores: &Stores, url: String) -> (TroubleCode, String) {
    let found = open(stores, &Entry::new(url, 0, None)).await;
    let trouble = found[0].content.clone().unwrap_err();
    (trouble.code, trouble.message)
}

#[tokio::test]
async fn a_document_of_an_allowed_host_is_listed_and_read() {
    let site = Site::start().await;
    let reply = answer("200 OK", &["ETag: \"v1\""], &png(500));
    site.put("/a%20b.png?id=3", &[reply]);
    let stores = stores(&site.settings(), Names::new());
    let url = site.url("site.test", "/a b.png?id=3#page");
    let entry = only_entry(&stores, url).await;
    assert_eq!(entry.uri, site.url("site.test", "/a%20b.png?id=3"));
    assert_eq!((entry.bytes, entry.etag.as_deref()), (500, Some("\"v1\"")));
    let found = open(&stores, &entry).await;
    assert_eq!(found[0].content.as_deref().unwrap(), png(500));
    for request in site.requests() {
        let request = request.to_ascii_lowercase();
        for header in ["authorization", "cookie", "referer", "#page"] {
            assert!(!request.contains(header), "{request}");
        }
    }
}

#[tokio::test]
async fn containers_are_read_through_memory_and_through_a_file() {
    let site = Site::start().await;
    let small = zip(&[("a.png", &png(40)), ("b.png", &png(50))]);
    let (one, two) = (png(9 << 20), png(10 << 20));
    let large = tar(&[("one.png", &one), ("two.png", &two)]);
    site.put("/small.zip", &[answer("200 OK", &[], &small)]);
    site.put("/large.tar", &[answer("200 OK", &[], &large)]);
    let stores = stores(&site.settings(), Names::new());
    let entry = only_entry(&stores, site.url("site.test", "/small.zip")).await;
    let found = open(&stores, &entry).await;
    assert_eq!(
        outcomes(&found),
        [(Some("a.png"), Ok(40)), (Some("b.png"), Ok(50))]
    );
    let entry = only_entry(&stores, site.url("site.test", "/large.tar")).await;
    let found = open(&stores, &entry).await;
    assert_eq!(found[0].content.as_deref().unwrap(), one);
    assert_eq!(found[1].content.as_deref().unwrap(), two);
}

#[tokio::test]
async fn lists_at_web_addresses_name_their_neighbors_and_nothing_forbidden() {
    let site = Site::start().await;
    let list = "{\"url\": \"one.png\", \"license\": \"cc0\"}\n\
                {\"url\": \"/two.png\"}\n\
                {\"url\": \"gone.png\"}\n\
                {\"url\": \"http://other.test/x.png\"}\n\
                {\"url\": \"https://me:secret@site.test/x.png\"}\n\
                {\"url\": \"x.png?sv=1&sig=secret\"}\n\
                {\"url\": \"file:///etc/passwd\"}\n";
    let reply = answer("200 OK", &[], list.as_bytes());
    site.put("/lists/all.jsonl", &[reply]);
    site.put("/lists/one.png", &[answer("200 OK", &[], &png(30))]);
    site.put("/two.png", &[answer("200 OK", &[], &png(31))]);
    let stores = stores(&site.settings(), Names::new());
    let url = site.url("site.test", "/lists/all.jsonl");
    let listed = entries(&stores, url.clone()).await.unwrap();
    let said = format!("{listed:?}");
    assert!(!said.contains("secret"), "{said}");
    let found: Vec<(&str, Option<TroubleCode>)> = listed
        .iter()
        .map(|listed| match listed {
            Listed::Entry(entry) => (entry.uri.as_str(), None),
            Listed::Trouble { uri, trouble } => (uri.as_str(), Some(trouble.code)),
        })
        .collect();
    let line = |number: u32| format!("{url}#line={number}");
    assert_eq!(
        found,
        [
            ("http://other.test/x.png", Some(TroubleCode::Denied)),
            (&*line(5), Some(TroubleCode::Unsupported)),
            (&*line(6), Some(TroubleCode::Unsupported)),
            (&*line(7), Some(TroubleCode::Unsupported)),
            (
                &*site.url("site.test", "/lists/gone.png"),
                Some(TroubleCode::NotFound)
            ),
            (&*site.url("site.test", "/lists/one.png"), None),
            (&*site.url("site.test", "/two.png"), None),
        ]
    );
}

#[tokio::test]
async fn hosts_that_are_not_named_are_refused_before_anybody_is_asked() {
    let site = Site::start().await;
    site.put("/a.png", &[answer("200 OK", &[], &png(30))]);
    let check = async |http: &HttpSettings, url: String, wanted: &str| {
        let error = entries(&stores(http, Names::new()), url).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let settings = site.settings();
    let url = site.url("site.test", "/a.png");
    check(&HttpSettings::default(), url.clone(), "http.hosts").await;
    check(&settings, site.url("127.0.0.1", "/a.png"), "http.hosts").await;
    check(&settings, "http://site.test/a.png".into(), "http.hosts").await;
    let secure_only = HttpSettings {
        allow_http: false,
        ..settings
    };
    check(&secure_only, url, "http.allow_http").await;
    let numbers = HttpSettings {
        hosts: vec![format!("127.0.0.1:{}", site.port), "[::1]".into()],
        allow_http: true,
        ..HttpSettings::default()
    };
    check(&numbers, site.url("127.0.0.1", "/a.png"), "may not be read").await;
    check(&numbers, "http://[::1]/".into(), "may not be read").await;
    assert_eq!(site.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn names_of_addresses_that_are_not_public_are_refused() {
    let site = Site::start().await;
    site.put("/a.png", &[answer("200 OK", &[], &png(30))]);
    let public_only = HttpSettings {
        hosts: vec![format!("site.test:{}", site.port)],
        allow_http: true,
        ..HttpSettings::default()
    };
    let check = async |http: &HttpSettings, answer: &str| {
        let stores = stores(http, Names::new().with("site.test", &[answer]));
        let (code, message) = trouble(&stores, site.url("site.test", "/a.png")).await;
        assert_eq!(code, TroubleCode::Denied, "{answer}: {message}");
    };
    for answer in ["127.0.0.1", "10.1.2.3", "::1", "93.184.216.34,127.0.0.1"] {
        check(&public_only, answer).await;
    }
    // What no setting opens.
    for answer in [
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "224.0.0.1",
        "127.0.0.1,169.254.169.254",
    ] {
        check(&site.settings(), answer).await;
    }
    assert_eq!(site.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_changes_its_meaning_gains_nothing() {
    let site = Site::start().await;
    site.put("/a.png", &[answer("200 OK", &[], &png(30))]);
    // Whoever asked twice, once to check and once to connect, would connect to the second answer.
    let names = Names::new().with("site.test", &["127.0.0.1", "169.254.169.254"]);
    let stores = stores(&site.settings(), names);
    let entry = only_entry(&stores, site.url("site.test", "/a.png")).await;
    assert_eq!(site.requests().len(), 1);
    let found = open(&stores, &entry).await;
    assert_eq!(outcomes(&found), [(None, Err(TroubleCode::Denied))]);
    assert_eq!(site.requests().len(), 1);
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_addresses_may_be_read() {
    let site = Site::start().await;
    let to = |location: &str| answer("302 Found", &[&format!("Location: {location}")], b"");
    site.put("/a.png", &[answer("200 OK", &[], &png(30))]);
    site.put("/near", &[to("a.png")]);
    site.put("/twice", &[to("/near")]);
    site.put("/circle", &[to("/circle")]);
    site.put("/nowhere", &[answer("302 Found", &[], b"")]);
    let port = site.port;
    for (path, location) in [
        ("/number", format!("http://127.0.0.1:{port}/a.png")),
        ("/metadata", "http://169.254.169.254/latest/".to_owned()),
        ("/stranger", "http://stranger.test/a.png".to_owned()),
        ("/inside", "http://inside.test/a.png".to_owned()),
        ("/file", "file:///etc/passwd".to_owned()),
        (
            "/password",
            format!("http://me:secret@site.test:{port}/a.png"),
        ),
    ] {
        site.put(path, &[to(&location)]);
    }
    let settings = HttpSettings {
        hosts: vec!["inside.test".into()],
        ..site.settings()
    };
    let names = Names::new().with("inside.test", &["127.0.0.1"]);
    let stores = stores(&settings, names);
    let entry = only_entry(&stores, site.url("site.test", "/twice")).await;
    assert_eq!(entry.uri, site.url("site.test", "/twice"));
    assert_eq!(outcomes(&open(&stores, &entry).await), [(None, Ok(30))]);
    for (path, code) in [
        ("/number", TroubleCode::Denied),
        ("/metadata", TroubleCode::Denied),
        ("/stranger", TroubleCode::Denied),
        ("/inside", TroubleCode::Denied),
        ("/file", TroubleCode::Denied),
        ("/password", TroubleCode::Denied),
        ("/circle", TroubleCode::Other),
        ("/nowhere", TroubleCode::Other),
    ] {
        let (found, message) = trouble(&stores, site.url("site.test", path)).await;
        assert_eq!(found, code, "{path}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[tokio::test]
async fn a_signature_that_a_redirect_adds_is_written_nowhere() {
    let site = Site::start().await;
    let location = "Location: /kept.png?X-Amz-Signature=secret";
    site.put(
        "/a.png",
        &[answer("307 Temporary Redirect", &[location], b"")],
    );
    let kept = "/kept.png?X-Amz-Signature=secret";
    let denied = answer("403 Forbidden", &[], b"secret");
    site.put(kept, &[denied, answer("200 OK", &[], &png(30))]);
    let stores = stores(&site.settings(), Names::new());
    let (code, message) = trouble(&stores, site.url("site.test", "/a.png")).await;
    assert_eq!(code, TroubleCode::Denied);
    assert_eq!(message, "the server answered 403 Forbidden");
    let entry = only_entry(&stores, site.url("site.test", "/a.png")).await;
    assert_eq!(entry.uri, site.url("site.test", "/a.png"));
}

#[tokio::test]
async fn answers_become_typed_troubles() {
    let site = Site::start().await;
    let stores = stores(&site.settings(), Names::new());
    for (status, code) in [
        ("404 Not Found", TroubleCode::NotFound),
        ("410 Gone", TroubleCode::NotFound),
        ("401 Unauthorized", TroubleCode::Denied),
        ("451 Unavailable For Legal Reasons", TroubleCode::Denied),
        ("400 Bad Request", TroubleCode::Other),
        ("204 No Content", TroubleCode::Other),
    ] {
        site.put("/a", &[answer(status, &[], b"words of the server")]);
        let (found, message) = trouble(&stores, site.url("site.test", "/a")).await;
        assert_eq!(found, code, "{status}");
        assert_eq!(message, format!("the server answered {status}"));
    }
    let missing = entries(&stores, site.url("site.test", "/none")).await;
    assert!(matches!(missing, Err(Error::NothingFound { .. })));
    let unknown = site
        .url("site.test", "/a")
        .replace("site.test", "lost.test");
    assert_eq!(trouble(&stores, unknown).await.0, TroubleCode::Denied);
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let site = Site::start().await;
    let good = answer("200 OK", &[], &png(30));
    let broken = Reply::Sent(raw("HTTP/1.1 200 OK\nContent-Length: 900", &png(30)));
    let busy = answer("503 Service Unavailable", &["Retry-After: 0"], b"");
    site.put("/a.png", &[busy, broken, good]);
    let stores = stores(&site.settings(), Names::new());
    let entry = Entry::new(site.url("site.test", "/a.png"), 0, None);
    assert_eq!(outcomes(&open(&stores, &entry).await), [(None, Ok(30))]);
    // An hour is longer than anybody waits.
    let late = answer("429 Too Many Requests", &["Retry-After: 3600"], b"");
    site.put("/late", &[late]);
    let before = site.requests().len();
    let (code, _) = trouble(&stores, site.url("site.test", "/late")).await;
    assert_eq!(code, TroubleCode::Timeout);
    assert_eq!(site.requests().len(), before + 1);
}

#[tokio::test]
async fn slow_endless_and_lying_answers_cost_a_bounded_amount() {
    let site = Site::start().await;
    let head = "HTTP/1.1 200 OK\nContent-Type: image/png";
    site.put("/endless", &[Reply::Endless(raw(head, b""))]);
    site.put("/silent", &[Reply::Silent(raw(head, b"some bytes"))]);
    site.put("/dumb", &[Reply::Silent(Vec::new())]);
    let huge = raw("HTTP/1.1 200 OK\nContent-Length: 99999999999", b"");
    site.put("/huge", &[Reply::Silent(huge)]);
    let short = raw("HTTP/1.1 200 OK\nContent-Length: 900", &png(30));
    site.put("/short", &[Reply::Sent(short)]);
    let long = raw("HTTP/1.1 200 OK\nContent-Length: 30", &png(900));
    site.put("/long", &[Reply::Sent(long)]);
    let chunked = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked";
    let cut = raw(chunked, b"5\r\nhello\r\n");
    site.put("/cut", &[Reply::Sent(cut)]);
    let whole = raw(chunked, b"5\r\nhello\r\n0\r\n\r\n");
    site.put("/whole", &[Reply::Sent(whole)]);
    site.put("/noise", &[Reply::Sent(b"what is this\r\n\r\n".to_vec())]);
    let strict = HttpSettings {
        max_bytes: 1 << 20,
        ..site.settings()
    };
    let hasty = HttpSettings {
        total_timeout: PATIENCE,
        ..strict.clone()
    };
    let (strict, hasty) = (stores(&strict, Names::new()), stores(&hasty, Names::new()));
    for (stores, path, code) in [
        (&strict, "/endless", TroubleCode::TooLarge),
        (&strict, "/huge", TroubleCode::TooLarge),
        (&hasty, "/silent", TroubleCode::Timeout),
        (&hasty, "/dumb", TroubleCode::Timeout),
        (&strict, "/short", TroubleCode::Truncated),
        (&strict, "/cut", TroubleCode::Truncated),
        (&hasty, "/noise", TroubleCode::Timeout),
    ] {
        let (found, message) = trouble(stores, site.url("site.test", path)).await;
        assert_eq!(found, code, "{path}: {message}");
    }
    for (path, size) in [("/long", 30), ("/whole", 5)] {
        let entry = Entry::new(site.url("site.test", path), 0, None);
        let found = open(&strict, &entry).await;
        let size_found = found[0].content.as_ref().map(|bytes| bytes.len());
        // Five letters are no document, but they were read.
        assert!(
            size_found == Ok(size) || found[0].media_type == "text/plain",
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn an_object_that_changed_since_it_was_listed_is_refused() {
    let site = Site::start().await;
    let tagged = |tag: &str| answer("200 OK", &[tag], &png(30));
    site.put("/tag", &[tagged("ETag: \"1\""), tagged("ETag: \"2\"")]);
    let (monday, tuesday) = (
        "Last-Modified: Mon, 05 Jan 2026 10:00:00 GMT",
        "Last-Modified: Tue, 06 Jan 2026 10:00:00 GMT",
    );
    site.put("/time", &[tagged(monday)]);
    let stores = stores(&site.settings(), Names::new());
    for path in ["/tag", "/time"] {
        let entry = only_entry(&stores, site.url("site.test", path)).await;
        site.put("/tag", &[tagged("ETag: \"2\"")]);
        site.put("/time", &[tagged(tuesday)]);
        let found = open(&stores, &entry).await;
        let trouble = found[0].content.as_ref().unwrap_err();
        assert!(trouble.message.contains("changed"), "{path}: {trouble}");
        site.put("/time", &[tagged(monday)]);
    }
    let entry = only_entry(&stores, site.url("site.test", "/time")).await;
    assert!(entry.etag.is_some());
    assert_eq!(outcomes(&open(&stores, &entry).await), [(None, Ok(30))]);
}

#[tokio::test]
async fn servers_that_know_no_head_are_read_all_the_same() {
    let site = Site::start().await;
    let reply = answer("200 OK", &["ETag: \"v1\""], &png(30));
    site.put_for("GET", "/a.png", &[reply]);
    let refused = answer("405 Method Not Allowed", &[], b"");
    site.put_for("HEAD", "/a.png", &[refused]);
    let stores = stores(&site.settings(), Names::new());
    let entry = only_entry(&stores, site.url("site.test", "/a.png")).await;
    assert_eq!((entry.bytes, entry.etag.as_deref()), (30, Some("\"v1\"")));
}

#[tokio::test]
async fn nothing_is_written_to_a_web_address() {
    let stores = stores(&HttpSettings::default(), Names::new());
    let url = "https://example.org/out";
    for refused in [
        stores.create_output(url).unwrap_err(),
        stores.open_output(url).unwrap_err(),
        stores.resolve(url).unwrap_err(),
        quire_corpus::sibling(url, ".quire").unwrap_err(),
    ] {
        assert!(refused.to_string().contains("an input only"), "{refused}");
    }
}
