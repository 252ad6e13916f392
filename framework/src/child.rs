//! This program as a child of itself.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command of this program that stops, as on SIGTERM, when its standard input is closed or this process is gone. Ctrl-C on the terminal
/// is for this process alone.
pub(crate) fn command(program: &Path, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg("--stop-with-stdin").stdin(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}
