//! What is done to all parameters once a step.

use convmae_nn::cpu::adamw::{AdamwStep, AdamwTensor, adamw};
use convmae_nn::cpu::chunks;
use convmae_nn::cpu::step_end::GradScale;

use crate::noise;
use crate::roofline::Work;
use crate::suite::Suite;

/// Far more than a cache holds, as those of the whole model are.
const PARAMETERS: usize = 1 << 24;

pub fn optimizer(suite: &mut Suite) {
    let at = AdamwStep { lr: 1e-4, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.05, step: 10 };
    let (grad, mut values) = (noise(1, PARAMETERS), noise(2, PARAMETERS));
    let (mut exp_avg, mut exp_avg_sq) = (vec![0.0; PARAMETERS], vec![0.0; PARAMETERS]);
    let work = Work::flops(15 * PARAMETERS).reads(PARAMETERS).updates(3 * PARAMETERS);
    let scale = GradScale::one().unwrap();
    suite.bench("adamw", &PARAMETERS.to_string(), work, |b| {
        b.iter(|| {
            let (values, exp_avg, exp_avg_sq) = (&mut values, &mut exp_avg, &mut exp_avg_sq);
            adamw(vec![AdamwTensor { values, grad: &grad, exp_avg, exp_avg_sq, at }], &scale).unwrap();
        });
    });
}

pub fn gradient(suite: &mut Suite) {
    let grad = noise(1, PARAMETERS);
    let work = Work::flops(2 * PARAMETERS).reads(PARAMETERS);
    suite.bench("norm_squared", &PARAMETERS.to_string(), work, |b| {
        b.iter(|| chunks::norm_squared(&[&grad]));
    });
}
