//! The commands as a user types them, on one small page: what they print, where, and how they end.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder with inputs, and a place for the dataset.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// One page, and one file that is no document.
    fn with_a_page() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let scans = desk.path("scans");
        std::fs::create_dir(&scans).unwrap();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/minutes.png");
        std::fs::copy(page, scans.join("minutes.png")).unwrap();
        std::fs::write(scans.join("notes.txt"), "buy seed").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `quire` with these arguments, in this folder.
    fn quire(&self, line: &str) -> Ended {
        self.quire_with(&line.split(' ').collect::<Vec<_>>(), &[])
    }

    fn quire_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_quire"))
            .args(args)
            .envs(environment.iter().copied())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        Ended::from(output)
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn lines_of(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_dataset_is_made_looked_at_checked_and_broken() {
    let desk = Desk::with_a_page();

    let ran = desk.quire("run scans --out data").ends_with(0);
    for said in [
        "1 page read",
        "documents  2  (1 complete, 1 failed)",
        "unsupported",
        "notes.txt: text/plain is not read",
        "from datasets import load_dataset; pages = load_dataset(\"",
    ] {
        assert!(ran.out.contains(said), "{said} in {}", ran.out);
    }
    assert!(ran.err.contains("planned 2 documents"), "{}", ran.err);

    let again = desk.quire("run scans --out data --json -q").ends_with(0);
    let events = again.events();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!((names[0], *names.last().unwrap()), ("started", "summary"));
    assert_eq!(events.last().unwrap()["already_complete"], true);
    assert_eq!(again.err, "");

    let inspected = desk.quire("inspect data --json").ends_with(0).json();
    assert_eq!(inspected["pages"]["total"], 1);
    assert_eq!(inspected["failures"][0]["code"], "unsupported");
    assert!(
        desk.quire("inspect data")
            .ends_with(0)
            .out
            .contains("Languages\n  eng_Latn")
    );

    let verified = desk.quire("verify data --json").ends_with(0).json();
    assert_eq!(
        (&verified["sound"], &verified["pages"]),
        (&Value::Bool(true), &Value::from(1))
    );

    let files = desk.quire("files data --table pages").ends_with(0).out;
    let pages = Path::new(files.trim());
    assert!(pages.is_file(), "{files}");

    let sums = lines_of(&desk.path("data/SHA256SUMS"));
    std::fs::remove_file(desk.path("data/SHA256SUMS")).unwrap();
    desk.quire("seal data").ends_with(0);
    assert_eq!(lines_of(&desk.path("data/SHA256SUMS")), sums);

    std::fs::write(pages, "not Parquet").unwrap();
    let broken = desk.quire("verify data").ends_with(1);
    assert!(broken.out.contains("BROKEN"), "{}", broken.out);
}

#[test]
fn a_page_is_shown_with_its_boxes_from_the_dataset_or_from_its_source() {
    let desk = Desk::with_a_page();
    desk.quire("run scans --out plain -q").ends_with(0);
    desk.quire("run scans --out embedded --image-mode embed -q")
        .ends_with(0);
    let page_id = {
        let uri = quire_corpus_uri(&desk.path("scans/minutes.png"));
        format!("{}-000001", quire_core::DocId::of(&uri, None))
    };
    let shown = desk.quire(&format!("inspect plain --page {page_id} --png page.png"));
    let shown = shown.ends_with(0);
    assert!(
        shown.out.contains("minutes of the meeting"),
        "{}",
        shown.out
    );
    assert!(desk.path("page.png").is_file());

    // With the source gone only the dataset that holds images can draw.
    std::fs::remove_file(desk.path("scans/minutes.png")).unwrap();
    desk.quire(&format!("inspect embedded --page {page_id}"))
        .ends_with(0);
    assert!(desk.path(&format!("{page_id}.png")).is_file());
    let gone = desk
        .quire(&format!("inspect plain --page {page_id}"))
        .ends_with(1);
    assert!(
        gone.out.contains("minutes of the meeting"),
        "the text is shown all the same"
    );
    assert!(
        gone.err.contains("cannot read the source again"),
        "{}",
        gone.err
    );
    assert!(
        gone.err.contains("hint: the dataset holds no images"),
        "{}",
        gone.err
    );
    desk.quire("inspect plain --page no-such-page").ends_with(1);
}

#[test]
fn a_page_that_failed_is_read_again_when_its_source_is_whole() {
    let desk = Desk::with_a_page();
    let scan = desk.path("scans/minutes.png");
    let whole = std::fs::read(&scan).unwrap();
    std::fs::write(&scan, &whole[..whole.len() / 2]).unwrap();
    desk.quire("run scans --out data -q").ends_with(1);

    let refused = desk
        .quire_with(&["retry", "data", "--where", "kode = 1"], &[])
        .ends_with(2);
    assert!(
        refused.err.contains("no such column: kode"),
        "{}",
        refused.err
    );
    let none = desk
        .quire_with(&["retry", "data", "--where", "code = 'bomb'"], &[])
        .ends_with(0);
    assert!(none.out.contains("chooses no row"), "{}", none.out);
    let condition = ["retry", "data", "--where", "source_uri LIKE '%.txt'"];
    let listed = desk.quire_with(&[&condition[..], &["--dry-run", "--json"]].concat(), &[]);
    assert_eq!(listed.ends_with(0).json()[0]["code"], "unsupported");

    std::fs::write(&scan, &whole).unwrap();
    desk.quire("run scans --out data -q").ends_with(0);
    let inspected = desk.quire("inspect data --json").ends_with(0).json();
    assert_eq!(
        (&inspected["version"], &inspected["pages"]["total"]),
        (&2.into(), &1.into())
    );
    desk.quire("verify data").ends_with(0);
}

#[test]
fn wrong_usage_and_settings_end_with_two_and_say_what_is_wrong() {
    let desk = Desk::with_a_page();
    std::fs::write(desk.path("wrong.toml"), "[render]\ndpy = 3").unwrap();
    for (line, said) in [
        ("run scans", "no place for the dataset"),
        ("run scans --out scans", "lies inside OUT"),
        ("run scans --out scans/notes.txt", "is a file"),
        (
            "run scans --out data --config wrong.toml",
            "hint: did you mean `render.dpi`?",
        ),
        (
            "run scans --out data --dpi 9",
            "`render.dpi` must be between 18 and 1200 (from --dpi)",
        ),
        ("run nothing --out data", "matches nothing"),
        (
            "run https://host/a.pdf --out data",
            "host host is not one of `http.hosts`",
        ),
        ("frobnicate", "unrecognized subcommand"),
    ] {
        let ended = desk.quire(line).ends_with(2);
        assert!(ended.err.contains(said), "{line}: {}", ended.err);
        assert_eq!(ended.out, "", "{line}");
    }
    let theirs = desk.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("thesis.doc"), "x").unwrap();
    let refused = desk.quire("run scans --out theirs").ends_with(2);
    assert!(
        refused.err.contains("is no Quire dataset"),
        "{}",
        refused.err
    );
    for line in [
        "verify nowhere",
        "inspect nowhere",
        "files nowhere",
        "seal nowhere",
    ] {
        assert!(
            desk.quire(line)
                .ends_with(1)
                .err
                .contains("there is no dataset at"),
            "{line}"
        );
    }
}

