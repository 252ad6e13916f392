//! Runs what a table is missing.

use std::io::{self, stderr};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use super::error::TableError;
use super::notes::{to_continue, to_shell};
use super::plan::{RequiredRun, RowPlan};
use super::runs::{Found, State};
use crate::engine::StopSignal;
use crate::report::RunDir;
use crate::shell;

/// Between two looks at a process.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the commands of all runs that are missing or were interrupted, each command once, in the order of the
/// rows. One that fails stops the later stages of its row, and no others. SIGINT and SIGTERM stop the command
/// that is running, which saves its state, and no other one is begun.
pub fn produce(rows: &[RowPlan], found: &Found) -> Result<(), TableError> {
    let stop = StopSignal::listen().map_err(TableError::Signals)?;
    let mut tried: Vec<Vec<String>> = Vec::new();
    let mut failed = Vec::new();
    for (row, plan) in rows.iter().enumerate() {
        for (at, run) in plan.runs.iter().enumerate() {
            let Some(command) = due(run, found.of(row, at)).filter(|command| !tried.contains(command)) else {
                continue;
            };
            let name = to_shell(&command);
            if let Some(earlier) = unfinished_before(plan, at, row, found) {
                tracing::warn!("left out, for {} is not finished: {name}", earlier.directory.display());
                continue;
            }
            tracing::info!("{name}");
            let status = execute(&command, &stop)
                .map_err(|source| TableError::Start { command: name.clone(), source })?;
            // A run that was stopped has saved its state and ended well.
            if !status.success() || !is_made(&command, rows, found) {
                failed.push(format!("`{name}`"));
            }
            if stop.is_set() {
                return Err(TableError::Stopped);
            }
            tried.push(command);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(TableError::Failed(failed)) }
}

/// The command for a run, if it is to be made or to be gone on with.
fn due(run: &RequiredRun, state: &State) -> Option<Vec<String>> {
    let is_due = match state {
        State::Missing => true,
        State::Unfinished(status) => status != "running" && status != "unreadable",
        State::Finished | State::Other(_) => false,
    };
    run.command.as_deref().map(to_continue).filter(|_| is_due)
}

/// A run of an earlier stage of the row that is not there to start from. A sweep sees to that itself.
fn unfinished_before<'p>(plan: &'p RowPlan, at: usize, row: usize, found: &Found) -> Option<&'p RequiredRun> {
    let run = &plan.runs[at];
    let is_sweep = run.command.as_ref().is_some_and(|command| command[0] == "sweep");
    let mut earlier = plan.runs[..at].iter().enumerate().filter(|(_, other)| other.stage != run.stage);
    let missing = earlier.find(|(at, other)| match found.of(row, *at) {
        State::Finished => false,
        State::Other(_) => true,
        State::Missing | State::Unfinished(_) => !is_finished(&other.directory),
    });
    missing.filter(|_| !is_sweep).map(|(_, other)| other)
}

/// Whether all runs that a command makes are finished.
fn is_made(command: &[String], rows: &[RowPlan], found: &Found) -> bool {
    let runs = rows.iter().enumerate().flat_map(|(row, plan)| {
        plan.runs
            .iter()
            .enumerate()
            .filter(move |(at, run)| due(run, found.of(row, *at)).is_some_and(|due| due == command))
    });
    runs.into_iter().all(|(_, run)| is_finished(&run.directory))
}

fn is_finished(directory: &Path) -> bool {
    RunDir::inspect(directory).is_ok_and(|dir| dir.is_finished())
}

/// Runs this program to its end, which comes early on a signal or when this process is gone.
fn execute(command: &[String], stop: &StopSignal) -> io::Result<ExitStatus> {
    // Standard output is the table's.
    let mut child = shell::child(&std::env::current_exe()?, command).stdout(Stdio::from(stderr())).spawn()?;
    let mut stdin = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.is_set() {
            drop(stdin.take());
        }
        std::thread::sleep(PAUSE);
    }
}
