//! Standard error, shared by the progress bar and everybody else who writes to the terminal.

use std::io::{self, IsTerminal as _, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

use crate::terminal::{visible_in_colour, visible_lines};

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
    /// Never fails: a message that nobody can read is no reason to stop. Of what controls a terminal only the
    /// colours of the log are left: fields hold names out of files.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let shown = match io::stderr().is_terminal() {
            true => visible_in_colour(&text).into(),
            false => visible_lines(&text),
        };
        suspend_progress(|| drop(io::stderr().lock().write_all(shown.as_bytes())));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Console {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
