//! Runs fleets on a simulated network, one seed after another, each in a process of its own.
//!
//! - `QUIRE_SIMULATION_SEED=17` runs one seed and prints everything that happened in it.
//! - `QUIRE_SIMULATION_SEEDS=5000` runs so many seeds instead of 200.
//! - `QUIRE_SIMULATION_LOG=debug` prints the logs of a single run, too.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::unwrap_used,
    reason = "a program of its own, for people and for CI"
)]

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quire_simulation::run;

const SEEDS: u64 = 200;
/// Every so many seeds one is run twice, and must come to the same.
const TWICE: u64 = 8;
const NAME: &str = "the_same_seed_gives_the_same_run_and_every_page_is_there_once";

#[expect(clippy::disallowed_methods, reason = "switches of this program alone")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, seed] = arguments.as_slice()
        && flag == "--seed"
    {
        return one(seed.parse().unwrap(), false);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    // A filter that means other tests.
    let filters = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'));
    if filters.clone().count() > 0 && !filters.clone().any(|filter| NAME.contains(&**filter)) {
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = variable("QUIRE_SIMULATION_SEED") {
        return one(seed.parse().expect("a seed is a number"), true);
    }
    let said = variable("QUIRE_SIMULATION_SEEDS");
    all(said.map_or(SEEDS, |said| said.parse().expect("a number of seeds")))
}

/// Runs one seed here.
fn one(seed: u64, tells_all: bool) -> ExitCode {
    if let Some(filter) = variable("QUIRE_SIMULATION_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .init();
    }
    let outcome = run(seed);
    if tells_all || outcome.wrong.is_some() {
        println!("{}", outcome.trace);
    }
    println!("{}\n{}", outcome.summary, outcome.digest);
    let Some(wrong) = outcome.wrong else {
        return ExitCode::SUCCESS;
    };
    println!("seed {seed}: {wrong}");
    println!("again: QUIRE_SIMULATION_SEED={seed} cargo test --release -p quire-simulation");
    ExitCode::FAILURE
}

/// What a process of its own said of a seed.
fn child(seed: u64) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--seed", &seed.to_string()])
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    (output.status.success(), text)
}

fn all(n_seeds: u64) -> ExitCode {
    let start = Instant::now();
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= n_seeds {
                        return;
                    }
                    if let Err(wrong) = try_seed(seed) {
                        println!("{wrong}");
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("{n_seeds} seeds in {seconds:.0} s; failed: {failed:?}");
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn try_seed(seed: u64) -> Result<(), String> {
    let (is_fine, text) = child(seed);
    if !is_fine {
        return Err(text);
    }
    println!("seed {seed}: {}", text.lines().next().unwrap_or_default());
    if seed.is_multiple_of(TWICE) {
        let (_, again) = child(seed);
        if again != text {
            return Err(format!("seed {seed} ran differently:\n{text}{again}"));
        }
    }
    Ok(())
}
