//! Products of matrices on a CPU at the speed of its memory. Knows no model and no burn.
//!
//! A language model that writes one token reads all its weights once and does little else, so what
//! counts is that they are read at the speed of memory, in the type and the place in which a file
//! holds them. Weights are a [`Matrix`] over bytes that somebody else keeps, such as a mapped file,
//! in bf16, f16 or f32; activations are f32 [`Rows`]; sums are f32.
//!
//! | what | where |
//! |---|---|
//! | `y = x * W^T`, many at once, added or stored | [`multiply`] |
//! | `silu(x * G^T) * (x * U^T)` | [`gate`] |
//! | attention over cached keys and values | [`attend`] |
//! | the likeliest output of very many | [`likeliest`] |
//! | norms, softmax | [`rms_norm`], [`softmax`] |
//! | memory read, for measuring it | [`read_through`] |
//! | the most that a core can do, for measuring it | [`multiply_on_registers`] |
//!
//! # Same rows, same result
//! Every sum of a row is added up in one order, which depends on the width of the matrix and on the
//! CPU, and not on how many rows come with it, how rows are tiled, or how many threads there are.
//! A row in a batch therefore gives exactly what it gives alone.
//!
//! # Threads and instructions
//! Work is spread over the rayon pool in which a function is called. [`Vectors`] says which
//! instructions are used; [`Vectors::widest`] is found out when the program runs.

mod attention;
mod likeliest;
mod memory;
mod peak;
mod pointwise;
mod product;
mod rows;
mod storage;
mod vectors;

pub use attention::{Attend, PAGE, attend};
pub use likeliest::{Likeliest, likeliest};
pub use memory::read_through;
pub use peak::multiply_on_registers;
pub use pointwise::{rms_norm, softmax};
pub use product::{Gate, Product, gate, multiply};
pub use rows::Rows;
pub use storage::{Matrix, Stored, padded};
pub use vectors::Vectors;
