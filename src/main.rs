//! The `fold` program: parse, dispatch, print the error chain, exit code.
mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
