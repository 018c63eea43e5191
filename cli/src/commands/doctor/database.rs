//! The database of a coordinator: whether it can be used, how fast it is, and what it holds.

use std::sync::Arc;
use std::time::Duration;

use quire_coordinator::store::{JobQuery, Store};
use quire_core::{Clock, SystemClock};

use super::{Finding, bad, fine, warning};
use crate::commands::coordinator::store;
use crate::context::Context;
use crate::output::counted;
use crate::settings::{Span, StoreAddress};

/// Questions whose middle time is told.
const QUESTIONS: usize = 9;
/// Slower than this, the database cannot keep up with a large fleet.
const SLOW: Duration = Duration::from_millis(50);
/// The database's clock decides what has expired; this much only makes times look odd.
const SKEW: Duration = Duration::from_secs(5);
const MOST_JOBS: u32 = 1000;

/// Checks a database.
pub(super) async fn check(context: &Context, place: &str) -> Vec<Finding> {
    let what = "database";
    let address = match store::parse(place) {
        Ok(address) => address,
        Err(failure) => return vec![bad(what, failure.message())],
    };
    if let StoreAddress::Sqlite(path) = &address {
        if !path.exists() {
            return vec![of_missing_file(path)];
        }
        if store::is_in_use(path) {
            let found = format!(
                "{} is in use by a coordinator: `quire doctor --coordinator URL` asks that one",
                path.display()
            );
            return vec![fine(what, found)];
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let opened = match store::open_at(context, address, Arc::clone(&clock)).await {
        Ok(opened) => opened,
        Err(failure) => return vec![bad(what, failure.message())],
    };
    let mut findings = vec![fine(what, format!("{} can be used", opened.name()))];
    let looked = look(&*opened.store(), &*clock, opened.is_alone()).await;
    match looked {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(bad(what, error.to_string())),
    }
    opened.close().await;
    findings
}

fn of_missing_file(path: &std::path::Path) -> Finding {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    let shown = path.display();
    if folder.is_dir() {
        return fine(
            "database",
            format!("{shown} is not there yet: `quire coordinator` makes it"),
        );
    }
    let found = format!("{shown} is not there yet, nor is its folder: both are made");
    warning("database", found)
}

async fn look(
    store: &dyn Store,
    clock: &dyn Clock,
    is_alone: bool,
) -> quire_coordinator::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut times = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let start = clock.monotonic();
        store.newest_job("doctor").await?;
        times.push(clock.monotonic().saturating_sub(start));
    }
    times.sort_unstable();
    let middle = times[QUESTIONS / 2];
    let speed = format!("answers in {middle:.1?}");
    findings.push(if middle > SLOW {
        warning(
            "speed",
            format!("{speed}: slow; a coordinator belongs near its database"),
        )
    } else {
        fine("speed", speed)
    });
    let skew_ms = store.now_ms().await?.abs_diff(clock.unix_ms());
    let skew = Duration::from_millis(skew_ms);
    if !is_alone && skew > SKEW {
        let found = format!(
            "this machine's clock and the database's are {} apart",
            Span(skew)
        );
        findings.push(warning("clock", found));
    }
    findings.push(holds(store).await?);
    Ok(findings)
}

async fn holds(store: &dyn Store) -> quire_coordinator::Result<Finding> {
    let query = JobQuery {
        unfinished: true,
        before: None,
        limit: MOST_JOBS,
    };
    let jobs = store.jobs(&query).await?.len() as u64;
    let sessions = store.sessions().await?.len() as u64;
    let jobs = counted(jobs, "unfinished job", "unfinished jobs");
    let sessions = counted(sessions, "worker", "workers");
    Ok(fine("content", format!("{jobs}, {sessions}")))
}
