//! Writes `src/generated/` from the definitions.

mod codegen;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    for (name, bytes) in codegen::generate()? {
        std::fs::write(Path::new(codegen::COMMITTED).join(name), bytes)?;
    }
    Ok(())
}
