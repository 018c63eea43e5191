//! The `quire` command itself; a test may ask for the scripted engine by its environment.

fn main() -> std::process::ExitCode {
    quire_cli::main_with(quire_tests::ENGINES)
}
