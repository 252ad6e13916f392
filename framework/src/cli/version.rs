//! `convmae --version`: what a program is made of.

use std::fmt::Write as _;
use std::sync::LazyLock;

use crate::component::packages;
use crate::distributed;
use crate::nn::simd::Vectors;

/// What the program computes on, the backend that it was built with.
const BACKEND: &str = if cfg!(feature = "cuda") { "cuda" } else { "cpu" };

/// The version, the backend, the vectors of this machine that it uses, what connects several processes, and the packages of its
/// components.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let mut text = format!(
        "{}\nbackend: {BACKEND}\nvectors: {}\nseveral processes: {}\ncomponents:",
        env!("CARGO_PKG_VERSION"),
        Vectors::detected(),
        distributed::engine().as_deref().unwrap_or("no, built without the feature `mpi`")
    );
    for package in packages() {
        let _ = write!(text, "\n  {package}");
    }
    text
});
