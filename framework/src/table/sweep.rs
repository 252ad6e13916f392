//! The runs of a sweep that a row shows.

use std::path::Path;

use serde_json::Value;

use super::plan::{Planner, RowPlan, Wanted, tidy};
use super::spec::RowSpec;
use crate::recipe::{Diagnostics, Problem, list, nearest};
use crate::sweep::{Plan, PlannedRun};

impl Planner<'_> {
    /// The runs that meet the conditions of a row, in its stage, and those of other stages that they start from or that start from them.
    ///
    /// # Errors
    /// When the sweep has no such stage, key or value.
    pub(super) fn of_sweep(&self, place: &str, row: &RowSpec, file: &Path) -> Result<RowPlan, Diagnostics> {
        let Some((sweep, plan)) = self.sweeps.get(file) else { return Ok(RowPlan::default()) };
        let stages = sweep.stages();
        let stage = match &row.stage {
            Some(stage) => stage.as_str(),
            None => stages.last().copied().unwrap_or_default(),
        };
        if row.stage.is_some() && !stages.contains(&stage) {
            let problem = Problem::new(format!("{place}.stage"), format!("the sweep has no stage `{stage}`"));
            let help = match (nearest(stage, stages.iter().copied()), stages.is_empty()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, true) => "it has one recipe: remove `stage`".to_owned(),
                (None, false) => format!("its stages are {}", list(&stages)),
            };
            return Err(self.document.diagnose(vec![problem.help(help)]));
        }
        let of_stage: Vec<usize> = (0..plan.runs.len()).filter(|&at| plan.runs[at].stage == stage).collect();
        let problems =
            problems_of_conditions(row, &of_stage.iter().map(|&at| &plan.runs[at]).collect::<Vec<_>>());
        if !problems.is_empty() {
            let within = problems.into_iter().map(|problem| problem.within(&format!("{place}.where")));
            return Err(self.document.diagnose(within.collect()));
        }
        let selected: Vec<usize> = of_stage.into_iter().filter(|&at| meets(&plan.runs[at], row)).collect();
        if selected.is_empty() {
            let problem =
                Problem::new(format!("{place}.where"), "no run of the sweep has all of these values");
            return Err(self.document.diagnose(vec![problem]));
        }
        let mut command = vec!["sweep".to_owned(), file.to_string_lossy().into_owned()];
        if let Some(folder) = self.sweep_folder(sweep) {
            command.extend(["--out".to_owned(), folder.to_string_lossy().into_owned()]);
        }
        let related =
            (0..plan.runs.len()).filter(|&run| selected.iter().any(|&other| is_related(plan, run, other)));
        let runs = related.map(|at| {
            let run = &plan.runs[at];
            Ok(Wanted {
                stage: run.stage.clone(),
                directory: tidy(&run.directory),
                is_pattern: false,
                known: Some(self.known(&run.sources)?),
                command: Some(command.clone()),
            })
        });
        Ok(RowPlan { runs: runs.collect::<Result<_, Diagnostics>>()?, last_stage: stage.to_owned() })
    }
}

/// Whether two runs are the same, or one starts from the other, if not at once. Runs of one stage never do.
fn is_related(plan: &Plan, one: usize, other: usize) -> bool {
    let lineage = |run: usize| std::iter::successors(Some(run), |&at| plan.runs[at].upstream);
    lineage(one).any(|run| run == other) || lineage(other).any(|run| run == one)
}

fn meets(run: &PlannedRun, row: &RowSpec) -> bool {
    row.conditions
        .iter()
        .all(|(key, value)| run.axes.iter().any(|(axis, found)| axis == key && is_same(found, value)))
}

/// Whether two values are the same, as numbers if they are.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Keys that no run of the stage varies, and values that none has.
fn problems_of_conditions(row: &RowSpec, runs: &[&PlannedRun]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, value) in &row.conditions {
        let axes = || runs.iter().flat_map(|run| &run.axes);
        let mut values: Vec<String> = Vec::new();
        for (_, found) in axes().filter(|(axis, _)| axis == key) {
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            if !values.contains(&found) {
                values.push(found);
            }
        }
        if values.is_empty() {
            let mut names: Vec<&str> = axes().map(|(axis, _)| axis.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let near = nearest(key, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let problem = Problem::new(key, "the runs of this stage do not differ in this key");
            problems.push(problem.help(near.unwrap_or_else(|| format!("they differ in {}", list(&names)))));
        } else if !axes().any(|(axis, found)| axis == key && is_same(found, value)) {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let near = nearest(&shown, values.iter().map(String::as_str));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its values are {}", list(&values)),
            };
            problems
                .push(Problem::new(key, format!("no run of the sweep has the value `{shown}`")).help(help));
        }
    }
    problems
}
