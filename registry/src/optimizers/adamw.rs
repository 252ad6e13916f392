//! AdamW: Adam with decoupled weight decay.

use convmae_framework::component::{Optimizer, OptimizerModule, ParameterGroup, Problem};
use convmae_framework::nn::kernels::adamw::{AdamwStep, AdamwTensor, adamw};
use convmae_framework::nn::{self, Error, Param};
use convmae_framework::weights::{HostTensor, TensorMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LrScaling;

/// AdamW with decoupled weight decay (Loshchilov and Hutter), as `torch.optim.AdamW`. Parameters with one axis and biases are
/// not decayed (timm's `add_weight_decay`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate, before scaling and schedule.
    #[schemars(range(min = 0.0))]
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

    fn build(&self, params: &[Param]) -> Result<Box<dyn OptimizerModule>, Problem> {
        let moments = params
            .iter()
            .filter(|param| param.requires_grad())
            .map(|param| Moments {
                param: param.clone(),
                weight_decay: if is_decayed(param) { self.weight_decay } else { 0.0 },
                exp_avg: vec![0.0; param.numel()],
                exp_avg_sq: vec![0.0; param.numel()],
                step: 0,
            })
            .collect();
        Ok(Box::new(AdamWModule { spec: self.clone(), moments }))
    }
}

convmae_framework::register!(Optimizer: AdamW);

/// timm 0.3.2 `add_weight_decay`: no decay if and only if the parameter has one axis or is a bias.
fn is_decayed(param: &Param) -> bool {
    param.shape().len() > 1 && param.name().rsplit('.').next() != Some("bias")
}

struct Moments {
    param: Param,
    weight_decay: f64,
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
    step: u64,
}

struct AdamWModule {
    spec: AdamW,
    moments: Vec<Moments>,
}

impl OptimizerModule for AdamWModule {
    fn step(&mut self, lr: f64) -> nn::Result<()> {
        let AdamW { betas, eps, .. } = self.spec;
        let params: Vec<_> = self.moments.iter().map(|moments| moments.param.clone()).collect();
        let mut borrowed: Vec<_> = params.iter().map(|param| (param.values_mut(), param.grad())).collect();
        let mut tensors = Vec::with_capacity(params.len());
        for (moments, (values, grad)) in self.moments.iter_mut().zip(&mut borrowed) {
            let Some(grad) = grad else { continue };
            moments.step += 1;
            let at = AdamwStep { lr, betas, eps, weight_decay: moments.weight_decay, step: moments.step };
            let Moments { exp_avg, exp_avg_sq, .. } = moments;
            tensors.push(AdamwTensor { values, grad, exp_avg, exp_avg_sq, at });
        }
        adamw(tensors);
        Ok(())
    }

    fn state(&self) -> TensorMap {
        let mut state = TensorMap::new();
        for moments in &self.moments {
            let name = moments.param.name();
            for (key, values) in [("exp_avg", &moments.exp_avg), ("exp_avg_sq", &moments.exp_avg_sq)] {
                // The lengths agree: both were made from the parameter's shape.
                if let Ok(tensor) = HostTensor::from_f32(moments.param.shape().to_vec(), values) {
                    state.insert(format!("{key}.{name}"), tensor);
                }
            }
            state.insert(format!("step.{name}"), HostTensor::scalar_i64(moments.step as i64));
        }
        state
    }

    fn load_state(&mut self, state: &TensorMap) -> nn::Result<()> {
        for moments in &mut self.moments {
            let name = moments.param.name();
            let find = |key: &str| {
                let key = format!("{key}.{name}");
                let tensor = state.get(&key).map(HostTensor::to_f32);
                tensor.ok_or_else(|| Error::Value(format!("the optimizer state has no `{key}`")))
            };
            let step = match state.get(&format!("step.{name}")).and_then(HostTensor::as_i64) {
                Some(step) => step as u64,
                None => return Err(Error::Value(format!("the optimizer state has no `step.{name}`"))),
            };
            let (exp_avg, exp_avg_sq) = (find("exp_avg")?, find("exp_avg_sq")?);
            if exp_avg.len() != moments.param.numel() || exp_avg_sq.len() != moments.param.numel() {
                return Err(Error::Shape(format!("the optimizer state of `{name}` has another shape")));
            }
            *moments = Moments {
                param: moments.param.clone(),
                weight_decay: moments.weight_decay,
                exp_avg,
                exp_avg_sq,
                step,
            };
        }
        Ok(())
    }

    fn groups(&self) -> Vec<ParameterGroup> {
        [("no_decay", false), ("decay", true)]
            .map(|(name, decayed)| {
                let members = self.moments.iter().filter(|moments| is_decayed(&moments.param) == decayed);
                ParameterGroup {
                    name: name.to_owned(),
                    tensors: members.clone().count(),
                    parameters: members.map(|moments| moments.param.numel() as u64).sum(),
                    lr_scale: 1.0,
                    weight_decay: if decayed { self.spec.weight_decay } else { 0.0 },
                }
            })
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convmae_framework::nn::{Init, Scope};

    fn params() -> Vec<Param> {
        let scope = Scope::new(0);
        scope.param("fc.weight", &[2, 2], &Init::ONES);
        scope.param("fc.bias", &[2], &Init::ONES);
        scope.param("mask_token", &[1, 1, 2], &Init::ONES);
        scope.frozen("pos_embed", &[1, 2, 2], &Init::ONES);
        scope.params()
    }

    fn adamw() -> AdamW {
        AdamW { lr: 0.1, lr_scaling: LrScaling::None, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.5 }
    }

    #[test]
    fn only_tensors_with_several_axes_are_decayed_and_frozen_ones_are_left_out() {
        let groups = adamw().build(&params()).unwrap().groups();
        let groups: Vec<_> = groups.iter().map(|g| (g.tensors, g.parameters, g.weight_decay)).collect();
        assert_eq!(groups, [(1, 2, 0.0), (2, 6, 0.5)]);
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        let gradient = |params: &[Param]| {
            for param in params {
                param.accumulate_grad(|grad, _| {
                    grad.iter_mut().enumerate().for_each(|(i, g)| *g = 0.3 - i as f32);
                });
            }
        };
        let (whole, resumed) = (params(), params());
        let mut optimizer = adamw().build(&whole).unwrap();
        gradient(&whole);
        optimizer.step(0.1).unwrap();
        let state = optimizer.state();
        for (from, to) in whole.iter().zip(&resumed) {
            to.set(&from.values()).unwrap();
        }
        optimizer.step(0.1).unwrap();

        let mut second = adamw().build(&resumed).unwrap();
        second.load_state(&state).unwrap();
        gradient(&resumed);
        second.step(0.1).unwrap();
        for (a, b) in whole.iter().zip(&resumed) {
            assert_eq!(*a.values(), *b.values(), "{}", a.name());
        }
    }

    #[test]
    fn linear_256_is_the_official_blr_rule() {
        let spec = AdamW { lr: 1.5e-4, lr_scaling: LrScaling::Linear256, ..adamw() };
        assert!((spec.base_lr(3072) - 1.8e-3).abs() < 1e-12);
    }
}
