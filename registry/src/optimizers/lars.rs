//! LARS: layer-wise adaptive rate scaling.

use convmae_framework::component::{Optimizer, OptimizerModule, ParameterGroup, Problem};
use convmae_framework::nn::backend::lars::{LarsStep, lars};
use convmae_framework::nn::{self, Param};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LrScaling;
use super::groups::Grouping;
use super::slots::{Slots, Update};

/// LARS (You, Gitman and Ginsburg): momentum, with the gradient of every tensor scaled to a fraction of the
/// tensor's norm. The optimizer of linear probing (`util/lars.py` of the official code). Parameters with one
/// axis are neither decayed nor scaled.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lars {
    /// Learning rate, before scaling and schedule.
    #[schemars(range(min = 0.0), extend("x-called-elsewhere" = ["learning_rate", "base_lr", "blr"]))]
    pub lr: f64,
    /// How the learning rate follows the batch size.
    #[serde(default)]
    pub lr_scaling: LrScaling,
    /// Share of the previous direction that is kept.
    #[serde(default = "default_momentum")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Norm of a scaled gradient, as a fraction of that of its tensor.
    #[serde(default = "default_trust_coefficient")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub trust_coefficient: f64,
    /// Weight decay, added to the gradient before it is scaled.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

fn default_momentum() -> f64 {
    0.9
}

fn default_trust_coefficient() -> f64 {
    0.001
}

#[typetag::serde]
impl Optimizer for Lars {
    fn base_lr(&self, images: usize) -> f64 {
        self.lr_scaling.scale(self.lr, images)
    }

    fn groups(&self, params: &[Param]) -> Result<Vec<ParameterGroup>, Problem> {
        Ok(Grouping::by_decay(self.weight_decay).sort(params)?.0)
    }

    fn build(&self, params: &[Param]) -> Result<Box<dyn OptimizerModule>, Problem> {
        let slots = Slots::new(["mu"], params, Grouping::by_decay(self.weight_decay))?;
        let spec = self.clone();
        Ok(slots.updated_by(move |updates, lr| {
            updates.into_iter().try_for_each(|update| spec.update(update, lr))
        }))
    }
}

convmae_framework::register!(Optimizer: Lars);

