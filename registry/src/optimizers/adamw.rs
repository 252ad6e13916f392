//! AdamW: Adam with decoupled weight decay.

use convmae_framework::component::{Optimizer, OptimizerModule, ParameterGroup, Problem};
use convmae_framework::nn::Param;
use convmae_framework::nn::backend::adamw::{AdamwStep, AdamwTensor, adamw};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LrScaling;
use super::groups::{Decayed, Grouping, Override};
use super::slots::{Slots, Update};

/// AdamW with decoupled weight decay (Loshchilov and Hutter), as `torch.optim.AdamW`. By default parameters
/// with one axis and biases are not decayed (timm's `add_weight_decay`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate, before scaling and schedule.
    #[schemars(range(min = 0.0), extend("x-called-elsewhere" = ["learning_rate", "base_lr", "blr"]))]
    pub lr: f64,
    /// How the learning rate follows the batch size.
    #[serde(default)]
    pub lr_scaling: LrScaling,
    /// Decay rates of the first and second moment.
    #[serde(default = "default_betas")]
    #[schemars(inner(range(min = 0.0, max = 0.999_999)))]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[serde(default = "default_eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Decoupled weight decay.
    #[serde(default = "default_weight_decay")]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Which parameters are decayed.
    #[serde(default)]
    pub decayed: Decayed,
    /// Names of parameters that are not decayed, nevertheless: `[pos_embed]`; `*` stands for any characters, dots
    /// too.
    #[serde(default)]
    pub no_weight_decay: Vec<String>,
    /// Learning rate of a layer of the backbone, as a multiple of that of the layer behind it; the head has
    /// the full one. Without it all have (`util/lr_decay.py` of the official code).
    #[serde(default)]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub layer_decay: Option<f64>,
    /// What differs for some parameters; the last one that says something holds.
    #[serde(default)]
    #[schemars(extend("examples" = [[{ "names": ["pos_embed"], "lr_scale": 1.0, "weight_decay": 0.0 }]]))]
    pub overrides: Vec<Override>,
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.01
}

#[typetag::serde]
impl Optimizer for AdamW {
    fn base_lr(&self, images: usize) -> f64 {
        self.lr_scaling.scale(self.lr, images)
    }

    fn groups(&self, params: &[Param]) -> Result<Vec<ParameterGroup>, Problem> {
        Ok(self.grouping().sort(params)?.0)
    }

    fn build(&self, params: &[Param]) -> Result<Box<dyn OptimizerModule>, Problem> {
        let slots = Slots::new(["exp_avg", "exp_avg_sq"], params, self.grouping())?;
        let Self { betas, eps, .. } = *self;
        Ok(slots.updated_by(move |updates, lr| {
            let tensors = updates.into_iter().map(|update| {
                let Update { values, grad, buffers: [exp_avg, exp_avg_sq], group, step, .. } = update;
                let lr = lr * group.lr_scale;
                let at = AdamwStep { lr, betas, eps, weight_decay: group.weight_decay, step };
                AdamwTensor { values, grad, exp_avg, exp_avg_sq, at }
            });
            adamw(tensors.collect())
        }))
    }
}

convmae_framework::register!(Optimizer: AdamW);

impl AdamW {
    fn grouping(&self) -> Grouping<'_> {
        Grouping {
            weight_decay: self.weight_decay,
            decayed: self.decayed,
            no_weight_decay: &self.no_weight_decay,
            layer_decay: self.layer_decay,
            overrides: &self.overrides,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::testing;
    use convmae_framework::nn::backend::upload;
    use convmae_framework::nn::{self, Init, Scope};
    use convmae_framework::weights::TensorMap;

    fn adamw() -> AdamW {
        AdamW {
            lr: 0.1,
            lr_scaling: LrScaling::None,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.5,
            decayed: Decayed::default(),
            no_weight_decay: Vec::new(),
            layer_decay: None,
            overrides: Vec::new(),
        }
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit_on_any_number_of_threads() {
        testing::check(&adamw());
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let scope = Scope::new(0);
        scope.param("fc.weight", &[2, 2], &Init::ONES);
        let mut module = adamw().build(&scope.params()).unwrap();
        let other = adamw().build(&testing::params()).unwrap().state().unwrap();
        assert!(matches!(module.load_state(&other), Err(nn::Error::Shape(_))));
        assert!(matches!(module.load_state(&TensorMap::new()), Err(nn::Error::Value(_))));
    }

    #[test]
    fn an_early_layer_takes_smaller_steps() {
        let scope = Scope::new(0);
        let early = scope.at_layer(0).param("early", &[1], &Init::ZEROS);
        let late = scope.param("late", &[1], &Init::ZEROS);
        let spec = AdamW { layer_decay: Some(0.25), weight_decay: 0.0, ..adamw() };
        let mut module = spec.build(&scope.params()).unwrap();
        for param in [&early, &late] {
            param.add_grad(&upload(vec![1.0]).unwrap()).unwrap();
        }
        module.step(0.1).unwrap();
        assert!(
            (early.to_vec().unwrap()[0] + 0.025).abs() < 1e-7
                && (late.to_vec().unwrap()[0] + 0.1).abs() < 1e-7
        );
    }

    #[test]
    fn linear_256_is_the_official_blr_rule() {
        let spec = AdamW { lr: 1.5e-4, lr_scaling: LrScaling::Linear256, ..adamw() };
        assert!((spec.base_lr(3072) - 1.8e-3).abs() < 1e-12);
    }
}
