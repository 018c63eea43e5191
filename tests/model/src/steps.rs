//! What may happen next, and what it does.

use crate::database::{Answer, Shard};
use crate::objects::Closing;
use crate::plan::{Lease, LeaseSet, ShardIdx};
use crate::protocol::{Protocol, Safeguards};
use crate::publisher::{Draft, Publisher};
use crate::state::{State, Worker};

/// One step of one participant, or one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A waiting shard is given to a worker.
    Grant { worker: usize, shard: ShardIdx },
    /// A leased shard is given to a second worker, because the first is slow.
    GrantCopy { worker: usize, shard: ShardIdx },
    /// A worker stores its part, against what it believes without effect.
    UploadLost { worker: usize },
    /// A worker stores its part, if it has not yet, asks for it to count and hears the answer.
    /// The two are one step because nobody looks at a part before its commit.
    Commit { worker: usize },
    /// The same, and the answer is lost: it will ask again.
    CommitUnheard { worker: usize },
    /// A worker dies, and another process starts in its place.
    WorkerDies { worker: usize },
    /// A lease ends, because its worker is dead or taken for dead; the shard waits again.
    LeaseEnds { lease: Lease },
    /// A lease ends, and its shard is halved.
    LeaseEndsHalving { lease: Lease },
    /// The owner gives the job up.
    Cancel,
    /// A publisher finds the newest manifest.
    Look { publisher: usize },
    /// The next manifest that the database has not seen is applied to it.
    CatchUp { publisher: usize },
    /// What the next manifest lists is read from the database.
    Compose { publisher: usize },
    /// The next manifest is created, or its number is taken.
    Create { publisher: usize },
    /// The manifest is created and the answer is lost, or wrong.
    CreateUnheard { publisher: usize },
    /// Nothing is created, and the answer does not say so: "exists", or none at all.
    CreateRefused { publisher: usize },
    /// No answer comes, and the manifest is created later.
    CreateLate { publisher: usize },
    /// What was given up on is created now, if its number is still free.
    Arrive,
    /// What lies under the number is read.
    ReadBack { publisher: usize },
    /// Nothing lies there after all tries: the next turn starts over.
    GiveUp { publisher: usize },
    /// What its manifest lists is published in the database, too.
    Mark { publisher: usize },
    /// A publisher dies, and another process starts in its place.
    PublisherDies { publisher: usize },
    /// The replica of the database catches up with it.
    Replicate,
    /// The database is lost, and its replica takes its place.
    FailOver,
}

impl Step {
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::GrantCopy { .. }
                | Self::UploadLost { .. }
                | Self::CommitUnheard { .. }
                | Self::WorkerDies { .. }
                | Self::CreateUnheard { .. }
                | Self::CreateRefused { .. }
                | Self::CreateLate { .. }
                | Self::PublisherDies { .. }
                | Self::FailOver
        )
    }
}

/// Everything that may happen next.
pub(crate) fn possible(model: &Protocol, state: &State, steps: &mut Vec<Step>) {
    // The job is over: nothing is granted, committed or listed any more.
    if state.objects.closing().is_some() {
        return;
    }
    workers(state, steps);
    lease_ends(state, steps);
    for publisher in 0..state.publishers.len() {
        publishing(model, state, publisher, steps);
    }
    if state.objects.underway.is_some() {
        steps.push(Step::Arrive);
    }
    if model.may_cancel && !state.database.is_canceled {
        steps.push(Step::Cancel);
    }
    if state.faults > 0 && model.may_fail_over {
        match state.replica {
            None => steps.push(Step::Replicate),
            Some(replica) if replica != state.database => steps.push(Step::FailOver),
            Some(_) => {}
        }
    }
}

/// Whether something will happen without a fault and without its owner. A run that comes to a
/// state where this does not hold stands still there for ever.
pub(crate) fn goes_on(guards: &Safeguards, state: &State) -> bool {
    let database = &state.database;
    let pending = database.shards.contains(&Shard::Pending) && !database.is_canceled;
    pending
        || state.objects.underway.is_some()
        || state.workers.iter().any(|&worker| worker != Worker::Idle)
        || state
            .publishers
            .iter()
            .any(|&publisher| publisher != Publisher::Idle)
        || !database.live.without(state.held()).is_empty()
        || is_due(guards, state)
}

fn workers(state: &State, steps: &mut Vec<Step>) {
    let is_idle = |worker: &Worker| *worker == Worker::Idle;
    // Of two idle workers it does not matter which one goes first.
    if let Some(worker) = state.workers.iter().position(is_idle) {
        grants(state, worker, steps);
    }
    for (worker, stands) in state.workers.iter().enumerate() {
        match stands {
            Worker::Idle => continue,
            Worker::Reading(_) | Worker::Uploaded(_) => steps.push(Step::Commit { worker }),
        }
        if state.faults > 0 {
            if matches!(stands, Worker::Reading(_)) {
                steps.push(Step::UploadLost { worker });
            }
            steps.push(Step::CommitUnheard { worker });
            steps.push(Step::WorkerDies { worker });
        }
    }
}

