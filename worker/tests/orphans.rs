//! No renderer outlives the process that started it, however that process ends.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]
#![cfg(target_os = "linux")]

mod documents;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use documents::Pdf;
use quire_core::RenderSpec;
use quire_worker::pipeline::render::{RenderPool, RenderSettings};

/// Makes the second run of this test play the parent that will be killed.
const ROLE: &str = "QUIRE_TEST_PLAYS_PARENT";

#[test]
fn children_of_a_killed_parent_are_gone_even_in_the_middle_of_a_page() {
    if std::env::var_os(ROLE).is_some() {
        play_parent();
        return;
    }
    let this = "children_of_a_killed_parent_are_gone_even_in_the_middle_of_a_page";
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(parent.stdout.take().unwrap());
    let drawing = stdout.lines().any(|line| line.unwrap().contains("drawing"));
    assert!(drawing, "the parent did not start");
    let children = children_of(parent.id());
    assert!(!children.is_empty());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let is_alive = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie that nobody has waited for yet is dead too.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    let gone = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !children.iter().any(is_alive)
    });
    assert!(gone, "{children:?} live on");
}

#[tokio::test]
async fn children_do_not_hear_the_interrupt_of_the_terminal() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let _pool = RenderPool::start(settings()).await.unwrap();
    let group = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.split(' ').nth(2).unwrap().to_owned()
    };
    let children = children_of(std::process::id());
    assert!(
        children
            .iter()
            .any(|&child| group(child) == child.to_string())
    );
}

/// Starts a page that takes for ever and says so.
#[tokio::main(flavor = "current_thread")]
async fn play_parent() {
    let pool = RenderPool::start(settings()).await.unwrap();
    let bytes = Pdf::new().page_of_nested_forms(30).build();
    let mut document = pool.open(bytes.into(), "application/pdf").await.unwrap();
    let spec = RenderSpec {
        dpi: 72.0,
        max_edge_px: 1000,
        max_area_px: 1_000_000,
    };
    let page = document.page(0, &spec, false);
    let say = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        println!("drawing");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = page => panic!("the page has an end"),
        () = say => {}
    }
}

fn settings() -> RenderSettings {
    RenderSettings {
        program: env!("CARGO_BIN_EXE_quire-render-child").into(),
        args: Vec::new(),
        memory_limit_bytes: 1 << 30,
        page_timeout: Duration::from_secs(600),
        open_timeout: Duration::from_secs(60),
        passwords: Vec::new(),
        font_folder: None,
        require_sandbox: false,
        children: 1,
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        after_name.and_then(|rest| rest.split(' ').nth(1)?.parse().ok()) == Some(parent)
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}
