//! The `fold` program.

fn main() -> std::process::ExitCode {
    fold::cli::main()
}
