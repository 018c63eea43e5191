//! What a new user sees: the project's own documents, read with the real engine.

use std::process::Command;

use super::command::{Scratch, digests, events, finish, quire, run_of, verify, version};

fn run(command: &mut Command, scratch: &Scratch) -> std::process::Output {
    run_of(command, &quire_tests::own_documents(), &scratch.out());
    finish(command, 0)
}

#[test]
fn real_documents_become_a_dataset_that_verifies() {
    let scratch = Scratch::new();
    let output = run(&mut quire(), &scratch);
    verify(&scratch.out());

    let summary = &events(&output, "summary")[0];
    let documents = &summary["documents"];
    assert_eq!(documents["duplicate"], 1, "{summary}");
    let failures = summary["failures"].as_array().unwrap();
    let count = |code: &str| {
        let failure = failures.iter().find(|failure| failure["code"] == code);
        failure.map_or(0, |failure| failure["count"].as_u64().unwrap())
    };
    assert_eq!(count("encrypted"), 1, "{summary}");
    assert!(count("unsupported") >= 1, "{summary}");
    let example = failures
        .iter()
        .find(|failure| failure["code"] == "encrypted")
        .unwrap();
    assert!(
        example["example"]["source_uri"]
            .as_str()
            .unwrap()
            .contains("locked.pdf"),
        "{example}"
    );

    let totals = &version(&scratch.out())["totals"];
    assert_eq!(totals["pages"], summary["pages"]);
    assert_eq!(totals["errors"], summary["errors"]);

    let again = run(&mut quire(), &scratch);
    assert_eq!(events(&again, "summary")[0]["already_complete"], true);
    assert_eq!(version(&scratch.out())["version"], 1);
}

#[test]
fn two_runs_give_equal_rows() {
    let (first, second) = (Scratch::new(), Scratch::new());
    run(&mut quire(), &first);
    run(quire().env("QUIRE__RUN__WORKERS", "1"), &second);
    assert_eq!(digests(&first.out()), digests(&second.out()));
}

#[test]
fn a_password_in_the_settings_opens_what_was_locked_and_retry_adds_it() {
    let scratch = Scratch::new();
    run(&mut quire(), &scratch);
    let before = version(&scratch.out());
    let mut retry = quire();
    retry
        .args(["retry", "--where", "code = 'encrypted'"])
        .arg(scratch.out())
        .env("QUIRE__RENDER__PASSWORDS", r#"["sesame-2024"]"#);
    finish(&mut retry, 0);
    verify(&scratch.out());
    let after = version(&scratch.out());
    assert_eq!(after["version"], 2);
    let number = |version: &serde_json::Value, key: &str| version["totals"][key].as_u64().unwrap();
    assert!(number(&after, "pages") > number(&before, "pages"));
    assert_eq!(number(&after, "errors"), number(&before, "errors") - 1);
}

#[test]
fn instructions_that_the_cpu_has_not_are_refused_before_anything_is_read() {
    for (name, reason) in [
        ("sse", "there is no CPU path `sse`"),
        ("AVX2", "it is one of"),
    ] {
        let output = finish(quire().arg("settings").env("QUIRE_CPU", name), 2);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            told.contains("QUIRE_CPU") && told.contains(reason),
            "{told}"
        );
    }
    finish(quire().arg("settings").env("QUIRE_CPU", "portable"), 0);
}
