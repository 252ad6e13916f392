//! One run as a process of this program.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::RunEnd;
use crate::report::ReportError;
use crate::sweep::plan::PlannedRun;

/// How much of a log is read for its last lines.
const TAIL: u64 = 4096;

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
    pub fn start(program: &Path, run: &PlannedRun, threads: usize) -> Result<Self, ReportError> {
        let log = run.log();
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(ReportError::io("create", folder))?;
        }
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let mut file = open.map_err(ReportError::io("open", &log))?;
        let log_start = file.seek(SeekFrom::End(0)).map_err(ReportError::io("read", &log))?;
        let errors = file.try_clone().map_err(ReportError::io("open", &log))?;
        let mut command = Command::new(program);
        command
            .args(run.arguments())
            .arg("--stop-with-stdin")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(errors);
        // Ctrl-C on the terminal is for the sweep, which tells its runs.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
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

    /// How the run ended, if it has.
    pub fn end(&mut self, run: &PlannedRun) -> Option<RunEnd> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) if status.success() && run.is_finished() => Some(RunEnd::Finished),
            Ok(Some(status)) if status.success() => Some(RunEnd::Interrupted),
            Ok(Some(status)) => Some(RunEnd::Failed(self.reason().unwrap_or_else(|| status.to_string()))),
            Err(error) => Some(RunEnd::Failed(error.to_string())),
        }
    }

    /// The last line that the run has printed.
    pub fn last_line(&self) -> Option<String> {
        let text = self.tail().ok()?;
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// The error that the run has printed.
    fn reason(&self) -> Option<String> {
        let text = self.tail().ok()?;
        let start = text.rfind("\nError:").map_or(0, |start| start + 1);
        let text = text[start..].trim();
        (!text.is_empty()).then(|| text.to_owned())
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
