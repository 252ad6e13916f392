//! The runs of a sweep that a row shows.

use std::path::Path;

use serde_json::Value;

use super::plan::{Planner, RowPlan, Wanted, tidy};
use super::spec::RowSpec;
use crate::condition::Condition;
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
        let within = format!("{place}.where");
        let refuse = |problems: Vec<Problem>| {
            let problems = problems.into_iter().map(|problem| problem.within(&within));
            Err(self.document.diagnose(problems.collect()))
        };
        let condition = match Condition::from_map(&row.conditions) {
            Ok(condition) => condition,
            Err(problems) => return refuse(problems),
        };
        let known: Vec<_> = of_stage.iter().flat_map(|&at| settings(&plan.runs[at])).collect();
        let (keys, values) = condition.problems(&known);
        let problems = [keys, values].concat();
        if !problems.is_empty() {
            return refuse(problems);
        }
        let selected: Vec<usize> =
            of_stage.into_iter().filter(|&at| condition.is_met(&settings(&plan.runs[at]))).collect();
        if selected.is_empty() {
            return refuse(vec![Problem::new("", "no run of the sweep has all of these values")]);
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

/// What varies, and the values that a run has of it.
fn settings(run: &PlannedRun) -> impl Iterator<Item = (&str, &Value)> + Clone {
    run.axes.iter().map(|(key, value)| (key.as_str(), value))
}

/// Whether two runs are the same, or one starts from the other, if not at once. Runs of one stage never do.
fn is_related(plan: &Plan, one: usize, other: usize) -> bool {
    let lineage = |run: usize| std::iter::successors(Some(run), |&at| plan.runs[at].upstream);
    lineage(one).any(|run| run == other) || lineage(other).any(|run| run == one)
}
