//! The `fold` program.

#[global_allocator]
static HEAP: fold::device::heap::Counting = fold::device::heap::Counting;

fn main() -> std::process::ExitCode {
    fold::cli::main()
}
