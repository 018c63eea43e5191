//! The model: its switches, its bound on faults, and its face towards the checker.

use stateright::{Model, Property};

use crate::properties;
use crate::state::State;
use crate::steps::{self, Step};

/// Safeguards of the protocol. The product has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Safeguards {
    /// A commit is accepted only while its lease is live.
    pub live_check: bool,
    /// A commit is accepted only when its part lies in the store.
    pub part_check: bool,
    /// A manifest is written only if its number is free.
    pub create_only: bool,
    /// A create without a clear answer is read back, and its nonce compared. Otherwise "exists"
    /// is taken for one's own earlier try.
    pub read_back: bool,
    /// Manifests that the database has not seen are applied before the next is composed.
    pub catch_up: bool,
    /// Shards with a page that a manifest lists already are not listed, be it under the same
    /// number, as a half or as the whole.
    pub page_check: bool,
    /// A worker whose commit was fenced removes its part only if it had not asked before: an
    /// earlier commit may have been accepted and listed, and forgotten by the database.
    pub keeps_doubtful_parts: bool,
}

impl Safeguards {
    /// As the product is.
    pub const ALL: Self = Self {
        live_check: true,
        part_check: true,
        create_only: true,
        read_back: true,
        catch_up: true,
        page_check: true,
        keeps_doubtful_parts: true,
    };
}

/// The protocol with a bound on what goes wrong in one run.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub guards: Safeguards,
    /// Faults of any kind in one run: a process dies, a worker is taken for dead, an answer is
    /// lost or wrong, a write comes late, the database loses its tail.
    pub faults: u8,
    /// The database may lose its tail.
    pub may_fail_over: bool,
    /// The owner may give the job up.
    pub may_cancel: bool,
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.faults)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps::possible(self, state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        steps::take(self, &mut next, step);
        Some(next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
