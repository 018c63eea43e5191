//! The tile instructions.
//!
//! The compiler of today has no stable functions for them, so they are written as assembly. Tiles live
//! from one piece of it to the next: compiled code uses none, and the system keeps them when it
//! switches from one thread to another.

use std::arch::asm;

use super::{BLOCK_COLUMNS, Block, Permission, STEP_WEIGHTS, TILE_ROWS, TileRows, Tiles};

/// How the eight tiles are cut: all of them sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static WHOLE_TILES: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Tiles of this thread, configured as long as this lives.
#[derive(Debug)]
pub(crate) struct Unit {
    /// Configured on the thread that made it; not to be sent to another.
    _of_thread: std::marker::PhantomData<*const ()>,
}

impl Unit {
    pub(crate) fn new(_permission: Permission) -> Self {
        // SAFETY: the permission says that the CPU has the instruction and that the system lets
        // this process use it. It reads the 64 bytes of the constant, which are a valid
        // configuration, and changes nothing but tiles, which no compiled code uses.
        #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                configuration = in(reg) &raw const WHOLE_TILES,
                options(readonly, nostack, preserves_flags),
            );
        }
        Self {
            _of_thread: std::marker::PhantomData,
        }
    }
}

impl Unit {
    /// Multiplies tiles that hold zeros, four products a round, and counts the operations.
    pub(crate) fn multiply_registers(&mut self, rounds: usize) -> u64 {
        if rounds == 0 {
            return 0;
        }
        // SAFETY: tiles are configured, since `self` exists on this thread; nothing else is
        // touched.
        #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
        unsafe {
            asm!(
                "tilezero tmm4",
                "tilezero tmm5",
                "tilezero tmm6",
                "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {rounds}",
                "jnz 2b",
                rounds = inout(reg) rounds => _,
                options(nomem, nostack),
            );
        }
        4 * 2 * 16 * 16 * 32 * rounds as u64
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: as when it was made. Tiles that are given back need not be saved at each switch
        // between threads.
        #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
        unsafe {
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }
}

impl Tiles for Unit {
    fn multiply<const R: usize>(
        &mut self,
        rows: TileRows<'_>,
        weights: &[u16],
        bias: &[f32; BLOCK_COLUMNS],
        sums: &mut Block,
        mut between: impl FnMut(usize),
    ) {
        rows.check::<R>(weights);
        let stride = rows.stride;
        // SAFETY: tiles are configured, since `self` exists on this thread. Sixteen times, with a
        // stride of zero, the loads read either half of the bias.
        #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
        unsafe {
            asm!(
                "tileloadd tmm0, [{bias} + {stride}*1]",
                "tileloadd tmm1, [{bias} + {stride}*1 + 64]",
                bias = in(reg) bias,
                stride = in(reg) 0usize,
                options(readonly, nostack, preserves_flags),
            );
            if R == 2 {
                asm!(
                    "tileloadd tmm2, [{bias} + {stride}*1]",
                    "tileloadd tmm3, [{bias} + {stride}*1 + 64]",
                    bias = in(reg) bias,
                    stride = in(reg) 0usize,
                    options(readonly, nostack, preserves_flags),
                );
            }
        }
        let first = rows.values.as_ptr();
        for (step, place) in rows.places().enumerate() {
            // SAFETY: tiles are configured. The loads read 64 bytes of each of `16 * R` rows that
            // are `2 * stride` bytes apart, and two tiles of 16 * 64 bytes of weights: `check` has
            // seen that all of them lie in `rows` and `weights`. Any bits are values of bf16. The
            // instructions need no alignment.
            #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
            unsafe {
                let weights = weights.as_ptr().wrapping_add(step * STEP_WEIGHTS);
                let upper = first.wrapping_add(place);
                let lower = upper.wrapping_add(TILE_ROWS * stride);
                if R == 2 {
                    asm!(
                        "tileloadd tmm4, [{upper} + {stride}*1]",
                        "tileloadd tmm6, [{weights} + {line}*1]",
                        "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                        "tileloadd tmm5, [{lower} + {stride}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        upper = in(reg) upper,
                        lower = in(reg) lower,
                        stride = in(reg) 2 * stride,
                        weights = in(reg) weights,
                        line = in(reg) 64usize,
                        options(readonly, nostack, preserves_flags),
                    );
                } else {
                    asm!(
                        "tileloadd tmm4, [{upper} + {stride}*1]",
                        "tileloadd tmm6, [{weights} + {line}*1]",
                        "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        upper = in(reg) upper,
                        stride = in(reg) 2 * stride,
                        weights = in(reg) weights,
                        line = in(reg) 64usize,
                        options(readonly, nostack, preserves_flags),
                    );
                }
            }
            between(step);
        }
        // SAFETY: tiles are configured. The stores write rows of 64 bytes 128 bytes apart: one or
        // both halves of a `Block`, which has 32 such rows.
        #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
        unsafe {
            asm!(
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 64], tmm1",
                sums = in(reg) &raw mut *sums,
                line = in(reg) 128usize,
                options(nostack, preserves_flags),
            );
            if R == 2 {
                asm!(
                    "tilestored [{sums} + {line}*1 + 2048], tmm2",
                    "tilestored [{sums} + {line}*1 + 2112], tmm3",
                    sums = in(reg) &raw mut *sums,
                    line = in(reg) 128usize,
                    options(nostack, preserves_flags),
                );
            }
        }
    }
}
