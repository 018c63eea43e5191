//! Definitions to Rust: parsed by protox, written by prost-build and tonic, no protobuf compiler
//! needed.

use std::error::Error;

use protox::Compiler;

/// Folder of the committed code.
pub(crate) const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generated");

const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");

const FILES: [&str; 5] = [
    "quire/v1/types.proto",
    "quire/v1/worker_service.proto",
    "quire/v1/job_service.proto",
    "quire/v1/dataset_service.proto",
    "quire/v1/admin_service.proto",
];

/// What is committed under [`COMMITTED`]: name and bytes of each file.
pub(crate) type Generated = Vec<(&'static str, Vec<u8>)>;

/// Generates every committed file.
pub(crate) fn generate() -> Result<Generated, Box<dyn Error>> {
    Ok(vec![
        ("quire.v1.rs", code()?.into_bytes()),
        ("quire.v1.bin", descriptors()?),
    ])
}

/// Messages, clients and servers of package `quire.v1`.
fn code() -> Result<String, Box<dyn Error>> {
    let mut compiler = Compiler::new([DEFINITIONS])?;
    // Comments of the definitions become those of the code.
    compiler.include_source_info(true).open_files(FILES)?;
    let module = prost_build::Module::from_protobuf_package_name("quire.v1");
    let requests = compiler
        .file_descriptor_set()
        .file
        .into_iter()
        .map(|file| (module.clone(), file))
        .collect();
    // `connect` of the generated clients would bypass the limits and retries of ours.
    let services = tonic_prost_build::configure().build_transport(false);
    let mut modules = prost_build::Config::new()
        .service_generator(services.service_generator())
        .generate(requests)?;
    let code = modules.remove(&module).ok_or("no code for quire.v1")?;
    Ok(format!(
        "// Generated from proto/quire/v1, see lib.rs. Do not edit.\n{code}"
    ))
}

/// The definitions as servers describe themselves: an encoded `FileDescriptorSet` with imports
/// and without comments.
fn descriptors() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut compiler = Compiler::new([DEFINITIONS])?;
    compiler
        .include_imports(true)
        .include_source_info(false)
        .open_files(FILES)?;
    Ok(compiler.encode_file_descriptor_set())
}
