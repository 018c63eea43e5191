//! How much one entry may cost, whatever it claims to be.

/// Limits on opening an entry. All are checked against what is really read, not against what
/// headers claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest document that is a file of its own. It is held in memory whole.
    pub file_bytes: u64,
    /// Largest document (or nested container) inside a container, unpacked.
    pub member_bytes: u64,
    /// Most members of one container.
    pub members: u64,
    /// What unpacks to more than this many times its packed size is a bomb...
    pub expansion_ratio: u64,
    /// ...once a member has unpacked to this many bytes: small white bitmaps pack very well.
    pub member_floor_bytes: u64,
    /// ...or a whole entry has unpacked to this many bytes.
    pub entry_floor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 1 << 30,
            member_bytes: 512 << 20,
            members: 1_000_000,
            expansion_ratio: 200,
            member_floor_bytes: 64 << 20,
            entry_floor_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// Whether `unpacked` bytes out of `packed` ones are beyond all measure for one member.
    pub(crate) fn is_bomb(&self, packed: u64, unpacked: u64) -> bool {
        unpacked > self.member_floor_bytes && unpacked > packed.saturating_mul(self.expansion_ratio)
    }

    /// Bytes that all of an entry of `packed` bytes may unpack to.
    pub(crate) fn entry_budget(&self, packed: u64) -> u64 {
        self.entry_floor_bytes
            .max(packed.saturating_mul(self.expansion_ratio))
    }
}
