//! What a training will be, before it begins.

use std::fmt;

use serde::Serialize;

use super::SplitReport;
use super::footprint::Footprint;
use super::shares::Shares;
use crate::columns::aligned;
use crate::component::ParameterGroup;
use crate::engine::EngineError;
use crate::engine::timing::{self, Timing};
use crate::engine::train::TrainingPlan;
use crate::graph::{Checked, Model, thousands};
use crate::nn::Scope;
use crate::recipe::Recipe;
use crate::report::clock;

/// What a training will be, as far as it is known.
#[derive(Debug, Serialize)]
pub struct Outlook {
    /// Images of an optimizer step.
    pub images_per_step: usize,
    /// The learning rate before the schedule, scaled by the images of a step.
    pub lr: f64,
    /// Optimizer steps of an epoch, once the data are open.
    pub steps_per_epoch: Option<u64>,
    /// Optimizer steps in all.
    pub steps: Option<u64>,
    /// The parameters that the optimizer treats alike.
    pub groups: Vec<ParameterGroup>,
    /// The memory of a step, if it was asked for.
    pub memory: Option<Memory>,
    /// What every process does, if it was asked for several.
    pub processes: Option<Shares>,
    /// How long a step takes, if `bench` has timed it on this machine.
    pub time: Option<Timing>,
}

/// The memory of a training step.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Memory {
    /// What it is.
    Known(Footprint),
    /// Why it is not known.
    Unknown(String),
}

impl Outlook {
    /// That of a checked recipe, and of its data if they are open. `with_memory`: the memory of a step is found out, of one of
    /// `processes` if there are to be several.
    ///
    /// # Errors
    /// The mistakes of a recipe that has some.
    pub fn of(
        recipe: &Recipe,
        checked: &Checked,
        data: Option<&[SplitReport]>,
        with_memory: bool,
        processes: Option<usize>,
    ) -> Result<Self, EngineError> {
        let Checked { experiment, plan, image, .. } = checked;
        let model =
            Model::build(plan, *image, &Scope::describe()).map_err(|problems| recipe.diagnose(problems))?;
        let (train, batch_size) = (&experiment.train, experiment.data.train.batch_size);
        let images_per_step = batch_size * train.accumulate;
        let groups = experiment
            .optimizer
            .groups(&model.params())
            .map_err(|problem| recipe.diagnose(vec![problem.within("optimizer")]))?;
        let samples = data.and_then(|data| data.first()).map(|train| train.samples);
        let steps = samples.and_then(|samples| TrainingPlan::of(train, samples, batch_size));
        let trained = groups.iter().map(|group| group.parameters as usize).sum();
        let shares = |processes| Shares::of(recipe, train, batch_size, trained, processes);
        Ok(Self {
            images_per_step,
            lr: experiment.optimizer.base_lr(images_per_step),
            steps_per_epoch: steps.as_ref().map(|plan| plan.steps_per_epoch),
            steps: steps.map(|plan| plan.steps).or_else(|| train.iterations()),
            groups,
            memory: with_memory.then(|| {
                Footprint::of(recipe, processes.unwrap_or(1)).map_or_else(Memory::Unknown, Memory::Known)
            }),
            processes: processes.map(shares).transpose()?,
            time: timing::recall(recipe),
        })
    }

    /// Seconds of all steps: of the slower of training and loading.
    fn seconds(&self) -> Option<f64> {
        Some(self.time.as_ref()?.seconds_per_image() * self.images_per_step as f64 * self.steps? as f64)
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "steps   of {} images, learning rate {:.4e}", thousands(self.images_per_step), self.lr)?;
        match (self.steps_per_epoch, self.steps) {
            (Some(epoch), Some(steps)) => {
                write!(f, "; {} an epoch, {} in all", thousands(epoch as usize), thousands(steps as usize))?;
            }
            (None, Some(steps)) => write!(f, "; {} in all", thousands(steps as usize))?,
            (_, None) => {}
        }
        match &self.memory {
            Some(Memory::Known(footprint)) => write!(f, "\nmemory  {footprint}")?,
            Some(Memory::Unknown(reason)) => write!(f, "\nmemory  not known: {reason}")?,
            None => {}
        }
        if let Some(shares) = &self.processes {
            write!(f, "\nprocesses {shares}")?;
        }
        if let Some(time) = &self.time {
            write!(f, "\ntime    {:.3} s for {} images", time.seconds_per_step, time.batch_size)?;
            if let Some(seconds) = self.seconds() {
                write!(f, ", {} in all", clock(seconds as u64))?;
            }
        }
        if self.groups.iter().any(|group| group.lr_scale != 1.0) {
            writeln!(f)?;
            let header = ["group", "tensors", "parameters", "times", "learning rate", "weight decay"];
            let mut table = vec![header.map(str::to_owned)];
            table.extend(self.groups.iter().map(|group| {
                [
                    group.name.clone(),
                    group.tensors.to_string(),
                    thousands(group.parameters as usize),
                    format!("{:.4}", group.lr_scale),
                    format!("{:.3e}", self.lr * group.lr_scale),
                    group.weight_decay.to_string(),
                ]
            }));
            aligned(&table, |column| column > 0).iter().try_for_each(|line| write!(f, "\n{line}"))?;
        }
        Ok(())
    }
}
