//! What becomes of a shard whose lease ended without a part. Pure.
//!
//! A *death* is an end that the shard may be to blame for: its worker fell silent or made no
//! progress while it worked on it, or said that it broke. Giving back, storage that is away and
//! the like are not.

use std::collections::BTreeSet;

use quire_core::{DocId, Fault};

use crate::config::DeathPolicy;
use crate::job::LeaseEnd;
use crate::store::{AttemptRecord, LeaseRecord, LeaseStage};

/// Waits this long after a failure that time may cure, doubled with each attempt...
const FIRST_WAIT_MS: i64 = 2_000;
/// ...up to this long.
const LONGEST_WAIT_MS: i64 = 300_000;

/// What happens to the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sentence {
    /// It waits again, at least so long.
    Retry {
        wait_ms: i64,
    },
    Halve,
    Quarantine,
}

/// An end that is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub end: LeaseEnd,
    /// The end is one that counts as a death.
    pub charged: bool,
    pub n_rows: u32,
    /// Attempts and deaths before this one.
    pub epoch: u32,
    pub deaths: u32,
    pub node: &'a str,
    /// Earlier attempts on the shard.
    pub attempts: &'a [AttemptRecord],
    /// Nodes whose workers die on what others finish: deaths on them say nothing of the shard.
    pub sick_nodes: &'a BTreeSet<String>,
    /// Another live lease is on the shard: its end is awaited.
    pub has_copy: bool,
}

/// Decides what happens to the shard.
pub(crate) fn judge(policy: &DeathPolicy, case: &Case<'_>) -> Sentence {
    if !case.charged {
        let waits = case.end == LeaseEnd::Failed;
        return Sentence::Retry {
            wait_ms: if waits { wait_ms(case.epoch) } else { 0 },
        };
    }
    // The newest charged attempts are those that count: what came before a second chance that
    // its owner gave it is forgotten.
    let before = case.attempts.iter().rev();
    let charged: Vec<&str> = before
        .filter(|attempt| attempt.charged)
        .take(case.deaths as usize)
        .map(|attempt| attempt.node.as_str())
        .filter(|&node| !case.sick_nodes.contains(node))
        .collect();
    let deaths = charged.len() as u64 + 1;
    let mut nodes: BTreeSet<&str> = charged.into_iter().collect();
    nodes.insert(case.node);
    let is_last_row = case.n_rows <= 1;
    let enough = if is_last_row {
        policy.to_quarantine
    } else {
        policy.to_halve
    };
    let is_spread = nodes.len() as u64 >= u64::from(policy.min_nodes);
    if deaths < u64::from(enough) || !is_spread || case.has_copy {
        return Sentence::Retry { wait_ms: 0 };
    }
    if is_last_row {
        Sentence::Quarantine
    } else {
        Sentence::Halve
    }
}

fn wait_ms(epoch: u32) -> i64 {
    let doublings = epoch.saturating_sub(1).min(16);
    (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS)
}

/// Whether a worker's own account of a failure counts as a death.
pub(crate) fn failure_is_death(fault: Fault) -> bool {
    match fault {
        // Something in the shard broke it.
        Fault::Input | Fault::Bug => true,
        // Something around it did.
        Fault::Config | Fault::Unavailable | Fault::Fenced | Fault::Corrupt => false,
    }
}

/// Which leases of a worker that fell silent may have killed it: those with a document in
/// flight; if it never said so, those it worked on; if nothing is known at all, every one.
pub(crate) fn to_blame(leases: &[LeaseRecord]) -> Vec<bool> {
    let with_documents = |lease: &LeaseRecord| !lease.in_flight.is_empty();
    let worked_on = |lease: &LeaseRecord| lease.stage == LeaseStage::Reading;
    for is_suspect in [with_documents, worked_on] {
        if leases.iter().any(is_suspect) {
            return leases.iter().map(is_suspect).collect();
        }
    }
    // A part on its way kills nobody.
    leases
        .iter()
        .map(|lease| lease.stage == LeaseStage::Queued)
        .collect()
}

