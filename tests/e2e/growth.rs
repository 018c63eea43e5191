//! A corpus that grows and changes: later versions hold what is new, and nothing twice.

use std::time::Duration;

use quire_tests::documents::pdf;

use super::command::{Scratch, events, finish, run_of, scripted, verify, version};

fn run(scratch: &Scratch) -> std::process::Output {
    let mut command = scripted(Duration::ZERO);
    run_of(&mut command, &scratch.documents(), &scratch.out());
    finish(&mut command, 0)
}

#[test]
fn new_documents_go_into_the_next_version_and_changed_ones_are_replaced() {
    let scratch = Scratch::new();
    scratch.document("a.pdf", &pdf(4, "a"));
    scratch.document("b.pdf", &pdf(6, "b"));
    run(&scratch);
    assert_eq!(version(&scratch.out())["totals"]["pages"], 10);

    scratch.document("c.pdf", &pdf(3, "c"));
    scratch.document("b.pdf", &pdf(2, "b rewritten"));
    let output = run(&scratch);
    verify(&scratch.out());
    let newest = version(&scratch.out());
    assert_eq!(newest["version"], 2);
    assert_eq!(newest["totals"]["pages"], 4 + 3 + 2);
    assert_eq!(newest["totals"]["documents"], 3);
    assert_eq!(events(&output, "planned")[0]["documents_known"], 1);

    let output = run(&scratch);
    assert_eq!(events(&output, "summary")[0]["already_complete"], true);
    assert_eq!(version(&scratch.out())["version"], 2);
}

#[test]
fn a_corpus_of_nothing_but_garbage_is_a_dataset_of_errors() {
    let scratch = Scratch::new();
    scratch.document("empty.pdf", b"");
    scratch.document("words.txt", b"words");
    scratch.document("broken.png", b"\x89PNG\r\n\x1a\nbroken");
    let mut command = scripted(Duration::ZERO);
    run_of(&mut command, &scratch.documents(), &scratch.out());
    // More failed than the allowance permits: the dataset is there all the same.
    finish(&mut command, 1);
    verify(&scratch.out());
    let totals = &version(&scratch.out())["totals"];
    assert_eq!(
        (&totals["pages"], &totals["errors"]),
        (&0.into(), &3.into())
    );
}

#[test]
fn names_that_are_hard_to_write_come_through() {
    let scratch = Scratch::new();
    for name in [
        "spa ce.pdf",
        "100%.pdf",
        "文档.pdf",
        "a#b?c.pdf",
        "new\nline.pdf",
        "a..b.pdf",
    ] {
        scratch.document(name, &pdf(1, name));
    }
    run(&scratch);
    verify(&scratch.out());
    assert_eq!(version(&scratch.out())["totals"]["pages"], 6);
}

#[test]
fn inputs_that_match_nothing_and_outputs_that_cannot_be_are_refused() {
    let scratch = Scratch::new();
    let refuse = |input: &std::path::Path, out: &std::path::Path, code: i32, named: &str| {
        let mut command = scripted(Duration::ZERO);
        run_of(&mut command, input, out);
        let output = finish(&mut command, code);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(named), "{message}");
    };
    refuse(&scratch.path("missing"), &scratch.out(), 2, "missing");
    scratch.document("a.pdf", &pdf(1, "a"));
    refuse(&scratch.documents(), &scratch.documents(), 2, "documents");
    std::fs::create_dir_all(scratch.path("full")).unwrap();
    std::fs::write(scratch.path("full/thesis.tex"), "my work").unwrap();
    refuse(&scratch.documents(), &scratch.path("full"), 2, "full");
    assert_eq!(
        std::fs::read_to_string(scratch.path("full/thesis.tex")).unwrap(),
        "my work"
    );
}
