//! Optimizers: gradients to new parameters.

use serde::{Deserialize, Serialize};

use super::Problem;
use super::registry::slot_schema;
use crate::nn::{self, Param};
use crate::weights::TensorMap;

/// An optimizer, as the recipe states it.
#[typetag::serde(tag = "type")]
pub trait Optimizer: std::fmt::Debug + Send + Sync {
    /// The learning rate before the schedule, for `images` per optimizer step (batch x accumulation x
    /// processes).
    fn base_lr(&self, images: usize) -> f64;

    /// Sorts the trainable parameters, whose values are not looked at, into groups. Parameters know the layer that
    /// they belong to ([`Param::layer`]).
    ///
    /// # Errors
    /// What is wrong with it for these parameters.
    fn groups(&self, params: &[Param]) -> Result<Vec<ParameterGroup>, Problem>;

    /// Sorts the trainable parameters into groups and makes the state.
    fn build(&self, params: &[Param]) -> Result<Box<dyn OptimizerModule>, Problem>;
}

slot_schema!(Optimizer);

/// An optimizer with its state.
pub trait OptimizerModule {
    /// One step from the parameters' gradients, at learning rate `lr`. A parameter without gradient stays as
    /// it is.
    fn step(&mut self, lr: f64) -> nn::Result<()>;

    /// The state, by name (`exp_avg.<parameter>`), for checkpoints.
    ///
    /// # Errors
    /// If the device fails.
    fn state(&self) -> nn::Result<TensorMap>;

    /// Restores the state.
    fn load_state(&mut self, state: &TensorMap) -> nn::Result<()>;

    /// The groups, for the report.
    fn groups(&self) -> Vec<ParameterGroup>;
}

/// Parameters that the optimizer treats alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParameterGroup {
    /// What it is called: `layer_3_no_decay`.
    pub name: String,
    /// Number of parameter tensors.
    pub tensors: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// Factor on the learning rate; 0 where the parameters are frozen.
    pub lr_scale: f64,
    /// Weight decay.
    pub weight_decay: f64,
}