/// Documents that the next attempt reads alone: those under suspicion now, or else those that
/// were before.
pub(crate) fn isolate(suspects: &[DocId], before: &[DocId]) -> Vec<DocId> {
    if suspects.is_empty() {
        before.to_vec()
    } else {
        suspects.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use quire_core::{JobId, LeaseId, SessionId};

    use super::*;

    const POLICY: DeathPolicy = DeathPolicy {
        to_halve: 3,
        to_quarantine: 3,
        min_nodes: 2,
    };

    fn attempt(node: &str, charged: bool) -> AttemptRecord {
        AttemptRecord {
            lease_id: LeaseId::new("l"),
            shard_idx: 0,
            epoch: 1,
            node: node.into(),
            end: LeaseEnd::Expired,
            charged,
            message: String::new(),
            suspects: Vec::new(),
            ended_at_ms: 0,
        }
    }

    fn check(n_rows: u32, nodes_before: &[&str], node: &str, expected: Sentence) {
        let attempts: Vec<_> = nodes_before
            .iter()
            .map(|node| attempt(node, true))
            .collect();
        let deaths = u32::try_from(attempts.len()).unwrap();
        let case = Case {
            end: LeaseEnd::Expired,
            charged: true,
            n_rows,
            epoch: deaths + 1,
            deaths,
            node,
            attempts: &attempts,
            sick_nodes: &BTreeSet::new(),
            has_copy: false,
        };
        assert_eq!(
            judge(&POLICY, &case),
            expected,
            "{n_rows} rows after {nodes_before:?}, {node}"
        );
    }

    #[test]
    fn third_death_on_a_second_node_halves_and_gives_single_rows_up() {
        let retry = Sentence::Retry { wait_ms: 0 };
        check(10, &[], "a", retry);
        check(10, &["a"], "b", retry);
        check(10, &["a", "a"], "b", Sentence::Halve);
        check(10, &["a", "a", "a"], "a", retry);
        check(1, &["a", "b"], "a", Sentence::Quarantine);
        check(1, &["a", "a"], "a", retry);
    }

    #[test]
    fn deaths_on_sick_nodes_and_under_a_live_copy_condemn_nothing() {
        let attempts: Vec<_> = ["a", "bad", "bad"].map(|node| attempt(node, true)).into();
        let check = |sick: &[&str], has_copy, deaths, expected| {
            let case = Case {
                end: LeaseEnd::Expired,
                charged: true,
                n_rows: 10,
                epoch: 4,
                deaths,
                node: "b",
                attempts: &attempts,
                sick_nodes: &sick.iter().map(|&node| node.to_owned()).collect(),
                has_copy,
            };
            assert_eq!(
                judge(&POLICY, &case),
                expected,
                "{sick:?} {has_copy} {deaths}"
            );
        };
        let retry = Sentence::Retry { wait_ms: 0 };
        check(&[], false, 3, Sentence::Halve);
        check(&["bad"], false, 3, retry);
        check(&[], true, 3, retry);
        // A second chance forgot what came before.
        check(&[], false, 0, retry);
    }

    #[test]
    fn giving_back_is_tried_again_at_once_and_failing_storage_later() {
        let case = Case {
            end: LeaseEnd::Released,
            charged: false,
            n_rows: 1,
            epoch: 9,
            deaths: 8,
            node: "a",
            attempts: &[],
            sick_nodes: &BTreeSet::new(),
            has_copy: false,
        };
        assert_eq!(judge(&POLICY, &case), Sentence::Retry { wait_ms: 0 });
        let failed = Case {
            end: LeaseEnd::Failed,
            ..case
        };
        assert_eq!(
            judge(&POLICY, &failed),
            Sentence::Retry {
                wait_ms: LONGEST_WAIT_MS
            }
        );
        assert_eq!(
            judge(&POLICY, &Case { epoch: 1, ..failed }),
            Sentence::Retry { wait_ms: 2_000 }
        );
    }

    #[test]
    fn shards_that_waited_on_a_dead_worker_are_not_blamed() {
        let lease = |stage, in_flight: &[&str]| LeaseRecord {
            lease_id: LeaseId::new("l"),
            session_id: SessionId::new("s"),
            node: "a".into(),
            job_id: JobId::new("j"),
            shard_idx: 0,
            epoch: 1,
            granted_at_ms: 0,
            stage,
            rows_done: 0,
            rows_failed: 0,
            in_flight: in_flight.iter().map(|&id| DocId::new(id)).collect(),
            progressed_at_ms: 0,
        };
        let (queued, reading) = (LeaseStage::Queued, LeaseStage::Reading);
        let uploading = LeaseStage::Uploading;
        let blame = |leases: &[LeaseRecord]| to_blame(leases);
        assert_eq!(
            blame(&[lease(reading, &["d"]), lease(reading, &[])]),
            [true, false]
        );
        assert_eq!(
            blame(&[lease(reading, &[]), lease(queued, &[])]),
            [true, false]
        );
        assert_eq!(
            blame(&[lease(queued, &[]), lease(uploading, &[])]),
            [true, false]
        );
    }
}
