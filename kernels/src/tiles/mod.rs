//! Tiles of AMX: sixteen rows of 64 bytes in a register.
//!
//! The system gives them to a process that asks ([`Permission`]). [`Unit`] multiplies with the
//! instructions, [`Model`] does in plain code what they do, bit for bit, so that all around them is
//! tested on CPUs without.

mod model;
mod unit;

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

use pulp::x86::V4;

#[cfg(test)]
pub(crate) use self::model::Model;
pub(crate) use self::unit::Unit;

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Inputs of a step: values of bf16 in a row of a tile.
pub(crate) const STEP: usize = 32;
/// Columns of a block: those of two tiles.
pub(crate) const BLOCK_COLUMNS: usize = 32;
/// Most rows of a block: those of two tiles.
pub(crate) const BLOCK_ROWS: usize = 2 * TILE_ROWS;
/// Weights of a step of a block: two tiles, each of 16 pairs of inputs by 16 columns.
pub(crate) const STEP_WEIGHTS: usize = STEP * BLOCK_COLUMNS;

/// Sums of a block, row by row.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Block(pub(crate) [[f32; BLOCK_COLUMNS]; BLOCK_ROWS]);

impl Block {
    pub(crate) const ZERO: Self = Self([[0.0; BLOCK_COLUMNS]; BLOCK_ROWS]);
}

/// Rows of bf16, each in one or more pieces that take whole steps. Rows and pieces may overlap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileRows<'a> {
    pub(crate) values: &'a [u16],
    /// Values from one row to the next.
    pub(crate) stride: usize,
    pub(crate) n_pieces: usize,
    /// Values from one piece of a row to the next.
    pub(crate) piece_stride: usize,
    /// Steps of a piece.
    pub(crate) n_steps: usize,
}

impl TileRows<'_> {
    /// The rows from one on.
    pub(crate) fn from(self, first: usize) -> Self {
        Self {
            values: &self.values[first * self.stride..],
            ..self
        }
    }

    /// The first value of a step of the first row, for each step.
    fn places(self) -> impl Iterator<Item = usize> {
        let pieces = (0..self.n_pieces).map(move |piece| piece * self.piece_stride);
        pieces.flat_map(move |first| (0..self.n_steps).map(move |step| first + step * STEP))
    }

    /// Panics unless `R` times sixteen rows are there, and weights for them.
    fn check<const R: usize>(self, weights: &[u16]) {
        const { assert!(R == 1 || R == 2, "one or two tiles of rows") };
        let n_weights = self.n_pieces * self.n_steps * STEP_WEIGHTS;
        assert_eq!(weights.len(), n_weights, "weights of all steps");
        let last = (R * TILE_ROWS - 1) * self.stride;
        let last = last + self.n_pieces.saturating_sub(1) * self.piece_stride;
        let end = last + self.n_steps * STEP;
        assert!(self.values.len() >= end, "rows of all steps");
    }
}

/// What multiplies tiles.
pub(crate) trait Tiles {
    /// Products of `R` times sixteen rows with 32 columns, `R` being one or two, and a bias of each
    /// column. Weights are those of a panel, [`STEP_WEIGHTS`] a step. `between` is called after each
    /// step, to do what there is to do while tiles are multiplied; it must use no tiles itself, of
    /// which a thread has one set.
    ///
    /// # Panics
    /// When rows or weights are missing.
    fn multiply<const R: usize>(
        &mut self,
        rows: TileRows<'_>,
        weights: &[u16],
        bias: &[f32; BLOCK_COLUMNS],
        sums: &mut Block,
        between: impl FnMut(usize),
    );
}

/// That this process may use tiles of bf16, AVX-512 and the instruction that rounds to bf16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission(());

impl Permission {
    /// Asks once for all; None where the CPU or the system has no such tiles.
    pub(crate) fn ask() -> Option<Self> {
        static GIVEN: OnceLock<bool> = OnceLock::new();
        let is_given = || has_tiles() && has_rounding() && system_keeps_tiles() && system_permits();
        let given = *GIVEN.get_or_init(is_given);
        given.then_some(Self(()))
    }
}

/// Whether the CPU has tiles and products of bf16, and tells what the system keeps.
fn has_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    if __cpuid(0).eax < 0x1d || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // The first palette: eight tiles of sixteen rows of 64 bytes.
    let palette = __cpuid_count(0x1d, 1);
    let is_known = palette.eax == (1024 << 16) | 8192
        && palette.ebx == (8 << 16) | 64
        && palette.ecx & 0xffff == 16;
    features & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE && is_known
}

/// Whether there is AVX-512 with its extension for bf16, which CPUs with tiles have.
fn has_rounding() -> bool {
    V4::try_new().is_some() && is_x86_feature_detected!("avx512bf16")
}

/// Whether the system saves tiles when it switches from one thread to another.
#[allow(
    unsafe_code,
    reason = "no stable function reads XCR0 without a target feature"
)]
fn system_keeps_tiles() -> bool {
    const TILES: u32 = 0b11 << 17;
    let low: u32;
    // SAFETY: the instruction exists, as the caller has asked for OSXSAVE, and only reads a
    // register that every process may read.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack));
    }
    low & TILES == TILES
}

/// Asks the kernel for the memory in which it keeps the tiles of this process's threads.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call that has no wrapper")]
fn system_permits() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILE_DATA: libc::c_ulong = 18;
    // SAFETY: this call takes two numbers, touches no memory of ours, and gives an error where it
    // is not known.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILE_DATA,
        )
    };
    answer == 0
}

#[cfg(not(target_os = "linux"))]
fn system_permits() -> bool {
    false
}
