//! Standard error, shared by the progress bar and everybody else who writes to the terminal.

use std::io::{self, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

/// Standard error is one for the whole process, and so is the bar on it.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The bars that are drawn.
pub(super) fn bars() -> &'static MultiProgress {
    &BARS
}

/// Runs `print` while no progress bar is on the screen; the bar is drawn again below what was printed.
pub fn suspend_progress<R>(print: impl FnOnce() -> R) -> R {
    BARS.suspend(print)
}

/// Writes to standard error without garbling the bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        suspend_progress(|| io::stderr().lock().write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Console {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
