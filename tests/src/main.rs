//! `convmae` with the components of this crate.

use std::process::ExitCode;

use convmae_tests as _;

fn main() -> ExitCode {
    convmae_framework::cli::main()
}
