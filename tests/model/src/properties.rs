//! What must hold in every state, and what must come about in some, or the model would promise
//! too little.

use stateright::Property;

use crate::database::Shard;
use crate::objects::Closing;
use crate::plan::{ALL_PAGES, LeaseSet, ShardIdx};
use crate::protocol::Protocol;
use crate::publisher::Publisher;
use crate::state::{State, Worker};
use crate::steps;

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("no page is published twice", |_, state: &State| {
            !state.objects.listed_pages(&state.leases).1
        }),
        Property::always("no page is lost", |model: &Protocol, state: &State| {
            nothing_lost(model, state)
        }),
        Property::always("a fenced commit never counts", |_, state: &State| {
            let counts = listed(state).or(state.database.winners());
            counts.without(state.rightful).is_empty()
        }),
        Property::always("what is committed is uploaded whole", |_, state: &State| {
            let counts = listed(state).or(state.database.winners());
            counts.without(state.objects.parts).is_empty()
        }),
        Property::always(
            "the manifests never contradict the database",
            |_, state: &State| !state.database.is_contradicted,
        ),
        Property::sometimes("a job ends with a halved shard", |_, state: &State| {
            state.objects.closing() == Some(Closing::Done)
                && matches!(state.database.shard(ShardIdx::Left), Shard::Published(_))
        }),
        Property::sometimes(
            "a worker commits after its lease has ended",
            |_, state: &State| {
                state.workers.into_iter().any(|worker| match worker {
                    Worker::Uploaded(lease) => {
                        !state.database.live.has(lease) && !state.database.winners().has(lease)
                    }
                    _ => false,
                })
            },
        ),
        Property::sometimes("a shard has two live leases", |_, state: &State| {
            let single = state.leases.on(state.database.live, ShardIdx::Single);
            single.0.count_ones() == 2
        }),
        Property::sometimes("a publisher is overtaken", |_, state: &State| {
            in_doubt(state, |mine, found| {
                found.is_some_and(|found| found != mine)
            })
        }),
        Property::sometimes("a create in doubt was done", |_, state: &State| {
            in_doubt(state, |mine, found| found == Some(mine))
        }),
        Property::sometimes("a create in doubt was not done", |_, state: &State| {
            in_doubt(state, |_, found| found.is_none())
        }),
        Property::sometimes(
            "a publisher dies between create and mark",
            |_, state: &State| {
                let is_idle = state.publishers == [Publisher::Idle; 2];
                is_idle && state.database.applied < state.objects.head() && state.faults > 0
            },
        ),
        Property::sometimes(
            "the database forgets a halving that was published",
            |_, state: &State| {
                let published = listed(state).iter().any(|lease| {
                    matches!(state.leases.shard(lease), ShardIdx::Left | ShardIdx::Right)
                });
                published && state.database.shard(ShardIdx::Left) == Shard::Absent
            },
        ),
        Property::sometimes(
            "a shard is halved after it was published whole",
            |_, state: &State| {
                let published = listed(state)
                    .iter()
                    .any(|lease| state.leases.shard(lease) == ShardIdx::Whole);
                published && matches!(state.database.shard(ShardIdx::Left), Shard::Committed(_))
            },
        ),
    ]
}

fn listed(state: &State) -> LeaseSet {
    state.objects.listed(state.objects.head())
}

/// The end has every page, the database claims nothing that the manifests do not have, and a run
/// that cannot go on has come to its end.
fn nothing_lost(model: &Protocol, state: &State) -> bool {
    let (pages, _) = state.objects.listed_pages(&state.leases);
    let claims = state.database.published();
    match state.objects.closing() {
        Some(Closing::Done) => pages == ALL_PAGES,
        Some(Closing::Canceled) => true,
        None => claims & !pages == 0 && steps::goes_on(&model.guards, state),
    }
}

/// Whether some publisher is in doubt, and what it wrote and what it will find are as `is_so`
/// says; both by their nonces.
fn in_doubt(state: &State, is_so: impl Fn(Option<u8>, Option<Option<u8>>) -> bool) -> bool {
    (0..)
        .zip(state.publishers)
        .any(|(at, publisher)| match publisher {
            Publisher::InDoubt { number, .. } => {
                let found = state
                    .objects
                    .manifest(number)
                    .map(|manifest| manifest.nonce);
                is_so(Some(at), found)
            }
            _ => false,
        })
}
