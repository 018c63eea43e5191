//! The way to a coordinator: whether it answers, how fast, and what it lets this caller do.

use std::time::Duration;

use quire_core::{Clock, SystemClock};
use quire_proto::v1::{ListJobsRequest, Worker};
use quire_proto::{JobCalls, Reason};

use super::{Finding, bad, fine, warning};
use crate::context::Context;
use crate::fleet::{self, Fleet, worker_state};
use crate::output::counted;

/// Calls whose middle time is told.
const CALLS: usize = 5;
/// A coordinator nearby answers in a fraction of this.
const SLOW: Duration = Duration::from_millis(500);

/// Checks the coordinator of the settings.
pub(super) async fn check(context: &Context) -> Vec<Finding> {
    let what = "coordinator";
    let fleet = match Fleet::connect(context).await {
        Ok(fleet) => fleet,
        Err(failure) => return vec![bad(what, failure.message())],
    };
    let mut findings = vec![security(context, &fleet)];
    match answers(&fleet).await {
        Ok(middle) if middle > SLOW => {
            findings.push(warning(
                what,
                format!("{} answers in {middle:.0?}: slow", fleet.url),
            ));
        }
        Ok(middle) => {
            findings.push(fine(what, format!("{} answers in {middle:.1?}", fleet.url)));
        }
        Err(error) if error.reason == Reason::RoleMissing => {
            findings.push(fine(what, format!("{} answers", fleet.url)));
            findings.push(warning("role", format!("{error}: fine for workers")));
        }
        Err(error) => {
            findings.push(bad(what, fleet.refused(error).message()));
            return findings;
        }
    }
    findings.extend(workers(&fleet).await);
    findings
}

fn security(context: &Context, fleet: &Fleet) -> Finding {
    let settings = &context.settings().fleet;
    let plain = settings
        .coordinator
        .split(',')
        .any(|url| url.trim().starts_with("http://"));
    match (plain, settings.is_on_this_machine()) {
        (false, _) if settings.cert_file.is_empty() => warning(
            "security",
            "TLS, but `fleet.cert_file` names no certificate to show",
        ),
        (false, _) => fine("security", "TLS, with a certificate of this caller"),
        (true, true) => fine("security", "plain, on this machine"),
        (true, false) => warning(
            "security",
            format!(
                "{} is plain: others on the network read and change calls",
                fleet.url
            ),
        ),
    }
}

/// The middle time of some calls.
async fn answers(fleet: &Fleet) -> Result<Duration, quire_proto::CallError> {
    let clock = SystemClock::default();
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = clock.monotonic();
        let request = ListJobsRequest {
            page_size: 1,
            page_token: String::new(),
        };
        fleet.client.list_jobs(request).await?;
        times.push(clock.monotonic().saturating_sub(start));
    }
    times.sort_unstable();
    Ok(times[CALLS / 2])
}

async fn workers(fleet: &Fleet) -> Vec<Finding> {
    let what = "workers";
    match fleet::workers(&fleet.client).await {
        Ok(Ok(workers)) => of_workers(&workers),
        Ok(Err(why)) => vec![warning(what, format!("are not shown: {why}"))],
        Err(error) => vec![bad(what, error.message)],
    }
}

fn of_workers(workers: &[Worker]) -> Vec<Finding> {
    let what = "workers";
    if workers.is_empty() {
        let none = "none is there: `quire worker` starts one";
        return vec![warning(what, none)];
    }
    let distinct = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    let versions = distinct(workers.iter().map(|w| w.version.as_str()).collect());
    let nodes = workers.iter().map(|worker| worker.node.as_str()).collect();
    let count = counted(workers.len() as u64, "worker", "workers");
    let found = format!("{count} on {}, version {versions}", distinct(nodes));
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = vec![if workers.iter().all(|worker| worker.version == own) {
        fine(what, found)
    } else {
        warning(what, format!("{found}; this program is {own}"))
    }];
    let away = workers
        .iter()
        .filter(|worker| worker_state(worker) != "ready");
    for worker in away {
        let (name, node, state) = (&worker.worker_name, &worker.node, worker_state(worker));
        let reason = match worker.node_reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        findings.push(warning(
            what,
            format!("{name} on {node} is {state}{reason}"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::commands::status::examples;

    #[test]
    fn other_versions_and_workers_that_take_nothing_are_told() {
        let mut workers = examples::look().workers.unwrap();
        let states = |workers: &[Worker]| {
            let findings = of_workers(workers);
            findings.iter().map(|f| f.state).collect::<Vec<_>>()
        };
        assert_eq!(states(&workers), [State::Fine, State::Warning]);
        workers[0].version = "0.0.9".into();
        workers.truncate(2);
        assert_eq!(states(&workers), [State::Warning]);
        assert!(of_workers(&workers)[0].found.contains("0.0.9, 0.1.0"));
        assert_eq!(states(&[]), [State::Warning]);
    }
}
