//! Tests that every optimizer passes.

use convmae_framework::component::Optimizer;
use convmae_framework::nn::backend::step_end::GradScale;
use convmae_framework::nn::backend::upload;
use convmae_framework::nn::{Init, Param, Scope};

/// A matrix, a bias and something frozen, of a fixed random content.
pub fn params() -> Vec<Param> {
    let scope = Scope::new(0);
    scope.param("fc.weight", &[150, 200], &Init::Normal { std: 1.0 });
    scope.param("fc.bias", &[3], &Init::Normal { std: 1.0 });
    scope.frozen("pos_embed", &[1, 2, 2], &Init::ONES);
    scope.params()
}

/// Sets the gradients of all parameters that need one.
pub fn set_gradients(params: &[Param], step: usize) {
    for param in params {
        param.clear_grad();
        let grad: Vec<f32> = (0..param.numel()).map(|i| ((i * 7 + step * 3) % 11) as f32 - 4.7).collect();
        param.add_grad(upload(grad).unwrap()).unwrap();
    }
}

/// The values after `steps` steps; between them, state and parameters are carried over into new ones if
/// `resumed`.
fn train(optimizer: &dyn Optimizer, steps: usize, resumed: bool) -> Vec<Vec<f32>> {
    let mut params = params();
    let mut module = optimizer.build(&params).unwrap();
    for step in 0..steps {
        set_gradients(&params, step);
        module.step(0.1, &GradScale::one().unwrap()).unwrap();
        if resumed {
            let state = module.state().unwrap();
            let fresh = self::params();
            fresh.iter().zip(&params).for_each(|(to, from)| to.set(&from.to_vec().unwrap()).unwrap());
            params = fresh;
            module = optimizer.build(&params).unwrap();
            module.load_state(&state).unwrap();
        }
    }
    params.iter().map(|param| param.to_vec().unwrap()).collect()
}

/// That a restored state continues bit for bit, and that the number of threads changes nothing.
pub fn check(optimizer: &dyn Optimizer) {
    let whole = train(optimizer, 4, false);
    assert_eq!(whole, train(optimizer, 4, true), "resumed");
    assert_ne!(whole[0], train(optimizer, 3, false)[0], "no step changed anything");
    assert_eq!(whole[2], [1.0; 4], "what is frozen");
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    assert_eq!(
        pool(1).install(|| train(optimizer, 4, false)),
        pool(3).install(|| train(optimizer, 4, false))
    );
}

/// One parameter with a gradient stepped `steps` times.
pub fn descend(optimizer: &dyn Optimizer, shape: &[usize], values: &[f32], grads: &[&[f32]]) -> Vec<f32> {
    let scope = Scope::new(0);
    let param = scope.param("w", shape, &Init::ZEROS);
    param.set(values).unwrap();
    let mut module = optimizer.build(&scope.params()).unwrap();
    for grad in grads {
        param.clear_grad();
        param.add_grad(upload(grad.to_vec()).unwrap()).unwrap();
        module.step(0.1, &GradScale::one().unwrap()).unwrap();
    }
    param.to_vec().unwrap()
}