#[test]
fn settings_are_printed_with_their_origin_and_without_passwords() {
    let desk = Desk::with_a_page();
    let environment = [
        ("QUIRE__RENDER__PASSWORDS", "sesame"),
        ("QUIRE__RENDER__DPI", "200"),
    ];
    let shown = desk.quire_with(&["settings"], &environment).ends_with(0);
    assert!(
        shown.out.contains("dpi = 200  # from QUIRE__RENDER__DPI"),
        "{}",
        shown.out
    );
    assert!(!shown.out.contains("sesame"), "{}", shown.out);
    let json = desk
        .quire_with(&["settings", "--json"], &environment)
        .ends_with(0)
        .json();
    assert_eq!(json["render.dpi"]["value"], 200);
}

#[test]
fn doctor_finds_this_machine_and_a_fresh_place_fit_and_leaves_nothing_behind() {
    let desk = Desk::with_a_page();
    let findings = desk.quire("doctor data --json").ends_with(0).json();
    let stores = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["what"] == "store");
    assert!(stores.clone().count() > 1);
    assert!(
        stores.into_iter().all(|found| found["state"] == "fine"),
        "{findings}"
    );
    assert!(!desk.path("data").exists());
    assert!(!desk.path("data.quire").exists());
}

/// The canonical URI of a local file.
fn quire_corpus_uri(path: &Path) -> String {
    quire_corpus::Address::local(path).unwrap().uri()
}
