//! Definitions to Rust: parsed by protox, written by prost-build, no protobuf compiler needed.

use std::error::Error;
use std::path::Path;

/// Where the generated code is committed.
pub(crate) const COMMITTED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated/quire.v1.rs");

const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");

const FILES: [&str; 3] = [
    "quire/v1/types.proto",
    "quire/v1/worker_service.proto",
    "quire/v1/job_service.proto",
];

/// The Rust code of package `quire.v1`.
pub(crate) fn generate() -> Result<String, Box<dyn Error>> {
    let descriptors = protox::compile(FILES, [DEFINITIONS])?;
    let mut modules = prost_build::Config::new().generate(
        descriptors
            .file
            .into_iter()
            .map(|file| {
                (
                    prost_build::Module::from_protobuf_package_name(file.package()),
                    file,
                )
            })
            .collect(),
    )?;
    let module = prost_build::Module::from_protobuf_package_name("quire.v1");
    let code = modules.remove(&module).ok_or("no code for quire.v1")?;
    let name = Path::new(COMMITTED)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    Ok(format!(
        "// {name}: generated from proto/quire/v1, see lib.rs. Do not edit.\n{code}"
    ))
}
