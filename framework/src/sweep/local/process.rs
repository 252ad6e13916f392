//! One run as a process of this program.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus};
use std::time::{Duration, Instant};

use super::cards::VISIBLE;
use crate::report::{ReportError, RunDir};
use crate::shell;
use crate::sweep::plan::PlannedRun;
use crate::sweep::state::RunState;

/// How much of a log is read for its last lines, and for an error in it.
const TAIL: u64 = 1 << 14;

/// The exit code of a run that another process does.
pub(crate) const HELD: u8 = 3;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// It is finished, now or before.
    Finished,
    /// It failed, the end of what it said, or could not be started, and why.
    Failed(String),
    /// It was stopped, and can be resumed.
    Interrupted,
    /// The run it starts from is not finished.
    Blocked,
}

/// Why a process has ended.
pub(super) enum Exit {
    /// With its run.
    Ended(RunEnd),
    /// Another process does the run.
    Held,
}

/// A process that does a run. It stops by itself when this one ends.
pub(super) struct Process {
    child: Child,
    /// Held open: the run stops, as on SIGTERM, when it is closed.
    stdin: Option<ChildStdin>,
    log: PathBuf,
    /// Where this process's part of the log begins.
    log_start: u64,
    started: Instant,
}

impl Process {
    /// Starts the program on a run, with that many threads, and with a card of its own if there is one.
    pub fn start(
        program: &Path,
        run: &PlannedRun,
        threads: usize,
        card: Option<&str>,
    ) -> Result<Self, ReportError> {
        let log = run.log();
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
        }
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let mut file = open.map_err(ReportError::io("open", &log))?;
        let log_start = file.seek(SeekFrom::End(0)).map_err(ReportError::io("read", &log))?;
        let errors = file.try_clone().map_err(ReportError::io("open", &log))?;
        let mut command = shell::child(program, run.arguments());
        command.env("RAYON_NUM_THREADS", threads.to_string()).stdout(file).stderr(errors);
        if let Some(card) = card {
            command.env(VISIBLE, card);
        }
        let mut child = command.spawn().map_err(ReportError::io("start", program))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, log, log_start, started: Instant::now() })
    }

    /// Tells the run to save and stop.
    pub fn stop(&mut self) {
        self.stdin = None;
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Why it ended, if it has.
    pub fn exit(&mut self, run: &PlannedRun) -> Option<Exit> {
        let end = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) if status.success() => match run.state() {
                RunState::Finished => RunEnd::Finished,
                RunState::Running => return Some(Exit::Held),
                _ => RunEnd::Interrupted,
            },
            Ok(Some(status)) if status.code() == Some(HELD.into()) => return Some(Exit::Held),
            // It has ended: who holds the directory is another one.
            Ok(Some(_)) if RunDir::is_held(&run.directory) => return Some(Exit::Held),
            Ok(Some(status)) => RunEnd::Failed(self.reason(status)),
            Err(error) => RunEnd::Failed(error.to_string()),
        };
        Some(Exit::Ended(end))
    }

    /// The last line that the run has printed.
    pub fn last_line(&self) -> Option<String> {
        last_line(&self.tail().ok()?).map(str::to_owned)
    }

    /// How it ended, and the error that it has printed, or its last line.
    fn reason(&self, status: ExitStatus) -> String {
        let log = self.tail().unwrap_or_default();
        [describe(status)].into_iter().chain(said(&log)).collect::<Vec<_>>().join("\n")
    }

    fn tail(&self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.log_start.max(length.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// `killed by signal 9`, or `exit status: 1`.
fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    status.to_string()
}

/// What a log tells of the end: the error in it to its end, or its last line. An error begins with a mark in
/// the third column, a cross in Unicode or ASCII; those within it, of single lines of a recipe, follow.
fn said(log: &str) -> Option<String> {
    const MARKS: [&str; 2] = ["  × ", "  x "];
    let mut start = 0;
    for line in log.split_inclusive('\n') {
        if let Some(error) = MARKS.iter().find_map(|mark| line.strip_prefix(mark)) {
            return Some(log[start + line.len() - error.len()..].trim().to_owned());
        }
        start += line.len();
    }
    last_line(log).map(str::to_owned)
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_its_error_or_its_last_line() {
        let said = |log: &str| said(log).unwrap_or_default();
        assert_eq!(said("step 1\nstep 2\n\n"), "step 2");
        let error = "the loss is NaN at step 3\n  help: nothing was saved";
        assert_eq!(said(&format!("step 1\n  × {error}\n")), error);
        assert_eq!(said(&format!("step 1\n\n  x {error}\n\n")), error);
        let mistakes = "a.yaml has 2 problems\n\nError: \n  × b: no\nError: \n  × c: no";
        assert_eq!(said(&format!("  × {mistakes}\n")), mistakes);
        assert_eq!(said("\n"), "");
    }

    #[cfg(unix)]
    #[test]
    fn a_signal_is_called_so() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by signal 9");
        assert_eq!(describe(ExitStatus::from_raw(256)), "exit status: 1");
    }
}