fn grants(state: &State, worker: usize, steps: &mut Vec<Step>) {
    let database = &state.database;
    if database.is_canceled {
        return;
    }
    for shard in ShardIdx::ALL {
        match database.shard(shard) {
            Shard::Pending => steps.push(Step::Grant { worker, shard }),
            Shard::Leased
                if state.faults > 0
                    && state.leases.on(database.live, shard).0.count_ones() == 1 =>
            {
                steps.push(Step::GrantCopy { worker, shard });
            }
            _ => {}
        }
    }
}

fn lease_ends(state: &State, steps: &mut Vec<Step>) {
    let (database, held) = (&state.database, state.held());
    for lease in database.live.iter() {
        // That a living worker is taken for dead is a fault; that a dead one is, is not.
        if held.has(lease) && state.faults == 0 {
            continue;
        }
        steps.push(Step::LeaseEnds { lease });
        if database.may_halve(&state.leases, lease) {
            steps.push(Step::LeaseEndsHalving { lease });
        }
    }
}

/// What the manifest after `head` would list, by the database as it is now.
fn draft(guards: &Safeguards, state: &State, head: u8) -> Option<Draft> {
    let (database, leases) = (&state.database, &state.leases);
    if database.is_canceled {
        let closing = Some(Closing::Canceled);
        return Some(Draft {
            parts: LeaseSet::default(),
            closing,
        });
    }
    let listed = leases.pages(state.objects.listed(head));
    let mut parts = LeaseSet::default();
    for shard in database.shards {
        if let Shard::Committed(lease) = shard {
            let pages = leases.shard(lease).pages();
            if !guards.page_check || pages & listed == 0 {
                parts.insert(lease);
            }
        }
    }
    let closing = (parts.is_empty() && database.is_complete()).then_some(Closing::Done);
    (!parts.is_empty() || closing.is_some()).then_some(Draft { parts, closing })
}

/// Whether a publisher would find something to do. Turns that find nothing change nothing, and
/// are left out.
fn is_due(guards: &Safeguards, state: &State) -> bool {
    if state.objects.closing().is_some() {
        return false;
    }
    let head = state.objects.head();
    let is_behind = guards.catch_up && state.database.applied < head;
    is_behind || draft(guards, state, head).is_some()
}

fn publishing(model: &Protocol, state: &State, publisher: usize, steps: &mut Vec<Step>) {
    let stands = state.publishers[publisher];
    if publisher > 0 && stands == state.publishers[0] {
        // Nothing that the first could not do as well.
        return;
    }
    let has_faults = state.faults > 0;
    match stands {
        Publisher::Idle => {
            if is_due(&model.guards, state) {
                steps.push(Step::Look { publisher });
            }
            return;
        }
        Publisher::CatchingUp { head, applied } if applied < head => {
            steps.push(Step::CatchUp { publisher });
        }
        Publisher::CatchingUp { .. } => steps.push(Step::Compose { publisher }),
        Publisher::Ready { .. } => {
            steps.push(Step::Create { publisher });
            if has_faults {
                steps.push(Step::CreateUnheard { publisher });
                steps.push(Step::CreateRefused { publisher });
                if state.objects.underway.is_none() {
                    steps.push(Step::CreateLate { publisher });
                }
            }
        }
        Publisher::InDoubt { number, .. } => {
            steps.push(Step::ReadBack { publisher });
            if model.guards.read_back && state.objects.manifest(number).is_none() {
                steps.push(Step::GiveUp { publisher });
            }
        }
        Publisher::Created { .. } => steps.push(Step::Mark { publisher }),
    }
    if has_faults {
        steps.push(Step::PublisherDies { publisher });
    }
}

/// Takes a step that is possible.
pub(crate) fn take(model: &Protocol, state: &mut State, step: Step) {
    let guards = &model.guards;
    if step.is_fault() {
        state.faults -= 1;
    }
    match step {
        Step::Grant { worker, shard } | Step::GrantCopy { worker, shard } => {
            let lease = state.database.grant(&mut state.leases, shard);
            state.workers[worker] = Worker::Reading(lease);
        }
        Step::UploadLost { worker } => {
            if let Worker::Reading(lease) = state.workers[worker] {
                state.workers[worker] = Worker::Uploaded(lease);
            }
        }
        Step::Commit { worker } => state.workers[worker] = commit(guards, state, worker),
        Step::CommitUnheard { worker } => {
            let lease = state.workers[worker].lease();
            commit(guards, state, worker);
            if let Some(lease) = lease {
                state.workers[worker] = Worker::Uploaded(lease);
            }
        }
        Step::WorkerDies { worker } => state.workers[worker] = Worker::Idle,
        Step::LeaseEnds { lease } => {
            state.faults -= u8::from(state.held().has(lease));
            state.database.expire(&state.leases, lease);
        }
        Step::LeaseEndsHalving { lease } => {
            state.faults -= u8::from(state.held().has(lease));
            state.database.halve(&state.leases);
        }
        Step::Cancel => state.database.is_canceled = true,
        Step::Arrive => {
            if let Some((number, manifest)) = state.objects.underway.take() {
                state.objects.create(number, manifest, guards.create_only);
            }
        }
        Step::Replicate => state.replica = Some(state.database),
        Step::FailOver => {
            if let Some(replica) = state.replica.take() {
                state.database = replica;
            }
        }
        Step::Look { publisher }
        | Step::CatchUp { publisher }
        | Step::Compose { publisher }
        | Step::Create { publisher }
        | Step::CreateUnheard { publisher }
        | Step::CreateRefused { publisher }
        | Step::CreateLate { publisher }
        | Step::ReadBack { publisher }
        | Step::GiveUp { publisher }
        | Step::Mark { publisher }
        | Step::PublisherDies { publisher } => {
            state.publishers[publisher] = publish(guards, state, publisher, step);
        }
    }
}

