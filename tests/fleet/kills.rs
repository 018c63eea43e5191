//! Everything is killed at random.

use std::process::Command;

/// As the program's exit code says that a server is missing.
const NOT_HERE: i32 = 3;

/// Kills by default; `QUIRE_TEST_FLEET_KILLS=300` for more.
#[allow(clippy::disallowed_methods, reason = "a switch of the test itself")]
fn kills() -> String {
    std::env::var("QUIRE_TEST_FLEET_KILLS").unwrap_or_else(|_| "30".into())
}

#[test]
fn random_kills_of_everything_lose_no_page_and_double_none() {
    let output = Command::new(env!("CARGO_BIN_EXE_kill-loop"))
        .args(["--kills", &kills(), "--seed", "20", "--documents", "15"])
        .args(["--program", super::support::PROGRAM])
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.code() == Some(NOT_HERE) {
        return;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}
