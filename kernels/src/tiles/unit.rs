//! The tile instructions.
//!
//! The compiler of today has no stable functions for them, so they are written as assembly, a
//! whole block in one piece: no tile lives from one piece to the next but by its configuration.

use std::arch::asm;

use super::{Block, Permission, STEP_WEIGHTS, Tiles, steps};

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
        rows: &[u16],
        stride: usize,
        weights: &[u16],
        sums: &mut Block,
    ) {
        let n_steps = steps::<R>(rows, stride, weights);
        if n_steps == 0 {
            return *sums = Block::ZERO;
        }
        // SAFETY: tiles are configured, since `self` exists on this thread. The loads read
        // 64 bytes of each of `16 * R` rows that are `2 * stride` bytes apart, in `n_steps`
        // steps of 64 bytes, and `n_steps` times two tiles of 16 * 64 bytes of weights: `steps`
        // has checked that all of them lie in `rows` and `weights`. The stores write rows of 64
        // bytes 128 bytes apart: one or both halves of a `Block`, which has 32 such rows. Any
        // bits are values of bf16 and f32. The instructions need no alignment.
        #[allow(unsafe_code, reason = "tile instructions exist as assembly only")]
        unsafe {
            if R == 2 {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{upper} + {stride}*1]",
                    "tileloadd tmm6, [{weights} + {line}*1]",
                    "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                    "tileloadd tmm5, [{lower} + {stride}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {upper}, 64",
                    "add {lower}, 64",
                    "add {weights}, {step}",
                    "dec {n_steps}",
                    "jnz 2b",
                    "add {line}, {line}",
                    "tilestored [{sums} + {line}*1], tmm0",
                    "tilestored [{sums} + {line}*1 + 64], tmm1",
                    "tilestored [{sums} + {line}*1 + 2048], tmm2",
                    "tilestored [{sums} + {line}*1 + 2112], tmm3",
                    upper = inout(reg) rows.as_ptr() => _,
                    lower = inout(reg) rows.as_ptr().wrapping_add(16 * stride) => _,
                    stride = in(reg) 2 * stride,
                    weights = inout(reg) weights.as_ptr() => _,
                    line = inout(reg) 64usize => _,
                    step = const 2 * STEP_WEIGHTS,
                    n_steps = inout(reg) n_steps => _,
                    sums = in(reg) sums,
                    options(nostack),
                );
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    "tileloadd tmm4, [{upper} + {stride}*1]",
                    "tileloadd tmm6, [{weights} + {line}*1]",
                    "tileloadd tmm7, [{weights} + {line}*1 + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {upper}, 64",
                    "add {weights}, {step}",
                    "dec {n_steps}",
                    "jnz 2b",
                    "add {line}, {line}",
                    "tilestored [{sums} + {line}*1], tmm0",
                    "tilestored [{sums} + {line}*1 + 64], tmm1",
                    upper = inout(reg) rows.as_ptr() => _,
                    stride = in(reg) 2 * stride,
                    weights = inout(reg) weights.as_ptr() => _,
                    line = inout(reg) 64usize => _,
                    step = const 2 * STEP_WEIGHTS,
                    n_steps = inout(reg) n_steps => _,
                    sums = in(reg) sums,
                    options(nostack),
                );
            }
        }
    }
}
