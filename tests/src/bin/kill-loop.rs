//! The kill loop as a program: `kill-loop --kills 1000 --seed 7`. Needs PostgreSQL, SeaweedFS and
//! an interpreter that `QUIRE_TEST_PYTHON` names; exits 1 if a page is lost or there twice.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its report is for people"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use quire_tests::fleet::kills::{self, KillPlan};

/// Kills workers, coordinators, the database and the object store of a fleet at random while it
/// works, and counts every page afterwards.
#[derive(Debug, Parser)]
struct Args {
    /// How many are killed
    #[arg(long, default_value_t = 30)]
    kills: u32,
    /// Where the chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Shortest time between two kills, milliseconds
    #[arg(long, default_value_t = 600)]
    pause_from: u64,
    /// Longest time between two kills, milliseconds
    #[arg(long, default_value_t = 1800)]
    pause_to: u64,
    /// Workers
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Coordinators
    #[arg(long, default_value_t = 2)]
    coordinators: usize,
    /// What the scripted engine takes for a page, milliseconds
    #[arg(long, default_value_t = 20)]
    engine_ms: u64,
    /// Documents of a job, with up to 40 pages each
    #[arg(long, default_value_t = 30)]
    documents: usize,
    /// Of a thousand requests to the store, so many fail
    #[arg(long, default_value_t = 20)]
    fault_per_mille: u32,
    /// The command under test [default: quire-under-test beside this program]
    #[arg(long)]
    program: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let beside = std::env::current_exe()
        .map(|own| own.with_file_name("quire-under-test"))
        .unwrap_or_default();
    let plan = KillPlan {
        program: args.program.unwrap_or(beside),
        kills: args.kills,
        seed: args.seed,
        pause_ms: (args.pause_from, args.pause_to.max(args.pause_from)),
        workers: args.workers.max(1),
        coordinators: args.coordinators.max(1),
        engine_ms: args.engine_ms,
        documents: args.documents.max(1),
        fault_per_mille: args.fault_per_mille.min(1000),
    };
    println!("seed {}", plan.seed);
    match kills::run(&plan, &mut |line| println!("{line}")) {
        Ok(Some(report)) => {
            print!("{report}");
            if report.is_exact() {
                println!("every page is there once");
                return ExitCode::SUCCESS;
            }
            ExitCode::FAILURE
        }
        // What is missing was said; a program that did nothing has not succeeded.
        Ok(None) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
