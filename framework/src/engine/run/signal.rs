//! SIGINT and SIGTERM: finish the step, save, and stop.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Tells whether the run was asked to stop.
#[derive(Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Listens for SIGINT and SIGTERM. The second one ends the program at once.
    pub fn listen() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Is set, too, when the reader comes to its end: a pipe from a process that is gone.
    pub fn follow(&self, mut reader: impl Read + Send + 'static) {
        let stop = Arc::clone(&self.0);
        // It ends with the process; nobody waits for it.
        std::thread::spawn(move || {
            let _ = io::copy(&mut reader, &mut io::sink());
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// Whether a signal has arrived.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends SIGTERM to this process when the reader comes to its end: a pipe from a process that is gone.
pub fn terminate_after(mut reader: impl Read + Send + 'static) {
    // It ends with the process; nobody waits for it.
    std::thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut io::sink());
        signal_hook::low_level::raise(SIGTERM)
    });
}
