//! Generates the code anew and compares it with the committed one.
//! `examples/generate.rs` writes it.

use std::path::Path;

#[path = "../examples/codegen/mod.rs"]
mod codegen;

#[test]
fn committed_code_is_that_of_the_definitions() {
    for (name, bytes) in codegen::generate().unwrap() {
        let committed = std::fs::read(Path::new(codegen::COMMITTED).join(name)).unwrap();
        assert!(
            committed == bytes,
            "{name}: the definitions changed: run `cargo run --release -p quire-proto --example generate`"
        );
    }
}
