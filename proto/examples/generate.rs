//! Writes `src/generated/quire.v1.rs` from the definitions.

mod codegen;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    std::fs::write(codegen::COMMITTED, codegen::generate()?)?;
    Ok(())
}
