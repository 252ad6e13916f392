//! The learning rate over a training, as a picture.

use std::path::Path;

use super::EngineError;
use super::setup::plan_of_training;
use crate::graph::Checked;
use crate::recipe::Recipe;
use crate::report::Curve;
use crate::weights::atomic;

/// Points of the curve.
const POINTS: u64 = 1000;

/// Draws the learning rate of a training, whose dataset is opened for its length, into an SVG file.
///
/// # Errors
/// If the dataset cannot be opened, an epoch has no step, or the file cannot be written.
pub fn plot_schedule(recipe: &Recipe, checked: &Checked, path: &Path) -> Result<(), EngineError> {
    let experiment = &checked.experiment;
    let plan = plan_of_training(recipe, experiment)?;
    let base = experiment.optimizer.base_lr(plan.images_per_step);
    let steps = (0..plan.steps).step_by(plan.steps.div_ceil(POINTS).max(1) as usize).chain([plan.steps - 1]);
    let points = steps.map(|step| {
        let progress = plan.progress(step);
        (progress.epoch, experiment.schedule.lr(base, progress))
    });
    let curve = Curve {
        title: format!("{}: learning rate of {} steps", experiment.name, plan.steps),
        axes: ["epochs", "learning rate"],
        points: points.collect(),
    };
    let svg = curve.svg().ok_or_else(|| EngineError::Usage("the learning rate is not finite".to_owned()))?;
    Ok(atomic::write_bytes(path, svg)?)
}
