//! What is doubtful about a recipe that can be run: its author is told, and it runs.

use super::check::Checked;
use super::plan::Plan;
use crate::component::{Problem, Schedule, Task, Training};
use crate::experiment::NodeKind;
use crate::recipe::Recipe;

/// What is doubtful about a checked recipe, before its data is opened.
pub fn warnings(checked: &Checked) -> Vec<Problem> {
    let experiment = &checked.experiment;
    let images = experiment.data.train.batch_size * experiment.train.accumulate;
    let training = Training {
        base_lr: experiment.optimizer.base_lr(images),
        length: experiment.train.length,
        steps_per_epoch: None,
    };
    let mut warnings = warnings_of_heads(&checked.plan);
    warnings.extend(warnings_of_schedule(experiment.schedule.as_ref(), &training));
    warnings
}

/// Heads that have nothing to learn.
pub fn warnings_of_heads(plan: &Plan) -> Vec<Problem> {
    let of_node = |name: &str, task: Task| {
        let (Task::Classify { classes: 1 } | Task::Segment { classes: 1 }) = task else { return None };
        let message = "with one class the loss is 0 whatever the model predicts, and nothing is trained: there is to be \
                       another one, such as what is none of it";
        Some(Problem::new(format!("model.{name}.num_classes"), message))
    };
    let heads = plan.nodes.iter().filter_map(|planned| match &planned.node.kind {
        NodeKind::Head(head, _) => Some((planned.node.name.as_str(), head.task())),
        _ => None,
    });
    heads.filter_map(|(name, task)| of_node(name, task)).collect()
}

/// A schedule that does not fit its training.
pub fn warnings_of_schedule(schedule: &dyn Schedule, training: &Training) -> Vec<Problem> {
    schedule.warnings(training).into_iter().map(|problem| problem.within("schedule")).collect()
}

/// Logs warnings, each with its line in the recipe.
pub fn warn(recipe: &Recipe, warnings: Vec<Problem>) {
    for line in recipe.diagnose(warnings).lines() {
        tracing::warn!("{line}");
    }
}
