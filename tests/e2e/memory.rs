//! Memory does not grow with the number of pages.

use std::time::Duration;

use quire_tests::documents::pdf;

use super::command::{Scratch, run_of, scripted, verify, wait_until};

/// Peak resident memory of the main process over a run of so many pages, MiB.
fn peak(n_pages: usize) -> u64 {
    let scratch = Scratch::new();
    for number in 0..n_pages.div_ceil(500) {
        let name = format!("{number}.pdf");
        scratch.document(&name, &pdf(500.min(n_pages), &name));
    }
    let mut command = scripted(Duration::ZERO);
    run_of(&mut command, &scratch.documents(), &scratch.out());
    // Nobody reads while it runs, so what it says must not fill a pipe.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let (pid, mut highest) = (child.id(), 0);
    wait_until(&mut child, || {
        highest = highest.max(resident_peak(pid));
        false
    });
    assert!(child.wait().unwrap().success());
    verify(&scratch.out());
    highest
}

fn resident_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[test]
fn ten_times_the_pages_take_no_more_memory() {
    let (few, many) = (peak(500), peak(5_000));
    println!("peak of the main process: {few} MiB for 500 pages, {many} MiB for 5,000");
    assert!(
        many < few + few / 2 + 64,
        "{few} MiB for 500 pages, {many} MiB for 5,000"
    );
}