impl Lars {
    fn update(&self, update: Update<'_, 1>, lr: f64) -> nn::Result<()> {
        let Update { values, grad, buffers: [mu], axes, group, .. } = update;
        let at = LarsStep {
            lr: (lr * group.lr_scale) as f32,
            momentum: self.momentum as f32,
            weight_decay: group.weight_decay as f32,
            trust_coefficient: (axes > 1).then_some(self.trust_coefficient),
        };
        lars(values, grad, mu, at)
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::nn::backend::upload;
    use convmae_framework::nn::{Init, Scope};
    use convmae_framework::weights::read_safetensors;
    use serde_json::Value;

    use super::*;
    use crate::optimizers::testing::{self, descend};

    fn lars(weight_decay: f64) -> Lars {
        Lars { lr: 0.1, lr_scaling: LrScaling::None, momentum: 0.9, trust_coefficient: 0.001, weight_decay }
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit_on_any_number_of_threads() {
        testing::check(&lars(0.0));
        testing::check(&lars(0.1));
    }

    #[test]
    fn a_step_is_a_fraction_of_the_tensor_whatever_the_size_of_the_gradient() {
        for size in [1e-6, 1.0, 1e6] {
            let after = descend(&lars(0.0), &[1, 2], &[3.0, 4.0], &[&[0.0, size]]);
            assert!((after[1] - (4.0 - 0.1 * 0.001 * 5.0)).abs() < 1e-6, "{after:?}");
        }
    }

    #[test]
    fn vectors_zeros_and_zero_gradients_are_not_scaled() {
        assert_eq!(descend(&lars(0.5), &[2], &[3.0, 4.0], &[&[0.0, 10.0]]), [3.0, 3.0]);
        assert_eq!(descend(&lars(0.5), &[1, 1], &[0.0], &[&[10.0]]), [-1.0]);
        assert_eq!(descend(&lars(0.0), &[1, 1], &[2.0], &[&[0.0]]), [2.0]);
    }

    /// The gradient of the mean cross entropy of a linear layer by its weights and its bias.
    fn gradients(features: &[f32], labels: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (classes, images) = (bias.len(), labels.len());
        let dim = features.len() / images;
        let (mut of_weight, mut of_bias) = (vec![0.0; weight.len()], vec![0.0; classes]);
        for (feature, &label) in features.chunks_exact(dim).zip(labels) {
            let logit = |(row, bias): (&[f32], &f32)| {
                let products = row.iter().zip(feature).map(|(w, x)| f64::from(*w) * f64::from(*x));
                (products.sum::<f64>() + f64::from(*bias)).exp()
            };
            let exps: Vec<f64> = weight.chunks_exact(dim).zip(bias).map(logit).collect();
            let sum: f64 = exps.iter().sum();
            for (class, exp) in exps.iter().enumerate() {
                let hit = if class == label as usize { 1.0 } else { 0.0 };
                let grad = ((exp / sum - hit) / images as f64) as f32;
                of_bias[class] += grad;
                let row = &mut of_weight[class * dim..][..dim];
                row.iter_mut().zip(feature).for_each(|(sum, x)| *sum += grad * x);
            }
        }
        (of_weight, of_bias)
    }

    /// Batch normalisation of `[N, D]` without an affine part, in training.
    fn normalized(features: &[f32], dim: usize) -> Vec<f32> {
        let images = (features.len() / dim) as f64;
        let column = |d: usize| features.iter().skip(d).step_by(dim).map(|&x| f64::from(x));
        let moments: Vec<_> = (0..dim)
            .map(|d| {
                let mean = column(d).sum::<f64>() / images;
                (mean, column(d).map(|x| (x - mean).powi(2)).sum::<f64>() / images)
            })
            .collect();
        let value = |(i, &x): (usize, &f32)| {
            let (mean, variance) = moments[i % dim];
            ((f64::from(x) - mean) / (variance + 1e-6).sqrt()) as f32
        };
        features.iter().enumerate().map(value).collect()
    }

    #[test]
    fn a_linear_probe_ends_where_the_official_one_does() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/finetune/");
        let tensors = read_safetensors(format!("{folder}linprobe.safetensors").as_ref()).unwrap().tensors;
        let json = std::fs::read(format!("{folder}linprobe.json")).unwrap();
        let golden: Value = serde_json::from_slice(&json).unwrap();
        let tensor = |name: &str| tensors.get(name).unwrap().to_f32();
        let features = normalized(&tensor("features"), 24);
        for (run, weight_decay) in [("wd0", 0.0), ("wd0.01", 0.01)] {
            let scope = Scope::new(0);
            let weight = scope.param("weight", &[10, 24], &Init::ZEROS);
            let bias = scope.param("bias", &[10], &Init::ZEROS);
            weight.set(&tensor("init.weight")).unwrap();
            bias.set(&tensor("init.bias")).unwrap();
            let mut module = lars(weight_decay).build(&scope.params()).unwrap();
            for step in golden[run]["steps_f64"].as_array().unwrap() {
                let [w, b] = [&weight, &bias].map(|param| param.to_vec().unwrap());
                let grads = gradients(&features, &tensor("labels"), &w, &b);
                for (param, grad) in [(&weight, &grads.0), (&bias, &grads.1)] {
                    param.clear_grad();
                    param.add_grad(&upload(grad.clone()).unwrap()).unwrap();
                }
                module.step(step["lr"].as_f64().unwrap()).unwrap();
            }
            let state = module.state().unwrap();
            for param in [&weight, &bias] {
                let name = param.name();
                let mu = state.get(&format!("mu.{name}")).unwrap().to_f32();
                for (key, values) in [("final", param.to_vec().unwrap()), ("mu", mu)] {
                    let expected = tensor(&format!("{run}.{key}.{name}"));
                    let differences = values.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                    let largest = differences.fold(0.0, f32::max);
                    assert!(largest < 1e-6, "{run} {key}.{name}: {largest}");
                }
            }
        }
    }
}
