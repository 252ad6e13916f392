//! `convmae` with the components of this crate.

mod mean_color_head;

use std::process::ExitCode;

use convmae_registry as _;

fn main() -> ExitCode {
    convmae_framework::cli::main()
}
