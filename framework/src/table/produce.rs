//! Makes the missing runs of a table.

use std::io::stderr;
use std::process::{Command, Stdio};

use super::error::TableError;
use super::notes::{shell, to_continue};
use super::plan::RowPlan;
use super::runs::{Found, State};

/// Runs the commands of all runs that are missing or were interrupted, each command once, in the order of the rows. One that fails does
/// not stop the others.
pub fn produce(rows: &[RowPlan], found: &Found) -> Result<(), TableError> {
    let mut commands: Vec<Vec<String>> = Vec::new();
    for (row, plan) in rows.iter().enumerate() {
        for (at, run) in plan.runs.iter().enumerate() {
            let is_due = match found.of(row, at) {
                State::Missing => true,
                State::Unfinished(status) => status != "running" && status != "unreadable",
                State::Finished | State::Other(_) => false,
            };
            let command = run.command.as_deref().map(to_continue).filter(|_| is_due);
            commands.extend(command.filter(|command| !commands.contains(command)));
        }
    }
    let program = std::env::current_exe();
    let mut failed = Vec::new();
    for command in commands {
        let name = shell(&command);
        tracing::info!("{name}");
        let start = |source| TableError::Start { command: name.clone(), source };
        let program = program.as_ref().map_err(|error| start(error.kind().into()))?;
        // Standard output is the table's.
        let status =
            Command::new(program).args(&command).stdout(Stdio::from(stderr())).status().map_err(start)?;
        if !status.success() {
            failed.push(format!("`{name}`"));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(TableError::Failed(failed)) }
}
