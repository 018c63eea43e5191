//! Events of a run as JSON lines (`--json`): one object a line on standard output. The list is
//! documented in `docs/cli.md`; fields are only ever added.

use serde::Serialize;

use crate::progress::{Phase, Snapshot, Speed};
use crate::summary::Summary;

/// Something that happened to a job.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A job is taken up.
    Started {
        job_id: String,
        /// An earlier run had begun it.
        resumed: bool,
        out: String,
    },
    /// All documents are found and counted.
    Planned {
        documents: u64,
        documents_known: u64,
        pages: u64,
        pages_done_before: u64,
    },
    /// Where the job stands; about once a second.
    Progress {
        phase: &'static str,
        inputs_listed: u64,
        inputs_opened: u64,
        documents_found: u64,
        pages_planned: u64,
        pages_done: u64,
        pages_failed: u64,
        pages_per_second: Option<f64>,
        eta_seconds: Option<u64>,
    },
    /// A kind of failure was met, or met again.
    Failure {
        code: String,
        /// So far, in this job.
        count: u64,
        example: String,
    },
    /// A version of the dataset exists.
    Sealed { version: u64, out: String },
    /// Stopped before the end by a signal; the same command goes on.
    Interrupted { pages_done: u64, pages_planned: u64 },
    /// The end of a run that reached it.
    Summary(Box<Summary>),
    /// The end of a run that did not.
    Failed { exit_code: u8, message: String },
}

/// The event of a snapshot.
pub(crate) fn progress(snapshot: &Snapshot, speed: &Speed) -> Event {
    let left = snapshot.pages_planned.saturating_sub(snapshot.pages_done);
    Event::Progress {
        phase: phase_name(snapshot.phase),
        inputs_listed: snapshot.entries_listed,
        inputs_opened: snapshot.entries_surveyed,
        documents_found: snapshot.documents_found,
        pages_planned: snapshot.pages_planned,
        pages_done: snapshot.pages_done,
        pages_failed: snapshot.pages_failed,
        pages_per_second: speed.recent().map(|rate| (rate * 1000.0).round() / 1000.0),
        eta_seconds: speed.eta(left).map(|eta| eta.as_secs()),
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Planning => "planning",
        Phase::Reading => "reading",
        Phase::Paused => "paused",
        Phase::Sealing => "sealing",
        Phase::Done => "done",
        Phase::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_with_its_name() {
        let event = progress(&Snapshot::for_test(), &Speed::default());
        let text = serde_json::to_string(&event).unwrap();
        let expected = "{\"event\":\"progress\",\"phase\":\"reading\",\"inputs_listed\":12,\
                        \"inputs_opened\":12,\"documents_found\":20,\"pages_planned\":100,\
                        \"pages_done\":50,\"pages_failed\":2,\"pages_per_second\":null,\
                        \"eta_seconds\":null}";
        assert_eq!(text, expected);
    }
}
