//! Products on a CPU at the speed of its memory or its arithmetic. Knows no model and no burn.
//!
//! A language model that writes one token reads all its weights once and does little else, so what
//! counts is that they are read at the speed of memory, in the type and the place in which a file
//! holds them. Weights are a [`Matrix`] over bytes that somebody else keeps, such as a mapped file,
//! in bf16, f16 or f32; activations are f32 [`Rows`]; sums are f32.
//!
//! A network that reads a page passes very many rows over small matrices, so what counts is that
//! the units that multiply are never without work. Weights are packed once ([`PackedMatrix`]), in
//! f32 or rounded to what the CPU multiplies fastest, and rows pass over them while they are in the
//! cache.
//!
//! | what | where |
//! |---|---|
//! | `y = x * W^T`, many at once, added or stored | [`multiply`] |
//! | `silu(x * G^T) * (x * U^T)` | [`gate`] |
//! | attention over cached keys and values | [`attend`] |
//! | the likeliest output of very many | [`likeliest`] |
//! | many rows by packed weights, with bias, sum and activation, and on to the next weights | [`PackedMatrix`] |
//! | depthwise convolutions, channels last | [`DepthwiseKernel`] |
//! | attention in short sequences, and in windows of maps | [`attend_sequence`], [`attend_head`] |
//! | norms, softmax, activations | [`rms_norm`], [`normalize_rows`], [`softmax`], [`activate`] |
//! | memory read and registers multiplied, to measure by | [`read_through`], [`multiply_floats`] |
//!
//! # Same rows, same result
//! Every sum of a row is added up in one order, which depends on the width of the matrix and on the
//! CPU, and not on how many rows come with it, how rows are tiled, or how many threads there are.
//! A row in a batch therefore gives exactly what it gives alone.
//!
//! # Threads and instructions
//! Work is spread over the rayon pool in which a function is called. [`Vectors`] says which
//! instructions are used: those of the [`Path`] that was [chosen](choose) for the process, by
//! default the widest that the CPU has, found out when the program runs.
//!
//! | path | f32 | what may be rounded |
//! |---|---|---|
//! | `amx` | AVX-512 | bf16 in tiles of AMX, sums in f32 |
//! | `avx512` | AVX-512 | fixed point of 16 bits with VNNI, f32 without |
//! | `avx2` | AVX2 with FMA | fixed point of 16 bits |
//! | `portable` | what every CPU of the architecture has | f32 |
//!
//! `cargo run --release -p quire-kernels --example speed` shows what each path of a CPU reaches.
//!
//! # Unsafe code
//! All of the workspace's stands here: in `tiles`, instructions that the compiler has no functions
//! for; in `packed::{blocks, avx2, avx512, tiled}` and `depthwise`, innermost loops over pointers,
//! whose ends are checked before, functions for instructions, and places where the compiler is kept
//! from reordering. Each place says why it is sound.

mod activation;
mod attention;
mod buffer;
mod depthwise;
mod likeliest;
mod memory;
mod packed;
mod path;
mod peak;
mod pointwise;
mod product;
mod rows;
mod sequence;
mod storage;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod vectors;
mod windows;

pub use activation::{Activation, activate};
pub use attention::{Attend, PAGE, attend};
pub use buffer::Buffer;
pub use depthwise::{DepthwiseKernel, DepthwiseShape};
pub use likeliest::{Likeliest, likeliest};
pub use memory::read_through;
pub use packed::{Ending, PANEL, PackedMatrix, Passed, Rounding, RowView};
pub use path::{Path, PathError, choose};
pub use peak::{Multiplied, multiply_floats, multiply_tiles};
pub use pointwise::{
    add, add_repeated, copy_rows, dilate_line, mean_rows, normalize_rows, rms_norm, scale_rows,
    softmax,
};
pub use product::{Gate, Product, gate, multiply};
pub use rows::Rows;
pub use sequence::attend_sequence;
pub use storage::{Matrix, Stored, padded};
pub use vectors::Vectors;
pub use windows::{Heads, RelativeTable, attend_head};
