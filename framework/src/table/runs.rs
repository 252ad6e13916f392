//! The states and results of the runs that a table requires, from their directories.

use std::path::{Path, PathBuf};

use polars::prelude::*;
use serde_json::Value;

use super::code::code;
use super::error::TableError;
use super::plan::{Known, RequiredRun, RowPlan};
use super::recipes::Recipes;
use crate::engine::{changes_since, source_has_changed, source_of};
use crate::experiment::is_seed;
use crate::report::RunDir;
use crate::runs::{self, RunsError};

/// How the run of a row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is no run directory.
    Missing,
    /// It is finished, and of the row's recipe.
    Finished,
    /// It is not finished: `running`, `interrupted`, `failed`, `unreadable`.
    Unfinished(String),
    /// It is of another recipe, and in which keys.
    Other(String),
}

/// The runs of a table, joined with what their directories hold.
pub struct Found {
    /// A row per run that is needed: `row` and `at` say of which row of the table and which of its runs, the
    /// others are the columns of `convmae runs`, null where there is no run.
    pub frame: DataFrame,
    /// By row of the table and run.
    states: Vec<Vec<State>>,
    /// Where the runs of each row begin in the frame.
    starts: Vec<usize>,
    /// The recipes of runs that their directories alone tell.
    pub recipes: Recipes,
}

impl Found {
    /// Looks at the directories of all runs.
    pub fn look(rows: &[RowPlan]) -> Result<Self, TableError> {
        let all =
            || rows.iter().enumerate().flat_map(|(row, plan)| plan.runs.iter().map(move |run| (row, run)));
        let mut directories: Vec<PathBuf> = all().map(|(_, run)| run.directory.clone()).collect();
        directories.sort_unstable();
        directories.dedup();
        let held = runs::read(&directories)?;
        let names: Vec<String> = all().map(|(_, run)| run.directory.to_string_lossy().into_owned()).collect();
        let needed = DataFrame::new(
            names.len(),
            vec![
                Column::new("row".into(), all().map(|(row, _)| row as u64).collect::<Vec<_>>()),
                Column::new("run".into(), names),
            ],
        )
        .map_err(RunsError::from)?;
        let frame = if held.frame.height() == 0 {
            needed
        } else {
            let mut left = JoinArgs::new(JoinType::Left);
            left.maintain_order = MaintainOrderJoin::Left;
            needed.join(&held.frame, ["run"], ["run"], left, None).map_err(RunsError::from)?
        };
        let recipes = Recipes::read(rows);
        let mut found = Self { frame, states: Vec::new(), starts: Vec::new(), recipes };
        let mut start = 0;
        for plan in rows {
            found.starts.push(start);
            let states = plan.runs.iter().enumerate().map(|(at, run)| found.state(start + at, run));
            let states = states.collect();
            found.states.push(states);
            start += plan.runs.len();
        }
        Ok(found)
    }

    /// How the run of a row stands.
    pub fn of(&self, row: usize, at: usize) -> &State {
        &self.states[row][at]
    }

    /// A value of a run, null if there is none.
    pub fn value(&self, row: usize, at: usize, column: &str) -> Value {
        self.cell(self.starts[row] + at, column)
    }

    fn cell(&self, index: usize, column: &str) -> Value {
        match self.frame.column(column).and_then(|column| column.get(index).map(|cell| runs::value(&cell))) {
            Ok(value) => value,
            Err(_) => Value::Null,
        }
    }

    fn state(&self, index: usize, run: &RequiredRun) -> State {
        match self.cell(index, "status").as_str() {
            None => State::Missing,
            Some("finished") => match &run.known {
                Some(known) => Self::of_recipe(run, known),
                None => State::Finished,
            },
            Some(status) => State::Unfinished(status.to_owned()),
        }
    }

    /// Whether a finished run is of the recipe that the row names.
    fn of_recipe(run: &RequiredRun, known: &Known) -> State {
        let Ok(dir) = RunDir::inspect(&run.directory) else { return State::Missing };
        let recipe = known.recipe.value();
        let source = recipe.pointer("/init_from/run").and_then(Value::as_str);
        if source.is_some_and(|source| source_has_changed(&run.directory, Path::new(source))) {
            return State::Other("`init_from.run` was run again since, with another recipe".to_owned());
        }
        let Ok(changes) = changes_since(&dir, recipe, &known.digest, source_of(recipe).as_deref()) else {
            return State::Other("this program cannot read it".to_owned());
        };
        let changes: Vec<String> = changes
            .into_iter()
            .filter(|change| !(known.any_seed && is_seed(&change.key)))
            .map(|change| code(&change.to_string()))
            .collect();
        match changes.as_slice() {
            [] => State::Finished,
            [change] => State::Other(change.clone()),
            [first, others @ ..] => State::Other(format!("{first} and {} more", others.len())),
        }
    }
}
