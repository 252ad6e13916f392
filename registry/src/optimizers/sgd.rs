//! SGD: stochastic gradient descent, with momentum.

use convmae_framework::component::{Optimizer, OptimizerModule, ParameterGroup, Problem};
use convmae_framework::nn::backend::sgd::{SgdStep, sgd};
use convmae_framework::nn::{self, Param};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LrScaling;
use super::groups::Grouping;
use super::slots::{Slots, Update};

/// Stochastic gradient descent, as `torch.optim.SGD`. Parameters with one axis and biases are not decayed
/// (timm's `add_weight_decay`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate, before scaling and schedule.
    #[schemars(range(min = 0.0), extend("x-called-elsewhere" = ["learning_rate", "base_lr", "blr"]))]
    pub lr: f64,
    /// How the learning rate follows the batch size.
    #[serde(default)]
    pub lr_scaling: LrScaling,
    /// Share of the previous direction that is kept.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Share of the gradient that does not enter the direction, from the second step on.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dampening: f64,
    /// Whether the gradient is added once more to the direction (Nesterov's momentum).
    #[serde(default)]
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

#[typetag::serde]
impl Optimizer for Sgd {
    fn base_lr(&self, images: usize) -> f64 {
        self.lr_scaling.scale(self.lr, images)
    }

    fn groups(&self, params: &[Param]) -> Result<Vec<ParameterGroup>, Problem> {
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Problem::new("nesterov", "Nesterov's momentum needs a momentum and no dampening")
                .help("set `momentum: 0.9` and leave out `dampening`, or leave out `nesterov`"));
        }
        Ok(Grouping::by_decay(self.weight_decay).sort(params)?.0)
    }

    fn build(&self, params: &[Param]) -> Result<Box<dyn OptimizerModule>, Problem> {
        self.groups(params)?;
        match self.momentum == 0.0 {
            true => self.with_buffers([], params),
            false => self.with_buffers(["momentum_buffer"], params),
        }
    }
}

convmae_framework::register!(Optimizer: Sgd);

impl Sgd {
    /// With one buffer per parameter for the momentum, or none.
    fn with_buffers<const N: usize>(
        &self,
        names: [&'static str; N],
        params: &[Param],
    ) -> Result<Box<dyn OptimizerModule>, Problem> {
        let slots = Slots::new(names, params, Grouping::by_decay(self.weight_decay))?;
        let spec = self.clone();
        Ok(slots.updated_by(move |updates, lr| {
            updates.into_iter().try_for_each(|update| spec.update(update, lr))
        }))
    }

    fn update<const N: usize>(&self, update: Update<'_, N>, lr: f64) -> nn::Result<()> {
        let Update { values, grad, buffers, group, step, .. } = update;
        let at = SgdStep {
            lr: (lr * group.lr_scale) as f32,
            momentum: self.momentum as f32,
            // The first direction is the whole gradient.
            enters: if step == 1 { 1.0 } else { (1.0 - self.dampening) as f32 },
            nesterov: self.nesterov,
            weight_decay: group.weight_decay as f32,
        };
        sgd(values, grad, buffers.into_iter().next(), at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::testing::{self, descend};

    const PLAIN: Sgd = Sgd {
        lr: 0.1,
        lr_scaling: LrScaling::None,
        momentum: 0.0,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    };

    #[test]
    fn a_restored_state_continues_bit_for_bit_on_any_number_of_threads() {
        testing::check(&PLAIN);
        testing::check(&Sgd { momentum: 0.9, dampening: 0.5, weight_decay: 0.1, ..PLAIN });
        testing::check(&Sgd { momentum: 0.9, nesterov: true, ..PLAIN });
    }

    /// The values of a matrix of one element, 1 at first, after steps of 0.1 with the gradients 2 and -1.
    fn two_steps(spec: &Sgd) -> f32 {
        descend(spec, &[1, 1], &[1.0], &[&[2.0], &[-1.0]])[0]
    }

    #[test]
    fn steps_are_those_of_torch() {
        let near = |spec: Sgd, expected: f64| {
            let value = f64::from(two_steps(&spec));
            assert!((value - expected).abs() < 1e-6, "{spec:?}: {value}, not {expected}");
        };
        near(PLAIN, 1.0 - 0.2 + 0.1);
        near(Sgd { weight_decay: 0.5, ..PLAIN }, 0.75 - 0.1 * (-1.0 + 0.5 * 0.75));
        // The second direction is 0.9 * 2 + (-1).
        near(Sgd { momentum: 0.9, ..PLAIN }, 0.8 - 0.1 * 0.8);
        near(Sgd { momentum: 0.9, dampening: 0.5, ..PLAIN }, 0.8 - 0.1 * (1.8 - 0.5));
        let first = 1.0 - 0.1 * (2.0 + 0.9 * 2.0);
        near(Sgd { momentum: 0.9, nesterov: true, ..PLAIN }, first - 0.1 * (-1.0 + 0.9 * 0.8));
    }

    #[test]
    fn biases_are_not_decayed() {
        let spec = Sgd { weight_decay: 0.5, ..PLAIN };
        assert_eq!(descend(&spec, &[1], &[1.0], &[&[0.0]]), [1.0]);
    }

    #[test]
    fn nesterov_needs_momentum_without_dampening() {
        let key = |spec: Sgd| spec.build(&testing::params()).err().unwrap().key;
        assert_eq!(key(Sgd { nesterov: true, ..PLAIN }), "nesterov");
        assert_eq!(key(Sgd { nesterov: true, momentum: 0.9, dampening: 0.1, ..PLAIN }), "nesterov");
    }
}
