//! How several processes wait for each other.

use std::time::Duration;

/// What commands take that several processes do together.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct TogetherArgs {
    /// Of several processes: how many seconds one waits for the others before it takes them for lost, and ends all.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl TogetherArgs {
    /// How long a process waits for the others.
    pub fn timeout(self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
