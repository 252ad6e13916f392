//! Whether the runs of a cell have the same recipe, so that their mean means something.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::code::code;
use super::plan::{RequiredRun, RowPlan};
use crate::experiment::{changes_of_results, is_seed};
use crate::recipe::{clean, lock};
use crate::report::RunDir;

/// Runs that start from runs are followed so far.
const DEPTH: usize = 8;

/// The recipes of runs that no row names one for, and of those that runs start from, as their directories
/// have them.
#[derive(Debug, Default)]
pub struct Recipes(HashMap<PathBuf, Option<Value>>);

impl Recipes {
    /// Reads the recipes of the runs of all rows, as far as they are not known.
    pub fn read(rows: &[RowPlan]) -> Self {
        let mut recipes = Self::default();
        for run in rows.iter().flat_map(|plan| &plan.runs) {
            match &run.known {
                Some(known) => recipes.read_upstream(known.recipe.value(), DEPTH),
                None => recipes.read_run(&run.directory, DEPTH),
            }
        }
        recipes
    }

    fn read_run(&mut self, directory: &Path, depth: usize) {
        let directory = clean(directory);
        if self.0.contains_key(&directory) {
            return;
        }
        let text = RunDir::inspect(&directory).and_then(|dir| dir.read_recipe());
        let recipe = text.ok().and_then(|text| lock::parse(&text).ok());
        self.0.insert(directory, recipe.clone());
        if let Some(recipe) = recipe {
            self.read_upstream(&recipe, depth);
        }
    }

    fn read_upstream(&mut self, recipe: &Value, depth: usize) {
        if let Some(upstream) = upstream(recipe).filter(|_| depth > 0) {
            self.read_run(upstream, depth - 1);
        }
    }

    /// The recipe of a run, if it is known or its directory holds one.
    fn of<'r>(&'r self, run: &'r RequiredRun) -> Option<&'r Value> {
        match &run.known {
            Some(known) => Some(known.recipe.value()),
            None => self.0.get(&clean(&run.directory))?.as_ref(),
        }
    }

    /// The first key, in code, in which some of these runs of a row differ from the first one; neither seeds
    /// nor keys that change no result count.
    pub fn difference<'r>(
        &'r self,
        plan: &'r RowPlan,
        runs: impl Iterator<Item = &'r RequiredRun>,
    ) -> Option<String> {
        let mut recipes = runs.filter_map(|run| self.of(run));
        let first = recipes.next()?;
        recipes.find_map(|other| self.between(plan, first, other, DEPTH))
    }

    fn between(&self, plan: &RowPlan, one: &Value, other: &Value, depth: usize) -> Option<String> {
        let changes = changes_of_results(one, other).into_iter().filter(|change| !is_seed(&change.key));
        for change in changes {
            let starts = || Some((self.upstream(plan, one)?, self.upstream(plan, other)?));
            match starts().filter(|_| change.key == "init_from.run" && depth > 0) {
                // Runs that start from other seeds of one recipe have one recipe.
                Some((one, other)) => {
                    if let Some(key) = self.between(plan, one, other, depth - 1) {
                        return Some(format!("{key} in the runs that they start from"));
                    }
                }
                None => return Some(code(&change.to_string())),
            }
        }
        None
    }

    /// The recipe of the run that a run of this recipe starts from.
    fn upstream<'r>(&'r self, plan: &'r RowPlan, recipe: &Value) -> Option<&'r Value> {
        let directory = clean(upstream(recipe)?);
        match plan.runs.iter().find(|run| run.directory == directory) {
            Some(run) => self.of(run),
            None => self.0.get(&directory)?.as_ref(),
        }
    }
}

/// The run that a run of this recipe starts from.
fn upstream(recipe: &Value) -> Option<&Path> {
    recipe.pointer("/init_from/run")?.as_str().map(Path::new)
}
