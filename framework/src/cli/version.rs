//! `convmae --version`: what a program is made of.

use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::component::packages;
use crate::nn::simd::Vectors;

/// What the program computes on, the backend that it was built with.
const BACKEND: &str = if cfg!(feature = "cuda") { "cuda" } else { "cpu" };

/// The version, the backend, the vectors of this machine that it uses, and the packages of its components.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let mut text = format!(
        "{}\nbackend: {BACKEND}\nvectors: {}\ncomponents:",
        env!("CARGO_PKG_VERSION"),
        Vectors::detected()
    );
    for package in packages() {
        let _ = write!(text, "\n  {package}");
    }
    text
});
