//! What is planned: three pages in two shards, of which the first may be halved. And leases,
//! whose random identifiers are small numbers here.

/// A set of pages, one bit each.
pub type Pages = u8;

/// Every planned page.
pub const ALL_PAGES: Pages = 0b111;

/// A shard of the plan, or a half of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShardIdx {
    /// Two pages; may be halved.
    Whole,
    /// One page.
    Single,
    /// First half of [`Self::Whole`].
    Left,
    /// Second half of [`Self::Whole`].
    Right,
}

impl ShardIdx {
    pub const ALL: [Self; 4] = [Self::Whole, Self::Single, Self::Left, Self::Right];

    /// The pages it holds.
    pub fn pages(self) -> Pages {
        match self {
            Self::Whole => 0b011,
            Self::Single => 0b100,
            Self::Left => 0b001,
            Self::Right => 0b010,
        }
    }

    pub(crate) fn of(index: u8) -> Self {
        Self::ALL[usize::from(index & 0b11)]
    }
}

/// A lease, by its number.
pub type Lease = u8;

/// How many leases may matter at the same time.
const MOST_LEASES: u8 = 16;

/// A set of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct LeaseSet(pub u16);

impl LeaseSet {
    pub fn one(lease: Lease) -> Self {
        Self(1 << lease)
    }

    pub fn has(self, lease: Lease) -> bool {
        self.0 & (1 << lease) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn insert(&mut self, lease: Lease) {
        self.0 |= 1 << lease;
    }

    pub fn iter(self) -> impl Iterator<Item = Lease> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let lease = left.trailing_zeros();
            left &= left - 1;
            u8::try_from(lease).ok()
        })
    }

    /// The same leases under the numbers they have after those not in `kept` are forgotten.
    pub(crate) fn renumbered(self, kept: Self) -> Self {
        let mut new = Self::default();
        for (number, lease) in (0..).zip(kept.iter()) {
            if self.has(lease) {
                new.insert(number);
            }
        }
        new
    }
}

/// Which shard each lease is on. The numbers of leases that nobody remembers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Leases {
    n: u8,
    /// Two bits each.
    shards: u32,
}

impl Leases {
    /// A lease that never was before.
    ///
    /// # Panics
    /// When more leases matter at once than the model has room for.
    pub fn add(&mut self, shard: ShardIdx) -> Lease {
        assert!(self.n < MOST_LEASES, "more leases than the model holds");
        let lease = self.n;
        self.shards |= u32::from(shard as u8) << (2 * lease);
        self.n += 1;
        lease
    }

    pub fn shard(&self, lease: Lease) -> ShardIdx {
        ShardIdx::of((self.shards >> (2 * lease)) as u8)
    }

    /// Leases of this set that are on a shard.
    pub fn on(&self, set: LeaseSet, shard: ShardIdx) -> LeaseSet {
        let mut found = LeaseSet::default();
        for lease in set.iter().filter(|&lease| self.shard(lease) == shard) {
            found.insert(lease);
        }
        found
    }

    /// Pages of the parts that these leases wrote.
    pub fn pages(&self, set: LeaseSet) -> Pages {
        set.iter()
            .fold(0, |pages, lease| pages | self.shard(lease).pages())
    }

    pub(crate) fn renumbered(&self, kept: LeaseSet) -> Self {
        let mut new = Self::default();
        for lease in kept.iter() {
            new.add(self.shard(lease));
        }
        new
    }
}
