//! Signals that ask a run to end, or tell that its end is near: finish the step, save, and stop.

use std::ffi::c_int;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A terminal that is closed, the warnings of batch systems before they end a job (SIGUSR1 as by
/// `sbatch --signal`, SIGUSR2 of Grid Engine), a limit of processor time. They may come several times.
#[cfg(unix)]
const WARNINGS: [c_int; 4] = {
    use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};
    [SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU]
};
#[cfg(not(unix))]
const WARNINGS: [c_int; 0] = [];

/// What stops a run before its end: the stronger one is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stop {
    /// A warning that the end is near.
    Warned,
    /// Somebody's wish.
    Asked,
}

/// Tells whether the run was asked to stop.
#[derive(Clone, Default)]
pub struct StopSignal {
    asked: Arc<AtomicBool>,
    warned: Arc<AtomicBool>,
}

impl StopSignal {
    /// Listens for SIGINT and SIGTERM, the second one of which ends the program at once, and for warnings,
    /// unless they are ignored, as by `nohup`.
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        let once = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&once))?;
            flag::register(signal, Arc::clone(&once))?;
            flag::register(signal, Arc::clone(&stop.asked))?;
        }
        for signal in WARNINGS.into_iter().filter(|signal| !is_ignored(*signal)) {
            flag::register(signal, Arc::clone(&stop.warned))?;
        }
        Ok(stop)
    }

    /// Is set, too, when the reader comes to its end: a pipe from a process that is gone.
    pub fn follow(&self, mut reader: impl Read + Send + 'static) {
        let asked = Arc::clone(&self.asked);
        // It ends with the process; nobody waits for it.
        std::thread::spawn(move || {
            let _ = io::copy(&mut reader, &mut io::sink());
            asked.store(true, Ordering::Relaxed);
        });
    }

    /// Whether a signal has arrived.
    pub fn is_set(&self) -> bool {
        self.get().is_some()
    }

    /// What has arrived.
    pub fn get(&self) -> Option<Stop> {
        let arrived = |flag: &AtomicBool, stop| flag.load(Ordering::Relaxed).then_some(stop);
        arrived(&self.asked, Stop::Asked).or_else(|| arrived(&self.warned, Stop::Warned))
    }
}

/// Whether this process was started with a signal ignored, where the system tells.
fn is_ignored(signal: c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Sends SIGTERM to this process when the reader comes to its end: a pipe from a process that is gone.
pub fn terminate_after(mut reader: impl Read + Send + 'static) {
    // It ends with the process; nobody waits for it.
    std::thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut io::sink());
        signal_hook::low_level::raise(SIGTERM)
    });
}
