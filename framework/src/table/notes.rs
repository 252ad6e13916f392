//! The notes below a table.

use super::code::code;
use super::plan::{RequiredRun, RowPlan};
use super::runs::{Found, State};
use super::spec::RowSpec;
use crate::shell;
use crate::terminal::visible;

/// The notes of a table, each said once.
#[derive(Debug, Default)]
pub struct Notes(Vec<String>);

impl Notes {
    /// The number of a note, which is a line.
    pub fn number(&mut self, text: &str) -> usize {
        let text = visible(text.trim());
        self.0.iter().position(|note| *note == text).unwrap_or_else(|| {
            self.0.push(text);
            self.0.len() - 1
        })
    }

    /// All of them, in the order of their numbers.
    pub fn into_texts(self) -> Vec<String> {
        self.0
    }
}

/// What is to be said of a whole row.
pub fn of_row(row: &RowSpec, plan: &RowPlan) -> Vec<String> {
    let quoted = row.quoted.as_ref().map(|quoted| match plan.runs.is_empty() {
        true => format!("Quoted from {}, not run here.", quoted.source),
        false => format!("“paper”: {}.", quoted.source),
    });
    let unavailable = row.unavailable.as_ref().map(|reason| format!("Not available yet: {reason}."));
    quoted.into_iter().chain(unavailable).chain(row.note.clone()).collect()
}

/// Why runs are not among those that a figure is the mean of.
pub fn of_runs<'p>(
    runs: impl Iterator<Item = (usize, &'p RequiredRun)> + Clone,
    row: usize,
    found: &Found,
) -> Vec<String> {
    let mut notes = Vec::new();
    let patterns = runs.clone().filter(|(_, run)| run.is_pattern);
    notes.extend(patterns.map(|(_, run)| format!("Nothing matches {}.", named(run))));
    let runs = runs.filter(|(_, run)| !run.is_pattern);
    let total = runs.clone().count();
    let missing: Vec<&RequiredRun> =
        runs.clone().filter(|(at, _)| *found.of(row, *at) == State::Missing).map(|(_, run)| run).collect();
    let mut commands: Vec<Option<String>> =
        missing.iter().map(|run| run.command.as_deref().map(to_shell)).collect();
    commands.dedup();
    for command in commands {
        let of_command = missing.iter().filter(|run| run.command.as_deref().map(to_shell) == command);
        let directory = of_command.clone().next().map(|run| named(run));
        let what = match (of_command.count(), total) {
            (1, 1) => format!("There is no run in {}", directory.unwrap_or_default()),
            (count, _) => format!("{count} of {total} runs are missing"),
        };
        notes.push(match command {
            Some(command) => format!("{what} yet: {}.", code(&command)),
            None => format!("{what}."),
        });
    }
    for (at, run) in runs {
        let directory = named(run);
        match found.of(row, at) {
            State::Missing | State::Finished => {}
            State::Unfinished(status) if status == "running" => {
                notes.push(format!("{directory} is running."));
            }
            State::Unfinished(status) => {
                let command = run
                    .command
                    .as_deref()
                    .map(|command| format!(": {}", code(&to_shell(&to_continue(command)))));
                notes.push(format!("{directory} is {status}{}.", command.unwrap_or_default()));
            }
            State::Other(changes) => {
                notes.push(format!("{directory} is of another recipe and not shown: {changes}."));
            }
        }
    }
    notes
}

/// The directory of a run, in code.
fn named(run: &RequiredRun) -> String {
    code(&run.directory.display().to_string())
}

/// The arguments that go on with what there is of a run, or of the runs of a sweep.
pub fn to_continue(command: &[String]) -> Vec<String> {
    let option = match command.first().map(String::as_str) {
        Some("run") => Some("--resume".to_owned()),
        Some("sweep") => Some("--retry-failed".to_owned()),
        _ => None,
    };
    command.iter().cloned().chain(option).collect()
}

/// A command of this program as one writes it in a shell.
pub fn to_shell(arguments: &[String]) -> String {
    shell::command(&[], std::iter::once("convmae").chain(arguments.iter().map(String::as_str)))
}
