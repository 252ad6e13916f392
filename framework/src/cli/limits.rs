//! What the surroundings allow this process: threads, sizes of files.

use std::io;
use std::num::NonZeroUsize;

use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::output::CliError;
use crate::distributed::launch::Launch;

/// Threads that the pool may be asked for. More take longer to start than they save.
const MOST_THREADS: usize = 1024;

/// Refuses a number of threads, from `RAYON_NUM_THREADS`, that is none: the pool would pass over it in
/// silence, or take minutes to start.
pub fn check_threads() -> Result<(), CliError> {
    match std::env::var_os("RAYON_NUM_THREADS") {
        Some(set) if !set.is_empty() => check(&set.to_string_lossy()),
        _ => Ok(()),
    }
}

fn check(threads: &str) -> Result<(), CliError> {
    match threads.trim().parse() {
        Ok(1..=MOST_THREADS) => Ok(()),
        _ => Err(CliError::Usage {
            message: format!(
                "RAYON_NUM_THREADS is `{threads}`: expected a number of threads, 1 to {MOST_THREADS}"
            ),
            help: Some("without it there is a thread for each core".to_owned()),
        }),
    }
}

/// The threads of this process: those that it is told, or its share of what several processes of this machine have.
pub fn threads(launch: Option<Launch>) -> rayon::ThreadPoolBuilder {
    let builder = rayon::ThreadPoolBuilder::new();
    let own = std::thread::available_parallelism().ok();
    let processors =
        System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).cpus().len();
    let is_told = std::env::var_os("RAYON_NUM_THREADS").is_some_and(|set| !set.is_empty());
    match launch.zip(own).zip(NonZeroUsize::new(processors)) {
        Some(((launch, own), processors)) if !is_told => builder.num_threads(launch.threads(processors, own)),
        _ => builder,
    }
}

/// Lets a file that grows beyond the limit of the process (`ulimit -f`) be an error of the write, which names
/// it, where it would be the end of the process.
pub fn outlive_file_limit() -> io::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_is_one_or_more() {
        for threads in ["1", "64", " 1024 "] {
            assert!(check(threads).is_ok(), "{threads}");
        }
        for threads in ["0", "-1", "abc", "1025", "100000", "99999999999999999999"] {
            assert!(check(threads).is_err(), "{threads}");
        }
    }
}
