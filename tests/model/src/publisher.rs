//! A publisher: reads the manifests to their head, applies what the database has not seen,
//! composes what is left, creates the next number, and marks what it lists.

use crate::objects::{Closing, Manifest};
use crate::plan::LeaseSet;

/// What a publisher is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Publisher {
    Idle,
    /// Has read the manifests up to `head`, and knows that the database has, or had, seen those
    /// up to `applied`.
    CatchingUp {
        head: u8,
        applied: u8,
    },
    /// About to create manifest `number`, for the first time or again.
    Ready {
        number: u8,
        draft: Draft,
    },
    /// The create was not clearly answered.
    InDoubt {
        number: u8,
        draft: Draft,
    },
    /// The manifest is its own; the database does not know yet.
    Created {
        number: u8,
        draft: Draft,
    },
}

/// What the next manifest is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Draft {
    pub parts: LeaseSet,
    pub closing: Option<Closing>,
}

impl Draft {
    pub(crate) fn manifest(self, nonce: Option<u8>) -> Manifest {
        Manifest {
            parts: self.parts,
            closing: self.closing,
            nonce,
        }
    }
}

impl Publisher {
    fn draft_mut(&mut self) -> Option<&mut Draft> {
        match self {
            Self::Ready { draft, .. }
            | Self::InDoubt { draft, .. }
            | Self::Created { draft, .. } => Some(draft),
            Self::Idle | Self::CatchingUp { .. } => None,
        }
    }

    /// Leases of the parts it is about to list.
    pub(crate) fn parts(mut self) -> LeaseSet {
        self.draft_mut()
            .map_or_else(LeaseSet::default, |draft| draft.parts)
    }

    /// Whether it still has to tell its own manifest from another's.
    pub(crate) fn compares_nonces(self) -> bool {
        matches!(self, Self::Ready { .. } | Self::InDoubt { .. })
    }

    pub(crate) fn renumbered(mut self, kept: LeaseSet) -> Self {
        if let Some(draft) = self.draft_mut() {
            draft.parts = draft.parts.renumbered(kept);
        }
        self
    }
}
