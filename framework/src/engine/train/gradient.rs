//! The gradient as a whole: scale, norm, clipping.

use crate::distributed::{CommunicationError, Communicator};
use crate::nn::backend::{Values, chunks, elementwise};
use crate::nn::{Param, Result};

/// Replaces the gradient by the sum of those of all processes.
pub fn all_reduce(
    params: &[Param],
    communicator: &dyn Communicator,
) -> std::result::Result<(), CommunicationError> {
    let reduce = |param: &Param| param.with_grad_mut(|grad| communicator.all_reduce(grad)).unwrap_or(Ok(()));
    params.iter().try_for_each(reduce)
}

/// The L2 norm of all gradients together, summed in double precision and in an order that the number of
/// threads does not change.
pub fn norm(params: &[Param]) -> Result<f64> {
    let grads: Vec<_> = params.iter().filter_map(Param::grad).collect();
    let grads: Vec<&Values> = grads.iter().map(|grad| &**grad).collect();
    Ok(chunks::norm_squared(&grads)?.sqrt())
}

/// Scales all gradients so that their norm is at most `max_norm`, as `torch.nn.utils.clip_grad_norm_`.
pub fn clip(params: &[Param], norm: f64, max_norm: f64) -> Result<()> {
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        for param in params {
            param.with_grad_mut(|grad| elementwise::scale(grad, factor as f32)).transpose()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::backend::upload;
    use crate::nn::testing::{noise, on_threads};
    use crate::nn::{Init, Scope};

    fn params() -> Vec<Param> {
        let scope = Scope::new(0);
        for (name, grad) in [("a", 3.0), ("b", 4.0)] {
            let param = scope.param(name, &[1], &Init::ZEROS);
            param.add_grad(upload(vec![grad]).unwrap()).unwrap();
        }
        scope.params()
    }

    #[test]
    fn the_norm_is_over_all_parameters() {
        assert!((norm(&params()).unwrap() - 5.0).abs() < 1e-12);
    }

    #[test]
    fn the_norm_does_not_depend_on_the_number_of_threads() {
        let norm_on = |threads| {
            on_threads(threads, || {
                let scope = Scope::new(0);
                // More than one thread takes at once.
                let len = (3 << 16) + 5;
                let param = scope.param("a", &[len], &Init::ZEROS);
                param.add_grad(upload(noise(1, len)).unwrap()).unwrap();
                norm(&scope.params()).unwrap().to_bits()
            })
        };
        assert_eq!(norm_on(1), norm_on(3));
    }

    #[test]
    fn clipping_scales_down_but_never_up() {
        let params = params();
        clip(&params, 5.0, 10.0).unwrap();
        assert!((norm(&params).unwrap() - 5.0).abs() < 1e-6);
        clip(&params, 5.0, 1.0).unwrap();
        assert!((norm(&params).unwrap() - 1.0).abs() < 1e-5);
    }
}
