//! The sandboxed child alone, for tests of this crate; in the product the hidden `render-child`
//! command does the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    quire_worker::pipeline::render::render_child_main()
}