/// A commit reaches a coordinator; where the worker stands when it has heard the answer.
fn commit(guards: &Safeguards, state: &mut State, worker: usize) -> Worker {
    let stands = state.workers[worker];
    let is_first = matches!(stands, Worker::Reading(_));
    let lease = match stands {
        Worker::Idle => return Worker::Idle,
        Worker::Reading(lease) => {
            state.objects.parts.insert(lease);
            lease
        }
        Worker::Uploaded(lease) => lease,
    };
    let (database, leases) = (&mut state.database, &state.leases);
    let is_winner = database.winners().has(lease);
    let is_live = database.live.has(lease);
    let may_count = is_live || !guards.live_check;
    if guards.part_check && !is_winner && may_count && !state.objects.parts.has(lease) {
        // Told that its part is missing, it stores it again.
        return Worker::Reading(lease);
    }
    match database.commit(leases, lease, guards) {
        Answer::Committed => {
            if is_live {
                state.rightful.insert(lease);
            }
        }
        Answer::AlreadyCommitted => {}
        Answer::Fenced | Answer::JobNotRunning => {
            if is_first || !guards.keeps_doubtful_parts {
                state.objects.parts = state.objects.parts.without(LeaseSet::one(lease));
            }
        }
    }
    Worker::Idle
}

/// A step of a publisher; where it stands afterwards.
fn publish(guards: &Safeguards, state: &mut State, publisher: usize, step: Step) -> Publisher {
    let nonce = u8::try_from(publisher).ok();
    match (state.publishers[publisher], step) {
        (_, Step::Look { .. }) => {
            let head = state.objects.head();
            let applied = if guards.catch_up {
                state.database.applied
            } else {
                head
            };
            Publisher::CatchingUp { head, applied }
        }
        (Publisher::CatchingUp { head, applied }, Step::CatchUp { .. }) => {
            let number = applied + 1;
            let manifest = state.objects.manifest(number).copied();
            let is_applied = manifest
                .is_some_and(|manifest| state.database.apply(&state.leases, number, &manifest));
            // Otherwise the database was set back meanwhile.
            match is_applied {
                true => Publisher::CatchingUp {
                    head,
                    applied: number,
                },
                false => Publisher::Idle,
            }
        }
        (Publisher::CatchingUp { head, .. }, Step::Compose { .. }) => {
            let number = head + 1;
            draft(guards, state, head)
                .map_or(Publisher::Idle, |draft| Publisher::Ready { number, draft })
        }
        (Publisher::Ready { number, draft }, Step::Create { .. }) => {
            let manifest = draft.manifest(nonce);
            match state.objects.create(number, manifest, guards.create_only) {
                true => Publisher::Created { number, draft },
                false => Publisher::InDoubt { number, draft },
            }
        }
        (Publisher::Ready { number, draft }, Step::CreateUnheard { .. }) => {
            let manifest = draft.manifest(nonce);
            state.objects.create(number, manifest, guards.create_only);
            Publisher::InDoubt { number, draft }
        }
        (Publisher::Ready { number, draft }, Step::CreateRefused { .. }) => {
            Publisher::InDoubt { number, draft }
        }
        (Publisher::Ready { number, draft }, Step::CreateLate { .. }) => {
            state.objects.underway = Some((number, draft.manifest(nonce)));
            Publisher::InDoubt { number, draft }
        }
        (Publisher::InDoubt { number, draft }, Step::ReadBack { .. }) if guards.read_back => {
            match state.objects.manifest(number) {
                None => Publisher::Ready { number, draft },
                Some(found) if found.nonce == nonce => Publisher::Created { number, draft },
                Some(_) => Publisher::Idle,
            }
        }
        (Publisher::InDoubt { number, draft }, Step::ReadBack { .. }) => {
            Publisher::Created { number, draft }
        }
        (Publisher::Created { number, draft }, Step::Mark { .. }) => {
            mark(guards, state, number, draft);
            Publisher::Idle
        }
        // Gave up, or died.
        _ => Publisher::Idle,
    }
}

fn mark(guards: &Safeguards, state: &mut State, number: u8, draft: Draft) {
    let (database, manifest) = (&mut state.database, draft.manifest(None));
    if guards.catch_up {
        // Refused if the database was set back: the next turn applies everything.
        database.apply(&state.leases, number, &manifest);
    } else {
        database.mark(&state.leases, &manifest);
        database.applied = database.applied.max(number);
    }
}
