//! Stopped anywhere, the same command goes on and the dataset comes out the same.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use quire_tests::documents::pdf;

use super::command::{
    Scratch, digests, events, finish, quire, run_of, scripted, verify, version, wait_until,
};

const PER_PAGE: Duration = Duration::from_millis(10);
/// So that a run is far from its end when something is done to it, on a slow machine, too.
const SLOWLY: Duration = Duration::from_millis(50);

/// Kills by default; `QUIRE_TEST_KILLS=50` for the long form.
fn kills() -> u32 {
    option_env("QUIRE_TEST_KILLS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(8)
}

#[allow(clippy::disallowed_methods, reason = "a switch of the test itself")]
fn option_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn corpus(scratch: &Scratch) {
    for number in 0..12 {
        let name = format!("folder {}/document {number}.pdf", number % 3);
        scratch.document(&name, &pdf(5 + 7 * number, &name));
    }
    scratch.document("long.pdf", &pdf(150, "long"));
    scratch.document("copy of long.pdf", &pdf(150, "long"));
    scratch.document("garbage.pdf", b"%PDF-1.7 and nothing else");
    scratch.document("words.txt", b"no page at all");
}

fn start(scratch: &Scratch, per_page: Duration) -> Child {
    let mut command = scripted(per_page);
    command.env("QUIRE__JOB__SHARD_PAGES", "10");
    run_of(&mut command, &scratch.documents(), &scratch.out());
    command.spawn().unwrap()
}

fn uninterrupted(scratch: &Scratch) -> Vec<String> {
    let mut command = scripted(Duration::ZERO);
    command.env("QUIRE__JOB__SHARD_PAGES", "10");
    let out = scratch.path("uninterrupted");
    run_of(&mut command, &scratch.documents(), &out);
    finish(&mut command, 0);
    digests(&out)
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args([name, &pid])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn parts(scratch: &Scratch) -> usize {
    fn count(folder: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return 0;
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .map(|path| {
                if path.is_dir() {
                    count(&path)
                } else {
                    usize::from(path.to_string_lossy().contains("/parts/"))
                }
            })
            .sum()
    }
    count(&scratch.path("dataset.quire"))
}

#[test]
fn killed_at_random_moments_and_resumed_gives_the_same_rows() {
    let scratch = Scratch::new();
    corpus(&scratch);
    let expected = uninterrupted(&scratch);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..kills() {
        let mut child = start(&scratch, PER_PAGE);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::thread::sleep(Duration::from_millis(state % 700));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = start(&scratch, PER_PAGE).wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    verify(&scratch.out());
    assert_eq!(digests(&scratch.out()), expected);
}

#[test]
fn one_interrupt_commits_what_is_in_hand_and_the_next_run_goes_on() {
    let scratch = Scratch::new();
    corpus(&scratch);
    let expected = uninterrupted(&scratch);
    let mut child = start(&scratch, SLOWLY);
    assert!(
        wait_until(&mut child, || parts(&scratch) > 2),
        "it ended too early"
    );
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let done = events(&output, "interrupted")[0]["pages_done"]
        .as_u64()
        .unwrap();
    assert!(done > 0 && !scratch.out().join("versions").exists());

    let mut command = scripted(Duration::ZERO);
    command.env("QUIRE__JOB__SHARD_PAGES", "10");
    run_of(&mut command, &scratch.documents(), &scratch.out());
    let output = finish(&mut command, 0);
    let before = &events(&output, "planned")[0]["pages_done_before"];
    assert!(
        before.as_u64().unwrap() >= done,
        "{before} pages of {done} were kept"
    );
    assert_eq!(digests(&scratch.out()), expected);
}

#[test]
fn two_runs_at_once_on_one_dataset_are_refused() {
    let scratch = Scratch::new();
    corpus(&scratch);
    let mut first = start(&scratch, SLOWLY);
    assert!(
        wait_until(&mut first, || parts(&scratch) > 0),
        "it ended too early"
    );
    let mut second = scripted(PER_PAGE);
    run_of(&mut second, &scratch.documents(), &scratch.out());
    let output = finish(&mut second, 1);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("another"), "{message}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn children_do_not_outlive_a_killed_run() {
    let scratch = Scratch::new();
    corpus(&scratch);
    let mut child = start(&scratch, SLOWLY);
    assert!(
        wait_until(&mut child, || parts(&scratch) > 0),
        "it ended too early"
    );
    let children = children_of(child.id());
    assert!(!children.is_empty(), "no renderer was running");
    child.kill().unwrap();
    child.wait().unwrap();
    // They die by a signal of the kernel, which takes a moment.
    for _ in 0..1000 {
        if children.iter().all(|pid| !is_alive(*pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("still alive: {children:?}");
}

fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            after_name.split_whitespace().nth(1) == Some(&parent.to_string())
        })
        .collect()
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty()
        && !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
}

#[test]
fn a_finished_dataset_is_left_alone_by_an_unfinished_second_job() {
    let scratch = Scratch::new();
    scratch.document("first.pdf", &pdf(3, "first"));
    run_of(
        &mut scripted(Duration::ZERO),
        &scratch.documents(),
        &scratch.out(),
    );
    let mut command = scripted(Duration::ZERO);
    run_of(&mut command, &scratch.documents(), &scratch.out());
    finish(&mut command, 0);
    corpus(&scratch);
    let mut child = start(&scratch, SLOWLY);
    wait_until(&mut child, || parts(&scratch) > 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(version(&scratch.out())["version"], 1);
    verify(&scratch.out());
    finish(quire().arg("inspect").arg(scratch.out()), 0);
}
