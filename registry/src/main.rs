//! The `convmae` program.

use std::process::ExitCode;

use convmae_registry as _;

fn main() -> ExitCode {
    convmae_framework::cli::main()
}
