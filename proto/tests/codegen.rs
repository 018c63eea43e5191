//! Generates the messages anew and compares them with the committed ones.
//! `examples/generate.rs` writes them.

#[path = "../examples/codegen/mod.rs"]
mod codegen;

#[test]
fn committed_messages_are_those_of_the_definitions() {
    let generated = codegen::generate().unwrap();
    let committed = std::fs::read_to_string(codegen::COMMITTED).unwrap();
    assert!(
        generated == committed,
        "the definitions changed: run `cargo run --release -p quire-proto --example generate`"
    );
}
