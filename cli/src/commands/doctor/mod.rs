//! `quire doctor`: whether this machine, the settings, the place of a dataset, a database or the
//! way to a coordinator are fit for their work.

mod coordinator;
mod database;

use std::path::Path;
use std::process::ExitCode;

use quire_corpus::sibling;
use quire_dataset::paths::AREA_SUFFIX;
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::commands::run::parts;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place;
use crate::settings::StoreAddress;

/// What was looked at and found.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Fine,
    /// A run works, with less safety or slower.
    Warning,
    /// A run fails.
    Bad,
}

/// Checks what it is asked to; exit code 1 if something would fail.
pub(crate) async fn execute(context: &Context, args: DoctorArgs) -> Outcome<ExitCode> {
    let mut findings = vec![settings(context)];
    if args.coordinator.is_some() {
        findings.extend(coordinator::check(context).await);
    }
    let is_database = |place: &str| StoreAddress::is_meant_by(place);
    match args.place.as_deref() {
        Some(place) if is_database(place) => findings.extend(database::check(context, place).await),
        None if args.coordinator.is_some() => {}
        place => {
            findings.extend([processors(context), memory(context)]);
            findings.extend(renderer(context).await);
            findings.push(engine(context).await);
            if let Some(out) = place.or(context.configured_out()) {
                findings.push(place_of(context, out).await);
                findings.extend(store_of(context, out).await);
            }
        }
    }
    report(context, &findings)?;
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn report(context: &Context, findings: &[Finding]) -> Outcome<()> {
    if context.json {
        return output::print_json(&findings);
    }
    let mut text = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Fine => "ok  ",
            State::Warning => "warn",
            State::Bad => "BAD ",
        };
        text.push_str(&format!(
            "{state}  {:<11} {}\n",
            finding.what, finding.found
        ));
    }
    output::print(&text)
}

fn fine(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        state: State::Fine,
        found: found.into(),
    }
}

fn warning(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        state: State::Warning,
        found: found.into(),
    }
}

fn bad(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        state: State::Bad,
        found: found.into(),
    }
}

/// Settings that are wrong have ended the program before.
fn settings(context: &Context) -> Finding {
    let changed = context.loaded.merged.origins.len();
    fine(
        "settings",
        format!("valid, {changed} differ from the defaults or were given"),
    )
}

fn processors(context: &Context) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = context.settings().run.n_workers();
    let found = format!("{cores} cores, {workers} pages read at the same time");
    if workers > cores {
        warning("processor", found)
    } else {
        fine("processor", found)
    }
}

/// What one page being read takes at most in practice, beside its renderer.
const BYTES_PER_WORKER: u64 = 600 << 20;

fn memory(context: &Context) -> Finding {
    let Some(available) = available_memory() else {
        return warning("memory", "this system does not say how much is free");
    };
    let wanted = BYTES_PER_WORKER * context.settings().run.n_workers() as u64;
    let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
    let found = format!(
        "{:.1} GiB free, about {:.1} wanted",
        gib(available),
        gib(wanted)
    );
    if available < wanted {
        warning("memory", found)
    } else {
        fine("memory", found)
    }
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

async fn renderer(context: &Context) -> Vec<Finding> {
    let pool = match parts::start_renderer(context.settings(), 1).await {
        Ok(pool) => pool,
        Err(failure) => return vec![bad("renderer", failure.message())],
    };
    let status = pool.sandbox_status();
    let walls = [
        (status.limits, "limits"),
        (status.no_new_privileges, "no new privileges"),
        (status.landlock, "landlock"),
        (status.seccomp, "seccomp"),
        (status.ends_with_parent, "ends with its parent"),
    ];
    let standing = walls
        .iter()
        .filter(|(stands, _)| *stands)
        .map(|(_, name)| *name);
    let standing = standing.collect::<Vec<_>>().join(", ");
    if status.is_complete() {
        vec![fine("sandbox", standing)]
    } else {
        let missing = status.missing.join("; ");
        vec![warning(
            "sandbox",
            format!("{standing}; missing: {missing}"),
        )]
    }
}

async fn engine(context: &Context) -> Finding {
    match parts::engine_info(context, context.settings()).await {
        Ok(info) => {
            let revision = info.model_revision.get(..12).unwrap_or_default();
            fine(
                "engine",
                format!(
                    "{} {} ({}), weights {revision}",
                    info.name, info.version, info.mode
                ),
            )
        }
        Err(failure) => bad("engine", failure.message()),
    }
}

async fn place_of(context: &Context, out: &str) -> Finding {
    match place::check(context, out, &[]).await {
        Ok(()) => fine("place", format!("{out} is free, or a dataset")),
        Err(failure) => bad("place", failure.message()),
    }
}

/// A dataset is committed by creating numbered objects that must not exist yet: a store in which
/// two writers of one object both win would lose or double rows. Tried beside OUT, where the
/// unfinished work of runs lies, and cleaned up again.
async fn store_of(context: &Context, out: &str) -> Vec<Finding> {
    let opened = sibling(out, AREA_SUFFIX).and_then(|area| context.stores.create_output(&area));
    let location = match opened {
        Ok(location) => location,
        Err(error) => return vec![bad("store", Failure::of(error).message())],
    };
    let report = quire_coordinator::probe(location.store, &location.prefix).await;
    if let Some(folder) = location.folder {
        remove_empty(&folder);
    }
    let checks = report.checks.into_iter().map(|check| match check.result {
        Ok(seen) => fine("store", format!("{}: {seen}", check.name)),
        Err(wrong) => bad("store", format!("{}: {wrong}", check.name)),
    });
    checks.collect()
}

/// Removes folders that hold nothing, the inner ones first; one with files stays, since removing
/// it fails.
fn remove_empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    drop(std::fs::remove_dir(folder));
}
