//! The whole command, end to end, on real files: what a data engineer would do, and what would
//! go wrong for one.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

mod bench;
mod command;
mod crash;
mod deepseek;
mod first_run;
mod growth;
mod hostile;
mod memory;
mod model_check;
mod readers;
