//! The object store: parts, and numbered manifests. A write may land although its answer was
//! lost, may not have landed although the answer says "exists", and may land late.

use crate::plan::{LeaseSet, Leases, Pages};

/// Why nothing follows a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Closing {
    Done,
    Canceled,
}

/// A manifest as it lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Manifest {
    pub parts: LeaseSet,
    pub closing: Option<Closing>,
    /// Its nonce: which publisher could still recognize it as its own, if any. Nonces are only
    /// ever compared, by the publisher that drew them.
    pub nonce: Option<u8>,
}

/// Manifests a run writes at most: one for each page, a closing one, and some for mistakes that
/// are to be found.
const MOST_MANIFESTS: usize = 6;

/// What lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Objects {
    /// Leases whose part is there whole.
    pub parts: LeaseSet,
    n_manifests: u8,
    manifests: [Option<Manifest>; MOST_MANIFESTS],
    /// A create that was given up on and has not arrived yet.
    pub underway: Option<(u8, Manifest)>,
}

impl Objects {
    pub fn new() -> Self {
        Self {
            parts: LeaseSet::default(),
            n_manifests: 0,
            manifests: [None; MOST_MANIFESTS],
            underway: None,
        }
    }

    /// Number of the newest manifest; they count from 1, without gaps.
    pub fn head(&self) -> u8 {
        self.n_manifests
    }

    pub fn manifest(&self, number: u8) -> Option<&Manifest> {
        self.manifests
            .get(usize::from(number).wrapping_sub(1))?
            .as_ref()
    }

    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.manifests.iter().flatten()
    }

    /// Whether a manifest says that nothing follows.
    pub fn closing(&self) -> Option<Closing> {
        self.manifests().find_map(|manifest| manifest.closing)
    }

    /// Leases of parts that are listed up to a manifest.
    pub fn listed(&self, head: u8) -> LeaseSet {
        let first = self.manifests().take(usize::from(head));
        first.fold(LeaseSet::default(), |listed, m| listed.or(m.parts))
    }

    /// Pages of every part listed, and whether one of them is listed twice.
    pub fn listed_pages(&self, leases: &Leases) -> (Pages, bool) {
        let (mut pages, mut is_twice) = (0, false);
        for lease in self.manifests().flat_map(|manifest| manifest.parts.iter()) {
            let listed = leases.shard(lease).pages();
            is_twice |= pages & listed != 0;
            pages |= listed;
        }
        (pages, is_twice)
    }

    /// Writes a manifest; only if its number is free, where the store keeps that promise. Whether
    /// it was written.
    pub fn create(&mut self, number: u8, manifest: Manifest, create_only: bool) -> bool {
        let Some(slot) = self.manifests.get_mut(usize::from(number) - 1) else {
            return false;
        };
        if create_only && slot.is_some() {
            return false;
        }
        *slot = Some(manifest);
        self.n_manifests = self.n_manifests.max(number);
        true
    }

    /// Changes what every manifest says of its nonce, on its way or in the store.
    pub(crate) fn rename_nonces(&mut self, rename: impl Fn(u8) -> Option<u8>) {
        let underway = self.underway.iter_mut().map(|(_, manifest)| manifest);
        for manifest in self.manifests.iter_mut().flatten().chain(underway) {
            manifest.nonce = manifest.nonce.and_then(&rename);
        }
    }

    pub(crate) fn renumbered(&self, kept: LeaseSet) -> Self {
        let mut new = *self;
        new.parts = self.parts.renumbered(kept);
        let underway = new.underway.iter_mut().map(|(_, manifest)| manifest);
        for manifest in new.manifests.iter_mut().flatten().chain(underway) {
            manifest.parts = manifest.parts.renumbered(kept);
        }
        new
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}
