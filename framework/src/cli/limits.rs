//! What the surroundings allow this process: threads, sizes of files.

use std::ffi::OsString;
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
    told_threads().map_or(Ok(()), |set| check(&set.to_string_lossy()))
}

fn told_threads() -> Option<OsString> {
    std::env::var_os("RAYON_NUM_THREADS").filter(|set| !set.is_empty())
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
    let share = |launch: Launch| {
        let cpus = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
        let processors = NonZeroUsize::new(System::new_with_specifics(cpus).cpus().len())?;
        Some(launch.threads(processors, std::thread::available_parallelism().ok()?))
    };
    match launch.filter(|_| told_threads().is_none()).and_then(share) {
        Some(threads) => builder.num_threads(threads),
        None => builder,
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
