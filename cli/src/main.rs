//! The `quire` command; all of it is in the library, so that tests can start it too.
fn main() -> std::process::ExitCode {
    quire_cli::main()
}
