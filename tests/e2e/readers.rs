//! What Python readers make of a dataset; needs an interpreter with the packages of
//! `readers/requirements.txt`, named by `QUIRE_TEST_PYTHON`.

use std::process::Command;

use super::command::{Scratch, finish, quire, run_of};

#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of the test itself")]
fn python_readers_agree_with_the_version_file() {
    let Ok(python) = std::env::var("QUIRE_TEST_PYTHON") else {
        println!("skipped: QUIRE_TEST_PYTHON does not name an interpreter with the readers");
        return;
    };
    let scratch = Scratch::new();
    let mut command = quire();
    command.env("QUIRE__SPLIT__VALIDATION_FRACTION", "0.3");
    run_of(&mut command, &quire_tests::own_documents(), &scratch.out());
    finish(command.args(["--image-mode", "embed"]), 0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/readers/read_back.py");
    let output = Command::new(python)
        .arg(script)
        .arg(scratch.out())
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
