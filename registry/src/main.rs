//! The `convmae` program.

use std::process::ExitCode;

use convmae_registry as _;

/// Training allocates and frees large buffers all the time; this allocator keeps their pages instead of returning them to the
/// system after each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    convmae_framework::cli::main()
}
