//! The `fold` program: parse, dispatch, print the error chain, exit code.
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
